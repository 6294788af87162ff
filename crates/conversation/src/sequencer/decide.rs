//! What a command becomes. Nothing is changed here.

use std::collections::BTreeSet;

use smol_str::SmolStr;
use wire::change::{Change, Created, Event, Joined, Left, Message, Role};
use wire::codec::Later;
use wire::command::{Ack, Actor, Command, Draft, MeshCommand, Refusal, UserCommand};
use wire::limits::{GROUP_NAME_BYTES, MEMBERS_PER_CHANGE};
use wire::{ConversationId, ConversationKind, Epoch, ErrorCode, UserId};

use super::{Conversation, Decision, Outcome, check_draft, not_found};
use crate::dedupe::{Seen, fingerprint};
use crate::moving::DecisionContext;
use crate::roles::{self, MembershipRequest};

impl Conversation {
    /// Whether [`Conversation::decide`] needs what the store remembers of this send.
    #[must_use]
    pub fn needs_dedupe_lookup(&self, actor: &Actor, command: &Command) -> bool {
        let Command::User(UserCommand::Send(draft)) = command else { return false };
        self.facts_for(&actor.tenant).is_ok()
            && !self.dedupe.is_surely_new(&actor.user, &draft.client_msg_id)
            && self.dedupe.find(&actor.user, &draft.client_msg_id).is_none()
    }

    /// What the command of `actor` becomes. `seen` is what the store remembers of this (sender,
    /// `client_msg_id`). The caller gives it when [`Conversation::needs_dedupe_lookup`], and only
    /// if the place it names counts ([`Conversation::counts`]).
    #[must_use]
    pub fn decide(
        &self,
        moment: DecisionContext<'_>,
        actor: &Actor,
        command: impl Into<Command>,
        seen: Option<&Seen>,
    ) -> Decision {
        let command = command.into();
        let arrives = matches!(command, Command::Mesh(MeshCommand::AcceptTransfer { .. }));
        if !arrives && let Err(elsewhere) = self.served_from(moment.shard) {
            return Decision::Moved(elsewhere);
        }
        let decided = match command {
            Command::User(command) => self.decide_for_user(moment, actor, command, seen),
            Command::Mesh(command) => self.decide_for_mesh(moment, actor, command),
            Command::Unknown(_) => Err(Refusal::new(
                ErrorCode::UnknownType,
                "this node does not know commands of this kind",
            )),
        };
        decided.unwrap_or_else(Decision::Refuse)
    }

    fn decide_for_user(
        &self,
        moment: DecisionContext<'_>,
        actor: &Actor,
        command: UserCommand,
        seen: Option<&Seen>,
    ) -> Result<Decision, Refusal> {
        match command {
            UserCommand::Send(draft) => self.decide_send(moment, actor, draft, seen),
            UserCommand::CreateGroup { name, members } => {
                self.decide_group(moment, actor, name, members)
            }
            UserCommand::OpenDirect { with } => self.decide_direct(moment, actor, with),
            UserCommand::ChangeMembers { add, remove, roles } => self.decide_members(
                moment,
                actor,
                MembershipRequest { add: &add, remove: &remove, roles: &roles },
            ),
        }
    }

    fn decide_for_mesh(
        &self,
        moment: DecisionContext<'_>,
        actor: &Actor,
        command: MeshCommand,
    ) -> Result<Decision, Refusal> {
        match command {
            MeshCommand::NoteJoined { conversation, name, joined_seq, at_ver } => {
                let joined = Event::Joined(Joined { conversation, name, joined_seq, at_ver });
                self.decide_note(moment, actor, &conversation, at_ver, joined)
            }
            MeshCommand::NoteLeft { conversation, at_ver } => {
                let left = Event::Left(Left { conversation, at_ver });
                self.decide_note(moment, actor, &conversation, at_ver, left)
            }
            MeshCommand::Move { to } => self.decide_move(moment, to),
            MeshCommand::AcceptTransfer { n, .. } => Ok(self.decide_take_in(n)),
        }
    }

    /// The epoch that clients see with a change decided now. It never falls.
    pub(super) fn visible_epoch(&self, moment: DecisionContext<'_>) -> Epoch {
        self.location.visible(moment.epoch).max(self.last_epoch)
    }

    /// Gives an event its place, `ahead` changes after the next one. Neither the epoch nor the time
    /// ever falls.
    pub(super) fn number(&self, moment: DecisionContext<'_>, ahead: u64, event: Event) -> Change {
        Change {
            conversation: self.id,
            ver: self.head_ver + 1 + ahead,
            epoch: self.visible_epoch(moment),
            ts_ms: moment.now_ms.max(self.last_ts_ms),
            event,
        }
    }

    pub(super) fn commit(&self, moment: DecisionContext<'_>, event: Event) -> Decision {
        Decision::Commit(vec![self.number(moment, 0, event)])
    }

    fn decide_send(
        &self,
        moment: DecisionContext<'_>,
        actor: &Actor,
        draft: Draft,
        seen: Option<&Seen>,
    ) -> Result<Decision, Refusal> {
        self.facts_for(&actor.tenant)?;
        if self.id.kind == ConversationKind::User {
            self.readable_by(&actor.tenant, &actor.user)?;
            return Err(Refusal::new(
                ErrorCode::BadRequest,
                "a user's own stream takes no messages",
            ));
        }
        check_draft(&draft)?;
        // Before the membership check: a sender who was removed in between still learns what became
        // of their message.
        let seen = self.dedupe.find(&actor.user, &draft.client_msg_id).or(seen);
        if let Some(seen) = seen.filter(|seen| seen.counts(moment.now_ms)) {
            if seen.fingerprint != fingerprint(&draft) {
                let message = "this client_msg_id was used for another message";
                return Err(Refusal::new(ErrorCode::ClientMsgIdReused, message));
            }
            let ack = Ack { seq: seen.seq, epoch: seen.epoch, ts_ms: seen.ts_ms, duplicate: true };
            return Ok(Decision::Already(Outcome::Ack(ack)));
        }
        if !self.members.contains_key(&actor.user) {
            return Err(roles::not_a_member());
        }
        for (field, seq) in [("reply_to", draft.reply_to), ("thread", draft.thread)] {
            if seq.is_some_and(|seq| seq > self.head_seq) {
                return Err(Refusal::new(
                    ErrorCode::BadRequest,
                    format!("{field}: no such message yet"),
                ));
            }
        }
        Ok(self.commit(
            moment,
            Event::Message(Message {
                seq: self.head_seq + 1,
                sender: actor.user.clone(),
                device: actor.device.clone(),
                draft,
                recovered: false,
                later: Later::default(),
            }),
        ))
    }

    fn decide_group(
        &self,
        moment: DecisionContext<'_>,
        actor: &Actor,
        name: SmolStr,
        members: Vec<UserId>,
    ) -> Result<Decision, Refusal> {
        if self.id.kind != ConversationKind::Group {
            return Err(Refusal::new(ErrorCode::BadRequest, "not the id of a group"));
        }
        if let Some(facts) = &self.facts {
            // The id was drawn for one creation, so the same id again is a retry of it.
            if facts.tenant == actor.tenant
                && facts.by == actor.user
                && self.members.contains_key(&actor.user)
            {
                return Ok(Decision::Already(Outcome::View { created: true }));
            }
            return Err(not_found());
        }
        if name.is_empty() {
            return Err(Refusal::new(ErrorCode::BadRequest, "name: empty"));
        }
        if name.chars().any(wire::ids::is_unprintable) {
            return Err(Refusal::new(
                ErrorCode::BadRequest,
                "name: has a control character, or one that turns the direction of text",
            ));
        }
        if name.len() > GROUP_NAME_BYTES {
            return Err(Refusal::new(
                ErrorCode::TooLarge,
                format!("name: more than {GROUP_NAME_BYTES} bytes"),
            ));
        }
        if members.len() > MEMBERS_PER_CHANGE {
            let message = format!("members: more than {MEMBERS_PER_CHANGE} users");
            return Err(Refusal::new(ErrorCode::TooLarge, message));
        }
        let others: BTreeSet<UserId> =
            members.into_iter().filter(|user| *user != actor.user).collect();
        let mut members: Vec<(UserId, Role)> =
            others.into_iter().map(|user| (user, Role::Member)).collect();
        let at = members.partition_point(|(user, _)| *user < actor.user);
        members.insert(at, (actor.user.clone(), Created::creator_role(ConversationKind::Group)));
        Ok(self.commit(
            moment,
            Event::Created(Created {
                tenant: actor.tenant.clone(),
                name: Some(name),
                by: actor.user.clone(),
                members,
            }),
        ))
    }

    fn decide_direct(
        &self,
        moment: DecisionContext<'_>,
        actor: &Actor,
        with: UserId,
    ) -> Result<Decision, Refusal> {
        if with == actor.user {
            return Err(Refusal::new(
                ErrorCode::BadRequest,
                "a direct conversation is with someone else",
            ));
        }
        let named = ConversationId::direct_key(&actor.tenant, &actor.user, &with);
        if self.id.kind != ConversationKind::Direct || self.id.unique != named {
            return Err(Refusal::new(
                ErrorCode::BadRequest,
                "not the id of this direct conversation",
            ));
        }
        if self.facts.is_some() {
            return Ok(Decision::Already(Outcome::View { created: false }));
        }
        let role = Created::creator_role(ConversationKind::Direct);
        let mut members = vec![(actor.user.clone(), role), (with, role)];
        members.sort_unstable();
        let by = actor.user.clone();
        Ok(self.commit(
            moment,
            Event::Created(Created { tenant: actor.tenant.clone(), name: None, by, members }),
        ))
    }

    fn decide_members(
        &self,
        moment: DecisionContext<'_>,
        actor: &Actor,
        wish: MembershipRequest<'_>,
    ) -> Result<Decision, Refusal> {
        self.readable_by(&actor.tenant, &actor.user)?;
        if self.id.kind != ConversationKind::Group {
            return Err(Refusal::new(
                ErrorCode::BadRequest,
                "only the members of a group can change",
            ));
        }
        let changed = roles::change_members(
            &self.members,
            |member| member.role,
            &actor.user,
            wish,
            self.head_seq,
        )?;
        Ok(match changed {
            Some(changed) => self.commit(moment, Event::MembersChanged(changed)),
            None => Decision::Already(Outcome::View { created: false }),
        })
    }

    fn decide_note(
        &self,
        moment: DecisionContext<'_>,
        actor: &Actor,
        about: &ConversationId,
        at_ver: u64,
        event: Event,
    ) -> Result<Decision, Refusal> {
        if self.id.kind != ConversationKind::User {
            return Err(Refusal::new(ErrorCode::BadRequest, "not a user's own stream"));
        }
        self.readable_by(&actor.tenant, &actor.user)?;
        if self.joins.get(about).is_some_and(|join| join.at_ver >= at_ver) {
            return Ok(Decision::Already(Outcome::Noted));
        }
        if self.facts.is_some() {
            return Ok(self.commit(moment, event));
        }
        let founded = Event::Created(Created {
            tenant: actor.tenant.clone(),
            name: None,
            by: actor.user.clone(),
            members: vec![(actor.user.clone(), Created::creator_role(ConversationKind::User))],
        });
        Ok(Decision::Commit(vec![self.number(moment, 0, founded), self.number(moment, 1, event)]))
    }
}
