//! The conditional writes of a shard's lease. They touch the keyspace of leases alone, at SERIAL.
//!
//! A conditional write with an unknown outcome is settled by a serial read first: the read finds it
//! done, or makes sure that it never will be. Only then is it tried again. Only `[applied]` is read
//! of an answer: the other columns depend on the server.

use std::collections::BTreeMap;
use std::time::Duration;

use conversation::shard::{Acting, Cas, FenceMode, Fork, Lease, Nonce, Starts};
use futures_util::future::BoxFuture;
use scylla::DeserializeRow;
use scylla::errors::ExecutionError;
use scylla::statement::bound::BoundStatement;
use scylla::value::{CqlValue, Row};
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use wire::{Epoch, NodeId, RegionId, ShardId, Slot};

use super::call::{Failure, failure, unavailable};
use super::handle::{Handle, shard_key};
use super::reach::{self, Reach};
use crate::contract::StoreError;

/// A conditional write that is in doubt for this long stays in doubt. Claims that meet time out and
/// start over, several times.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two attempts, drawn each time: claimants that met do not meet again.
const BACKOFF_MS: std::ops::Range<u64> = 20..250;

/// The row, as the statement names it.
#[derive(DeserializeRow)]
pub(super) struct LeaseColumns {
    epoch: Option<i64>,
    owner: Option<String>,
    nonce: Option<Uuid>,
    sealed: Option<bool>,
    starts: Option<BTreeMap<i64, i64>>,
    fence_mode: Option<i8>,
    acting: Option<i32>,
    acting_mode: Option<i8>,
    released: Option<i64>,
    forks: Option<Vec<u8>>,
}

impl Handle {
    pub(super) async fn serial_lease(&self, shard: ShardId) -> Result<Lease, StoreError> {
        let reach = self.conditional_reach(shard)?;
        retry_read(|| Box::pin(self.try_serial_lease(&reach, shard))).await
    }

    async fn try_serial_lease(&self, reach: &Reach, shard: ShardId) -> Result<Lease, StoreError> {
        let reach = self.serial(reach);
        let statements = self.statements(shard.zone)?;
        let found = self
            .scylla
            .row(&reach, self.bound(&statements.control.lease, &shard_key(shard))?)
            .await?;
        found.map_or(Ok(Lease::default()), |columns| self.lease_of(shard, columns))
    }

    /// The same copies, for a serial read.
    pub(super) fn serial(&self, reach: &Reach) -> Reach {
        Reach { profile: self.scylla.profiles.serial.clone(), ..reach.clone() }
    }

    fn lease_of(&self, shard: ShardId, columns: LeaseColumns) -> Result<Lease, StoreError> {
        let corrupt = || StoreError::Corrupt {
            region: self.scylla.options.region,
            what: format!("the lease of {shard} is not a lease"),
        };
        let number = |n: i64| u64::try_from(n).map_err(|_| corrupt());
        let starts = columns.starts.unwrap_or_default().into_iter();
        let starts = starts.map(|(epoch, slot)| Ok((Epoch(number(epoch)?), Slot(number(slot)?))));
        let fence_mode = |code: Option<i8>| fence_mode(code).ok_or_else(corrupt);
        let acting = columns.acting.map(|region| {
            let region = RegionId(u16::try_from(region).map_err(|_| corrupt())?);
            Ok::<_, StoreError>(Acting { region, fence_mode: fence_mode(columns.acting_mode)? })
        });
        let forks = columns
            .forks
            .map(|bytes| postcard::from_bytes::<Vec<Fork>>(&bytes).map_err(|_| corrupt()));
        Ok(Lease {
            epoch: Epoch(number(columns.epoch.ok_or_else(corrupt)?)?),
            owner: columns.owner.map(|owner| owner.parse().map_err(|_| corrupt())).transpose()?,
            nonce: Nonce(columns.nonce.ok_or_else(corrupt)?.as_u128()),
            sealed: columns.sealed.unwrap_or(false),
            starts: starts.collect::<Result<Starts, StoreError>>()?,
            fence_mode: fence_mode(columns.fence_mode)?,
            acting: acting.transpose()?,
            released: columns
                .released
                .map(|end| Ok::<_, StoreError>(Slot(number(end)?)))
                .transpose()?,
            forks: forks.transpose()?.unwrap_or_default(),
        })
    }

    pub(super) async fn claim_lease(
        &self,
        shard: ShardId,
        observed: Epoch,
        owner: &NodeId,
        nonce: Nonce,
        fence_mode: FenceMode,
    ) -> Result<Cas, StoreError> {
        let statements = self.statements(shard.zone)?;
        let (epoch, owner, uuid) =
            (self.signed(observed.next().0)?, owner.to_string(), Uuid::from_u128(nonce.0));
        let (home, class, n) = shard_key(shard);
        let mode = fence_mode_code(fence_mode);
        let claim = if observed == Epoch(0) {
            self.bound(
                &statements.control.claim_first,
                &(epoch, owner, uuid, mode, home, class, n),
            )?
        } else {
            self.bound(
                &statements.control.claim,
                &(epoch, owner, uuid, mode, home, class, n, self.signed(observed.0)?),
            )?
        };
        self.decide_lease(shard, claim, |lease| {
            if lease.epoch == observed {
                None
            } else if lease.epoch == observed.next() && lease.nonce == nonce {
                Some(Cas::Applied)
            } else {
                // Another's; or it was ours, and has been claimed over since.
                Some(Cas::Refused)
            }
        })
        .await
    }

    pub(super) async fn seal_lease(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        start: Slot,
    ) -> Result<Cas, StoreError> {
        let statements = self.statements(shard.zone)?;
        // Between a claim and its seal nothing else changes the row: what is read here is what the
        // seal finds.
        let Some(sealed) =
            self.serial_lease(shard).await?.sealed_at(shard.durability, epoch, nonce, start)
        else {
            return Ok(Cas::Refused);
        };
        let starts = sealed
            .starts
            .iter()
            .map(|(epoch, slot)| Ok((self.signed(epoch.0)?, self.signed(slot.0)?)));
        let starts = starts.collect::<Result<BTreeMap<i64, i64>, StoreError>>()?;
        let (home, class, n) = shard_key(shard);
        let acting = sealed.acting.map(|acting| i32::from(acting.region.0));
        let acting_mode = sealed.acting.map(|acting| fence_mode_code(acting.fence_mode));
        let forks =
            postcard::to_stdvec(&sealed.forks).expect("plain data in memory always serializes");
        let (epoch_value, nonce_value) = (self.signed(epoch.0)?, Uuid::from_u128(nonce.0));
        let values = (starts, acting, acting_mode, forks, home, class, n, epoch_value, nonce_value);
        self.decide_lease(
            shard,
            self.bound(&statements.control.seal, &values)?,
            |lease| match lease.sealed_at(shard.durability, epoch, nonce, start) {
                Some(_) => None,
                None if (lease.epoch, lease.nonce) == (epoch, nonce)
                    && lease.starts == sealed.starts =>
                {
                    Some(Cas::Applied)
                }
                None => Some(Cas::Refused),
            },
        )
        .await
    }

    pub(super) async fn release_lease(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        end: Slot,
    ) -> Result<Cas, StoreError> {
        let statements = self.statements(shard.zone)?;
        let (home, class, n) = shard_key(shard);
        let values =
            (self.signed(end.0)?, home, class, n, self.signed(epoch.0)?, Uuid::from_u128(nonce.0));
        self.decide_lease(shard, self.bound(&statements.control.release, &values)?, |lease| {
            let released = lease.released_at(epoch, nonce, end);
            match released {
                Some(released) if released == *lease => Some(Cas::Applied),
                Some(_) => None,
                None => Some(Cas::Refused),
            }
        })
        .await
    }

    pub(super) async fn close_lease(
        &self,
        shard: ShardId,
        epoch: Epoch,
        nonce: Nonce,
        fork: Epoch,
    ) -> Result<Cas, StoreError> {
        let statements = self.statements(shard.zone)?;
        let before = self.serial_lease(shard).await?;
        let Some(closed) = before.closed(epoch, nonce, fork) else { return Ok(Cas::Refused) };
        let blob = |forks: &[Fork]| {
            postcard::to_stdvec(forks).expect("plain data in memory always serializes")
        };
        let (home, class, n) = shard_key(shard);
        let (epoch_value, nonce_value) = (self.signed(epoch.0)?, Uuid::from_u128(nonce.0));
        let values =
            (blob(&closed.forks), home, class, n, epoch_value, nonce_value, blob(&before.forks));
        self.decide_lease(shard, self.bound(&statements.control.close_fork, &values)?, |lease| {
            match lease.closed(epoch, nonce, fork) {
                Some(_) => None,
                None if (lease.epoch, lease.nonce) == (epoch, nonce)
                    && lease.forks == closed.forks =>
                {
                    Some(Cas::Applied)
                }
                None => Some(Cas::Refused),
            }
        })
        .await
    }

    async fn decide_lease(
        &self,
        shard: ShardId,
        write: BoundStatement,
        judge: impl Fn(&Lease) -> Option<Cas> + Send + Sync,
    ) -> Result<Cas, StoreError> {
        let reach = self.conditional_reach(shard)?;
        let judge = &judge;
        let read =
            || async { self.try_serial_lease(&reach, shard).await.map(|lease| judge(&lease)) };
        self.decide(&reach, write, || Box::pin(read())).await
    }

    /// Makes the conditional write until its outcome is known. `judge` reads the row serially and
    /// says what it means for it; nothing: it has not been done, and has to be made again.
    pub(super) async fn decide<'a>(
        &self,
        reach: &Reach,
        mut write: BoundStatement,
        judge: impl Fn() -> BoxFuture<'a, Result<Option<Cas>, StoreError>> + Send,
    ) -> Result<Cas, StoreError> {
        write.set_execution_profile_handle(Some(reach.profile.clone()));
        write.set_is_idempotent(false);
        let begun = Instant::now();
        let mut doubt = false;
        loop {
            let turn =
                self.scylla.admission.enter(reach).await.map_err(|error| in_doubt(doubt, error))?;
            let outcome = applied(self.scylla.session.execute_bound_unpaged(&write).await);
            drop(turn);
            let error = match outcome {
                Ok(true) => return Ok(Cas::Applied),
                Ok(false) if !doubt => return Ok(Cas::Refused),
                Ok(false) => StoreError::Unknown,
                Err(Failure::Nothing { answering }) if !doubt => unavailable(reach, answering),
                Err(_) => {
                    doubt = true;
                    StoreError::Unknown
                }
            };
            if doubt && let Ok(Some(cas)) = judge().await {
                return Ok(cas);
            }
            if begun.elapsed() >= SETTLE_TIMEOUT || !doubt {
                return Err(error);
            }
            back_off().await;
        }
    }

    fn conditional_reach(&self, shard: ShardId) -> Result<Reach, StoreError> {
        reach::conditional(&self.scylla.options, &self.scylla.profiles, shard.zone, shard.home)
    }
}

/// Stored, so the numbers must not change.
fn fence_mode_code(mode: FenceMode) -> i8 {
    match mode {
        FenceMode::Lease => 1,
        // This version writes no mode that it does not know.
        _ => 0,
    }
}

fn fence_mode(code: Option<i8>) -> Option<FenceMode> {
    match code {
        None | Some(0) => Some(FenceMode::Read),
        Some(1) => Some(FenceMode::Lease),
        Some(_) => None,
    }
}

fn in_doubt(doubt: bool, error: StoreError) -> StoreError {
    if doubt { StoreError::Unknown } else { error }
}

/// The first column of the only row. The other columns depend on the server and the outcome.
fn applied(
    result: Result<scylla::response::query_result::QueryResult, ExecutionError>,
) -> Result<bool, Failure> {
    let result = result.map_err(|error| {
        tracing::debug!(%error, "conditional write attempt failed");
        failure(&error)
    })?;
    let doubt = Failure::Doubt { answering: 0 };
    let rows = result.into_rows_result().map_err(|_| doubt)?;
    let row: Row = rows.first_row().map_err(|_| doubt)?;
    match row.columns.first() {
        Some(Some(CqlValue::Boolean(applied))) => Ok(*applied),
        _ => Err(doubt),
    }
}

/// Retries a serial read: it too may time out when it meets a conditional write.
pub(super) async fn retry_read<'a, T>(
    read: impl Fn() -> BoxFuture<'a, Result<T, StoreError>> + Send,
) -> Result<T, StoreError> {
    let begun = Instant::now();
    loop {
        match read().await {
            Err(StoreError::Unavailable { .. }) if begun.elapsed() < SETTLE_TIMEOUT => {
                back_off().await
            }
            settled => return settled,
        }
    }
}

async fn back_off() {
    sleep(Duration::from_millis(rand::random_range(BACKOFF_MS))).await;
}
