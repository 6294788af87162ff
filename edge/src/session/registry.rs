//! All sessions of this edge: to look at their clocks, to drain them, to count them.

use runtime::clock::unix_ms;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::state::Session;
use crate::shared::Shared;

/// Parts that the sessions are spread over, each with its own lock.
const PARTS: usize = 32;
/// A round through all parts takes a second; so many parts are done at once.
const PARTS_PER_TURN: usize = 4;
const TURN: Duration = Duration::from_millis(1_000 / (PARTS / PARTS_PER_TURN) as u64);

/// See the module.
#[derive(Default)]
pub(crate) struct Registry {
    parts: [Mutex<HashMap<u64, Arc<Session>>>; PARTS],
    count: AtomicUsize,
}

impl Registry {
    fn part(&self, at: usize) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Session>>> {
        self.parts[at % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, session: &Arc<Session>) {
        self.part(session.number as usize).insert(session.number, session.clone());
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, session: &Session) {
        if self.part(session.number as usize).remove(&session.number).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// All of them now.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        (0..PARTS).flat_map(|at| self.part(at).values().cloned().collect::<Vec<_>>()).collect()
    }

    fn tick(&self, at: usize, shared: &Shared) {
        let (now_ms, wall_ms) = (shared.now_ms(), unix_ms());
        for session in self.part(at).values() {
            session.tick(now_ms, wall_ms, &shared.limits);
        }
    }
}

/// Looks at the clock of every session once a second, a few at a time; and at the links.
pub(crate) async fn watch_clocks(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(TURN);
    // A process may run several edges.
    let edge = shared.node.to_string();
    let (sessions, links, pages) = (
        metrics::gauge!("hearth_edge_sessions", "edge" => edge.clone()),
        metrics::gauge!("hearth_edge_links", "edge" => edge.clone()),
        metrics::gauge!("hearth_edge_page_memory_bytes", "edge" => edge),
    );
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        for first in (0..PARTS).step_by(PARTS_PER_TURN) {
            every.tick().await;
            (first..first + PARTS_PER_TURN).for_each(|at| shared.sessions.tick(at, &shared));
        }
        shared.route.tick(shared.limits.linger);
        shared.rates.tidy();
        shared.spent.tidy(unix_ms());
        pages.set(shared.memory.tidy() as f64);
        sessions.set(shared.sessions.len() as f64);
        links.set(shared.route.len() as f64);
    }
}
