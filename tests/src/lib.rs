//! The tools of `tests/stories` and `tests/deployed`: the real program in processes of its own, on
//! a local mesh ([`mesh`]) or as an operator deploys it ([`deployment`]); bare HTTP ([`http`]) and
//! WebSocket ([`socket`]) clients that share nothing with the SDK, so that the SDK's mistakes show;
//! people who talk through the SDK while things break ([`load`]); real chat logs, replayed and
//! checked ([`replay`]); and processes killed between two changes of their files ([`cut`]).

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "this crate is tests through and through"
)]

pub mod cut;
pub mod deployment;
pub mod http;
pub mod load;
pub mod mesh;
pub mod replay;
pub mod soak;
pub mod socket;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A story waits at most this long for anything. No story asserts a time: this only ends a hang.
pub const HANG_TIMEOUT: Duration = Duration::from_secs(60);

/// Polls until there is something, or fails with `what` after [`HANG_TIMEOUT`].
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    look: impl FnMut() -> F,
) -> T {
    eventually_within(HANG_TIMEOUT, what, look).await
}

/// As [`eventually`], with another timeout.
pub async fn eventually_within<T, F>(
    timeout: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T
where
    F: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < timeout, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The ubuntu-irc logs: in `HEARTH_IRC_LOGS`, or beside the tree. Where they are missing a story
/// says that it is skipped; in CI that is a failure.
#[must_use]
pub fn irc_logs() -> Option<Vec<PathBuf>> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/ubuntu-irc");
    let dir = std::env::var_os("HEARTH_IRC_LOGS").map_or(beside, PathBuf::from);
    let mut logs: Vec<_> = std::fs::read_dir(&dir)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    logs.retain(|path: &PathBuf| path.to_string_lossy().ends_with(".raw.txt"));
    logs.sort();
    if logs.is_empty() {
        test_cluster::skip(
            "the ubuntu-irc logs are not there: set HEARTH_IRC_LOGS to their folder",
        );
        return None;
    }
    Some(logs)
}
