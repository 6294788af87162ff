//! How a conversation moves from one shard to another while people write in it (rules M1-M6 of
//! DESIGN 3.8).
//!
//! The owner of the old shard commits [`Event::MovedOut`](wire::change::Event::MovedOut), and from
//! its append on decides nothing more for the conversation. When everything up to that change can
//! be read at the destination, the [`Mover`] offers the conversation to the owner of the new shard.
//! That owner reads it from the projections, commits
//! [`Event::MovedIn`](wire::change::Event::MovedIn) and serves. Only then do clients of the old
//! shard hear where it is; until then they wait. A later owner of the old shard continues the move.
//! The old shard keeps a stub for ever: that the conversation moved, how often, and where to.
//!
//! | rule | where |
//! |---|---|
//! | M1 nothing is decided behind `MovedOut` | [`Location::serves`], asked by every decision |
//! | M2 every later owner goes on; the destination accepts a transfer once | [`Mover`], `Conversation::admit` |
//! | M3 nothing is accepted before all of it can be read there | [`Mover::reach`], and `Conversation::admit` checks itself |
//! | M4 epoch, time and the stamps of rows grow | [`Location::visible`], `MovedIn::epoch_base`, [`crate::projection::project`] |
//! | M5 single-region: every region has `MovedOut`, then `MovedIn` | [`Mover::reach`], [`Mover::transfer_accepted`] |
//! | M6 delivery by `ver`, the highest generation wins | [`crate::edge_cursor`], [`supersedes`] |
//!
//! What a send became in an earlier shard is looked up where it was projected. The starts of that
//! shard judge whether the row counts; a single-region conversation takes them along
//! ([`Location::counts`], R4).

pub mod mover;
pub mod order;
pub mod redirects;

use serde::{Deserialize, Serialize};
use wire::change::{Change, Home, MovedIn, MovedOut, Tenure};
use wire::command::Refusal;
use wire::limits::DEDUPE_MS;
use wire::{Durability, Epoch, ErrorCode, Position, ShardId, Slot};

use crate::dedupe::Seen;
use crate::shard::Starts;

pub use mover::{Mover, Offer};

/// Tenures that a single-region conversation takes along. It may move this often within the time
/// for which sends are remembered.
pub const TENURES_MAX: usize = 8;
/// Terms of a single-region shard that a conversation can take along.
pub const STARTS_MAX: usize = 128;
/// Above this epoch, as clients see it, a conversation moves no more: stores keep some 22 bits of
/// it.
pub const EPOCH_TO_MOVE_MAX: Epoch = Epoch(1 << 20);

/// What a decision depends on beside the conversation.
#[derive(Clone, Copy, Debug)]
pub struct DecisionContext<'a> {
    /// The owner's wall clock, milliseconds since 1970.
    pub now_ms: u64,
    /// The shard that the deciding core owns.
    pub shard: ShardId,
    pub epoch: Epoch,
    /// Starts of all sealed epochs of the shard, this term's included.
    pub starts: &'a Starts,
}

/// The shard of a conversation, and what it has taken along.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Location {
    /// The shard it is in, or moves to.
    pub placement: Home,
    /// Whether it has arrived. Until then nobody decides anything for it.
    pub arrived: bool,
    /// The epoch that clients see is this plus that of the shard.
    pub epoch_base: Epoch,
    /// See [`MovedOut::tenures`].
    pub tenures: Vec<Tenure>,
}

impl Location {
    /// A conversation that never moved.
    #[must_use]
    pub fn born_in(shard: ShardId) -> Self {
        Self {
            placement: Home { generation: 0, shard },
            arrived: true,
            epoch_base: Epoch(0),
            tenures: Vec::new(),
        }
    }

    /// The location after it has left.
    #[must_use]
    pub fn left(change: &Change, out: &MovedOut) -> Self {
        Self {
            placement: out.to,
            arrived: false,
            epoch_base: change.epoch,
            tenures: out.tenures.clone(),
        }
    }

    /// The location after it has arrived.
    #[must_use]
    pub fn came(moved: &MovedIn) -> Self {
        Self {
            placement: moved.here,
            arrived: true,
            epoch_base: moved.epoch_base,
            tenures: moved.tenures.clone(),
        }
    }

    /// Whether the owner of this shard decides for it.
    #[must_use]
    pub fn serves(&self, shard: ShardId) -> bool {
        self.arrived && self.placement.shard == shard
    }

    /// An epoch of its shard as clients see it. After a move every epoch is higher than all before
    /// it.
    #[must_use]
    pub fn visible(&self, epoch: Epoch) -> Epoch {
        Epoch(self.epoch_base.0.saturating_add(epoch.0))
    }

    /// Whether clients may be told where it is, judging from the projections. For single-region
    /// durability, a lost region may take back a move that has not arrived, so it is told only on
    /// arrival: only then every region has it. Until then, read it again.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.arrived || self.placement.shard.durability == Durability::MultiRegion
    }

    /// Whether a dedupe row is of a frame that counts (R4), by the starts of the shard in which it
    /// was decided. `starts` are those of its present shard.
    #[must_use]
    pub fn counts(&self, seen: &Seen, starts: &Starts) -> bool {
        if seen.epoch > self.epoch_base {
            return starts.owns(seen.at);
        }
        // None: the shard never forks, or the tenure is so old that it is no longer remembered.
        self.stay_of(seen.epoch).is_none_or(|(_, stay)| owned_then(stay, seen.at))
    }

    /// The tenure in which an epoch was seen, by number.
    fn stay_of(&self, epoch: Epoch) -> Option<(usize, &Tenure)> {
        self.tenures.iter().enumerate().find(|(_, stay)| stay.after < epoch && epoch <= stay.until)
    }

    /// The shard whose starts judge whether its rows count: the present one, or the one it left
    /// last. Everything decided in earlier shards is settled.
    #[must_use]
    pub fn judge(&self) -> ShardId {
        let left = self.tenures.last().filter(|_| !self.arrived).map(|stay| stay.shard);
        left.unwrap_or(self.placement.shard)
    }

    /// Whether a row with this [`stamp`] counts (R4), for single-region durability. `starts` are
    /// those of the [judge](Self::judge)'s shard. None when it was decided so long ago that it is
    /// no longer remembered.
    #[must_use]
    pub(crate) fn row_counts(&self, stamp: Position, starts: &Starts) -> Option<bool> {
        let within =
            |base: Epoch| Position { epoch: Epoch(stamp.epoch.0 - base.0), slot: stamp.slot };
        if self.arrived && (stamp.epoch > self.epoch_base || self.tenures.is_empty()) {
            return Some(starts.is_current_or_newer(within(self.epoch_base)));
        }
        let (index, stay) = self.stay_of(stamp.epoch)?;
        let is_judge = !self.arrived && index + 1 == self.tenures.len();
        let at = within(stay.after);
        Some(if is_judge { starts.is_current_or_newer(at) } else { owned_then(stay, at) })
    }

    /// What it takes along when it leaves for `to`. `epoch` is that of its last change as clients
    /// see it.
    pub(crate) fn leave(
        &self,
        moment: DecisionContext<'_>,
        epoch: Epoch,
        to: ShardId,
        head_seq: u64,
    ) -> Result<MovedOut, Refusal> {
        let from = self.placement.shard;
        if (to.zone, to.durability) != (from.zone, from.durability) {
            let message = format!(
                "to: {to} is not of the zone and the class of {from}; give a shard that is"
            );
            return Err(Refusal::new(ErrorCode::BadRequest, message));
        }
        if epoch > EPOCH_TO_MOVE_MAX {
            let message = format!("its epoch is over {}: it moves no more", EPOCH_TO_MOVE_MAX.0);
            return Err(Refusal::new(ErrorCode::BadRequest, message));
        }
        let mut tenures = Vec::new();
        if from.durability == Durability::Region {
            tenures.extend(self.tenures.iter().cloned());
            let starts: Vec<(Epoch, Slot)> = moment.starts.iter().collect();
            if starts.len() > STARTS_MAX {
                let message = format!(
                    "{from} has had more than {STARTS_MAX} terms: what leaves it cannot take them along"
                );
                return Err(Refusal::new(ErrorCode::BadRequest, message));
            }
            tenures.push(Tenure {
                shard: from,
                after: self.epoch_base,
                until: epoch,
                ended_ts_ms: moment.now_ms,
                starts,
            });
            let oldest = if tenures.len() > TENURES_MAX { Some(tenures.remove(0)) } else { None };
            if let Some(oldest) =
                oldest.filter(|stay| moment.now_ms.saturating_sub(stay.ended_ts_ms) <= DEDUPE_MS)
            {
                let mut refusal =
                    Refusal::new(ErrorCode::RateLimited, "it has moved too often of late");
                let wait_ms = (oldest.ended_ts_ms + DEDUPE_MS + 1).saturating_sub(moment.now_ms);
                refusal.retry_after_ms = Some(wait_ms);
                return Err(refusal);
            }
        }
        Ok(MovedOut {
            to: Home { generation: self.placement.generation + 1, shard: to },
            head_seq,
            tenures,
        })
    }
}

/// Whether this place of the tenure's shard counted when the tenure ended.
fn owned_then(stay: &Tenure, at: Position) -> bool {
    Starts::from_iter(stay.starts.iter().copied()).owns(at)
}

/// Whether a home that was heard of replaces the known one (M6). Answers of different shards come
/// in any order.
#[must_use]
pub fn supersedes(heard: Home, known: Option<Home>) -> bool {
    known.is_none_or(|known| heard.generation > known.generation)
}

/// The stamp of the rows of a change whose frame is at `at`. It is not the frame's own place: rows
/// of a conversation are written from the logs of all shards it has been in, and only the epoch
/// that clients see ranks them all. Where a conversation never moved, the two are the same.
#[must_use]
pub fn stamp(change: &Change, at: Position) -> Position {
    Position { epoch: change.epoch, slot: at.slot }
}

#[cfg(test)]
mod tests;
