//! What the commands say to the control API of the running mesh; see [`crate::local`] for what it answers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::http::Plain;
use http::Method;
use serde::de::DeserializeOwned;
use wire::ConversationId;

use crate::local::{ControlProblem, LinkStatus, LocalMesh, MoveStatus, RegionStatus};

/// Longest that a mesh may take to drain or restore a region.
const PATIENCE: Duration = Duration::from_secs(300);

/// The running mesh, as its operator sees it.
pub(crate) struct Control {
    http: Plain,
    mesh: LocalMesh,
    dir: String,
}

impl Control {
    /// Finds the mesh of a data folder.
    ///
    /// # Errors
    /// When none runs there.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let mesh = LocalMesh::find(dir)?;
        Ok(Self { http: Plain::new(Arc::new(net::OsNet)), mesh, dir: dir.display().to_string() })
    }

    /// All regions, in the order of the world file.
    ///
    /// # Errors
    /// When the mesh does not answer.
    pub(crate) async fn regions(&self) -> anyhow::Result<Vec<RegionStatus>> {
        self.call(Method::GET, "/v1/regions").await
    }

    /// Kills, restores or drains a region, and waits until it is done.
    ///
    /// # Errors
    /// When there is no such region, it cannot be done now, or the mesh does not answer.
    pub(crate) async fn change_region(&self, name: &str, verb: &str) -> anyhow::Result<RegionStatus> {
        self.mesh.region(name)?;
        self.call(Method::POST, &format!("/v1/regions/{name}/{verb}")).await
    }

    /// Kills or restores one node of a region, such as `r1/core/2`, and waits until it is done.
    ///
    /// # Errors
    /// As [`Control::change_region`].
    pub(crate) async fn change_node(&self, node: &wire::NodeId, verb: &str) -> anyhow::Result<RegionStatus> {
        self.call(Method::POST, &format!("/v1/nodes/{node}/{verb}")).await
    }

    /// Moves a conversation to a region, and waits until it is served there.
    ///
    /// # Errors
    /// As [`Control::change_region`], or when there is no such conversation.
    pub(crate) async fn move_conversation(&self, id: &ConversationId, region: &str) -> anyhow::Result<MoveStatus> {
        self.mesh.region(region)?;
        self.call(Method::POST, &format!("/v1/conversations/{id}/move/{region}")).await
    }

    /// Cuts or heals the direct way between two regions.
    ///
    /// # Errors
    /// As [`Control::change_region`].
    pub(crate) async fn change_link(&self, a: &str, b: &str, verb: &str) -> anyhow::Result<LinkStatus> {
        self.mesh.region(a)?;
        self.mesh.region(b)?;
        self.call(Method::POST, &format!("/v1/links/{a}/{b}/{verb}")).await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str) -> anyhow::Result<T> {
        let asked = self.http.call(method, &self.mesh.control, path, &self.mesh.control_token);
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        let answer = answer.map_err(|_| anyhow::anyhow!("the mesh did not finish within {} s", PATIENCE.as_secs()))?;
        let (status, body) = answer.map_err(|why| {
            anyhow::anyhow!("the mesh of {} does not answer ({why}): start it again with `hearth up`", self.dir)
        })?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| {
                anyhow::anyhow!("the mesh answered what this version of hearth does not know: {error}")
            });
        }
        match serde_json::from_slice::<ControlProblem>(&body) {
            Ok(problem) => anyhow::bail!("{}", problem.message),
            Err(_) => anyhow::bail!("the mesh answered with status {}", status.as_u16()),
        }
    }
}
