//! Memory of 5,000 idle sessions, each after one exchange.

use std::time::{Duration, Instant};

use hearth_stories::mesh::Mesh;

use crate::wires::Wire;
use crate::{people, pid_of, resident_kib};

const WARM: usize = 100;
const SESSIONS: usize = 5_000;

pub(crate) fn run() {
    println!(
        "idle: {SESSIONS} sessions, resident memory of the whole `hearth up`; {}",
        crate::machine()
    );
    let one_user = grown(&|_| "everyone".to_owned());
    println!("  sessions of one user          {one_user:>6.2} KiB a session");
    let many = grown(&|n| format!("user-{n}"));
    println!(
        "  sessions of as many users     {many:>6.2} KiB a session, its user's own stream in the core included"
    );
}

/// KiB a session by which the process grows.
#[allow(clippy::cast_precision_loss, reason = "small")]
fn grown(user: &dyn Fn(usize) -> String) -> f64 {
    let mesh = Mesh::for_load("one-region");
    let edge = mesh.edge(&mesh.regions()[0]);
    let pid = pid_of(mesh.dir());
    let open = |n: usize| {
        let mut wire = Wire::open(&edge, &people::token(mesh.dir(), &user(n)));
        wire.send(r#"{"type":"ping","id":"1"}"#);
        let mut pong = false;
        while !pong {
            wire.drain(|text| pong |= text.windows(6).any(|window| window == b"\"pong\""));
            std::thread::yield_now();
        }
        wire
    };
    let warm: Vec<_> = (0..WARM).map(|n| open(SESSIONS + n)).collect();
    let before = settled(pid);
    let sessions: Vec<_> = (0..SESSIONS).map(open).collect();
    let after = settled(pid);
    drop((warm, sessions));
    (after - before) / SESSIONS as f64
}

/// Resident memory once it has been still for a second.
fn settled(pid: u32) -> f64 {
    let (mut last, mut since) = (resident_kib(pid), Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(100));
        let now = resident_kib(pid);
        if (now - last).abs() > 64.0 {
            (last, since) = (now, Instant::now());
        }
    }
    last
}
