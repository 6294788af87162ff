//! One module for each command: it parses its options, does one thing, and answers in lines that
//! people or programs (`--json`) read.

pub(crate) mod admin;
pub(crate) mod chat;
pub(crate) mod check;
pub(crate) mod conversation;
pub(crate) mod region;
pub(crate) mod replay;
pub(crate) mod sessions;
pub(crate) mod sim;
pub(crate) mod token;
