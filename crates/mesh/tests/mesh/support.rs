//! Nodes for the stories of this folder: real sockets on 127.0.0.1, one authority, conditions
//! between their regions.

#![allow(dead_code, unreachable_pub)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_mesh::{Channel, Membership, Mesh, MeshCa, MeshOptions};
use net::{ConditionedNet, Conditions};
use wire::NodeId;
use wire::stream::Purpose;

/// Nobody asserts how fast things are: this is only where waiting ends.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A small world.
pub struct Rig {
    pub ca: MeshCa,
    pub conditions: Conditions,
    /// Obey delays.
    pub delays: bool,
}

impl Rig {
    pub fn new() -> Self {
        if std::env::var_os("RUST_LOG").is_some() {
            let filter = tracing_subscriber::EnvFilter::from_default_env();
            let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        }
        Self { ca: MeshCa::create().unwrap(), conditions: Conditions::new(7), delays: false }
    }

    pub fn options(&self, name: &str, peers: &[&Mesh]) -> MeshOptions {
        let node = node(name);
        let net = ConditionedNet::new(self.conditions.clone(), node.region.0, self.delays);
        let identity = self.ca.issue(&node).unwrap();
        let mut options = MeshOptions::new(node, identity, any_port(), Arc::new(net));
        options.peers = peers.iter().map(|peer| (peer.node().clone(), peer.local_addr())).collect();
        options
    }

    pub fn start(&self, name: &str, peers: &[&Mesh]) -> Mesh {
        Mesh::start(self.options(name, peers)).unwrap()
    }

    /// Nodes that all know the first, once each sees all.
    pub async fn start_all(&self, names: &[&str]) -> Vec<Mesh> {
        let mut nodes: Vec<Mesh> = Vec::new();
        for name in names {
            let first: Vec<&Mesh> = nodes.first().into_iter().collect();
            nodes.push(self.start(name, &first));
        }
        for node in &nodes {
            sees(node, names).await;
            for other in nodes.iter().filter(|other| other.node() != node.node()) {
                linked(node, other.node()).await;
            }
        }
        nodes
    }
}

pub fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

pub fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Waits for something to become true.
pub async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let waiting = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "in vain: {what}");
}

/// Waits until the node's membership is as wanted.
pub async fn membership(of: &Mesh, what: &str, mut is: impl FnMut(&Membership) -> bool) {
    let mut watch = of.membership();
    let waiting = watch.wait_for(|membership| is(membership));
    let done = tokio::time::timeout(DEADLINE, waiting).await.map(|seen| seen.is_ok());
    assert!(
        done.unwrap_or(false),
        "in vain: {} sees {what}; {:?}",
        of.node(),
        of.membership().borrow()
    );
}

/// Waits until exactly these live in the eyes of one.
pub async fn sees(of: &Mesh, names: &[&str]) {
    let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.sort();
    membership(of, &names.join(" "), |now| {
        let mut live: Vec<String> = now.nodes.keys().map(ToString::to_string).collect();
        live.sort();
        live == names
    })
    .await;
}

pub async fn linked(from: &Mesh, to: &NodeId) {
    until(&format!("link {} to {to}", from.node()), || {
        from.links().iter().any(|link| link.peer == *to && link.up)
    })
    .await;
}

/// Answers every frame of every channel with itself, until the mesh stops.
pub fn echo(mesh: &Mesh) {
    let mesh = mesh.clone();
    tokio::spawn(async move {
        while let Some((_, _, channel)) = mesh.accept().await {
            tokio::spawn(async move {
                let (mut sender, mut receiver) = channel.split();
                while let Ok(Some(frame)) = receiver.recv().await {
                    if sender.send(frame).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
}

/// Sends one frame and expects it back.
pub async fn echoes(mut channel: Channel, text: &'static str) -> Channel {
    let asked = async {
        channel.send(Bytes::from_static(text.as_bytes())).await.unwrap();
        assert_eq!(channel.recv().await.unwrap().as_deref(), Some(text.as_bytes()));
    };
    tokio::time::timeout(DEADLINE, asked).await.expect("an echo in time");
    channel
}

pub async fn open(from: &Mesh, to: &NodeId) -> Channel {
    let opening = async {
        loop {
            match from.open(to, Purpose::Control).await {
                Ok(channel) => return channel,
                Err(error) => println!("{} to {to}: {error}; again", from.node()),
            }
        }
    };
    tokio::time::timeout(DEADLINE, opening).await.expect("a channel in time")
}

/// A node on a runtime of its own, which can be killed as a process is: at once, in the middle of
/// everything.
pub struct Island {
    runtime: Option<tokio::runtime::Runtime>,
    pub mesh: Option<Mesh>,
}

impl Island {
    /// Starts; waits for its port to be free when it is a given one.
    pub async fn start(options: MeshOptions) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mesh = {
            let _inside = runtime.enter();
            let mut started = None;
            until("a free port", || {
                started = Mesh::start(options.clone()).ok();
                started.is_some()
            })
            .await;
            started.unwrap()
        };
        Self { runtime: Some(runtime), mesh: Some(mesh) }
    }

    pub fn mesh(&self) -> &Mesh {
        self.mesh.as_ref().unwrap()
    }

    pub fn echo(&self) {
        let _inside = self.runtime.as_ref().unwrap().enter();
        echo(self.mesh());
    }

    pub fn kill(&mut self) {
        self.mesh().crash();
        self.runtime.take().unwrap().shutdown_background();
        self.mesh = None;
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
