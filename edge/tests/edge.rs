//! An edge over real sockets: a WebSocket or HTTP client on one side, a real mesh node on the other
//! that answers as an owner does, with the production rules and without a store. The whole system
//! is in the stories.

#![allow(clippy::unwrap_used, reason = "a test that meets an error shall fail")]

#[path = "edge/admission.rs"]
mod admission;
#[path = "edge/browsers.rs"]
mod browsers;
#[path = "edge/chaos.rs"]
mod chaos;
#[path = "edge/connections.rs"]
mod connections;
#[path = "edge/delivery.rs"]
mod delivery;
#[path = "edge/frames.rs"]
mod frames;
#[path = "edge/harness.rs"]
mod harness;
#[path = "edge/http.rs"]
mod http;
#[path = "edge/links.rs"]
mod links;
#[path = "edge/newer.rs"]
mod newer;
#[path = "edge/owner.rs"]
mod owner;
#[path = "edge/rates.rs"]
mod rates;
#[path = "edge/socket.rs"]
mod socket;
