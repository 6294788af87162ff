//! Decides whether a token is valid, and for whom. Edges ask before they look at anything else in a
//! request.

use std::collections::{HashMap, HashSet};

use data_encoding::HEXLOWER;
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wire::{DeviceId, TenantId, UserId};

use crate::error::{AuthError, KeyError};
use crate::jwks::{Fingerprint, Jwks};
use crate::keys::{PublicKey, StreamKey};
use crate::{AUDIENCE, DEV_ISSUER, MESH_ISSUER, SKEW_S, STREAM_TTL_MAX_S, TOKEN_BYTES};

/// `typ` and `aud` of stream tokens.
const STREAM_TYPE: &str = "hearth-stream+jwt";
const STREAM_AUDIENCE: &str = "hearth-stream";
/// The `typ` that an identity token may have; it may also have none.
const IDENTITY_TYPES: [&str; 4] = ["jwt", "at+jwt", "application/jwt", "application/at+jwt"];
/// The end of the year 9999, seconds. Later times are refused.
const TIME_MAX_S: f64 = 253_402_300_799.0;

/// The issuers whose tokens are valid.
#[derive(Clone, Debug)]
pub struct VerifierOptions {
    /// The tenants that this mesh serves.
    pub tenants: Vec<TenantId>,
    /// Their identity providers.
    pub issuers: Vec<TenantIssuer>,
    /// The development key of a local mesh, which signs for all tenants.
    pub dev: Option<PublicKey>,
    /// Signs and verifies stream tokens.
    pub stream: StreamKey,
}

/// An identity provider of a tenant.
#[derive(Clone, Debug)]
pub struct TenantIssuer {
    /// The tenant.
    pub tenant: TenantId,
    /// The `iss` of its tokens.
    pub issuer: String,
    /// The keys that sign them.
    pub jwks: Jwks,
}

/// The claims of a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The tenant.
    pub tenant: TenantId,
    /// The user.
    pub user: UserId,
    /// The device, if the token names one.
    pub device: Option<DeviceId>,
    /// When the token ends, milliseconds since 1970.
    pub exp_ms: u64,
    /// When a session opened with it must end, milliseconds since 1970: the expiry of the identity
    /// token, even when a stream token stands for it.
    pub session_exp_ms: u64,
    /// The issuer and the key that vouch for it: those of the identity token, even when a stream
    /// token stands for it.
    pub signed_by: SignedBy,
    /// Of a stream token: its number, which no other has.
    pub number: Option<u128>,
    pub kind: TokenKind,
}

/// An issuer and one of its keys. See [`Verifier::trusts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SignedBy(u64);

impl SignedBy {
    fn new(issuer: &str, tenant: Option<&TenantId>, key: &Fingerprint) -> Self {
        let tenant = tenant.map_or("", TenantId::as_str);
        let hash = Sha256::new().chain_update(key).chain_update(issuer).chain_update([0]);
        let hash = hash.chain_update(tenant).finalize();
        let (first, _) = hash.split_at(8);
        Self(first.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

/// The two kinds of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Opens everything that its user may do.
    Identity,
    /// Opens a stream.
    Stream,
}

/// A fresh stream token.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamToken {
    /// The token.
    pub token: String,
    /// When it ends, milliseconds since 1970.
    pub expires_at_ms: u64,
}

impl std::fmt::Debug for StreamToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamToken")
            .field("expires_at_ms", &self.expires_at_ms)
            .finish_non_exhaustive()
    }
}

/// Checks tokens. It holds keys and no clock.
#[derive(Debug)]
pub struct Verifier {
    tenants: HashSet<TenantId>,
    issuers: HashMap<(String, TenantId), Jwks>,
    dev: Option<Jwks>,
    stream: StreamKey,
    stream_keys: Jwks,
    trusted: HashSet<SignedBy>,
}

#[derive(Deserialize)]
struct Peek {
    iss: String,
    tenant: TenantId,
}

#[derive(Deserialize)]
struct Payload {
    aud: Audience,
    sub: String,
    tenant: TenantId,
    exp: f64,
    iat: f64,
    nbf: Option<f64>,
    device: Option<String>,
    session_exp: Option<f64>,
    signed_by: Option<u64>,
    jti: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn includes(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Many(many) => many.iter().any(|one| one == wanted),
        }
    }
}

impl Verifier {
    ///
    /// # Errors
    /// When a provider stands twice for one tenant, or uses an issuer of the mesh itself.
    pub fn new(options: VerifierOptions) -> Result<Self, KeyError> {
        let mut issuers = HashMap::new();
        for TenantIssuer { tenant, issuer, jwks } in options.issuers {
            let reserved = [DEV_ISSUER, MESH_ISSUER].contains(&issuer.as_str());
            if reserved || issuers.insert((issuer.clone(), tenant), jwks).is_some() {
                return Err(KeyError::Issuer(issuer));
            }
        }
        let dev = options.dev.map(Jwks::single);
        let dev_keys = dev.iter().flat_map(Jwks::fingerprints);
        let mut trusted: HashSet<_> =
            dev_keys.map(|key| SignedBy::new(DEV_ISSUER, None, key)).collect();
        for ((issuer, tenant), jwks) in &issuers {
            let keys = jwks.fingerprints();
            trusted.extend(keys.map(|key| SignedBy::new(issuer, Some(tenant), key)));
        }
        Ok(Self {
            tenants: options.tenants.into_iter().collect(),
            issuers,
            trusted,
            dev,
            stream_keys: Jwks::single(options.stream.public_key()),
            stream: options.stream,
        })
    }

    /// Whether what vouched for a token would still be taken: its issuer is known, and has the
    /// key.
    #[must_use]
    pub fn trusts(&self, signed_by: SignedBy) -> bool {
        self.trusted.contains(&signed_by)
    }

    /// Verifies an identity token, for everything but streams.
    ///
    /// # Errors
    /// Why it is refused; [`AuthError::StreamOnly`] for a good stream token.
    pub fn verify_identity(&self, token: &str, now_ms: u64) -> Result<Claims, AuthError> {
        let claims = self.verify_any(token, now_ms)?;
        if claims.kind == TokenKind::Stream { Err(AuthError::StreamOnly) } else { Ok(claims) }
    }

    /// Verifies an identity or a stream token, for `GET /v1/stream`.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify_any(&self, token: &str, now_ms: u64) -> Result<Claims, AuthError> {
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        if token.len() > TOKEN_BYTES {
            return Err(AuthError::TooLong);
        }
        // Not proven yet: the issuer only selects the key that must prove it.
        let peek = jsonwebtoken::dangerous::insecure_decode::<Peek>(token)
            .map_err(|_| AuthError::Malformed)?;
        let kind = kind(&peek.header)?;
        let (iss, tenant) = (peek.claims.iss, peek.claims.tenant);
        let keys = match kind {
            TokenKind::Stream => (iss == MESH_ISSUER).then_some(&self.stream_keys),
            TokenKind::Identity if iss == DEV_ISSUER => self.dev.as_ref(),
            TokenKind::Identity => self.issuers.get(&(iss.clone(), tenant.clone())),
        };
        let keys = keys.ok_or(AuthError::Issuer)?;
        let key = keys.find(peek.header.kid.as_deref()).ok_or(AuthError::Key)?;
        if peek.header.alg != key.algorithm {
            return Err(AuthError::Algorithm);
        }
        let payload =
            jsonwebtoken::decode::<Payload>(token, &key.key, &signature_only(key.algorithm));
        let issued_to = (iss != DEV_ISSUER).then_some(&tenant);
        let signed_by = SignedBy::new(&iss, issued_to, &key.fingerprint);
        self.claims(kind, signed_by, payload.map_err(refusal)?.claims, now_ms)
    }

    /// Issues a stream token for the user of an identity token, on this device, for `ttl_s`
    /// seconds: at most [`STREAM_TTL_MAX_S`], and not beyond the identity token itself.
    ///
    /// # Errors
    /// [`AuthError::StreamOnly`] when the claims are of a stream token, [`AuthError::Device`] when
    /// the token is bound to another device, [`AuthError::Expired`] when it has ended.
    pub fn issue_stream(
        &self,
        claims: &Claims,
        device: Option<DeviceId>,
        ttl_s: u64,
        now_ms: u64,
    ) -> Result<StreamToken, AuthError> {
        #[derive(Serialize)]
        struct Payload<'a> {
            iss: &'a str,
            aud: &'a str,
            sub: &'a UserId,
            tenant: &'a TenantId,
            iat: u64,
            exp: u64,
            session_exp: u64,
            signed_by: u64,
            jti: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            device: Option<DeviceId>,
        }
        if claims.kind == TokenKind::Stream {
            return Err(AuthError::StreamOnly);
        }
        let device = match (&claims.device, device) {
            (Some(bound), Some(asked)) if *bound != asked => return Err(AuthError::Device),
            (Some(bound), _) => Some(bound.clone()),
            (None, asked) => asked,
        };
        let iat = now_ms / 1000;
        let session_exp = claims.session_exp_ms / 1000;
        let exp = iat.saturating_add(ttl_s.min(STREAM_TTL_MAX_S)).min(session_exp);
        if exp <= iat {
            return Err(AuthError::Expired);
        }
        let (iss, aud) = (MESH_ISSUER, STREAM_AUDIENCE);
        let mut number = [0; 16];
        getrandom::fill(&mut number).map_err(|_| AuthError::Random)?;
        let payload = Payload {
            iss,
            aud,
            sub: &claims.user,
            tenant: &claims.tenant,
            iat,
            exp,
            session_exp,
            signed_by: claims.signed_by.0,
            jti: HEXLOWER.encode(&number),
            device,
        };
        Ok(StreamToken {
            token: self.stream.sign(STREAM_TYPE, &payload),
            expires_at_ms: exp * 1000,
        })
    }

    /// The claims of a token whose signature is valid.
    fn claims(
        &self,
        kind: TokenKind,
        signed_by: SignedBy,
        payload: Payload,
        now_ms: u64,
    ) -> Result<Claims, AuthError> {
        let audience = match kind {
            TokenKind::Identity => AUDIENCE,
            TokenKind::Stream => STREAM_AUDIENCE,
        };
        if !payload.aud.includes(audience) {
            return Err(AuthError::Claim("aud"));
        }
        let user = UserId::new(&payload.sub).map_err(|_| AuthError::Claim("sub"))?;
        let device = payload
            .device
            .map(DeviceId::new)
            .transpose()
            .map_err(|_| AuthError::Claim("device"))?;
        let exp_ms = time("exp", payload.exp)?;
        let session_exp_ms =
            payload.session_exp.map_or(Ok(exp_ms), |at| time("session_exp", at))?;
        let latest = now_ms.saturating_add(SKEW_S * 1000);
        let nbf_ms = payload.nbf.map_or(Ok(0), |at| time("nbf", at))?;
        if time("iat", payload.iat)? > latest || nbf_ms > latest {
            return Err(AuthError::NotYet);
        }
        if exp_ms <= now_ms {
            return Err(AuthError::Expired);
        }
        if !self.tenants.contains(&payload.tenant) {
            return Err(AuthError::Tenant);
        }
        let (session_exp_ms, signed_by, number) = match kind {
            TokenKind::Identity => (exp_ms, signed_by, None),
            TokenKind::Stream => {
                let signed_by = payload.signed_by.ok_or(AuthError::Claim("signed_by"))?;
                let number = payload.jti.and_then(|text| u128::from_str_radix(&text, 16).ok());
                let number = number.ok_or(AuthError::Claim("jti"))?;
                (session_exp_ms, SignedBy(signed_by), Some(number))
            }
        };
        // What vouched for the identity token may have been withdrawn since.
        if !self.trusts(signed_by) {
            return Err(AuthError::Key);
        }
        let tenant = payload.tenant;
        Ok(Claims { tenant, user, device, exp_ms, session_exp_ms, signed_by, number, kind })
    }
}

/// The header. Refuses headers that ask for something we do not support.
fn kind(header: &Header) -> Result<TokenKind, AuthError> {
    if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
        return Err(AuthError::Malformed);
    }
    match header.typ.as_deref() {
        None => Ok(TokenKind::Identity),
        Some(STREAM_TYPE) => Ok(TokenKind::Stream),
        Some(typ) if IDENTITY_TYPES.contains(&typ.to_ascii_lowercase().as_str()) => {
            Ok(TokenKind::Identity)
        }
        Some(_) => Err(AuthError::Type),
    }
}

/// `jsonwebtoken` checks the signature with the pinned algorithm and nothing else, because it reads
/// a clock of its own.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

fn refusal(error: jsonwebtoken::errors::Error) -> AuthError {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidAlgorithm => AuthError::Algorithm,
        // The signature is valid, so the issuer left something out.
        ErrorKind::Json(_) => AuthError::Claim("(one of aud, sub, tenant, exp, iat)"),
        ErrorKind::Base64(_) | ErrorKind::InvalidToken | ErrorKind::Utf8(_) => AuthError::Malformed,
        _ => AuthError::Signature,
    }
}

/// A NumericDate (RFC 7519, section 2) as milliseconds.
fn time(claim: &'static str, seconds: f64) -> Result<u64, AuthError> {
    if !(0.0..=TIME_MAX_S).contains(&seconds) {
        return Err(AuthError::Claim(claim));
    }
    Ok((seconds * 1000.0) as u64)
}
