//! A machine: an address, clocks, and at most one process on it. The process is a tokio runtime of
//! its own on paused time, so it can be killed where it stands, stand still while the world goes
//! on, and have clocks that run wrong.

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::runtime::{Builder, Handle, RngSeed, Runtime, UnhandledPanic};
use tokio::time::Instant;
use turmoil_net::HostId;

use crate::fabric::Fabric;
use crate::hooks;

/// The wall clock at the start of every run: 1 January 2026.
pub const EPOCH: Duration = Duration::from_secs(1_767_225_600);
/// Monotonic clocks start here, so that code may look back a little.
const UPTIME: Duration = Duration::from_secs(100_000);

pub struct Machine {
    /// Its name in logs.
    pub name: String,
    pub ip: IpAddr,
    host: HostId,
    process: Option<Process>,
    is_paused: bool,
    /// Seconds of its clocks per true second.
    rate: f64,
    /// Its monotonic clock.
    shown: Duration,
    /// Offset of its wall clock, milliseconds.
    off_ms: i64,
    rng: SmallRng,
}

struct Process {
    runtime: Runtime,
    /// Start of the process, by its own clock and by the machine's.
    began: Instant,
    began_shown: Duration,
}

impl Machine {
    /// Off.
    pub fn new(name: String, ip: IpAddr, host: HostId, seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        Self {
            name,
            ip,
            host,
            process: None,
            is_paused: false,
            rate: 1.0,
            shown: Duration::ZERO,
            off_ms: 0,
            rng,
        }
    }

    /// Whether it has a process, running or paused.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.process.is_some()
    }

    /// Whether its process runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_some() && !self.is_paused
    }

    /// Starts a process that begins with this task.
    ///
    /// # Errors
    /// When no runtime can be made.
    pub fn start(
        &mut self,
        fabric: &Fabric,
        main: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        self.enter(fabric);
        let seed = RngSeed::from_bytes(&self.rng.random::<[u8; 32]>());
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .rng_seed(seed)
            .unhandled_panic(UnhandledPanic::Ignore)
            .build()?;
        let began = runtime.block_on(async {
            // Timers have whole milliseconds: begin at one.
            tokio::time::sleep(Duration::from_millis(1)).await;
            Instant::now()
        });
        runtime.spawn(main);
        self.is_paused = false;
        self.process = Some(Process { runtime, began, began_shown: self.shown });
        Ok(())
    }

    /// Kills the process; its kernel closes the sockets.
    pub fn kill(&mut self, fabric: &Fabric) {
        self.enter(fabric);
        self.process = None;
        self.is_paused = false;
    }

    /// Pauses or resumes the process.
    pub fn set_paused(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    /// Sets the rate of its clocks, and moves its wall clock.
    pub fn set_clock(&mut self, rate: f64, jump_ms: i64) {
        self.rate = rate;
        self.off_ms += jump_ms;
    }

    /// The runtime of this process.
    #[must_use]
    pub fn handle(&self) -> Option<Handle> {
        self.process.as_ref().map(|process| process.runtime.handle().clone())
    }

    /// Number of live tasks.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.process.as_ref().map_or(0, |process| process.runtime.metrics().num_alive_tasks())
    }

    /// Runs the machine for this time.
    pub fn run(&mut self, fabric: &Fabric, tick: Duration) {
        self.enter(fabric);
        self.shown += tick.mul_f64(self.rate);
        let Some(process) = self.process.as_ref().filter(|_| !self.is_paused) else { return };
        let until = process.began + (self.shown - process.began_shown);
        process.runtime.block_on(async {
            let stood = until.saturating_duration_since(Instant::now());
            if stood > 2 * tick.mul_f64(self.rate) {
                // It was paused: all of that time passes at once.
                tokio::time::advance(stood - tick.mul_f64(self.rate)).await;
            }
            tokio::time::sleep_until(until).await;
        });
    }

    /// Makes this machine current: its clocks, its sockets.
    fn enter(&self, fabric: &Fabric) {
        fabric.set_current(self.host);
        let off = Duration::from_millis(self.off_ms.unsigned_abs());
        let wall = EPOCH + self.shown;
        let wall = if self.off_ms < 0 { wall.saturating_sub(off) } else { wall + off };
        hooks::set_clocks(UPTIME + self.shown, wall);
    }
}
