//! The ways between the replicas, and what happens on them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use wire::{RegionId, ZoneId};

use super::replica::Replica;
use super::{Crash, SimulatedOptions, Trouble, Weather};
use crate::cell::{Stored, Table};
use crate::quorum::{Asking, ReplicaError, Replicas, Scan, Sync, Write};

pub(super) struct Network {
    zones: HashMap<ZoneId, Arc<[RegionId]>>,
    sync_all: bool,
    world: Mutex<World>,
}

struct World {
    random: StdRng,
    weather: Weather,
    replicas: BTreeMap<RegionId, Replica>,
    /// Directions in which nothing passes.
    cuts: BTreeSet<(RegionId, RegionId)>,
    /// What the weather's delay is replaced by.
    delays: BTreeMap<(RegionId, RegionId), Duration>,
    troubles: BTreeMap<RegionId, Trouble>,
}

impl World {
    fn draw(&mut self, range: &Range<Duration>) -> Duration {
        if range.is_empty() { range.start } else { self.random.random_range(range.clone()) }
    }

    fn is_cut(&self, a: RegionId, b: RegionId) -> bool {
        self.cuts.contains(&(a, b))
    }

    /// How long a message takes; none: for ever.
    fn passage(&mut self, from: RegionId, to: RegionId) -> Option<Duration> {
        if from == to {
            return Some(Duration::ZERO);
        }
        let lost = self.weather.lost > 0.0 && self.random.random_bool(self.weather.lost);
        let drawn = self.draw(&self.weather.delay.clone());
        let delay = self.delays.get(&(from, to)).copied().unwrap_or(drawn);
        (!lost && !self.is_cut(from, to)).then_some(delay)
    }

    /// How much later than usual a write comes. None: it never does.
    fn lateness(&mut self, from: RegionId, to: RegionId) -> Option<Duration> {
        let mut drawn = |share: f64| share > 0.0 && self.random.random_bool(share.min(1.0));
        let mut late = None;
        if let Some(trouble) = self.troubles.get(&to) {
            if drawn(trouble.lost) {
                return None;
            }
            late = drawn(trouble.late).then_some(trouble.late_by);
        }
        if late.is_none() && from != to && drawn(self.weather.late) {
            let late_by = self.weather.late_by.clone();
            late = Some(self.draw(&late_by));
        }
        Some(late.unwrap_or(Duration::ZERO))
    }

    fn up(&mut self, region: RegionId) -> Option<&mut Replica> {
        self.replicas.get_mut(&region).filter(|replica| replica.is_up)
    }
}

impl Network {
    pub(super) fn new(options: SimulatedOptions) -> Self {
        let up = |region: &RegionId| (*region, Replica::empty());
        let world = World {
            random: StdRng::seed_from_u64(options.seed),
            weather: options.weather,
            replicas: options.regions.iter().map(up).collect(),
            cuts: BTreeSet::new(),
            delays: BTreeMap::new(),
            troubles: BTreeMap::new(),
        };
        let zones =
            options.zones.into_iter().map(|(zone, regions)| (zone, regions.into())).collect();
        Self { zones, sync_all: options.sync_all, world: Mutex::new(world) }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_weather(&self, weather: Weather) {
        self.world().weather = weather;
    }

    pub(super) fn set_cut(&self, from: RegionId, to: RegionId, cut: bool) {
        if cut {
            self.world().cuts.insert((from, to))
        } else {
            self.world().cuts.remove(&(from, to))
        };
    }

    pub(super) fn set_delay(&self, from: RegionId, to: RegionId, delay: Duration) {
        self.world().delays.insert((from, to), delay);
    }

    pub(super) fn set_trouble(&self, region: RegionId, trouble: Trouble) {
        self.world().troubles.insert(region, trouble);
    }

    pub(super) fn crash(&self, region: RegionId, crash: Crash) {
        let mut world = self.world();
        let Some(unsynced) = world.up(region).map(|replica| replica.unsynced()) else { return };
        let kept = match crash {
            Crash::Process => unsynced,
            Crash::Machine => world.random.random_range(0..=unsynced),
        };
        if let Some(replica) = world.up(region) {
            replica.crash(kept);
        }
    }

    pub(super) fn restart(&self, region: RegionId) {
        if let Some(replica) = self.world().replicas.get_mut(&region) {
            replica.is_up = true;
        }
    }

    /// All replicas lose these keys, those that are down, too.
    pub(super) fn forget(&self, table: Table, from: &[u8], to: &[u8]) {
        for replica in self.world().replicas.values_mut() {
            replica.forget(table, from, to);
        }
    }

    pub(super) fn repair(&self, region: RegionId) -> usize {
        let mut world = self.world();
        let mut taken = 0;
        for (&zone, regions) in self.zones.iter().filter(|(_, regions)| regions.contains(&region)) {
            for &other in regions.iter().filter(|&&other| other != region) {
                let cells = world.up(other).map(|replica| replica.cells(zone)).unwrap_or_default();
                taken += world.up(region).map_or(0, |replica| replica.take(cells));
            }
        }
        taken
    }

    pub(super) fn frames_at(&self, region: RegionId) -> Vec<Bytes> {
        let world = self.world();
        world
            .replicas
            .get(&region)
            .into_iter()
            .flat_map(Replica::log)
            .map(|stored| stored.bytes)
            .collect()
    }

    pub(super) fn copies(&self, log_key: &Bytes) -> usize {
        self.world()
            .replicas
            .values()
            .filter(|replica| replica.has_synced(Table::Log, log_key))
            .count()
    }

    pub(super) fn holds(&self, region: RegionId, needle: &[u8]) -> bool {
        self.world().replicas.get(&region).is_some_and(|replica| replica.holds(needle))
    }

    /// A message travels. None: it never arrives.
    async fn travel(&self, from: RegionId, to: RegionId, extra: Duration) -> Option<()> {
        let delay = self.world().passage(from, to)?;
        sleep(delay + extra).await;
        (!self.world().is_cut(from, to)).then_some(())
    }

    /// A write from its sender to the confirmation. None: nobody will ever hear of it.
    async fn carry(&self, from: RegionId, to: RegionId, write: &Write) -> Option<()> {
        let late = self.world().lateness(from, to)?;
        self.travel(from, to, late).await?;
        let (incarnation, upto, takes) = {
            let mut world = self.world();
            let takes = world.weather.sync.clone();
            let takes = world.draw(&takes);
            let takes = world.troubles.get(&to).and_then(|trouble| trouble.sync).unwrap_or(takes);
            let replica = world.up(to)?;
            replica.write(&write.cells);
            (replica.incarnation, replica.unsynced(), takes)
        };
        if self.sync_all || matches!(write.sync, Sync::Disk(_)) {
            sleep(takes).await;
            let mut world = self.world();
            // Syncs that ended meanwhile have taken some of them; syncing more is no harm.
            world.up(to).filter(|replica| replica.incarnation == incarnation)?.sync(upto);
        }
        self.travel(to, from, Duration::ZERO).await
    }

    /// A question and its answer.
    async fn ask<T>(
        &self,
        from: RegionId,
        to: RegionId,
        answer: impl FnOnce(&Replica) -> Result<T, ReplicaError> + Send,
    ) -> Result<T, ReplicaError> {
        let statement_timeout = self.world().weather.statement_timeout;
        let work = async {
            self.travel(from, to, Duration::ZERO).await?;
            let answer = answer(self.world().up(to)?);
            self.travel(to, from, Duration::ZERO).await?;
            Some(answer)
        };
        match timeout(statement_timeout, work).await {
            Ok(Some(answer)) => answer,
            // The silence of a lost message ends when statement_timeout does.
            Ok(None) => {
                sleep(statement_timeout).await;
                Err(ReplicaError::Gone)
            }
            Err(_) => Err(ReplicaError::Gone),
        }
    }
}

#[async_trait]
impl Replicas for Arc<Network> {
    fn zone(&self, zone: ZoneId) -> Option<Arc<[RegionId]>> {
        self.zones.get(&zone).cloned()
    }

    fn is_open(&self, region: RegionId) -> bool {
        self.world().up(region).is_some()
    }

    fn is_reachable(&self, _from: RegionId, _to: RegionId) -> bool {
        // Nobody can know.
        true
    }

    fn distance(&self, from: RegionId, to: RegionId) -> Duration {
        if from == to { Duration::ZERO } else { Duration::from_nanos(1) }
    }

    fn asking(&self) -> Asking {
        Asking::All
    }

    fn write(
        &self,
        from: RegionId,
        to: RegionId,
        write: &Arc<Write>,
    ) -> BoxFuture<'static, Result<(), ReplicaError>> {
        let (network, write) = (Arc::clone(self), Arc::clone(write));
        let statement_timeout = self.world().weather.statement_timeout;
        let (confirm, confirmed) = oneshot::channel();
        tokio::spawn(async move {
            if network.carry(from, to, &write).await.is_some() {
                let _ = confirm.send(());
            } else {
                sleep(statement_timeout).await;
            }
        });
        async move {
            match timeout(statement_timeout, confirmed).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(ReplicaError::Gone),
            }
        }
        .boxed()
    }

    fn write_later(&self, from: RegionId, to: RegionId, write: &Arc<Write>) {
        let network = Arc::clone(self);
        let copy = Write { zone: write.zone, cells: write.cells.clone(), sync: Sync::Memory };
        tokio::spawn(async move { network.carry(from, to, &copy).await });
    }

    async fn get(
        &self,
        from: RegionId,
        to: RegionId,
        table: Table,
        key: &[u8],
    ) -> Result<Option<Stored>, ReplicaError> {
        self.ask(from, to, |replica| replica.get(table, key)).await
    }

    async fn scan(
        &self,
        from: RegionId,
        to: RegionId,
        scan: &Scan,
    ) -> Result<Vec<(Bytes, Stored)>, ReplicaError> {
        self.ask(from, to, |replica| replica.scan(scan)).await
    }
}
