//! Identity tokens: the good ones, and every game that is played with them.

use crate::common::*;
use hearth_auth::{AuthError, TokenKind};
use jsonwebtoken::{Algorithm, EncodingKey};
use proptest::prelude::*;
use serde_json::{Value, json};
use wire::ErrorCode;

#[test]
fn a_token_of_each_algorithm_is_good() {
    let mesh = mesh();
    let mut duo = but("iss", json!(DUO));
    duo["tenant"] = json!("duo");
    let tokens = [
        sign(&header(Algorithm::RS256, "r"), &claims(), &rsa()),
        sign(&header(Algorithm::ES256, "e"), &claims(), &p256()),
        sign(&header(Algorithm::EdDSA, "d"), &duo, &ed25519(7)),
    ];
    for token in tokens {
        let claims = mesh.check(&token).unwrap();
        assert_eq!(
            (claims.user, claims.device, claims.kind),
            (user("ann"), None, TokenKind::Identity)
        );
        assert_eq!((claims.exp_ms, claims.session_exp_ms), (NOW_MS + 600_000, NOW_MS + 600_000));
    }
}

#[test]
fn the_development_key_is_good_for_every_tenant_of_its_mesh_and_no_other() {
    let mesh = mesh();
    for name in ["demo", "acme", "duo"] {
        let token = mesh.dev.issue(
            &tenant(name),
            &user("ben"),
            Some(&"phone".parse().unwrap()),
            60,
            NOW_MS,
        );
        let claims = mesh.check(&token).unwrap();
        assert_eq!((claims.tenant, claims.device.unwrap().as_str()), (tenant(name), "phone"));
    }
    let elsewhere = mesh.dev.issue(&tenant("elsewhere"), &user("ben"), None, 60, NOW_MS);
    assert_eq!(mesh.check(&elsewhere), Err(AuthError::Tenant));
    assert_eq!(AuthError::Tenant.code(), ErrorCode::Forbidden);
    let stranger = hearth_auth::DevIssuer::from_seed([9; 32]);
    assert_eq!(
        mesh.check(&stranger.issue(&tenant("demo"), &user("ben"), None, 60, NOW_MS)),
        Err(AuthError::Key)
    );
}

#[test]
fn a_forged_kid_of_the_development_key_is_a_wrong_signature() {
    let mesh = mesh();
    let mut claims = but("iss", json!("hearth-dev"));
    claims["tenant"] = json!("demo");
    let forged =
        sign(&header(Algorithm::EdDSA, &mesh.dev.public_key().kid()), &claims, &ed25519(9));
    assert_eq!(mesh.check(&forged), Err(AuthError::Signature));
}

#[test]
fn alg_none_is_refused_however_it_is_written() {
    let mesh = mesh();
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        for signature in [&b""[..], &[0; 64]] {
            let token = raw(&json!({"alg": alg, "typ": "JWT", "kid": "e"}), &claims(), signature);
            assert_eq!(mesh.check(&token).unwrap_err().code(), ErrorCode::Unauthenticated, "{alg}");
        }
    }
    assert_eq!(mesh.check(&raw(&json!({"typ": "JWT"}), &claims(), b"")), Err(AuthError::Malformed));
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    let mesh = mesh();
    let jwk = public(&rsa(), Algorithm::RS256, Some("r"));
    let n = data_encoding::BASE64URL_NOPAD.decode(jwk["n"].as_str().unwrap().as_bytes()).unwrap();
    let dev = mesh.dev.public_key();
    let secrets =
        [jwk.to_string().into_bytes(), jwk["n"].as_str().unwrap().into(), n, dev.0.to_vec()];
    for secret in secrets {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            for (kid, iss) in [("r", ACME), ("e", ACME), (dev.kid().as_str(), "hearth-dev")] {
                let claims = but("iss", json!(iss));
                let token =
                    sign(&header(algorithm, kid), &claims, &EncodingKey::from_secret(&secret));
                assert_eq!(mesh.check(&token), Err(AuthError::Algorithm));
            }
        }
    }
}

#[test]
fn a_key_is_used_with_its_own_algorithm_only() {
    let mesh = mesh();
    // Signed well, but under the kid of a key of another algorithm.
    let tokens = [
        sign(&header(Algorithm::RS256, "e"), &claims(), &rsa()),
        sign(&header(Algorithm::ES256, "r"), &claims(), &p256()),
        sign(&header(Algorithm::EdDSA, "r"), &claims(), &ed25519(7)),
        // The right key in the family's other sizes and paddings.
        sign(&header(Algorithm::RS512, "r"), &claims(), &rsa()),
        sign(&header(Algorithm::PS256, "r"), &claims(), &rsa()),
    ];
    for token in tokens {
        assert_eq!(mesh.check(&token), Err(AuthError::Algorithm));
    }
}

#[test]
fn an_unknown_or_missing_kid_is_refused() {
    let mesh = mesh();
    assert_eq!(
        mesh.check(&sign(&header(Algorithm::ES256, "x"), &claims(), &p256())),
        Err(AuthError::Key)
    );
    let mut nameless = header(Algorithm::ES256, "");
    nameless.kid = None;
    assert_eq!(
        mesh.check(&sign(&nameless, &claims(), &p256())),
        Err(AuthError::Key),
        "the issuer has two"
    );
    nameless.alg = Algorithm::EdDSA;
    let mut duo = but("iss", json!(DUO));
    duo["tenant"] = json!("duo");
    assert!(mesh.check(&sign(&nameless, &duo, &ed25519(7))).is_ok(), "the issuer has one");
}

#[test]
fn a_key_that_the_token_brings_along_counts_for_nothing() {
    let mesh = mesh();
    let brought = public_ed25519(9, "d");
    let mut header = header(Algorithm::EdDSA, "d");
    header.jwk = Some(serde_json::from_value(brought).unwrap());
    header.jku = Some("https://evil.example/jwks".into());
    let mut duo = but("iss", json!(DUO));
    duo["tenant"] = json!("duo");
    assert_eq!(mesh.check(&sign(&header, &duo, &ed25519(9))), Err(AuthError::Signature));
}

#[test]
fn the_provider_of_one_tenant_cannot_sign_for_another() {
    let mesh = mesh();
    for other in ["duo", "demo", "elsewhere"] {
        assert_eq!(
            mesh.check(&acme(&but("tenant", json!(other)))),
            Err(AuthError::Issuer),
            "{other}"
        );
    }
    for iss in [DUO, "https://unknown.example", ""] {
        assert_eq!(mesh.check(&acme(&but("iss", json!(iss)))), Err(AuthError::Issuer), "{iss}");
    }
    assert_eq!(mesh.check(&acme(&but("iss", json!("hearth-dev")))), Err(AuthError::Key));
}

#[test]
fn the_audience_must_include_us() {
    let mesh = mesh();
    assert!(mesh.check(&acme(&but("aud", json!(["other", "hearth"])))).is_ok());
    for aud in
        [json!("other"), json!(["other"]), json!([]), json!("Hearth"), json!("hearth-stream")]
    {
        assert_eq!(mesh.check(&acme(&but("aud", aud))), Err(AuthError::Claim("aud")));
    }
}

#[test]
fn every_claim_must_be_there_and_make_sense() {
    let mesh = mesh();
    for claim in ["iss", "aud", "sub", "tenant", "iat", "exp"] {
        let error = mesh.check(&acme(&but(claim, Value::Null))).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unauthenticated, "{claim}");
    }
    let wrong = [
        ("sub", json!("")),
        ("sub", json!("x".repeat(129))),
        ("sub", json!(7)),
        ("exp", json!("tomorrow")),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("iat", json!(-1.5)),
        ("iat", json!("now")),
        ("nbf", json!([])),
        ("device", json!("")),
        ("device", json!("x".repeat(129))),
        ("tenant", json!("")),
        ("aud", json!({"a": "hearth"})),
    ];
    for (claim, value) in wrong {
        let error = mesh.check(&acme(&but(claim, value.clone()))).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unauthenticated, "{claim} {value}");
    }
    let longest = "é".repeat(64);
    assert_eq!(mesh.check(&acme(&but("sub", json!(longest)))).unwrap().user, user(&longest));
    assert!(
        mesh.check(&acme(&but("exp", json!(NOW_S as f64 + 0.5)))).is_ok(),
        "a NumericDate may have a fraction"
    );
}

#[test]
fn a_late_token_says_so_only_when_it_was_good_once() {
    let mesh = mesh();
    for late in [NOW_S, NOW_S - 1, 0] {
        let error = mesh.check(&acme(&but("exp", json!(late)))).unwrap_err();
        assert_eq!((error, error.code()), (AuthError::Expired, ErrorCode::TokenExpired));
    }
    assert!(mesh.check(&acme(&but("exp", json!(NOW_S + 1)))).is_ok());
    let mut late = but("exp", json!(NOW_S - 1));
    let forged = sign(&header(Algorithm::EdDSA, "e"), &late, &ed25519(9));
    assert_eq!(mesh.check(&forged), Err(AuthError::Algorithm), "a forger learns nothing of time");
    late["aud"] = json!("other");
    assert_eq!(mesh.check(&acme(&late)), Err(AuthError::Claim("aud")));
}

#[test]
fn a_token_from_the_future_is_refused_beyond_the_skew_of_clocks() {
    let mesh = mesh();
    for claim in ["iat", "nbf"] {
        assert!(mesh.check(&acme(&but(claim, json!(NOW_S + 60)))).is_ok());
        let error = mesh.check(&acme(&but(claim, json!(NOW_S + 61)))).unwrap_err();
        assert_eq!((error, error.code()), (AuthError::NotYet, ErrorCode::Unauthenticated));
    }
}

#[test]
fn headers_that_ask_for_more_than_we_do_are_refused() {
    let mesh = mesh();
    let mut critical = header(Algorithm::ES256, "e");
    critical.crit = Some(vec!["b64".into()]);
    assert_eq!(mesh.check(&sign(&critical, &claims(), &p256())), Err(AuthError::Malformed));
    for (typ, good) in
        [("JWT", true), ("jwt", true), ("at+jwt", true), ("dpop+jwt", false), ("", false)]
    {
        let mut typed = header(Algorithm::ES256, "e");
        typed.typ = Some(typ.into());
        let checked = mesh.check(&sign(&typed, &claims(), &p256()));
        assert_eq!(checked.is_ok(), good, "{typ}: {checked:?}");
    }
    let mut untyped = header(Algorithm::ES256, "e");
    untyped.typ = None;
    assert!(mesh.check(&sign(&untyped, &claims(), &p256())).is_ok());
}

#[test]
fn what_is_no_token_is_refused() {
    let mesh = mesh();
    assert_eq!(mesh.check(""), Err(AuthError::Missing));
    assert_eq!(mesh.check(&"x".repeat(9 * 1024)), Err(AuthError::TooLong));
    let good = acme(&claims());
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts")
    };
    for bad in [
        "..".to_owned(),
        "...".into(),
        "a.b.c".into(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}.{payload}.{signature}="),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{payload}.{header}.{signature}"),
    ] {
        assert_eq!(mesh.check(&bad).unwrap_err().code(), ErrorCode::Unauthenticated, "{bad}");
    }
    // Deeply nested and doubled claims.
    let nested = "[".repeat(2_000);
    let part = |text: &str| data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
    assert!(mesh.check(&format!("{header}.{}.{signature}", part(&nested))).is_err());
    assert!(mesh.check(&format!("{}.{payload}.{signature}", part(&nested))).is_err());
}

#[test]
fn no_error_quotes_the_token() {
    let mesh = mesh();
    let secret = "very-secret-subject";
    for token in [
        acme(&but("sub", json!(secret.repeat(20)))),
        acme(&but("iss", json!(secret))),
        secret.into(),
    ] {
        let error = mesh.check(&token).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}

proptest! {
    #[test]
    fn garbage_is_never_a_panic_and_never_good(text in ".{0,200}", parts in proptest::collection::vec("[A-Za-z0-9_-]{0,60}", 0..5)) {
        let mesh = mesh();
        prop_assert!(mesh.verifier.verify_any(&text, NOW_MS).is_err());
        prop_assert!(mesh.verifier.verify_any(&parts.join("."), NOW_MS).is_err());
    }

    #[test]
    fn headers_and_claims_of_any_shape_are_never_a_panic(alg in ".{0,8}", typ in ".{0,20}", iss in ".{0,20}", exp in any::<f64>(), signature in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mesh = mesh();
        let algs = [alg.as_str(), "EdDSA", "ES256", "RS256", "HS256"];
        for alg in algs {
            for (kid, iss) in [("e", ACME), ("r", ACME), ("d", DUO), ("x", iss.as_str())] {
                let mut claims = but("iss", json!(iss));
                claims["exp"] = json!(exp);
                let token = raw(&json!({"alg": alg, "kid": kid, "typ": "JWT"}), &claims, &signature);
                prop_assert!(mesh.check(&token).is_err());
                let token = raw(&json!({"alg": alg, "kid": kid, "typ": typ}), &claims, &signature);
                prop_assert!(mesh.check(&token).is_err());
            }
        }
    }

    #[test]
    fn no_bit_of_a_token_can_be_changed(at in any::<proptest::sample::Index>(), to in "[A-Za-z0-9_.-]") {
        let mesh = mesh();
        let good = mesh.dev.issue(&tenant("demo"), &user("ann"), None, 60, NOW_MS);
        let mut bad: Vec<char> = good.chars().collect();
        let at = at.index(bad.len());
        prop_assume!(bad[at] != to.chars().next().unwrap());
        bad[at] = to.chars().next().unwrap();
        prop_assert!(mesh.check(&bad.into_iter().collect::<String>()).is_err());
    }
}
