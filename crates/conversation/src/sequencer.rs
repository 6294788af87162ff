//! One conversation: its state, what a command does to it, and what a committed change makes of it.
//!
//! The shard's task holds one [`Conversation`] for each conversation in use. For every command it
//! calls [`Conversation::decide`], puts the changes into the open frame and
//! [`Conversation::apply`]s them at once, so that the next command is decided on top of them. That
//! is speculation: **no answer, not even a refusal or a duplicate, leaves before everything decided
//! before it is acknowledged.** When the term ends, all of it is thrown away.

mod decide;
mod draft;
mod footprint;
mod recover;
mod relocate;
mod view;

use std::collections::BTreeMap;

use smol_str::SmolStr;
use wire::change::{Change, Created, Event, Home, MembersChanged, Message, Recorded, Role};
use wire::command::{Ack, Refusal};
use wire::{
    ConversationId, ConversationKind, Epoch, ErrorCode, Position, ShardId, TenantId, UserId,
};

use crate::dedupe::{Dedupe, Seen, fingerprint};
use crate::moving::Location;
use crate::projection::{FactsRow, HeadRow, HomeRow, InboxRow, LastMessageRow, MemberRow, RoleRow};
use crate::roles;
use crate::shard::Starts;

pub use draft::check_draft;

/// A conversation as its owner knows it: everything committed, and what is in flight.
#[derive(Clone, Debug)]
pub struct Conversation {
    id: ConversationId,
    location: Location,
    facts: Option<Facts>,
    members: BTreeMap<UserId, Member>,
    head_seq: u64,
    head_ver: u64,
    last_epoch: Epoch,
    last_ts_ms: u64,
    /// For a user stream: the last note about each conversation.
    joins: BTreeMap<ConversationId, Join>,
    dedupe: Dedupe,
}

/// What the conversation was created as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub tenant: TenantId,
    pub name: Option<SmolStr>,
    pub by: UserId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub role: Role,
    /// First seq that counts as unread for this member.
    pub joined_seq: u64,
}

/// What a user stream knows of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The `ver`, in that conversation, of the last note that counted.
    pub at_ver: u64,
    /// Whether the user is a member.
    pub joined: bool,
    pub name: Option<SmolStr>,
    /// First seq that counts as unread for the user.
    pub joined_seq: u64,
}

/// What a store holds of one conversation whose committed frames are all projected. Read any
/// earlier, the rows may be of different ages, and a later replay would not mend them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedConversation {
    /// None when nothing is there.
    pub facts: Option<FactsRow>,
    pub head: Option<HeadRow>,
    pub last_message: Option<LastMessageRow>,
    /// Members, perhaps with some who have left.
    pub members: Vec<MemberRow>,
    pub roles: Vec<RoleRow>,
    /// For a user stream: its inbox, conversations that were left included.
    pub inbox: Vec<InboxRow>,
    /// The shard it is in; none when it never moved.
    pub placement: Option<HomeRow>,
}

impl LoadedConversation {
    /// The shard it is in, as far as these rows are right.
    #[must_use]
    pub fn location(&self, id: ConversationId) -> Location {
        self.placement
            .as_ref()
            .map_or_else(|| Location::born_in(id.shard), |row| row.location.clone())
    }

    /// Whether all of these rows count. If not, rows of changes that were lost with a region have
    /// taken the place of those that count, or nobody remembers: [replay](Conversation::replay) the
    /// changes. Only for single-region durability. `starts` are those of the
    /// [judge](Location::judge)'s shard.
    #[must_use]
    pub fn counts(&self, id: ConversationId, starts: &Starts) -> bool {
        let location = self.location(id);
        let one = [
            self.facts.as_ref().map(|row| row.at),
            self.head.map(|row| row.at),
            self.last_message.map(|row| row.at),
            self.placement.as_ref().map(|row| row.at),
        ];
        let members =
            self.members.iter().map(|row| row.at).chain(self.roles.iter().map(|row| row.at));
        let all =
            one.into_iter().flatten().chain(members).chain(self.inbox.iter().map(|row| row.at));
        // Rows of old versions do not say, and are from before regions could be lost.
        let mut said = all.filter(|at| *at != Position::default());
        said.all(|at| location.row_counts(at, starts) == Some(true))
    }
}

/// The result of [`Conversation::replay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// All of these changes count.
    All,
    /// The remaining changes do not count.
    Cut,
    /// The replay goes on when the starts of this shard are known, with the changes that follow on
    /// the state.
    Needs(ShardId),
}

/// What a command becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// These changes, in this order, into one frame. (More than one only when a note founds a user
    /// stream.) The answer is [`Outcome::of`] the last.
    Commit(Vec<Change>),
    /// It was done before.
    Already(Outcome),
    Refuse(Refusal),
    /// The conversation is in another shard, or on its way there. The answer waits for
    /// [`crate::moving::Mover::may_tell`].
    Moved(Home),
    /// To an accept-transfer: memory may be older than the last change in the other shard. Read the
    /// conversation from the projections now, and [`Conversation::admit`] it.
    NeedsReload,
}

/// What the answer will be. [`Conversation::answer`] makes it, from the state right then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To a send.
    Ack(Ack),
    /// To a creation or a change of members.
    View { created: bool },
    /// To a note.
    Noted,
    /// To a move.
    Moving(Home),
    /// To an offer to take it in.
    TransferAccepted,
}

impl Outcome {
    /// The answer to the command whose effect this change is.
    #[must_use]
    pub fn of(change: &Change) -> Self {
        match &change.event {
            Event::Message(message) => Self::Ack(Ack {
                seq: message.seq,
                epoch: change.epoch,
                ts_ms: change.ts_ms,
                duplicate: false,
            }),
            Event::Created(_) => Self::View { created: true },
            Event::MembersChanged(_) => Self::View { created: false },
            Event::MovedOut(out) => Self::Moving(out.to),
            Event::MovedIn(_) => Self::TransferAccepted,
            Event::Joined(_) | Event::Left(_) | Event::Unknown(_) => Self::Noted,
        }
    }
}

/// A change that does not follow on the state: a change in between was lost, or the state was
/// loaded too early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{conversation}: ver {found} after ver {head}")]
pub struct Gap {
    pub conversation: ConversationId,
    /// The last `ver` in the state.
    pub head: u64,
    /// The `ver` of the change.
    pub found: u64,
}

impl Conversation {
    /// A conversation of which nothing is committed.
    #[must_use]
    pub fn empty(id: ConversationId) -> Self {
        Self {
            id,
            location: Location::born_in(id.shard),
            facts: None,
            members: BTreeMap::new(),
            head_seq: 0,
            head_ver: 0,
            last_epoch: Epoch(0),
            last_ts_ms: 0,
            joins: BTreeMap::new(),
            dedupe: Dedupe::complete(),
        }
    }

    /// Loads a conversation from its projection.
    #[must_use]
    pub fn load(id: ConversationId, rows: LoadedConversation) -> Self {
        let Some(head) = rows.head else { return Self::empty(id) };
        let role_of: BTreeMap<UserId, Role> =
            rows.roles.into_iter().map(|row| (row.user, row.role)).collect();
        let members = rows.members.into_iter().filter(|row| !row.gone).map(|row| {
            let role = role_of.get(&row.user).copied().unwrap_or(Role::Member);
            (row.user, Member { role, joined_seq: row.joined_seq })
        });
        let joins = rows.inbox.into_iter().map(|row| {
            let join = Join {
                at_ver: row.at_ver,
                joined: !row.left,
                name: row.name,
                joined_seq: row.joined_seq,
            };
            (row.conversation, join)
        });
        let head_seq = rows.last_message.map_or(0, |last| last.seq);
        // Nothing was ever sent, so what is not in memory was never sent either.
        let dedupe = if head_seq == 0 { Dedupe::complete() } else { Dedupe::partial() };
        Self {
            id,
            location: rows
                .placement
                .map_or_else(|| Location::born_in(id.shard), |row| row.location),
            facts: rows.facts.map(|row| Facts { tenant: row.tenant, name: row.name, by: row.by }),
            members: members.collect(),
            head_seq,
            head_ver: head.head_ver,
            last_epoch: head.epoch,
            last_ts_ms: head.ts_ms,
            joins: joins.collect(),
            dedupe,
        }
    }

    /// What these changes make of a conversation. They follow on `self` without a hole, and each
    /// counts by the starts of the shard that decided it.
    ///
    /// For single-region durability. A change that was lost with a region stands after all that
    /// count: whatever was decided later in its place has the same `ver` and a higher stamp.
    pub fn replay(
        &mut self,
        changes: &[(Position, Recorded)],
        starts: &BTreeMap<ShardId, Starts>,
    ) -> Replayed {
        let head_ver = self.head_ver;
        for (at, change) in changes.iter().filter(|(_, change)| change.ver > head_ver) {
            let comes = matches!(change.event, Event::MovedIn(_));
            let shard = self.location.placement.shard;
            if *at != Position::default() {
                let Some(starts) = starts.get(&shard) else { return Replayed::Needs(shard) };
                if !starts.is_current_or_newer(*at) {
                    return Replayed::Cut;
                }
            }
            if comes == self.location.arrived || self.apply(change, *at).is_err() {
                return Replayed::Cut;
            }
        }
        Replayed::All
    }

    /// Takes a change that was decided, or is replayed. A change that it already has is ignored.
    ///
    /// # Errors
    /// When there is a gap before it. The state stays as it was.
    pub fn apply(&mut self, change: &Change, at: Position) -> Result<(), Gap> {
        if change.ver <= self.head_ver {
            return Ok(());
        }
        if change.ver != self.head_ver + 1 {
            return Err(Gap { conversation: self.id, head: self.head_ver, found: change.ver });
        }
        self.head_ver = change.ver;
        self.last_epoch = self.last_epoch.max(change.epoch);
        self.last_ts_ms = self.last_ts_ms.max(change.ts_ms);
        match &change.event {
            Event::Created(created) => self.apply_created(created),
            Event::Message(message) => self.apply_message(change, message, at),
            Event::MembersChanged(changed) => self.apply_members(changed),
            Event::Joined(joined) => {
                let join = Join {
                    at_ver: joined.at_ver,
                    joined: true,
                    name: joined.name.clone(),
                    joined_seq: joined.joined_seq,
                };
                self.joins.insert(joined.conversation, join);
            }
            Event::Left(left) => {
                let join = Join { at_ver: left.at_ver, joined: false, name: None, joined_seq: 0 };
                self.joins.insert(left.conversation, join);
            }
            Event::MovedOut(out) => self.location = Location::left(change, out),
            Event::MovedIn(moved) => self.location = Location::came(moved),
            // From a newer node: it counts, whatever it is.
            Event::Unknown(_) => {}
        }
        Ok(())
    }

    fn apply_created(&mut self, created: &Created) {
        self.facts = Some(Facts {
            tenant: created.tenant.clone(),
            name: created.name.clone(),
            by: created.by.clone(),
        });
        let members = created
            .members
            .iter()
            .map(|(user, role)| (user.clone(), Member { role: *role, joined_seq: 1 }));
        self.members = members.collect();
    }

    fn apply_message(&mut self, change: &Change, message: &Message, at: Position) {
        self.head_seq = message.seq;
        let seen = Seen {
            seq: message.seq,
            epoch: change.epoch,
            ts_ms: change.ts_ms,
            fingerprint: fingerprint(&message.draft),
            at,
        };
        self.dedupe.remember(&message.sender, &message.draft.client_msg_id, seen);
    }

    fn apply_members(&mut self, changed: &MembersChanged) {
        for user in &changed.removed {
            self.members.remove(user);
        }
        for (user, role) in &changed.added {
            self.members
                .insert(user.clone(), Member { role: *role, joined_seq: changed.head_seq + 1 });
        }
        for (user, role) in &changed.roles {
            if let Some(member) = self.members.get_mut(user) {
                member.role = *role;
            }
        }
    }

    /// Whether this user of this tenant may read it. A user may read their own stream even before
    /// anything is in it.
    ///
    /// # Errors
    /// `not_found` when nothing is there, or it is another tenant's or another user's stream;
    /// `not_a_member`.
    pub fn readable_by(&self, tenant: &TenantId, user: &UserId) -> Result<(), Refusal> {
        if self.id.kind == ConversationKind::User {
            let own = self.id.unique == ConversationId::user_key(tenant, user);
            return if own { Ok(()) } else { Err(not_found()) };
        }
        self.facts_for(tenant)?;
        if self.members.contains_key(user) { Ok(()) } else { Err(roles::not_a_member()) }
    }

    fn facts_for(&self, tenant: &TenantId) -> Result<&Facts, Refusal> {
        self.facts.as_ref().filter(|facts| facts.tenant == *tenant).ok_or_else(not_found)
    }

    /// Whether the owner of this shard answers for it.
    ///
    /// # Errors
    /// The home that it has, or is on its way to.
    pub fn served_from(&self, shard: ShardId) -> Result<(), Home> {
        if self.location.serves(shard) { Ok(()) } else { Err(self.location.placement) }
    }

    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Whether what the store remembers of a send is of a frame that counts (R4). `starts` are
    /// those of its present shard.
    #[must_use]
    pub fn counts(&self, seen: &Seen, starts: &Starts) -> bool {
        self.location.counts(seen, starts)
    }

    #[must_use]
    pub fn id(&self) -> ConversationId {
        self.id
    }

    /// What it was created as; none when nothing is there.
    #[must_use]
    pub fn facts(&self) -> Option<&Facts> {
        self.facts.as_ref()
    }

    #[must_use]
    pub fn members(&self) -> &BTreeMap<UserId, Member> {
        &self.members
    }

    /// Number of its last message; 0 before the first.
    #[must_use]
    pub fn head_seq(&self) -> u64 {
        self.head_seq
    }

    /// Number of its last change; 0 when nothing is there.
    #[must_use]
    pub fn head_ver(&self) -> u64 {
        self.head_ver
    }

    /// Epoch of its last change.
    #[must_use]
    pub fn last_epoch(&self) -> Epoch {
        self.last_epoch
    }

    /// When its last change was ordered, milliseconds since 1970.
    #[must_use]
    pub fn last_ts_ms(&self) -> u64 {
        self.last_ts_ms
    }

    /// For a user stream: the last note about each conversation, those that were left included.
    #[must_use]
    pub fn joins(&self) -> &BTreeMap<ConversationId, Join> {
        &self.joins
    }
}

fn not_found() -> Refusal {
    Refusal::new(ErrorCode::NotFound, "no such conversation")
}

#[cfg(test)]
mod tests;
