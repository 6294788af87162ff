//! Stream tokens: what they are good for, for how long, and that neither kind passes for the other.

use crate::common::*;
use hearth_auth::{AuthError, StreamKey, TokenKind};
use jsonwebtoken::Algorithm;
use serde_json::json;
use wire::{DeviceId, ErrorCode};

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn identity(mesh: &Mesh, bound_to: Option<&DeviceId>, ttl_s: u64) -> hearth_auth::Claims {
    mesh.check(&mesh.dev.issue(&tenant("demo"), &user("ann"), bound_to, ttl_s, NOW_MS)).unwrap()
}

#[test]
fn a_stream_token_opens_a_stream_for_its_user_and_device_and_nothing_else() {
    let mesh = mesh();
    let claims = identity(&mesh, None, 3600);
    let issued = mesh.verifier.issue_stream(&claims, Some(device("phone")), 60, NOW_MS).unwrap();
    assert_eq!(issued.expires_at_ms, NOW_MS + 60_000);
    let stream = mesh.verifier.verify_any(&issued.token, NOW_MS + 59_999).unwrap();
    assert_eq!(
        (stream.tenant, stream.user, stream.device),
        (tenant("demo"), user("ann"), Some(device("phone")))
    );
    assert_eq!(stream.kind, TokenKind::Stream);
    assert_eq!(
        stream.session_exp_ms, claims.exp_ms,
        "the session may outlive the token, not the identity"
    );
    let refused = mesh.verifier.verify_identity(&issued.token, NOW_MS).unwrap_err();
    assert_eq!((refused, refused.code()), (AuthError::StreamOnly, ErrorCode::Forbidden));
    assert_eq!(mesh.verifier.verify_any(&issued.token, NOW_MS + 60_000), Err(AuthError::Expired));
}

#[test]
fn an_identity_token_opens_a_stream_too() {
    let mesh = mesh();
    let token = mesh.dev.issue(&tenant("demo"), &user("ann"), None, 60, NOW_MS);
    assert_eq!(mesh.verifier.verify_any(&token, NOW_MS).unwrap().kind, TokenKind::Identity);
}

#[test]
fn a_stream_token_lives_a_minute_at_most_and_not_beyond_its_identity_token() {
    let mesh = mesh();
    let long = identity(&mesh, None, 3600);
    assert_eq!(
        mesh.verifier.issue_stream(&long, None, u64::MAX, NOW_MS).unwrap().expires_at_ms,
        NOW_MS + 60_000
    );
    let short = identity(&mesh, None, 20);
    assert_eq!(
        mesh.verifier.issue_stream(&short, None, 60, NOW_MS).unwrap().expires_at_ms,
        NOW_MS + 20_000
    );
    assert_eq!(
        mesh.verifier.issue_stream(&short, None, 60, NOW_MS + 20_000),
        Err(AuthError::Expired)
    );
    assert_eq!(mesh.verifier.issue_stream(&long, None, 0, NOW_MS), Err(AuthError::Expired));
}

#[test]
fn a_token_bound_to_a_device_stays_bound() {
    let mesh = mesh();
    let bound = identity(&mesh, Some(&device("phone")), 3600);
    let other = mesh.verifier.issue_stream(&bound, Some(device("tablet")), 60, NOW_MS).unwrap_err();
    assert_eq!((other, other.code()), (AuthError::Device, ErrorCode::Forbidden));
    for asked in [None, Some(device("phone"))] {
        let issued = mesh.verifier.issue_stream(&bound, asked, 60, NOW_MS).unwrap();
        assert_eq!(
            mesh.verifier.verify_any(&issued.token, NOW_MS).unwrap().device,
            Some(device("phone"))
        );
    }
}

#[test]
fn a_stream_token_cannot_be_renewed_with_itself() {
    let mesh = mesh();
    let issued =
        mesh.verifier.issue_stream(&identity(&mesh, None, 3600), None, 60, NOW_MS).unwrap();
    let stream = mesh.verifier.verify_any(&issued.token, NOW_MS).unwrap();
    assert_eq!(mesh.verifier.issue_stream(&stream, None, 60, NOW_MS), Err(AuthError::StreamOnly));
}

#[test]
fn neither_kind_passes_for_the_other() {
    let mesh = mesh();
    let stream_kid = StreamKey::from_seed([2; 32]).public_key().kid();
    let dev_kid = mesh.dev.public_key().kid();
    let mine = mesh.verifier.issue_stream(&identity(&mesh, None, 3600), None, 60, NOW_MS).unwrap();
    let payload = mine.token.split('.').nth(1).unwrap();
    let payload = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap();
    let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    let vouching = payload["signed_by"].as_u64().unwrap();
    let sign_as = |typ: &str, kid: &str, iss: &str, aud: &str, key_seed: u8| {
        let mut claims = but("iss", json!(iss));
        claims["aud"] = json!(aud);
        claims["tenant"] = json!("demo");
        claims["signed_by"] = json!(vouching);
        claims["jti"] = json!("0f");
        let mut header = header(Algorithm::EdDSA, kid);
        header.typ = Some(typ.into());
        mesh.verifier.verify_any(&sign(&header, &claims, &ed25519(key_seed)), NOW_MS)
    };
    const STREAM: &str = "hearth-stream+jwt";
    // With all four of its own, each is good: the tests below change one or more of them.
    assert!(sign_as(STREAM, &stream_kid, "hearth-mesh", "hearth-stream", 2).is_ok());
    assert!(sign_as("JWT", &dev_kid, "hearth-dev", "hearth", 1).is_ok());
    // The development key writes a stream token.
    assert_eq!(sign_as(STREAM, &dev_kid, "hearth-mesh", "hearth-stream", 1), Err(AuthError::Key));
    assert_eq!(
        sign_as(STREAM, &stream_kid, "hearth-mesh", "hearth-stream", 1),
        Err(AuthError::Signature)
    );
    assert_eq!(sign_as(STREAM, &dev_kid, "hearth-dev", "hearth", 1), Err(AuthError::Issuer));
    // The stream key writes an identity token.
    assert_eq!(sign_as("JWT", &stream_kid, "hearth-dev", "hearth", 2), Err(AuthError::Key));
    assert_eq!(sign_as("JWT", &dev_kid, "hearth-dev", "hearth", 2), Err(AuthError::Signature));
    assert_eq!(sign_as("JWT", &stream_kid, "hearth-mesh", "hearth", 2), Err(AuthError::Issuer));
    // The right key and type, the other's audience.
    assert_eq!(
        sign_as(STREAM, &stream_kid, "hearth-mesh", "hearth", 2),
        Err(AuthError::Claim("aud"))
    );
    assert_eq!(
        sign_as("JWT", &dev_kid, "hearth-dev", "hearth-stream", 1),
        Err(AuthError::Claim("aud"))
    );
}

#[test]
fn a_stream_token_of_another_mesh_is_refused() {
    let here = mesh();
    let claims = identity(&here, None, 600);
    let there = hearth_auth::Verifier::new(hearth_auth::VerifierOptions {
        tenants: vec![tenant("demo")],
        issuers: vec![],
        dev: None,
        stream: StreamKey::from_seed([3; 32]),
    })
    .unwrap();
    let issued = there.issue_stream(&claims, None, 60, NOW_MS).unwrap();
    assert_eq!(here.verifier.verify_any(&issued.token, NOW_MS), Err(AuthError::Key));
    let token = here.dev.issue(&tenant("demo"), &user("ann"), None, 60, NOW_MS);
    assert_eq!(
        there.verify_any(&token, NOW_MS),
        Err(AuthError::Issuer),
        "it has no development key"
    );
}

#[test]
fn a_session_end_in_an_identity_token_means_nothing() {
    let mesh = mesh();
    let token = acme(&but("session_exp", json!(NOW_S + 1_000_000)));
    assert_eq!(mesh.check(&token).unwrap().session_exp_ms, NOW_MS + 600_000);
}
