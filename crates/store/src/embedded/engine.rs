//! One replica's fjall database, as tables of cells.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use bytes::Bytes;
use fjall::config::CompressionPolicy;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode,
};
use tokio::sync::watch;

use super::commit::{self, Commit};
use super::versions;
use crate::cell::{self, Cell, Stored, Table};
use crate::quorum::{ReplicaError, Scan};

/// Over this, fjall writes out the tables that keep the oldest journals alive. A start reads all
/// journals.
const JOURNAL_BYTES: u64 = 96 * 1024 * 1024;

/// How long a new database may take to close.
const CLOSE_WAIT: Duration = Duration::from_secs(10);

/// See [`super::EmbeddedOptions`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) cache_bytes: u64,
    pub(super) memtable_bytes: u64,
}

/// An open database. Dropping the last reference closes it.
pub(super) struct Engine {
    db: Database,
    tables: [Keyspace; 5],
    commits: Keyspace,
    /// Dropped last: says that the files are free.
    _open: (watch::Sender<()>, mpsc::SyncSender<()>),
}

/// Ends when a database has been closed.
#[derive(Clone)]
pub(super) struct Closed {
    // Nothing is ever sent on either: they err when their senders are gone.
    waiting: watch::Receiver<()>,
    blocking: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Closed {
    pub(super) async fn wait(mut self) {
        while self.waiting.changed().await.is_ok() {}
    }

    /// Blocks, at most so long. Whether it has been closed.
    pub(super) fn wait_blocking(&self, longest: Duration) -> bool {
        let blocking = self.blocking.lock().unwrap_or_else(PoisonError::into_inner);
        blocking.recv_timeout(longest) == Err(mpsc::RecvTimeoutError::Disconnected)
    }

    /// Of what never was open.
    pub(super) fn already() -> Self {
        Self::pair().1
    }

    fn pair() -> ((watch::Sender<()>, mpsc::SyncSender<()>), Self) {
        let (open, waiting) = watch::channel(());
        let (open_too, blocking) = mpsc::sync_channel(0);
        ((open, open_too), Self { waiting, blocking: Arc::new(Mutex::new(blocking)) })
    }
}

impl Engine {
    /// Makes an empty database under another name and moves it here whole. A process that is killed
    /// meanwhile leaves nothing under this name.
    pub(super) fn create(path: &Path, sizes: Sizes) -> fjall::Result<()> {
        let draft = path.with_extension("new");
        match fs::remove_dir_all(&draft) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
        let (engine, closed) = Self::open(&draft, sizes)?;
        engine.db.persist(PersistMode::SyncAll)?;
        drop(engine);
        if !closed.wait_blocking(CLOSE_WAIT) {
            return Err(io::Error::other("the new database does not close").into());
        }
        fs::rename(&draft, path)?;
        Ok(path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?)
    }

    /// Opens, or creates when there is nothing.
    pub(super) fn open(path: &Path, sizes: Sizes) -> fjall::Result<(Self, Closed)> {
        let db = Database::builder(path)
            .cache_size(sizes.cache_bytes)
            // What the journal holds is checked by `journal`, which reads it as it is.
            .journal_compression(CompressionType::None)
            .max_journaling_size(JOURNAL_BYTES)
            .manual_journal_persist(true)
            .worker_threads(2)
            .open()?;
        let table = |table: Table| db.keyspace(table.name(), || options(table, sizes));
        let tables = [
            table(Table::Log)?,
            table(Table::Lease)?,
            table(Table::Fence)?,
            table(Table::Mark)?,
            table(Table::Projection)?,
        ];
        let commits = db.keyspace("commit", KeyspaceCreateOptions::default)?;
        let (open, closed) = Closed::pair();
        Ok((Self { db, tables, commits, _open: open }, closed))
    }

    fn table(&self, table: Table) -> &Keyspace {
        &self.tables[table as usize]
    }

    /// The table with fjall's number for it, as it stands in the journal.
    pub(super) fn table_numbered(&self, keyspace: u64) -> Option<Table> {
        Table::ALL.into_iter().find(|&table| self.table(table).id() == keyspace)
    }

    /// The last commit that the database knows.
    pub(super) fn last_commit(&self) -> Result<Commit, ReplicaError> {
        match self.commits.get(commit::KEY).map_err(damaged)? {
            None => Ok(Commit::default()),
            Some(bytes) => Commit::from_bytes(&bytes)
                .ok_or_else(|| ReplicaError::Damaged("a bad commit record".into())),
        }
    }

    /// The highest start of a process that a version of a lease stems from.
    pub(super) fn highest_boot(&self) -> Result<u64, ReplicaError> {
        let mut highest = 0;
        for row in self.table(Table::Lease).iter() {
            let (key, value) = row.into_inner().map_err(damaged)?;
            let (stamp, _) = cell::peek(&key, &value).map_err(|e| bad_row(Table::Lease, &e))?;
            highest = highest.max(stamp.epoch.0);
        }
        Ok(highest)
    }

    /// What stands under a key, as it is on disk. Of several versions the newest.
    pub(super) fn raw(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<fjall::Slice>, ReplicaError> {
        if !versions::are_kept(table, key) {
            return self.table(table).get(key).map_err(damaged);
        }
        let [first, last] = versions::bounds(key);
        for row in self.table(table).range(first..=last).rev() {
            let (found, value) = row.into_inner().map_err(damaged)?;
            if versions::cell_key(table, &found) == key {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Stored>, ReplicaError> {
        self.raw(table, key)?
            .map(|value| cell::unseal(key, &value).map_err(|e| bad_row(table, &e)))
            .transpose()
    }

    pub(super) fn scan(&self, scan: &Scan) -> Result<Vec<(Bytes, Stored)>, ReplicaError> {
        if scan.from >= scan.to {
            return Ok(Vec::new());
        }
        let mut out = Vec::new();
        for row in self.raw_rows(scan.table, &scan.from, &scan.to).take(scan.limit) {
            let (key, value) = row?;
            let stored = cell::unseal(&key, &value).map_err(|e| bad_row(scan.table, &e))?;
            out.push((key, stored));
        }
        Ok(out)
    }

    /// Rows with their values as they are on disk. Of several versions the newest.
    pub(super) fn raw_rows(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
    ) -> impl Iterator<Item = Result<(Bytes, fjall::Slice), ReplicaError>> + use<> {
        let mut rows = self.table(table).range(from..to).map(fjall::Guard::into_inner).peekable();
        std::iter::from_fn(move || {
            let (mut found, mut value) = match rows.next()? {
                Ok(row) => row,
                Err(error) => return Some(Err(damaged(error))),
            };
            while versions::are_kept(table, &found)
                && let Some(Ok(newer)) = rows.next_if(|row| {
                    row.as_ref().is_ok_and(|(key, _)| {
                        versions::cell_key(table, key) == versions::cell_key(table, &found)
                    })
                })
            {
                (found, value) = newer;
            }
            let key = Bytes::copy_from_slice(versions::cell_key(table, &found));
            Some(Ok((key, value)))
        })
    }

    pub(super) fn batch(&self, cells: usize) -> Batch<'_> {
        Batch { engine: self, batch: OwnedWriteBatch::with_capacity(self.db.clone(), cells) }
    }
}

/// Cells that are written together.
pub(super) struct Batch<'a> {
    engine: &'a Engine,
    batch: OwnedWriteBatch,
}

impl Batch<'_> {
    /// The cell's bytes are shared, not copied: all replicas of one process keep them once.
    pub(super) fn insert(&mut self, cell: &Cell) {
        let key = versions::engine_key(cell);
        self.batch.insert(self.engine.table(cell.table), key, cell.value.clone());
    }

    /// Writes all of it under this number: to disk, or so far that the end of the process cannot
    /// lose it.
    pub(super) fn commit(mut self, commit: Commit, to_disk: bool) -> fjall::Result<()> {
        self.batch.insert(&self.engine.commits, &commit::KEY[..], &commit.to_bytes()[..]);
        let mode = if to_disk { PersistMode::SyncData } else { PersistMode::Buffer };
        self.batch.durability(Some(mode)).commit()
    }
}

fn options(table: Table, sizes: Sizes) -> KeyspaceCreateOptions {
    let options = KeyspaceCreateOptions::default().max_memtable_size(sizes.memtable_bytes);
    match table {
        // Frames are small and read once: what compression would save costs the committer's time at
        // flush.
        Table::Log => options.data_block_compression_policy(CompressionPolicy::disabled()),
        _ => options,
    }
}

pub(super) fn damaged(error: fjall::Error) -> ReplicaError {
    ReplicaError::Damaged(words(&error))
}

/// The operating system's own, where it was it that said no.
pub(super) fn words(error: &fjall::Error) -> String {
    match (io_error(error), error) {
        (Some(io), _) => io.to_string(),
        (None, fjall::Error::Poisoned) => "an earlier write of the engine failed".to_owned(),
        (None, error) => error.to_string(),
    }
}

pub(super) fn io_error(error: &fjall::Error) -> Option<&io::Error> {
    match error {
        fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => Some(io),
        _ => None,
    }
}

fn bad_row(table: Table, error: &cell::BadChecksum) -> ReplicaError {
    ReplicaError::Damaged(format!("{error} in table {}", table.name()))
}
