//! Delivers committed changes, in slot order, to the streams that watch their conversations.
//!
//! A delivery is encoded once, and its bytes are shared by all streams. A watch that starts in the
//! past is [replayed](replay) from the projections while live deliveries wait behind it, so that
//! there is neither a hole nor a double. A stream that does not keep up loses the watch, and is
//! told: `Lagged`. Other followers of the log use a [`log_tail`].

pub(crate) mod log_tail;
mod pages;
pub(crate) mod replay;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use wire::ConversationId;
use wire::change::{Home, Recorded};
use wire::command::{Delivery, View};

use crate::intake::outbox::Outbox;

/// The watches of one shard in one term.
pub(crate) struct Feed {
    streams: HashMap<u64, Stream>,
    watches: HashMap<ConversationId, Vec<Watch>>,
    behind_max: usize,
    generations: u64,
    delivered: metrics::Counter,
    lagged: metrics::Counter,
}

struct Stream {
    outbox: Arc<Outbox>,
    watched: HashSet<ConversationId>,
}

struct Watch {
    to: Arc<Outbox>,
    /// Told apart from an earlier watch of the same stream.
    generation: u64,
    /// Everything up to it was delivered, or is being replayed.
    last_ver: u64,
    /// While its past is replayed: what came since, oldest first.
    behind: Option<Vec<Bytes>>,
}

impl Feed {
    pub(crate) fn new(behind_max: usize) -> Self {
        Self {
            streams: HashMap::new(),
            watches: HashMap::new(),
            behind_max,
            generations: 0,
            delivered: metrics::counter!("hearth_feed_deliveries_total"),
            lagged: metrics::counter!("hearth_feed_lagged_total"),
        }
    }

    pub(crate) fn attach(&mut self, outbox: Arc<Outbox>) {
        self.streams.insert(outbox.id(), Stream { outbox, watched: HashSet::new() });
    }

    /// A stream is gone, and its watches with it.
    pub(crate) fn detach(&mut self, outbox: &Outbox) {
        let Some(stream) = self.streams.remove(&outbox.id()) else { return };
        for conversation in stream.watched {
            remove(&mut self.watches, &conversation, outbox.id());
        }
    }

    /// All streams, which end with the term.
    pub(crate) fn into_streams(self) -> impl Iterator<Item = Arc<Outbox>> {
        self.streams.into_values().map(|stream| stream.outbox)
    }

    /// Whether this stream watches this conversation.
    pub(crate) fn is_watching(&self, outbox: &Outbox, conversation: &ConversationId) -> bool {
        self.streams.get(&outbox.id()).is_some_and(|stream| stream.watched.contains(conversation))
    }

    /// Starts a watch after `last_ver`, in place of the stream's earlier one. Returns its
    /// generation, or none when the stream is gone. With `replayed`, live deliveries wait for
    /// [`Feed::replayed`].
    pub(crate) fn watch(
        &mut self,
        to: &Arc<Outbox>,
        conversation: ConversationId,
        last_ver: u64,
        replayed: bool,
    ) -> Option<u64> {
        let stream = self.streams.get_mut(&to.id())?;
        if !stream.watched.insert(conversation) {
            remove(&mut self.watches, &conversation, to.id());
        }
        self.generations += 1;
        let behind = replayed.then(Vec::new);
        let watch = Watch { to: to.clone(), generation: self.generations, last_ver, behind };
        self.watches.entry(conversation).or_default().push(watch);
        Some(self.generations)
    }

    /// Ends a watch.
    pub(crate) fn unwatch(&mut self, outbox: &Outbox, conversation: &ConversationId) {
        if let Some(stream) = self.streams.get_mut(&outbox.id())
            && stream.watched.remove(conversation)
        {
            remove(&mut self.watches, conversation, outbox.id());
        }
    }

    /// Delivers a committed change to all that watch. `view`: the conversation right after a change
    /// of members.
    pub(crate) fn publish(&mut self, change: &Recorded, view: &Option<Box<View>>) {
        let conversation = change.conversation;
        let Some(watches) = self.watches.get_mut(&conversation) else { return };
        let encoded = Delivery::encode(change, view);
        let mut lagged = Vec::new();
        for watch in watches.iter_mut() {
            if !watch.take(change.ver, &encoded, self.behind_max) {
                lagged.push(watch.to.clone());
            }
        }
        self.delivered.increment((watches.len() - lagged.len()) as u64);
        for outbox in lagged {
            self.lag(&outbox, conversation);
        }
    }

    /// The past of a watch was replayed, or could not be: what waited behind it follows.
    pub(crate) fn replayed(&mut self, done: &replay::Done) {
        let watches = self.watches.get_mut(&done.conversation);
        let watch = watches.and_then(|watches| {
            watches.iter_mut().find(|watch| watch.generation == done.generation)
        });
        // Unwatched, watched anew, or gone meanwhile.
        let Some(watch) = watch else { return };
        let behind = watch.behind.take().unwrap_or_default();
        let kept_up = done.complete && behind.iter().all(|encoded| watch.to.deliver(encoded));
        if !kept_up {
            let outbox = watch.to.clone();
            self.lag(&outbox, done.conversation);
        }
    }

    /// Ends all watches of a conversation that is in another shard, and tells them where.
    pub(crate) fn moved(&mut self, conversation: ConversationId, placement: Home) {
        for watch in self.watches.remove(&conversation).unwrap_or_default() {
            if let Some(stream) = self.streams.get_mut(&watch.to.id()) {
                stream.watched.remove(&conversation);
            }
            watch.to.moved(None, conversation, placement);
        }
    }

    fn lag(&mut self, outbox: &Arc<Outbox>, conversation: ConversationId) {
        self.lagged.increment(1);
        self.unwatch(outbox, &conversation);
        outbox.lagged(conversation);
    }
}

impl Watch {
    /// False: it does not keep up.
    fn take(&mut self, ver: u64, encoded: &Bytes, behind_max: usize) -> bool {
        if ver <= self.last_ver {
            return true;
        }
        self.last_ver = ver;
        match &mut self.behind {
            None => self.to.deliver(encoded),
            Some(behind) if behind.len() < behind_max => {
                behind.push(encoded.clone());
                true
            }
            Some(_) => false,
        }
    }
}

fn remove(
    watches: &mut HashMap<ConversationId, Vec<Watch>>,
    conversation: &ConversationId,
    stream: u64,
) {
    if let Some(of_conversation) = watches.get_mut(conversation) {
        of_conversation.retain(|watch| watch.to.id() != stream);
        if of_conversation.is_empty() {
            watches.remove(conversation);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use wire::change::{Change, Event, Left};
    use wire::stream::{FromOwner, feed_frame};
    use wire::{ConversationKind, Durability, Epoch, RegionId, ShardId, ZoneId};

    use super::*;
    use crate::intake::outbox::Out;

    fn conversation() -> ConversationId {
        let shard =
            ShardId { zone: ZoneId(1), home: RegionId(1), durability: Durability::Region, n: 0 };
        ConversationId { kind: ConversationKind::Group, shard, unique: [1; 16] }
    }

    fn change(ver: u64) -> Recorded {
        let event = Event::Left(Left { conversation: conversation(), at_ver: ver });
        Change { conversation: conversation(), ver, epoch: Epoch(1), ts_ms: 1, event }.into()
    }

    fn stream(feed: &mut Feed, feed_bytes: usize) -> Arc<Outbox> {
        let outbox = Arc::new(Outbox::new("r1/edge/1".parse().unwrap(), 9, feed_bytes));
        feed.attach(outbox.clone());
        outbox
    }

    /// The vers delivered, and how often it lagged.
    async fn delivered(outbox: &Outbox) -> (Vec<u64>, usize) {
        let (mut vers, mut lagged) = (Vec::new(), 0);
        if outbox.waiting() == 0 {
            return (vers, lagged);
        }
        let mut taken = VecDeque::new();
        outbox.take(&mut taken).await;
        for out in taken {
            match out {
                Out::Delivery(encoded) => {
                    let FromOwner::Feed { deliveries } =
                        FromOwner::from_bytes(&feed_frame(&[encoded])).unwrap()
                    else {
                        unreachable!()
                    };
                    vers.extend(deliveries.iter().map(|delivery| delivery.change.ver));
                }
                Out::Lagged(_) => lagged += 1,
                other => unreachable!("{other:?}"),
            }
        }
        (vers, lagged)
    }

    #[tokio::test]
    async fn each_stream_gets_what_it_watches_once_and_in_order() {
        let mut feed = Feed::new(10);
        let (a, b) = (stream(&mut feed, 1000), stream(&mut feed, 1000));
        feed.watch(&a, conversation(), 0, false);
        feed.publish(&change(1), &None);
        feed.watch(&b, conversation(), 1, false);
        feed.watch(&a, conversation(), 1, false);
        feed.publish(&change(2), &None);
        feed.unwatch(&b, &conversation());
        feed.publish(&change(3), &None);
        assert_eq!(delivered(&a).await, (vec![1, 2, 3], 0));
        assert_eq!(delivered(&b).await, (vec![2], 0));
        feed.detach(&a);
        assert!(feed.watches.is_empty());
    }

    #[tokio::test]
    async fn live_deliveries_wait_behind_a_replay() {
        let mut feed = Feed::new(10);
        let a = stream(&mut feed, 1000);
        let generation = feed.watch(&a, conversation(), 5, true).unwrap();
        feed.publish(&change(5), &None);
        feed.publish(&change(6), &None);
        assert_eq!(delivered(&a).await, (vec![], 0));
        feed.replayed(&replay::Done { conversation: conversation(), generation, complete: true });
        feed.publish(&change(7), &None);
        assert_eq!(delivered(&a).await, (vec![6, 7], 0));
    }

    #[tokio::test]
    async fn who_watches_what_has_moved_is_told_where_it_is_and_gets_no_more() {
        let mut feed = Feed::new(2);
        let (a, b) = (stream(&mut feed, 1000), stream(&mut feed, 1000));
        feed.watch(&a, conversation(), 0, false);
        let placement = Home { generation: 1, shard: conversation().shard };
        feed.moved(conversation(), placement);
        feed.publish(&change(1), &None);
        let mut taken = VecDeque::new();
        a.take(&mut taken).await;
        assert_eq!(taken, [Out::Moved { rid: None, conversation: conversation(), placement }]);
        assert!(!feed.is_watching(&a, &conversation()));
        assert_eq!(b.waiting(), 0);
    }

    #[tokio::test]
    async fn who_does_not_keep_up_loses_the_watch_and_is_told() {
        let mut feed = Feed::new(2);
        let (slow, replaying) = (stream(&mut feed, 1), stream(&mut feed, 1000));
        feed.watch(&slow, conversation(), 0, false);
        feed.watch(&replaying, conversation(), 0, true);
        for ver in 1..=4 {
            feed.publish(&change(ver), &None);
        }
        assert_eq!(delivered(&slow).await, (vec![1], 1), "one always fits");
        assert_eq!(delivered(&replaying).await, (vec![], 1));
        assert!(feed.watches.is_empty());
    }
}
