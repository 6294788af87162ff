//! Reads fjall's journals before fjall does, and changes nothing.
//!
//! fjall's own recovery cuts a journal at the first entry that it cannot read and says nothing;
//! this reader knows what should have been there. It understands format 3 of fjall (`fjall 3.1`),
//! which the `version` file names:
//!
//! ```text
//! batch := 1, items u32, seqno u64;  item*;  3, xxh3-64 of the item bytes, "FJL\3"        (integers little endian)
//! item  := 2, value type u8, compression u8, keyspace u64, key length u16, length u32, length on disk u32, key, value
//! ```
//!
//! The file is preallocated: zeros follow the last batch. Every batch of ours ends with a
//! [`Commit`] record.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{fs, io};

use xxhash_rust::xxh3::xxh3_64;

use super::commit::{Commit, KEY};

const BATCH_HEAD: usize = 13;
const ITEM_HEAD: usize = 21;
const BATCH_END: usize = 13;
const MAGIC: &[u8; 4] = b"FJL\x03";

/// A key and value that stand in a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) keyspace: u64,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// One journal file.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) path: PathBuf,
    /// Whole batches from the start of the file, in order.
    pub(super) commits: Vec<Commit>,
    /// Where the last of them ends.
    pub(super) valid_end: u64,
    /// What stands there: none when the rest is zeros or nothing.
    pub(super) broken: Option<&'static str>,
    /// Bytes from there to the last one that is not zero.
    pub(super) broken_bytes: u64,
    /// Whole batches behind the broken place.
    pub(super) later: Vec<Commit>,
}

/// All journals of a database, oldest first.
pub(super) fn read_all(database: &Path) -> io::Result<Vec<Journal>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "jnl")
            && let Some(number) =
                path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok())
        {
            files.push((number, path));
        }
    }
    files.sort();
    files.into_iter().map(|(_, path)| read(path)).collect()
}

fn read(path: PathBuf) -> io::Result<Journal> {
    let bytes = fs::read(&path)?;
    let bytes = without_zeros(&bytes);
    let mut commits = Vec::new();
    let mut at = 0;
    let mut seqno = None;
    let broken = loop {
        if at >= bytes.len() {
            break None;
        }
        match batch(bytes, at) {
            Ok(batch) if seqno.is_some_and(|before| batch.seqno <= before) => {
                break Some("a batch out of order");
            }
            Ok(batch) => {
                seqno = Some(batch.seqno);
                commits.push(batch.commit);
                at = batch.end;
            }
            Err(why) => break Some(why),
        }
    };
    let later = if broken.is_some() {
        islands(bytes, at).map(|batch| batch.commit).collect()
    } else {
        Vec::new()
    };
    let broken_bytes = (bytes.len() - at.min(bytes.len())) as u64;
    Ok(Journal { path, commits, valid_end: at as u64, broken, broken_bytes, later })
}

/// What can still be read behind `valid_end`: items of whole batches, and of broken ones those that
/// are `whole` by their own checksum.
pub(super) fn salvage(
    path: &Path,
    valid_end: u64,
    whole: impl Fn(&[u8], &[u8]) -> bool,
) -> io::Result<Vec<Item>> {
    let bytes = fs::read(path)?;
    let bytes = without_zeros(&bytes);
    let mut items = Vec::new();
    let mut at = usize::try_from(valid_end).unwrap_or(usize::MAX);
    while at < bytes.len() {
        match item(bytes, at) {
            Ok((found, end)) if whole(&bytes[found.key.clone()], &bytes[found.value.clone()]) => {
                items.push(found.to_item(bytes));
                at = end;
            }
            // A batch's head or end, or damage. One byte on, an item may start.
            _ => at += 1,
        }
    }
    Ok(items)
}

/// Every batch ends in a byte that is not zero.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1)]
}

struct Batch {
    seqno: u64,
    commit: Commit,
    end: usize,
}

struct Place {
    keyspace: u64,
    key: Range<usize>,
    value: Range<usize>,
}

impl Place {
    fn to_item(&self, bytes: &[u8]) -> Item {
        Item {
            keyspace: self.keyspace,
            key: bytes[self.key.clone()].into(),
            value: bytes[self.value.clone()].into(),
        }
    }
}

fn batch(bytes: &[u8], at: usize) -> Result<Batch, &'static str> {
    let head = bytes.get(at..at + BATCH_HEAD).ok_or("a batch that ends in its head")?;
    if head[0] != 1 {
        return Err("bytes that do not start a batch");
    }
    let count = u32_at(head, 1);
    let seqno = u64_at(head, 5);
    let first = at + BATCH_HEAD;
    let mut end = first;
    let mut last = None;
    for _ in 0..count {
        let (place, after) = item(bytes, end)?;
        last = Some(place);
        end = after;
    }
    let tail = bytes.get(end..end + BATCH_END).ok_or("a batch without its end")?;
    if tail[0] != 3 || &tail[9..] != MAGIC {
        return Err("a batch without its end");
    }
    if u64_at(tail, 1) != xxh3_64(&bytes[first..end]) {
        return Err("a batch whose checksum does not match");
    }
    let last = last.ok_or("an empty batch")?;
    if &bytes[last.key.clone()] != KEY {
        return Err("a batch without its number");
    }
    let commit = Commit::from_bytes(&bytes[last.value]).ok_or("a batch without its number")?;
    Ok(Batch { seqno, commit, end: end + BATCH_END })
}

fn item(bytes: &[u8], at: usize) -> Result<(Place, usize), &'static str> {
    const CUT: &str = "an item that is cut short";
    let head = bytes.get(at..at + ITEM_HEAD).ok_or(CUT)?;
    if head[0] != 2 || head[1] > 4 || head[2] != 0 {
        return Err("bytes that do not start an item");
    }
    let (key, value, on_disk) = (u16_at(head, 11) as usize, u32_at(head, 13), u32_at(head, 17));
    if value != on_disk {
        return Err("an item whose lengths disagree");
    }
    let key = at + ITEM_HEAD..at + ITEM_HEAD + key;
    let value = key.end..key.end + value as usize;
    if value.end > bytes.len() {
        return Err(CUT);
    }
    let end = value.end;
    Ok((Place { keyspace: u64_at(head, 3), key, value }, end))
}

/// Whole batches at or behind `from`.
fn islands(bytes: &[u8], from: usize) -> impl Iterator<Item = Batch> + '_ {
    let mut at = from;
    std::iter::from_fn(move || {
        loop {
            let start = at + bytes.get(at..)?.iter().position(|&b| b == 1)?;
            match batch(bytes, start) {
                Ok(batch) => {
                    at = batch.end;
                    return Some(batch);
                }
                Err(_) => at = start + 1,
            }
        }
    })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::{Epoch, Position, Slot};

    use super::super::engine::{Engine, Sizes};
    use super::*;
    use crate::cell::{self, Cell, Table};

    const COMMITS: u64 = 12;

    fn row(n: u64) -> Cell {
        let stamp = Position { epoch: Epoch(1), slot: Slot(n) };
        Cell::new(
            Table::Log,
            vec![0, 1, 2, n as u8],
            stamp,
            format!("row {n} of the log").as_bytes(),
        )
    }

    /// The journal of a closed database with twelve commits of two rows each.
    fn written(dir: &Path) -> PathBuf {
        let sizes = Sizes { cache_bytes: 1 << 20, memtable_bytes: 1 << 20 };
        let (engine, closed) = Engine::open(dir, sizes).unwrap();
        for number in 1..=COMMITS {
            let mut batch = engine.batch(3);
            for cell in [row(2 * number), row(2 * number + 1)] {
                batch.insert(&cell);
            }
            batch.commit(Commit { number, synced_before: number - 1 }, true).unwrap();
        }
        drop(engine);
        closed.wait_blocking(std::time::Duration::from_secs(10));
        dir.join("0.jnl")
    }

    fn numbers(commits: &[Commit]) -> Vec<u64> {
        commits.iter().map(|commit| commit.number).collect()
    }

    fn whole(key: &[u8], value: &[u8]) -> bool {
        cell::peek(key, value).is_ok()
    }

    #[test]
    fn what_fjall_wrote_is_read_and_every_commit_has_its_number() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path());
        let journals = read_all(dir.path()).unwrap();
        let [journal] = &journals[..] else { panic!("{journals:?}") };
        assert_eq!(numbers(&journal.commits), (1..=COMMITS).collect::<Vec<_>>());
        assert_eq!((journal.broken, journal.later.len()), (None, 0));
        assert_eq!(salvage(&journal.path, 0, whole).unwrap().len(), 2 * COMMITS as usize);
    }

    #[test]
    fn wherever_a_bit_flips_the_commits_before_it_and_behind_it_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        let original = std::fs::read(&path).unwrap();
        let used = without_zeros(&original).to_vec();
        let copy = dir.path().join("damaged");
        // Offsets at which fjall's fields of every kind stand, one batch long.
        let batch_bytes = used.len() / COMMITS as usize;
        for place in 3 * batch_bytes..4 * batch_bytes {
            let mut bytes = used.clone();
            bytes[place] ^= 0x10;
            std::fs::write(&copy, &bytes).unwrap();
            let journal = read(copy.clone()).unwrap();
            let found = [numbers(&journal.commits), numbers(&journal.later)].concat();
            assert!(journal.commits.len() >= 3 && found.is_sorted(), "byte {place}: {journal:?}");
            // A flip in a sequence number is either out of order or does no harm.
            assert!(found.len() >= COMMITS as usize - 1, "byte {place}: {found:?}");
            if journal.broken.is_some() {
                let saved = salvage(&copy, journal.valid_end, whole).unwrap().len();
                let behind = 2 * (COMMITS as usize - journal.commits.len());
                assert!(saved + 1 >= behind, "byte {place}: {saved} of {behind}");
            }
        }
    }

    /// Why this reader exists. When this test fails, fjall has become more careful, and so may we.
    #[test]
    fn fjall_alone_forgets_in_silence_what_stands_behind_a_flipped_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        let mut bytes = std::fs::read(&path).unwrap();
        let start_of_the_fourth = (0..3).fold(0, |at, _| batch(&bytes, at).ok().unwrap().end);
        bytes[start_of_the_fourth] ^= 0x10;
        std::fs::write(&path, &bytes).unwrap();
        let sizes = Sizes { cache_bytes: 1 << 20, memtable_bytes: 1 << 20 };
        let (engine, _) = Engine::open(dir.path(), sizes).unwrap();
        assert_eq!(engine.last_commit().unwrap().number, 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn garbage_is_never_a_panic_and_never_a_commit(bytes in proptest::collection::vec(0..5u8, 0..400)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("0.jnl");
            std::fs::write(&path, &bytes).unwrap();
            let journal = read(path.clone()).unwrap();
            prop_assert!(journal.commits.is_empty() && journal.later.is_empty());
            prop_assert!(salvage(&path, 0, whole).unwrap().is_empty());
        }
    }
}
