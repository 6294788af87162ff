//! Stream tokens that were used: each opens one session at this edge.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Tokens that are remembered. They live for a minute, and each has opened a session.
const TOKENS_MAX: usize = 1_000_000;

/// The numbers of spent tokens, with the time until which they would be good.
#[derive(Default)]
pub(crate) struct SpentTokens(Mutex<HashMap<u128, u64>>);

impl SpentTokens {
    /// Spends a token. False when it was spent before, or when no more can be remembered.
    pub(super) fn spend(&self, number: u128, exp_ms: u64) -> bool {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spent.len() < TOKENS_MAX && spent.insert(number, exp_ms).is_none()
    }

    /// Forgets those that are good for nothing by now.
    pub(crate) fn tidy(&self, now_ms: u64) {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spent.retain(|_, exp_ms| *exp_ms > now_ms);
        spent.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_spent_once_and_forgotten_when_it_is_over() {
        let tokens = SpentTokens::default();
        assert!(tokens.spend(1, 100) && tokens.spend(2, 200));
        assert!(!tokens.spend(1, 100));
        tokens.tidy(150);
        assert_eq!(tokens.0.lock().unwrap().len(), 1);
    }
}
