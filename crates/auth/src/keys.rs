//! The mesh's own signing keys: one file each, Ed25519, readable by their owner only.

use std::fs;
use std::io;
use std::path::Path;

use data_encoding::HEXLOWER;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use sha2::{Digest, Sha256};
use wire::{DeviceId, TenantId, UserId};

use crate::error::KeyError;
use crate::{AUDIENCE, DEV_ISSUER, private};

const DEV_FILE: &str = "dev.pem";
const STREAM_FILE: &str = "stream.pem";

/// The signing keys of a local mesh, in one folder.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Signs identity tokens of any tenant.
    pub dev: DevIssuer,
    /// Signs stream tokens.
    pub stream: StreamKey,
}

impl Keys {
    /// Loads the keys from a folder. Creates the folder (0700) and missing keys (0600). Two
    /// processes that do so at once end with the same keys.
    ///
    /// # Errors
    /// When a file cannot be read, written or parsed, or others may read it.
    pub fn load_or_create(folder: &Path) -> Result<Self, KeyError> {
        Ok(Self {
            dev: DevIssuer::load_or_create(folder)?,
            stream: StreamKey::load_or_create(folder)?,
        })
    }
}

/// The public half of an Ed25519 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The `kid` of tokens signed with it: a hash of its bytes.
    #[must_use]
    pub fn kid(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(self.0)[..8])
    }
}

/// Signs identity tokens on a local mesh: valid for every tenant there, and nowhere else.
#[derive(Clone, Debug)]
pub struct DevIssuer(Signer);

impl DevIssuer {
    /// Loads it from a folder, as [`Keys::load_or_create`].
    ///
    /// # Errors
    /// As [`Keys::load_or_create`].
    pub fn load_or_create(folder: &Path) -> Result<Self, KeyError> {
        Signer::load_or_create(&folder.join(DEV_FILE)).map(Self)
    }

    /// Loads it from a folder; never creates a key.
    ///
    /// # Errors
    /// When there is none, it cannot be read or parsed, or others may read it.
    pub fn load(folder: &Path) -> Result<Self, KeyError> {
        Signer::load(&folder.join(DEV_FILE)).map(Self)
    }

    /// A key from 32 random bytes, stored nowhere.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Signer::from_seed(seed))
    }

    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.0.public
    }

    /// An identity token, valid from `now_ms` for `ttl_s` seconds.
    #[must_use]
    pub fn issue(
        &self,
        tenant: &TenantId,
        user: &UserId,
        device: Option<&DeviceId>,
        ttl_s: u64,
        now_ms: u64,
    ) -> String {
        #[derive(Serialize)]
        struct Payload<'a> {
            iss: &'a str,
            aud: &'a str,
            sub: &'a UserId,
            tenant: &'a TenantId,
            iat: u64,
            exp: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            device: Option<&'a DeviceId>,
        }
        let iat = now_ms / 1000;
        let exp = iat.saturating_add(ttl_s);
        self.0.sign(
            "JWT",
            &Payload { iss: DEV_ISSUER, aud: AUDIENCE, sub: user, tenant, iat, exp, device },
        )
    }
}

/// Signs stream tokens; the same key in every edge of a mesh.
#[derive(Clone, Debug)]
pub struct StreamKey(Signer);

impl StreamKey {
    /// Loads it from a folder, as [`Keys::load_or_create`].
    ///
    /// # Errors
    /// As [`Keys::load_or_create`].
    pub fn load_or_create(folder: &Path) -> Result<Self, KeyError> {
        Signer::load_or_create(&folder.join(STREAM_FILE)).map(Self)
    }

    /// Loads it from a folder; never creates a key: edges with keys of their own would refuse each
    /// other's tokens.
    ///
    /// # Errors
    /// When there is none, it cannot be read or parsed, or others may read it.
    pub fn load(folder: &Path) -> Result<Self, KeyError> {
        Signer::load(&folder.join(STREAM_FILE)).map(Self)
    }

    /// A key from 32 random bytes, stored nowhere.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Signer::from_seed(seed))
    }

    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.0.public
    }

    pub(crate) fn sign(&self, typ: &str, payload: &impl Serialize) -> String {
        self.0.sign(typ, payload)
    }
}

#[derive(Clone)]
struct Signer {
    public: PublicKey,
    private: EncodingKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("kid", &self.public.kid()).finish_non_exhaustive()
    }
}

impl Signer {
    fn new(key: &SigningKey) -> Self {
        let der = key.to_pkcs8_der().expect("an Ed25519 key always has a PKCS #8 form");
        Self {
            public: PublicKey(key.verifying_key().to_bytes()),
            private: EncodingKey::from_ed_der(der.as_bytes()),
        }
    }

    fn from_seed(seed: [u8; 32]) -> Self {
        Self::new(&SigningKey::from_bytes(&seed))
    }

    fn sign(&self, typ: &str, payload: &impl Serialize) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(typ.into());
        header.kid = Some(self.public.kid());
        jsonwebtoken::encode(&header, payload, &self.private)
            .expect("an Ed25519 key signs any JSON")
    }

    fn load(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.into(), source };
        if private::is_exposed(path).map_err(io)? {
            return Err(KeyError::Exposed(path.into()));
        }
        let pem = fs::read_to_string(path).map_err(io)?;
        let key = SigningKey::from_pkcs8_pem(&pem).map_err(|_| KeyError::NotAKey(path.into()))?;
        Ok(Self::new(&key))
    }

    fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(KeyError::Random)?;
        let key = SigningKey::from_bytes(&seed);
        let pem = key.to_pkcs8_pem(LineEnding::LF).expect("an Ed25519 key always has a PEM form");
        private::create(path, pem.as_bytes())
            .map_err(|source| KeyError::Io { path: path.into(), source })?;
        // Another process created it first.
        Self::load(path)
    }
}

#[cfg(test)]
mod tests;
