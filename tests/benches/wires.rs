//! WebSocket clients by hand, as cheap as can be: on two cores the load generator takes from what
//! it measures.

use std::io::{ErrorKind, Read as _, Write as _};

use mio::net::TcpStream;

/// A connection that has been upgraded, in non-blocking mode.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    /// Upgrades and reads on until `hello` is there.
    pub(crate) fn open(base: &str, token: &str) -> Self {
        let host = base.trim_start_matches("http://");
        let mut stream = std::net::TcpStream::connect(host).unwrap();
        let request = format!(
            "GET /v1/stream HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        let mut wire = Self { stream: crate::control::ready(stream), buffer: Vec::new() };
        let mut hello = false;
        while !hello {
            wire.drain(|text| hello |= text.windows(7).any(|window| window == b"\"hello\""));
            std::thread::yield_now();
        }
        wire
    }

    /// One masked text frame, written at once.
    pub(crate) fn send(&mut self, text: &str) {
        let mut frame = Vec::with_capacity(text.len() + 14);
        frame.push(0x81);
        match text.len() {
            n @ 0..126 => frame.push(0x80 | u8::try_from(n).unwrap()),
            n => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(n).unwrap().to_be_bytes());
            }
        }
        // A mask of zeros leaves the text as it is (RFC 6455, 5.3, does not forbid it).
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn read_some(&mut self) {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => panic!("the server closed"),
                Ok(n) => self.buffer.extend(&chunk[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Reads what is there and calls back for every whole text frame.
    pub(crate) fn drain(&mut self, on_text: impl FnMut(&[u8])) {
        self.read_some();
        self.frames(on_text);
    }

    fn frames(&mut self, mut on_text: impl FnMut(&[u8])) {
        let mut at = 0;
        loop {
            let rest = &self.buffer[at..];
            if rest.len() < 2 {
                break;
            }
            let (head, length) = match rest[1] & 0x7f {
                126 if rest.len() >= 4 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                126 => break,
                127 => panic!("no frame of ours is that long"),
                n => (2, usize::from(n)),
            };
            if rest.len() < head + length {
                break;
            }
            match rest[0] & 0x0f {
                1 => on_text(&rest[head..head + length]),
                8 => panic!("closed: {:?}", &rest[head..head + length]),
                _ => {}
            }
            at += head + length;
        }
        self.buffer.drain(..at);
    }
}
