//! Who may enter: the tokens of users.
//!
//! A user presents an **identity token**, a JWT signed by the identity provider of their tenant
//! (or, on a local mesh, by the development key). It buys a **stream token**, valid for a minute,
//! to open a WebSocket where the identity token should not be shown. Edges check both before the
//! upgrade.
//!
//! | module | what |
//! |---|---|
//! | [`keys`] | the mesh's own signing keys: the development issuer and the stream tokens |
//! | [`private`] | how secret files are written to disk |
//! | [`jwks`] | the public keys of identity providers |
//! | [`verifier`] | whether a token is valid, and for whom |
//! | [`error`] | why it is refused, and with which stable code |
//!
//! **The rules** (after RFC 8725). A key has one algorithm, fixed when it is loaded; a token that
//! names another is refused before its signature is checked. The key is found by the issuer *and
//! the tenant* that the token claims, then by `kid`, so the provider of one tenant cannot sign for
//! another. Identity and stream tokens differ in key, `iss`, `aud` and `typ`, so neither passes for
//! the other. The time is passed in. Tokens, and parts of them, are never logged or quoted in
//! errors.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod error;
pub mod jwks;
pub mod keys;
pub mod private;
pub mod verifier;

pub use error::{AuthError, KeyError};
pub use jwks::Jwks;
pub use keys::{DevIssuer, Keys, PublicKey, StreamKey};
pub use verifier::{
    Claims, SignedBy, StreamToken, TenantIssuer, TokenKind, Verifier, VerifierOptions,
};

/// The audience of identity tokens.
pub const AUDIENCE: &str = "hearth";
/// The issuer of the development key of a local mesh.
pub const DEV_ISSUER: &str = "hearth-dev";
/// The issuer of stream tokens.
pub const MESH_ISSUER: &str = "hearth-mesh";
/// Longest life of a stream token, seconds.
pub const STREAM_TTL_MAX_S: u64 = 60;
/// Longest token, bytes.
pub const TOKEN_BYTES: usize = 8 * 1024;
/// How far ahead the clock of an issuer may be: `iat` and `nbf` may lie this far in the future,
/// seconds. `exp` gets no such grace.
pub const SKEW_S: u64 = 60;
