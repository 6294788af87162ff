//! `hearth token`: who a user is, for the local mesh.

use wire::{TenantId, UserId};

use crate::local_mesh::access;
use crate::local_mesh::discovery::DataDir;
use crate::out;

/// An identity token of the local mesh, alone on stdout
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  curl -H \"Authorization: Bearer $(hearth token --user ann)\" \
                        http://127.0.0.1:PORT/v1/inbox")]
pub(crate) struct Options {
    /// Whom it speaks for: any name of 1 to 128 bytes; nobody needs to be registered
    #[arg(long, short, value_name = "USER")]
    user: UserId,
    /// Whose user [default: the first tenant of the mesh]
    #[arg(long, short, value_name = "TENANT")]
    tenant: Option<String>,
    /// How long it is good, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    ttl: u64,
    /// Name a device in the token
    #[arg(long, value_name = "DEVICE")]
    device: Option<wire::DeviceId>,
    /// Print a JSON object instead of the bare token
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataDir,
}

/// Signs it. The mesh need not run, if it once did.
///
/// # Errors
/// When there is no mesh, no key, or no such tenant.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let dir = options.data.path()?;
    let known = access::tenants(&dir)?;
    let tenant = match &options.tenant {
        Some(tenant) if known.contains(tenant) => tenant,
        Some(tenant) => anyhow::bail!("no tenant {tenant:?}; this mesh has: {}", known.join(", ")),
        None => known.first().ok_or_else(|| anyhow::anyhow!("this mesh has no tenant"))?,
    };
    let tenant = TenantId::new(tenant)?;
    let now_ms = node::clock::unix_ms();
    let token = access::issuer(&dir)?.issue(
        &tenant,
        &options.user,
        options.device.as_ref(),
        options.ttl,
        now_ms,
    );
    if options.json {
        out::json(&serde_json::json!({
            "token": token, "user": options.user, "tenant": tenant, "expires_at_ms": now_ms + options.ttl * 1000,
        }))?;
    } else {
        out::line(token)?;
    }
    Ok(())
}
