use std::sync::Arc;

use test_cluster::{Cluster, Hosts, Network, Reaper};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::REGIONS;

/// The cluster of this program, and the networks that it stands in.
#[derive(Clone, Debug)]
pub struct Servers {
    pub(super) cluster: Arc<Cluster>,
    pub(super) hosts: Arc<Hosts>,
    pub(super) reaper: Arc<Reaper>,
}

/// A test that has the cluster for itself.
pub type Turn = MutexGuard<'static, ()>;

impl Servers {
    /// The cluster of this program, whole, for one test at a time. None, with the reason on stderr,
    /// when it is not wanted or this machine cannot run one.
    pub async fn whole() -> Option<(Arc<Cluster>, Turn)> {
        let turn = turn().await;
        let servers = Self::shared().await?;
        tokio::task::spawn_blocking(move || {
            servers.heal();
            Some((servers.cluster, turn))
        })
        .await
        .expect("the servers answer")
    }

    /// The cluster of this program; the first test starts it.
    pub(super) async fn shared() -> Option<Self> {
        static SERVERS: OnceCell<Option<Servers>> = OnceCell::const_new();
        let start = || async {
            let start = || test_cluster::is_wanted().then(Self::start).flatten();
            tokio::task::spawn_blocking(start).await.expect("it starts")
        };
        SERVERS.get_or_init(start).await.clone()
    }

    /// A new cluster. Blocks.
    pub(super) fn start() -> Option<Self> {
        let reaper = Arc::new(Reaper::start());
        let hosts = Arc::new(Hosts::take(REGIONS.len(), &reaper));
        let cluster = Arc::new(Cluster::take(&hosts, &reaper)?);
        Some(Self { cluster, hosts, reaper })
    }

    /// Opens every way, starts the servers that are dead and wakes those that are paused. Blocks.
    pub(super) fn heal(&self) {
        if self.hosts.has_namespaces() {
            for (a, b) in [(1, 2), (1, 3), (2, 3)] {
                self.hosts.heal(a, b, Network::Mesh);
                self.hosts.heal(a, b, Network::Store);
            }
        }
        for server in self.cluster.nodes.iter().filter(|server| server.is_ours()) {
            if server.pid().is_some() {
                server.wake();
            } else {
                server.start();
            }
        }
        self.cluster.wait();
    }
}

/// Waits until no other test of this program has the cluster.
pub(super) async fn turn() -> Turn {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}
