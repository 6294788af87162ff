//! Where the other nodes are: looks the names of `nodes.toml` up, again and again, because the
//! address behind a name changes with its machine. The mesh learns every change.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use futures_util::{StreamExt as _, stream};
use mesh::Mesh;
use net::Net;
use node::{Addresses, Backoff, HostPort, retry};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wire::NodeId;

/// An address is at most this old.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(10);
/// Lookups at once.
const LOOKUPS_MAX: usize = 16;
/// Some platforms publish a node's own name only when its process runs.
const OWN_NAME_TIMEOUT: Duration = Duration::from_secs(15);
const OWN_NAME_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// What the others dial: the own entry, as an address of the family that `bind` has.
///
/// # Errors
/// When the name has no such address.
pub(crate) async fn own(
    net: &dyn Net,
    own: &HostPort,
    bind: SocketAddr,
) -> anyhow::Result<SocketAddr> {
    let backoff = Backoff::new(OWN_NAME_BACKOFF.0, OWN_NAME_BACKOFF.1);
    let look_up = || look_up(net, own, bind);
    retry::within(OWN_NAME_TIMEOUT, backoff, |_| true, look_up).await.map_err(|why| {
        anyhow!(
            "this node's own address {own} in nodes.toml: {why}; write an address that the other nodes can reach"
        )
    })
}

/// Keeps the mesh told, until it stops.
pub(crate) async fn follow(
    mesh: Mesh,
    net: Arc<dyn Net>,
    bind: SocketAddr,
    mut addresses: watch::Receiver<Arc<Addresses>>,
    stop: CancellationToken,
) {
    let mut told: HashMap<NodeId, Result<SocketAddr, String>> = HashMap::new();
    loop {
        let now = addresses.borrow_and_update().clone();
        let others = now.iter().filter(|(node, _)| *node != mesh.node());
        let others: Vec<_> =
            others.map(|(node, address)| (node.clone(), address.mesh.clone())).collect();
        let lookups = others.into_iter().map(|(node, wanted)| {
            let net = Arc::clone(&net);
            async move { (node, look_up(&*net, &wanted, bind).await) }
        });
        let mut lookups = stream::iter(lookups).buffer_unordered(LOOKUPS_MAX);
        while let Some((node, found)) = lookups.next().await {
            if told.get(&node) == Some(&found) {
                continue;
            }
            match &found {
                Ok(addr) => mesh.add_peer(&node, *addr),
                Err(error) => {
                    tracing::warn!(peer = %node, %error, "cannot look a peer up, retrying")
                }
            }
            told.insert(node, found);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = addresses.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOKUP_INTERVAL) => {}
        }
    }
}

async fn look_up(net: &dyn Net, wanted: &HostPort, bind: SocketAddr) -> Result<SocketAddr, String> {
    let found = net.lookup(&wanted.host, wanted.port).await.map_err(|error| error.to_string())?;
    let family = found.into_iter().find(|addr| addr.is_ipv4() == bind.is_ipv4());
    let needed = if bind.is_ipv4() { "IPv4" } else { "IPv6" };
    family.ok_or_else(|| format!("it has no {needed} address, as [mesh] bind has"))
}

#[cfg(test)]
mod tests {
    use net::OsNet;

    use super::*;

    #[tokio::test]
    async fn the_own_address_is_of_the_family_that_the_node_listens_on() {
        let (four, six) = ("0.0.0.0:1".parse().unwrap(), "[::]:1".parse().unwrap());
        let host: HostPort = "127.0.0.1:7400".parse().unwrap();
        assert_eq!(own(&OsNet, &host, four).await.unwrap().to_string(), "127.0.0.1:7400");
        assert!(look_up(&OsNet, &host, six).await.unwrap_err().contains("no IPv6 address"));
        let host: HostPort = "[::1]:7400".parse().unwrap();
        assert_eq!(own(&OsNet, &host, six).await.unwrap().to_string(), "[::1]:7400");
    }
}
