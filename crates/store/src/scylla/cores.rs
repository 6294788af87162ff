//! The timed leases of cores: one partition for each region, so that all of them are read at once.
//!
//! A row is forgotten a day after its last renewal, which is far longer than a lease holds, and
//! than any write of it can be under way. So that it goes as a whole, a renewal writes all of it;
//! of one that was broken the rest goes first.

use conversation::shard::{Beat, Cas, CoreLease, Nonce};
use scylla::DeserializeRow;
use scylla::statement::bound::BoundStatement;
use uuid::Uuid;
use wire::{NodeId, RegionId, ZoneId};

use super::handle::Handle;
use super::lease::retry_read;
use super::reach::{self, Reach};
use crate::contract::{CoreKey, StoreError};

/// The row, as the statements name it.
#[derive(DeserializeRow)]
struct CoreColumns {
    incarnation: Uuid,
    node: Option<String>,
    beat: Option<i64>,
    broken: Option<bool>,
}

impl Handle {
    pub(super) async fn serial_cores(
        &self,
        zone: ZoneId,
        region: RegionId,
    ) -> Result<Vec<CoreLease>, StoreError> {
        let reach = self.serial(&self.cores_reach(zone, region)?);
        let statement = &self.statements(zone)?.control.core_leases;
        let statement = self.bound(statement, &(i32::from(region.0),))?;
        let read = || self.scylla.rows(&reach, statement.clone(), usize::MAX);
        let rows: Vec<CoreColumns> = retry_read(|| Box::pin(read())).await?;
        rows.into_iter().filter_map(|columns| self.core_lease_of(columns).transpose()).collect()
    }

    pub(super) async fn serial_core(&self, of: CoreKey) -> Result<Option<CoreLease>, StoreError> {
        let reach = self.cores_reach(of.zone, of.region)?;
        retry_read(|| Box::pin(self.try_serial_core(&reach, of))).await
    }

    async fn try_serial_core(
        &self,
        reach: &Reach,
        of: CoreKey,
    ) -> Result<Option<CoreLease>, StoreError> {
        let key = (i32::from(of.region.0), Uuid::from_u128(of.incarnation.0));
        let statement = self.bound(&self.statements(of.zone)?.control.core_lease, &key)?;
        let found: Option<CoreColumns> = self.scylla.row(&self.serial(reach), statement).await?;
        found.map_or(Ok(None), |columns| self.core_lease_of(columns))
    }

    fn core_lease_of(&self, columns: CoreColumns) -> Result<Option<CoreLease>, StoreError> {
        let CoreColumns { incarnation, node: Some(node), beat: Some(beat), broken } = columns
        else {
            return Ok(None);
        };
        let corrupt = || StoreError::Corrupt {
            region: self.scylla.options.region,
            what: "the lease of a core is not a lease".to_owned(),
        };
        Ok(Some(CoreLease {
            node: node.parse().map_err(|_| corrupt())?,
            incarnation: Nonce(incarnation.as_u128()),
            beat: Beat(u64::try_from(beat).map_err(|_| corrupt())?),
            broken: broken.unwrap_or(false),
        }))
    }

    pub(super) async fn register(
        &self,
        zone: ZoneId,
        node: &NodeId,
        incarnation: Nonce,
    ) -> Result<Cas, StoreError> {
        let of = CoreKey { zone, region: node.region, incarnation };
        let first = CoreLease::registered(node.clone(), incarnation);
        let values = (
            node.to_string(),
            self.signed(first.beat.0)?,
            i32::from(of.region.0),
            Uuid::from_u128(incarnation.0),
        );
        let write = self.bound(&self.statements(zone)?.control.register_core, &values)?;
        self.decide_core(of, write, |row| match row {
            None => None,
            Some(row) if *row == first => Some(Cas::Applied),
            Some(_) => Some(Cas::Refused),
        })
        .await
    }

    pub(super) async fn renew(
        &self,
        zone: ZoneId,
        node: &NodeId,
        incarnation: Nonce,
        beat: Beat,
    ) -> Result<Cas, StoreError> {
        let of = CoreKey { zone, region: node.region, incarnation };
        let (next, key) =
            (self.signed(beat.next().0)?, (i32::from(of.region.0), Uuid::from_u128(incarnation.0)));
        let values = (node.to_string(), next, key.0, key.1, self.signed(beat.0)?);
        let write = self.bound(&self.statements(zone)?.control.renew_core, &values)?;
        self.decide_core(of, write, |row| match row {
            Some(row) if row.renewed(beat).is_some() => None,
            // Nobody else writes the beats of this life.
            Some(row) if row.beat == beat.next() && !row.broken => Some(Cas::Applied),
            _ => Some(Cas::Refused),
        })
        .await
    }

    pub(super) async fn break_life(&self, of: CoreKey, beat: Beat) -> Result<Cas, StoreError> {
        let values =
            (i32::from(of.region.0), Uuid::from_u128(of.incarnation.0), self.signed(beat.0)?);
        let write = self.bound(&self.statements(of.zone)?.control.break_core, &values)?;
        self.decide_core(of, write, |row| match row {
            Some(row) if row.beat == beat && row.broken => Some(Cas::Applied),
            Some(row) if row.beat == beat => None,
            _ => Some(Cas::Refused),
        })
        .await
    }

    async fn decide_core(
        &self,
        of: CoreKey,
        write: BoundStatement,
        judge: impl Fn(Option<&CoreLease>) -> Option<Cas> + Send + Sync,
    ) -> Result<Cas, StoreError> {
        let reach = self.cores_reach(of.zone, of.region)?;
        let judge = &judge;
        let read =
            || async { self.try_serial_core(&reach, of).await.map(|row| judge(row.as_ref())) };
        self.decide(&reach, write, || Box::pin(read())).await
    }

    fn cores_reach(&self, zone: ZoneId, region: RegionId) -> Result<Reach, StoreError> {
        reach::conditional(&self.scylla.options, &self.scylla.profiles, zone, region)
    }
}
