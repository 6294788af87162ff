//! The transport of a channel that a node opens to itself: a bounded queue of bytes in memory for
//! each direction. It ends, resets and stops as a stream of a link does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quinn::VarInt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::transport::STREAM_WINDOW_BYTES;

/// Bytes on the way in one direction, as on a link.
const WINDOW_BYTES: usize = STREAM_WINDOW_BYTES as usize;
/// Chunks on the way in one direction: each costs memory beside its bytes.
const CHUNKS_MAX: usize = 4096;

/// One direction; both ends of it share this.
struct Lane {
    state: Mutex<State>,
    /// The reader has something to read, or the end.
    readable: Notify,
    /// The writer has room, or nobody reads.
    writable: Notify,
    /// Cancelled when the mesh stops: then the lane is broken as a lost link is.
    stop: CancellationToken,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    /// Set by the writer, once.
    end: Option<End>,
    /// Set by a reader that reads no more.
    stopped: Option<VarInt>,
}

#[derive(Clone, Copy)]
enum End {
    Finished,
    Reset(VarInt),
}

impl Lane {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing end of one direction. Dropping it ends the direction after what was written.
pub(crate) struct WriteEnd(Arc<Lane>);

/// The reading end of one direction. Dropping it tells the writer that nobody reads.
pub(crate) struct ReadEnd(Arc<Lane>);

/// One direction within a node, until `stop` is cancelled.
pub(crate) fn lane(stop: CancellationToken) -> (WriteEnd, ReadEnd) {
    let lane = Arc::new(Lane {
        state: Mutex::default(),
        readable: Notify::new(),
        writable: Notify::new(),
        stop,
    });
    (WriteEnd(lane.clone()), ReadEnd(lane))
}

impl WriteEnd {
    /// Moves as much as there is room for, at least one byte, and cuts it off from the chunks.
    /// Returns how many chunks and bytes were taken. Cancel safe: waits only before it takes.
    pub(crate) async fn write(&self, chunks: &mut [Bytes]) -> Result<(usize, usize), String> {
        loop {
            if let Some(taken) = self.try_write(chunks)? {
                return Ok(taken);
            }
            tokio::select! {
                () = self.0.stop.cancelled() => {}
                () = self.0.writable.notified() => {}
            }
        }
    }

    fn try_write(&self, chunks: &mut [Bytes]) -> Result<Option<(usize, usize)>, String> {
        let mut state = self.0.state();
        if let Some(code) = state.stopped {
            return Err(format!("the peer reads no more: {}", codes::name(code)));
        }
        if self.0.stop.is_cancelled() {
            return Err("the mesh has stopped".to_owned());
        }
        let before = state.bytes;
        let mut whole = 0;
        for chunk in chunks {
            let room = WINDOW_BYTES - state.bytes;
            if state.chunks.len() == CHUNKS_MAX || room == 0 {
                break;
            }
            let part = chunk.split_to(chunk.len().min(room));
            state.bytes += part.len();
            state.chunks.push_back(part);
            if !chunk.is_empty() {
                break;
            }
            whole += 1;
        }
        let bytes = state.bytes - before;
        drop(state);
        if bytes == 0 {
            return Ok(None);
        }
        self.0.readable.notify_one();
        Ok(Some((whole, bytes)))
    }

    /// The reader reads what was written, then the end.
    pub(crate) fn finish(&self) {
        self.0.state().end.get_or_insert(End::Finished);
        self.0.readable.notify_one();
    }

    /// The reader reads an error; what is on the way is lost.
    pub(crate) fn reset(&self, code: VarInt) {
        let mut state = self.0.state();
        if state.end.is_none() {
            *state = State { end: Some(End::Reset(code)), ..State::default() };
        }
        drop(state);
        self.0.readable.notify_one();
    }
}

impl Drop for WriteEnd {
    fn drop(&mut self) {
        self.finish();
    }
}

impl ReadEnd {
    /// All that is on the way, or `None` at the end. Cancel safe.
    pub(crate) async fn read(&self) -> Result<Option<VecDeque<Bytes>>, String> {
        loop {
            {
                let mut state = self.0.state();
                if !state.chunks.is_empty() {
                    state.bytes = 0;
                    let chunks = std::mem::take(&mut state.chunks);
                    self.0.writable.notify_one();
                    return Ok(Some(chunks));
                }
                match state.end {
                    Some(End::Finished) => return Ok(None),
                    Some(End::Reset(code)) => {
                        return Err(format!("reset by the peer: {}", codes::name(code)));
                    }
                    None if self.0.stop.is_cancelled() => {
                        return Err("the mesh has stopped".to_owned());
                    }
                    None => {}
                }
            }
            tokio::select! {
                () = self.0.stop.cancelled() => {}
                () = self.0.readable.notified() => {}
            }
        }
    }

    /// The writer is told the reason; what is on the way is lost.
    pub(crate) fn stop(&self, code: VarInt) {
        let mut state = self.0.state();
        state.stopped.get_or_insert(code);
        state.chunks.clear();
        state.bytes = 0;
        drop(state);
        self.0.writable.notify_one();
    }
}

impl Drop for ReadEnd {
    fn drop(&mut self) {
        self.stop(codes::ABORTED);
    }
}
