//! One change, many sessions: encoded once for each way of seeing it, and the same bytes for all of
//! them.

use std::cell::OnceCell;
use std::sync::Arc;

use conversation::delivery::{Delivered, Pushed, Seqs};
use topology::World;
use wire::change::{Audience, Change, Event};
use wire::client::Envelope;
use wire::client::event::{BehindPayload, GroupPayload, MemberPayload, MessagePayload};
use wire::command::{Delivery, View};
use wire::{ConversationId, Epoch, UserId};

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
    frames: [OnceCell<Option<Encoded>>; 3],
}

impl EncodedEvent {
    /// How a change of members concerns a user.
    fn who(&self, user: &UserId) -> For {
        match &self.delivery.change.event {
            Event::Created(_) => For::Added,
            // Both lists are sorted.
            Event::MembersChanged(changed) => {
                if changed.added.binary_search_by(|(added, _)| added.cmp(user)).is_ok() {
                    For::Added
                } else if changed.removed.binary_search(user).is_ok() {
                    For::Removed
                } else {
                    For::Member
                }
            }
            Event::Message(_)
            | Event::Joined(_)
            | Event::Left(_)
            | Event::MovedOut(_)
            | Event::MovedIn(_)
            | Event::Unknown(_) => For::Member,
        }
    }

    /// Queues it for one session, within the bound of `effects`.
    pub(crate) fn send(&self, session: &Arc<Session>, effects: &mut Effects) -> Pushed {
        let Change { conversation, event, .. } = &*self.delivery.change;
        let who = match event.audience(conversation.kind) {
            Audience::Nobody => return Pushed::Queued,
            Audience::Members => For::Member,
            Audience::EachMember => self.who(&session.actor.user),
            Audience::Sessions => {
                if let Event::Joined(joined) = event {
                    effects.joins.push((session.clone(), joined.conversation, joined.at_ver));
                }
                return Pushed::Queued;
            }
        };
        let Some(frame) = self.frame(who) else { return Pushed::Queued };
        let seq = event.message().map_or(0, |message| message.seq);
        let queued = Queued { conversation: Some(*conversation), seq, frame: frame.clone() };
        match session.outbox.push(queued, effects.bound) {
            outbox::Pushed::Full => Pushed::Full,
            outbox::Pushed::Queued | outbox::Pushed::Shed | outbox::Pushed::Closed => {
                Pushed::Queued
            }
        }
    }

    fn frame(&self, who: For) -> Option<&Encoded> {
        self.frames[who as usize].get_or_init(|| self.encode(who)).as_ref()
    }

    /// None when the owner left out what clients are to be shown.
    fn encode(&self, who: For) -> Option<Encoded> {
        let Delivery { change, view } = &self.delivery;
        if let Some(message) = change.event.message() {
            let payload = MessagePayload::new(change, message);
            return Some(Encoded::new(&Envelope::of_change(change, "message.new", payload)));
        }
        let Some(view) = view else {
            tracing::error!(
                conversation = %change.conversation,
                ver = change.ver,
                "the owner sent a change of members without the view, clients are not told"
            );
            return None;
        };
        let kind = match who {
            For::Added => "conversation.joined",
            For::Removed => "conversation.left",
            For::Member => "conversation.updated",
        };
        let (ver, epoch) = (Some(change.ver), change.epoch.0);
        let payload = GroupPayload { ver, epoch, ..group(&self.names, view) };
        Some(Encoded::new(&Envelope::of_change(change, kind, payload)))
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
