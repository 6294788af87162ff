//! A mesh of two tenants with identity providers of their own, and pens to forge with.
#![allow(dead_code, reason = "each test file uses a part")]

use hearth_auth::{Claims, DevIssuer, Jwks, StreamKey, TenantIssuer, Verifier, VerifierOptions};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use wire::{TenantId, UserId};

pub(crate) const NOW_S: u64 = 1_800_000_000;
pub(crate) const NOW_MS: u64 = NOW_S * 1000;

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(crate) fn rsa() -> EncodingKey {
    EncodingKey::from_rsa_pem(include_bytes!("../keys/rsa.pem")).unwrap()
}

pub(crate) fn p256() -> EncodingKey {
    EncodingKey::from_ec_pem(include_bytes!("../keys/p256.pem")).unwrap()
}

pub(crate) fn ed25519(seed: u8) -> EncodingKey {
    use ed25519_dalek::pkcs8::EncodePrivateKey;
    let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
    EncodingKey::from_ed_der(key.to_pkcs8_der().unwrap().as_bytes())
}

/// The public half as a JWK.
pub(crate) fn public(key: &EncodingKey, algorithm: Algorithm, kid: Option<&str>) -> Value {
    let mut jwk = Jwk::from_encoding_key(key, algorithm).unwrap();
    jwk.common.key_id = kid.map(str::to_owned);
    serde_json::to_value(jwk).unwrap()
}

pub(crate) fn public_ed25519(seed: u8, kid: &str) -> Value {
    let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key();
    json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": data_encoding::BASE64URL_NOPAD.encode(key.as_bytes())})
}

/// `acme` has an RSA key and a P-256 key at one provider; `duo` has one Ed25519 key at another;
/// `demo` has none.
pub(crate) struct Mesh {
    pub(crate) verifier: Verifier,
    pub(crate) dev: DevIssuer,
}

pub(crate) const ACME: &str = "https://id.acme.example";
pub(crate) const DUO: &str = "https://id.duo.example";

pub(crate) fn mesh() -> Mesh {
    let acme = json!({"keys": [public(&rsa(), Algorithm::RS256, Some("r")), public(&p256(), Algorithm::ES256, Some("e"))]});
    let duo = json!({"keys": [public_ed25519(7, "d")]});
    let issuer = |name: &str, issuer: &str, jwks: &Value| TenantIssuer {
        tenant: tenant(name),
        issuer: issuer.into(),
        jwks: Jwks::parse(&jwks.to_string()).unwrap(),
    };
    let dev = DevIssuer::from_seed([1; 32]);
    let verifier = Verifier::new(VerifierOptions {
        tenants: ["demo", "acme", "duo"].map(tenant).to_vec(),
        issuers: vec![issuer("acme", ACME, &acme), issuer("duo", DUO, &duo)],
        dev: Some(dev.public_key()),
        stream: StreamKey::from_seed([2; 32]),
    });
    Mesh { verifier: verifier.unwrap(), dev }
}

impl Mesh {
    pub(crate) fn check(&self, token: &str) -> Result<Claims, hearth_auth::AuthError> {
        self.verifier.verify_identity(token, NOW_MS)
    }
}

/// Good claims of a user of `acme`.
pub(crate) fn claims() -> Value {
    json!({"iss": ACME, "aud": "hearth", "sub": "ann", "tenant": "acme", "iat": NOW_S - 10, "exp": NOW_S + 600})
}

pub(crate) fn header(algorithm: Algorithm, kid: &str) -> Header {
    let mut header = Header::new(algorithm);
    header.kid = Some(kid.into());
    header
}

pub(crate) fn sign(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    jsonwebtoken::encode(header, claims, key).unwrap()
}

/// `acme`'s token with these claims.
pub(crate) fn acme(claims: &Value) -> String {
    sign(&header(Algorithm::ES256, "e"), claims, &p256())
}

/// Good claims but for one; `null` takes it out.
pub(crate) fn but(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(claim);
    } else {
        claims[claim] = value;
    }
    claims
}

/// A token whose header and signature are whatever one likes.
pub(crate) fn raw(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
    [part(header.to_string().as_bytes()), part(claims.to_string().as_bytes()), part(signature)]
        .join(".")
}
