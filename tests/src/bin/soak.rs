//! `cargo run -p hearth-stories --bin soak -- --minutes 30`: a deployment of real processes over a
//! real Cassandra cluster, people who talk, and faults drawn from a seed. Exit code 0 only if
//! nothing was lost, doubled or reordered.

#![allow(clippy::print_stdout, reason = "a program that people run by hand")]

use std::time::Duration;

use clap::Parser;
use hearth_stories::deployment::Deployment;
use hearth_stories::soak::{self, Until};

/// Kills, pauses and cuts real nodes while people talk, and checks what they saw
#[derive(Parser, Debug)]
struct Args {
    /// How long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// Of the faults [default: a fresh one, printed]
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(rand::random);
    println!("seed {seed}");
    let Some(deployment) = tokio::task::spawn_blocking(Deployment::start).await.expect("it starts")
    else {
        std::process::exit(2);
    };
    deployment.mend().await;
    let (done, outcome) =
        soak::run(&deployment, seed, Until::Elapsed(Duration::from_secs(args.minutes * 60))).await;
    println!("seed {seed}: {done}\n{outcome}");
    let clean = outcome.report.is_clean() && outcome.report.sent == outcome.report.acked;
    drop(deployment);
    if !clean {
        std::process::exit(1);
    }
}
