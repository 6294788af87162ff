//! The clock of timed leases: it counts the time in which the machine is suspended (rule L8). Times
//! shown to people are the wall clock's ([`node::clock`]).

use std::time::Duration;

use conversation::shard::Uptime;
use nix::time::{ClockId, clock_gettime};

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
/// On these systems the monotonic clock counts it.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

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
