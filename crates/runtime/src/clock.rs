//! The wall clock, for tokens and for people. Leases and timeouts never read it: it may jump.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since 1970; zero if the machine's clock stands before that.
#[must_use]
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Milliseconds since 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    u64::try_from(unix_time().as_millis()).unwrap_or(u64::MAX)
}
