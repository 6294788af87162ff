//! The store over CQL, on a real cluster of three datacenters.

#![allow(clippy::unwrap_used)]

#[path = "../../../tests/src/cassandra.rs"]
mod cassandra;

#[test]
fn three_datacenters_answer_each_other() {
    let Some(cluster) = cassandra::Cluster::take() else { return };
    cluster.nodes[0].pause();
    cluster.nodes[0].wake();
}
