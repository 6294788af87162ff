//! Decides commands on top of everything decided before, and gathers their changes and replies in
//! the frame that is filled. The rules stand in [`conversation::sequencer`].

use std::sync::Arc;

use conversation::dedupe::Seen;
use conversation::moving::DecisionContext;
use conversation::sequencer::{Decision, Outcome as Decided};
use conversation::shard::Starts;
use wire::change::{Change, Recorded};
use wire::command::{Actor, Answer, Command, MeshCommand, Refusal};
use wire::{ConversationKind, Epoch, ErrorCode, Position, RegionId, ShardId};

use super::commit::batch::{Pending, PendingReply};
use super::entry::Entry;
use crate::intake::outbox::{Outbox, Outcome};
use crate::status::Progress;

/// Where the answer to a request goes.
pub(super) struct ReplyTo {
    pub(super) outbox: Arc<Outbox>,
    pub(super) rid: u64,
}

impl ReplyTo {
    pub(super) fn reply(self, outcome: Outcome) {
        self.outbox.reply(self.rid, outcome);
    }
}

/// What decisions of one term depend on, and what they have come to.
pub(super) struct Decider {
    pub(super) region: RegionId,
    pub(super) shard: ShardId,
    pub(super) epoch: Epoch,
    pub(super) starts: Starts,
    /// The wall clock, milliseconds since 1970, read once for each turn of the owner task.
    pub(super) now_ms: u64,
    pub(super) pending: Pending,
    pub(super) progress: Arc<Progress>,
}

impl Decider {
    pub(super) fn context(&self) -> DecisionContext<'_> {
        DecisionContext {
            now_ms: self.now_ms,
            shard: self.shard,
            epoch: self.epoch,
            starts: &self.starts,
        }
    }

    pub(super) fn decide(
        &mut self,
        entry: &mut Entry,
        to: ReplyTo,
        actor: &Actor,
        command: Command,
        seen: Option<&Seen>,
    ) {
        let outcome = if matches!(command, Command::Mesh(MeshCommand::Move { .. }))
            && self.progress.has_forks()
        {
            // The salvage would look for the conversation here.
            Err(Refusal::new(
                ErrorCode::BadRequest,
                "messages that a lost region still holds are being recovered into this shard; \
                 try again when that is done",
            ))
        } else {
            let decision = entry.conversation.decide(self.context(), actor, command, seen);
            self.outcome(entry, decision)
        };
        self.reply(entry, to, outcome);
    }

    /// Appends again what was stranded, unless it is here.
    pub(super) fn recover(
        &mut self,
        entry: &mut Entry,
        to: ReplyTo,
        stranded: &Change,
        seen: Option<&Seen>,
        first_seq: u64,
    ) {
        let recovered = entry.conversation.recover(self.context(), stranded, seen, first_seq);
        if let Some(change) = recovered {
            metrics::counter!("hearth_changes_recovered_total").increment(1);
            self.apply(entry, vec![flagged(change)]);
        }
        self.reply(entry, to, Ok(Answer::Noted));
    }

    /// Replies once everything decided for the conversation is committed. Also what changed nothing
    /// was decided on top of what is not acknowledged, and waits for that.
    pub(super) fn reply(&mut self, entry: &Entry, to: ReplyTo, outcome: Outcome) {
        let ReplyTo { outbox, rid } = to;
        self.pending.reply_after(entry.touched, PendingReply { to: outbox, rid, outcome });
    }

    pub(super) fn outcome(&mut self, entry: &mut Entry, decision: Decision) -> Outcome {
        match decision {
            Decision::Commit(changes) => Ok(self.apply(entry, changes)),
            Decision::Already(decided) => Ok(entry.conversation.answer(decided, self.region)),
            Decision::Refuse(refusal) => Err(refusal),
            // Both are seen to before anything is decided.
            Decision::Moved(_) | Decision::NeedsReload => Err(not_yet()),
        }
    }

    /// Puts the changes into the open frame and returns the answer.
    fn apply(&mut self, entry: &mut Entry, changes: Vec<Change>) -> Answer {
        // Encoded here and nowhere else: the log, the feed and the projections take these bytes.
        let changes: Vec<Recorded> = changes.into_iter().map(Recorded::from).collect();
        let slot = self.pending.make_room(&changes);
        let decided = changes.last().map_or(Decided::Noted, |change| Decided::of(change));
        let at = Position { epoch: self.epoch, slot };
        for change in changes {
            entry
                .conversation
                .apply(&change, at)
                .expect("a change follows on the state it was decided on");
            entry.note_applied(&change, slot);
            let view =
                shows_view(&change).then(|| Box::new(entry.conversation.outline(self.region)));
            self.pending.push(change, view);
        }
        entry.conversation.answer(decided, self.region)
    }
}

pub(super) fn not_yet() -> Refusal {
    Refusal::new(ErrorCode::HomeUnavailable, "the transfer cannot be accepted yet; try again")
}

/// A fail point of the simulator's mutants; it does nothing elsewhere.
fn flagged(change: Change) -> Change {
    fail::fail_point!("salvage-unflagged", |_| {
        let mut change = change.clone();
        if let wire::change::Event::Message(message) = &mut change.event {
            message.recovered = false;
        }
        change
    });
    change
}

/// Whether those who watch get the conversation's view with this change.
fn shows_view(change: &Change) -> bool {
    change.event.view_needed() && change.conversation.kind != ConversationKind::User
}
