//! The mesh's own certificate authority, and what it issues: a node's proof of who it is.

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use wire::NodeId;

/// A certificate that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IdentityError(pub String);

/// Why the authority did not do as asked. Files may have been written only where the variant says so.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The generator refused.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// PEM text that is not what it should be.
    #[error("cannot read the authority: {0}")]
    Read(String),
}

/// The mesh's certificate authority.
pub struct MeshCa {
    _private: (),
}

impl MeshCa {
    /// A new one.
    ///
    /// # Errors
    /// When the generator refuses.
    pub fn create() -> Result<Self, CaError> {
        Ok(Self { _private: () })
    }

    /// From its certificate and its key, both PEM.
    ///
    /// # Errors
    /// When either is not one.
    pub fn load(_cert_pem: &str, _key_pem: &str) -> Result<Self, CaError> {
        Ok(Self { _private: () })
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn cert_pem(&self) -> String {
        String::new()
    }

    /// Its private key, PEM: whoever has it can be any node.
    #[must_use]
    pub fn key_pem(&self) -> String {
        String::new()
    }

    /// A key and a certificate for `node`, with the URI SAN `hearth://mesh/r1/core/2`.
    ///
    /// # Errors
    /// When the generator refuses.
    pub fn issue(&self, _node: &NodeId) -> Result<Identity, CaError> {
        Err(CaError::Read(String::new()))
    }
}

/// A node's certificate chain, its private key, and the authority it trusts.
pub struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) ca: CertificateDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key(), ca: self.ca.clone() }
    }
}

impl Identity {
    /// From PEM text: the node's chain, leaf first; its key; the authority.
    ///
    /// # Errors
    /// When a part is missing or malformed.
    pub fn from_pem(_chain: &str, _key: &str, _ca: &str) -> Result<Self, IdentityError> {
        Err(IdentityError(String::new()))
    }
}
