//! What can change while a node runs: its certificate and the authorities, where the others are,
//! the keys of the tenants' identity providers. Everything else of the world holds from start to
//! end, because nodes that differ in it would disagree about who serves what; a change of it is
//! refused, and the old stays.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use node::Reloaded;
use topology::World;

use super::Process;
use crate::assembly::Part;

impl Process {
    /// All of it; what is wrong with one part keeps no other from being taken.
    pub(super) fn read_again(&self) -> Reloaded {
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

    fn renew(&self) -> anyhow::Result<Vec<String>> {
        let site = &self.shared.site;
        let cert = &site.common.mesh.cert;
        let identity = site.identity()?;
        self.node()?.mesh.renew(identity).with_context(|| format!("[mesh] {}", cert.display()))?;
        Ok(vec![format!("{}: the next handshakes show this certificate", cert.display())])
    }

    fn take_world(&self) -> anyhow::Result<Vec<String>> {
        let site = &self.shared.site;
        let file = site.common.who.world.display();
        let world = site.read_world()?;
        if without_keys(&world) != without_keys(&site.world) {
            bail!(
                "{file}: regions, zones, tenants and links hold from the start of a node: restart the nodes, one by one"
            );
        }
        let Some(trust) = &self.shared.trust else {
            return Ok(Vec::new());
        };
        let verifier = trust.verifier(&world, site)?;
        if let Part::Edge(edge) = &self.node()?.part {
            edge.believe(Arc::new(verifier));
        }
        let providers = world.tenants.iter().filter(|tenant| tenant.identity.is_some()).count();
        Ok(vec![format!("{file}: the keys of {providers} identity providers")])
    }

    fn take_addresses(&self) -> anyhow::Result<Vec<String>> {
        let site = &self.shared.site;
        let file = site.common.who.nodes.display();
        let addresses = site.addresses()?;
        if addresses.of(&site.node) != Some(&site.own) {
            bail!(
                "{file}: the entry of this node itself has changed: restart it, and it takes the file"
            );
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
