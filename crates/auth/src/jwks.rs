//! The public keys of an identity provider (RFC 7517), each with the one algorithm that it may be
//! used with.

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::VerifyingKey;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::KeyError;
use crate::keys::PublicKey;

/// A set of keys that sign the tokens of one issuer.
#[derive(Clone, Debug)]
pub struct Jwks(Vec<Key>);

/// A key and the algorithm that is pinned to it.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    kid: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
    /// Of its public half.
    pub(crate) fingerprint: Fingerprint,
}

/// A hash of a public key.
pub(crate) type Fingerprint = [u8; 32];

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Raw>,
}

#[derive(Deserialize)]
struct Raw {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<serde::de::IgnoredAny>,
}

impl Jwks {
    /// Reads a key set. Leaves out keys for other purposes or algorithms than ours (EdDSA, ES256,
    /// RS256), symmetric ones too: a provider may publish them.
    ///
    /// # Errors
    /// When it is not a key set, holds a private key, a malformed or weak key, two keys of one
    /// `kid`, or no key that we can use.
    pub fn parse(json: &str) -> Result<Self, KeyError> {
        let raw: RawSet = serde_json::from_str(json)
            .map_err(|error| KeyError::Jwks(format!("not JWKS: {error}")))?;
        let mut keys: Vec<Key> = Vec::new();
        for (n, raw) in raw.keys.into_iter().enumerate() {
            let wrong = |why: &str| KeyError::Jwks(format!("key {}: {why}", n + 1));
            if raw.d.is_some() {
                return Err(wrong("is a private key; publish only the public half"));
            }
            let Some((algorithm, key, fingerprint)) = usable(&raw).map_err(wrong)? else {
                continue;
            };
            if keys.iter().any(|earlier| earlier.kid == raw.kid) {
                return Err(wrong("has the kid of an earlier one"));
            }
            keys.push(Key { kid: raw.kid, algorithm, key, fingerprint });
        }
        if keys.is_empty() {
            return Err(KeyError::Jwks("holds no EdDSA, ES256 or RS256 signing key".into()));
        }
        Ok(Self(keys))
    }

    /// One Ed25519 key of the mesh itself.
    pub(crate) fn single(public: PublicKey) -> Self {
        let key = DecodingKey::from_ed_der(&public.0);
        let fingerprint = Sha256::digest(public.0).into();
        let kid = Some(public.kid());
        Self(vec![Key { kid, algorithm: Algorithm::EdDSA, key, fingerprint }])
    }

    /// All keys of the set.
    pub(crate) fn fingerprints(&self) -> impl Iterator<Item = &Fingerprint> {
        self.0.iter().map(|key| &key.fingerprint)
    }

    /// The key that a token names; if it names none, the only key there is.
    pub(crate) fn find(&self, kid: Option<&str>) -> Option<&Key> {
        match (kid, self.0.as_slice()) {
            (Some(kid), keys) => keys.iter().find(|key| key.kid.as_deref() == Some(kid)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }
}

/// None for a key with another purpose.
fn usable(raw: &Raw) -> Result<Option<(Algorithm, DecodingKey, Fingerprint)>, &'static str> {
    if raw.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return Ok(None);
    }
    let algorithm = match (raw.kty.as_str(), raw.crv.as_deref()) {
        ("OKP", Some("Ed25519")) => Algorithm::EdDSA,
        ("EC", Some("P-256")) => Algorithm::ES256,
        ("RSA", _) => Algorithm::RS256,
        _ => return Ok(None),
    };
    let own_name = match algorithm {
        Algorithm::EdDSA => "EdDSA",
        Algorithm::ES256 => "ES256",
        _ => "RS256",
    };
    if raw
        .alg
        .as_deref()
        .is_some_and(|alg| alg != own_name && !(alg == "Ed25519" && own_name == "EdDSA"))
    {
        return Ok(None);
    }
    let (key, public) = match algorithm {
        Algorithm::EdDSA => ed25519(raw)?,
        Algorithm::ES256 => p256(raw)?,
        _ => rsa(raw)?,
    };
    Ok(Some((algorithm, key, Sha256::digest(public).into())))
}

/// `jsonwebtoken` slices the first 32 bytes of such a key unchecked: the length must be right here.
fn ed25519(raw: &Raw) -> Result<(DecodingKey, Vec<u8>), &'static str> {
    let x: [u8; 32] = bytes(&raw.x)?.try_into().map_err(|_| "x is not 32 bytes")?;
    let key = VerifyingKey::from_bytes(&x).map_err(|_| "x is not a point")?;
    if key.is_weak() {
        return Err("is a weak key");
    }
    Ok((DecodingKey::from_ed_der(&x), x.to_vec()))
}

fn p256(raw: &Raw) -> Result<(DecodingKey, Vec<u8>), &'static str> {
    let (x, y) = (bytes(&raw.x)?, bytes(&raw.y)?);
    if x.len() != 32 || y.len() != 32 {
        return Err("x and y are not 32 bytes each");
    }
    let point = [&[4][..], &x, &y].concat();
    let key = DecodingKey::from_ec_der(&point);
    // Fails before it looks at the signature if the point is not on the curve.
    jsonwebtoken::crypto::verify("", b"", &key, Algorithm::ES256)
        .map_err(|_| "x and y are not a point of P-256")?;
    Ok((key, point))
}

/// 2048 to 4096 bits, an odd exponent from 3 to 2^32: what the `rsa` crate verifies, without the
/// weak end of it.
fn rsa(raw: &Raw) -> Result<(DecodingKey, Vec<u8>), &'static str> {
    let (n, e) = (bytes(&raw.n)?, bytes(&raw.e)?);
    let bits = match n.iter().position(|byte| *byte != 0) {
        Some(zeros) => (n.len() - zeros) * 8 - n[zeros].leading_zeros() as usize,
        None => 0,
    };
    if !(2048..=4096).contains(&bits) {
        return Err("n is not of 2048 to 4096 bits");
    }
    if e.len() > 4 || e.last().is_none_or(|last| last % 2 == 0) || e.as_slice() == [1] {
        return Err("e is not an odd number from 3 to 2^32");
    }
    Ok((DecodingKey::from_rsa_raw_components(&n, &e), [n, e].concat()))
}

fn bytes(field: &Option<String>) -> Result<Vec<u8>, &'static str> {
    let text = field.as_deref().ok_or("lacks a part")?;
    BASE64URL_NOPAD
        .decode(text.trim_end_matches('=').as_bytes())
        .map_err(|_| "a part is not base64url")
}

#[cfg(test)]
mod tests;
