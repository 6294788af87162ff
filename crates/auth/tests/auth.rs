//! Tokens as strangers forge them and as friends use them.

#![allow(clippy::unwrap_used)]

#[path = "auth/common.rs"]
mod common;
#[path = "auth/identity.rs"]
mod identity;
#[path = "auth/stream.rs"]
mod stream;
