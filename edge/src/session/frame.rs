//! Frames to a client, ready for the socket: WebSocket header (RFC 6455, section 5.2) and JSON in one buffer. A server does
//! not mask, so one buffer serves every socket that gets the event.

use bytes::Bytes;
use serde::Serialize;
use wire::ErrorCode;
use wire::client::Envelope;
use wire::client::event::ErrorPayload;
use wire::command::Refusal;

/// FIN and the opcode, in the first byte of a frame.
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
/// Longest header of an unmasked frame.
const HEADER_BYTES_MAX: usize = 10;
/// Longest reason of a close, bytes: a control frame carries 125, the code takes 2.
const REASON_BYTES_MAX: usize = 123;

/// A ping without payload.
pub(crate) const PING: Bytes = Bytes::from_static(&[0x89, 0]);

/// An envelope as one text frame.
pub(crate) fn text<P: Serialize>(envelope: &Envelope<P>) -> Bytes {
    let mut out = Vec::with_capacity(384);
    out.resize(HEADER_BYTES_MAX, 0);
    serde_json::to_writer(&mut out, envelope).expect("plain data in memory always serializes");
    let start = write_header(&mut out);
    Bytes::from(out).slice(start..)
}

/// Puts the header right before the payload, which starts at `HEADER_BYTES_MAX`, and says where the frame starts.
fn write_header(out: &mut [u8]) -> usize {
    let len = out.len() - HEADER_BYTES_MAX;
    let (start, short) = match (u8::try_from(len), u16::try_from(len)) {
        (Ok(byte @ 0..=125), _) => (8, byte),
        (_, Ok(word)) => {
            out[8..10].copy_from_slice(&word.to_be_bytes());
            (6, 126)
        }
        _ => {
            out[2..10].copy_from_slice(&(len as u64).to_be_bytes());
            (0, 127)
        }
    };
    out[start] = TEXT;
    out[start + 1] = short;
    start
}

/// A close frame.
pub(crate) fn close(code: u16, reason: &str) -> Bytes {
    let cut = (0..=reason.len().min(REASON_BYTES_MAX))
        .rev()
        .find(|at| reason.is_char_boundary(*at))
        .unwrap_or(0);
    let mut out = Vec::with_capacity(4 + cut);
    out.extend_from_slice(&[CLOSE, u8::try_from(2 + cut).expect("at most 125")]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&reason.as_bytes()[..cut]);
    out.into()
}

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
pub(crate) fn answer<P: Serialize>(kind: &str, echo: Echo, payload: P) -> Bytes {
    let Echo { re, conversation_id, client_msg_id } = echo;
    text(&Envelope {
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
) -> Bytes {
    answer(kind, Echo { conversation_id, ..Echo::default() }, payload)
}

/// An `error`.
pub(crate) fn error(echo: Echo, refusal: Refusal) -> Bytes {
    let Refusal { code, message, retry_after_ms } = refusal;
    answer("error", echo, ErrorPayload { code, message, retry_after_ms })
}

/// What a client is told of a defect on our side.
pub(crate) fn internal() -> Refusal {
    Refusal::new(ErrorCode::Internal, "the home gave an answer that does not fit the question")
}

/// Names frames that are no changes of a conversation. Drawn, not counted: a count would be shared by all edges of a process, and
/// no simulated run beside another could be repeated.
fn next_id() -> String {
    format!("e{:x}", rand::random::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_has_the_header_that_the_rfc_says() {
        for (len, header) in
            [(1usize, 2usize), (60, 2), (126, 4), (65_535, 4), (65_536, 10), (70_000, 10)]
        {
            let mut out = vec![b'x'; HEADER_BYTES_MAX + len];
            let start = write_header(&mut out);
            assert_eq!(HEADER_BYTES_MAX - start, header, "{len}");
            let said = match out[start + 1] {
                126 => u64::from(u16::from_be_bytes([out[8], out[9]])),
                127 => u64::from_be_bytes(out[2..10].try_into().unwrap()),
                byte => u64::from(byte),
            };
            assert_eq!(said, len as u64);
        }
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let frame = close(1009, &"é".repeat(100));
        assert_eq!(frame[1], 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
        assert_eq!(u16::from_be_bytes([frame[2], frame[3]]), 1009);
    }
}
