//! The mesh's own certificate authority, and what it issues: a node's proof of who it is.
//!
//! Keys are Ed25519: small, and their signatures have one length, so that a simulated handshake is
//! the same every time.

use std::fmt;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use wire::NodeId;

use crate::proof::{self, IdentityError};

/// What the authority issues is valid from 2024 to here; operators who want short lifetimes bring
/// their own certificates with [`Identity::from_pem`].
const VALID_UNTIL_YEAR: i32 = 2050;

/// Why the authority did not do as asked. Nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The key or the certificate could not be made, or is not PEM of one.
    #[error("mesh authority: {0}")]
    Make(#[from] rcgen::Error),
}

/// The mesh's certificate authority. Whoever holds its key can be any node.
pub struct MeshCa {
    issuer: Issuer<'static, KeyPair>,
    cert: CertificateDer<'static>,
    cert_pem: String,
}

impl MeshCa {
    /// A new one, with a new key.
    ///
    /// # Errors
    /// When the generator refuses.
    pub fn create() -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut params = validity(CertificateParams::default());
        params.distinguished_name.push(DnType::CommonName, "hearth mesh");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key)?;
        Ok(Self {
            cert: cert.der().clone(),
            cert_pem: cert.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    /// From its certificate and its key, both PEM, as [`MeshCa::cert_pem`] and [`MeshCa::key_pem`]
    /// gave them.
    ///
    /// # Errors
    /// When either is not one.
    pub fn load(cert_pem: &str, key_pem: &str) -> Result<Self, CaError> {
        let cert = CertificateDer::from_pem_slice(cert_pem.as_bytes())
            .map_err(|error| rcgen::Error::PemError(error.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&cert, KeyPair::from_pem(key_pem)?)?;
        Ok(Self { issuer, cert, cert_pem: cert_pem.to_owned() })
    }

    /// Its certificate, PEM: what every node trusts.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Its private key, PEM. Keep it from everybody.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A new key and a certificate for `node`, with the URI SAN `hearth://mesh/r1/core/2`.
    ///
    /// # Errors
    /// When the generator refuses.
    pub fn issue(&self, node: &NodeId) -> Result<Identity, CaError> {
        let (cert, key) = self.sign(node)?;
        Ok(Identity {
            chain: vec![cert.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            authorities: vec![self.cert.clone()],
        })
    }

    /// As [`MeshCa::issue`], to be kept in files and read with [`Identity::from_pem`].
    ///
    /// # Errors
    /// As there.
    pub fn issue_pem(&self, node: &NodeId) -> Result<IssuedPem, CaError> {
        let (cert, key) = self.sign(node)?;
        Ok(IssuedPem { cert: cert.pem(), key: key.serialize_pem() })
    }

    fn sign(&self, node: &NodeId) -> Result<(Certificate, KeyPair), CaError> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut params = validity(CertificateParams::default());
        params.distinguished_name.push(DnType::CommonName, node.to_string());
        params.subject_alt_names = vec![SanType::URI(proof::uri_of(node).try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok((cert, key))
    }
}

impl fmt::Debug for MeshCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeshCa")
    }
}

fn validity(mut params: CertificateParams) -> CertificateParams {
    params.not_before = rcgen::date_time_ymd(2024, 1, 1);
    params.not_after = rcgen::date_time_ymd(VALID_UNTIL_YEAR, 1, 1);
    params
}

/// A certificate and its private key, PEM. See [`MeshCa::issue_pem`].
pub struct IssuedPem {
    /// May be shown to anybody.
    pub cert: String,
    /// Keep it from everybody but the node.
    pub key: String,
}

/// A node's certificate chain, its private key, and the authorities it trusts.
pub struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// One, or two while a mesh changes from the one to the other; never empty.
    pub(crate) authorities: Vec<CertificateDer<'static>>,
}

impl Identity {
    /// From PEM text: the node's chain, leaf first; its key; the authority, or several.
    ///
    /// # Errors
    /// When a part is missing or malformed.
    pub fn from_pem(chain: &str, key: &str, ca: &str) -> Result<Self, IdentityError> {
        let chain = certificates(chain, "certificate chain")?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| IdentityError::Pem("private key"))?;
        let authorities = certificates(ca, "authority")?;
        Ok(Self { chain, key, authorities })
    }

    /// Whom its certificate names.
    ///
    /// # Errors
    /// When it names nobody of this mesh.
    pub fn node(&self) -> Result<NodeId, IdentityError> {
        proof::node_of(&self.chain[0])
    }
}

/// All that stand in a text, at least one.
fn certificates(
    pem: &str,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    found.ok().filter(|found| !found.is_empty()).ok_or(IdentityError::Pem(what))
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            authorities: self.authorities.clone(),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.node().ok()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_survives_its_pem_and_names_whom_it_issues_for() {
        let made = MeshCa::create().unwrap();
        let ca = MeshCa::load(made.cert_pem(), &made.key_pem()).unwrap();
        let node: NodeId = "r3/edge/west-1".parse().unwrap();
        let identity = ca.issue(&node).unwrap();
        assert_eq!(identity.node().unwrap(), node);
        assert_eq!(identity.authorities, [made.cert]);
        let pem = ca.issue_pem(&node).unwrap();
        assert_eq!(
            Identity::from_pem(&pem.cert, &pem.key, ca.cert_pem()).unwrap().node().unwrap(),
            node
        );
        assert!(MeshCa::load("no", "pem").is_err());
        assert!(Identity::from_pem("", "", "").is_err());
    }
}
