//! What a device and an edge say to each other: one JSON envelope per WebSocket text frame, and the
//! bodies of HTTP.
//!
//! [`request`] parses what clients send, [`event`] prints what servers send, [`content`] is the
//! part of a message that its sender writes, [`http`] holds the bodies of the HTTP interface. All
//! three are used from both sides: by the edge and by the SDK.

pub mod close;
pub mod content;
pub mod event;
pub mod http;
pub mod request;

pub use content::{MessageContent, Meta};
pub use event::{Envelope, Event};
pub use request::{Request, RequestError};

/// The WebSocket subprotocol that the server selects.
pub const SUBPROTOCOL: &str = "hearth.v1";
/// A browser, which cannot set headers, offers its token as a subprotocol that starts so.
pub const TOKEN_SUBPROTOCOL_PREFIX: &str = "hearth.token.";
