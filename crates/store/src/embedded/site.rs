//! One region's replica as the others see it: open or not, and how it is reached.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, ready};
use tokio::sync::oneshot;
use wire::{RegionId, ZoneId};

use super::care::{Disk, Held, Reserve, Retry};
use super::committer::{Committer, LastWords};
use super::engine::{Closed, Engine};
use super::queue::Done;
use super::recover::Opened;
use super::{EmbeddedOptions, recover_site, repair};
use crate::cell::{Stored, Table};
use crate::quorum::{Asking, ReplicaError, Replicas, Scan, Sync, Write};

/// Copies that wait to be written in another region than the one that confirms. Over it they are
/// left to repair.
const LATER_WRITES: usize = 8192;
/// A scan of more rows than this leaves the runtime's threads.
const SHORT_SCAN_ROWS: usize = 64;

/// How long a close waits for those who still read.
const CLOSE_WAIT: Duration = Duration::from_secs(10);

/// Whether a region's replica serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegionState {
    /// It does.
    Open,
    /// It was killed, and may be restored.
    Killed,
    /// It stopped by itself, because it could not write. It comes back when it can.
    Failed(String),
    /// The store was closed, or has no such region.
    Closed,
}

/// One region's replica.
pub(super) struct Site {
    pub(super) region: RegionId,
    pub(super) name: String,
    /// Its folder.
    pub(super) dir: PathBuf,
    state: RwLock<State>,
    pub(super) disk: Disk,
    /// One opens it at a time.
    pub(super) opening: Mutex<()>,
    pub(super) retry: Mutex<Retry>,
    /// Of the time before it was shut.
    held: Mutex<Option<(LastWords, (u64, u64))>>,
    /// Copies on their way here that nobody waits for.
    later: Arc<AtomicUsize>,
    /// A copy did not come, so a repair is due.
    pub(super) behind: AtomicBool,
}

enum State {
    Open(Replica),
    Shut(RegionState, Closed),
}

struct Replica {
    engine: Arc<Engine>,
    committer: Committer,
    /// The side file that it writes.
    file: (u64, u64),
    thread: Mutex<Option<JoinHandle<()>>>,
    closed: Closed,
}

impl Site {
    fn new(region: RegionId, name: String, dir: PathBuf) -> Self {
        Self {
            region,
            name,
            dir,
            disk: Disk::new(),
            opening: Mutex::default(),
            retry: Mutex::default(),
            held: Mutex::default(),
            state: RwLock::new(State::Shut(RegionState::Closed, Closed::already())),
            later: Arc::default(),
            behind: AtomicBool::new(false),
        }
    }

    /// Serves from now on, unless its state has become another than the caller has seen.
    pub(super) fn start(
        &self,
        opened: Opened,
        linger: Duration,
        seen: fn(&RegionState) -> bool,
    ) -> io::Result<()> {
        let Opened { engine, closed, highwater, last, .. } = opened;
        let file = highwater.identity()?;
        let (committer, thread) =
            Committer::start(self.region, Arc::clone(&engine), highwater, last, linger)?;
        let thread = Mutex::new(Some(thread));
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(&*state, State::Shut(now, _) if seen(now)) {
            *state = State::Open(Replica { engine, committer, file, thread, closed });
        }
        Ok(())
    }

    fn with<T>(
        &self,
        then: impl FnOnce(&Replica) -> Result<T, ReplicaError>,
    ) -> Result<T, ReplicaError> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(replica) => then(replica),
            State::Shut(..) => Err(ReplicaError::Gone),
        }
    }

    pub(super) fn engine(&self) -> Result<Arc<Engine>, ReplicaError> {
        self.with(|replica| Ok(Arc::clone(&replica.engine)))
    }

    pub(super) fn state(&self) -> RegionState {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(replica) => {
                replica.committer.failure().map_or(RegionState::Open, RegionState::Failed)
            }
            State::Shut(state, _) => state.clone(),
        }
    }

    /// At once, mid-write.
    pub(super) fn kill(&self, why: RegionState) {
        if let Some(replica) = self.shut(why) {
            replica.committer.die();
        }
    }

    /// After everything handed in is written.
    /// `clean`: nothing can be on its way any more.
    pub(super) fn close(&self, clean: bool) {
        let Some(replica) = self.shut(RegionState::Closed) else { return };
        let Replica { engine, committer, thread, closed, .. } = replica;
        committer.close(clean && !self.behind.load(Ordering::Acquire));
        drop(engine);
        if let Some(thread) = thread.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let _ = thread.join();
        }
        // Readers and a repair may still hold the files.
        closed.wait_blocking(CLOSE_WAIT);
    }

    fn shut(&self, why: RegionState) -> Option<Replica> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let closed = match &*state {
            State::Open(replica) => replica.closed.clone(),
            State::Shut(_, closed) => closed.clone(),
        };
        match std::mem::replace(&mut *state, State::Shut(why, closed)) {
            State::Open(replica) => {
                let words = replica.committer.last_words();
                *self.held.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some((words, replica.file));
                Some(replica)
            }
            State::Shut(..) => None,
        }
    }

    /// What it had confirmed when it was shut last; none: it never was, or still ends.
    pub(super) fn held(&self) -> Option<Held> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (words, file) = held.as_ref()?;
        Some(Held { mark: words.mark()?, file: *file })
    }

    /// The side file that it writes; none when it is shut.
    pub(super) fn file(&self) -> Option<(u64, u64)> {
        self.with(|replica| Ok(replica.file)).ok()
    }

    /// Whether it stopped by itself.
    pub(super) fn has_failed(&self) -> bool {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(replica) => replica.committer.has_failed(),
            State::Shut(state, _) => matches!(state, RegionState::Failed(_)),
        }
    }

    /// As [`Site::wait_until_closed`], within a bound. Whether nobody holds its files.
    pub(super) fn wait_until_closed_blocking(&self) -> bool {
        let closed = match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Shut(_, closed) => closed.clone(),
            State::Open(_) => return false,
        };
        closed.wait_blocking(CLOSE_WAIT)
    }

    /// Until nobody holds its files any more.
    pub(super) async fn wait_until_closed(&self) {
        if matches!(self.state(), RegionState::Failed(_)) {
            self.kill(RegionState::Killed);
        }
        let closed = match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Shut(_, closed) => Some(closed.clone()),
            State::Open(_) => None,
        };
        if let Some(closed) = closed {
            closed.wait().await;
        }
    }

    fn submit(&self, write: Arc<Write>, done: Done) -> Result<(), ReplicaError> {
        let result = self.with(|replica| replica.committer.submit(write, done));
        if result.is_err() {
            self.behind.store(true, Ordering::Release);
        }
        result
    }
}

/// What all handles share.
pub(super) struct Shared {
    options: EmbeddedOptions,
    pub(super) linger: Duration,
    sites: BTreeMap<RegionId, Site>,
    zones: HashMap<ZoneId, Arc<[RegionId]>>,
}

impl Shared {
    pub(super) fn new(options: EmbeddedOptions) -> Self {
        let site = |(region, name): &(RegionId, String)| {
            (*region, Site::new(*region, name.clone(), options.dir.join(name)))
        };
        let sites = options.regions.iter().map(site).collect();
        let zones = options
            .zones
            .iter()
            .map(|(zone, regions)| (*zone, regions.as_slice().into()))
            .collect();
        Self { linger: options.linger, sites, zones, options }
    }

    pub(super) fn sites(&self) -> impl Iterator<Item = &Site> {
        self.sites.values()
    }

    pub(super) fn site(&self, region: RegionId) -> Option<&Site> {
        self.sites.get(&region)
    }

    pub(super) fn recover_site<'a>(&self, site: &'a Site) -> super::recover::Site<'a> {
        recover_site(&self.options, site.region, &site.name)
    }

    /// Repairs every replica that is open and known to lack something.
    pub(super) fn repair_those_behind(&self) {
        for site in self.sites().filter(|site| site.state() == RegionState::Open) {
            if site.behind.load(Ordering::Acquire) {
                self.repair(site.region);
            }
        }
    }

    /// Takes from all others what a replica lacks, while it serves. Returns how many rows that
    /// were.
    pub(super) fn repair(&self, region: RegionId) -> u64 {
        let Some(site) = self.site(region) else { return 0 };
        site.behind.store(false, Ordering::Release);
        let mut count = 0;
        for (&zone, regions) in self.zones.iter().filter(|(_, regions)| regions.contains(&region)) {
            for other in regions
                .iter()
                .filter(|&&other| other != region)
                .filter_map(|&other| self.site(other))
            {
                match self.repair_from(site, other, zone) {
                    Ok(rows) => count += rows,
                    Err(error) => {
                        site.behind.store(true, Ordering::Release);
                        tracing::debug!(
                            region = region.0,
                            from = other.region.0,
                            zone = zone.0,
                            ?error,
                            "not repaired"
                        );
                    }
                }
            }
        }
        if count > 0 {
            tracing::info!(region = region.0, rows = count, "replica repaired");
        }
        count
    }

    fn repair_from(&self, site: &Site, other: &Site, zone: ZoneId) -> Result<u64, ReplicaError> {
        let (ours, theirs) = (site.engine()?, other.engine()?);
        repair::missing(&ours, &theirs, zone, |cells| {
            let (done, written) = oneshot::channel();
            let write = Arc::new(Write { zone, cells, sync: Sync::Memory });
            site.submit(write, Done::Tell(done))?;
            written.blocking_recv().unwrap_or(Err(ReplicaError::Gone))
        })
    }

    pub(super) fn reserve(&self) -> Reserve {
        self.options.reserve
    }

    pub(super) fn is_wide(&self) -> bool {
        self.options.delay.is_some()
    }

    /// None when the regions are not made far.
    fn delay(&self, from: RegionId, to: RegionId) -> Option<Duration> {
        let delay = self.options.delay.as_ref()?;
        (from != to).then(|| delay(from, to)).filter(|delay| !delay.is_zero())
    }

    /// Waits both ways around a read.
    async fn there_and_back<T>(
        &self,
        from: RegionId,
        to: RegionId,
        work: impl Future<Output = T>,
    ) -> T {
        match self.delay(from, to) {
            None => work.await,
            Some(delay) => {
                tokio::time::sleep(delay).await;
                let answer = work.await;
                tokio::time::sleep(self.delay(to, from).unwrap_or_default()).await;
                answer
            }
        }
    }

    fn find(&self, region: RegionId) -> Result<&Site, ReplicaError> {
        self.site(region).ok_or(ReplicaError::Gone)
    }
}

/// One copy that nobody waits for; dropped when it is written or lost.
struct Later {
    count: Arc<AtomicUsize>,
}

impl Drop for Later {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}

#[async_trait]
impl Replicas for Arc<Shared> {
    fn zone(&self, zone: ZoneId) -> Option<Arc<[RegionId]>> {
        self.zones.get(&zone).cloned()
    }

    fn is_open(&self, region: RegionId) -> bool {
        self.site(region).is_some_and(|site| site.with(|_| Ok(())).is_ok())
    }

    fn is_reachable(&self, _from: RegionId, to: RegionId) -> bool {
        self.site(to).is_some_and(|site| site.state() == RegionState::Open)
    }

    fn refuses(&self, region: RegionId) -> Option<String> {
        self.site(region)?.refuses()
    }

    fn distance(&self, from: RegionId, to: RegionId) -> Duration {
        if from == to {
            Duration::ZERO
        } else {
            self.delay(from, to).unwrap_or(Duration::from_nanos(1))
        }
    }

    fn asking(&self) -> Asking {
        if self.is_wide() { Asking::Needed } else { Asking::OneByOne }
    }

    fn write(
        &self,
        from: RegionId,
        to: RegionId,
        write: &Arc<Write>,
    ) -> BoxFuture<'static, Result<(), ReplicaError>> {
        let write = Arc::clone(write);
        let Some(delay) = self.delay(from, to) else {
            let (done, written) = oneshot::channel();
            return match self.find(to).and_then(|site| site.submit(write, Done::Tell(done))) {
                Ok(()) => written.map(|result| result.unwrap_or(Err(ReplicaError::Gone))).boxed(),
                Err(error) => ready(Err(error)).boxed(),
            };
        };
        let shared = Arc::clone(self);
        let far = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let (done, written) = oneshot::channel();
            shared.find(to)?.submit(write, Done::Tell(done))?;
            let result = written.await.unwrap_or(Err(ReplicaError::Gone));
            tokio::time::sleep(shared.delay(to, from).unwrap_or_default()).await;
            result
        });
        far.map(|result| result.unwrap_or(Err(ReplicaError::Gone))).boxed()
    }

    fn write_later(&self, from: RegionId, to: RegionId, write: &Arc<Write>) {
        let Some(site) = self.site(to) else { return };
        let copy =
            Arc::new(Write { zone: write.zone, cells: write.cells.clone(), sync: Sync::Memory });
        let before = site.later.fetch_add(1, Ordering::AcqRel);
        let later = Later { count: Arc::clone(&site.later) };
        if before >= LATER_WRITES {
            // Full: skipped, and made good by the next repair.
            site.behind.store(true, Ordering::Release);
            return;
        }
        let done = Done::Drop(Box::new(later));
        match self.delay(from, to) {
            None => _ = site.submit(copy, done),
            Some(delay) => {
                let shared = Arc::clone(self);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    if let Some(site) = shared.site(to) {
                        let _ = site.submit(copy, done);
                    }
                });
            }
        }
    }

    async fn get(
        &self,
        from: RegionId,
        to: RegionId,
        table: Table,
        key: &[u8],
    ) -> Result<Option<Stored>, ReplicaError> {
        self.there_and_back(from, to, async { self.find(to)?.engine()?.get(table, key) }).await
    }

    async fn scan(
        &self,
        from: RegionId,
        to: RegionId,
        scan: &Scan,
    ) -> Result<Vec<(Bytes, Stored)>, ReplicaError> {
        let work = async {
            let engine = self.find(to)?.engine()?;
            if scan.limit <= SHORT_SCAN_ROWS {
                return engine.scan(scan);
            }
            let scan = scan.clone();
            let rows = tokio::task::spawn_blocking(move || engine.scan(&scan)).await;
            rows.unwrap_or(Err(ReplicaError::Gone))
        };
        self.there_and_back(from, to, work).await
    }
}
