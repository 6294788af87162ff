//! What frames mean to those who read, as a store would keep it: of each row the one with the
//! highest stamp.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use hearth_conversation::dedupe::Seen;
use hearth_conversation::log::LogFrame;
use hearth_conversation::projection::{
    ChangeEntry, ChangeRow, ClusteringKey, DedupeRow, Kind, MessageRow, RowId, StampedRow, What,
    project,
};
use hearth_conversation::sequencer::LoadedConversation;
use wire::change::{Change, Recorded};
use wire::{ClientMsgId, Position};
use xxhash_rust::xxh3::xxh3_64;

/// A frame of a log, with what is asked of it again and again.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) log: LogFrame,
    rows: Vec<Cell>,
    fingerprint: u64,
}

#[derive(Clone, Debug)]
struct Cell {
    row: StampedRow,
    fingerprint: u64,
}

impl Frame {
    /// `by_place`: a mutant's stamps, which are the frame's place.
    pub(super) fn new(log: LogFrame, by_place: bool) -> Rc<Self> {
        let cell = |mut row: StampedRow| {
            if by_place {
                row.stamp = log.at();
            }
            let fingerprint = xxh3_64(format!("{row:?}").as_bytes());
            Cell { row, fingerprint }
        };
        let rows = project(&log).into_iter().map(cell).collect();
        let fingerprint = xxh3_64(&log.to_bytes());
        Rc::new(Self { log, rows, fingerprint })
    }

    /// Every frame of this model holds one change.
    pub(super) fn change(&self) -> &Change {
        &self.log.changes[0]
    }
}

impl Hash for Frame {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    cells: BTreeMap<RowId, Cell>,
    fingerprint: u64,
}

impl Hash for Table {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

impl Table {
    pub(super) fn of<'a>(frames: impl IntoIterator<Item = &'a Rc<Frame>>) -> Self {
        let mut table = Self::default();
        frames.into_iter().for_each(|frame| table.project(frame));
        table
    }

    pub(super) fn project(&mut self, frame: &Frame) {
        frame.rows.iter().for_each(|cell| self.write(cell));
    }

    /// Only what became of sends: these rows may get somewhere before those of the log.
    pub(super) fn project_sends(&mut self, frame: &Frame) {
        frame
            .rows
            .iter()
            .filter(|cell| cell.row.id.kind == Kind::Dedupe)
            .for_each(|cell| self.write(cell));
    }

    fn write(&mut self, cell: &Cell) {
        let there = self.cells.get(&cell.row.id);
        if there.is_some_and(|there| there.row.stamp > cell.row.stamp) {
            return;
        }
        self.fingerprint ^= cell.fingerprint ^ there.map_or(0, |there| there.fingerprint);
        self.cells.insert(cell.row.id.clone(), cell.clone());
    }

    pub(super) fn load(&self) -> LoadedConversation {
        let mut loaded = LoadedConversation::default();
        for cell in self.cells.values() {
            loaded.add(cell.row.id.kind, &cell.row.value).expect("a row of this version");
        }
        loaded
    }

    /// As far as there is one behind the other, with their places.
    pub(super) fn changes(&self) -> Vec<(Position, Recorded)> {
        let entries = self.cells.values().filter_map(|cell| cell.row.read::<ChangeRow>());
        let whole = |entry: ChangeEntry| match entry.what {
            What::Change(change) => (entry.at, *change),
            What::Message(seq) => (entry.at, self.message(seq)),
        };
        entries.map(whole).collect()
    }

    fn message(&self, seq: u64) -> Recorded {
        let key = ClusteringKey::Number(seq);
        let is_it = |cell: &&Cell| (cell.row.id.kind, &cell.row.id.key) == (Kind::Message, &key);
        let found = self.cells.values().find(is_it).expect("projected with its change");
        found.row.read::<MessageRow>().expect("a row of this version")
    }

    pub(super) fn seen(&self, client_msg_id: &ClientMsgId) -> Option<Seen> {
        let key = ClusteringKey::Send(client_msg_id.clone());
        let cell = self.cells.values().find(|cell| cell.row.id.key == key)?;
        cell.row.read::<DedupeRow>()
    }

    /// What differs between two: only of interest when they should be the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}
