//! A core as its process sees it: started, looked at, drained, stopped.

use std::sync::Arc;
use std::time::Duration;

use mesh::Mesh;
use store::Store;
use tokio::sync::watch;
use topology::World;
use wire::NodeId;

use crate::consumers::Carriers;
use crate::intake::{self, Intake};
use crate::limits::Limits;
use crate::shards::keeper::Keepers;
use crate::shards::{Shards, ShardsOptions};
use crate::status::CoreStatus;
use crate::tasks::Tasks;

/// What a core is started with.
pub struct CoreOptions {
    /// Who it is: the same as the mesh proves.
    pub node: NodeId,
    /// The world, the same for all.
    pub world: Arc<World>,
    /// Its place in the mesh. The core takes all channels that are opened to it.
    pub mesh: Mesh,
    /// Its region's view of the store.
    pub store: Arc<dyn Store>,
    /// Its bounds.
    pub limits: Limits,
}

impl CoreOptions {
    /// With the default bounds.
    #[must_use]
    pub fn new(node: NodeId, world: Arc<World>, mesh: Mesh, store: Arc<dyn Store>) -> Self {
        Self { node, world, mesh, store, limits: Limits::default() }
    }
}

/// A running core; cheap to clone. When the last handle is dropped, it ends where it stands, as if the machine had failed:
/// nothing that was acknowledged is lost, and another core goes on.
#[derive(Clone)]
pub struct Core {
    running: Arc<Running>,
}

struct Running {
    mesh: Mesh,
    shards: Shards,
    draining: watch::Sender<bool>,
    tasks: Tasks,
}

impl Core {
    /// Starts to take part: claims the shards that it should serve and accepts streams. Call it inside the tokio runtime
    /// that shall drive it.
    #[must_use]
    pub fn start(options: CoreOptions) -> Self {
        let CoreOptions { node, world, mesh, store, limits } = options;
        let limits = Arc::new(limits);
        let tasks = Tasks::new();
        let carriers = Carriers::new(node.clone(), world.clone(), mesh.clone(), tasks.clone());
        let (draining, draining_in) = watch::channel(false);
        let keepers = Keepers::start(&world, &node, &store, limits.lease, &tasks);
        let shards_options = ShardsOptions {
            node,
            world: world.clone(),
            mesh: mesh.clone(),
            store,
            limits: limits.clone(),
            tasks: tasks.clone(),
            carriers: carriers.clone(),
            keepers,
        };
        let shards = Shards::start(shards_options, draining_in.clone());
        carriers.know(shards.directory.clone());
        let intake = Intake {
            world,
            mesh: mesh.clone(),
            directory: shards.directory.clone(),
            invitations: shards.invitations.clone(),
            limits,
            tasks: tasks.clone(),
            draining: draining_in,
        };
        tasks.spawn("intake", intake::run(Arc::new(intake)));
        Self { running: Arc::new(Running { mesh, shards, draining, tasks }) }
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> CoreStatus {
        CoreStatus {
            draining: *self.running.draining.borrow(),
            panicked: self.running.tasks.panicked(),
            shards: self.running.shards.progress.iter().map(|progress| progress.status()).collect(),
        }
    }

    /// Gives every shard to its next owner, and resolves when they are given; those that nobody else can serve are kept
    /// until [`Core::stop`]. No request is lost: the edges ask the next owner. Dropped, it goes on draining.
    pub async fn drain(&self) {
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        self.running.mesh.set_draining(true);
        self.running.draining.send_replace(true);
        while !self.running.shards.is_drained() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends a drain: this core takes shards again.
    pub fn undrain(&self) {
        self.running.mesh.set_draining(false);
        self.running.draining.send_replace(false);
    }

    /// Ends all terms in order: everything decided is committed, projected and answered. What has not ended by the
    /// deadline is dropped where it stands, which loses nothing that was acknowledged.
    pub async fn stop(&self, deadline: Duration) {
        self.running.tasks.stop(deadline).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.kill();
    }
}
