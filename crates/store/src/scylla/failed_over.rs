//! The regions of a zone that are failed over: a row each, in one partition, so one query reads
//! all.

use std::collections::BTreeSet;

use conversation::shard::Cas;
use wire::{RegionId, ZoneId};

use super::handle::Handle;
use super::lease::retry_read;
use super::reach;
use crate::contract::StoreError;

impl Handle {
    pub(super) async fn serial_failed_over(
        &self,
        zone: ZoneId,
    ) -> Result<BTreeSet<RegionId>, StoreError> {
        retry_read(|| Box::pin(self.try_serial_failed_over(zone))).await
    }

    async fn try_serial_failed_over(&self, zone: ZoneId) -> Result<BTreeSet<RegionId>, StoreError> {
        let (options, profiles) = (&self.scylla.options, &self.scylla.profiles);
        let reach = self.serial(&reach::conditional(options, profiles, zone, options.region)?);
        let statement =
            self.bound(&self.statements(zone)?.control.failed_over, &(i32::from(zone.0),))?;
        let rows: Vec<(i32,)> = self.scylla.rows(&reach, statement, usize::MAX).await?;
        Ok(rows
            .into_iter()
            .filter_map(|(region,)| u16::try_from(region).ok().map(RegionId))
            .collect())
    }

    pub(super) async fn write_failed_over(
        &self,
        zone: ZoneId,
        region: RegionId,
        failed_over: bool,
    ) -> Result<Cas, StoreError> {
        let reach = reach::conditional(&self.scylla.options, &self.scylla.profiles, zone, region)?;
        let statements = self.statements(zone)?;
        let statement =
            if failed_over { &statements.control.fail_over } else { &statements.control.fail_back };
        let write = self.bound(statement, &(i32::from(zone.0), i32::from(region.0)))?;
        // Once it is as it should be, it does not matter who wrote it.
        let read = || async {
            let found = self.try_serial_failed_over(zone).await?;
            Ok((found.contains(&region) == failed_over).then_some(Cas::Applied))
        };
        self.decide(&reach, write, || Box::pin(read())).await
    }
}
