//! One edge, one or two cores, tokens, and the conversations of a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use auth::{DevIssuer, StreamKey, Verifier, VerifierOptions};
use hearth_edge::{Edge, EdgeOptions, Limits};
use mesh::{Mesh, MeshCa, MeshOptions};
use net::{Net, OsNet};
use topology::World;
use wire::change::Role;
use wire::command::{Actor, Answer, Draft, UserCommand};
use wire::{ClientMsgId, ConversationId, Durability, NodeId, RegionId, TenantId, UserId};

use crate::owner::Owner;
use crate::socket::Client;

/// How long anything may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

const WORLD: &str = r#"
name = "test"
[[region]]
id = 1
name = "here"
lat = 0.0
lon = 0.0
cores = 2
edges = 1
[[region]]
id = 2
name = "there"
lat = 0.0
lon = 10.0
cores = 1
edges = 1
[[zone]]
id = 1
name = "open"
regions = ["here"]
[[zone]]
id = 2
name = "closed"
regions = ["there"]
transit = "deny"
[[tenant]]
name = "demo"
zone = "open"
durability = "region"
[[tenant]]
name = "other"
zone = "open"
durability = "region"
[[tenant]]
name = "pinned"
zone = "closed"
durability = "region"
"#;

pub(crate) struct Bench {
    pub(crate) edge: Edge,
    pub(crate) owner: Owner,
    pub(crate) world: Arc<World>,
    pub(crate) cores: Vec<Option<Mesh>>,
    issuer: DevIssuer,
    _mesh: Mesh,
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn actor(name: &str) -> Actor {
    Actor { tenant: tenant("demo"), user: user(name), device: None }
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, wait)
        .await
        .unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    /// With limits that a test can reach.
    pub(crate) async fn with(limits: Limits) -> Self {
        let world = Arc::new(World::parse(WORLD).unwrap());
        let ca = MeshCa::create().unwrap();
        let owner = Owner::new(world.clone());
        let start = |name: &str, peers: Vec<(NodeId, std::net::SocketAddr)>| {
            let node: NodeId = name.parse().unwrap();
            let identity = ca.issue(&node).unwrap();
            let any = "127.0.0.1:0".parse().unwrap();
            let options =
                MeshOptions { peers, ..MeshOptions::new(node, identity, any, Arc::new(OsNet)) };
            Mesh::start(options).unwrap()
        };
        let cores: Vec<Mesh> =
            ["r1/core/1", "r1/core/2"].iter().map(|name| start(name, Vec::new())).collect();
        for core in &cores {
            for other in &cores {
                if core.node() != other.node() {
                    core.add_peer(other.node(), other.local_addr());
                }
            }
            tokio::spawn(owner.clone().run(core.clone()));
        }
        let mesh = start(
            "r1/edge/1",
            cores.iter().map(|core| (core.node().clone(), core.local_addr())).collect(),
        );
        let issuer = DevIssuer::from_seed([7; 32]);
        let tenants = world.tenants.iter().map(|tenant| tenant.id.clone()).collect();
        let options = VerifierOptions {
            tenants,
            issuers: Vec::new(),
            dev: Some(issuer.public_key()),
            stream: StreamKey::from_seed([8; 32]),
        };
        let listener = OsNet.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let edge = Edge::start(EdgeOptions {
            node: mesh.node().clone(),
            world: world.clone(),
            mesh: mesh.clone(),
            public_url: format!("http://{}", listener.local_addr().unwrap()),
            listener,
            verifier: Arc::new(Verifier::new(options).unwrap()),
            edges: Arc::new(|| {
                vec![(RegionId(2), "http://there".into()), (RegionId(1), "http://here-2".into())]
            }),
            origins: Arc::new(|origin| origin == "https://chat.example.org"),
            limits,
        })
        .unwrap();
        Self {
            edge,
            owner,
            world,
            cores: cores.into_iter().map(Some).collect(),
            issuer,
            _mesh: mesh,
        }
    }

    pub(crate) fn token(&self, user: &str) -> String {
        self.token_of("demo", user, 3_600)
    }

    pub(crate) fn token_of(&self, tenant_name: &str, user_name: &str, ttl_s: u64) -> String {
        self.issuer.issue(&tenant(tenant_name), &user(user_name), None, ttl_s, now_ms())
    }

    /// A session that has had its `hello`.
    pub(crate) async fn session(&self, user: &str) -> Client {
        let mut client = Client::open(self.edge.local_addr(), &self.token(user)).await.unwrap();
        let hello = client.next().await.unwrap();
        assert_eq!(hello["type"], "hello");
        client
    }

    /// A group, made through some other edge.
    pub(crate) fn group(&self, owner: &str, members: &[&str]) -> ConversationId {
        static GROUPS: AtomicU64 = AtomicU64::new(1);
        let random = u128::from(GROUPS.fetch_add(1, Ordering::Relaxed)).to_be_bytes();
        let id = self
            .world
            .new_group_id(&tenant("demo"), RegionId(1), Durability::Region, random)
            .unwrap();
        let members = members.iter().map(|name| user(name)).collect();
        self.elsewhere(owner, id, UserCommand::CreateGroup { name: "tea".into(), members });
        id
    }

    /// A command through some other edge.
    pub(crate) fn elsewhere(&self, who: &str, id: ConversationId, command: UserCommand) -> Answer {
        self.owner.homes().command(&self.world, &actor(who), id, command).unwrap()
    }

    /// A message through some other edge.
    pub(crate) fn say(&self, who: &str, id: ConversationId, name: &str, body: &str) {
        let client_msg_id = ClientMsgId::new(name).unwrap();
        let draft = Draft::text(client_msg_id, body);
        self.elsewhere(who, id, UserCommand::Send(draft));
    }

    /// A change of members through some other edge.
    pub(crate) fn change(&self, who: &str, id: ConversationId, add: &[&str], remove: &[&str]) {
        let users = |names: &[&str]| names.iter().map(|name| user(name)).collect::<Vec<_>>();
        let roles: Vec<(UserId, Role)> = Vec::new();
        self.elsewhere(
            who,
            id,
            UserCommand::ChangeMembers { add: users(add), remove: users(remove), roles },
        );
    }
}
