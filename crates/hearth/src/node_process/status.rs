//! What operators see of a node: `/readyz` and `/status`.

use core_region::Stage;
use node::Readiness;
use serde::Serialize;
use wire::{NodeId, NodeRole};

use super::Process;
use super::lifecycle::State;
use crate::assembly::{Node, Part, panic_trouble};

/// `GET /status`.
#[derive(Debug, Serialize)]
struct Status {
    /// What people call it, such as `eu-west/core/1`.
    node: String,
    /// What it is called inside, such as `r1/core/1`.
    id: String,
    region: String,
    role: NodeRole,
    version: &'static str,
    state: State,
    /// Whether it gives away what it has, or has done so.
    draining: bool,
    ready: bool,
    reasons: Vec<String>,
    /// Other nodes that are alive.
    peers_up: Vec<Peer>,
    /// Nodes of `nodes.toml` that are not.
    peers_missing: Vec<String>,
    /// Every shard that it serves or may have to serve; for cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    shards: Option<Vec<Shard>>,
    /// What does not work in its store; for cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    store_troubles: Option<Vec<String>>,
    /// The single-region shards of other regions that it replicates; for cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    replication: Option<Vec<Replica>>,
    /// Open sessions; for edges.
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<u64>,
    /// The shards that it has asked so far; for edges.
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Vec<Link>>,
}

#[derive(Debug, Serialize)]
struct Peer {
    node: String,
    draining: bool,
    /// Names, with commas between; numbers of features that this program does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<String>,
    /// Its round trip, if there is a direct link.
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Shard {
    shard: String,
    /// `starting`, `elsewhere`, `claiming`, `serving` or `handing-over`.
    stage: &'static str,
    /// Who serves it, as far as this core knows.
    owner: Option<String>,
    /// The last term in which this core served it; 0 if it never did.
    epoch: u64,
    /// The highest slot that this core has acknowledged; none when nothing was.
    committed: Option<u64>,
    /// The highest slot that it has projected.
    projected: Option<u64>,
    /// Lost regions that still hold what is to be salvaged of it.
    #[serde(skip_serializing_if = "is_zero")]
    forks: usize,
}

#[derive(Debug, Serialize)]
struct Replica {
    shard: String,
    /// Acknowledged frames that are not here yet, or not projected.
    lag_frames: u64,
    /// When the last one that is here was ordered, milliseconds since 1970; none: none so far.
    last_ts_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Link {
    shard: String,
    owner: Option<String>,
    /// Requests without an answer.
    pending: usize,
    /// Conversations watched.
    watched: usize,
}

impl Process {
    /// Whether this node should get work. A missing peer is a remark, not a reason against.
    pub(super) fn readiness(&self) -> Readiness {
        let shared = &self.shared;
        let mut reasons = Vec::new();
        match shared.lifecycle.state() {
            State::Serving => {}
            State::Starting => reasons.push("the node is starting".to_owned()),
            State::Draining => reasons.push("the node is draining".to_owned()),
            State::Drained => reasons.push(self.drained()),
            State::Ending => reasons.push("the node is ending".to_owned()),
        }
        if shared.site.node.role == NodeRole::Core {
            reasons.extend(shared.health.troubles());
        }
        let panicked = shared.tasks.panicked();
        reasons.extend(panicked.into_iter().map(panic_trouble));
        let Some(node) = shared.node.get() else { return Readiness::unless(reasons) };
        reasons.extend(node.troubles());
        reasons.extend(self.isolation(node));
        let ready = reasons.is_empty();
        reasons.extend(
            self.peers_missing(node).iter().map(|name| format!("mesh: peer {name} is missing")),
        );
        Readiness { ready, reasons }
    }

    fn drained(&self) -> String {
        match self.shared.node.get().map_or(0, |node| node.serves().len()) {
            0 => "the node is drained".to_owned(),
            kept => {
                format!("the node is drained, but for {kept} shards that nobody else can serve now")
            }
        }
    }

    /// An edge needs a core. A core needs one of the others, if there are any: a core that sees
    /// nobody may itself be cut off.
    fn isolation(&self, node: &Node) -> Option<String> {
        let membership = node.mesh.membership();
        let living = membership.borrow();
        let core = |id: &&NodeId| id.role == NodeRole::Core && **id != node.id;
        let addresses = self.shared.addresses.borrow();
        let named = addresses.iter().map(|(id, _)| id).filter(core).count();
        let none_up = !living.nodes.keys().any(|id| core(&id));
        match &node.part {
            Part::Edge(_) => none_up.then(|| "mesh: no core is up".to_owned()),
            Part::Core(_) => {
                (named > 0 && none_up).then(|| format!("mesh: none of {named} other cores is up"))
            }
        }
    }

    fn peers_missing(&self, node: &Node) -> Vec<String> {
        let membership = node.mesh.membership();
        let living = membership.borrow();
        let addresses = self.shared.addresses.borrow();
        let missed = addresses.iter().filter(|(id, _)| **id != node.id && !living.is_alive(id));
        missed.map(|(id, _)| self.shared.site.world.name_of(id)).collect()
    }

    pub(super) fn status(&self) -> serde_json::Value {
        let site = &self.shared.site;
        let state = self.shared.lifecycle.state();
        let Readiness { ready, reasons } = self.readiness();
        let node = self.shared.node.get();
        let status = Status {
            node: site.name.clone(),
            id: site.node.to_string(),
            region: site.region.clone(),
            role: site.node.role,
            version: env!("CARGO_PKG_VERSION"),
            state,
            draining: matches!(state, State::Draining | State::Drained | State::Ending),
            ready,
            reasons,
            peers_up: node.map(|node| self.peers_up(node)).unwrap_or_default(),
            peers_missing: node.map(|node| self.peers_missing(node)).unwrap_or_default(),
            shards: node.and_then(|node| self.shards(node)),
            store_troubles: (site.node.role == NodeRole::Core)
                .then(|| self.shared.health.troubles()),
            replication: node.and_then(replication),
            sessions: node.and_then(Node::sessions),
            links: node.and_then(|node| self.links(node)),
        };
        serde_json::json!(status)
    }

    fn peers_up(&self, node: &Node) -> Vec<Peer> {
        let membership = node.mesh.membership().borrow().clone();
        let links = node.mesh.links();
        let rtt = |id: &NodeId| {
            links.iter().find(|link| link.peer == *id && link.up).and_then(|link| link.rtt)
        };
        let features = |id: &NodeId| {
            let link = links.iter().find(|link| link.peer == *id);
            link.and_then(|link| link.features.as_ref()).map(ToString::to_string)
        };
        let others = membership.nodes.iter().filter(|(id, _)| **id != node.id);
        let seen = others.map(|(id, state)| Peer {
            node: self.shared.site.world.name_of(id),
            draining: state.draining,
            features: features(id),
            rtt_ms: rtt(id).map(|rtt| rtt.as_secs_f64() * 1000.0),
        });
        seen.collect()
    }

    fn shards(&self, node: &Node) -> Option<Vec<Shard>> {
        let Part::Core(core) = &node.part else { return None };
        let shards = core.status().shards.into_iter().map(|shard| Shard {
            shard: shard.shard.to_string(),
            stage: stage(shard.stage),
            owner: shard.owner.as_ref().map(|owner| self.shared.site.world.name_of(owner)),
            epoch: shard.epoch,
            committed: shard.committed.checked_sub(1),
            projected: shard.projected.checked_sub(1),
            forks: shard.forks,
        });
        Some(shards.collect())
    }

    fn links(&self, node: &Node) -> Option<Vec<Link>> {
        let Part::Edge(edge) = &node.part else { return None };
        let links = edge.status().links.into_iter().map(|link| Link {
            shard: link.shard.to_string(),
            owner: link.owner.as_ref().map(|owner| self.shared.site.world.name_of(owner)),
            pending: link.pending,
            watched: link.watched,
        });
        Some(links.collect())
    }
}

/// A core that serves a shard does not replicate it.
fn replication(node: &Node) -> Option<Vec<Replica>> {
    let Part::Core(core) = &node.part else { return None };
    let followers = core.status().followers.into_iter().filter(|follower| !follower.serves);
    let followers = followers.map(|follower| Replica {
        shard: follower.shard.to_string(),
        lag_frames: follower.committed.saturating_sub(follower.next),
        last_ts_ms: follower.last_ts_ms,
    });
    Some(followers.collect())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Starting => "starting",
        Stage::Elsewhere => "elsewhere",
        Stage::Claiming => "claiming",
        Stage::Serving => "serving",
        Stage::HandingOver => "handing-over",
    }
}
