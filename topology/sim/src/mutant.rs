//! Mutants.
use std::sync::Arc;
use store::Store;
/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {}
/// X
pub struct Mutated;
impl Mutated {
    /// X
    #[must_use]
    pub fn wrap(mutant: Mutant, _store: Arc<dyn Store>) -> Arc<dyn Store> { match mutant {} }
}
