//! The controls: the least that any server could do.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// Bytes of a record on its way to the bare server, and of its acknowledgement.
pub(crate) const RECORD: usize = 256;
pub(crate) const ACK: usize = 64;

/// One thread that takes records from all connections that have one, appends them to a file, syncs
/// it once, and acknowledges all: group commit with nothing around it.
pub(crate) struct GroupCommitServer {
    pub(crate) addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl GroupCommitServer {
    pub(crate) fn start(connections: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || serve(&listener, connections, &stopping));
        Self { addr, stop, thread: Some(thread) }
    }
}

impl Drop for GroupCommitServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(listener: &TcpListener, connections: usize, stop: &AtomicBool) {
    let dir = tempfile::tempdir_in(crate::scratch()).unwrap();
    let mut file = File::create(dir.path().join("log")).unwrap();
    let mut poll = Poll::new().unwrap();
    let mut streams: Vec<_> =
        (0..connections).map(|_| ready(listener.accept().unwrap().0)).collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        watch(&poll, stream, n);
    }
    let mut events = Events::with_capacity(connections);
    let mut batch = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        poll.poll(&mut events, Some(std::time::Duration::from_millis(100))).unwrap();
        batch.clear();
        let mut waiting = Vec::new();
        for event in &events {
            // A sender waits for its ack, so there is never more than one record, and one read
            // leaves nothing behind.
            let mut record = [0; RECORD];
            match streams[event.token().0].read(&mut record) {
                Ok(0) => return,
                Ok(n) => {
                    assert_eq!(n, RECORD, "a small write on loopback arrives whole");
                    batch.extend(record);
                    waiting.push(event.token().0);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
        if !waiting.is_empty() {
            file.write_all(&batch).unwrap();
            file.sync_data().unwrap();
            for n in waiting {
                streams[n].write_all(&[7; ACK]).unwrap();
            }
        }
    }
}

/// A connected socket, ready for a poll.
pub(crate) fn ready(stream: std::net::TcpStream) -> TcpStream {
    stream.set_nodelay(true).unwrap();
    stream.set_nonblocking(true).unwrap();
    TcpStream::from_std(stream)
}

/// Tells `poll` to say, once each time, when there is something to read. Events carry `n`.
pub(crate) fn watch(poll: &Poll, stream: &mut TcpStream, n: usize) {
    poll.registry().register(stream, Token(n), Interest::READABLE).unwrap();
}
