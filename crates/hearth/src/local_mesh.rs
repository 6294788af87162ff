//! The mesh on this machine: [`up`] runs it, [`discovery`] tells the other commands where it is,
//! and [`access`] connects to it.

pub(crate) mod access;
pub(crate) mod discovery;
pub(crate) mod up;
