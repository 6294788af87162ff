//! The embedded store: one machine, one process, a replica (a fjall database) for each region of
//! the world. The default of `hearth up`.
//!
//! ```text
//! DIR/<region>/store/     fjall's database: tables log, lease, fence, mark, projection (keys: `cell`), and commit
//! DIR/<region>/format     the number of the format (`format`)
//! DIR/<region>/commits    how far its commits had come (`highwater`)
//! DIR/<region>/damaged/   what was cut off or set aside, if anything ever was
//! ```
//!
//! A region's folder holds data only of zones that include the region, and only its user may look
//! into it. `store` is made as `store.new` and renamed when it is whole, after `format` and
//! `commits`. So a start that is cut short anywhere leaves a folder that the next one continues
//! with.
//!
//! **What it promises.** A write is confirmed by a replica after an fsync that covers it, and by the store when the class'
//! quorum has confirmed it ([`crate::quorum`]). A process that is killed at any moment loses
//! nothing confirmed. A file that was cut or in which bits have flipped is noticed when the store
//! is opened: every commit is numbered and checksummed (`journal`, `highwater`), every table file
//! has a checksum that is checked (`tables`), and every row has its own, checked whenever it is
//! read. A replica that has lost something confirmed is healed from the others when they must have
//! it, and otherwise the store refuses to open and says why and what to do
//! ([`OpenError::Destroyed`], `recover`).
//!
//! **What it does not.** All replicas share one machine, and usually one disk: what it survives is the death of parts of
//! the process and damage to some of its files. Damage of the last second before a power cut may go
//! unnoticed (`highwater` says why). Rows of the log are never removed yet.
//!
//! **Who runs.** A thread for each replica (`committer`), one for repairs, and fjall's own; no runtime is needed, so a
//! region's tasks may be dropped with their runtime and its replica with them.

mod assess;
mod care;
mod commit;
mod committer;
mod engine;
mod format;
mod highwater;
mod journal;
mod linger;
mod merge;
mod queue;
mod recover;
mod repair;
mod report;
mod site;
mod tables;
mod versions;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use wire::{RegionId, ZoneId};

use self::assess::{Assessment, Files, Loss};
use self::engine::{Engine, Sizes};
use self::highwater::HighWaterMark;
use self::recover::{Opened, Tried};
use self::site::{Shared, Site};
use crate::contract::Store;
use crate::quorum::{ConditionalWrites, Coordinator};

pub use self::care::{Health, Reserve};
pub use self::report::{Finding, OpenError, OpenReport, RegionReport};
pub use self::site::RegionState;

/// A replica is looked after so often, and one that is behind is repaired after at most this.
const REPAIR_EVERY: Duration = Duration::from_secs(1);
/// Orders over this are not heard; the next round repairs what they named.
const REPAIR_ORDERS: usize = 256;

/// How long a message takes from one region to another, one way.
pub type Delay = Arc<dyn Fn(RegionId, RegionId) -> Duration + Send + Sync>;

/// See [`Embedded::open`].
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// The data directory. Created when absent.
    pub dir: PathBuf,
    /// The regions and their names, which name their folders.
    pub regions: Vec<(RegionId, String)>,
    /// The zones and the regions in which their data may rest.
    pub zones: Vec<(ZoneId, Vec<RegionId>)>,
    /// Makes the regions far from each other. Repair is not delayed. Default: none.
    pub delay: Option<Delay>,
    /// The longest that a replica waits for a fuller batch before it syncs; it waits at most a
    /// quarter of what a sync takes. Default: 300 us.
    pub linger: Duration,
    /// Block cache of each replica, bytes. Default: 16 MiB.
    pub cache_bytes: u64,
    /// What each table of a replica keeps in memory before it writes it out, bytes. More makes the
    /// next start slower: it replays them from the journal. Counts when a table is created.
    /// Default: 12 MiB.
    pub memtable_bytes: u64,
    /// Whether every file is read and checked before the store opens: about a second for a
    /// gigabyte. Default: yes.
    pub verify: bool,
    /// Regions whose replicas may open although acknowledged records in them are destroyed.
    /// Default: none.
    pub accept_loss: Vec<RegionId>,
    /// What is kept free on the disk of each replica: below it nothing new is taken
    /// ([`Store::refuses`]).
    pub reserve: Reserve,
}

impl EmbeddedOptions {
    /// With defaults.
    #[must_use]
    pub fn new(
        dir: impl Into<PathBuf>,
        regions: Vec<(RegionId, String)>,
        zones: Vec<(ZoneId, Vec<RegionId>)>,
    ) -> Self {
        Self {
            dir: dir.into(),
            regions,
            zones,
            delay: None,
            linger: Duration::from_micros(300),
            cache_bytes: 16 * 1024 * 1024,
            memtable_bytes: 12 * 1024 * 1024,
            verify: true,
            accept_loss: Vec::new(),
            reserve: Reserve::default(),
        }
    }

    fn check(&self) -> Result<(), OpenError> {
        let options = |what: String| Err(OpenError::Options(what));
        let known: BTreeMap<RegionId, &str> =
            self.regions.iter().map(|(id, name)| (*id, name.as_str())).collect();
        if known.len() != self.regions.len() {
            return options("a region is named twice".to_owned());
        }
        for name in known.values() {
            if name.is_empty()
                || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            {
                return options(format!("region {name:?} cannot name a folder"));
            }
        }
        for (zone, regions) in &self.zones {
            if regions.is_empty() {
                return options(format!("zone {} has no region", zone.0));
            }
            if let Some(unknown) = regions.iter().find(|region| !known.contains_key(region)) {
                return options(format!(
                    "zone {} names region {}, which there is not",
                    zone.0, unknown.0
                ));
            }
        }
        Ok(())
    }
}

/// All replicas of a world, and the way to each.
pub struct Embedded {
    shared: Arc<Shared>,
    conditional: Arc<ConditionalWrites>,
    repairs: mpsc::SyncSender<RepairOrder>,
}

/// A region that may lack something, and whom to tell when it no longer does.
struct RepairOrder {
    region: RegionId,
    done: Option<oneshot::Sender<u64>>,
}

impl Embedded {
    /// Opens all replicas, after checking and where needed healing them. Blocks, for as long as
    /// reading all files takes.
    ///
    /// # Errors
    /// [`OpenError`]: nothing is open then. No file of a refused replica was changed if its files
    /// alone showed the loss; where only fjall could tell, it has cut torn tails and written out
    /// its memory.
    pub fn open(options: EmbeddedOptions) -> Result<(Arc<Self>, OpenReport), OpenError> {
        options.check()?;
        let mut opened = open_all(&options)?;
        let mut report = OpenReport::default();
        let mut boot = 0;
        for (region, name) in &options.regions {
            let opened = &opened[region];
            report.regions.push(RegionReport {
                region: *region,
                name: name.clone(),
                checked_bytes: opened.checked_bytes,
                findings: opened.findings.clone(),
            });
            boot = boot
                .max(opened.highwater.mark().boot)
                .max(opened.engine.highest_boot().unwrap_or(0));
        }
        boot += 1;
        let clean = opened.values().all(|opened| opened.clean);
        let (repairs, orders) = mpsc::sync_channel(REPAIR_ORDERS);
        let shared = Arc::new(Shared::new(options));
        for site in shared.sites() {
            let Some(mut opened) = opened.remove(&site.region) else { continue };
            let io = |source| OpenError::Io { name: site.name.clone(), what: "starting", source };
            let begin = |high_water: &mut HighWaterMark| {
                high_water.boot = boot;
                high_water.clean = false;
            };
            opened.highwater.rewrite(begin).map_err(io)?;
            site.start(opened, shared.linger, |_| true).map_err(io)?;
        }
        shared.look_after();
        spawn_repairs(&shared, orders)?;
        let this = Self { conditional: Arc::new(ConditionalWrites::new(boot)), shared, repairs };
        if !clean {
            // What a crash left on some replicas only: projections and marks that waited for no
            // disk, copies on their way.
            for site in this.shared.sites() {
                this.order(site.region, None);
            }
        }
        Ok((Arc::new(this), report))
    }

    /// A region's handle. It outlives kills and restores of the region.
    #[must_use]
    pub fn store(&self, region: RegionId) -> Arc<dyn Store> {
        Arc::new(Coordinator {
            replicas: Arc::clone(&self.shared),
            region,
            at: region,
            conditional: Arc::clone(&self.conditional),
        })
    }

    /// Drops a region's replica at once, mid-write: operations of its handles fail with
    /// [`StoreError::Closed`](crate::StoreError::Closed), those of others no longer reach it, what
    /// was waiting to be written is forgotten.
    pub fn kill(&self, region: RegionId) {
        if let Some(site) = self.shared.site(region) {
            site.kill(RegionState::Killed);
        }
        if self.shared.is_wide() {
            // What it had on its way to the others may not arrive, if its tasks end too.
            for other in self.shared.sites().filter(|other| other.region != region) {
                other.behind.store(true, Ordering::Release);
            }
        }
    }

    /// Opens a killed region's replica again: it serves at once, and has caught up on what it
    /// missed when this returns. Returns how many rows that were. A region that is open is only
    /// repaired.
    ///
    /// # Errors
    /// As [`Embedded::open`]; the region tenures closed then.
    pub async fn restore(self: &Arc<Self>, region: RegionId) -> Result<u64, OpenError> {
        if let Some(site) = self.shared.site(region)
            && site.state() != RegionState::Open
        {
            site.wait_until_closed().await;
            let this = Arc::clone(self);
            let joined = tokio::task::spawn_blocking(move || this.reopen(region)).await;
            joined.map_err(|source| OpenError::Io {
                name: site.name.clone(),
                what: "reopening",
                source: std::io::Error::other(source),
            })??;
        }
        let (done, repaired) = oneshot::channel();
        self.order(region, Some(done));
        Ok(repaired.await.unwrap_or(0))
    }

    /// How a region's replica is.
    #[must_use]
    pub fn health(&self, region: RegionId) -> Option<Health> {
        self.shared.site(region).map(Site::health)
    }

    /// Whether a region's replica serves.
    #[must_use]
    pub fn status(&self, region: RegionId) -> RegionState {
        self.shared.site(region).map_or(RegionState::Closed, Site::state)
    }

    /// Closes everything in order: what was handed in is written first. Blocks.
    pub fn close(&self) {
        for site in self.shared.sites() {
            // Between far regions something may still be on its way.
            site.close(!self.shared.is_wide());
        }
    }

    fn order(&self, region: RegionId, done: Option<oneshot::Sender<u64>>) {
        if self.repairs.try_send(RepairOrder { region, done }).is_err()
            && let Some(site) = self.shared.site(region)
        {
            site.behind.store(true, Ordering::Release);
        }
    }

    fn reopen(&self, region: RegionId) -> Result<(), OpenError> {
        let Some(site) = self.shared.site(region) else { return Ok(()) };
        self.shared.reopen(site, |state| *state != RegionState::Open)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

fn open_all(options: &EmbeddedOptions) -> Result<HashMap<RegionId, Opened>, OpenError> {
    let sites: Vec<recover::Site<'_>> =
        options.regions.iter().map(|(region, name)| recover_site(options, *region, name)).collect();
    let mut assessments: Vec<Assessment> = at_once(sites.iter().collect(), recover::Site::assess)
        .into_iter()
        .collect::<Result<_, _>>()?;
    let pairs: Vec<(RegionId, &Assessment)> =
        sites.iter().map(|s| s.region).zip(&assessments).collect();
    let late: Vec<Option<Loss>> = sites
        .iter()
        .zip(&assessments)
        .map(|(s, a)| if a.is_new { recover::is_late(s, &pairs) } else { None })
        .collect();
    for (assessment, late) in assessments.iter_mut().zip(late) {
        if let Some(late) = late {
            assessment.loss = Some(late);
        }
    }
    let mut whole = HashMap::new();
    let mut lost = Vec::new();
    let tries = at_once(sites.iter().zip(assessments).collect(), |(site, assessment)| {
        (site, site.open_whole(assessment))
    });
    for (site, tried) in tries {
        match tried? {
            Tried::Whole(opened) => _ = whole.insert(site.region, opened),
            Tried::Lost(assessment, loss) => lost.push((site, assessment, loss)),
        }
    }
    let others: Vec<(RegionId, Arc<Engine>)> =
        whole.iter().map(|(&region, opened)| (region, Arc::clone(&opened.engine))).collect();
    let names: Vec<RegionId> = others.iter().map(|&(region, _)| region).collect();
    for (site, assessment, loss) in &lost {
        if let Some(refusal) = site.refusal(&assessment.high_water, loss, &names) {
            return Err(refusal);
        }
    }
    for (site, assessment, loss) in &lost {
        whole.insert(site.region, site.heal(assessment, loss, &others)?);
    }
    Ok(whole)
}

/// Does the work of every region at once. Opening takes a processor for as long as its journals are
/// replayed.
fn at_once<T: Send, R: Send>(regions: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            regions.into_iter().map(|region| scope.spawn(move || work(region))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, R>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}

fn recover_site<'a>(
    options: &EmbeddedOptions,
    region: RegionId,
    name: &'a str,
) -> recover::Site<'a> {
    let zones = options.zones.iter().filter(|(_, regions)| regions.contains(&region));
    recover::Site {
        region,
        name,
        files: Files { dir: options.dir.join(name) },
        zones: zones.map(|(zone, regions)| (*zone, regions.as_slice().into())).collect(),
        sizes: Sizes { cache_bytes: options.cache_bytes, memtable_bytes: options.memtable_bytes },
        verify: options.verify,
        accept_loss: options.accept_loss.contains(&region),
    }
}

/// One thread looks after the replicas and does all repairs, one after the other: what is ordered,
/// and once a second whatever is known to be behind.
fn spawn_repairs(
    shared: &Arc<Shared>,
    orders: mpsc::Receiver<RepairOrder>,
) -> Result<(), OpenError> {
    let shared = Arc::downgrade(shared);
    let work = move || {
        let mut looked = Instant::now();
        loop {
            let order = orders.recv_timeout(REPAIR_EVERY);
            let Some(shared) = shared.upgrade() else { return };
            if looked.elapsed() >= REPAIR_EVERY {
                shared.look_after();
                looked = Instant::now();
            }
            match order {
                Ok(RepairOrder { region, done }) => {
                    let count = shared.repair(region);
                    if let Some(done) = done {
                        let _ = done.send(count);
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => shared.repair_those_behind(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    std::thread::Builder::new().name("store-repair".to_owned()).spawn(work).map(|_| ()).map_err(
        |source| OpenError::Io {
            name: "all".to_owned(),
            what: "starting the repair thread",
            source,
        },
    )
}
