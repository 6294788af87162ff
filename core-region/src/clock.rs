//! Timed leases use a clock that counts the time in which the machine is suspended (rule L8); times
//! shown to people are the wall clock's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use conversation::shard::Uptime;
use nix::time::{ClockId, clock_gettime};

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
/// On these systems the monotonic clock counts it.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

/// The wall clock, milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The clock of leases.
pub(crate) fn now() -> Uptime {
    let now = clock_gettime(CLOCK).expect("every machine that Hearth runs on has this clock");
    Uptime(Duration::from(now))
}

/// Waits until it shows this. Returns what it shows then.
pub(crate) async fn until(when: Uptime) -> Uptime {
    loop {
        let now = now();
        // A timer does not count a suspension, so it may be late; it is never early by more than
        // its grain.
        match when.0.checked_sub(now.0).filter(|left| !left.is_zero()) {
            Some(left) => tokio::time::sleep(left).await,
            None => return now,
        }
    }
}
