//! Every statement there is, prepared once for each zone.

use scylla::client::session::Session;
use scylla::errors::PrepareError;
use scylla::statement::prepared::PreparedStatement;
use wire::ZoneId;

use super::ScyllaOptions;
use super::schema::keyspaces;

/// Rows of a page, by how large they may be: some MiB at most.
const LARGE_ROWS: i32 = 64;
const MEDIUM_ROWS: i32 = 256;
const SMALL_ROWS: i32 = 1_000;

/// The key of a shard.
const SHARD: &str = "home = ? AND class = ? AND n = ?";

/// Of one zone. Writes take what is written first (write time, then value), then the key.
pub(super) struct Statements {
    pub(super) control: Control,
    pub(super) write_fence: PreparedStatement,
    pub(super) fence: PreparedStatement,
    pub(super) append: PreparedStatement,
    pub(super) read_log: PreparedStatement,
    pub(super) write_mark: PreparedStatement,
    pub(super) mark: PreparedStatement,
    pub(super) write_fresh_as_of: PreparedStatement,
    pub(super) fresh_as_of: PreparedStatement,
    pub(super) by_conversation: Shape,
    pub(super) by_bucket: Shape,
    pub(super) by_sender: Shape,
    /// Rows of [`Statements::by_conversation`] of some kinds.
    pub(super) of_kinds: PreparedStatement,
    /// Rows of [`Statements::by_bucket`] in a range.
    pub(super) numbered: PreparedStatement,
    /// All conversations.
    pub(super) scan: PreparedStatement,
    pub(super) scan_on: PreparedStatement,
}

/// Of the rows of a projection that lie in one shape of partition.
pub(super) struct Shape {
    pub(super) write: PreparedStatement,
    pub(super) row: PreparedStatement,
}

impl Statements {
    pub(super) async fn prepare(
        session: &Session,
        options: &ScyllaOptions,
        zone: ZoneId,
    ) -> Result<Self, PrepareError> {
        let (ctl, z) = keyspaces(options, zone);
        let paged = async |text: String, rows: i32| {
            let mut prepared = session.prepare(text).await?;
            prepared.set_page_size(rows);
            Ok::<_, PrepareError>(prepared)
        };
        let one = async |text: String| paged(text, SMALL_ROWS).await;
        // One cell of a row, under a write time.
        let put = async |table: &str, column: &str, key: &str| {
            one(format!("UPDATE {z}.{table} USING TIMESTAMP ? SET {column} = ? WHERE {key}")).await
        };
        let get = async |table: &str, columns: &str, key: &str| {
            one(format!("SELECT {columns} FROM {z}.{table} WHERE {key}")).await
        };
        const FENCE: &str = "home = ? AND class = ? AND grp = ? AND n = ?";
        let shape = async |table: &str, partition: &str| {
            let key = format!("{partition} AND kind = ? AND key = ?");
            let (write, row) = (put(table, "value", &key).await?, get(table, "value", &key).await?);
            Ok::<_, PrepareError>(Shape { write, row })
        };
        let mark = format!("{SHARD} AND kind = ? AND id = ?");
        let fresh = format!("{SHARD} AND region = ?");
        Ok(Self {
            control: Control::prepare(session, &ctl).await?,
            write_fence: put("shard_fence", "epoch", FENCE).await?,
            fence: get("shard_fence", "epoch", FENCE).await?,
            append: one(format!(
                "UPDATE {z}.shard_log SET frame = ? WHERE {SHARD} AND chunk = ? AND slot = ? AND epoch = ?"
            ))
            .await?,
            read_log: paged(
                format!(
                    "SELECT slot, epoch, frame FROM {z}.shard_log WHERE {SHARD} AND chunk = ? AND slot >= ? LIMIT ?"
                ),
                LARGE_ROWS,
            )
            .await?,
            write_mark: put("shard_mark", "epoch = ?, slot", &mark).await?,
            mark: get("shard_mark", "epoch, slot", &mark).await?,
            write_fresh_as_of: put("fresh_as_of", "as_of_ms", &fresh).await?,
            fresh_as_of: get("fresh_as_of", "as_of_ms", &fresh).await?,
            by_conversation: shape("row_by_conversation", "conv = ?").await?,
            by_bucket: shape("row_by_bucket", "conv = ? AND bucket = ?").await?,
            by_sender: shape("row_by_sender", "conv = ? AND sender = ? AND part = ?").await?,
            of_kinds: get("row_by_conversation", "kind, value", "conv = ? AND kind IN ?").await?,
            numbered: paged(
                format!(
                    "SELECT key, value FROM {z}.row_by_bucket \
                     WHERE conv = ? AND bucket = ? AND kind = ? AND key >= ? AND key <= ? LIMIT ?"
                ),
                MEDIUM_ROWS,
            )
            .await?,
            scan: one(format!("SELECT DISTINCT conv FROM {z}.row_by_conversation LIMIT ?")).await?,
            scan_on: one(format!(
                "SELECT DISTINCT conv FROM {z}.row_by_conversation \
                 WHERE token(conv) > token(?) LIMIT ?"
            ))
            .await?,
        })
    }
}

/// Those of the keyspace that is written conditionally only.
pub(super) struct Control {
    pub(super) lease: PreparedStatement,
    pub(super) claim_first: PreparedStatement,
    pub(super) claim: PreparedStatement,
    pub(super) seal: PreparedStatement,
    pub(super) release: PreparedStatement,
    pub(super) close_fork: PreparedStatement,
    pub(super) failed_over: PreparedStatement,
    pub(super) fail_over: PreparedStatement,
    pub(super) fail_back: PreparedStatement,
    pub(super) core_lease: PreparedStatement,
    pub(super) core_leases: PreparedStatement,
    pub(super) register_core: PreparedStatement,
    pub(super) renew_core: PreparedStatement,
    pub(super) break_core: PreparedStatement,
}

impl Control {
    async fn prepare(session: &Session, ctl: &str) -> Result<Self, PrepareError> {
        const CORE: &str = "region = ? AND incarnation = ?";
        let one = async |text: String| {
            let mut prepared = session.prepare(text).await?;
            prepared.set_page_size(SMALL_ROWS);
            Ok::<_, PrepareError>(prepared)
        };
        Ok(Self {
            lease: one(format!(
                "SELECT epoch, owner, nonce, sealed, starts, fence_mode, acting, acting_mode, released, forks \
                 FROM {ctl}.shard_lease WHERE {SHARD}"
            ))
            .await?,
            claim_first: one(format!(
                "INSERT INTO {ctl}.shard_lease (epoch, owner, nonce, sealed, fence_mode, starts, home, class, n) \
                 VALUES (?, ?, ?, false, ?, {{}}, ?, ?, ?) IF NOT EXISTS"
            ))
            .await?,
            claim: one(format!(
                "UPDATE {ctl}.shard_lease SET epoch = ?, owner = ?, nonce = ?, sealed = false, fence_mode = ? \
                 WHERE {SHARD} IF epoch = ?"
            ))
            .await?,
            seal: one(format!(
                "UPDATE {ctl}.shard_lease SET sealed = true, released = null, starts = ?, acting = ?, acting_mode = ?, \
                 forks = ? \
                 WHERE {SHARD} IF epoch = ? AND nonce = ? AND sealed = false"
            ))
            .await?,
            release: one(format!(
                "UPDATE {ctl}.shard_lease SET released = ? WHERE {SHARD} IF epoch = ? AND nonce = ? AND sealed = true"
            ))
            .await?,
            close_fork: one(format!(
                "UPDATE {ctl}.shard_lease SET forks = ? \
                 WHERE {SHARD} IF epoch = ? AND nonce = ? AND sealed = true AND forks = ?"
            ))
            .await?,
            core_lease: one(format!("SELECT incarnation, node, beat, broken FROM {ctl}.core_lease WHERE {CORE}")).await?,
            core_leases: one(format!("SELECT incarnation, node, beat, broken FROM {ctl}.core_lease WHERE region = ?")).await?,
            register_core: one(format!(
                "INSERT INTO {ctl}.core_lease (node, beat, broken, region, incarnation) VALUES (?, ?, false, ?, ?) IF NOT EXISTS"
            ))
            .await?,
            renew_core: one(format!(
                "UPDATE {ctl}.core_lease SET node = ?, beat = ?, broken = false WHERE {CORE} IF beat = ? AND broken = false"
            ))
            .await?,
            break_core: one(format!("UPDATE {ctl}.core_lease SET broken = true WHERE {CORE} IF beat = ?")).await?,
            failed_over: one(format!("SELECT region FROM {ctl}.failed_over WHERE zone = ?")).await?,
            fail_over: one(format!("INSERT INTO {ctl}.failed_over (zone, region) VALUES (?, ?) IF NOT EXISTS")).await?,
            fail_back: one(format!("DELETE FROM {ctl}.failed_over WHERE zone = ? AND region = ? IF EXISTS")).await?,
        })
    }
}
