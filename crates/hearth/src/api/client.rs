//! What the commands say to the control API of the running mesh, and to the cores of a deployment;
//! see [`crate::api`] for what they answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use client::http::Plain;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use wire::ConversationId;

use crate::api::{
    ControlProblem, EndedSessions, FailoverStatus, LinkStatus, MoveStatus, RegionStatus,
};
use crate::local_mesh::discovery::LocalMesh;

/// Longest that a mesh may take to drain or restore a region.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(300);

/// Longer than a node lets an order take before it says so.
const ORDER_TIMEOUT: Duration = Duration::from_secs(90);

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
    pub(crate) async fn change_region(
        &self,
        name: &str,
        verb: &str,
    ) -> anyhow::Result<RegionStatus> {
        self.mesh.region(name)?;
        self.call(Method::POST, &format!("/v1/regions/{name}/{verb}")).await
    }

    /// Fails a region over (`failover`, with or without consent to a loss) or back (`failback`),
    /// and waits until it is done.
    ///
    /// # Errors
    /// As [`Control::change_region`].
    pub(crate) async fn fail_region(
        &self,
        name: &str,
        order: &str,
    ) -> anyhow::Result<FailoverStatus> {
        self.mesh.region(name)?;
        self.call(Method::POST, &format!("/v1/regions/{name}/{order}")).await
    }

    /// Kills or restores one node of a region, such as `r1/core/2`, and waits until it is done.
    ///
    /// # Errors
    /// As [`Control::change_region`].
    pub(crate) async fn change_node(
        &self,
        node: &wire::NodeId,
        verb: &str,
    ) -> anyhow::Result<RegionStatus> {
        self.call(Method::POST, &format!("/v1/nodes/{node}/{verb}")).await
    }

    /// Ends the sessions that `query` names, at all edges that run.
    ///
    /// # Errors
    /// When a name is none, or the mesh does not answer.
    pub(crate) async fn end_sessions(&self, query: &str) -> anyhow::Result<EndedSessions> {
        self.call(Method::POST, &format!("/v1/sessions/end?{query}")).await
    }

    /// Moves a conversation to a region, and waits until it is served there.
    ///
    /// # Errors
    /// As [`Control::change_region`], or when there is no such conversation.
    pub(crate) async fn move_conversation(
        &self,
        id: &ConversationId,
        region: &str,
    ) -> anyhow::Result<MoveStatus> {
        self.mesh.region(region)?;
        self.call(Method::POST, &format!("/v1/conversations/{id}/move/{region}")).await
    }

    /// Cuts or heals the direct way between two regions.
    ///
    /// # Errors
    /// As [`Control::change_region`].
    pub(crate) async fn change_link(
        &self,
        a: &str,
        b: &str,
        verb: &str,
    ) -> anyhow::Result<LinkStatus> {
        self.mesh.region(a)?;
        self.mesh.region(b)?;
        self.call(Method::POST, &format!("/v1/links/{a}/{b}/{verb}")).await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str) -> anyhow::Result<T> {
        let asked = self.http.call(method, &self.mesh.control, path, &self.mesh.control_token);
        let answer = tokio::time::timeout(CHANGE_TIMEOUT, asked).await;
        let answer = answer.map_err(|_| {
            anyhow::anyhow!("the mesh did not finish within {} s", CHANGE_TIMEOUT.as_secs())
        })?;
        let (status, body) = answer.map_err(|why| {
            anyhow::anyhow!(
                "the mesh of {} does not answer ({why}): start it again with `hearth up`",
                self.dir
            )
        })?;
        answered("the mesh", status, &body)
    }
}

/// A core of a deployment, where the local mesh is not meant.
#[derive(clap::Args, Debug)]
pub(crate) struct CoreAdmin {
    /// Of a real deployment: the admin endpoint of any core of the zone, such as
    /// http://10.0.0.7:9080
    #[arg(long, value_name = "URL", requires = "token_file")]
    admin: Option<String>,
    /// The file with the secret that this core was given as [admin] token_file
    #[arg(long, value_name = "FILE", requires = "admin")]
    token_file: Option<PathBuf>,
}

impl CoreAdmin {
    /// Gives the core this order, and waits until it is carried out; none when no core is named.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) async fn order<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<T>> {
        let (Some(admin), Some(token_file)) = (&self.admin, &self.token_file) else {
            return Ok(None);
        };
        let token = std::fs::read_to_string(token_file)
            .with_context(|| token_file.display().to_string())?;
        let http = Plain::new(Arc::new(net::OsNet));
        let answer =
            tokio::time::timeout(ORDER_TIMEOUT, http.call(Method::POST, admin, path, token.trim()))
                .await;
        let late = || format!("{admin} did not answer within {} s", ORDER_TIMEOUT.as_secs());
        let (status, body) = answer
            .with_context(late)?
            .map_err(|why| anyhow::anyhow!("{admin} does not answer: {why}"))?;
        answered(admin, status, &body).map(Some)
    }
}

fn answered<T: DeserializeOwned>(who: &str, status: StatusCode, body: &[u8]) -> anyhow::Result<T> {
    if status.is_success() {
        return serde_json::from_slice(body)
            .with_context(|| format!("{who} answered what this version of hearth does not know"));
    }
    match serde_json::from_slice::<ControlProblem>(body) {
        Ok(problem) => anyhow::bail!("{}", problem.message),
        Err(_) => anyhow::bail!("{who} answered with status {}", status.as_u16()),
    }
}
