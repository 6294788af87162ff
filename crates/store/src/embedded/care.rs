//! Looks after the replicas, once a second: how much room is left on a disk, whether a folder is
//! still the one that is served from, and whether a replica that stopped by itself can come back.
//!
//! **Room.** Below the reserve a replica asks for nothing new ([`Disk::is_short`],
//! [`Store::refuses`](crate::Store::refuses)), while the engine still has room for what it must
//! write: its tables, leases, marks. It asks again an eighth above the reserve.
//!
//! **Coming back.** A replica that could not write holds everything that it has confirmed. So once
//! a probe can be written and synced it is closed, opened as after a crash, and catches up from the
//! others. Where its folder is gone, it is a replica that has lost everything
//! ([`recover`](super::recover)): the others fill it, if they must have all that it confirmed.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use wire::RegionId;

use super::assess::{Assessment, Loss};
use super::engine::Engine;
use super::highwater::HighWaterMark;
use super::recover::{self, Opened, Tried};
use super::report::OpenError;
use super::site::{RegionState, Shared, Site};

/// Between two tries to open a replica again, at first; it doubles.
const TRY_AGAIN: Duration = Duration::from_secs(1);
const TRY_AGAIN_MAX: Duration = Duration::from_secs(30);
/// What a probe writes.
const PROBE_BYTES: usize = 64 * 1024;

/// The least that must be left on the disk of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Bytes. Default: 256 MiB.
    pub bytes: u64,
    /// Of the size of the file system, where that is less. Default: 5.
    pub percent: u64,
}

impl Default for Reserve {
    fn default() -> Self {
        Self { bytes: 256 * 1024 * 1024, percent: 5 }
    }
}

/// How a replica is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether it serves.
    pub state: RegionState,
    /// What is left on its disk; none: not known.
    pub free_bytes: Option<u64>,
    /// Below this it takes nothing new.
    pub reserve_bytes: u64,
    /// Why it takes nothing new, in words for people.
    pub trouble: Option<String>,
}

/// What is known of the disk of a replica.
#[derive(Debug)]
pub(super) struct Disk {
    free: AtomicU64,
    reserve: AtomicU64,
    short: AtomicBool,
}

const UNKNOWN: u64 = u64::MAX;

impl Disk {
    pub(super) fn new() -> Self {
        let [free, reserve] = [UNKNOWN, 0].map(AtomicU64::new);
        Self { free, reserve, short: AtomicBool::new(false) }
    }

    fn measure(&self, dir: &Path, reserve: Reserve) {
        let Ok(disk) = nix::sys::statvfs::statvfs(dir) else {
            return self.free.store(UNKNOWN, Ordering::Release);
        };
        let unit = disk.fragment_size();
        let free = disk.blocks_available().saturating_mul(unit);
        let size = disk.blocks().saturating_mul(unit);
        self.learn(free, reserve.bytes.min(size / 100 * reserve.percent));
    }

    fn learn(&self, free: u64, reserve: u64) {
        self.free.store(free, Ordering::Release);
        self.reserve.store(reserve, Ordering::Release);
        let enough = if self.is_short() { reserve + reserve / 8 } else { reserve };
        self.short.store(free < enough, Ordering::Release);
    }

    /// Whether less is left than the reserve.
    pub(super) fn is_short(&self) -> bool {
        self.short.load(Ordering::Acquire)
    }

    /// None: not known.
    fn free(&self) -> Option<u64> {
        Some(self.free.load(Ordering::Acquire)).filter(|&free| free != UNKNOWN)
    }

    fn reserve(&self) -> u64 {
        self.reserve.load(Ordering::Acquire)
    }
}

/// When a replica that stopped is tried next.
#[derive(Debug)]
pub(super) struct Retry {
    next: Instant,
    wait: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { next: Instant::now(), wait: TRY_AGAIN }
    }
}

/// What a replica had confirmed, and in which file it said so.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) mark: HighWaterMark,
    pub(super) file: (u64, u64),
}

impl Site {
    /// Why it takes nothing new.
    pub(super) fn refuses(&self) -> Option<String> {
        if !self.disk.is_short() && !self.has_failed() {
            return None;
        }
        let name = &self.name;
        if let RegionState::Failed(why) = self.state() {
            return Some(format!("the copy in {name} cannot be written: {why}"));
        }
        let (free, reserve) = (self.disk.free().unwrap_or(0), self.disk.reserve());
        self.disk.is_short().then(|| {
            format!(
                "the disk of the copy in {name} is full: {} MiB are left, and {} are kept free",
                free >> 20,
                reserve.div_ceil(1 << 20)
            )
        })
    }

    pub(super) fn health(&self) -> Health {
        Health {
            state: self.state(),
            free_bytes: self.disk.free(),
            reserve_bytes: self.disk.reserve(),
            trouble: self.refuses(),
        }
    }

    /// Whether the files that it writes are no longer those of its folder: nothing would tell it.
    fn is_gone(&self) -> bool {
        let Some(open) = self.file() else { return false };
        let found = fs::metadata(self.dir.join("commits"));
        found.is_err() || found.is_ok_and(|found| (found.dev(), found.ino()) != open)
    }

    /// Whether its disk takes a write.
    fn probe(&self) -> io::Result<()> {
        if !self.dir.try_exists()? {
            return Ok(());
        }
        let path = self.dir.join("probe");
        let mut file = File::create(&path)?;
        file.write_all(&[1; PROBE_BYTES])?;
        file.sync_all()?;
        fs::remove_file(&path)
    }
}

impl Shared {
    /// One look at every replica.
    pub(super) fn look_after(&self) {
        for site in self.sites() {
            site.disk.measure(&site.dir, self.reserve());
            match site.state() {
                RegionState::Open if site.is_gone() => {
                    let why = "its folder is gone, or another one is in its place".to_owned();
                    tracing::error!(
                        region = site.region.0,
                        why,
                        "the copy of this region stopped, filling it from the others"
                    );
                    site.kill(RegionState::Failed(why));
                }
                RegionState::Failed(why) => self.try_again(site, why),
                RegionState::Open | RegionState::Killed | RegionState::Closed => {}
            }
        }
    }

    fn try_again(&self, site: &Site, why: String) {
        let mut retry = site.retry.lock().unwrap_or_else(PoisonError::into_inner);
        if Instant::now() < retry.next || site.disk.is_short() || site.probe().is_err() {
            return;
        }
        site.kill(RegionState::Failed(why));
        let opened = if site.wait_until_closed_blocking() {
            self.reopen(site, |state| matches!(state, RegionState::Failed(_)))
                .map_err(|error| error.to_string())
        } else {
            Err("its files are still in use".to_owned())
        };
        match opened {
            Ok(()) => {
                *retry = Retry::default();
                site.behind.store(true, Ordering::Release);
                tracing::info!(region = site.region.0, "the copy of this region is back");
            }
            Err(why) => {
                tracing::warn!(
                    region = site.region.0,
                    why,
                    again_s = retry.wait.as_secs(),
                    "the copy of this region cannot be opened, trying again"
                );
                site.kill(RegionState::Failed(why));
                retry.next = Instant::now() + retry.wait;
                retry.wait = (retry.wait * 2).min(TRY_AGAIN_MAX);
            }
        }
    }

    /// Opens a replica that does not serve, unless its state is another meanwhile than the caller
    /// has seen.
    pub(super) fn reopen(
        &self,
        site: &Site,
        seen: fn(&RegionState) -> bool,
    ) -> Result<(), OpenError> {
        let _one = site.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen(&site.state()) {
            return Ok(());
        }
        let recover = self.recover_site(site);
        let mut assessment = recover.assess()?;
        if let Some(held) = site.held().filter(|held| !is_same(site, held)) {
            assessment.high_water = held.mark;
            let what = "its folder is not the one that it was served from";
            assessment.loss = Some(Loss::of_everything(site.dir.join("store"), what));
        }
        let others: Vec<(RegionId, Arc<Engine>)> = self
            .sites()
            .filter(|other| other.region != site.region)
            .filter_map(|other| Some((other.region, other.engine().ok()?)))
            .collect();
        let mut opened = match recover.open_whole(assessment)? {
            Tried::Whole(opened) => opened,
            Tried::Lost(assessment, loss) => heal(&recover, &assessment, &loss, &others)?,
        };
        let io = |source| OpenError::Io { name: site.name.clone(), what: "starting", source };
        opened.highwater.rewrite(|high_water| high_water.clean = false).map_err(io)?;
        site.start(opened, self.linger, seen).map_err(io)
    }
}

fn is_same(site: &Site, held: &Held) -> bool {
    let found = fs::metadata(site.dir.join("commits"));
    found.is_ok_and(|found| (found.dev(), found.ino()) == held.file)
}

fn heal(
    site: &recover::Site<'_>,
    assessment: &Assessment,
    loss: &Loss,
    others: &[(RegionId, Arc<Engine>)],
) -> Result<Opened, OpenError> {
    let whole: Vec<RegionId> = others.iter().map(|&(region, _)| region).collect();
    match site.refusal(&assessment.high_water, loss, &whole) {
        Some(refusal) => Err(refusal),
        None => site.heal(assessment, loss, others),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_takes_again_only_when_there_is_more_than_the_reserve() {
        let disk = Disk::new();
        assert!(!disk.is_short(), "nobody has looked");
        for (free, short) in [(100, false), (99, true), (110, true), (112, false), (100, false)] {
            disk.learn(free, 100);
            assert_eq!(disk.is_short(), short, "{free}");
        }
    }
}
