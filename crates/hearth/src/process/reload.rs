//! What can change while a node runs: its certificate and the authorities, where the others are, the keys of the tenants' identity
//! providers. Everything else of the world holds from start to end, because nodes that differ in it would disagree about who
//! serves what; a change of it is refused, and the old stays.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use auth::{DevIssuer, KeyError, PublicKey, StreamKey, Verifier};
use node::{Operator, Reloaded};
use topology::World;

use super::Process;
use super::config::AuthSection;
use super::site::Site;
use crate::assembly::{self, Node, Part};

/// An edge's own keys; they hold from start to end.
pub(crate) struct Believed {
    stream: StreamKey,
    dev: Option<PublicKey>,
}

impl Believed {
    /// Loads them; makes none.
    ///
    /// # Errors
    /// When a key is not there, is none, or others may read it; or the providers' keys cannot be read.
    pub(crate) fn load(auth: &AuthSection, site: &Site) -> anyhow::Result<Self> {
        let stream = StreamKey::load(&auth.keys).map_err(|error| missing(error, &auth.keys, ""))?;
        let dev = if auth.dev_tokens {
            let issuer = DevIssuer::load(&auth.keys).map_err(|error| missing(error, &auth.keys, " --dev"))?;
            Some(issuer.public_key())
        } else {
            None
        };
        let believed = Self { stream, dev };
        believed.verifier(site)?;
        Ok(believed)
    }

    /// With the identity providers of the world as it was at the start, and their keys as they are now.
    ///
    /// # Errors
    /// When their keys cannot be read.
    pub(crate) fn verifier(&self, site: &Site) -> anyhow::Result<Verifier> {
        self.verifier_of(&site.world, site)
    }

    fn verifier_of(&self, world: &World, site: &Site) -> anyhow::Result<Verifier> {
        assembly::verifier(world, site.world_dir(), self.dev, self.stream.clone())
    }
}

fn missing(error: KeyError, keys: &Path, flag: &str) -> anyhow::Error {
    let keys = keys.display();
    let cure = format!("[auth] keys: all edges share one key; `hearth admin keys init --dir {keys}{flag}` makes it");
    anyhow::Error::from(error).context(cure)
}

impl Operator for Process {
    fn drain(&self) -> Result<(), String> {
        let Some(drain) = self.shared.duty.drain()? else { return Ok(()) };
        let node = self.node().map_err(|error| error.to_string())?.clone();
        tracing::info!("draining");
        let process = self.clone();
        self.shared.tasks.spawn("drain", async move {
            let spread = process.shared.role.spread();
            if drain.run_until_cancelled(node.drain(spread)).await.is_some() {
                process.shared.duty.drained(&drain);
                tracing::info!("drained");
            }
        });
        Ok(())
    }

    fn undrain(&self) -> Result<(), String> {
        self.shared.duty.undrain(|| {
            if let Ok(node) = self.node() {
                node.undrain();
                tracing::info!("takes work again");
            }
        })
    }

    fn reload(&self) -> Reloaded {
        let mut reloaded = Reloaded::default();
        let mut note = |what: anyhow::Result<Vec<String>>| match what {
            Ok(taken) => reloaded.taken.extend(taken),
            Err(why) => reloaded.refused.push(format!("{why:#}").replace('\n', " ")),
        };
        note(self.renew());
        note(self.take_world());
        note(self.take_addresses());
        for what in &reloaded.taken {
            tracing::info!(what, "reloaded");
        }
        for why in &reloaded.refused {
            tracing::error!(why, "not reloaded; the old stays");
        }
        reloaded
    }
}

impl Process {
    fn node(&self) -> anyhow::Result<&Node> {
        self.shared.node.get().context("the node is still starting")
    }

    fn renew(&self) -> anyhow::Result<Vec<String>> {
        let site = &self.shared.site;
        let (_, _, cert) = site.files();
        let identity = site.identity()?;
        self.node()?.mesh.renew(identity).with_context(|| format!("[mesh] {}", cert.display()))?;
        Ok(vec![format!("{}: the next handshakes show this certificate", cert.display())])
    }

    fn take_world(&self) -> anyhow::Result<Vec<String>> {
        let site = &self.shared.site;
        let file = site.files().0.display();
        let world = site.read_world()?;
        if without_keys(&world) != without_keys(&site.world) {
            bail!(
                "{file}: regions, zones, tenants and links hold from the start of a node: restart the nodes, one by one"
            );
        }
        let Some(believed) = &self.shared.believed else {
            return Ok(vec![format!("{file}: nothing in it that concerns a running core has changed")]);
        };
        let verifier = believed.verifier_of(&world, site)?;
        if let Part::Edge(edge) = &self.node()?.part {
            edge.believe(Arc::new(verifier));
        }
        let providers = world.tenants.iter().filter(|tenant| tenant.identity.is_some()).count();
        Ok(vec![format!("{file}: the keys of {providers} identity providers")])
    }

    fn take_addresses(&self) -> anyhow::Result<Vec<String>> {
        let site = &self.shared.site;
        let file = site.files().1.display();
        let addresses = site.addresses()?;
        if addresses.of(&site.node) != Some(&site.own) {
            bail!("{file}: the entry of this node itself has changed: restart it, and it takes the file");
        }
        let old = self.shared.addresses.borrow().clone();
        let gone = old.iter().filter(|(node, _)| addresses.of(node).is_none());
        let gone = gone.map(|(node, _)| {
            format!(
                "{file}: {} is no longer named; it is still dialled until this node restarts",
                site.world.name_of(node)
            )
        });
        let mut taken: Vec<_> = gone.collect();
        taken.insert(0, format!("{file}: where {} nodes are", addresses.iter().count()));
        self.shared.addresses.send_replace(Arc::new(addresses));
        Ok(taken)
    }
}

/// What must not differ between the nodes of a mesh.
fn without_keys(world: &World) -> World {
    let mut world = world.clone();
    for tenant in &mut world.tenants {
        tenant.identity = None;
    }
    world
}
