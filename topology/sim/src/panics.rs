//! Panics of simulated tasks are findings, not noise: kept for the verdict instead of printed.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// Panics kept per run.
const KEPT_MAX: usize = 20;

thread_local! {
    static LISTENING: Cell<bool> = const { Cell::new(false) };
    static HEARD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

static HOOK: Once = Once::new();

/// Runs `work` and records the panics of this thread. A panic of the run itself is an error.
///
/// # Errors
/// The error of `work`, or its panic in words.
pub fn caught<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if LISTENING.get() {
                HEARD.with_borrow_mut(|heard| {
                    if heard.len() < KEPT_MAX {
                        heard.push(info.to_string().replace('\n', " "));
                    }
                });
            } else {
                others(info);
            }
        }));
    });
    LISTENING.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    LISTENING.set(false);
    result
        .unwrap_or_else(|_| anyhow::bail!("the simulation itself panicked: {}", heard().join("; ")))
}

/// The panics of this thread so far.
#[must_use]
pub fn heard() -> Vec<String> {
    HEARD.with_borrow(Clone::clone)
}
