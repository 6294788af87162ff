//! `hearth region`, `hearth node` and `hearth link`: lose a part of the mesh on purpose, before it
//! happens by itself.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use wire::NodeId;

use crate::api::client::{Control, CoreAdmin};
use crate::api::{FailoverStatus, RegionStatus};
use crate::local_mesh::discovery::DataDir;
use crate::out;

/// Regions of the local mesh: how they are, and the loss of one
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  hearth region status\n  hearth region kill eu-west\n  hearth region restore eu-west"
)]
pub(crate) struct RegionOptions {
    #[command(subcommand)]
    verb: RegionVerb,
}

#[derive(Subcommand, Debug)]
enum RegionVerb {
    /// Show what every region does, which nodes run there, and which shards they own
    #[command(after_help = "Example:\n  hearth region status --json")]
    Status {
        /// Only this region
        name: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Drop a region's nodes, sockets and store replica at once, mid-write
    #[command(after_help = "Example:\n  hearth region kill eu-west")]
    Kill(Named),
    /// Start a killed or drained region again, and let it catch up
    #[command(after_help = "Example:\n  hearth region restore eu-west")]
    Restore(Named),
    /// Hand a region's shards and sessions to the others, without an error for anyone
    #[command(after_help = "Example:\n  hearth region drain eu-west")]
    Drain(Named),
    /// Let other regions serve what lives in one in class `region`; of one that is lost, show first
    /// what would be missing
    #[command(
        after_help = "Examples:\n  hearth region failover eu-west\n  hearth region failover eu-west --accept-loss\n  hearth region \
                      failover eu-west --admin http://10.0.0.7:9080 --token-file /etc/hearth/admin.token"
    )]
    Failover(Failover),
    /// Let a region that was failed over serve again what lives there; nothing is lost by it
    #[command(after_help = "Example:\n  hearth region failback eu-west")]
    Failback(Failback),
}

#[derive(Args, Debug)]
struct Failover {
    /// The region, as the world file names it
    name: String,
    /// The region is lost: go on without what had not come over, until it returns
    #[arg(long)]
    accept_loss: bool,
    #[command(flatten)]
    core: CoreAdmin,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct Failback {
    /// The region, as the world file names it
    name: String,
    #[command(flatten)]
    core: CoreAdmin,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct Named {
    /// The region, as the world file names it
    name: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct Common {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataDir,
}

/// Single nodes of the local mesh
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  hearth node kill r1/core/2")]
pub(crate) struct NodeOptions {
    #[command(subcommand)]
    verb: NodeVerb,
}

#[derive(Subcommand, Debug)]
enum NodeVerb {
    /// Drop a node's tasks and sockets at once
    #[command(after_help = "Example:\n  hearth node kill r1/core/2")]
    Kill(Node),
    /// Start a killed node again
    #[command(after_help = "Example:\n  hearth node restore r1/core/2")]
    Restore(Node),
}

#[derive(Args, Debug)]
struct Node {
    /// The node, as `hearth region status` shows it
    node: NodeId,
    #[command(flatten)]
    common: Common,
}

/// Direct ways between two regions of the local mesh
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  hearth link cut eu-west us-east")]
pub(crate) struct LinkOptions {
    #[command(subcommand)]
    verb: LinkVerb,
}

#[derive(Subcommand, Debug)]
enum LinkVerb {
    /// Let nothing pass directly between two regions
    #[command(after_help = "Example:\n  hearth link cut eu-west us-east")]
    Cut(Ends),
    /// Undo a cut
    #[command(after_help = "Example:\n  hearth link heal eu-west us-east")]
    Heal(Ends),
}

#[derive(Args, Debug)]
struct Ends {
    /// A region
    a: String,
    /// Another
    b: String,
    #[command(flatten)]
    common: Common,
}

/// Does what `hearth region` says.
///
/// # Errors
/// When it could not be done.
pub(crate) async fn region(options: RegionOptions) -> anyhow::Result<()> {
    match options.verb {
        RegionVerb::Status { name, common } => status(name.as_deref(), &common).await,
        RegionVerb::Kill(named) => change(&named, "kill", "killed").await,
        RegionVerb::Restore(named) => change(&named, "restore", "restored").await,
        RegionVerb::Drain(named) => change(&named, "drain", "drained").await,
        RegionVerb::Failover(asked) => {
            let order = format!("failover?accept_loss={}", asked.accept_loss);
            fail(&asked.name, &order, &asked.core, &asked.common).await
        }
        RegionVerb::Failback(asked) => {
            fail(&asked.name, "failback", &asked.core, &asked.common).await
        }
    }
}

/// Does what `hearth node` says.
///
/// # Errors
/// When it could not be done.
pub(crate) async fn node(options: NodeOptions) -> anyhow::Result<()> {
    let (node, verb, done) = match options.verb {
        NodeVerb::Kill(node) => (node, "kill", "killed"),
        NodeVerb::Restore(node) => (node, "restore", "restored"),
    };
    let region = control(&node.common.data.path()?)?.change_node(&node.node, verb).await?;
    if node.common.json {
        out::json(&region)?
    } else {
        out::line(format_args!("{}: {done}", node.node))?
    }
    Ok(())
}

/// Does what `hearth link` says.
///
/// # Errors
/// When it could not be done.
pub(crate) async fn link(options: LinkOptions) -> anyhow::Result<()> {
    let (ends, verb) = match options.verb {
        LinkVerb::Cut(ends) => (ends, "cut"),
        LinkVerb::Heal(ends) => (ends, "heal"),
    };
    let link = control(&ends.common.data.path()?)?.change_link(&ends.a, &ends.b, verb).await?;
    if ends.common.json {
        out::json(&link)?;
    } else {
        out::line(format_args!(
            "{} - {}: {}",
            link.a,
            link.b,
            if link.cut { "cut" } else { "whole" }
        ))?;
    }
    Ok(())
}

fn control(dir: &Path) -> anyhow::Result<Control> {
    Control::open(dir)
}

async fn change(named: &Named, verb: &str, done: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    let region = control(&named.common.data.path()?)?.change_region(&named.name, verb).await?;
    if named.common.json {
        out::json(&region)?;
    } else {
        out::line(format_args!(
            "{}: {done} in {:.1} s; it is {} now",
            region.name,
            seconds(began),
            region.state
        ))?;
    }
    Ok(())
}

async fn fail(name: &str, order: &str, core: &CoreAdmin, common: &Common) -> anyhow::Result<()> {
    let began = Instant::now();
    let status = match core.order(&format!("/regions/{name}/{order}")).await? {
        Some(status) => status,
        None => control(&common.data.path()?)?.fail_region(name, order).await?,
    };
    if common.json {
        out::json(&status)?;
    } else {
        outlook(&status, seconds(began)).iter().try_for_each(out::line)?;
    }
    if status.decided {
        return Ok(());
    }
    anyhow::bail!(
        "nothing has changed: {name} is lost. Bring it back, or go on without what would be missing: it comes back, flagged as \
         recovered, when the region does. For that say --accept-loss"
    )
}

fn outlook(status: &FailoverStatus, seconds: f64) -> Vec<String> {
    let mut lines = vec![format!("{:<24}{:<14}missing", "shard", "owner")];
    for shard in &status.shards {
        let missing = match (shard.missing_frames_min, shard.window_ms) {
            (0, Some(0)) => "nothing".to_owned(),
            (frames, Some(window)) => {
                let window = Duration::from_millis(window).as_secs_f64();
                format!(
                    "{frames} frames at least, and what was acknowledged in the last {window:.1} s"
                )
            }
            (frames, None) => format!("{frames} frames at least: nothing has ever come over"),
        };
        lines.push(format!(
            "{:<24}{:<14}{missing}",
            shard.shard,
            shard.owner.as_deref().unwrap_or("-")
        ));
    }
    if status.decided {
        lines.push(format!(
            "{}: done in {seconds:.1} s, in {}",
            status.region,
            status.zones.join(", ")
        ));
    }
    lines
}

fn seconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64()
}

async fn status(name: Option<&str>, common: &Common) -> anyhow::Result<()> {
    let dir = common.data.path()?;
    let mut regions = control(&dir)?.regions().await?;
    if let Some(name) = name {
        crate::local_mesh::discovery::LocalMesh::find(&dir)?.region(name)?;
        regions.retain(|region| region.name == name);
    }
    if common.json {
        for region in &regions {
            out::json(region)?;
        }
        return Ok(());
    }
    table(&regions).iter().try_for_each(out::line)?;
    Ok(())
}

fn table(regions: &[RegionStatus]) -> Vec<String> {
    let mut lines =
        vec![format!("{:<14}{:<10}{:<18}{:<14}owns shards", "region", "state", "zones", "node")];
    for region in regions {
        let facts =
            format!("{:<14}{:<10}{:<18}", region.name, region.state, region.zones.join(" "));
        if region.nodes.is_empty() {
            lines.push(facts.trim_end().to_owned());
        }
        for (n, node) in region.nodes.iter().enumerate() {
            let left = if n == 0 { facts.as_str() } else { "" };
            let owned: Vec<_> =
                region.shards.iter().filter(|shard| shard.node == node.node).collect();
            let forks: usize = owned.iter().map(|shard| shard.forks).sum();
            let mut right = match (node.sessions, owned.len()) {
                (Some(sessions), _) => format!("{sessions} sessions"),
                (None, 0) => "none".to_owned(),
                (None, n) => format!(
                    "{n}, highest epoch {}",
                    owned.iter().map(|s| s.epoch).max().unwrap_or(0)
                ),
            };
            if forks > 0 {
                right += &format!("; {forks} to be salvaged");
            }
            right += &format!("; {} peers up", node.peers_up);
            lines.push(format!("{left:<42}{:<14}{right}", node.node));
        }
        if let Some(why) = region.store.as_ref().and_then(|copy| copy.trouble.as_ref()) {
            lines.push(format!("{:<14}store: {why}", ""));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{CopyStatus, NodeStatus, RegionState, ShardStatus};

    #[test]
    fn the_table_shows_every_region_with_its_nodes() {
        let node = |node: &str, sessions| NodeStatus { node: node.into(), sessions, peers_up: 8 };
        let shard = |n, epoch| ShardStatus {
            shard: format!("z1-r1-region-{n}"),
            node: "r1/core/1".into(),
            epoch,
            committed: None,
            forks: usize::from(n == 1),
        };
        let up = RegionStatus {
            name: "eu-west".into(),
            state: RegionState::Up,
            zones: vec!["global".into(), "eu".into()],
            nodes: vec![
                node("r1/edge/1", Some(3)),
                node("r1/core/1", None),
                node("r1/core/2", None),
            ],
            shards: vec![shard(0, 4), shard(1, 7)],
            store: None,
        };
        let full = CopyStatus {
            state: "full".into(),
            free_bytes: Some(1),
            reserve_bytes: 2,
            trouble: Some("the disk is full".into()),
        };
        let killed = RegionStatus {
            name: "us-east".into(),
            state: RegionState::Killed,
            nodes: vec![],
            shards: vec![],
            store: Some(full),
            ..up.clone()
        };
        let lines = table(&[up, killed]);
        assert_eq!(lines.len(), 6);
        assert!(lines[5].ends_with("store: the disk is full"), "{lines:?}");
        assert!(
            lines[1].starts_with("eu-west       up") && lines[1].contains("3 sessions"),
            "{lines:?}"
        );
        assert!(
            lines[2].contains("r1/core/1     2, highest epoch 7; 1 to be salvaged"),
            "{lines:?}"
        );
        assert!(lines[3].contains("none; 8 peers up"), "{lines:?}");
        assert!(lines[4].contains("killed"), "{lines:?}");
    }
}
