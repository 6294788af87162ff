//! One change, many sessions: encoded once for each way of seeing it, and the same bytes for all of them.

use std::cell::OnceCell;
use std::sync::Arc;

use conversation::delivery::{Delivered, Pushed, Seqs};
use topology::World;
use wire::change::{Change, Event};
use wire::client::Envelope;
use wire::client::event::{BehindPayload, GroupPayload, MemberPayload, MessagePayload};
use wire::command::{Delivery, View};
use wire::{ConversationId, ConversationKind, Epoch, UserId};

use super::effects::Effects;
use crate::route::homes::Homes;
use crate::session::encoded::Encoded;
use crate::session::frame;
use crate::session::outbox::{self, Queued};
use crate::session::state::Session;

/// Encodes changes for clients.
#[derive(Clone)]
pub(crate) struct EventEncoder {
    names: Names,
}

/// Names of zones and regions, and where conversations live.
#[derive(Clone)]
struct Names {
    world: Arc<World>,
    homes: Arc<Homes>,
}

impl EventEncoder {
    pub(crate) fn new(world: Arc<World>, homes: Arc<Homes>) -> Self {
        Self { names: Names { world, homes } }
    }

    /// A change that will be sent. Nothing is encoded before a session needs it.
    pub(crate) fn encode(&self, delivery: Delivery) -> EncodedEvent {
        EncodedEvent { delivery, names: self.names.clone(), frames: Default::default() }
    }

    /// The view of a conversation as clients see it.
    pub(crate) fn group(&self, view: &View) -> GroupPayload {
        group(&self.names, view)
    }
}

fn group(Names { world, homes }: &Names, view: &View) -> GroupPayload {
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
    /// It made them a member.
    Added,
    /// It removed them.
    Removed,
}

/// One change and its encoded forms: as a member sees it, as one who joins, as one who goes.
pub(crate) struct EncodedEvent {
    delivery: Delivery,
    names: Names,
    frames: [OnceCell<Encoded>; 3],
}

impl EncodedEvent {
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
            Event::MembersChanged(_)
            | Event::Message(_)
            | Event::Joined(_)
            | Event::Left(_)
            | Event::MovedOut(_)
            | Event::MovedIn(_)
            | Event::Unknown(_) => For::Member,
        }
    }

    /// Queues it for one session, within the bound of `effects`.
    pub(crate) fn send(&self, session: &Arc<Session>, effects: &mut Effects) -> Pushed {
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
                return Pushed::Queued;
            }
            // It has moved: nothing has changed for clients but the epoch, and who acts.
            Event::MovedIn(_) if self.delivery.view.is_some() => (For::Member, 0),
            // A user's own stream is not a conversation to them. `Left`: the conversation itself tells
            // the user. `MovedOut`: its arrival does. Of a newer node: nothing that we could encode.
            Event::Created(_)
            | Event::MembersChanged(_)
            | Event::Left(_)
            | Event::MovedOut(_)
            | Event::MovedIn(_)
            | Event::Unknown(_) => return Pushed::Queued,
        };
        let queued =
            Queued { conversation: Some(*conversation), seq, frame: self.frame(who).clone() };
        match session.outbox.push(queued, effects.bound) {
            outbox::Pushed::Full => Pushed::Full,
            outbox::Pushed::Queued | outbox::Pushed::Shed | outbox::Pushed::Closed => {
                Pushed::Queued
            }
        }
    }

    fn frame(&self, who: For) -> &Encoded {
        self.frames[who as usize].get_or_init(|| self.bytes(who))
    }

    fn bytes(&self, who: For) -> Encoded {
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
            Event::Message(message) => Encoded::new(&with(
                envelope,
                MessagePayload::new(conversation, *ver, epoch.0, *ts_ms, message),
            )),
            Event::Created(_)
            | Event::MembersChanged(_)
            | Event::Joined(_)
            | Event::Left(_)
            | Event::MovedOut(_)
            | Event::MovedIn(_)
            | Event::Unknown(_) => {
                let mut payload = match &self.delivery.view {
                    Some(view) => group(&self.names, view),
                    None => group(&self.names, &bare_view(&self.delivery.change)),
                };
                payload.ver = Some(*ver);
                payload.epoch = epoch.0;
                Encoded::new(&with(envelope, payload))
            }
        }
    }
}

impl Delivered for EncodedEvent {
    fn ver(&self) -> u64 {
        self.delivery.change.ver
    }

    fn epoch(&self) -> Epoch {
        self.delivery.change.epoch
    }

    fn seqs(&self) -> Option<Seqs> {
        self.delivery.change.seqs()
    }

    fn removes(&self, user: &UserId) -> bool {
        self.delivery.change.removes(user)
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
