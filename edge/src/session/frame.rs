//! Frames to one client: answers, errors and notices, encoded. No transport is known here.

use serde::Serialize;
use wire::ErrorCode;
use wire::client::Envelope;
use wire::client::event::ErrorPayload;
use wire::command::Refusal;

use super::encoded::Encoded;

/// What a client frame had that its answer repeats.
#[derive(Clone, Debug, Default)]
pub(crate) struct Echo {
    /// The frame's `id`.
    pub(crate) re: Option<String>,
    /// Where.
    pub(crate) conversation_id: Option<String>,
    /// The sender's name for the message.
    pub(crate) client_msg_id: Option<String>,
}

/// A frame that answers a client frame.
pub(crate) fn answer<P: Serialize>(kind: &str, echo: Echo, payload: P) -> Encoded {
    let Echo { re, conversation_id, client_msg_id } = echo;
    Encoded::new(&Envelope {
        id: Some(next_id()),
        kind: kind.into(),
        conversation_id,
        client_msg_id,
        re,
        payload,
    })
}

/// A frame of this session alone that answers nothing.
pub(crate) fn notice<P: Serialize>(
    kind: &str,
    conversation_id: Option<String>,
    payload: P,
) -> Encoded {
    answer(kind, Echo { conversation_id, ..Echo::default() }, payload)
}

/// An `error`.
pub(crate) fn error(echo: Echo, refusal: Refusal) -> Encoded {
    let Refusal { code, message, retry_after_ms } = refusal;
    answer("error", echo, ErrorPayload { code, message, retry_after_ms })
}

/// What a client is told of a defect on our side.
pub(crate) fn internal() -> Refusal {
    Refusal::new(ErrorCode::Internal, "the home gave an answer that does not fit the question")
}

/// Names frames that are no changes of a conversation. Drawn, not counted: a count would be shared
/// by all edges of a process, and no simulated run beside another could be repeated.
fn next_id() -> String {
    format!("e{:x}", rand::random::<u64>())
}
