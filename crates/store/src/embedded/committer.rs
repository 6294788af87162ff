//! Group commit: one thread for each replica makes what waits durable with one sync, then wakes
//! everyone who waited.
//!
//! fjall's own commit holds its journal's lock across the sync, so many writers would queue there
//! one sync each.
//!
//! The thread alternates between the two lanes of its [`Queue`]. It writes and syncs all urgent
//! writes first, so an acknowledgement waits for log rows alone. It then writes one batch of
//! projections, marks and copies and hands it to the operating system; the next sync carries it
//! along.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wire::{Durability, RegionId, ZoneId};

use super::commit::Commit;
use super::engine::Engine;
use super::highwater::{HighWaterFile, HighWaterMark};
use super::linger::Linger;
use super::merge;
use super::queue::{Done, End, Pending, Queue};
use crate::quorum::{ReplicaError, Sync, Write};

/// Where writes of one replica are handed in. Dropped, it closes the replica's queue.
pub(super) struct Committer {
    shared: Arc<Shared>,
}

struct Shared {
    region: RegionId,
    queue: Queue,
    /// Nothing is missing here: to be said at the close.
    clean: AtomicBool,
    has_failed: AtomicBool,
    failure: Mutex<Option<String>>,
    /// What the side file said last, once the thread has ended.
    said: Mutex<Option<HighWaterMark>>,
}

impl Committer {
    /// Starts the thread. It ends, and lets the engine go, after [`Committer::die`] or when this is
    /// dropped.
    pub(super) fn start(
        region: RegionId,
        engine: Arc<Engine>,
        highwater: HighWaterFile,
        last: Commit,
        linger: Duration,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let shared = Arc::new(Shared {
            region,
            queue: Queue::default(),
            clean: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            said: Mutex::new(None),
        });
        let thread = Thread {
            engine,
            highwater,
            number: last.number,
            linger: Linger::new(linger),
            shared: Arc::clone(&shared),
        };
        let name = format!("commit-r{}", region.0);
        let handle = std::thread::Builder::new().name(name).spawn(move || thread.run())?;
        Ok((Self { shared }, handle))
    }

    /// Hands a write in. `done` is told, or dropped when the replica dies first.
    pub(super) fn submit(&self, write: Arc<Write>, done: Done) -> Result<(), ReplicaError> {
        self.shared.queue.push(Pending { write, done })
    }

    /// At once, mid-write: what waits is dropped.
    pub(super) fn die(&self) {
        self.shared.queue.end(End::Dead);
    }

    /// Lets what was handed in be written, and ends.
    pub(super) fn close(self, clean: bool) {
        self.shared.clean.store(clean, Ordering::Release);
    }

    /// Whether the replica stopped by itself.
    pub(super) fn has_failed(&self) -> bool {
        self.shared.has_failed.load(Ordering::Acquire)
    }

    /// What its side file says last, to be asked when it has ended.
    pub(super) fn last_words(&self) -> LastWords {
        LastWords(Arc::clone(&self.shared))
    }

    /// Why the replica stopped by itself, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// See [`Committer::last_words`].
pub(super) struct LastWords(Arc<Shared>);

impl LastWords {
    /// None while the thread runs.
    pub(super) fn mark(&self) -> Option<HighWaterMark> {
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.queue.end(End::Closed);
    }
}

struct Thread {
    engine: Arc<Engine>,
    highwater: HighWaterFile,
    /// Of the last commit.
    number: u64,
    linger: Linger,
    shared: Arc<Shared>,
}

impl Drop for Thread {
    /// However it ends, nobody waits for it any more.
    fn drop(&mut self) {
        let said = self.highwater.mark().clone();
        *self.shared.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
        self.shared.queue.end(End::Dead);
    }
}

impl Thread {
    fn run(mut self) {
        let mut batch = Vec::new();
        while self.shared.queue.wait() {
            if let Err(what) = self.turn(&mut batch) {
                tracing::error!(
                    region = self.shared.region.0,
                    what,
                    "the copy of this region cannot write and takes nothing until it can"
                );
                *self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
                self.shared.has_failed.store(true, Ordering::Release);
                return;
            }
        }
        if self.shared.queue.is_dead() {
            return;
        }
        let clean = self.shared.clean.load(Ordering::Acquire);
        // Should it fail: an older side file proves less and is never wrong.
        let _ = self.highwater.rewrite(|mark| mark.clean = clean);
    }

    /// Everything urgent, then a part of the background.
    fn turn(&mut self, batch: &mut Vec<Pending>) -> Result<(), String> {
        self.collect_urgent(batch);
        if !batch.is_empty() {
            let (begun, waited) = (Instant::now(), batch.len());
            self.commit(batch)?;
            self.linger.learn(begun.elapsed(), waited);
        }
        self.shared.queue.take_background(batch);
        if batch.is_empty() { Ok(()) } else { self.commit(batch) }
    }

    fn collect_urgent(&self, batch: &mut Vec<Pending>) {
        let queue = &self.shared.queue;
        let (begun, mut bytes) = (Instant::now(), 0);
        while queue.take_urgent(batch, &mut bytes)
            && !batch.is_empty()
            && self.linger.until(begun, batch.len()).is_some_and(|until| queue.wait_urgent(until))
        {
        }
    }

    /// Writes these, with a sync if one of them asks for it, and tells whoever waits.
    fn commit(&mut self, batch: &mut Vec<Pending>) -> Result<(), String> {
        let held: BTreeSet<(ZoneId, Durability)> =
            batch.iter().filter_map(|pending| held(&pending.write)).collect();
        let to_disk = !held.is_empty();
        let commit =
            Commit { number: self.number + 1, synced_before: self.highwater.mark().synced };
        if self.shared.queue.is_dead() {
            batch.clear();
            return Ok(());
        }
        if let Some(error) = broken_disk(self.shared.region) {
            return Err(error);
        }
        let cells = batch.iter().flat_map(|pending| &pending.write.cells);
        merge::write(&self.engine, cells, commit, to_disk).map_err(words)?;
        self.number = commit.number;
        if to_disk {
            self.highwater
                .raise(self.number, held.into_iter())
                .map_err(|error| error.to_string())?;
        }
        let dead = self.shared.queue.is_dead();
        for pending in batch.drain(..) {
            match pending.done {
                Done::Tell(waiter) if !dead => _ = waiter.send(Ok(())),
                Done::Tell(_) => {}
                Done::Drop(thing) => drop(thing),
            }
        }
        Ok(())
    }
}

/// A fail point of the tests: the region whose disk is broken. It does nothing elsewhere.
fn broken_disk(_region: RegionId) -> Option<String> {
    fail::fail_point!("broken-disk", |region: Option<String>| {
        (region? == _region.0.to_string()).then(|| "Input/output error".to_owned())
    });
    None
}

fn words(error: ReplicaError) -> String {
    match error {
        ReplicaError::Damaged(what) => what,
        ReplicaError::Gone | ReplicaError::Overloaded => format!("{error:?}"),
    }
}

fn held(write: &Write) -> Option<(ZoneId, Durability)> {
    match write.sync {
        Sync::Disk(class) => Some((write.zone, class)),
        Sync::Memory => None,
    }
}
