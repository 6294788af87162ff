//! The Rust SDK: one user on one device, at whatever edge answers.
//!
//! A [`Client`] keeps one WebSocket to one edge of the mesh. When it breaks, or the edge asks it to
//! go, the client connects to the next edge with jittered backoff, asks for what it missed
//! (`sync`), and sends again, unchanged, what was not acknowledged. What comes out of [`Events`] is
//! therefore the same as if nothing had happened: every message of a conversation once, in `seq`
//! order, without holes.
//!
//! In the order of a message's way:
//!
//! | module | what it does |
//! |---|---|
//! | [`endpoint`] | where the edges are and who the user is, asked anew before every connection |
//! | `handle` | [`Client`]: what a program calls |
//! | `outbox` | what is not yet acknowledged, in order, per conversation |
//! | `rotation` | which edge is next, and when |
//! | `dial` | one attempt: lookup, TCP, token, upgrade, `hello` |
//! | `service` | the task that owns the connection |
//! | `order` | `seq` order per conversation: duplicates dropped, holes asked for |
//! | `events` | [`Events`]: what a program reads |
//! | [`http`](mod@http) | groups, members, history, inbox |
//!
//! Not here: receipts, typing, presence, resume tickets, TLS.
//!
//! ```no_run
//! # use hearth_client as client;
//! # use std::sync::Arc;
//! # type Id = wire::ConversationId;
//! # async fn example(net: Arc<dyn net::Net>, token: String, conversation: Id) {
//! use client::{Client, Event, Options};
//!
//! let edges = vec!["http://127.0.0.1:4000".to_owned()];
//! let options = Options::new(net, client::fixed(edges), client::fixed_token(token));
//! let (client, mut events) = Client::connect(options);
//! let ack = client.send(conversation, "hello").await.expect("acknowledged");
//! while let Some(event) = events.next().await {
//!     if let Event::Message { message, .. } = event {
//!         println!("{} <{}> {}", message.seq, message.sender, message.content.body);
//!     }
//! }
//! # drop(ack);
//! # }
//! ```

#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod dial;
pub mod endpoint;
mod events;
mod handle;
pub mod http;
mod options;
mod order;
mod outbox;
mod rotation;
mod service;

pub use endpoint::{Endpoints, TokenError, Tokens, fixed, fixed_token};
pub use events::{Event, Events};
pub use handle::{Client, Pending, SendError};
pub use http::{Http, HttpError};
pub use options::{Options, Read};
pub use service::State;
pub use wire::client::event::AckPayload as Ack;
