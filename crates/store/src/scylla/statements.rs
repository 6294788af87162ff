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
    pub(super) write_facts: PreparedStatement,
    pub(super) write_head: PreparedStatement,
    pub(super) write_last_message: PreparedStatement,
    pub(super) write_placement: PreparedStatement,
    pub(super) conversation: PreparedStatement,
    pub(super) walk: PreparedStatement,
    pub(super) walk_on: PreparedStatement,
    pub(super) write_member: PreparedStatement,
    pub(super) members: PreparedStatement,
    pub(super) write_role: PreparedStatement,
    pub(super) roles: PreparedStatement,
    pub(super) write_message: PreparedStatement,
    pub(super) messages: PreparedStatement,
    pub(super) write_change: PreparedStatement,
    pub(super) changes: PreparedStatement,
    pub(super) write_dedupe: PreparedStatement,
    pub(super) dedupe: PreparedStatement,
    pub(super) write_inbox: PreparedStatement,
    pub(super) inbox: PreparedStatement,
    pub(super) write_read_cursor: PreparedStatement,
    pub(super) read_cursor: PreparedStatement,
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
        const CONVERSATION: &str = "conv = ?";
        const USER: &str = "conv = ? AND user_id = ?";
        const DEDUPE: &str = "conv = ? AND sender = ? AND part = ? AND cmid = ?";
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
            write_facts: put("conversation", "facts", CONVERSATION).await?,
            write_head: put("conversation", "head", CONVERSATION).await?,
            write_last_message: put("conversation", "last_message", CONVERSATION).await?,
            write_placement: put("conversation", "placement", CONVERSATION).await?,
            conversation: get("conversation", "facts, head, last_message, placement", CONVERSATION).await?,
            walk: one(format!("SELECT conv, head, placement FROM {z}.conversation LIMIT ?")).await?,
            walk_on: one(format!(
                "SELECT conv, head, placement FROM {z}.conversation WHERE token(conv) > token(?) LIMIT ?"
            ))
            .await?,
            write_member: put("member", "row", USER).await?,
            members: get("member", "row", CONVERSATION).await?,
            write_role: put("role", "row", USER).await?,
            roles: get("role", "row", CONVERSATION).await?,
            write_message: put("message", "change", "conv = ? AND bucket = ? AND seq = ?").await?,
            messages: paged(
                format!(
                    "SELECT change FROM {z}.message WHERE conv = ? AND bucket = ? AND seq >= ? AND seq <= ? \
                     ORDER BY seq ASC LIMIT ?"
                ),
                MEDIUM_ROWS,
            )
            .await?,
            write_change: put("change", "row", "conv = ? AND bucket = ? AND ver = ?").await?,
            changes: paged(
                format!("SELECT ver, row FROM {z}.change WHERE conv = ? AND bucket = ? AND ver > ? LIMIT ?"),
                MEDIUM_ROWS,
            )
            .await?,
            write_dedupe: put("dedupe", "row", DEDUPE).await?,
            dedupe: get("dedupe", "row", DEDUPE).await?,
            write_inbox: put("inbox", "row", "stream = ? AND conv = ?").await?,
            inbox: get("inbox", "row", "stream = ?").await?,
            write_read_cursor: put("read_cursor", "row", USER).await?,
            read_cursor: get("read_cursor", "row", USER).await?,
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
