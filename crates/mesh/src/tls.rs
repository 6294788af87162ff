//! Mutual TLS: both sides show a certificate of the mesh's authority, and the dialler takes nobody
//! but whom it dials.
//!
//! The provider is handed over by name (ring), never taken from the process: the simulator depends
//! on it. There is no resumption: a resumed session would skip the certificate.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    RootCertStore, ServerConfig, SignatureScheme, version,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use wire::NodeId;

use crate::ca::Identity;
use crate::proof::{self, IdentityError};

/// What TLS is told to be the server's name; who the server is, its URI SAN says.
pub(crate) const SERVER_NAME: &str = "mesh.hearth.internal";

/// Application protocol of the TLS inside a relayed stream: never to be taken for that of a link.
const RELAYED_ALPN: &[u8] = b"hearth-mesh/1+relayed";

/// Makes the TLS configurations of one node.
pub(crate) struct Tls {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    identity: Identity,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Tls {
    /// For this identity, which must be that of `node`.
    pub(crate) fn new(node: &NodeId, identity: Identity) -> Result<Self, IdentityError> {
        let proven = identity.node()?;
        if proven != *node {
            return Err(IdentityError::Other { proven, expected: node.clone() });
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for authority in &identity.authorities {
            roots.add(authority.clone()).map_err(unusable)?;
        }
        let roots = Arc::new(roots);
        let chain = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| IdentityError::Tls(error.to_string()))?;
        let tls = Self { provider, roots, identity, clients: Arc::new(AnyNode { chain }) };
        tls.server(wire::version::ALPN)?;
        tls.client(node, wire::version::ALPN)?;
        Ok(tls)
    }

    /// To dial `expected` over QUIC.
    pub(crate) fn quic_client(&self, expected: &NodeId) -> Result<QuicClientConfig, IdentityError> {
        QuicClientConfig::try_from(self.client(expected, wire::version::ALPN)?)
            .map_err(|error| IdentityError::Tls(error.to_string()))
    }

    /// To be dialled over QUIC.
    pub(crate) fn quic_server(&self) -> Result<QuicServerConfig, IdentityError> {
        QuicServerConfig::try_from(self.server(wire::version::ALPN)?)
            .map_err(|error| IdentityError::Tls(error.to_string()))
    }

    /// To reach `expected` through a relay.
    pub(crate) fn relayed_client(&self, expected: &NodeId) -> Result<ClientConfig, IdentityError> {
        self.client(expected, RELAYED_ALPN)
    }

    /// To be reached through a relay.
    pub(crate) fn relayed_server(&self) -> Result<ServerConfig, IdentityError> {
        self.server(RELAYED_ALPN)
    }

    /// The private key's bytes, to derive other secrets from.
    pub(crate) fn key_bytes(&self) -> &[u8] {
        self.identity.key.secret_der()
    }

    fn client(&self, expected: &NodeId, alpn: &[u8]) -> Result<ClientConfig, IdentityError> {
        let verifier = ThisNode {
            expected: expected.clone(),
            roots: self.roots.clone(),
            algorithms: self.provider.signature_verification_algorithms,
        };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.identity.chain.clone(), self.identity.key.clone_key())
            .map_err(unusable)?;
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(config)
    }

    fn server(&self, alpn: &[u8]) -> Result<ServerConfig, IdentityError> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(self.clients.clone())
            .with_single_cert(self.identity.chain.clone(), self.identity.key.clone_key())
            .map_err(unusable)?;
        config.alpn_protocols = vec![alpn.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

fn unusable(error: Error) -> IdentityError {
    IdentityError::Tls(error.to_string())
}

/// So that the reason stands in the log of the one who refuses.
fn refused(error: IdentityError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refused(error)))))
}

/// rustls shows a foreign reason by its `Debug`.
#[derive(thiserror::Error)]
#[error("{0}")]
struct Refused(IdentityError);

impl std::fmt::Debug for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

/// The proven name of a finished handshake's peer, from the certificates that TLS has accepted.
pub(crate) fn proven(certificates: Option<&[CertificateDer<'_>]>) -> Result<NodeId, IdentityError> {
    proof::node_of(certificates.and_then(|chain| chain.first()).ok_or(IdentityError::Malformed)?)
}

/// Accepts one node only.
#[derive(Debug)]
struct ThisNode {
    expected: NodeId,
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ThisNode {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let cert = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &cert,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let proven = proof::node_of(end_entity).map_err(refused)?;
        if proven != self.expected {
            return Err(refused(IdentityError::Other { proven, expected: self.expected.clone() }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Accepts any node of the mesh, and nobody whose certificate names none.
#[derive(Debug)]
struct AnyNode {
    chain: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for AnyNode {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        proof::node_of(end_entity).map_err(refused)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
