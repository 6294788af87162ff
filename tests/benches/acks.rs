//! Durable acks per second and CPU per message: 64 senders, each in a conversation of its own, one
//! message in flight each.

use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use hearth_stories::mesh::Mesh;
use mio::{Events, Poll};

use crate::control::{self, GroupCommitServer};
use crate::wires::Wire;
use crate::{cpu_s, median, people, pid_of};

const SENDERS: usize = 64;
const BODY: usize = 256;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(6);

/// The result of one round.
pub(crate) struct Outcome {
    pub(crate) acks_per_s: f64,
    pub(crate) mean_ms: f64,
    p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) cpu_ms_per_1000: f64,
}

pub(crate) fn run() {
    println!(
        "acks: {SENDERS} senders, {BODY}-byte bodies, {ROUNDS} rounds of {ROUND:?}; {}",
        crate::machine()
    );
    let one = Mesh::for_load("one-region");
    let mut one_senders = Senders::of(&one);
    let three = Mesh::for_load("three-regions");
    let mut three_senders = Senders::of(&three);
    let mut rows = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        rows[0].push(bare());
        rows[1].push(one_senders.round(|| cpu_s(pid_of(one.dir()))));
        rows[2].push(three_senders.round(|| cpu_s(pid_of(three.dir()))));
    }
    let pick = |row: &[Outcome], what: fn(&Outcome) -> f64| median(row.iter().map(what).collect());
    let control = pick(&rows[0], |outcome| outcome.acks_per_s);
    for (name, row) in ["bare group commit", "one region", "three regions"].iter().zip(&rows) {
        let rate = pick(row, |outcome| outcome.acks_per_s);
        println!(
            "  {name:<18} {rate:>8.0} acks/s ({:.3}x)  p50 {:.2} ms  p99 {:.2} ms  server CPU {:.1} ms per 1,000",
            rate / control,
            pick(row, |outcome| outcome.p50_ms),
            pick(row, |outcome| outcome.p99_ms),
            pick(row, |outcome| outcome.cpu_ms_per_1000),
        );
    }
}

/// The control, server and senders in this process.
fn bare() -> Outcome {
    let server = GroupCommitServer::start(SENDERS);
    let connect = |_| control::ready(std::net::TcpStream::connect(server.addr).unwrap());
    let mut streams: Vec<_> = (0..SENDERS).map(connect).collect();
    let record = [1; control::RECORD];
    let mut ack = [0; control::ACK];
    let mut poll = Poll::new().unwrap();
    let mut sent_at = vec![Instant::now(); SENDERS];
    for (n, stream) in streams.iter_mut().enumerate() {
        control::watch(&poll, stream, n);
        stream.write_all(&record).unwrap();
    }
    let outcome = measure(
        &mut poll,
        streams.len(),
        || f64::NAN,
        |n, at| {
            match streams[n].read(&mut ack) {
                Ok(control::ACK) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                other => panic!("{other:?}"),
            }
            let took = sent_at[n].elapsed();
            if let Some(at) = at {
                sent_at[n] = at;
                streams[n].write_all(&record).unwrap();
            }
            Some(took)
        },
    );
    drop(streams);
    outcome
}

/// Sessions of users, each in a group of its own.
pub(crate) struct Senders {
    wires: Vec<Wire>,
    conversations: Vec<String>,
    sent: u64,
}

impl Senders {
    fn of(mesh: &Mesh) -> Self {
        Self::new(mesh.dir(), &mesh.edge(&mesh.regions()[0]), SENDERS)
    }

    /// So many at one edge, whose keys are in `dir`.
    pub(crate) fn new(dir: &Path, edge: &str, count: usize) -> Self {
        let (mut wires, mut conversations) = (Vec::new(), Vec::new());
        for n in 0..count {
            let token = people::token(dir, &format!("sender-{n}"));
            let before = people::inbox(edge, &token);
            conversations.push(people::group(edge, &token, &[]));
            people::wait_for_inbox(edge, &token, before + 1);
            wires.push(Wire::open(edge, &token));
        }
        Self { wires, conversations, sent: 0 }
    }

    fn send(&mut self, n: usize) {
        self.sent += 1;
        let (conversation, id) = (&self.conversations[n], self.sent);
        let body = "x".repeat(BODY);
        self.wires[n].send(&format!(
            r#"{{"type":"message.send","conversation_id":"{conversation}","client_msg_id":"b{id}","payload":{{"body":"{body}"}}}}"#
        ));
    }

    /// Each has one message on the way, until the round is over. `cpu_s` says how much the servers
    /// have used.
    pub(crate) fn round(&mut self, cpu_s: impl Fn() -> f64) -> Outcome {
        self.round_with_rests(Duration::ZERO, cpu_s)
    }

    /// As [`Senders::round`]; between an acknowledgement and the next message all of them rest.
    pub(crate) fn round_with_rests(&mut self, rest: Duration, cpu_s: impl Fn() -> f64) -> Outcome {
        let mut poll = Poll::new().unwrap();
        let mut sent_at = vec![Instant::now(); self.wires.len()];
        for (n, sent_at) in sent_at.iter_mut().enumerate() {
            control::watch(&poll, &mut self.wires[n].stream, n);
            *sent_at = Instant::now();
            self.send(n);
        }
        let outcome = measure(&mut poll, self.wires.len(), cpu_s, |n, at| {
            let mut acked = false;
            self.wires[n]
                .drain(|text| acked |= text.windows(13).any(|window| window == b"\"message.ack\""));
            acked.then(|| {
                let took = sent_at[n].elapsed();
                if let Some(at) = at {
                    sent_at[n] = if rest.is_zero() { at } else { rested(rest) };
                    self.send(n);
                }
                took
            })
        });
        for wire in &mut self.wires {
            poll.registry().deregister(&mut wire.stream).unwrap();
        }
        outcome
    }
}

fn rested(rest: Duration) -> Instant {
    let over = Instant::now() + rest;
    while Instant::now() < over {
        std::thread::park_timeout(over - Instant::now());
    }
    Instant::now()
}

/// Calls `on_readable` with a time to send at until the round is over, then without one until every
/// answer is in.
fn measure(
    poll: &mut Poll,
    mut outstanding: usize,
    cpu_s: impl Fn() -> f64,
    mut on_readable: impl FnMut(usize, Option<Instant>) -> Option<Duration>,
) -> Outcome {
    let mut took_us = Histogram::<u64>::new(3).unwrap();
    let (begun, cpu_before) = (Instant::now(), cpu_s());
    let mut events = Events::with_capacity(SENDERS);
    while outstanding > 0 {
        poll.poll(&mut events, None).unwrap();
        for event in &events {
            let now = Instant::now();
            let at = (now - begun < ROUND).then_some(now);
            if let Some(took) = on_readable(event.token().0, at) {
                took_us.record(u64::try_from(took.as_micros()).unwrap()).unwrap();
                if at.is_none() {
                    outstanding -= 1;
                }
            }
        }
    }
    let cpu = cpu_s() - cpu_before;
    #[allow(clippy::cast_precision_loss, reason = "far from 2^52")]
    let (acks, ms) =
        (took_us.len() as f64, |quantile| took_us.value_at_quantile(quantile) as f64 / 1_000.0);
    Outcome {
        acks_per_s: acks / begun.elapsed().as_secs_f64(),
        mean_ms: took_us.mean() / 1_000.0,
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        cpu_ms_per_1000: cpu * 1_000_000.0 / acks,
    }
}
