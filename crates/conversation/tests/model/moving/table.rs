//! What frames mean to those who read, as a store would keep it: of each row the one with the highest stamp.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use hearth_conversation::dedupe::Seen;
use hearth_conversation::log::LogFrame;
use hearth_conversation::projection::{Row, project};
use hearth_conversation::sequencer::LoadedConversation;
use wire::change::Change;
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
    key: (u8, u64),
    stamp: Position,
    row: Row,
    fingerprint: u64,
}

impl Frame {
    /// `by_place`: a mutant's stamps, which are the frame's place.
    pub(super) fn new(log: LogFrame, by_place: bool) -> Rc<Self> {
        let stamped = project(&log)
            .into_iter()
            .flat_map(|(stamp, rows)| rows.into_iter().map(move |row| (stamp, row)));
        let cell = |(stamp, row): (Position, Row)| {
            let stamp = if by_place { log.at() } else { stamp };
            let fingerprint = xxh3_64(format!("{stamp:?} {row:?}").as_bytes());
            Cell { key: key(&row), stamp, row, fingerprint }
        };
        let rows = stamped.map(cell).collect();
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

fn key(row: &Row) -> (u8, u64) {
    let named = |name: &str| xxh3_64(name.as_bytes());
    match row {
        Row::Facts(_) => (0, 0),
        Row::Head(_) => (1, 0),
        Row::LastMessage(_) => (2, 0),
        Row::Home(_) => (3, 0),
        Row::Member(row) => (4, named(row.user.as_str())),
        Row::Role(row) => (5, named(row.user.as_str())),
        Row::ReadCursor(row) => (6, named(row.user.as_str())),
        Row::Dedupe(row) => (7, named(row.client_msg_id.as_str())),
        Row::Message(row) => (8, row.seq),
        Row::Change(row) => (9, row.ver),
        Row::Inbox(_) => unreachable!("no user's stream here"),
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    cells: BTreeMap<(u8, u64), Cell>,
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
            .filter(|cell| matches!(cell.row, Row::Dedupe(_)))
            .for_each(|cell| self.write(cell));
    }

    fn write(&mut self, cell: &Cell) {
        let there = self.cells.get(&cell.key);
        if there.is_some_and(|there| there.stamp > cell.stamp) {
            return;
        }
        self.fingerprint ^= cell.fingerprint ^ there.map_or(0, |there| there.fingerprint);
        self.cells.insert(cell.key, cell.clone());
    }

    pub(super) fn load(&self) -> LoadedConversation {
        let mut loaded = LoadedConversation::default();
        for cell in self.cells.values() {
            match cell.row.clone() {
                Row::Facts(row) => loaded.facts = Some(row),
                Row::Head(row) => loaded.head = Some(row),
                Row::LastMessage(row) => loaded.last_message = Some(row),
                Row::Home(row) => loaded.placement = Some(row),
                Row::Member(row) => loaded.members.push(row),
                Row::Role(row) => loaded.roles.push(row),
                _ => {}
            }
        }
        loaded
    }

    /// As far as there is one behind the other, with their places.
    pub(super) fn changes(&self) -> Vec<(Position, Change)> {
        let rows = self.cells.values().filter_map(|cell| match &cell.row {
            Row::Change(row) => Some((row.at, Change::from_bytes(&row.change).expect("a change"))),
            _ => None,
        });
        rows.collect()
    }

    pub(super) fn seen(&self, client_msg_id: &ClientMsgId) -> Option<Seen> {
        match &self.cells.get(&(7, xxh3_64(client_msg_id.as_str().as_bytes())))?.row {
            Row::Dedupe(row) => Some(row.seen),
            _ => None,
        }
    }

    /// What differs between two: only of interest when they should be the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}
