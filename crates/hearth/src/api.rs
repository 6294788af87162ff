//! What operators ask of a mesh and what they are answered: the forms of both control planes.
//!
//! The local mesh serves them on loopback, with the control token of `hearth.json` as Bearer. A
//! core of a deployment serves failover, failback and moves on its admin endpoint, with the secret
//! of its `[admin] token_file`. All answers are JSON. [`client`] asks both.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/regions` | 200, `[RegionStatus]`, in the order of the world file |
//! | `POST /v1/regions/{name}/kill`, `/restore`, `/drain` | 200, the [`RegionStatus`] afterwards |
//! | `POST /v1/regions/{name}/failover?accept_loss=BOOL`, `/failback` | 200, [`FailoverStatus`], once its shards are served |
//! | `POST /v1/sessions/end?tenant=&user=` | 200, [`EndedSessions`], of all edges that run |
//! | `POST /v1/conversations/{id}/move/{region}` | 200, [`MoveStatus`], once it is served there |
//! | `POST /v1/links/{a}/{b}/cut`, `/heal` | 200, [`LinkStatus`] |
//! | anything that cannot be done | 4xx or 5xx, [`ControlProblem`] |

pub(crate) mod client;

use serde::{Deserialize, Serialize};

/// What a region is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RegionState {
    /// Everything runs.
    Up,
    /// Its nodes, its sockets and its store replica are gone.
    Killed,
    /// It is handing its shards and its sessions to others.
    Draining,
    /// It runs, owns nothing and takes no sessions.
    Drained,
}

impl std::fmt::Display for RegionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::Killed => "killed",
            Self::Draining => "draining",
            Self::Drained => "drained",
        })
    }
}

/// A region as the control API shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RegionStatus {
    /// As in the world file.
    pub(crate) name: String,
    /// What it is doing.
    pub(crate) state: RegionState,
    /// The names of the zones that it belongs to.
    pub(crate) zones: Vec<String>,
    /// Its nodes, such as `r1/core/2`; empty while it is killed.
    pub(crate) nodes: Vec<NodeStatus>,
    /// The shards that its cores own now.
    pub(crate) shards: Vec<ShardStatus>,
    /// Its copy of the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) store: Option<CopyStatus>,
}

/// A region's copy of the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CopyStatus {
    /// `open`, `full`, `failed`, `killed` or `closed`.
    pub(crate) state: String,
    /// What is left on its disk; none: not known.
    pub(crate) free_bytes: Option<u64>,
    /// Below this it takes nothing new.
    pub(crate) reserve_bytes: u64,
    /// Why it takes nothing new, in words for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trouble: Option<String>,
}

/// A node of a region.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeStatus {
    /// Such as `r1/core/2`.
    pub(crate) node: String,
    /// Open sessions; for edges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sessions: Option<u64>,
    /// How many other nodes it sees alive.
    #[serde(default)]
    pub(crate) peers_up: usize,
}

/// A shard and its owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ShardStatus {
    /// Such as `z1-r1-multi-region-0`.
    pub(crate) shard: String,
    /// The owner's node, such as `r1/core/2`.
    pub(crate) node: String,
    /// The owner's term.
    pub(crate) epoch: u64,
    /// The highest slot acknowledged; none when nothing was.
    #[serde(default)]
    pub(crate) committed: Option<u64>,
    /// Lost regions that still hold what is to be salvaged of it.
    #[serde(default)]
    pub(crate) forks: usize,
}

/// A link after it was cut or healed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LinkStatus {
    /// A region's name.
    pub(crate) a: String,
    /// Another's.
    pub(crate) b: String,
    /// Whether nothing passes directly between them.
    pub(crate) cut: bool,
}

/// A conversation that has moved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MoveStatus {
    /// Which.
    pub(crate) conversation_id: wire::ConversationId,
    /// Where it lives now.
    pub(crate) region: String,
    /// Such as `z1-r1-multi-region-0`.
    pub(crate) shard: String,
    /// How often it has moved so far.
    pub(crate) moves: u64,
}

/// Sessions that were ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct EndedSessions {
    /// How many there were.
    pub(crate) sessions: usize,
}

/// A region that is failed over or back, or that is not, because something would be missing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FailoverStatus {
    /// As in the world file.
    pub(crate) region: String,
    /// The zones in which it was decided.
    pub(crate) zones: Vec<String>,
    /// False: the region is lost, and nobody has accepted what would be missing. Nothing has
    /// changed.
    pub(crate) decided: bool,
    /// The region lives: every shard was handed over in order, and nothing is missing.
    pub(crate) planned: bool,
    /// Its single-region shards.
    pub(crate) shards: Vec<FailoverShard>,
}

/// A shard that changes hands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FailoverShard {
    /// Such as `z1-r1-region-0`.
    pub(crate) shard: String,
    /// Who serves it, such as `r2/core/1`.
    pub(crate) owner: Option<String>,
    /// At least so many acknowledged frames are missing until the region returns.
    pub(crate) missing_frames_min: u64,
    /// What was acknowledged in the last so many milliseconds of the region may be missing, too;
    /// none: nothing ever came over.
    pub(crate) window_ms: Option<u64>,
    /// The same as a moment: whatever is missing was ordered then or later; milliseconds since
    /// 1970.
    pub(crate) since_ms: Option<u64>,
}

/// Why the control API did not do it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ControlProblem {
    /// One clear line for people. For an unknown name it lists the known ones.
    pub(crate) message: String,
}
