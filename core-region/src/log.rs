//! The projector, until it moves to [`crate::owner`].

pub(crate) mod projector;
