//! The takeover after a fault, read from the logs of the nodes.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Deployment, Node};

/// A moment, and how far each log was then.
#[derive(Debug)]
pub struct Trace {
    began: SystemTime,
    marks: Vec<u64>,
}

/// A takeover of a shard.
#[derive(Clone, Debug)]
pub struct Takeover {
    /// The next owner: `us-east/core/1`.
    pub by: String,
    /// Until it believed the last of the dead to be down. None: it was not told so before it took
    /// the shard.
    pub detected: Option<Duration>,
    /// Until it had the shard.
    pub took: Duration,
    /// The part of it from the first request to the store to the last.
    pub claim: Duration,
}

impl Deployment {
    /// From now on.
    #[must_use]
    pub fn trace(&self) -> Trace {
        Trace { began: SystemTime::now(), marks: self.nodes.iter().map(Node::log_mark).collect() }
    }

    /// The first takeover of a shard since, after these nodes (`r1/core/1`) died or fell silent.
    #[must_use]
    pub fn takeover(&self, trace: &Trace, shard: &str, dead: &[String]) -> Option<Takeover> {
        let taken = self.nodes.iter().zip(&trace.marks).filter_map(|(node, &mark)| {
            let lines = node.logged_since(mark);
            let at = lines
                .iter()
                .position(|line| line["message"] == "took the shard" && says_shard(line, shard))?;
            let down = |line: &&Value| {
                line["message"] == "node is down"
                    && line["peer"]
                        .as_str()
                        .is_some_and(|peer| dead.iter().any(|dead| dead == peer))
            };
            Some(Takeover {
                by: node.name.clone(),
                detected: lines[..at].iter().rfind(down).and_then(|line| trace.elapsed(line)),
                took: trace.elapsed(&lines[at])?,
                claim: Duration::from_millis(lines[at]["took_ms"].as_u64()?),
            })
        });
        taken.min_by_key(|takeover| takeover.took)
    }

    /// Whether a node has logged since that it is a zombie for this shard.
    #[must_use]
    pub fn knew_itself_a_zombie(&self, trace: &Trace, node: &Node, shard: &str) -> bool {
        let at = self.nodes.iter().position(|known| known.name == node.name);
        let mark = at.and_then(|at| trace.marks.get(at)).copied().unwrap_or_default();
        let zombie = |line: &Value| {
            line["message"].as_str().is_some_and(|message| message.starts_with("fenced"))
                && says_shard(line, shard)
        };
        node.logged_since(mark).iter().any(zombie)
    }
}

impl Trace {
    fn elapsed(&self, line: &Value) -> Option<Duration> {
        let at = OffsetDateTime::parse(line["timestamp"].as_str()?, &Rfc3339).ok()?;
        SystemTime::from(at).duration_since(self.began).ok()
    }
}

/// A line names its shard itself or by the span in which it stands.
fn says_shard(line: &Value, shard: &str) -> bool {
    let spans = line["spans"].as_array().into_iter().flatten().chain([&line["span"]]);
    line["shard"] == shard || spans.into_iter().any(|span| span["shard"] == shard)
}

impl fmt::Display for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by, detected, took, claim } = self;
        match detected {
            Some(detected) => write!(f, "detected after {detected:.2?}, ")?,
            None => f.write_str("not by detection, ")?,
        }
        write!(f, "taken by {by} after {took:.2?} (of that the claim {claim:.2?})")
    }
}
