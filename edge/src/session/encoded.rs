//! A frame to clients, encoded once for all who get it, whatever their transport.

use bytes::Bytes;
use serde::Serialize;
use wire::client::Envelope;

use crate::transport::websocket::framing;

/// Kept free before the JSON: the longest header of an unmasked WebSocket frame.
pub(crate) const HEADROOM_BYTES: usize = 10;

/// JSON behind the header of a WebSocket frame. The header stands in the same buffer because the
/// buffer is shared: most clients have a WebSocket, and one write without a copy serves each of
/// them. Other transports take the JSON alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded(Bytes);

impl Encoded {
    pub(crate) fn new<P: Serialize>(envelope: &Envelope<P>) -> Self {
        let mut out = Vec::with_capacity(384);
        out.resize(HEADROOM_BYTES, 0);
        serde_json::to_writer(&mut out, envelope).expect("plain data in memory always serializes");
        let start = framing::write_header(&mut out);
        Self(Bytes::from(out).slice(start..))
    }

    /// What one client weighs in a bound.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// As a WebSocket text frame.
    pub(crate) fn websocket(self) -> Bytes {
        self.0
    }

    /// The JSON alone.
    #[cfg_attr(not(test), expect(dead_code, reason = "for transports that are no WebSocket"))]
    pub(crate) fn json(&self) -> Bytes {
        self.0.slice(framing::header_len(&self.0)..)
    }
}

#[cfg(test)]
impl Encoded {
    /// So many bytes.
    pub(super) fn of(byte: u8, len: usize) -> Self {
        Self(Bytes::from(vec![byte; len]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transport_finds_the_same_json() {
        for len in [1, 200, 70_000] {
            let body = "x".repeat(len);
            let envelope = Envelope {
                id: None,
                kind: "test".into(),
                conversation_id: None,
                client_msg_id: None,
                re: None,
                payload: body.clone(),
            };
            let encoded = Encoded::new(&envelope);
            let json: serde_json::Value = serde_json::from_slice(&encoded.json()).unwrap();
            assert_eq!(json["payload"], body);
            assert!(encoded.clone().websocket().ends_with(&encoded.json()));
        }
    }
}
