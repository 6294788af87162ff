//! The runtime of commands that use sockets; nodes make their own.

use std::time::Duration;

/// Blocked threads, such as one that reads the keyboard, are given up after this.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(200);

/// Runs a command to its end.
///
/// # Errors
/// As the command, or when the operating system has no threads.
pub(crate) fn wait_for(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(Box::pin(command));
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    outcome
}
