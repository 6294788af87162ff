//! One change, many sessions: encoded once for each way of seeing it, and the same bytes for all of
//! them.

use std::cell::OnceCell;
use std::sync::Arc;

use conversation::delivery::{Delivered, Pushed, Seqs};
use topology::World;
use wire::change::{Audience, Change, Event, Role};
use wire::client::Envelope;
use wire::client::event::{
    AddedPayload, BehindPayload, GroupPayload, JoinedPayload, LeftPayload, MemberPayload,
    MessagePayload, UpdatedPayload,
};
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
        member_count: view.member_count,
        members_next: view.members_next.as_ref().map(ToString::to_string),
    }
}

/// How a change concerns a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    /// As everyone.
    Member,
    /// It made them a member, with this role.
    Added(Role),
    /// It removed them.
    Removed,
}

/// One change and its encoded forms: as a member sees it, as one who joins in each role, as one who
/// goes.
pub(crate) struct EncodedEvent {
    delivery: Delivery,
    names: Names,
    frames: [OnceCell<Option<Encoded>>; 5],
}

impl EncodedEvent {
    /// How a change of members concerns a user.
    fn who(&self, user: &UserId) -> For {
        match &self.delivery.change.event {
            // All lists are sorted.
            Event::Created(created) => match role_in(&created.members, user) {
                Some(role) => For::Added(role),
                None => For::Member,
            },
            Event::MembersChanged(changed) => {
                if let Some(role) = role_in(&changed.added, user) {
                    For::Added(role)
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
        let form = match who {
            For::Member => 0,
            For::Removed => 1,
            For::Added(role) => 2 + role as usize,
        };
        self.frames[form].get_or_init(|| self.encode(who)).as_ref()
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
        Some(match who {
            For::Added(role) => {
                let payload = joined(&self.names, change, view, role);
                Encoded::new(&Envelope::of_change(change, "conversation.joined", payload))
            }
            For::Removed => {
                let payload = left(change);
                Encoded::new(&Envelope::of_change(change, "conversation.left", payload))
            }
            For::Member => {
                let payload = updated(&self.names, change, view);
                Encoded::new(&Envelope::of_change(change, "conversation.updated", payload))
            }
        })
    }
}

/// The role of a user in a sorted list.
fn role_in(list: &[(UserId, Role)], user: &UserId) -> Option<Role> {
    let at = list.binary_search_by(|(listed, _)| listed.cmp(user)).ok()?;
    Some(list[at].1)
}

fn joined(names: &Names, change: &Change, view: &View, role: Role) -> JoinedPayload {
    let GroupPayload {
        conversation_id,
        kind,
        name,
        zone,
        home_region,
        acting_region,
        durability,
        head_seq,
        ..
    } = group(names, view);
    let joined_seq = match &change.event {
        Event::MembersChanged(changed) => changed.head_seq + 1,
        _ => 1,
    };
    let (epoch, ver, member_count) = (change.epoch.0, change.ver, members_after(change, view));
    JoinedPayload {
        conversation_id,
        kind,
        name,
        zone,
        home_region,
        acting_region,
        durability,
        epoch,
        ver,
        head_seq,
        member_count,
        role,
        joined_seq,
    }
}

fn left(change: &Change) -> LeftPayload {
    let by = match &change.event {
        Event::MembersChanged(changed) => changed.by.to_string(),
        _ => String::new(),
    };
    LeftPayload { ver: change.ver, epoch: change.epoch.0, by }
}

/// What changed and nothing else: it goes to every member, so it must not grow with their number.
fn updated(names: &Names, change: &Change, view: &View) -> UpdatedPayload {
    let base =
        UpdatedPayload { ver: change.ver, epoch: change.epoch.0, ..UpdatedPayload::default() };
    match &change.event {
        Event::MembersChanged(changed) => UpdatedPayload {
            by: Some(changed.by.to_string()),
            added: changed
                .added
                .iter()
                .map(|(user, role)| AddedPayload { user_id: user.to_string(), role: *role })
                .collect(),
            removed: changed.removed.iter().map(ToString::to_string).collect(),
            roles: changed.roles.iter().map(|(user, role)| (user.to_string(), *role)).collect(),
            member_count: (!changed.added.is_empty() || !changed.removed.is_empty())
                .then(|| members_after(change, view)),
            ..base
        },
        Event::MovedIn(_) => {
            let shard = names.homes.shard_of(&change.conversation);
            UpdatedPayload {
                home_region: Some(names.world.region_name(shard.home)),
                acting_region: Some(names.world.region_name(view.acting_region)),
                ..base
            }
        }
        _ => base,
    }
}

/// Members after a change. A view may be of a later moment.
fn members_after(change: &Change, view: &View) -> u32 {
    match &change.event {
        Event::Created(created) => u32::try_from(created.members.len()).unwrap_or(u32::MAX),
        Event::MembersChanged(changed) => changed.member_count,
        _ => view.member_count,
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
