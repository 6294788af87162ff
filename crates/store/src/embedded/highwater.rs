//! The side file that remembers how far a replica's commits had come, so that a journal that ends
//! too early is noticed.
//!
//! fjall ends its recovery silently at the first bytes that are not a journal entry, and cuts the
//! file there. After a power cut that is right. After a flipped bit it would drop every commit
//! behind it, acknowledged or not. So every commit has a number ([`super::commit`]), and before a
//! commit is acknowledged its number stands here.
//!
//! The file is written after every synced commit, but itself fsynced only about once a second and
//! at the close: a process that is killed leaves it exact; a machine that loses power leaves it up
//! to a second old, never too new. What an old one fails to prove, later commits in the journal do
//! (each says how far all before it were synced); what nobody can prove is only the damage of the
//! very last second before a power cut.
//!
//! Two copies are written in turn, each with its checksum: a torn write spoils one.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wire::{Durability, ZoneId};
use xxhash_rust::xxh3::xxh3_64;

const COPY_BYTES: u64 = 4096;
const MAGIC: u64 = u64::from_be_bytes(*b"HEARTHW1");
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HighWaterMark {
    /// Grows with every write of the file: of two copies the higher is newer.
    pub(super) turn: u64,
    /// How often this data directory was opened. Ranks conditional writes.
    pub(super) boot: u64,
    /// The last commit that was synced, and so may have been acknowledged.
    pub(super) synced: u64,
    /// Commits up to here need not be in the journal: they were vouched for when damage was
    /// repaired.
    pub(super) floor: u64,
    /// A repair was begun and not ended: what is here is not all that was acknowledged here.
    pub(super) incomplete: bool,
    /// It was closed in order, and no copy had failed to come.
    pub(super) clean: bool,
    /// The last synced commit with something of this zone and class that this replica must not
    /// lose.
    pub(super) last: BTreeMap<(ZoneId, Durability), u64>,
}

/// The open file.
#[derive(Debug)]
pub(super) struct HighWaterFile {
    file: File,
    mark: HighWaterMark,
    synced_at: Instant,
    dirty: bool,
}

/// What was found in the file.
#[derive(Debug)]
pub(super) enum Found {
    /// There is no file.
    Nothing,
    /// There is one, and no copy in it is whole.
    Unreadable,
    /// The newer of the whole copies.
    Mark(HighWaterMark),
}

impl HighWaterFile {
    /// Reads without changing anything.
    pub(super) fn read(path: &Path) -> io::Result<Found> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        let copies = bytes.chunks(COPY_BYTES as usize).filter_map(parse);
        Ok(copies.max_by_key(|mark| mark.turn).map_or(Found::Unreadable, Found::Mark))
    }

    /// Opens or creates the file, and makes it say `mark` durably.
    pub(super) fn open(path: &Path, mark: HighWaterMark) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut this = Self { file, mark, synced_at: Instant::now(), dirty: false };
        this.rewrite(|_| {})?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(this)
    }

    pub(super) fn mark(&self) -> &HighWaterMark {
        &self.mark
    }

    /// Which file it is, as the file system counts them.
    pub(super) fn identity(&self) -> io::Result<(u64, u64)> {
        self.file.metadata().map(|file| (file.dev(), file.ino()))
    }

    /// A commit was synced. To be called before it is acknowledged.
    pub(super) fn raise(
        &mut self,
        synced: u64,
        held: impl Iterator<Item = (ZoneId, Durability)>,
    ) -> io::Result<()> {
        self.mark.synced = synced;
        for key in held {
            self.mark.last.insert(key, synced);
        }
        self.write()?;
        if self.synced_at.elapsed() >= SYNC_EVERY { self.sync() } else { Ok(()) }
    }

    /// Changes anything else, durably.
    pub(super) fn rewrite(&mut self, change: impl FnOnce(&mut HighWaterMark)) -> io::Result<()> {
        change(&mut self.mark);
        self.write()?;
        self.sync()
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.dirty = false;
        }
        self.synced_at = Instant::now();
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        self.mark.turn += 1;
        let body = postcard::to_stdvec(&self.mark).expect("plain data in memory always serializes");
        let mut out = Vec::with_capacity(body.len() + 20);
        out.extend_from_slice(&MAGIC.to_be_bytes());
        out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&body);
        out.extend_from_slice(&xxh3_64(&body).to_be_bytes());
        if out.len() as u64 > COPY_BYTES {
            return Err(io::Error::other("more zones than the high-water file has room for"));
        }
        self.dirty = true;
        self.file.write_all_at(&out, (self.mark.turn % 2) * COPY_BYTES)
    }
}

fn parse(copy: &[u8]) -> Option<HighWaterMark> {
    let (magic, rest) = copy.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (body, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let sum = rest.first_chunk::<8>()?;
    let whole = u64::from_be_bytes(*magic) == MAGIC && u64::from_be_bytes(*sum) == xxh3_64(body);
    if whole { postcard::from_bytes(body).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(found: Found) -> HighWaterMark {
        match found {
            Found::Mark(mark) => mark,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_written_is_read_and_one_spoilt_copy_costs_one_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("commits");
        assert!(matches!(HighWaterFile::read(&path).unwrap(), Found::Nothing));
        let mut file = HighWaterFile::open(&path, HighWaterMark::default()).unwrap();
        let zone = (ZoneId(4), Durability::Region);
        file.raise(6, [zone].into_iter()).unwrap();
        file.raise(7, std::iter::empty()).unwrap();
        let read = mark(HighWaterFile::read(&path).unwrap());
        assert_eq!((read.synced, read.last[&zone]), (7, 6));

        let mut bytes = std::fs::read(&path).unwrap();
        let newer = ((read.turn % 2) * COPY_BYTES) as usize;
        bytes[newer + 14] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(mark(HighWaterFile::read(&path).unwrap()).synced, 6);
        bytes[(COPY_BYTES as usize - newer) + 14] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(HighWaterFile::read(&path).unwrap(), Found::Unreadable));
    }
}
