//! The store over CQL, on a real cluster of three datacenters with one server each.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use conversation::log::LogRow;
use conversation::projection::{HeadRow, StampedRow};
use conversation::shard::{Cas, FenceMode, Nonce};
use hearth_stories::deployment::Servers;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use store::conformance::{self, REGIONS, Subject};
use store::scylla::schema::Dialect;
use store::scylla::{Scylla, ScyllaOptions};
use store::{Mark, Store, StoreError};
use test_cluster::Cluster;
use tokio::time::Instant;
use wire::{
    ConversationId, ConversationKind, Durability, Epoch, NodeId, Position, RegionId, ShardId, Slot,
    ZoneId,
};

/// Ends a hang; nothing here asserts a time.
const HANG_TIMEOUT: Duration = Duration::from_secs(60);

/// A test on the cluster. It has the cluster for itself, because some pause a server.
fn story<F: Future<Output = ()>>(tell: impl FnOnce(Arc<Cluster>) -> F) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let Some((cluster, _turn)) = Servers::whole().await else { return };
        let begun = Instant::now();
        tell(cluster).await;
        eprintln!("told in {} ms", begun.elapsed().as_millis());
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
}

/// A world of its own in the cluster: keyspaces that nobody else uses.
fn options(cluster: &Cluster, region: RegionId, prefix: &str) -> ScyllaOptions {
    let contact_points = cluster.nodes.iter().map(|node| node.address.to_string()).collect();
    let datacenters = REGIONS
        .iter()
        .zip(&cluster.nodes)
        .map(|(&region, node)| (region, node.datacenter.clone()))
        .collect();
    ScyllaOptions {
        copies: 1,
        dialect: Dialect::Cassandra,
        prefix: prefix.into(),
        ..ScyllaOptions::new(contact_points, region, datacenters, conformance::zones())
    }
}

fn fresh_prefix() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    format!("t{}_{}_", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The three regions' handles.
struct World {
    cluster: Arc<Cluster>,
    prefix: String,
    connections: Vec<Scylla>,
    stores: Vec<Arc<dyn Store>>,
    session: Session,
}

impl World {
    async fn new(cluster: Arc<Cluster>) -> Self {
        let prefix = fresh_prefix();
        let (mut connections, mut stores) = (Vec::new(), Vec::new());
        for region in REGIONS {
            let connection = Scylla::connect(options(&cluster, region, &prefix)).await.unwrap();
            if region == REGIONS[0] {
                connection.schema().apply().await.unwrap();
            }
            stores.push(connection.store().await.unwrap());
            connections.push(connection);
        }
        let session =
            SessionBuilder::new().known_node_addr(cluster.nodes[0].address).build().await.unwrap();
        Self { cluster, prefix, connections, stores, session }
    }

    fn handle(&self, region: u16) -> &Arc<dyn Store> {
        &self.stores[usize::from(region) - 1]
    }

    /// So that what stands in a table can be found in its file.
    async fn store_plainly(&self) {
        for zone in conformance::zones().iter().map(|(zone, _)| zone.0) {
            for keyspace in
                [format!("{}ctl_{zone}", self.prefix), format!("{}z_{zone}", self.prefix)]
            {
                let tables = format!(
                    "SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{keyspace}'"
                );
                let tables = self
                    .session
                    .query_unpaged(tables, ())
                    .await
                    .unwrap()
                    .into_rows_result()
                    .unwrap();
                for table in tables.rows::<(String,)>().unwrap() {
                    let (table,) = table.unwrap();
                    let plain = format!(
                        "ALTER TABLE {keyspace}.{table} WITH compression = {{'enabled': false}}"
                    );
                    self.session.query_unpaged(plain, ()).await.unwrap();
                }
            }
        }
    }

    /// The keyspaces go, so that a cluster which runs on does not fill up.
    async fn end(self) {
        for zone in conformance::zones().iter().map(|(zone, _)| zone.0) {
            for kind in ["ctl", "z"] {
                let drop = format!("DROP KEYSPACE IF EXISTS {}{kind}_{zone}", self.prefix);
                self.session.query_unpaged(drop, ()).await.unwrap();
            }
        }
    }
}

#[async_trait]
impl Subject for World {
    fn store(&self, region: RegionId) -> Arc<dyn Store> {
        Arc::clone(self.handle(region.0))
    }

    /// Looks into every file of the node: commit log, tables, hints, log. A cluster of `HEARTH_CQL`
    /// keeps its files to itself; there the tables of the node's datacenter are read instead.
    async fn holds(&self, region: RegionId, needle: &[u8]) -> bool {
        let node = &self.cluster.nodes[usize::from(region.0) - 1];
        match node.folder() {
            Some(folder) => finds(folder, needle),
            None => self.finds_in_tables(region, needle).await,
        }
    }
}

impl World {
    async fn finds_in_tables(&self, region: RegionId, needle: &[u8]) -> bool {
        use scylla::policies::load_balancing::DefaultPolicy;
        use scylla::statement::{Consistency, Statement};
        use scylla::value::{CqlValue, Row};

        let datacenter = &self.cluster.nodes[usize::from(region.0) - 1].datacenter;
        let local = DefaultPolicy::builder()
            .prefer_datacenter(datacenter.clone())
            .permit_dc_failover(false)
            .build();
        let read = async |text: String| {
            let mut statement = Statement::new(text);
            statement.set_consistency(Consistency::LocalOne);
            statement.set_load_balancing_policy(Some(Arc::clone(&local)));
            self.session.query_unpaged(statement, ()).await
        };
        for (zone, _) in conformance::zones() {
            for keyspace in
                [format!("{}ctl_{}", self.prefix, zone.0), format!("{}z_{}", self.prefix, zone.0)]
            {
                let tables = format!(
                    "SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{keyspace}'"
                );
                let tables = read(tables).await.unwrap().into_rows_result().unwrap();
                for table in tables.rows::<(String,)>().unwrap() {
                    // A datacenter without a copy of the keyspace refuses to read it.
                    let Ok(found) =
                        read(format!("SELECT * FROM {keyspace}.{}", table.unwrap().0)).await
                    else {
                        continue;
                    };
                    let found = found.into_rows_result().unwrap();
                    for row in found.rows::<Row>().unwrap() {
                        let hit =
                            row.unwrap().columns.into_iter().flatten().any(|value| match value {
                                CqlValue::Blob(bytes) => contains(&bytes, needle),
                                CqlValue::Text(text) => contains(text.as_bytes(), needle),
                                _ => false,
                            });
                        if hit {
                            return true;
                        }
                    }
                }
            }
        }
        false
    }
}

fn finds(folder: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        // A file may go away while it is looked at: compacted into another that is looked at too,
        // or in the next round.
        if path.is_dir() {
            finds(&path, needle)
        } else {
            std::fs::read(&path).is_ok_and(|it| contains(&it, needle))
        }
    })
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    let mut rest = hay;
    while let Some(at) = rest.iter().position(|byte| *byte == needle[0]) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

fn shard(durability: Durability, home: u16, n: u16) -> ShardId {
    ShardId { zone: ZoneId(1), home: RegionId(home), durability, n }
}

fn at(epoch: u64, slot: u64) -> Position {
    Position { epoch: Epoch(epoch), slot: Slot(slot) }
}

fn node(region: u16) -> NodeId {
    format!("r{region}/core/a").parse().unwrap()
}

#[test]
fn the_store_over_cql_keeps_the_contract() {
    story(|cluster| async {
        let world = World::new(cluster).await;
        world.store_plainly().await;
        conformance::suite(&world).await;
        world.end().await;
    });
}

#[test]
fn of_two_claimers_who_race_one_wins_and_both_know_it() {
    story(|cluster| async {
        let world = World::new(cluster).await;
        let shard = shard(Durability::MultiRegion, 1, 1);
        for epoch in 0..12u64 {
            let claim = |region: u16| {
                let store = Arc::clone(world.handle(region));
                let nonce = Nonce(u128::from(epoch) * 10 + u128::from(region));
                async move {
                    store.claim(shard, Epoch(epoch), &node(region), nonce, FenceMode::Read).await
                }
            };
            let (one, two) = tokio::join!(claim(1), claim(2));
            let lease = world.handle(3).lease(shard).await.unwrap();
            assert_eq!(lease.epoch, Epoch(epoch + 1));
            let winner = if one == Ok(Cas::Applied) { 1 } else { 2 };
            assert_eq!(lease.nonce, Nonce(u128::from(epoch) * 10 + winner), "{one:?} {two:?}");
            let (won, lost) = if winner == 1 { (one, two) } else { (two, one) };
            assert_eq!((won, lost), (Ok(Cas::Applied), Ok(Cas::Refused)));
        }
        world.end().await;
    });
}

#[test]
fn a_late_write_with_a_lower_stamp_changes_nothing() {
    story(|cluster| async {
        let world = World::new(cluster).await;
        let store = world.handle(1);
        for durability in [Durability::MultiRegion, Durability::Region] {
            let shard = shard(durability, 1, 2);
            let id = ConversationId { kind: ConversationKind::Group, shard, unique: [7; 16] };
            let head = |ver, epoch| HeadRow {
                conversation: id,
                head_ver: ver,
                epoch: Epoch(epoch),
                ts_ms: 1,
                at: Position::default(),
            };
            store.project(shard, vec![StampedRow::new(&head(5, 3), at(3, 1))]).await.unwrap();
            store.write_fence(shard, Epoch(3)).await.unwrap();
            store.write_mark(shard, &Mark::Committed, at(3, 1)).await.unwrap();
            // Late writes of a replaced owner: later by every clock, higher slots, an older term.
            let late = world.handle(2);
            late.project(shard, vec![StampedRow::new(&head(900, 2), at(2, 1 << 39))])
                .await
                .unwrap();
            late.write_fence(shard, Epoch(2)).await.unwrap();
            late.write_mark(shard, &Mark::Committed, at(2, 1 << 39)).await.unwrap();
            for region in 1..=3 {
                let store = world.handle(region);
                assert_eq!(store.heads(&[id]).await.unwrap()[0].unwrap().head, head(5, 3));
                assert_eq!(store.fence(shard).await, Ok(Epoch(3)));
                assert_eq!(store.mark(shard, &Mark::Committed).await, Ok(Some(at(3, 1))));
            }
            // All regions agree on one of two rows with the same stamp.
            store.project(shard, vec![StampedRow::new(&head(7, 4), at(4, 1))]).await.unwrap();
            late.project(shard, vec![StampedRow::new(&head(6, 4), at(4, 1))]).await.unwrap();
            for region in 1..=3 {
                assert_eq!(
                    world.handle(region).heads(&[id]).await.unwrap()[0].unwrap().head,
                    head(7, 4)
                );
            }
        }
        world.end().await;
    });
}

#[test]
fn with_one_datacenter_paused_multi_region_goes_on_and_its_own_region_class_says_that_it_cannot() {
    story(|cluster| async move {
        let world = World::new(Arc::clone(&cluster)).await;
        if !cluster.nodes[1].is_ours() {
            test_cluster::skip("the servers of HEARTH_CQL are not ours to pause");
            return;
        }
        let wide = shard(Durability::MultiRegion, 2, 3);
        let (there, elsewhere) = (shard(Durability::Region, 2, 4), shard(Durability::Region, 1, 4));
        let paused = Paused::new(&cluster, 1);
        let mut acknowledged = Vec::new();
        for slot in 0..40 {
            let store = world.handle(slot as u16 % 3 + 1);
            let begun = Instant::now();
            // An outcome may be unknown while the driver finds out; the identical frame goes to the
            // identical slot.
            loop {
                match store.append(wide, at(1, slot), Bytes::from(format!("frame {slot}"))).await {
                    Ok(()) => break acknowledged.push(slot),
                    Err(error) => assert!(begun.elapsed() < HANG_TIMEOUT, "slot {slot}: {error}"),
                }
            }
            assert_eq!(store.fence(wide).await, Ok(Epoch(0)));
        }
        assert_eq!(
            world.handle(3).claim(wide, Epoch(0), &node(3), Nonce(3), FenceMode::Read).await,
            Ok(Cas::Applied)
        );
        world.handle(1).append(elsewhere, at(1, 0), Bytes::from_static(b"here")).await.unwrap();

        let refused = world
            .handle(1)
            .at(RegionId(2))
            .append(there, at(1, 0), Bytes::from_static(b"there"))
            .await;
        let truthful =
            matches!(refused, Err(StoreError::Unknown | StoreError::Unavailable { needed: 1, .. }));
        assert!(truthful, "{refused:?}");
        let unread = world.handle(1).at(RegionId(2)).read_log(there, Slot(0), 9).await;
        assert!(
            matches!(unread, Err(StoreError::Unavailable { needed: 1, answering: 0, .. })),
            "{unread:?}"
        );

        drop(paused);
        let begun = Instant::now();
        let rows = loop {
            match world.handle(2).read_log(wide, Slot(0), 100).await {
                Ok(rows) => break rows,
                Err(error) => assert!(begun.elapsed() < HANG_TIMEOUT, "after the pause: {error}"),
            }
        };
        let want: Vec<LogRow> = acknowledged
            .iter()
            .map(|&slot| LogRow { at: at(1, slot), frame: Bytes::from(format!("frame {slot}")) })
            .collect();
        assert_eq!(rows, want);
        // The write to the paused datacenter may or may not have happened. Repeated, it is there
        // once.
        loop {
            match world
                .handle(1)
                .at(RegionId(2))
                .append(there, at(1, 0), Bytes::from_static(b"there"))
                .await
            {
                Ok(()) => break,
                Err(error) => assert!(begun.elapsed() < HANG_TIMEOUT, "after the pause: {error}"),
            }
        }
        assert_eq!(world.handle(2).read_log(there, Slot(0), 9).await.unwrap().len(), 1);
        world.end().await;
    });
}

/// A node that stands still, and goes on also when the test fails.
struct Paused<'a>(&'a test_cluster::cassandra::Node);

impl<'a> Paused<'a> {
    fn new(cluster: &'a Cluster, n: usize) -> Self {
        cluster.nodes[n].pause();
        Self(&cluster.nodes[n])
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.wake();
    }
}

#[test]
fn the_schema_is_applied_once_and_a_wrong_replication_is_found_with_its_cure() {
    story(|cluster| async {
        let world = World::new(cluster).await;
        let schema = world.connections[1].schema();
        assert_eq!(schema.check().await.unwrap(), vec![]);
        assert_eq!(schema.plan().await.unwrap(), vec![], "nothing is left to do");
        assert_eq!(schema.apply().await.unwrap(), vec![]);
        let keyspace = format!("{}z_2", world.prefix);
        let too_wide = format!(
            "ALTER KEYSPACE {keyspace} WITH replication = \
             {{'class': 'NetworkTopologyStrategy', '{}': 1, '{}': 1}}",
            world.cluster.nodes[0].datacenter, world.cluster.nodes[2].datacenter
        );
        world.session.query_unpaged(too_wide, ()).await.unwrap();
        let slow =
            format!("ALTER TABLE {}z_1.shard_log WITH speculative_retry = '99p'", world.prefix);
        world.session.query_unpaged(slow, ()).await.unwrap();
        let wrong = schema.check().await.unwrap();
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        let cure = |about: &str| &wrong.iter().find(|it| it.what.contains(about)).unwrap().cure;
        for cure in [cure(&keyspace), cure("shard_log")] {
            let statement = cure.split(", then").next().unwrap().to_owned();
            world.session.query_unpaged(statement, ()).await.unwrap();
        }
        assert_eq!(schema.check().await.unwrap(), vec![], "the cures are cures");
        world.end().await;
    });
}

#[test]
fn a_zone_without_its_schema_cannot_be_opened_and_says_so() {
    story(|cluster| async move {
        let connection =
            Scylla::connect(options(&cluster, RegionId(1), &fresh_prefix())).await.unwrap();
        let Err(error) = connection.store().await else { panic!("opened") };
        assert!(error.to_string().contains("apply the schema first"), "{error}");
        assert_eq!(connection.schema().plan().await.unwrap().len(), 2, "one step for each zone");
        assert!(!connection.schema().check().await.unwrap().is_empty());
    });
}
