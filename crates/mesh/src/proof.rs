//! Whom a certificate names: exactly one URI SAN of the form `hearth://mesh/r1/core/2`.
//!
//! Only reads. Whether the chain leads to the authority is checked in `tls`.

use rustls_pki_types::CertificateDer;
use wire::NodeId;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const PREFIX: &str = "hearth://mesh/";

/// Why a certificate does not prove a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not PEM of what it should be.
    #[error("{0}: not PEM, or nothing in it")]
    Pem(&'static str),
    /// Not a certificate.
    #[error("not a certificate")]
    Malformed,
    /// No `hearth://mesh/` name in it, more than one, or one that is no node.
    #[error("the certificate must name one node as hearth://mesh/r1/core/2; it names {0}")]
    Name(String),
    /// Another node than it should be.
    #[error("the certificate is that of {proven}, not of {expected}")]
    Other {
        /// Whom it names.
        proven: NodeId,
        /// Whom it should.
        expected: NodeId,
    },
    /// The key and the certificate, or the authority, cannot be used for TLS.
    #[error("unusable for TLS: {0}")]
    Tls(String),
}

/// The name under which the authority knows a node.
pub(crate) fn uri_of(node: &NodeId) -> String {
    format!("{PREFIX}{node}")
}

/// Whom the certificate names.
pub(crate) fn node_of(cert: &CertificateDer<'_>) -> Result<NodeId, IdentityError> {
    let (_, cert) = X509Certificate::from_der(cert).map_err(|_| IdentityError::Malformed)?;
    let names = cert.subject_alternative_name().map_err(|_| IdentityError::Malformed)?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with(PREFIX) => Some(&uri[PREFIX.len()..]),
            _ => None,
        })
        .collect();
    match uris.as_slice() {
        [uri] => uri.parse().map_err(|error| IdentityError::Name(format!("{uri:?} ({error})"))),
        [] => Err(IdentityError::Name("none".to_owned())),
        more => Err(IdentityError::Name(format!("{} of them", more.len()))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(uris: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn exactly_one_name_of_a_node_is_taken() {
        let proven = node_of(&certificate(&["https://elsewhere/", "hearth://mesh/r1/core/2"]));
        assert_eq!(proven.unwrap().to_string(), "r1/core/2");
        for bad in [
            &[][..],
            &["hearth://mesh/r1/core/2", "hearth://mesh/r1/core/3"],
            &["hearth://mesh/r1/king/2"],
            &["hearth://mesh/r1/core/2/3"],
            &["hearth://other/r1/core/2"],
        ] {
            assert!(matches!(node_of(&certificate(bad)), Err(IdentityError::Name(_))), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_never_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            at in 0usize..300,
            to: u8,
        ) {
            let _ = node_of(&CertificateDer::from(bytes));
            let mut near = certificate(&["hearth://mesh/r1/core/2"]).to_vec();
            let at = at % near.len();
            near[at] = to;
            let _ = node_of(&CertificateDer::from(near));
        }
    }
}
