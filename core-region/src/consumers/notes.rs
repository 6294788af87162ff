//! The consumer `notes`: for every committed change of who is in a conversation, a note to the own stream of each user
//! concerned, in whatever region that is at home.
//!
//! The cursor moves over what is done without a gap; so after a crash some notes are sent twice, and none is left out.
//! `at_ver` makes the second one nothing.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;

use conversation::log::LogFrame;
use lru::LruCache;
use smol_str::SmolStr;
use store::Store;
use tokio::sync::mpsc;
use wire::change::{Change, Event};
use wire::command::{Actor, MeshCommand};
use wire::{ConversationId, ConversationKind, Position, Slot, TenantId, UserId};

use super::follower::{Follower, Frames, Next, Page, Source, answered};
use crate::shard_client::{Request, Response, ShardClient};
use crate::tasks::Tasks;

/// Conversations whose facts are remembered.
const FACTS: NonZeroUsize = NonZeroUsize::new(4_096).expect("not zero");

/// The term's end of the consumer. When it is dropped, the consumer ends; its successor goes on from the cursor.
pub(crate) struct Notes {
    frames: Frames,
}

impl Notes {
    /// Starts from the cursor that the last one left.
    pub(crate) fn start(
        tasks: &Tasks,
        store: Arc<dyn Store>,
        source: Source,
        shard_client: ShardClient,
        outstanding_max: usize,
    ) -> Self {
        let (frames, taken) = Frames::channel();
        #[expect(
            clippy::disallowed_methods,
            reason = "never holds more than the notes outstanding"
        )]
        let (done_out, done) = mpsc::unbounded_channel();
        tasks.spawn("notes", async move {
            let notifier = InboxNotifier {
                follower: Follower::open("notes", store, source, taken).await,
                shard_client,
                window: VecDeque::new(),
                taken: 0,
                outstanding: 0,
                outstanding_max,
                done_out,
                facts: LruCache::new(FACTS),
            };
            notifier.run(done).await;
        });
        Self { frames }
    }

    /// A frame was committed. Never waits.
    pub(crate) fn offer(&self, frame: &Arc<LogFrame>) {
        self.frames.offer(frame);
    }
}

/// A frame with notes that are not done.
struct Open {
    /// The cursor before it.
    before: Position,
    notes: usize,
}

struct InboxNotifier {
    follower: Follower,
    shard_client: ShardClient,
    /// Frames with notes from the first one not done on, by number: the last one is `taken - 1`.
    window: VecDeque<Open>,
    taken: u64,
    outstanding: usize,
    outstanding_max: usize,
    done_out: mpsc::UnboundedSender<(u64, Response)>,
    facts: LruCache<ConversationId, (TenantId, Option<SmolStr>)>,
}

impl InboxNotifier {
    async fn run(mut self, mut done: mpsc::UnboundedReceiver<(u64, Response)>) {
        loop {
            let room = self.outstanding < self.outstanding_max;
            tokio::select! {
                biased;
                Some((number, response)) = done.recv() => self.done(number, &response),
                next = self.follower.next(room) => match next {
                    Next::Frame(frame) => {
                        if let Some(before) = self.follower.advance(&frame) {
                            self.take(&frame, before).await;
                        }
                    }
                    Next::Behind if self.follower.is_over() => return,
                    Next::Behind => self.catch_up().await,
                    Next::WriteCursor => self.write_cursor().await,
                    Next::Ended => return self.write_cursor().await,
                },
            }
        }
    }

    /// Takes a page of the log from the store.
    async fn catch_up(&mut self) {
        match self.follower.page().await {
            Page::Rows(rows) => {
                for (at, frame) in rows {
                    let before = self.follower.pass(at);
                    match frame {
                        Ok(frame) => self.take(&frame, before).await,
                        // It is committed, so every owner would stumble over it: leave it to those who read it, and say so.
                        Err(error) => {
                            tracing::error!(%error, "notes of a row that cannot be read are left out")
                        }
                    }
                }
            }
            Page::Rebuilt(frame) => self.take(&frame, self.follower.cursor()).await,
            Page::RebuiltAll => {}
        }
        tokio::task::coop::consume_budget().await;
    }

    /// Sends the notes of a frame on their way.
    async fn take(&mut self, frame: &LogFrame, before: Position) {
        let mut notes = 0;
        for change in &frame.changes {
            notes += self.note(change, frame.slot).await;
        }
        if notes > 0 {
            self.window.push_back(Open { before, notes });
            self.outstanding += notes;
            self.taken += 1;
        }
    }

    /// Sends the notes of a change; how many there are.
    async fn note(&mut self, change: &Change, slot: Slot) -> usize {
        let conversation = change.conversation;
        if conversation.kind == ConversationKind::User {
            return 0;
        }
        let (tenant, name) = match &change.event {
            Event::Created(created) => {
                let facts = (created.tenant.clone(), created.name.clone());
                self.facts.put(conversation, facts.clone());
                facts
            }
            Event::MembersChanged(_) => match self.facts_of(conversation, slot).await {
                Some(facts) => facts,
                None => return 0,
            },
            _ => return 0,
        };
        let number = self.taken;
        let mut notes = 0;
        for (user, command) in commands(change, name.as_ref()) {
            let Some(stream) = self.shard_client.stream_of(&tenant, &user) else {
                tracing::error!(%conversation, "a member of a tenant that the world does not know");
                continue;
            };
            let actor = Actor { tenant: tenant.clone(), user, device: None };
            let (shard, done) = (stream.shard, self.done_out.clone());
            self.shard_client.carry(Request {
                shard,
                conversation: stream,
                actor,
                command,
                number,
                done,
            });
            notes += 1;
        }
        notes
    }

    async fn facts_of(
        &mut self,
        id: ConversationId,
        slot: Slot,
    ) -> Option<(TenantId, Option<SmolStr>)> {
        if let Some(facts) = self.facts.get(&id) {
            return Some(facts.clone());
        }
        // The term is over if not; the next owner's consumer takes this frame again.
        self.follower.source.projected.wait_for(|projected| *projected > slot).await.ok()?;
        let rows = answered(|| self.follower.store.conversation(id)).await;
        let Some(facts) = rows.and_then(|rows| rows.facts) else {
            tracing::error!(conversation = %id, "a conversation with members and without facts");
            return None;
        };
        let facts = (facts.tenant, facts.name);
        self.facts.put(id, facts.clone());
        Some(facts)
    }

    /// A note of the frame with this number is done.
    fn done(&mut self, number: u64, response: &Response) {
        if !matches!(response, Response::Answered(Ok(_))) {
            tracing::error!(?response, "a note was refused and is left out");
        }
        self.outstanding -= 1;
        let first = self.taken - self.window.len() as u64;
        let index = usize::try_from(number - first).unwrap_or(usize::MAX);
        if let Some(open) = self.window.get_mut(index) {
            open.notes -= 1;
        }
        while self.window.front().is_some_and(|open| open.notes == 0) {
            self.window.pop_front();
        }
    }

    async fn write_cursor(&mut self) {
        let cursor = self.window.front().map_or(self.follower.cursor(), |open| open.before);
        self.follower.write_cursor(cursor).await;
    }
}

/// Who is to be told what.
fn commands(change: &Change, name: Option<&SmolStr>) -> Vec<(UserId, MeshCommand)> {
    let (conversation, at_ver) = (change.conversation, change.ver);
    let joined = |user: &UserId, joined_seq| {
        (
            user.clone(),
            MeshCommand::NoteJoined { conversation, name: name.cloned(), joined_seq, at_ver },
        )
    };
    match &change.event {
        Event::Created(created) => {
            created.members.iter().map(|(user, _)| joined(user, 1)).collect()
        }
        Event::MembersChanged(changed) => {
            let added = changed.added.iter().map(|(user, _)| joined(user, changed.head_seq + 1));
            let removed = changed
                .removed
                .iter()
                .map(|user| (user.clone(), MeshCommand::NoteLeft { conversation, at_ver }));
            added.chain(removed).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use wire::change::{Created, MembersChanged, Role};
    use wire::{Durability, Epoch, RegionId, ShardId, ZoneId};

    use super::*;

    fn change(event: Event) -> Change {
        let shard =
            ShardId { zone: ZoneId(1), home: RegionId(1), durability: Durability::Region, n: 0 };
        let conversation = ConversationId { kind: ConversationKind::Group, shard, unique: [1; 16] };
        Change { conversation, ver: 7, epoch: Epoch(1), ts_ms: 1, event }
    }

    #[test]
    fn everyone_who_came_or_went_is_told_and_nobody_else() {
        let user = |name: &str| UserId::new(name).unwrap();
        let tenant = TenantId::new("demo").unwrap();
        let members = vec![(user("ann"), Role::Owner), (user("bob"), Role::Member)];
        let created = Event::Created(Created { tenant, name: None, by: user("ann"), members });
        let told: Vec<_> =
            commands(&change(created), None).into_iter().map(|(user, _)| user).collect();
        assert_eq!(told, [user("ann"), user("bob")], "who created it, too");

        let changed = Event::MembersChanged(MembersChanged {
            by: user("ann"),
            added: vec![(user("cem"), Role::Member)],
            removed: vec![user("bob")],
            roles: vec![(user("ann"), Role::Admin)],
            head_seq: 41,
        });
        let told = commands(&change(changed), None);
        assert_eq!(told.len(), 2);
        assert!(matches!(told[0], (_, MeshCommand::NoteJoined { joined_seq: 42, at_ver: 7, .. })));
        assert!(matches!(told[1], (_, MeshCommand::NoteLeft { at_ver: 7, .. })));
    }
}
