//! Many machines: a ScyllaDB or Cassandra cluster with a datacenter in each region.
//!
//! | module | what |
//! |---|---|
//! | [`schema`] | the keyspaces and tables of each zone, versioned; what the servers' settings must be |
//! | `statements` | every statement there is, prepared when a handle is opened |
//! | `reach` | consistency and coordinators of an operation, by durability |
//! | `call` | one request: admission, repetition, and what an error of the driver means |
//! | `stamp` | a [`Position`](wire::Position) as the write time of a cell |
//! | `lease` | the conditional writes |
//! | `rows` | rows of projections as statements |
//! | `handle` | the contract |
//!
//! ## Consistency
//! | what | multi-region | single-region |
//! |---|---|---|
//! | log, fence, marks, projections, both ways | `QUORUM` over the zone's datacenters | `LOCAL_QUORUM`, coordinated in the home region |
//! | lease | `SERIAL`, committed at `QUORUM` | the same |
//!
//! `LOCAL_QUORUM` means the coordinator's datacenter, so these requests are never coordinated in
//! another one. Requests at `QUORUM` may be coordinated anywhere: otherwise losing the own
//! datacenter would stop what the others can still do.
//!
//! The driver retries nothing by itself. A plain write may be repeated, because a repetition is the
//! same cell with the same write time: `call` retries it a few times, and the driver sends it once
//! more when a coordinator is silent. A conditional write is retried only after a serial read has
//! told its outcome.

pub mod schema;

mod call;
mod cores;
mod failed_over;
mod handle;
mod lease;
mod reach;
mod rows;
mod stamp;
mod statements;

use std::sync::Arc;
use std::time::Duration;

use scylla::client::PoolSize;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{NewSessionError, PrepareError};
use smol_str::SmolStr;
use wire::{RegionId, ZoneId};

use crate::contract::Store;

use call::Admission;
use handle::Handle;
use reach::Profiles;
use schema::Schema;
use statements::Statements;

/// How often the driver asks a silent connection whether it is there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// After this without an answer the connection is dead: a paused server holds everything up for no
/// longer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_millis(1_500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// See [`Scylla::connect`].
#[derive(Clone, Debug)]
pub struct ScyllaOptions {
    /// `host` or `host:port`, of any datacenter: the driver finds the others. Name some in each
    /// region.
    pub contact_points: Vec<String>,
    /// The region of the handle: its datacenter coordinates requests that any could.
    pub region: RegionId,
    /// All regions and what the cluster calls their datacenters.
    pub datacenters: Vec<(RegionId, String)>,
    /// The zones and the regions in which their data may rest.
    pub zones: Vec<(ZoneId, Vec<RegionId>)>,
    /// Copies in each datacenter. Three, so that a region bears the loss of a server; one in tests.
    pub copies: usize,
    /// Before the names of all keyspaces, for several meshes in one cluster: letters, digits and
    /// underscores, at most 24.
    pub prefix: SmolStr,
    /// The kind of server.
    pub dialect: schema::Dialect,
    /// Requests in flight. More of them wait.
    pub in_flight_max: usize,
    /// Requests that may wait. More of them are refused unsent, as
    /// [`StoreError::Unavailable`](crate::StoreError::Unavailable): callers feel a slow cluster,
    /// and memory does not fill.
    pub waiting_max: usize,
}

impl ScyllaOptions {
    /// With three copies, 256 requests on their way, 4,096 waiting, and no prefix.
    #[must_use]
    pub fn new(
        contact_points: Vec<String>,
        region: RegionId,
        datacenters: Vec<(RegionId, String)>,
        zones: Vec<(ZoneId, Vec<RegionId>)>,
    ) -> Self {
        Self {
            contact_points,
            region,
            datacenters,
            zones,
            copies: 3,
            prefix: SmolStr::default(),
            dialect: schema::Dialect::Scylla,
            in_flight_max: 256,
            waiting_max: 4_096,
        }
    }

    pub(crate) fn datacenter(&self, region: RegionId) -> Option<&str> {
        self.datacenters.iter().find(|(id, _)| *id == region).map(|(_, name)| name.as_str())
    }

    pub(crate) fn zone(&self, zone: ZoneId) -> Option<&[RegionId]> {
        self.zones.iter().find(|(id, _)| *id == zone).map(|(_, regions)| &regions[..])
    }

    fn check(&self) -> Result<(), ConnectError> {
        let zoned = self.zones.iter().flat_map(|(_, regions)| regions);
        if let Some(region) =
            zoned.chain([&self.region]).find(|&&region| self.datacenter(region).is_none())
        {
            return Err(ConnectError::NoDatacenter { region: *region });
        }
        // Datacenters stand in statements, between quotes.
        let plain =
            |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        if let Some((_, name)) =
            self.datacenters.iter().find(|(_, name)| name.is_empty() || !plain(name))
        {
            return Err(ConnectError::BadName { name: name.clone() });
        }
        let prefix = self.prefix.as_str();
        let starts = prefix.is_empty() || prefix.starts_with(|c: char| c.is_ascii_alphabetic());
        if !starts
            || prefix.len() > 24
            || !prefix.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            return Err(ConnectError::BadName { name: prefix.to_owned() });
        }
        Ok(())
    }
}

/// Why there is no connection. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A region of the world without a datacenter.
    #[error("region {} has no datacenter: name it in the configuration of the store", region.0)]
    NoDatacenter {
        /// Which.
        region: RegionId,
    },
    /// A name that could not stand in a statement.
    #[error(
        "{name:?} cannot be the name of a datacenter or the prefix of keyspaces: letters, digits, - and _ can"
    )]
    BadName {
        /// As given.
        name: String,
    },
    /// No server answered as one.
    #[error("no server of the cluster could be reached")]
    Unreachable(#[source] Box<NewSessionError>),
}

/// Why a handle could not be opened. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[error("zone {} is not as this version needs it: apply the schema first", zone.0)]
pub struct OpenError {
    /// Which.
    pub zone: ZoneId,
    source: Box<PrepareError>,
}

/// A connection to the cluster, as one region sees it. Cheap to clone; the last clone closes it.
#[derive(Clone)]
pub struct Scylla {
    session: Arc<Session>,
    options: Arc<ScyllaOptions>,
    profiles: Arc<Profiles>,
    admission: Arc<Admission>,
}

impl Scylla {
    /// Connects. Needs neither keyspaces nor tables yet, so that [`Scylla::schema`] can make them.
    ///
    /// Cancel safe: a dropped future leaves no connection.
    ///
    /// # Errors
    /// When the options do not fit together, or no contact point answers; a cluster that is about
    /// to start wants another try.
    pub async fn connect(options: ScyllaOptions) -> Result<Self, ConnectError> {
        options.check()?;
        let profiles = Profiles::new(&options);
        let session = SessionBuilder::new()
            .known_nodes(&options.contact_points)
            .default_execution_profile_handle(profiles.admin.clone())
            .pool_size(PoolSize::PerHost(std::num::NonZeroUsize::new(2).expect("two is not zero")))
            .connection_timeout(CONNECT_TIMEOUT)
            .keepalive_interval(KEEPALIVE_INTERVAL)
            .keepalive_timeout(KEEPALIVE_TIMEOUT)
            .tcp_nodelay(true)
            .build()
            .await
            .map_err(|error| ConnectError::Unreachable(error.into()))?;
        let admission = Admission::new(options.in_flight_max, options.waiting_max);
        Ok(Self {
            session: Arc::new(session),
            options: Arc::new(options),
            profiles: Arc::new(profiles),
            admission: Arc::new(admission),
        })
    }

    /// The schema of the zones, to be planned, applied and checked.
    #[must_use]
    pub fn schema(&self) -> Schema<'_> {
        Schema { session: &self.session, options: &self.options }
    }

    /// The region's handle. All statements of all zones that the region belongs to are prepared
    /// first.
    ///
    /// Cancel safe: a dropped future leaves nothing but prepared statements in the servers' caches.
    ///
    /// # Errors
    /// When a keyspace, a table or a column is missing.
    pub async fn store(&self) -> Result<Arc<dyn Store>, OpenError> {
        let mut zones = Vec::new();
        for (zone, regions) in &self.options.zones {
            if regions.contains(&self.options.region) {
                let statements = Statements::prepare(&self.session, &self.options, *zone).await;
                zones.push((
                    *zone,
                    statements
                        .map_err(|source| OpenError { zone: *zone, source: source.into() })?,
                ));
            }
        }
        let zones = Arc::new(zones.into_iter().collect());
        Ok(Arc::new(Handle { scylla: self.clone(), at: self.options.region, zones }))
    }

    /// Every handle of this connection answers [`StoreError::Closed`](crate::StoreError::Closed).
    /// What is already on its way may still be written.
    pub fn close(&self) {
        self.admission.close();
    }
}
