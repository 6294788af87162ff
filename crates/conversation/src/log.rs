//! What one slot of the shard log holds: a frame, which is one group commit.
//!
//! Its bytes start with a version and may end with fields of a later one, which are skipped. That
//! they are whole is the store's promise (it checksums what it keeps); that they are a frame is
//! checked here.

use bytes::Bytes;
use wire::change::Recorded;
use wire::codec::{self, Reader};
use wire::{Epoch, Position, Slot};

const VERSION: u8 = 2;

/// A row of the log as the store keeps it. The same frame always stands at the same place, however
/// often and by whom it is written again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogRow {
    /// Its key: the slot, and the epoch that first wrote it there.
    pub at: Position,
    /// [`LogFrame::to_bytes`].
    pub frame: Bytes,
}

/// One group commit of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFrame {
    /// The term that wrote it.
    pub epoch: Epoch,
    /// Where.
    pub slot: Slot,
    /// Its owner's wall clock, milliseconds since 1970, but never less than in the slot before
    /// ([`LogFrame::ts_after`]).
    pub ts_ms: u64,
    /// In the order in which they were decided.
    pub changes: Vec<Recorded>,
}

/// Bytes that are not a frame, or not the one that should stand here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFrameError {
    /// Nothing at all.
    #[error("empty log frame")]
    Empty,
    /// Written by a newer major version.
    #[error("log frame of version {version}; this node reads version {VERSION}")]
    Version {
        /// That version.
        version: u8,
    },
    /// Not the fields of a frame.
    #[error("malformed log frame")]
    Malformed,
    /// A good frame in the wrong row.
    #[error("log row {row:?} holds the frame of {frame:?}")]
    Misplaced {
        /// The row's key.
        row: Position,
        /// What the frame says of itself.
        frame: Position,
    },
}

impl LogFrame {
    /// The frame's place.
    #[must_use]
    pub fn at(&self) -> Position {
        Position { epoch: self.epoch, slot: self.slot }
    }

    /// The time to put on a frame written `now_ms` after one with `last_ts_ms`: clocks may step
    /// back, frames may not.
    #[must_use]
    pub fn ts_after(last_ts_ms: u64, now_ms: u64) -> u64 {
        now_ms.max(last_ts_ms)
    }

    /// The binary form.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let changes: usize = self.changes.iter().map(change_bytes).sum();
        let mut frame = Vec::with_capacity(FRAME_OVERHEAD_BYTES + changes);
        frame.push(VERSION);
        let fields = (self.epoch, self.slot, self.ts_ms, &self.changes);
        codec::write(&fields, &mut frame);
        Bytes::from(frame)
    }

    /// The inverse of [`LogFrame::to_bytes`]. Each change keeps its bytes. Fields of later minor
    /// versions at the end are skipped.
    ///
    /// # Errors
    /// When the bytes are not a frame of this version.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, LogFrameError> {
        type Fields<'a> = (Epoch, Slot, u64, Vec<&'a [u8]>);
        let (&version, rest) = bytes.split_first().ok_or(LogFrameError::Empty)?;
        if version != VERSION {
            return Err(LogFrameError::Version { version });
        }
        let (epoch, slot, ts_ms, changes): Fields<'_> =
            Reader::new(rest).fields().map_err(|_| LogFrameError::Malformed)?;
        let changes =
            changes.into_iter().map(|change| Recorded::from_bytes(bytes.slice_ref(change)));
        let changes = changes.collect::<Result<_, _>>().map_err(|_| LogFrameError::Malformed)?;
        Ok(Self { epoch, slot, ts_ms, changes })
    }

    /// The frame of a row, which must be the one that belongs there.
    ///
    /// # Errors
    /// When the bytes are not a frame, or the frame of another place.
    pub fn from_row(row: &LogRow) -> Result<Self, LogFrameError> {
        let frame = Self::from_bytes(&row.frame)?;
        if frame.at() == row.at {
            Ok(frame)
        } else {
            Err(LogFrameError::Misplaced { row: row.at, frame: frame.at() })
        }
    }
}

/// What a frame costs before its changes: a driver that fills frames up to a limit counts these and
/// [`change_bytes`].
pub const FRAME_OVERHEAD_BYTES: usize = 48;

/// What a change adds to a frame at most, bytes.
#[must_use]
pub fn change_bytes(change: &Recorded) -> usize {
    const LENGTH: usize = 4;
    LENGTH + change.bytes().len()
}

#[cfg(test)]
mod tests {
    use wire::change::{Change, Event, Left};
    use wire::codec::{Record as _, Unknown};
    use wire::{ConversationId, ConversationKind, Durability, RegionId, ShardId, ZoneId};

    use super::*;

    fn frame() -> LogFrame {
        let shard =
            ShardId { zone: ZoneId(1), home: RegionId(2), durability: Durability::Region, n: 3 };
        let conversation = ConversationId { kind: ConversationKind::User, shard, unique: [5; 16] };
        let change = |ver| Change {
            conversation,
            ver,
            epoch: Epoch(4),
            ts_ms: 1_000 + ver,
            event: Event::Left(Left { conversation, at_ver: ver }),
        };
        LogFrame {
            epoch: Epoch(4),
            slot: Slot(300),
            ts_ms: 1_002,
            changes: vec![change(1).into(), change(2).into()],
        }
    }

    #[test]
    fn a_frame_survives_its_bytes() {
        let bytes = frame().to_bytes();
        assert_eq!(LogFrame::from_bytes(&bytes), Ok(frame()));
        let estimate =
            FRAME_OVERHEAD_BYTES + frame().changes.iter().map(change_bytes).sum::<usize>();
        assert!(bytes.len() <= estimate);
    }

    #[test]
    fn fields_of_a_later_minor_version_are_skipped() {
        let mut bytes = frame().to_bytes().to_vec();
        bytes.extend_from_slice(b"later");
        assert_eq!(LogFrame::from_bytes(&bytes.into()), Ok(frame()));
    }

    /// `HEARTH_GOLDEN=write` writes the file anew.
    #[test]
    fn the_bytes_of_a_frame_stay() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/log_frame.hex");
        let hex: String =
            frame().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
        if std::env::var("HEARTH_GOLDEN").as_deref() == Ok("write") {
            std::fs::write(path, &hex).unwrap();
        }
        assert_eq!(hex, std::fs::read_to_string(path).unwrap());
    }

    #[test]
    fn events_of_a_newer_node_are_read_and_passed_on() {
        let [first, second] = &frame().changes[..] else { panic!("two changes") };
        let unknown = Event::Unknown(Unknown::new(4711, Bytes::from_static(b"of a newer node")));
        // A known kind with a field more than this version has.
        let mut fields = Vec::new();
        let Event::Left(left) = &second.event else { panic!("left") };
        left.write_fields(&mut fields);
        fields.extend_from_slice(b"later");
        let longer = Event::Unknown(Unknown::new(5, fields));
        let newer = LogFrame {
            changes: vec![
                Change { event: unknown, ..first.clone().into_change() }.into(),
                Change { event: longer, ..second.clone().into_change() }.into(),
            ],
            ..frame()
        };
        let read = LogFrame::from_bytes(&newer.to_bytes()).unwrap();
        assert_eq!(*read.changes[0], *newer.changes[0]);
        assert_eq!(*read.changes[1], **second, "the field that is not known is skipped");
        assert_eq!(read.changes, newer.changes, "and its bytes are kept");
        assert_eq!(read.to_bytes(), newer.to_bytes());
    }

    #[test]
    fn other_versions_and_cut_frames_are_refused() {
        let bytes = frame().to_bytes();
        assert_eq!(LogFrame::from_bytes(&Bytes::new()), Err(LogFrameError::Empty));
        let newer = [&[3], &bytes[1..]].concat();
        assert_eq!(LogFrame::from_bytes(&newer.into()), Err(LogFrameError::Version { version: 3 }));
        for cut in 1..bytes.len() {
            assert_eq!(
                LogFrame::from_bytes(&bytes.slice(..cut)),
                Err(LogFrameError::Malformed),
                "{cut}"
            );
        }
    }

    #[test]
    fn a_frame_in_the_wrong_row_is_refused() {
        let (at, frame) = (frame().at(), frame().to_bytes());
        assert!(LogFrame::from_row(&LogRow { at, frame: frame.clone() }).is_ok());
        let row = Position { slot: Slot(301), ..at };
        let misplaced = LogFrameError::Misplaced { row, frame: at };
        assert_eq!(LogFrame::from_row(&LogRow { at: row, frame }), Err(misplaced));
    }

    #[test]
    fn the_time_of_frames_never_falls() {
        assert_eq!((LogFrame::ts_after(10, 7), LogFrame::ts_after(10, 12)), (10, 12));
    }
}
