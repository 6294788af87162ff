//! One change, many sessions: encoded once for each way of seeing it, then one push and one wake a session. From the
//! [subscriptions](crate::subscriptions), which know who gets it; to the outboxes.

use std::cell::OnceCell;
use std::sync::Arc;

use bytes::Bytes;
use topology::World;
use wire::change::{Change, Event};
use wire::client::Envelope;
use wire::client::event::{BehindPayload, GroupPayload, MemberPayload, MessagePayload};
use wire::command::{Delivery, View};
use wire::{ConversationId, ConversationKind, UserId};

use crate::route::homes::Homes;
use crate::session::catch_up::Order;
use crate::session::outbox::{Bound, Pushed, Queued};
use crate::session::{Session, frame};

/// What follows from a fan-out, to be done after the lock of the interest is released.
pub(crate) struct Effects {
    /// How much an outbox takes.
    pub(crate) bound: Bound,
    /// Sessions to be caught up.
    pub(crate) behind: Vec<(Arc<Session>, Order)>,
    /// Sessions whose user is now in a conversation, and the change there that made him a member.
    pub(crate) joins: Vec<(Arc<Session>, ConversationId, u64)>,
    /// Holes in what came: conversation, and after which `ver`.
    pub(crate) holes: Vec<(ConversationId, u64)>,
}

impl Effects {
    pub(crate) fn new(bound: Bound) -> Self {
        Self { bound, behind: Vec::new(), joins: Vec::new(), holes: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.behind.is_empty() && self.joins.is_empty() && self.holes.is_empty()
    }
}

/// Prints changes for clients.
#[derive(Clone)]
pub(crate) struct Printer {
    places: Places,
}

/// What is known of where conversations live.
#[derive(Clone)]
struct Places {
    world: Arc<World>,
    homes: Arc<Homes>,
}

impl Printer {
    pub(crate) fn new(world: Arc<World>, homes: Arc<Homes>) -> Self {
        Self { places: Places { world, homes } }
    }

    /// A change that will be sent; nothing is encoded before somebody needs it.
    pub(crate) fn print(&self, delivery: Delivery) -> Printed {
        Printed { delivery, places: self.places.clone(), frames: Default::default() }
    }

    /// The view of a conversation as clients see it.
    pub(crate) fn group(&self, view: &View) -> GroupPayload {
        group(&self.places, view)
    }
}

fn group(Places { world, homes }: &Places, view: &View) -> GroupPayload {
    let shard = homes.shard_of(&view.conversation);
    GroupPayload {
        conversation_id: view.conversation,
        kind: view.conversation.kind,
        name: view.name.as_ref().map(ToString::to_string),
        zone: world
            .zone(shard.zone)
            .map_or_else(|| format!("z{}", shard.zone.0), |zone| zone.name.clone()),
        home_region: world.region_name(shard.home),
        acting_region: world.region_name(view.acting_region),
        durability: shard.durability,
        epoch: view.epoch.0,
        head_seq: view.head_seq,
        members: view
            .members
            .iter()
            .map(|member| MemberPayload {
                user_id: member.user_id.to_string(),
                role: member.role,
                joined_seq: member.joined_seq,
            })
            .collect(),
        members_next: view.members_next.as_ref().map(ToString::to_string),
        ver: None,
    }
}

/// How a change concerns a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    /// As everyone.
    Member,
    /// It made him a member.
    Added,
    /// It put him out.
    Removed,
}

/// What became of a change for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Queued, or there was nothing to send.
    Sent,
    /// Queued, and the last that this session gets of the conversation.
    Last,
    /// No room. Nothing was queued.
    Full,
}

/// One change and its encoded forms: as a member sees it, as one who joins, as one who goes.
pub(crate) struct Printed {
    delivery: Delivery,
    places: Places,
    frames: [OnceCell<Bytes>; 3],
}

impl Printed {
    pub(crate) fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    pub(crate) fn ver(&self) -> u64 {
        self.delivery.change.ver
    }

    pub(crate) fn conversation(&self) -> ConversationId {
        self.delivery.change.conversation
    }

    /// The last message after this change, where the change says.
    pub(crate) fn seq_after(&self) -> Option<u64> {
        match &self.delivery.change.event {
            Event::Message(message) => Some(message.seq),
            Event::MembersChanged(changed) => Some(changed.head_seq),
            Event::Created(_) => Some(0),
            _ => None,
        }
    }

    /// How it concerns a user.
    fn who(&self, user: &UserId) -> For {
        match &self.delivery.change.event {
            Event::Created(_) => For::Added,
            // Both lists are sorted.
            Event::MembersChanged(changed)
                if changed.added.binary_search_by(|(added, _)| added.cmp(user)).is_ok() =>
            {
                For::Added
            }
            Event::MembersChanged(changed) if changed.removed.binary_search(user).is_ok() => {
                For::Removed
            }
            _ => For::Member,
        }
    }

    /// Sends it to one session.
    pub(crate) fn send(&self, session: &Arc<Session>, effects: &mut Effects) -> Outcome {
        let Change { conversation, event, .. } = &self.delivery.change;
        let (who, seq) = match event {
            Event::Message(message) => (For::Member, message.seq),
            Event::Created(_) | Event::MembersChanged(_)
                if conversation.kind != ConversationKind::User =>
            {
                (self.who(&session.actor.user), 0)
            }
            Event::Joined(joined) => {
                effects.joins.push((session.clone(), joined.conversation, joined.at_ver));
                return Outcome::Sent;
            }
            // It has moved: nothing has changed for clients but the epoch, and who acts.
            Event::MovedIn(_) if self.delivery.view.is_some() => (For::Member, 0),
            // `Left`: the conversation itself tells him. Others: of a newer node, nothing that we could print.
            _ => return Outcome::Sent,
        };
        let queued =
            Queued { conversation: Some(*conversation), seq, frame: self.frame(who).clone() };
        match session.outbox.push(queued, effects.bound) {
            Pushed::Full => Outcome::Full,
            Pushed::Queued | Pushed::Closed if who == For::Removed => Outcome::Last,
            Pushed::Queued | Pushed::Closed => Outcome::Sent,
        }
    }

    fn frame(&self, who: For) -> &Bytes {
        self.frames[who as usize].get_or_init(|| self.encode(who))
    }

    fn encode(&self, who: For) -> Bytes {
        let Change { conversation, ver, epoch, ts_ms, event } = &self.delivery.change;
        let kind = match (event, who) {
            (Event::Message(_), _) => "message.new",
            (_, For::Added) => "conversation.joined",
            (_, For::Removed) => "conversation.left",
            (_, For::Member) => "conversation.updated",
        };
        let conversation_id = conversation.to_string();
        let id = Some(format!("{conversation_id}.{ver}"));
        let envelope = Envelope {
            id,
            kind: kind.into(),
            conversation_id: Some(conversation_id),
            client_msg_id: None,
            re: None,
            payload: (),
        };
        match event {
            Event::Message(message) => frame::text(&with(
                envelope,
                MessagePayload::new(conversation, *ver, epoch.0, *ts_ms, message),
            )),
            _ => {
                let mut payload = match &self.delivery.view {
                    Some(view) => group(&self.places, view),
                    None => group(&self.places, &bare_view(&self.delivery.change)),
                };
                payload.ver = Some(*ver);
                payload.epoch = epoch.0;
                frame::text(&with(envelope, payload))
            }
        }
    }
}

fn with<P>(envelope: Envelope<()>, payload: P) -> Envelope<P> {
    let Envelope { id, kind, conversation_id, client_msg_id, re, payload: () } = envelope;
    Envelope { id, kind, conversation_id, client_msg_id, re, payload }
}

/// What can be said of a conversation when a change of members came without its view.
fn bare_view(change: &Change) -> View {
    View {
        conversation: change.conversation,
        name: None,
        acting_region: change.conversation.shard.home,
        epoch: change.epoch,
        head_seq: 0,
        head_ver: change.ver,
        members: Vec::new(),
        members_next: None,
    }
}

/// Tells a session that it is behind in a conversation, after what it had until `have_seq`.
pub(crate) fn tell_behind(
    session: &Session,
    conversation: ConversationId,
    have_seq: u64,
    to_seq: u64,
) {
    if to_seq > have_seq {
        let payload = BehindPayload { from_seq: have_seq + 1, to_seq };
        let frame = frame::notice("behind", Some(conversation.to_string()), payload);
        session.outbox.push_always(Queued { conversation: Some(conversation), seq: 0, frame });
        metrics::counter!("hearth_edge_behind_total").increment(1);
    }
}
