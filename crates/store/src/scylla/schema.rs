//! The keyspaces and tables of each zone, versioned; and whether the cluster is as Hearth needs it.
//!
//! Each zone has two keyspaces, whose replication names only the datacenters of the zone's regions:
//! `ctl_N` is only ever written conditionally, `z_N` never is. Every statement may be repeated, and
//! a version is recorded once all of its statements succeeded: the next `apply` finishes one that
//! was cut off. Two at the same time disturb each other; the operator must avoid that.
//!
//! A row of a projection is one blob beside its key: one cell, so that of two writes either the one
//! or the other stays, and never a part of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::ExecutionError;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::statement::Statement;
use wire::ZoneId;

use super::ScyllaOptions;

/// The first version of the schema whose tables and rows this program reads. (Version 1 had a table
/// for each type of row.)
const FORMAT: i32 = 2;

/// Reads ask one more replica after this time: a percentile climbs with the delay of a dead one.
const SPECULATIVE_RETRY: &str = "15ms";

const OTHER_FORMAT_CURE: &str = "Give the new data a prefix of its own, or drop the zone's \
                                keyspaces if nobody needs what they hold";

/// The kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Apache Cassandra 5.0 and later.
    Cassandra,
    /// ScyllaDB. The conditional keyspace is made without tablets, which do not bear conditional
    /// writes in every version.
    Scylla,
}

/// A change to the schema of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub zone: ZoneId,
    /// The version it leads to.
    pub version: i32,
    /// In this order.
    pub statements: Vec<String>,
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub what: String,
    pub cure: String,
}

/// Why the schema could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The cluster did not do it. A change may have happened; it may be made again.
    #[error("the cluster did not answer: {statement}")]
    Cluster {
        /// To this.
        statement: String,
        /// Why.
        source: Box<ExecutionError>,
    },
    /// The zone holds data in a format that this program does not read. Nothing was changed.
    #[error(
        "zone {} holds data of schema version {found}, and this program reads version {FORMAT} and \
         later. {}",
        zone.0, OTHER_FORMAT_CURE
    )]
    OtherFormat { zone: ZoneId, found: i32 },
    /// The answer to a question about the schema has another form than Cassandra's and ScyllaDB's.
    #[error("an answer that is none: {statement}")]
    Answer {
        /// To this.
        statement: String,
    },
}

/// See [`Scylla::schema`](super::Scylla::schema).
pub struct Schema<'a> {
    pub(super) session: &'a Session,
    pub(super) options: &'a ScyllaOptions,
}

/// The names of a zone's keyspaces: conditional, plain.
pub(super) fn keyspaces(options: &ScyllaOptions, zone: ZoneId) -> (String, String) {
    // Unquoted names are folded to lower case by the servers.
    let prefix = options.prefix.to_lowercase();
    (format!("{prefix}ctl_{}", zone.0), format!("{prefix}z_{}", zone.0))
}

/// Everything a zone needs from nothing on. Pure.
#[must_use]
pub fn steps(options: &ScyllaOptions, zone: ZoneId) -> Vec<Step> {
    let (ctl, z) = keyspaces(options, zone);
    let mut first = vec![keyspace(options, zone, &ctl, true), keyspace(options, zone, &z, false)];
    first.push(format!("CREATE TABLE IF NOT EXISTS {z}.schema_version (version int PRIMARY KEY)"));
    let tables = TABLES.iter().map(|table| {
        let keyspace = if table.conditional { &ctl } else { &z };
        let mut with = format!("speculative_retry = '{SPECULATIVE_RETRY}'");
        if let Some(days) = table.days {
            _ = write!(with, " AND default_time_to_live = {}", days * 24 * 60 * 60);
        }
        if !table.with.is_empty() {
            _ = write!(with, " AND {}", table.with);
        }
        format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.{} ({}) WITH {with}",
            table.name, table.columns
        )
    });
    first.extend(tables);
    vec![Step { zone, version: FORMAT, statements: first }]
}

fn keyspace(options: &ScyllaOptions, zone: ZoneId, name: &str, conditional: bool) -> String {
    let mut replication = String::from("'class': 'NetworkTopologyStrategy'");
    for datacenter in datacenters(options, zone) {
        _ = write!(replication, ", '{datacenter}': {}", options.copies);
    }
    let tablets = match (options.dialect, conditional) {
        (Dialect::Cassandra, _) => "",
        (Dialect::Scylla, true) => " AND tablets = {'enabled': false}",
        (Dialect::Scylla, false) => " AND tablets = {'enabled': true}",
    };
    format!("CREATE KEYSPACE IF NOT EXISTS {name} WITH replication = {{{replication}}}{tablets}")
}

fn datacenters(options: &ScyllaOptions, zone: ZoneId) -> BTreeSet<&str> {
    let regions = options.zone(zone).unwrap_or_default();
    regions.iter().filter_map(|&region| options.datacenter(region)).collect()
}

struct Table {
    conditional: bool,
    name: &'static str,
    columns: &'static str,
    /// After which rows are forgotten.
    days: Option<u32>,
    with: &'static str,
}

const fn table(name: &'static str, columns: &'static str) -> Table {
    Table { conditional: false, name, columns, days: None, with: "" }
}

const TABLES: &[Table] = &[
    Table {
        conditional: true,
        ..table(
            "shard_lease",
            "home int, class tinyint, n int, epoch bigint, owner text, nonce uuid, sealed boolean, \
             starts frozen<map<bigint, bigint>>, fence_mode tinyint, acting int, acting_mode tinyint, released bigint, \
             forks blob, PRIMARY KEY ((home, class, n))",
        )
    },
    Table {
        conditional: true,
        days: Some(1),
        ..table(
            "core_lease",
            "region int, incarnation uuid, node text, beat bigint, broken boolean, PRIMARY KEY (region, incarnation)",
        )
    },
    // A row: that region is failed over.
    Table {
        conditional: true,
        ..table("failed_over", "zone int, region int, PRIMARY KEY (zone, region)")
    },
    // Write time: the epoch.
    table(
        "shard_fence",
        "home int, class tinyint, grp int, n int, epoch bigint, PRIMARY KEY ((home, class, grp), n)",
    ),
    // Write time: that of day. A row is only ever written with one content, and whole days are
    // dropped at once.
    Table {
        days: Some(14),
        with: "compaction = {'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'DAYS', \
               'compaction_window_size': 1}",
        ..table(
            "shard_log",
            "home int, class tinyint, n int, chunk bigint, slot bigint, epoch bigint, frame blob, \
             PRIMARY KEY ((home, class, n, chunk), slot, epoch)",
        )
    },
    // Write time: the time that the row says.
    table(
        "fresh_as_of",
        "home int, class tinyint, n int, region int, as_of_ms bigint, \
         PRIMARY KEY ((home, class, n), region)",
    ),
    // From here on the write time is the position.
    table(
        "shard_mark",
        "home int, class tinyint, n int, kind tinyint, id text, epoch bigint, slot bigint, \
         PRIMARY KEY ((home, class, n), kind, id)",
    ),
    // Rows of projections, a table for each shape of partition: each row one cell with a write time
    // of its own, named by its kind and key.
    table(
        "row_by_conversation",
        "conv blob, kind tinyint, key blob, value blob, PRIMARY KEY (conv, kind, key)",
    ),
    // A page of history is one or two partitions.
    table(
        "row_by_bucket",
        "conv blob, bucket int, kind tinyint, key blob, value blob, \
         PRIMARY KEY ((conv, bucket), kind, key)",
    ),
    Table {
        days: Some(30),
        ..table(
            "row_by_sender",
            "conv blob, sender text, part tinyint, kind tinyint, key blob, value blob, \
             PRIMARY KEY ((conv, sender, part), kind, key)",
        )
    },
];

impl Schema<'_> {
    /// The steps that [`Schema::apply`] would take.
    ///
    /// # Errors
    /// When the cluster does not say what there is.
    pub async fn plan(&self) -> Result<Vec<Step>, SchemaError> {
        let mut plan = Vec::new();
        for (zone, _) in &self.options.zones {
            let versions = self.versions(*zone).await?;
            if let Some(found) = other_format(&versions) {
                return Err(SchemaError::OtherFormat { zone: *zone, found });
            }
            plan.extend(
                steps(self.options, *zone)
                    .into_iter()
                    .filter(|step| !versions.contains(&step.version)),
            );
        }
        Ok(plan)
    }

    /// Takes the missing steps and returns them. Not cancel safe: a dropped future leaves a part
    /// done, and the next call does the rest.
    ///
    /// # Errors
    /// When the cluster does not do it.
    pub async fn apply(&self) -> Result<Vec<Step>, SchemaError> {
        let plan = self.plan().await?;
        for step in &plan {
            for statement in &step.statements {
                self.ask(statement).await?;
            }
            let (_, z) = keyspaces(self.options, step.zone);
            self.ask(&format!(
                "INSERT INTO {z}.schema_version (version) VALUES ({})",
                step.version
            ))
            .await?;
        }
        Ok(plan)
    }

    /// Whether keyspaces, tables and servers are as they must be. Changes nothing.
    ///
    /// # Errors
    /// When the cluster does not say how they are.
    pub async fn check(&self) -> Result<Vec<Wrong>, SchemaError> {
        let mut wrong = Vec::new();
        for (zone, _) in &self.options.zones {
            let (ctl, z) = keyspaces(self.options, *zone);
            for keyspace in [&ctl, &z] {
                wrong.extend(self.check_replication(*zone, keyspace).await?);
            }
            wrong.extend(self.check_tables(*zone).await?);
        }
        wrong.extend(self.check_servers().await?);
        Ok(wrong)
    }

    async fn check_replication(
        &self,
        zone: ZoneId,
        keyspace: &str,
    ) -> Result<Option<Wrong>, SchemaError> {
        let question = format!(
            "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = '{keyspace}'"
        );
        let found: Vec<(BTreeMap<String, String>,)> = self.read(&question).await?;
        let mut wanted: BTreeMap<String, String> = datacenters(self.options, zone)
            .into_iter()
            .map(|datacenter| (datacenter.to_owned(), self.options.copies.to_string()))
            .collect();
        let strategy = "org.apache.cassandra.locator.NetworkTopologyStrategy";
        wanted.insert("class".into(), strategy.into());
        let Some((there,)) = found.into_iter().next() else {
            return Ok(Some(missing(format!("keyspace {keyspace} is not there"))));
        };
        if there == wanted {
            return Ok(None);
        }
        let list = |map: &BTreeMap<String, String>| {
            map.iter()
                .map(|(key, value)| format!("'{key}': '{value}'"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        Ok(Some(Wrong {
            what: format!(
                "keyspace {keyspace} of zone {} is replicated to {{{}}}",
                zone.0,
                list(&there)
            ),
            cure: format!(
                "ALTER KEYSPACE {keyspace} WITH replication = {{{}}}, then repair it; data in a datacenter that is \
                 no longer named stays there until it is cleaned up",
                list(&wanted)
            ),
        }))
    }

    async fn check_tables(&self, zone: ZoneId) -> Result<Vec<Wrong>, SchemaError> {
        let (ctl, z) = keyspaces(self.options, zone);
        let mut there: BTreeMap<(String, String), String> = BTreeMap::new();
        for keyspace in [&ctl, &z] {
            let question = format!(
                "SELECT table_name, speculative_retry FROM system_schema.tables WHERE keyspace_name = '{keyspace}'"
            );
            let tables: Vec<(String, Option<String>)> = self.read(&question).await?;
            there.extend(
                tables
                    .into_iter()
                    .map(|(table, retry)| ((keyspace.clone(), table), retry.unwrap_or_default())),
            );
        }
        let mut wrong = Vec::new();
        for table in TABLES {
            let keyspace = if table.conditional { &ctl } else { &z };
            let name = format!("{keyspace}.{}", table.name);
            match there.get(&(keyspace.clone(), table.name.to_owned())) {
                None => wrong.push(missing(format!("table {name} is not there"))),
                // Servers print the fixed time as they like: 15ms, 15.0ms, 15.00ms.
                Some(retry) if !retry.to_lowercase().ends_with("ms") => wrong.push(Wrong {
                    what: format!("table {name} has speculative_retry = '{retry}'"),
                    cure: format!(
                        "ALTER TABLE {name} WITH speculative_retry = '{SPECULATIVE_RETRY}'"
                    ),
                }),
                Some(_) => {}
            }
        }
        let versions = self.versions(zone).await?;
        if let Some(found) = other_format(&versions) {
            wrong.push(Wrong {
                what: format!("zone {} holds data of schema version {found}", zone.0),
                cure: OTHER_FORMAT_CURE.into(),
            });
        }
        let newest = steps(self.options, zone).last().map_or(0, |step| step.version);
        if !versions.contains(&newest) {
            wrong
                .push(missing(format!("zone {} is not at version {newest} of the schema", zone.0)));
        }
        Ok(wrong)
    }

    /// Settings that would lose what was acknowledged, or make it slow, server by server.
    async fn check_servers(&self) -> Result<Vec<Wrong>, SchemaError> {
        let state = self.session.get_cluster_state();
        let mut wrong = Vec::new();
        for node in state.get_nodes_info().iter().filter(|node| node.is_connected()) {
            let question = match self.options.dialect {
                Dialect::Cassandra => "SELECT name, value FROM system_views.settings",
                Dialect::Scylla => "SELECT name, value FROM system.config",
            };
            let mut statement = Statement::new(question);
            let only =
                SingleTargetLoadBalancingPolicy::new(NodeIdentifier::Node(node.clone()), None);
            statement.set_load_balancing_policy(Some(only));
            statement.set_consistency(scylla::statement::Consistency::One);
            let settings: BTreeMap<String, Option<String>> = self
                .read_with::<(String, Option<String>)>(statement, question)
                .await?
                .into_iter()
                .collect();
            let server =
                format!("{} in {}", node.address, node.datacenter.as_deref().unwrap_or("?"));
            wrong.extend(check_settings(self.options.dialect, &server, &settings));
        }
        Ok(wrong)
    }

    async fn versions(&self, zone: ZoneId) -> Result<BTreeSet<i32>, SchemaError> {
        let (_, z) = keyspaces(self.options, zone);
        let question = format!(
            "SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{z}' AND table_name = 'schema_version'"
        );
        if self.read::<(String,)>(&question).await?.is_empty() {
            return Ok(BTreeSet::new());
        }
        let versions: Vec<(i32,)> =
            self.read(&format!("SELECT version FROM {z}.schema_version")).await?;
        Ok(versions.into_iter().map(|(version,)| version).collect())
    }

    async fn ask(&self, statement: &str) -> Result<(), SchemaError> {
        let asked = self.session.query_unpaged(statement, ()).await;
        asked.map(drop).map_err(|source| cluster(statement, source))
    }

    async fn read<R>(&self, question: &str) -> Result<Vec<R>, SchemaError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        self.read_with(Statement::new(question), question).await
    }

    async fn read_with<R>(
        &self,
        statement: Statement,
        question: &str,
    ) -> Result<Vec<R>, SchemaError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let answer = self
            .session
            .query_unpaged(statement, ())
            .await
            .map_err(|source| cluster(question, source))?;
        let none = || SchemaError::Answer { statement: question.to_owned() };
        let rows = answer.into_rows_result().map_err(|_| none())?;
        let rows = rows.rows::<R>().map_err(|_| none())?;
        rows.collect::<Result<_, _>>().map_err(|_| none())
    }
}

fn check_settings(
    dialect: Dialect,
    server: &str,
    settings: &BTreeMap<String, Option<String>>,
) -> Vec<Wrong> {
    let value = |name: &str| {
        settings.get(name).and_then(Option::as_deref).map(|value| value.trim_matches('"'))
    };
    let mut wrong = Vec::new();
    match value("commitlog_sync") {
        None | Some("batch" | "group") => {}
        Some(other) => wrong.push(Wrong {
            what: format!("server {server} has commitlog_sync: {other}: it confirms what it has not yet on disk"),
            cure: "set commitlog_sync: batch and restart it".into(),
        }),
    }
    if dialect == Dialect::Cassandra && value("paxos_variant") == Some("v1") {
        wrong.push(Wrong {
            what: format!(
                "server {server} has paxos_variant: v1: claims need twice the round trips"
            ),
            cure: "set paxos_variant: v2 on all servers".into(),
        });
    }
    wrong
}

/// A recorded version that is older than what this program reads.
fn other_format(versions: &BTreeSet<i32>) -> Option<i32> {
    versions.first().copied().filter(|version| *version < FORMAT)
}

fn missing(what: String) -> Wrong {
    Wrong { what, cure: "apply the schema".into() }
}

fn cluster(statement: &str, source: ExecutionError) -> SchemaError {
    SchemaError::Cluster { statement: statement.to_owned(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use wire::RegionId;

    use super::*;

    fn options(dialect: Dialect) -> ScyllaOptions {
        let datacenters = (1..=3).map(|n| (RegionId(n), format!("dc{n}"))).collect();
        let zones = vec![(ZoneId(1), vec![RegionId(1), RegionId(3)])];
        ScyllaOptions { dialect, ..ScyllaOptions::new(vec![], RegionId(1), datacenters, zones) }
    }

    #[test]
    fn a_zone_names_its_own_datacenters_and_no_other() {
        for dialect in [Dialect::Cassandra, Dialect::Scylla] {
            let steps = steps(&options(dialect), ZoneId(1));
            let keyspaces: Vec<_> =
                steps[0].statements.iter().filter(|it| it.contains("KEYSPACE")).collect();
            assert_eq!(keyspaces.len(), 2);
            for keyspace in keyspaces {
                assert!(
                    keyspace.contains("'dc1': 3, 'dc3': 3}") && !keyspace.contains("dc2"),
                    "{keyspace}"
                );
                assert_eq!(keyspace.contains("tablets"), dialect == Dialect::Scylla, "{keyspace}");
            }
        }
    }

    #[test]
    fn data_of_an_older_format_is_refused() {
        assert_eq!(other_format(&BTreeSet::new()), None, "nothing there yet");
        assert_eq!(other_format(&BTreeSet::from([FORMAT, FORMAT + 1])), None);
        assert_eq!(other_format(&BTreeSet::from([1])), Some(1));
        let refused = SchemaError::OtherFormat { zone: ZoneId(4), found: 1 }.to_string();
        assert!(refused.starts_with("zone 4 holds data of schema version 1"), "{refused}");
    }

    #[test]
    fn every_statement_may_be_made_again_and_every_table_reads_on_after_a_fixed_time() {
        for step in steps(&options(Dialect::Cassandra), ZoneId(1)) {
            for statement in step.statements {
                assert!(statement.contains(" IF NOT EXISTS "), "{statement}");
                let plain = statement.contains("KEYSPACE") || statement.contains("schema_version");
                assert_eq!(statement.contains("speculative_retry"), !plain, "{statement}");
            }
        }
    }

    #[test]
    fn a_server_that_confirms_before_it_has_synced_is_found() {
        let settings = |sync: &str| {
            let pairs = [("commitlog_sync", sync), ("paxos_variant", "v1")];
            pairs
                .map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
                .into_iter()
                .collect()
        };
        assert_eq!(check_settings(Dialect::Scylla, "a", &settings("\"batch\"")), vec![]);
        assert_eq!(check_settings(Dialect::Scylla, "a", &settings("periodic")).len(), 1);
        assert_eq!(check_settings(Dialect::Cassandra, "a", &settings("batch")).len(), 1, "paxos");
    }
}
