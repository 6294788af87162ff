//! The simulated store: replicas in memory, one for each region, under a sky that can be made as
//! bad as the protocol must survive: messages delayed, overtaken, lost, far too late; regions cut
//! off from each other; replicas that crash, with or without what they had not yet synced.
//!
//! Everything random comes from the seed and all waiting is tokio's, so under paused time
//! (`start_paused`) a run takes no time, and the same seed on a current-thread runtime gives the
//! same run.
//!
//! A write can be read on a replica as soon as it has arrived and is confirmed when it is synced,
//! as in Scylla: what a crash takes back may have been seen.

mod network;
mod replica;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conversation::shard::{Cas, Lease};
use wire::{Epoch, Position, RegionId, ShardId, Slot, ZoneId};

use self::network::Network;
use crate::cell::{Table, log_key, shard_key};
use crate::contract::{Store, StoreError};
use crate::quorum::{ConditionalWrites, Coordinator};

/// How bad it is out there. Everything is drawn anew for each message.
#[derive(Clone, Debug)]
pub struct Weather {
    /// One way between two regions. Messages overtake each other as their delays will have it.
    pub delay: Range<Duration>,
    /// What a sync takes.
    pub sync: Range<Duration>,
    /// The share of messages that never arrive, requests and answers alike, 0 to 1.
    pub lost: f64,
    /// The share of writes that arrive `late_by` late: long after their sender has given up.
    pub late: f64,
    /// See `late`.
    pub late_by: Range<Duration>,
    /// After this the sender gives up, and the outcome is unknown.
    pub statement_timeout: Duration,
}

impl Weather {
    /// Everything arrives, after 1 to 10 ms.
    #[must_use]
    pub fn calm() -> Self {
        let ms = Duration::from_millis;
        Self {
            delay: ms(1)..ms(10),
            sync: Duration::from_micros(50)..ms(1),
            lost: 0.0,
            late: 0.0,
            late_by: ms(2_500)..ms(20_000),
            statement_timeout: ms(2_000),
        }
    }

    /// A tenth of the messages is lost, a tenth of the writes far too late, and any message may
    /// take 300 ms.
    #[must_use]
    pub fn storm() -> Self {
        Self {
            delay: Duration::from_millis(1)..Duration::from_millis(300),
            lost: 0.1,
            late: 0.1,
            ..Self::calm()
        }
    }
}

/// What is wrong with one region's replica, beside the weather.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trouble {
    /// What each sync takes, when it is not the weather's to say.
    pub sync: Option<Duration>,
    /// The share of writes to it that come late, 0 to 1.
    pub late: f64,
    /// So late.
    pub late_by: Duration,
    /// The share of writes that never reach it, 0 to 1.
    pub lost: f64,
}

/// See [`Simulated::new`].
#[derive(Clone, Debug)]
pub struct SimulatedOptions {
    /// Decides everything.
    pub seed: u64,
    /// All regions.
    pub regions: Vec<RegionId>,
    /// The zones and the regions in which their data may rest.
    pub zones: Vec<(ZoneId, Vec<RegionId>)>,
    /// At first.
    pub weather: Weather,
    /// A write is confirmed when it is on disk, whatever it asks for: as with Cassandra's and
    /// Scylla's `commitlog_sync: batch`. Without it, what need not be synced may be lost with the
    /// machine, as in a store that lives in one process with its readers.
    pub sync_all: bool,
}

/// What a crash takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process: what it had written is still there.
    Process,
    /// The machine: of what was not synced, a beginning remains, perhaps nothing.
    Machine,
}

/// The replicas and the network between them.
pub struct Simulated {
    network: Arc<Network>,
    conditional: Arc<ConditionalWrites>,
}

impl Simulated {
    /// Empty replicas in all regions.
    #[must_use]
    pub fn new(options: SimulatedOptions) -> Self {
        Self {
            network: Arc::new(Network::new(options)),
            conditional: Arc::new(ConditionalWrites::new(1)),
        }
    }

    /// A region's handle.
    #[must_use]
    pub fn store(&self, region: RegionId) -> Arc<dyn Store> {
        Arc::new(self.handle(region))
    }

    /// A seal that is written whoever has claimed the shard since: what [`Store::seal`] must never
    /// do. For those who check that their checks would notice.
    ///
    /// # Errors
    /// As [`Store::seal`].
    pub async fn seal_blindly(
        &self,
        region: RegionId,
        shard: ShardId,
        epoch: Epoch,
        start: Slot,
    ) -> Result<Cas, StoreError> {
        let seal = |lease: &Lease| {
            let mut lease = lease.clone();
            lease.starts.insert(epoch, start);
            Some(lease)
        };
        self.handle(region).write_if(shard, seal).await
    }

    fn handle(&self, region: RegionId) -> Coordinator<Arc<Network>> {
        Coordinator {
            replicas: Arc::clone(&self.network),
            region,
            at: region,
            conditional: Arc::clone(&self.conditional),
        }
    }

    /// From now on.
    pub fn set_weather(&self, weather: Weather) {
        self.network.set_weather(weather);
    }

    /// No message passes between these two any more, either way, not even those on their way.
    pub fn cut(&self, a: RegionId, b: RegionId) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// What the one sends no longer reaches the other.
    pub fn cut_one_way(&self, from: RegionId, to: RegionId) {
        self.network.set_cut(from, to, true);
    }

    /// Messages pass again, both ways.
    pub fn heal(&self, a: RegionId, b: RegionId) {
        self.heal_one_way(a, b);
        self.heal_one_way(b, a);
    }

    /// What the one sends reaches the other again.
    pub fn heal_one_way(&self, from: RegionId, to: RegionId) {
        self.network.set_cut(from, to, false);
    }

    /// From now on a message from the one to the other takes so long, whatever the weather.
    pub fn set_delay(&self, from: RegionId, to: RegionId, delay: Duration) {
        self.network.set_delay(from, to, delay);
    }

    /// From now on this is wrong with the region's replica, and nothing else.
    pub fn set_trouble(&self, region: RegionId, trouble: Trouble) {
        self.network.set_trouble(region, trouble);
    }

    /// The log frames that can be read on this region's replica.
    #[must_use]
    pub fn frames_at(&self, region: RegionId) -> Vec<Bytes> {
        self.network.frames_at(region)
    }

    /// How many replicas have this log row on disk.
    #[must_use]
    pub fn copies(&self, shard: ShardId, at: Position) -> usize {
        self.network.copies(&Bytes::from(log_key(shard, at)))
    }

    /// No replica has a row of this shard's log before the slot any more, as when they are older
    /// than what a store keeps.
    pub fn forget_log(&self, shard: ShardId, before: Slot) {
        let end = log_key(shard, Position { epoch: Epoch(0), slot: before });
        self.network.forget(Table::Log, &shard_key(shard), &end);
    }

    /// The region's replica and its handles stop.
    pub fn crash(&self, region: RegionId, crash: Crash) {
        self.network.crash(region, crash);
    }

    /// They go on, with what the crash left.
    pub fn restart(&self, region: RegionId) {
        self.network.restart(region);
    }

    /// The region's replica takes from all others, through any cut, what it lacks. Returns how many
    /// rows that were.
    pub fn repair(&self, region: RegionId) -> usize {
        self.network.repair(region)
    }

    /// Whether these bytes stand in what the region keeps.
    #[must_use]
    pub fn holds(&self, region: RegionId, needle: &[u8]) -> bool {
        self.network.holds(region, needle)
    }
}
