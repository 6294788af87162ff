//! Every statement there is, prepared once for each zone.

use scylla::client::session::Session;
use scylla::errors::PrepareError;
use scylla::statement::prepared::PreparedStatement;
use wire::ZoneId;

use super::ScyllaOptions;
use super::schema::keyspaces;

/// Rows of a page, by how large they may be: some MiB at most.
const LARGE_ROWS: i32 = 64;
const SMALL_ROWS: i32 = 1_000;

/// Of one zone. Writes take what is written first (write time, then value), then the key.
pub(super) struct Statements {
    pub(super) lease: PreparedStatement,
    pub(super) claim_first: PreparedStatement,
    pub(super) claim: PreparedStatement,
    pub(super) seal: PreparedStatement,
    pub(super) write_fence: PreparedStatement,
    pub(super) fence: PreparedStatement,
    pub(super) append: PreparedStatement,
    pub(super) read_log: PreparedStatement,
    pub(super) write_mark: PreparedStatement,
    pub(super) mark: PreparedStatement,
    pub(super) write_facts: PreparedStatement,
    pub(super) write_head: PreparedStatement,
    pub(super) write_last_message: PreparedStatement,
    pub(super) conversation: PreparedStatement,
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
        const SHARD: &str = "home = ? AND class = ? AND n = ?";
        Ok(Self {
            lease: one(format!("SELECT epoch, owner, nonce, sealed, starts FROM {ctl}.shard_lease WHERE {SHARD}")).await?,
            claim_first: one(format!(
                "INSERT INTO {ctl}.shard_lease (epoch, owner, nonce, sealed, starts, home, class, n) \
                 VALUES (?, ?, ?, false, {{}}, ?, ?, ?) IF NOT EXISTS"
            ))
            .await?,
            claim: one(format!(
                "UPDATE {ctl}.shard_lease SET epoch = ?, owner = ?, nonce = ?, sealed = false \
                 WHERE {SHARD} IF epoch = ?"
            ))
            .await?,
            seal: one(format!(
                "UPDATE {ctl}.shard_lease SET sealed = true, starts = ? \
                 WHERE {SHARD} IF epoch = ? AND nonce = ? AND sealed = false"
            ))
            .await?,
            write_fence: one(format!(
                "UPDATE {z}.shard_fence USING TIMESTAMP ? SET epoch = ? WHERE home = ? AND class = ? AND grp = ? AND n = ?"
            ))
            .await?,
            fence: one(format!(
                "SELECT epoch FROM {z}.shard_fence WHERE home = ? AND class = ? AND grp = ? AND n = ?"
            ))
            .await?,
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
            write_mark: one(format!(
                "UPDATE {z}.shard_mark USING TIMESTAMP ? SET epoch = ?, slot = ? WHERE {SHARD} AND kind = ? AND id = ?"
            ))
            .await?,
            mark: one(format!("SELECT epoch, slot FROM {z}.shard_mark WHERE {SHARD} AND kind = ? AND id = ?")).await?,
            write_facts: one(format!("UPDATE {z}.conversation USING TIMESTAMP ? SET facts = ? WHERE conv = ?")).await?,
            write_head: one(format!("UPDATE {z}.conversation USING TIMESTAMP ? SET head = ? WHERE conv = ?")).await?,
            write_last_message: one(format!(
                "UPDATE {z}.conversation USING TIMESTAMP ? SET last_message = ? WHERE conv = ?"
            ))
            .await?,
            conversation: one(format!("SELECT facts, head, last_message FROM {z}.conversation WHERE conv = ?")).await?,
            write_member: one(format!(
                "UPDATE {z}.member USING TIMESTAMP ? SET row = ? WHERE conv = ? AND user_id = ?"
            ))
            .await?,
            members: one(format!("SELECT row FROM {z}.member WHERE conv = ?")).await?,
            write_role: one(format!("UPDATE {z}.role USING TIMESTAMP ? SET row = ? WHERE conv = ? AND user_id = ?"))
                .await?,
            roles: one(format!("SELECT row FROM {z}.role WHERE conv = ?")).await?,
            write_message: one(format!(
                "UPDATE {z}.message USING TIMESTAMP ? SET change = ? WHERE conv = ? AND bucket = ? AND seq = ?"
            ))
            .await?,
            messages: paged(
                format!(
                    "SELECT change FROM {z}.message WHERE conv = ? AND bucket = ? AND seq >= ? AND seq <= ? \
                     ORDER BY seq ASC LIMIT ?"
                ),
                LARGE_ROWS * 4,
            )
            .await?,
            write_change: one(format!(
                "UPDATE {z}.change USING TIMESTAMP ? SET row = ? WHERE conv = ? AND bucket = ? AND ver = ?"
            ))
            .await?,
            changes: paged(
                format!("SELECT ver, row FROM {z}.change WHERE conv = ? AND bucket = ? AND ver > ? LIMIT ?"),
                LARGE_ROWS * 4,
            )
            .await?,
            write_dedupe: one(format!(
                "UPDATE {z}.dedupe USING TIMESTAMP ? SET row = ? WHERE conv = ? AND sender = ? AND part = ? AND cmid = ?"
            ))
            .await?,
            dedupe: one(format!(
                "SELECT row FROM {z}.dedupe WHERE conv = ? AND sender = ? AND part = ? AND cmid = ?"
            ))
            .await?,
            write_inbox: one(format!("UPDATE {z}.inbox USING TIMESTAMP ? SET row = ? WHERE stream = ? AND conv = ?"))
                .await?,
            inbox: one(format!("SELECT row FROM {z}.inbox WHERE stream = ?")).await?,
            write_read_cursor: one(format!(
                "UPDATE {z}.read_cursor USING TIMESTAMP ? SET row = ? WHERE conv = ? AND user_id = ?"
            ))
            .await?,
            read_cursor: one(format!("SELECT row FROM {z}.read_cursor WHERE conv = ? AND user_id = ?")).await?,
        })
    }
}
