//! Supervised tasks. Each has a name; its panic is logged, counted and remembered; all of them end
//! together, in order and within a bound.
//!
//! A component owns one [`Tasks`] and lists its panics in its status, so that `/readyz` shows them.
//! Its owner stops components one after another, in the order in which work flows through them.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::CatchUnwind;
use pin_project_lite::pin_project;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

/// A killed task ends at its next await, so it has this long to come to one.
const KILL_GRACE: Duration = Duration::from_millis(500);

/// The tasks of one component. A clone is the same tasks.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    component: &'static str,
    tracker: TaskTracker,
    phase: AtomicU8,
    stop: CancellationToken,
    kill: CancellationToken,
    panicked: Mutex<Vec<&'static str>>,
}

/// Phases of [`Inner::phase`]; they only grow.
const RUNNING: u8 = 0;
const STOPPING: u8 = 1;
const KILLED: u8 = 2;

/// How a stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// All tasks ended by themselves.
    InTime,
    /// This many did not, and were dropped at an await.
    Dropped(usize),
    /// This many neither ended nor came to an await; they end with the runtime.
    Stuck(usize),
}

impl Tasks {
    /// Tasks of the component with this name.
    #[must_use]
    pub fn new(component: &'static str) -> Self {
        Self(Arc::new(Inner {
            component,
            tracker: TaskTracker::new(),
            phase: AtomicU8::new(RUNNING),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            panicked: Mutex::default(),
        }))
    }

    /// Runs a task that ends by itself some time after [`Tasks::stopping`] says so.
    ///
    /// Its panic is logged, counted in `hearth_task_panics_total` and remembered
    /// ([`Tasks::panicked`]). Tasks that are spawned while the component stops still run, and the
    /// stop waits for them too.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_until(KILLED, name, task)
    }

    /// As [`Tasks::spawn`], but the task is dropped at its next await when the component stops.
    pub fn spawn_until_stop<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_until(STOPPING, name, task)
    }

    fn spawn_until<F>(&self, until: u8, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let token = if until == KILLED { &self.0.kill } else { &self.0.stop };
        self.0.tracker.spawn(Supervised {
            ended: token.clone().cancelled_owned(),
            registered: false,
            until,
            name,
            tasks: self.clone(),
            task: AssertUnwindSafe(task).catch_unwind(),
        })
    }

    /// Cancelled when the tasks should end. Also for parts that know nothing of tasks: to cancel
    /// this token stops nobody else.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.0.stop.child_token()
    }

    /// Whether the tasks have been asked to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.phase.load(Ordering::Acquire) != RUNNING
    }

    /// The tasks that have panicked, oldest first. A component with one is not ready.
    #[must_use]
    pub fn panicked(&self) -> Vec<&'static str> {
        self.0.panicked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many tasks run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.0.tracker.len()
    }

    /// Asks the tasks to end, and waits for nobody.
    pub fn begin_stop(&self) {
        self.0.phase.fetch_max(STOPPING, Ordering::AcqRel);
        self.0.stop.cancel();
        self.0.tracker.close();
    }

    /// Asks the tasks to end, waits for them until the deadline, then drops the rest. Takes at most
    /// `deadline` and half a second. If this future is dropped, the tasks have still been asked.
    pub async fn stop(&self, deadline: Duration) -> Stopped {
        self.begin_stop();
        let tracker = &self.0.tracker;
        if tokio::time::timeout(deadline, tracker.wait()).await.is_ok() {
            return Stopped::InTime;
        }
        let late = tracker.len();
        self.kill();
        let dropped = tokio::time::timeout(KILL_GRACE, tracker.wait()).await;
        let stuck = tracker.len();
        let component = self.0.component;
        tracing::warn!(component, late, stuck, "tasks did not end in time, dropped");
        if dropped.is_ok() { Stopped::Dropped(late) } else { Stopped::Stuck(stuck) }
    }

    /// Drops every task at its next await, as if the machine had failed. No task sees a stop first.
    pub fn kill(&self) {
        self.0.phase.store(KILLED, Ordering::Release);
        self.0.kill.cancel();
        self.0.stop.cancel();
        self.0.tracker.close();
    }

    fn report(&self, task: &'static str, payload: &(dyn Any + Send)) {
        let why = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let component = self.0.component;
        tracing::error!(component, task, why, "task panicked");
        metrics::counter!("hearth_task_panics_total", "component" => component, "task" => task)
            .increment(1);
        self.0.panicked.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }
}

pin_project! {
    // Written by hand because an async block would hold the task twice, and a session's task is
    // most of what a session costs.
    struct Supervised<F> {
        #[pin]
        task: CatchUnwind<AssertUnwindSafe<F>>,
        #[pin]
        ended: WaitForCancellationFutureOwned,
        registered: bool,
        until: u8,
        name: &'static str,
        tasks: Tasks,
    }
}

impl<F: Future<Output = ()>> Future for Supervised<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        // To poll the token takes a lock that all tasks share. A task's waker never changes, so
        // once is enough: the token then wakes us, and the phase says why.
        if !*this.registered {
            *this.registered = true;
            if this.ended.poll(cx).is_ready() {
                return Poll::Ready(());
            }
        }
        if this.tasks.0.phase.load(Ordering::Acquire) >= *this.until {
            return Poll::Ready(());
        }
        if let Err(payload) = ready!(this.task.poll(cx)) {
            this.tasks.report(this.name, &*payload);
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests;
