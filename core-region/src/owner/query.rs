//! Answers queries: from the conversation in memory, or by a read of the projections that starts
//! once these are as far as the log.

use conversation::sequencer::Conversation;
use node::Tasks;
use wire::command::{Actor, Answer, Query, Refusal};
use wire::{ConversationId, ConversationKind, ErrorCode, RegionId, Slot};

use super::decide::ReplyTo;
use super::entry::Entry;
use super::reads::{LINES_MAX, Read, Reads};

pub(super) struct Queries {
    pub(super) region: RegionId,
    pub(super) reads: Reads,
    pub(super) tasks: Tasks,
}

impl Queries {
    /// Everything before `committed` is committed. `actor`: none when an edge asks for itself.
    pub(super) fn answer(
        &self,
        entry: &Entry,
        to: ReplyTo,
        (actor, conversation): (Option<Actor>, ConversationId),
        query: Query,
        committed: Slot,
    ) {
        if let Err(refusal) = readable(&entry.conversation, actor.as_ref()) {
            return to.reply(Err(refusal));
        }
        let (head_seq, head_ver) = (entry.committed_seq, entry.committed_ver);
        let read = match query {
            Query::View { members_after } => {
                let view = Box::new(entry.view(self.region, members_after.as_ref()));
                return to.reply(Ok(Answer::View { view, created: false }));
            }
            Query::History { before, after, limit } => {
                Read::History { conversation, before, after, limit, head_seq, head_ver }
            }
            Query::Changes { after_ver, limit } => {
                let view = entry.outline_after(self.region, after_ver);
                Read::Changes { conversation, after_ver, limit, head_ver, view }
            }
            Query::Inbox { after, limit } => {
                let Some(actor) = actor else {
                    return to.reply(Err(Refusal::new(
                        ErrorCode::BadRequest,
                        "an inbox is read by its user only",
                    )));
                };
                let page = if limit == 0 { LINES_MAX } else { usize::from(limit).min(LINES_MAX) };
                let (lines, more) = entry.conversation.inbox(after.as_ref(), page);
                let next = lines.last().filter(|_| more).map(|line| line.conversation);
                if limit == 0 {
                    return to.reply(Ok(Answer::Inbox { lines, next, head_ver }));
                }
                Read::Heads { user: actor.user, lines, next, head_ver }
            }
            // The gate has refused it already.
            Query::Unknown(_) => {
                let message = "this node does not know queries of this kind";
                return to.reply(Err(Refusal::new(ErrorCode::UnknownType, message)));
            }
        };
        if let Some(fetch) = self.reads.fetch(to.outbox, to.rid, read, committed) {
            self.tasks.spawn("read", fetch);
        }
    }
}

fn readable(conversation: &Conversation, actor: Option<&Actor>) -> Result<(), Refusal> {
    match actor {
        Some(actor) => conversation.readable_by(&actor.tenant, &actor.user),
        None if conversation.facts().is_none()
            && conversation.id().kind != ConversationKind::User =>
        {
            Err(Refusal::new(ErrorCode::NotFound, "no such conversation"))
        }
        None => Ok(()),
    }
}
