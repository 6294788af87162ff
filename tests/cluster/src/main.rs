//! A cluster of three datacenters for people and their tests, until Ctrl-C.

use std::io::Read as _;
use std::sync::Arc;

use clap::Parser;
use hearth_test_cluster::{Cluster, Hosts, Reaper};

/// Starts three Cassandra datacenters on this machine, or looks at three that run, and says how
/// tests use them
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  cargo run -p hearth-test-cluster\n  cargo run -p hearth-test-cluster -- --cql \
                        10.0.0.1,10.0.1.1,10.0.2.1"
)]
struct Options {
    /// Start nothing: these run, one of each datacenter
    #[arg(long, value_name = "HOST,HOST,HOST")]
    cql: Option<String>,
}

fn main() {
    let options = Options::parse();
    let reaper = Arc::new(Reaper::start());
    let hosts = Arc::new(Hosts::take(3, &reaper));
    let cluster = match &options.cql {
        Some(running) => Some(Cluster::running(running)),
        None => Cluster::take(&hosts, &reaper),
    };
    let Some(cluster) = cluster else { std::process::exit(1) };
    let mut all = Vec::new();
    for node in &cluster.nodes {
        println!("{}  {}", node.datacenter, node.address);
        all.push(node.address.to_string());
    }
    println!("tests on it: HEARTH_CQL={} cargo test --workspace --test deployed", all.join(","));
    if options.cql.is_none() {
        println!("Ctrl-C, or the end of the input, ends it");
        // The reaper does not hear Ctrl-C; it notices that we are gone.
        _ = std::io::stdin().read(&mut [0; 1]);
    }
}
