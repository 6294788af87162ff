//! Why a token or a key is refused. No message quotes the content of a token.

use std::path::PathBuf;

use wire::ErrorCode;

/// Why a token is refused. Nothing has changed anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The request has no token.
    #[error("no token")]
    Missing,
    /// Longer than [`crate::TOKEN_BYTES`].
    #[error("token too long")]
    TooLong,
    /// Not three parts of base64 JSON, or a header that asks for what we do not do.
    #[error("not a token")]
    Malformed,
    /// The `typ` is not one of this kind of token.
    #[error("token of another type")]
    Type,
    /// The issuer is not one of the tenant's.
    #[error("issuer not known for this tenant")]
    Issuer,
    /// The `kid` names no key of the issuer, or there is none and the issuer has several keys.
    #[error("key not known")]
    Key,
    /// The `alg` is not that of the key.
    #[error("algorithm is not the key's")]
    Algorithm,
    /// The signature does not match the key.
    #[error("wrong signature")]
    Signature,
    /// Well signed, but this claim is missing or malformed.
    #[error("claim {0} is missing or wrong")]
    Claim(&'static str),
    /// Well signed, but `iat` or `nbf` lies in the future.
    #[error("token is not valid yet")]
    NotYet,
    /// Well signed, but expired.
    #[error("token expired")]
    Expired,
    /// The operating system gives no random bytes.
    #[error("no random bytes to be had")]
    Random,
    /// Well signed, but for a tenant that this mesh does not serve.
    #[error("tenant not served here")]
    Tenant,
    /// A good stream token where only an identity token will do.
    #[error("a stream token opens a stream and nothing else")]
    StreamOnly,
    /// Another device than the token names.
    #[error("token is bound to another device")]
    Device,
}

impl AuthError {
    /// The stable code for clients.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Missing
            | Self::TooLong
            | Self::Malformed
            | Self::Type
            | Self::Issuer
            | Self::Key
            | Self::Algorithm
            | Self::Signature
            | Self::Claim(_)
            | Self::NotYet => ErrorCode::Unauthenticated,
            Self::Expired => ErrorCode::TokenExpired,
            Self::Random => ErrorCode::Internal,
            Self::Tenant | Self::StreamOnly | Self::Device => ErrorCode::Forbidden,
        }
    }
}

impl From<AuthError> for ErrorCode {
    fn from(error: AuthError) -> Self {
        error.code()
    }
}

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written. A key that was being created does not exist.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// Others may read a signing key.
    #[error("{}: others may read this key; run chmod 600 on it, or delete it to get a new one", .0.display())]
    Exposed(PathBuf),
    /// Not an Ed25519 key in PKCS #8 PEM.
    #[error("{}: not an Ed25519 private key in PKCS #8 PEM", .0.display())]
    NotAKey(PathBuf),
    /// The machine has no randomness to make a key of.
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
    /// A key set that cannot be used.
    #[error("key set: {0}")]
    Jwks(String),
    /// Two providers under one issuer for one tenant, or an issuer that stands for the mesh itself.
    #[error("issuer {0:?}: reserved, or given twice for one tenant")]
    Issuer(String),
}
