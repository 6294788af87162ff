//! Whether a node starts, serves, drains or ends. Operators and signals change it, `/readyz` shows
//! it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// What a node does for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It is not there yet.
    Starting,
    /// It takes work.
    Serving,
    /// It gives away what it has.
    Draining,
    /// It has nothing any more, and takes nothing.
    Drained,
    /// The process ends.
    Ending,
}

/// The state, and the token that cancels a drain.
pub(crate) struct Lifecycle {
    now: Mutex<(State, CancellationToken)>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { now: Mutex::new((State::Starting, CancellationToken::new())) }
    }
}

impl Lifecycle {
    pub(crate) fn state(&self) -> State {
        self.lock().0
    }

    /// It has started.
    pub(crate) fn begin(&self) {
        self.lock().0 = State::Serving;
    }

    /// It shall drain. The drain that is to be run until this token is cancelled; none when it does
    /// or did already.
    ///
    /// # Errors
    /// When it does not serve.
    pub(crate) fn drain(&self) -> Result<Option<CancellationToken>, String> {
        let mut now = self.lock();
        match now.0 {
            State::Serving => {
                *now = (State::Draining, CancellationToken::new());
                Ok(Some(now.1.clone()))
            }
            State::Draining | State::Drained => Ok(None),
            State::Starting => Err("the node is still starting; look at /readyz".into()),
            State::Ending => Err("the node is ending".into()),
        }
    }

    /// The drain of this token is through.
    pub(crate) fn drained(&self, drain: &CancellationToken) {
        let mut now = self.lock();
        if !drain.is_cancelled() && now.0 == State::Draining {
            now.0 = State::Drained;
        }
    }

    /// It shall serve again, by `change`. A drain that runs is called off first.
    ///
    /// # Errors
    /// When it starts or ends.
    pub(crate) fn undrain(&self, change: impl FnOnce()) -> Result<(), String> {
        let mut now = self.lock();
        match now.0 {
            State::Serving => Ok(()),
            State::Draining | State::Drained => {
                now.1.cancel();
                now.0 = State::Serving;
                change();
                Ok(())
            }
            State::Starting => Err("the node is still starting; look at /readyz".into()),
            State::Ending => Err("the node is ending".into()),
        }
    }

    /// The process ends; nothing changes that any more.
    pub(crate) fn end(&self) {
        let mut now = self.lock();
        now.1.cancel();
        now.0 = State::Ending;
    }

    fn lock(&self) -> MutexGuard<'_, (State, CancellationToken)> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_drains_once_and_a_drain_that_was_called_off_ends_nothing() {
        let lifecycle = Lifecycle::default();
        assert!(lifecycle.drain().unwrap_err().contains("starting"));
        lifecycle.begin();
        let first = lifecycle.drain().unwrap().unwrap();
        assert!(lifecycle.drain().unwrap().is_none());
        let mut undrained = 0;
        lifecycle.undrain(|| undrained += 1).unwrap();
        lifecycle.undrain(|| undrained += 1).unwrap();
        assert_eq!((undrained, first.is_cancelled()), (1, true));
        let second = lifecycle.drain().unwrap().unwrap();
        lifecycle.drained(&first);
        assert_eq!(lifecycle.state(), State::Draining, "the first came too late");
        lifecycle.drained(&second);
        assert_eq!(lifecycle.state(), State::Drained);
        assert!(lifecycle.drain().unwrap().is_none());
    }

    #[test]
    fn what_ends_takes_no_more_orders() {
        let lifecycle = Lifecycle::default();
        lifecycle.begin();
        lifecycle.end();
        assert!(lifecycle.drain().is_err() && lifecycle.undrain(|| panic!("it ends")).is_err());
        assert_eq!(lifecycle.state(), State::Ending);
    }
}
