//! Whom an edge believes: the tenants' identity providers, as the world says.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use auth::{Jwks, PublicKey, StreamKey, TenantIssuer, Verifier, VerifierOptions};
use topology::World;

/// Reads the providers' keys; those that the world names as files lie relative to `world_dir`.
/// `dev`: the development key, which speaks for all tenants.
///
/// # Errors
/// When keys cannot be read or understood.
pub(crate) fn verifier(
    world: &World,
    world_dir: &Path,
    dev: Option<PublicKey>,
    stream: StreamKey,
) -> anyhow::Result<Verifier> {
    let mut issuers = Vec::new();
    for tenant in &world.tenants {
        let Some(identity) = &tenant.identity else { continue };
        let json = match &identity.jwks {
            topology::Jwks::Inline(json) => json.clone(),
            topology::Jwks::File(file) => {
                let path = world_dir.join(file);
                fs::read_to_string(&path).with_context(|| {
                    format!("the keys of tenant {}: cannot read {}", tenant.id, path.display())
                })?
            }
        };
        let jwks =
            Jwks::parse(&json).with_context(|| format!("the keys of tenant {}", tenant.id))?;
        issuers.push(TenantIssuer {
            tenant: tenant.id.clone(),
            issuer: identity.issuer.clone(),
            jwks,
        });
    }
    let tenants = world.tenants.iter().map(|tenant| tenant.id.clone()).collect();
    Ok(Verifier::new(VerifierOptions { tenants, issuers, dev, stream })?)
}
