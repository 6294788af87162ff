//! WebSocket frames (RFC 6455, section 5.2). A server does not mask, so one frame serves every
//! socket.

use bytes::{Bytes, BytesMut};

use crate::session::encoded::HEADROOM_BYTES;

/// FIN and the opcode, in the first byte of a frame.
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
/// Longest reason of a close, bytes: a control frame carries 125, the code takes 2.
const REASON_BYTES_MAX: usize = 123;

/// A ping without payload.
pub(super) const PING: Bytes = Bytes::from_static(&[0x89, 0]);

/// Puts the header of a text frame right before the payload, which starts at [`HEADROOM_BYTES`].
/// Returns where the frame starts.
pub(crate) fn write_header(out: &mut [u8]) -> usize {
    let len = out.len() - HEADROOM_BYTES;
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
pub(super) fn close(code: u16, reason: &str) -> Bytes {
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

/// The length of the header that a frame begins with.
pub(crate) fn header_len(frame: &[u8]) -> usize {
    match frame.get(1) {
        Some(127) => 10,
        Some(126) => 4,
        Some(_) | None => 2,
    }
}

/// Frames that go out in one write: a single one as it is, several copied together.
#[derive(Default)]
pub(super) struct Batch {
    first: Option<Bytes>,
    joined: BytesMut,
}

impl Batch {
    pub(super) fn add(&mut self, frame: Bytes) {
        let Some(first) = &self.first else {
            self.first = Some(frame);
            return;
        };
        if self.joined.is_empty() {
            self.joined.reserve((first.len() + frame.len()).max(1024));
            self.joined.extend_from_slice(first);
        }
        self.joined.extend_from_slice(&frame);
    }

    pub(super) fn finish(self) -> Option<Bytes> {
        if self.joined.is_empty() { self.first } else { Some(self.joined.freeze()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_has_the_header_that_the_rfc_says() {
        for (len, header) in
            [(1usize, 2usize), (60, 2), (126, 4), (65_535, 4), (65_536, 10), (70_000, 10)]
        {
            let mut out = vec![b'x'; HEADROOM_BYTES + len];
            let start = write_header(&mut out);
            assert_eq!(HEADROOM_BYTES - start, header, "{len}");
            let said = match out[start + 1] {
                126 => u64::from(u16::from_be_bytes([out[8], out[9]])),
                127 => u64::from_be_bytes(out[2..10].try_into().unwrap()),
                byte => u64::from(byte),
            };
            assert_eq!(said, len as u64);
            assert_eq!(header_len(&out[start..]), header);
        }
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let frame = close(1009, &"é".repeat(100));
        assert_eq!(frame[1], 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
        assert_eq!(u16::from_be_bytes([frame[2], frame[3]]), 1009);
    }

    #[test]
    fn a_single_frame_is_not_copied_and_several_are_joined() {
        let frame = Bytes::from_static(b"one");
        let mut batch = Batch::default();
        batch.add(frame.clone());
        assert_eq!(batch.finish().unwrap().as_ptr(), frame.as_ptr());
        let mut batch = Batch::default();
        for part in ["one", "two", "three"] {
            batch.add(Bytes::from_static(part.as_bytes()));
        }
        assert_eq!(&batch.finish().unwrap()[..], b"onetwothree");
        assert!(Batch::default().finish().is_none());
    }
}
