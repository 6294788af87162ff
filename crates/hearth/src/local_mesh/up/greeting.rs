//! What `hearth up` says when it is ready: what runs where, and what to try next.

use std::io;
use std::path::Path;

use super::LocalWorld;
use crate::local_mesh::discovery::LocalMesh;
use crate::out;

/// Prints it.
///
/// # Errors
/// When stdout cannot be written.
pub(super) fn print(mesh: &LocalWorld, local: &LocalMesh, dir: &Path, wan: bool) -> io::Result<()> {
    let world = &mesh.material.world;
    let weather =
        if wan { "with the delays of the world" } else { "without delays (--wan adds them)" };
    out::line(format_args!(
        "\n  Hearth is up: world {}, {weather}. Data in {}.\n",
        world.name,
        dir.display()
    ))?;
    out::line(format_args!(
        "  {:<12} {:<28} {:<28} {:<16} cores, edges",
        "region", "edge", "admin", "zones"
    ))?;
    for region in &mesh.regions {
        let about = &region.about;
        let counts = world.region(region.id).map_or((0, 0), |region| (region.cores, region.edges));
        out::line(format_args!(
            "  {:<12} {:<28} {:<28} {:<16} {}, {}",
            about.name,
            about.edge,
            about.admin,
            about.zones.join(" "),
            counts.0,
            counts.1
        ))?;
    }
    out::line("")?;
    for tenant in &local.tenants {
        let promise = match tenant.durability {
            wire::Durability::MultiRegion => {
                "an acknowledged message survives the loss of any region"
            }
            wire::Durability::Region => "an acknowledged message rests in its home region",
        };
        let zone = &tenant.zone;
        out::line(format_args!(
            "  tenant {:<10} zone {zone:<8} {:<13} {promise}",
            tenant.name, tenant.durability
        ))?;
    }
    let [near, far] = [local.regions.first(), local.regions.last()]
        .map(|region| region.map(|region| region.name.as_str()).unwrap_or_default());
    let hearth = program();
    out::line(format_args!(
        "\n  Try, each in a terminal of its own:\n\
         \x20   {hearth} chat --user ann --region {near} @bob\n\
         \x20   {hearth} chat --user bob --region {far} @ann\n\
         \x20   {hearth} region kill {near}        and go on chatting; then\n\
         \x20   {hearth} region restore {near}\n\n  Ctrl-C ends it in order.\n"
    ))
}

/// How this program was called, so that the lines can be pasted.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "hearth".into())
}
