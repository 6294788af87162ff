//! Durable acks per second and CPU per message: 64 senders, each in a conversation of its own, one message in flight each.

use std::io::{ErrorKind, Read as _, Write as _};
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

struct Outcome {
    acks_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    cpu_ms_per_1000: f64,
}

pub(crate) fn run() {
    println!("acks: {SENDERS} senders, {BODY}-byte bodies, {ROUNDS} rounds of {ROUND:?}; {}", crate::machine());
    let one = Mesh::up_with(&["--world", "one-region"]);
    let mut one_senders = Senders::new(&one);
    let three = Mesh::up();
    let mut three_senders = Senders::new(&three);
    let mut rows = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        rows[0].push(bare());
        rows[1].push(one_senders.round());
        rows[2].push(three_senders.round());
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
    let outcome = measure(&mut poll, None, |n, at| {
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
    });
    drop(streams);
    outcome
}

/// 64 sessions of 64 users, each in a group of its own.
struct Senders<'a> {
    mesh: &'a Mesh,
    wires: Vec<Wire>,
    conversations: Vec<String>,
    sent: u64,
}

impl<'a> Senders<'a> {
    fn new(mesh: &'a Mesh) -> Self {
        let edge = mesh.edge(&mesh.regions()[0]);
        let (mut wires, mut conversations) = (Vec::new(), Vec::new());
        for n in 0..SENDERS {
            let token = people::token(mesh.dir(), &format!("sender-{n}"));
            conversations.push(people::group(&edge, &token, &[]));
            people::wait_for_inbox(&edge, &token, 1);
            wires.push(Wire::open(&edge, &token));
        }
        Self { mesh, wires, conversations, sent: 0 }
    }

    fn send(&mut self, n: usize) {
        self.sent += 1;
        let (conversation, id) = (&self.conversations[n], self.sent);
        let body = "x".repeat(BODY);
        self.wires[n].send(&format!(
            r#"{{"type":"message.send","conversation_id":"{conversation}","client_msg_id":"b{id}","payload":{{"body":"{body}"}}}}"#
        ));
    }

    fn round(&mut self) -> Outcome {
        let mut poll = Poll::new().unwrap();
        let mut sent_at = vec![Instant::now(); SENDERS];
        for n in 0..SENDERS {
            control::watch(&poll, &mut self.wires[n].stream, n);
            self.send(n);
        }
        let outcome = measure(&mut poll, Some(pid_of(self.mesh.dir())), |n, at| {
            let mut acked = false;
            self.wires[n].drain(|text| acked |= text.windows(13).any(|window| window == b"\"message.ack\""));
            acked.then(|| {
                let took = sent_at[n].elapsed();
                if let Some(at) = at {
                    sent_at[n] = at;
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

/// Calls `on_readable` with a time to send at until the round is over, then without one until every answer is in.
fn measure(
    poll: &mut Poll,
    pid: Option<u32>,
    mut on_readable: impl FnMut(usize, Option<Instant>) -> Option<Duration>,
) -> Outcome {
    let mut took_us = Histogram::<u64>::new(3).unwrap();
    let (begun, cpu_before) = (Instant::now(), pid.map(cpu_s));
    let mut outstanding = SENDERS;
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
    let cpu = pid.zip(cpu_before).map_or(f64::NAN, |(pid, before)| cpu_s(pid) - before);
    #[allow(clippy::cast_precision_loss, reason = "far from 2^52")]
    let (acks, ms) = (took_us.len() as f64, |quantile| took_us.value_at_quantile(quantile) as f64 / 1_000.0);
    Outcome {
        acks_per_s: acks / begun.elapsed().as_secs_f64(),
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        cpu_ms_per_1000: cpu * 1_000_000.0 / acks,
    }
}
