//! One event to 5,000 sessions at one edge, the next one when all have it, against a raw `send()`
//! loop over as many sockets with the same bytes and the same readers.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use hearth_stories::mesh::Mesh;
use mio::net::TcpStream;
use mio::{Events, Poll};

use crate::wires::Wire;
use crate::{control, cpu_s, median, people, pid_of};

const SESSIONS: usize = 5_000;
const USERS: usize = 500;
const EVENTS: usize = 40;
const ROUNDS: usize = 3;

pub(crate) fn run() {
    println!(
        "fanout: one event to {SESSIONS} sockets, {EVENTS} events a round, {ROUNDS} rounds; {}",
        crate::machine()
    );
    let mesh = Mesh::for_load("one-region");
    let edge = mesh.edge(&mesh.regions()[0]);
    let sender = people::token(mesh.dir(), "sender");
    let users: Vec<_> = (0..USERS).map(|n| format!("listener-{n}")).collect();
    let conversation = people::group(&edge, &sender, &users);
    let tokens: Vec<_> = users.iter().map(|user| people::token(mesh.dir(), user)).collect();
    for token in &tokens {
        people::wait_for_inbox(&edge, token, 1);
    }
    let listeners: Vec<_> = (0..SESSIONS).map(|n| Wire::open(&edge, &tokens[n % USERS])).collect();
    let mut speaker = Wire::open(&edge, &sender);
    let mut readers = Readers::new(listeners.into_iter().map(|wire| wire.stream).collect());
    let mut bare = Bare::start();
    let pid = pid_of(mesh.dir());
    let mut sent = 0;
    let mut say = |speaker: &mut Wire| {
        sent += 1;
        speaker.drain(|_| {});
        let body = "x".repeat(200);
        speaker.send(&format!(
            r#"{{"type":"message.send","conversation_id":"{conversation}","client_msg_id":"f{:06}","payload":{{"body":"{body}"}}}}"#,
            sent
        ));
    };
    // Frames of different events differ in length by a digit now and then, so each round learns its
    // own length first.
    let (mut rates, mut bare_rates, mut cpu) = (Vec::new(), Vec::new(), 0.0);
    for _ in 0..ROUNDS {
        let (before, begun) = (cpu_s(pid), Instant::now());
        let mut bytes = 0;
        for _ in 0..EVENTS {
            say(&mut speaker);
            bytes = readers.all_get_one();
        }
        rates.push(per_s(begun));
        cpu += cpu_s(pid) - before;
        let begun = Instant::now();
        for _ in 0..EVENTS {
            bare.send(bytes);
            bare.readers.all_get(bytes);
        }
        bare_rates.push(per_s(begun));
    }
    let (ours, bare) = (median(rates), median(bare_rates));
    #[allow(clippy::cast_precision_loss, reason = "small")]
    let cpu_ms = cpu * 1_000_000.0 / (ROUNDS * EVENTS * SESSIONS) as f64;
    println!("  raw send loop {bare:>9.0} deliveries/s");
    println!(
        "  edge          {ours:>9.0} deliveries/s ({:.2}x)  server CPU {cpu_ms:.1} ms per 1,000",
        ours / bare
    );
}

#[allow(clippy::cast_precision_loss, reason = "small")]
fn per_s(begun: Instant) -> f64 {
    (EVENTS * SESSIONS) as f64 / begun.elapsed().as_secs_f64()
}

/// Reads many sockets in one thread and counts bytes.
struct Readers {
    poll: Poll,
    streams: Vec<TcpStream>,
    events: Events,
}

impl Readers {
    fn new(mut streams: Vec<TcpStream>) -> Self {
        let poll = Poll::new().unwrap();
        for (n, stream) in streams.iter_mut().enumerate() {
            control::watch(&poll, stream, n);
        }
        Self { poll, streams, events: Events::with_capacity(1_024) }
    }

    /// Until every socket has had `bytes`.
    fn all_get(&mut self, bytes: usize) {
        let mut had = vec![0; self.streams.len()];
        let mut missing = self.streams.len();
        while missing > 0 {
            self.wait();
            for event in &self.events {
                let n = event.token().0;
                let got = read(&mut self.streams[n]);
                if had[n] < bytes && had[n] + got >= bytes {
                    missing -= 1;
                }
                had[n] += got;
            }
        }
    }

    /// Until every socket has had as many bytes as the first one that was readable; how many that
    /// is. Pings are shorter than any event and come seldom: a socket that had only one is read
    /// again.
    fn all_get_one(&mut self) -> usize {
        let mut had = vec![false; self.streams.len()];
        let (mut missing, mut bytes) = (self.streams.len(), 0);
        while missing > 0 {
            self.wait();
            for event in &self.events {
                let n = event.token().0;
                let got = read(&mut self.streams[n]);
                if got > 100 && !had[n] {
                    had[n] = true;
                    missing -= 1;
                    bytes = got;
                }
            }
        }
        bytes
    }

    fn wait(&mut self) {
        self.poll.poll(&mut self.events, Some(Duration::from_secs(30))).unwrap();
        assert!(!self.events.is_empty(), "nothing came for 30 s");
    }
}

fn read(stream: &mut TcpStream) -> usize {
    let (mut chunk, mut got) = ([0; 4096], 0);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => panic!("the server closed"),
            Ok(n) => got += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return got,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The control: a thread that loops over its sockets and writes.
struct Bare {
    readers: Readers,
    go: std::sync::mpsc::Sender<usize>,
}

impl Bare {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..SESSIONS {
            theirs.push(control::ready(std::net::TcpStream::connect(addr).unwrap()));
            let stream = listener.accept().unwrap().0;
            stream.set_nodelay(true).unwrap();
            ours.push(stream);
        }
        let (go, going) = std::sync::mpsc::channel::<usize>();
        std::thread::spawn(move || {
            while let Ok(bytes) = going.recv() {
                let event = vec![1; bytes];
                for stream in &mut ours {
                    stream.write_all(&event).unwrap();
                }
            }
        });
        Self { readers: Readers::new(theirs), go }
    }

    fn send(&mut self, bytes: usize) {
        self.go.send(bytes).unwrap();
    }
}
