//! Benchmarks of the whole mesh, each beside its control in the same run: machines are noisy, so
//! trust the ratio.
//!
//! ```sh
//! cargo bench -p hearth-stories -- acks        # 64 senders in 64 conversations, against a bare group-commit server
//! cargo bench -p hearth-stories -- fanout      # one event to 5,000 sockets, against a raw send loop
//! cargo bench -p hearth-stories -- idle        # memory of 5,000 idle sessions
//! cargo bench -p hearth-stories -- deployed    # processes over three Cassandra datacenters, against bare statements
//! ```

#![allow(clippy::unwrap_used, reason = "a benchmark that fails shall say where and stop")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a load generator stands outside: bare sockets and threads, so that no runtime shows in the figures"
)]

mod acks;
mod control;
mod deployed;
mod fanout;
mod idle;
mod people;
mod wires;

use std::path::PathBuf;
use std::process::Command;

fn main() {
    // cargo adds `--bench`.
    let asked: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let all = [
        ("acks", acks::run as fn()),
        ("fanout", fanout::run),
        ("idle", idle::run),
        ("deployed", deployed::run),
    ];
    for (name, run) in all {
        if asked.is_empty() || asked.iter().any(|wanted| wanted == name) {
            run();
        }
    }
}

/// CPU seconds that a process has used, user and system.
fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

/// Resident memory of a process, KiB.
fn resident_kib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The process that runs a mesh.
fn pid_of(dir: &std::path::Path) -> u32 {
    let text = std::fs::read_to_string(dir.join("hearth.json")).unwrap();
    let local: serde_json::Value = serde_json::from_str(&text).unwrap();
    u32::try_from(local["pid"].as_u64().unwrap()).unwrap()
}

/// Describes this machine, for the record.
fn machine() -> String {
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program)
            .args(args)
            .output()
            .map(|output| output.stdout)
            .unwrap_or_default();
        String::from_utf8_lossy(&output).trim().to_owned()
    };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{} cores, {}, load {}",
        run("nproc", &[]),
        run("uname", &["-sr"]),
        load.split(' ').next().unwrap_or("?")
    )
}

fn scratch() -> PathBuf {
    std::env::temp_dir()
}
