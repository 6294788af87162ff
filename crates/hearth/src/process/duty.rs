//! Does the node serve, does it give away what it has, does it end? Changed by operators and signals, seen by `/readyz`.

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

/// The state, and how to call a drain off.
pub(crate) struct Duty {
    now: Mutex<(State, CancellationToken)>,
}

impl Default for Duty {
    fn default() -> Self {
        Self { now: Mutex::new((State::Starting, CancellationToken::new())) }
    }
}

impl Duty {
    pub(crate) fn state(&self) -> State {
        self.lock().0
    }

    /// It has started.
    pub(crate) fn begin(&self) {
        self.lock().0 = State::Serving;
    }

    /// It shall drain. The drain that is to be run until this token is cancelled; none when it does or did already.
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
        let duty = Duty::default();
        assert!(duty.drain().unwrap_err().contains("starting"));
        duty.begin();
        let first = duty.drain().unwrap().unwrap();
        assert!(duty.drain().unwrap().is_none());
        let mut undrained = 0;
        duty.undrain(|| undrained += 1).unwrap();
        duty.undrain(|| undrained += 1).unwrap();
        assert_eq!((undrained, first.is_cancelled()), (1, true));
        let second = duty.drain().unwrap().unwrap();
        duty.drained(&first);
        assert_eq!(duty.state(), State::Draining, "the first came too late");
        duty.drained(&second);
        assert_eq!(duty.state(), State::Drained);
        assert!(duty.drain().unwrap().is_none());
    }

    #[test]
    fn what_ends_takes_no_more_orders() {
        let duty = Duty::default();
        duty.begin();
        duty.end();
        assert!(duty.drain().is_err() && duty.undrain(|| panic!("it ends")).is_err());
        assert_eq!(duty.state(), State::Ending);
    }
}
