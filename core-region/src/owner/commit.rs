//! The commit: what waits for its slot, and the pipeline that writes it.

pub(crate) mod batch;
pub(super) mod committed;
pub(super) mod pipeline;
