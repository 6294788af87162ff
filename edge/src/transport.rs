//! How bytes reach a client. A transport stands below a [session](crate::session): it hands the
//! client's frames to [`requests`](crate::session::requests) and writes what the
//! [outbox](crate::session::outbox) holds. It decides nothing.

pub(crate) mod websocket;
