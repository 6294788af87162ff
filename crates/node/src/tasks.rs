//! Tasks that somebody watches: each is named, a panic in one is reported and counted, and all end together, in order and
//! within a bound.
//!
//! A component owns one [`Tasks`]. To stop, it says so through the token ([`Tasks::stopping`]), waits, and drops whoever
//! does not listen. Components are stopped one after another by whoever built them, in the order in which work flows
//! through them.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long tasks that did not listen may take to notice that they have been dropped: they do at their next await.
const DROP_GRACE: Duration = Duration::from_millis(500);

/// The tasks of one component. A clone is the same tasks.
#[derive(Clone, Debug)]
pub struct Tasks {
    component: &'static str,
    tracker: TaskTracker,
    stop: CancellationToken,
    drop: CancellationToken,
    panicked: Arc<Mutex<Vec<&'static str>>>,
}

/// How a stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// All tasks ended by themselves.
    InTime,
    /// These many did not, and were dropped at an await.
    Dropped(usize),
    /// These many neither ended nor came to an await; they end with the runtime.
    Stuck(usize),
}

impl Tasks {
    /// For a component of this name.
    #[must_use]
    pub fn new(component: &'static str) -> Self {
        Self {
            component,
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            drop: CancellationToken::new(),
            panicked: Arc::default(),
        }
    }

    /// Runs a task. Its panic is logged, counted in `hearth_task_panics_total` and remembered ([`Tasks::panicked`]). After
    /// [`Tasks::stop`] has begun new tasks still run, and the stop waits for them too.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let this = self.clone();
        self.tracker.spawn(async move {
            let watched = AssertUnwindSafe(task).catch_unwind();
            let ended = tokio::select! {
                biased;
                () = this.drop.cancelled() => return,
                ended = watched => ended,
            };
            if let Err(payload) = ended {
                this.report(name, &*payload);
            }
        })
    }

    /// Resolves when the tasks should end; also for handing on to parts that know nothing of tasks.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// The tasks that have panicked, in that order. A component with one is not ready.
    #[must_use]
    pub fn panicked(&self) -> Vec<&'static str> {
        self.panicked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many tasks run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Asks the tasks to end, waits for them until the deadline, then drops the rest. Takes at most `deadline` and half a
    /// second. Not cancel safe in one way only: when dropped, the tasks have been asked but nobody waits.
    pub async fn stop(&self, deadline: Duration) -> Stopped {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok() {
            return Stopped::InTime;
        }
        let late = self.tracker.len();
        self.drop.cancel();
        let dropped = tokio::time::timeout(DROP_GRACE, self.tracker.wait()).await;
        let stuck = self.tracker.len();
        tracing::warn!(component = self.component, late, stuck, "tasks did not end in time");
        if dropped.is_ok() { Stopped::Dropped(late) } else { Stopped::Stuck(stuck) }
    }

    fn report(&self, task: &'static str, payload: &(dyn std::any::Any + Send)) {
        let why = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        tracing::error!(component = self.component, task, why, "task panicked");
        metrics::counter!("hearth_task_panics_total", "component" => self.component, "task" => task).increment(1);
        self.panicked.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }
}

#[cfg(test)]
mod tests;
