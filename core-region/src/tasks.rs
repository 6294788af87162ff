//! Every task of a core is watched for panics, ends in order when the core is stopped, and is
//! dropped at once when the core is dropped, as if the machine had failed.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Spawns what belongs to one core. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    watched: node::Tasks,
    kill: CancellationToken,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self { watched: node::Tasks::new("core"), kill: CancellationToken::new() }
    }

    /// Spawns a task that is dropped where it stands when the core is killed.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let kill = self.kill.clone();
        self.watched.spawn(name, async move {
            kill.run_until_cancelled(task).await;
        });
    }

    /// Spawns a task that is dropped where it stands when the core is asked to stop, too.
    pub(crate) fn spawn_while_running(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stopping = self.stopping();
        self.spawn(name, async move {
            stopping.run_until_cancelled(task).await;
        });
    }

    /// Cancelled when the core is asked to stop.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.watched.stopping()
    }

    /// Tasks that have panicked.
    pub(crate) fn panicked(&self) -> Vec<&'static str> {
        self.watched.panicked()
    }

    /// Asks all tasks to end and waits; those that have not ended by the deadline are dropped.
    pub(crate) async fn stop(&self, deadline: Duration) -> node::Stopped {
        self.watched.stop(deadline).await
    }

    /// Drops every task where it stands.
    pub(crate) fn kill(&self) {
        self.kill.cancel();
    }
}
