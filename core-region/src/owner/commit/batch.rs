//! Everything decided and not acknowledged: the frame being filled, full ones, those on their way
//! to the log; and with each the replies that leave when it is committed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use conversation::log::{FRAME_OVERHEAD_BYTES, LogFrame, change_bytes};
use wire::change::Recorded;
use wire::command::{Refusal, View};
use wire::limits::LOG_FRAME_BYTES;
use wire::{ConversationKind, Epoch, Slot};

use crate::intake::outbox::{Outbox, Outcome};

/// The share of a frame that changes of user streams may have.
const NOTE_BYTES_MAX: usize = LOG_FRAME_BYTES / 4;

/// An answer that may leave when its slot is committed.
pub(crate) struct PendingReply {
    pub(crate) to: Arc<Outbox>,
    pub(crate) rid: u64,
    pub(crate) outcome: Outcome,
}

impl PendingReply {
    pub(crate) fn send(self) {
        self.to.reply(self.rid, self.outcome);
    }
}

/// What leaves when a slot is committed.
#[derive(Default)]
pub(crate) struct OnCommit {
    /// In the order in which it was decided.
    pub(crate) replies: Vec<PendingReply>,
    /// The conversation right after a change, for those that need it, by index in the frame,
    /// ascending.
    pub(crate) views: Vec<(usize, Box<View>)>,
}

/// A frame that is still open.
#[derive(Default)]
struct Open {
    changes: Vec<Recorded>,
    bytes: usize,
    /// Those of user streams.
    note_bytes: usize,
    on_commit: OnCommit,
}

/// A frame on its way to the log.
pub(crate) struct InFlight {
    pub(crate) frame: Arc<LogFrame>,
    pub(crate) on_commit: OnCommit,
    pub(crate) launched: Instant,
}

/// Everything decided and not acknowledged, in slot order: in flight, full, open.
pub(crate) struct Pending {
    epoch: Epoch,
    /// Slot of the first one in flight, or the next to launch.
    first: Slot,
    in_flight: VecDeque<InFlight>,
    full: VecDeque<Open>,
    open: Open,
    /// Changes in all of them.
    changes: usize,
    last_ts_ms: u64,
}

impl Pending {
    /// Nothing pending at the start of a term, after a frame with this time.
    pub(crate) fn new(epoch: Epoch, start: Slot, last_ts_ms: u64) -> Self {
        Self {
            epoch,
            first: start,
            in_flight: VecDeque::new(),
            full: VecDeque::new(),
            open: Open::default(),
            changes: 0,
            last_ts_ms,
        }
    }

    /// The slot of the frame that is being filled.
    pub(crate) fn slot(&self) -> Slot {
        Slot(self.first.0 + (self.in_flight.len() + self.full.len()) as u64)
    }

    /// Everything before it is committed.
    pub(crate) fn committed(&self) -> Slot {
        self.first
    }

    /// Changes that are decided and not acknowledged.
    pub(crate) fn changes(&self) -> usize {
        self.changes
    }

    /// Whether a full frame waits to be launched: then no more should be decided.
    pub(crate) fn is_backed_up(&self) -> bool {
        !self.full.is_empty()
    }

    /// Whether the open frame takes more changes of user streams. They have a share of each frame,
    /// so that many of them do not hold up a message.
    pub(crate) fn has_room_for_notes(&self) -> bool {
        !self.is_backed_up() && self.open.note_bytes < NOTE_BYTES_MAX
    }

    /// Bytes of the frame that would be launched next; 0 when there is none.
    pub(crate) fn next_bytes(&self) -> usize {
        self.full.front().map_or(self.open.bytes, |full| full.bytes)
    }

    /// Whether nothing is decided that is not acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.in_flight.is_empty() && self.full.is_empty() && self.open.changes.is_empty()
    }

    /// Makes room for these changes, which belong into one frame, and returns the slot that they
    /// get.
    pub(crate) fn make_room(&mut self, changes: &[Recorded]) -> Slot {
        let bytes: usize = changes.iter().map(change_bytes).sum();
        if !self.open.changes.is_empty()
            && FRAME_OVERHEAD_BYTES + self.open.bytes + bytes > LOG_FRAME_BYTES
        {
            self.full.push_back(std::mem::take(&mut self.open));
        }
        self.open.bytes += bytes;
        if changes.first().is_some_and(|first| first.conversation.kind == ConversationKind::User) {
            self.open.note_bytes += bytes;
        }
        self.slot()
    }

    /// Puts a change into the open frame. With `view`, the conversation right after it.
    pub(crate) fn push(&mut self, change: Recorded, view: Option<Box<View>>) {
        if let Some(view) = view {
            self.open.on_commit.views.push((self.open.changes.len(), view));
        }
        self.open.changes.push(change);
        self.changes += 1;
    }

    /// Sends a reply once `after` is committed, which may be now. None: it waits for nothing.
    pub(crate) fn reply_after(&mut self, after: Option<Slot>, reply: PendingReply) {
        let Some(ahead) = after.and_then(|after| after.0.checked_sub(self.first.0)) else {
            return reply.send();
        };
        let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
        let on_commit = if let Some(in_flight) = self.in_flight.get_mut(ahead) {
            &mut in_flight.on_commit
        } else if let Some(full) = self.full.get_mut(ahead - self.in_flight.len()) {
            &mut full.on_commit
        } else {
            &mut self.open.on_commit
        };
        on_commit.replies.push(reply);
    }

    /// Answers everybody who waits with this, and lets what was decided go on: who asks again meets
    /// it, committed or not.
    pub(crate) fn give_up_waiting(&mut self, refusal: &Refusal) {
        let flying = self.in_flight.iter_mut().map(|flying| &mut flying.on_commit);
        let full = self.full.iter_mut().map(|full| &mut full.on_commit);
        for on_commit in flying.chain(full).chain([&mut self.open.on_commit]) {
            for PendingReply { to, rid, .. } in on_commit.replies.drain(..) {
                to.reply(rid, Err(refusal.clone()));
            }
        }
    }

    /// Closes the next frame, if there is one, and returns its bytes, to be appended at once.
    pub(crate) fn launch(&mut self, now_ms: u64) -> Option<Arc<LogFrame>> {
        let open = match self.full.pop_front() {
            Some(full) => full,
            None if self.open.changes.is_empty() => return None,
            None => std::mem::take(&mut self.open),
        };
        self.last_ts_ms = LogFrame::ts_after(self.last_ts_ms, now_ms);
        let slot = Slot(self.first.0 + self.in_flight.len() as u64);
        let frame = Arc::new(LogFrame {
            epoch: self.epoch,
            slot,
            ts_ms: self.last_ts_ms,
            changes: open.changes,
        });
        self.in_flight.push_back(InFlight {
            frame: frame.clone(),
            on_commit: open.on_commit,
            launched: Instant::now(),
        });
        Some(frame)
    }

    /// Takes out the first frame in flight, which is committed.
    pub(crate) fn commit(&mut self) -> Option<InFlight> {
        let committed = self.in_flight.pop_front()?;
        self.first = self.first.next();
        self.changes -= committed.frame.changes.len();
        Some(committed)
    }
}

#[cfg(test)]
mod tests {
    use wire::change::{Change, Event, Message};
    use wire::command::{Answer, Draft};
    use wire::{ClientMsgId, ConversationId, Durability, RegionId, ShardId, UserId, ZoneId};

    use super::*;

    fn change(ver: u64, body: usize) -> Recorded {
        let shard =
            ShardId { zone: ZoneId(1), home: RegionId(1), durability: Durability::Region, n: 0 };
        let message = Message {
            seq: ver,
            sender: UserId::new("ann").unwrap(),
            device: None,
            draft: Draft::text(ClientMsgId::new("m").unwrap(), "x".repeat(body)),
            recovered: false,
            later: Default::default(),
        };
        let conversation = ConversationId { kind: ConversationKind::Group, shard, unique: [1; 16] };
        let event = Event::Message(message);
        Change { conversation, ver, epoch: Epoch(1), ts_ms: 1, event }.into()
    }

    fn put(pending: &mut Pending, change: Recorded) -> Slot {
        let slot = pending.make_room(std::slice::from_ref(&change));
        pending.push(change, None);
        slot
    }

    #[test]
    fn a_frame_is_closed_when_it_is_full_and_the_next_slot_opened() {
        let mut pending = Pending::new(Epoch(1), Slot(7), 0);
        let slots: Vec<Slot> = (1..=9).map(|ver| put(&mut pending, change(ver, 16_000))).collect();
        assert_eq!(slots[..3], [Slot(7), Slot(7), Slot(7)]);
        assert_eq!(slots[8], pending.slot());
        assert!(pending.is_backed_up());
        let mut last = None;
        while let Some(frame) = pending.launch(5) {
            assert!(frame.to_bytes().len() <= LOG_FRAME_BYTES);
            last = Some(frame.slot);
        }
        assert_eq!(last, Some(slots[8]));
    }

    #[test]
    fn changes_of_user_streams_have_a_share_of_a_frame() {
        let mut pending = Pending::new(Epoch(1), Slot(0), 0);
        let mut notes = 0;
        while pending.has_room_for_notes() {
            let mut note = (*change(1, 100)).clone();
            note.conversation.kind = ConversationKind::User;
            put(&mut pending, note.into());
            notes += 1;
        }
        let bytes = pending.next_bytes();
        assert!(notes > 50 && bytes > LOG_FRAME_BYTES / 5 && bytes < LOG_FRAME_BYTES / 3);
        put(&mut pending, change(1, 100));
        assert_eq!(pending.launch(1).unwrap().changes.len(), notes + 1, "a message goes with them");
        assert!(pending.has_room_for_notes());
    }

    #[test]
    fn an_answer_leaves_with_its_slot_and_not_before() {
        let outbox = Arc::new(Outbox::new("r1/edge/1".parse().unwrap(), 9, 9));
        let reply = |rid| PendingReply { to: outbox.clone(), rid, outcome: Ok(Answer::Noted) };
        let mut pending = Pending::new(Epoch(1), Slot(0), 0);
        let first = put(&mut pending, change(1, 10));
        pending.reply_after(Some(first), reply(1));
        pending.launch(1);
        let second = put(&mut pending, change(2, 10));
        pending.reply_after(Some(second), reply(2));
        pending.reply_after(Some(first), reply(3));
        pending.reply_after(None, reply(4));
        assert_eq!(outbox.waiting(), 1);
        let committed = pending.commit().unwrap();
        assert_eq!(
            committed.on_commit.replies.iter().map(|reply| reply.rid).collect::<Vec<_>>(),
            [1, 3]
        );
        pending.reply_after(Some(first), reply(5));
        assert_eq!(outbox.waiting(), 2, "its slot is committed already");
        assert_eq!((pending.committed(), pending.changes()), (Slot(1), 1));
    }

    #[test]
    fn everybody_who_waits_can_be_answered_while_what_was_decided_goes_on() {
        let outbox = Arc::new(Outbox::new("r1/edge/1".parse().unwrap(), 9, 9));
        let reply = |rid| PendingReply { to: outbox.clone(), rid, outcome: Ok(Answer::Noted) };
        let mut pending = Pending::new(Epoch(1), Slot(0), 0);
        let first = put(&mut pending, change(1, 10));
        pending.reply_after(Some(first), reply(1));
        pending.launch(1);
        let second = put(&mut pending, change(2, 10));
        pending.reply_after(Some(second), reply(2));
        pending.give_up_waiting(&Refusal::new(wire::ErrorCode::HomeUnavailable, "full"));
        assert_eq!(outbox.waiting(), 2);
        assert!(pending.commit().unwrap().on_commit.replies.is_empty(), "nobody is answered twice");
        assert_eq!((pending.committed(), pending.changes()), (Slot(1), 1));
    }

    #[test]
    fn time_in_the_log_does_not_step_back() {
        let mut pending = Pending::new(Epoch(1), Slot(0), 45);
        put(&mut pending, change(1, 10));
        assert_eq!(pending.launch(40).unwrap().ts_ms, 45);
        put(&mut pending, change(2, 10));
        assert_eq!(pending.launch(50).unwrap().ts_ms, 50);
        put(&mut pending, change(3, 10));
        assert_eq!(pending.launch(40).unwrap().ts_ms, 50);
    }
}
