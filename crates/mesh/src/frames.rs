//! Frames on a byte stream: a length of four bytes, big endian, then so many bytes. Pure: no
//! socket, no clock.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of the length.
const PREFIX: usize = 4;
/// Smaller frames are copied together into one buffer; larger ones travel as they are.
const COPIED_BYTES_MAX: usize = 4 * 1024;
/// How much memory is taken at once for small frames.
const TAIL_BYTES: usize = 16 * 1024;

/// Frames that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Sealed, oldest first.
    chunks: VecDeque<Bytes>,
    /// Where small frames are gathered.
    tail: BytesMut,
    waiting: usize,
}

impl Outbox {
    /// One more. The caller has checked its length.
    pub(crate) fn push(&mut self, frame: Bytes) {
        let length = u32::try_from(frame.len()).expect("frames are limited far below 4 GiB");
        let small = frame.len() <= COPIED_BYTES_MAX;
        let needed = PREFIX + if small { frame.len() } else { 0 };
        if self.tail.capacity() - self.tail.len() < needed {
            self.seal();
            self.tail = BytesMut::with_capacity(TAIL_BYTES);
        }
        self.tail.put_u32(length);
        self.waiting += PREFIX + frame.len();
        if small {
            self.tail.put_slice(&frame);
        } else {
            self.seal();
            self.chunks.push_back(frame);
        }
    }

    /// Bytes that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// All that waits, in order, for a vectored write. Tell with [`Outbox::written`] what became of
    /// it.
    pub(crate) fn chunks(&mut self) -> &mut [Bytes] {
        self.seal();
        self.chunks.make_contiguous()
    }

    /// So many whole chunks are written, so many bytes in all. Of the next one the transport has
    /// cut off what it took.
    pub(crate) fn written(&mut self, chunks: usize, bytes: usize) {
        self.chunks.drain(..chunks);
        self.waiting -= bytes;
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
    }
}

/// Frames of which parts have been read.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    chunks: VecDeque<Bytes>,
    held: usize,
}

/// A length over the limit: the stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge(pub(crate) usize);

impl Inbox {
    /// The next bytes of the stream.
    pub(crate) fn put(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.held += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Nothing of a frame is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// The next whole frame.
    pub(crate) fn next(&mut self, limit: usize) -> Result<Option<Bytes>, TooLarge> {
        let Some(length) = self.length() else { return Ok(None) };
        if length > limit {
            return Err(TooLarge(length));
        }
        if self.held < PREFIX + length {
            return Ok(None);
        }
        self.take(PREFIX);
        Ok(Some(self.take(length)))
    }

    /// All that is held, as one; for who goes on without frames.
    pub(crate) fn rest(&mut self) -> Bytes {
        self.take(self.held)
    }

    fn length(&self) -> Option<usize> {
        if self.held < PREFIX {
            return None;
        }
        let mut prefix = [0; PREFIX];
        let bytes = self.chunks.iter().flat_map(|chunk| chunk.iter());
        prefix.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Some(u32::from_be_bytes(prefix) as usize)
    }

    /// So many bytes, which are there: without a copy when one chunk holds them.
    fn take(&mut self, count: usize) -> Bytes {
        self.held -= count;
        let taken = match self.chunks.front_mut() {
            Some(first) if first.len() >= count => first.split_to(count),
            _ => {
                let mut whole = BytesMut::with_capacity(count);
                while whole.len() < count {
                    let first = self.chunks.front_mut().expect("as much is held");
                    let part = first.len().min(count - whole.len());
                    whole.put_slice(&first[..part]);
                    first.advance(part);
                    if first.is_empty() {
                        self.chunks.pop_front();
                    }
                }
                whole.freeze()
            }
        };
        if self.chunks.front().is_some_and(Bytes::is_empty) {
            self.chunks.pop_front();
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 64 * 1024;

    /// What the transport would carry, written in steps.
    fn drain(outbox: &mut Outbox, step: usize, out: &mut Vec<u8>) {
        while outbox.waiting() > 0 {
            let mut room = step;
            let (mut whole, mut bytes) = (0, 0);
            for chunk in outbox.chunks() {
                let part = chunk.len().min(room);
                out.extend_from_slice(&chunk.split_to(part));
                (room, bytes) = (room - part, bytes + part);
                if !chunk.is_empty() {
                    break;
                }
                whole += 1;
            }
            outbox.written(whole, bytes);
        }
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting_of_the_stream(
            sizes in proptest::collection::vec(
                prop_oneof![0usize..300, 4000usize..5000, 0usize..40_000],
                0..20,
            ),
            write in 1usize..50_000, read in 1usize..3_000, flush_every in 1usize..5,
        ) {
            let frame = |(n, len): (usize, &usize)| Bytes::from(vec![n as u8; *len]);
            let frames: Vec<Bytes> = sizes.iter().enumerate().map(frame).collect();
            let (mut outbox, mut stream) = (Outbox::default(), Vec::new());
            for (n, frame) in frames.iter().enumerate() {
                outbox.push(frame.clone());
                if n % flush_every == 0 {
                    drain(&mut outbox, write, &mut stream);
                }
            }
            drain(&mut outbox, write, &mut stream);
            let (mut inbox, mut got) = (Inbox::default(), Vec::new());
            for part in stream.chunks(read) {
                inbox.put(Bytes::copy_from_slice(part));
                while let Some(frame) = inbox.next(LIMIT).unwrap() {
                    got.push(frame);
                }
            }
            prop_assert!(inbox.is_empty() && inbox.chunks.is_empty());
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn garbage_is_a_frame_or_too_large_and_never_a_panic(chunks: Vec<Vec<u8>>) {
            let mut inbox = Inbox::default();
            for chunk in chunks {
                inbox.put(chunk.into());
                while let Ok(Some(frame)) = inbox.next(LIMIT) {
                    prop_assert!(frame.len() <= LIMIT);
                }
            }
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_are_there() {
        let mut inbox = Inbox::default();
        inbox.put(Bytes::from_static(&[0, 1, 0]));
        assert_eq!(inbox.next(LIMIT), Ok(None));
        inbox.put(Bytes::from_static(&[1]));
        assert_eq!(inbox.next(LIMIT), Err(TooLarge(LIMIT + 1)));
    }
}
