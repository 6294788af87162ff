//! Reads pages of history, changes and inboxes from the projections, once these are as far as the
//! log was when the query came: a user finds whatever they were told of.
//!
//! The owner task has settled what may be read, and up to where.

use std::sync::Arc;
use std::time::Duration;

use conversation::log::change_bytes;
use store::{Store, StoreError};
use tokio::sync::Semaphore;
use wire::change::Recorded;
use wire::command::{Answer, Delivery, InboxLine, Refusal, View};
use wire::limits::{HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX, MESH_FRAME_BYTES};
use wire::{ConversationId, ErrorCode, Slot, UserId};

use crate::intake::outbox::{Outbox, Outcome};
use crate::owner::projector::Projected;
use crate::retry::retry_within;

/// A read that takes longer is refused; the edge may ask again.
const READ_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of one answer: a mesh frame, less what stands around it.
const ANSWER_BYTES: usize = MESH_FRAME_BYTES - 64 * 1024;
/// An upper estimate of what a line of an inbox takes, bytes.
const LINE_BYTES: usize = 340;
/// Lines of one answer.
pub(crate) const LINES_MAX: usize = ANSWER_BYTES / LINE_BYTES;

/// What to fetch. All heads are committed.
pub(crate) enum Read {
    /// See [`wire::command::Query::History`].
    History {
        conversation: ConversationId,
        before: Option<u64>,
        after: Option<u64>,
        limit: u16,
        head_seq: u64,
        head_ver: u64,
    },
    /// See [`wire::command::Query::Changes`].
    Changes {
        conversation: ConversationId,
        after_ver: u64,
        limit: u16,
        head_ver: u64,
        /// Goes with changes of members.
        view: Option<Box<View>>,
    },
    /// Fills heads and read cursors into the lines of an inbox.
    Heads { user: UserId, lines: Vec<InboxLine>, next: Option<ConversationId>, head_ver: u64 },
}

/// Reads of one shard, bounded.
#[derive(Clone)]
pub(crate) struct Reads {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) projected: Projected,
    /// One permit a read of the store.
    pub(crate) reading: Arc<Semaphore>,
    /// One permit a read that is under way or waits.
    pub(crate) admitted: Arc<Semaphore>,
}

impl Reads {
    /// For a shard whose projections are told by `projected`.
    pub(crate) fn new(store: Arc<dyn Store>, projected: Projected, at_once: usize) -> Self {
        let (reading, admitted) =
            (Arc::new(Semaphore::new(at_once)), Arc::new(Semaphore::new(at_once * 16)));
        Self { store, projected, reading, admitted }
    }

    /// Reads once everything before `committed` is projected, and answers. None when too many wait:
    /// then it has answered already.
    pub(crate) fn fetch(
        &self,
        to: Arc<Outbox>,
        rid: u64,
        read: Read,
        committed: Slot,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let Ok(permit) = self.admitted.clone().try_acquire_owned() else {
            let mut refusal = Refusal::new(ErrorCode::Overloaded, "too many reads at once");
            refusal.retry_after_ms = Some(200);
            to.reply(rid, Err(refusal));
            return None;
        };
        let mut this = self.clone();
        Some(async move {
            // Closed only with the term; the stream is told of that.
            if this.projected.reach(committed).await.is_ok() {
                let outcome = this.read(read).await;
                to.reply(rid, outcome);
            }
            drop(permit);
        })
    }

    async fn read(&self, read: Read) -> Outcome {
        let Ok(_permit) = self.reading.acquire().await else { return Err(unavailable()) };
        let answer = match read {
            Read::History { conversation, before, after, limit, head_seq, head_ver } => {
                self.history(
                    conversation,
                    Page::of(before, after, limit, head_seq),
                    head_seq,
                    head_ver,
                )
                .await
            }
            Read::Changes { conversation, after_ver, limit, head_ver, view } => {
                self.changes(conversation, after_ver, limit, head_ver, view).await
            }
            Read::Heads { user, lines, next, head_ver } => {
                self.heads(&user, lines, next, head_ver).await
            }
        };
        answer.map_err(|error| {
            tracing::warn!(%error, "a read failed");
            unavailable()
        })
    }

    async fn history(
        &self,
        conversation: ConversationId,
        page: Page,
        head_seq: u64,
        head_ver: u64,
    ) -> Result<Answer, StoreError> {
        let mut messages = if page.from > page.to {
            Vec::new()
        } else {
            retry_within(READ_TIMEOUT, || self.store.messages(conversation, page.from, page.to))
                .await?
        };
        let cut = page.cut(&mut messages);
        Ok(Answer::History { messages, head_seq, head_ver, has_more: page.has_more || cut })
    }

    async fn changes(
        &self,
        conversation: ConversationId,
        after_ver: u64,
        limit: u16,
        head_ver: u64,
        view: Option<Box<View>>,
    ) -> Result<Answer, StoreError> {
        let limit = usize::from(limit.clamp(1, HISTORY_PAGE_MAX));
        let mut bytes = 0;
        let mut changes = Vec::new();
        let page =
            retry_within(READ_TIMEOUT, || self.store.changes(conversation, after_ver, limit))
                .await?;
        for change in page {
            let view = change.event.view_needed().then(|| view.clone()).flatten();
            bytes += change_bytes(&change) + view.as_ref().map_or(0, |_| 512);
            if change.ver > head_ver || (bytes > ANSWER_BYTES && !changes.is_empty()) {
                break;
            }
            changes.push(Delivery { change, view });
        }
        Ok(Answer::Changes { changes, head_ver })
    }

    async fn heads(
        &self,
        user: &UserId,
        mut lines: Vec<InboxLine>,
        next: Option<ConversationId>,
        head_ver: u64,
    ) -> Result<Answer, StoreError> {
        let ids: Vec<ConversationId> = lines.iter().map(|line| line.conversation).collect();
        let heads = retry_within(READ_TIMEOUT, || self.store.heads(&ids)).await?;
        let read = retry_within(READ_TIMEOUT, || self.store.read_cursors(user, &ids)).await?;
        for ((line, heads), read_seq) in lines.iter_mut().zip(heads).zip(read) {
            if let Some(last) = heads.and_then(|heads| heads.last_message) {
                (line.head_seq, line.last_ts_ms) = (last.seq, last.ts_ms);
            }
            line.read_seq = line.read_seq.max(read_seq);
        }
        Ok(Answer::Inbox { lines, next, head_ver })
    }
}

fn unavailable() -> Refusal {
    let mut refusal = Refusal::new(ErrorCode::HomeUnavailable, "the store cannot be read now");
    refusal.retry_after_ms = Some(500);
    refusal
}

/// The seqs of a page of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    /// Inclusive.
    from: u64,
    /// Inclusive; less than `from` when the page is empty.
    to: u64,
    /// There is more in the direction of the page.
    has_more: bool,
    /// The page goes on forwards.
    forwards: bool,
}

impl Page {
    fn of(before: Option<u64>, after: Option<u64>, limit: u16, head_seq: u64) -> Self {
        let limit = if limit == 0 { HISTORY_PAGE_DEFAULT } else { limit.min(HISTORY_PAGE_MAX) };
        let limit = u64::from(limit);
        let end = before.map_or(head_seq, |before| before.saturating_sub(1)).min(head_seq);
        match after {
            Some(after) => {
                let from = after.saturating_add(1);
                let to = end.min(after.saturating_add(limit));
                Self { from, to, has_more: to < end && from <= end, forwards: true }
            }
            None => {
                let from = end.saturating_sub(limit) + 1;
                Self { from, to: end, has_more: from > 1 && end > 0, forwards: false }
            }
        }
    }

    /// Cuts off what does not fit into one answer, at the far end of the page. Returns whether it
    /// did.
    fn cut(self, messages: &mut Vec<Recorded>) -> bool {
        let mut bytes = 0;
        let mut fits = |change: &Recorded| {
            bytes += change_bytes(change);
            bytes <= ANSWER_BYTES
        };
        let before = messages.len();
        if self.forwards {
            let kept = messages.iter().take_while(|change| fits(change)).count();
            messages.truncate(kept);
        } else {
            let kept = messages.iter().rev().take_while(|change| fits(change)).count();
            messages.drain(..before - kept);
        }
        messages.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(before: Option<u64>, after: Option<u64>, head: u64) -> (u64, u64, bool) {
        let page = Page::of(before, after, 10, head);
        (page.from, page.to, page.has_more)
    }

    #[test]
    fn a_page_without_bounds_is_the_newest() {
        assert_eq!(page(None, None, 25), (16, 25, true));
        assert_eq!(page(None, None, 10), (1, 10, false));
        assert_eq!(page(None, None, 3), (1, 3, false));
        assert_eq!(page(None, None, 0), (1, 0, false));
    }

    #[test]
    fn a_page_before_ends_there_and_one_after_starts_there() {
        assert_eq!(page(Some(16), None, 25), (6, 15, true));
        assert_eq!(page(Some(5), None, 25), (1, 4, false));
        assert_eq!(page(Some(1), None, 25), (1, 0, false));
        assert_eq!(page(Some(900), None, 25), (16, 25, true));
        assert_eq!(page(None, Some(0), 25), (1, 10, true));
        assert_eq!(page(None, Some(15), 25), (16, 25, false));
        assert_eq!(page(None, Some(25), 25), (26, 25, false));
        assert_eq!(page(None, Some(u64::MAX), 25), (u64::MAX, 25, false));
        assert_eq!(page(Some(12), Some(5), 25), (6, 11, false));
    }
}
