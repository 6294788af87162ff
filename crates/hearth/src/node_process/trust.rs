//! The keys by which an edge accepts tokens.

use std::path::Path;

use auth::{DevIssuer, KeyError, PublicKey, StreamKey, Verifier};
use topology::World;

use super::config::AuthSection;
use super::site::Site;
use crate::assembly;

/// Loaded once at the start; the keys of identity providers are read again at every reload.
pub(crate) struct TrustAnchors {
    stream: StreamKey,
    dev: Option<PublicKey>,
}

impl TrustAnchors {
    /// Loads them; makes none.
    ///
    /// # Errors
    /// When a key is not there, is none, or others may read it; or the providers' keys cannot be
    /// read.
    pub(crate) fn load(auth: &AuthSection, site: &Site) -> anyhow::Result<Self> {
        let stream = StreamKey::load(&auth.keys).map_err(|error| missing(error, &auth.keys, ""))?;
        let dev = if auth.dev_tokens {
            let issuer = DevIssuer::load(&auth.keys)
                .map_err(|error| missing(error, &auth.keys, " --dev"))?;
            Some(issuer.public_key())
        } else {
            None
        };
        let trust = Self { stream, dev };
        trust.verifier(&site.world, site)?;
        Ok(trust)
    }

    /// With the identity providers of this world, and their keys as they are now.
    ///
    /// # Errors
    /// When their keys cannot be read.
    pub(crate) fn verifier(&self, world: &World, site: &Site) -> anyhow::Result<Verifier> {
        assembly::verifier(world, site.world_dir(), self.dev, self.stream.clone())
    }
}

fn missing(error: KeyError, keys: &Path, flag: &str) -> anyhow::Error {
    let keys = keys.display();
    let cure = format!(
        "[auth] keys: all edges share one key; `hearth admin keys init --dir {keys}{flag}` makes it"
    );
    anyhow::Error::from(error).context(cure)
}
