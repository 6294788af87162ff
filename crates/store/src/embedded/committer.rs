//! Group commit: one thread for each replica collects what waits into one batch, makes it durable with one sync, and
//! then wakes everyone who waited for it.
//!
//! fjall's own commit holds its journal's lock across the sync, so many writers would queue there one sync each.
//! What need not be on disk (projections, most marks) goes into the same batches; a batch of nothing else is only
//! handed to the operating system, and the next sync carries it along.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;
use wire::{Durability, RegionId, ZoneId};

use super::commit::Commit;
use super::engine::Engine;
use super::highwater::HighWater;
use super::linger::Linger;
use crate::cell::{self, Cell, Table};
use crate::quorum::{ReplicaError, Sync, Write};

/// A batch is closed at this many bytes; one write always fits.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Waiting writes over either of these are refused as [`ReplicaError::Overloaded`].
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
const QUEUE_WRITES: usize = 16 * 1024;

/// Where writes of one replica are handed in.
pub(super) struct Committer {
    queue: mpsc::SyncSender<Pending>,
    shared: Arc<Shared>,
}

struct Shared {
    region: RegionId,
    /// Nothing more is written, and who waits is told so.
    dead: AtomicBool,
    /// Nothing is missing here: to be said at the close.
    clean: AtomicBool,
    queued_bytes: AtomicUsize,
    failure: Mutex<Option<String>>,
}

struct Pending {
    write: Arc<Write>,
    bytes: usize,
    /// Dropped without an answer when the replica dies.
    done: Done,
}

/// Whom a write's end concerns.
pub(super) enum Done {
    /// A waiting future.
    Tell(oneshot::Sender<Result<(), ReplicaError>>),
    /// Something to be dropped at the end, well or not.
    Drop(Box<dyn std::any::Any + Send>),
}

impl Committer {
    /// Starts the thread. It ends, and lets the engine go, after [`Committer::die`] or when this is dropped.
    pub(super) fn start(
        region: RegionId,
        engine: Arc<Engine>,
        highwater: HighWater,
        last: Commit,
        linger: Duration,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (queue, waiting) = mpsc::sync_channel(QUEUE_WRITES);
        let shared = Arc::new(Shared {
            region,
            dead: AtomicBool::new(false),
            clean: AtomicBool::new(false),
            queued_bytes: AtomicUsize::new(0),
            failure: Mutex::new(None),
        });
        let thread = Thread {
            engine,
            highwater,
            number: last.number,
            linger: Linger::new(linger),
            waiting,
            shared: Arc::clone(&shared),
        };
        let name = format!("commit-r{}", region.0);
        let handle = std::thread::Builder::new().name(name).spawn(move || thread.run())?;
        Ok((Self { queue, shared }, handle))
    }

    /// Hands a write in. `done` is told, or dropped when the replica dies first.
    pub(super) fn submit(&self, write: Arc<Write>, done: Done) -> Result<(), ReplicaError> {
        if self.shared.dead.load(Ordering::Acquire) {
            return Err(ReplicaError::Gone);
        }
        let bytes = write.cells.iter().map(|cell| cell.key.len() + cell.value.len()).sum();
        let before = self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let sent = if before > QUEUE_BYTES {
            Err(ReplicaError::Overloaded)
        } else {
            self.queue.try_send(Pending { write, bytes, done }).map_err(|error| match error {
                TrySendError::Full(_) => ReplicaError::Overloaded,
                TrySendError::Disconnected(_) => ReplicaError::Gone,
            })
        };
        if sent.is_err() {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        sent
    }

    /// At once, mid-write: what waits is dropped.
    pub(super) fn die(&self) {
        self.shared.dead.store(true, Ordering::Release);
        // Wakes the thread if it sleeps; if the queue is full it does not.
        let nothing = Arc::new(Write { zone: ZoneId(0), cells: Vec::new(), sync: Sync::Memory });
        let _ = self.queue.try_send(Pending {
            write: nothing,
            bytes: 0,
            done: Done::Drop(Box::new(())),
        });
    }

    /// Lets what was handed in be written, and ends.
    pub(super) fn close(self, clean: bool) {
        self.shared.clean.store(clean, Ordering::Release);
    }

    /// Why the replica stopped by itself, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Thread {
    engine: Arc<Engine>,
    highwater: HighWater,
    /// Of the last commit.
    number: u64,
    linger: Linger,
    waiting: mpsc::Receiver<Pending>,
    shared: Arc<Shared>,
}

impl Thread {
    fn run(mut self) {
        let mut batch = Vec::new();
        while let Ok(first) = self.waiting.recv() {
            if self.dead() {
                return;
            }
            self.collect(first, &mut batch);
            if self.dead() {
                return;
            }
            if let Err(what) = self.commit(&mut batch) {
                tracing::error!(
                    region = self.shared.region.0,
                    what,
                    "replica stopped: it cannot write"
                );
                *self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
                self.shared.dead.store(true, Ordering::Release);
                return;
            }
        }
        let clean = self.shared.clean.load(Ordering::Acquire);
        // Should it fail: an older side file proves less and is never wrong.
        let _ = self.highwater.rewrite(|water| water.clean = clean);
    }

    fn dead(&self) -> bool {
        self.shared.dead.load(Ordering::Acquire)
    }

    fn collect(&self, first: Pending, batch: &mut Vec<Pending>) {
        let begun = Instant::now();
        let mut bytes = first.bytes;
        batch.push(first);
        while bytes < BATCH_BYTES {
            let next = match self.waiting.try_recv() {
                Ok(next) => next,
                Err(_) => {
                    let waiting =
                        batch.iter().filter(|pending| pending.write.sync != Sync::Memory).count();
                    let Some(until) = self.linger.until(begun, waiting).filter(|_| waiting > 0)
                    else {
                        break;
                    };
                    match self.waiting.recv_timeout(until.saturating_duration_since(Instant::now()))
                    {
                        Ok(next) => next,
                        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                    }
                }
            };
            bytes += next.bytes;
            batch.push(next);
        }
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn commit(&mut self, pending: &mut Vec<Pending>) -> Result<(), String> {
        let begun = Instant::now();
        let held: BTreeSet<(ZoneId, Durability)> =
            pending.iter().filter_map(|p| held(&p.write)).collect();
        let to_disk = !held.is_empty();
        let commit =
            Commit { number: self.number + 1, synced_before: self.highwater.water().synced };
        let cells = pending.iter().flat_map(|pending| &pending.write.cells);
        write(&self.engine, cells, commit, to_disk).map_err(|error| format!("{error:?}"))?;
        self.number = commit.number;
        if to_disk {
            self.highwater
                .raise(self.number, held.into_iter())
                .map_err(|error| error.to_string())?;
            self.linger.learn(begun.elapsed(), pending.len());
        }
        if !self.dead() {
            for one in pending.drain(..) {
                match one.done {
                    Done::Tell(waiter) => _ = waiter.send(Ok(())),
                    Done::Drop(thing) => drop(thing),
                }
            }
        }
        Ok(())
    }
}

fn held(write: &Write) -> Option<(ZoneId, Durability)> {
    match write.sync {
        Sync::Disk(class) => Some((write.zone, class)),
        Sync::Memory => None,
    }
}

/// Writes as one commit what beats the present contents.
pub(super) fn write<'a>(
    engine: &Engine,
    cells: impl Iterator<Item = &'a Cell>,
    commit: Commit,
    to_disk: bool,
) -> Result<(), ReplicaError> {
    let mut merged =
        Merged { engine, batch: engine.batch(cells.size_hint().0 + 1), kept: HashMap::new() };
    for cell in cells {
        merged.put(cell)?;
    }
    merged.batch.commit(commit, to_disk).map_err(|error| ReplicaError::Damaged(error.to_string()))
}

/// A batch into which only what beats the present content is put.
struct Merged<'a> {
    engine: &'a Engine,
    batch: super::engine::Batch<'a>,
    /// What is in the batch already, of tables whose keys are written more than once.
    kept: HashMap<(Table, Bytes), Bytes>,
}

impl Merged<'_> {
    fn put(&mut self, new: &Cell) -> Result<(), ReplicaError> {
        if !new.table.is_write_once() {
            let id = (new.table, new.key.clone());
            let beaten = match self.kept.get(&id) {
                Some(value) => !beats(&new.key, &new.value, value)?,
                None => match self.engine.raw(new.table, &new.key)? {
                    Some(value) => !beats(&new.key, &new.value, &value)?,
                    None => false,
                },
            };
            if beaten {
                return Ok(());
            }
            self.kept.insert(id, new.value.clone());
        }
        self.batch.insert(new.table, &new.key, &new.value);
        Ok(())
    }
}

/// A present content that is damaged is beaten by anything.
fn beats(key: &[u8], new: &[u8], present: &[u8]) -> Result<bool, ReplicaError> {
    let new = cell::peek(key, new).map_err(|e| ReplicaError::Damaged(e.to_string()))?;
    Ok(cell::peek(key, present).map_or(true, |present| cell::beats(new, present)))
}
