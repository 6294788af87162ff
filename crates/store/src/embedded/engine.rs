//! One replica's fjall database, as tables of cells.

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
use crate::cell::{self, Stored, Table};
use crate::quorum::{ReplicaError, Scan};

/// Over this, fjall writes out the tables that keep the oldest journals alive.
const JOURNAL_BYTES: u64 = 192 * 1024 * 1024;

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

    /// Blocks, at most so long.
    pub(super) fn wait_blocking(&self, longest: Duration) {
        let _ = self.blocking.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(longest);
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

    /// What stands under a key, as it is on disk.
    pub(super) fn raw(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<fjall::Slice>, ReplicaError> {
        self.table(table).get(key).map_err(damaged)
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
        for row in
            self.table(scan.table).range(scan.from.as_slice()..scan.to.as_slice()).take(scan.limit)
        {
            let (key, value) = row.into_inner().map_err(damaged)?;
            let stored = cell::unseal(&key, &value).map_err(|e| bad_row(scan.table, &e))?;
            out.push((Bytes::copy_from_slice(&key), stored));
        }
        Ok(out)
    }

    /// Rows as they are on disk, for repair.
    pub(super) fn raw_rows(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
    ) -> impl Iterator<Item = Result<(fjall::Slice, fjall::Slice), ReplicaError>> + use<> {
        self.table(table).range(from..to).map(|row| row.into_inner().map_err(damaged))
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
    pub(super) fn insert(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.batch.insert(self.engine.table(table), key, value);
    }

    /// Writes all of it under this number: to disk, or so far that the end of the process cannot lose it.
    pub(super) fn commit(mut self, commit: Commit, to_disk: bool) -> fjall::Result<()> {
        self.batch.insert(&self.engine.commits, &commit::KEY[..], &commit.to_bytes()[..]);
        let mode = if to_disk { PersistMode::SyncData } else { PersistMode::Buffer };
        self.batch.durability(Some(mode)).commit()
    }
}

fn options(table: Table, sizes: Sizes) -> KeyspaceCreateOptions {
    let options = KeyspaceCreateOptions::default().max_memtable_size(sizes.memtable_bytes);
    match table {
        // Frames are small and read once: what compression would save costs the committer's time at flush.
        Table::Log => options.data_block_compression_policy(CompressionPolicy::disabled()),
        _ => options,
    }
}

fn damaged(error: fjall::Error) -> ReplicaError {
    ReplicaError::Damaged(error.to_string())
}

fn bad_row(table: Table, error: &cell::BadChecksum) -> ReplicaError {
    ReplicaError::Damaged(format!("{error} in table {}", table.name()))
}
