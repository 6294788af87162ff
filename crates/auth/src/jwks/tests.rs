use serde_json::{Value, json};

use super::*;

/// Of RFC 8037, appendix A.2; RFC 7515, appendix A.3; RFC 7515, appendix A.2.
const ED25519_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const P256_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const P256_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
const RSA_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yR\
T-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2\
CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRW\
yuXpoQ";

fn ed() -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": "d", "x": ED25519_X})
}

fn ec() -> Value {
    json!({"kty": "EC", "crv": "P-256", "kid": "e", "x": P256_X, "y": P256_Y})
}

fn rsa() -> Value {
    json!({"kty": "RSA", "kid": "r", "n": RSA_N, "e": "AQAB"})
}

fn parse(keys: &[Value]) -> Result<Jwks, KeyError> {
    Jwks::parse(&json!({ "keys": keys }).to_string())
}

fn with(mut key: Value, field: &str, value: impl Into<Value>) -> Value {
    key[field] = value.into();
    key
}

#[test]
fn each_key_has_one_algorithm() {
    let set = parse(&[ed(), ec(), rsa()]).unwrap();
    let algorithm = |kid| set.find(Some(kid)).unwrap().algorithm;
    assert_eq!(
        [algorithm("d"), algorithm("e"), algorithm("r")],
        [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256]
    );
    assert!(set.find(Some("x")).is_none());
    assert!(set.find(None).is_none());
    assert!(parse(&[ed()]).unwrap().find(None).is_some());
}

#[test]
fn keys_for_other_things_are_left_out() {
    let others = [
        with(rsa(), "use", "enc"),
        with(rsa(), "alg", "PS256"),
        with(ec(), "crv", "P-384"),
        with(ed(), "crv", "X25519"),
        json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "h"}),
        json!({"kty": "AKP", "kid": "pq"}),
    ];
    assert_eq!(parse(&[&others[..], &[ed()]].concat()).unwrap().0.len(), 1);
    let error = parse(&others).unwrap_err().to_string();
    assert!(error.contains("no EdDSA, ES256 or RS256"), "{error}");
    assert_eq!(parse(&[with(with(rsa(), "use", "sig"), "alg", "RS256")]).unwrap().0.len(), 1);
    assert_eq!(parse(&[with(ed(), "alg", "Ed25519")]).unwrap().0.len(), 1);
}

#[test]
fn a_malformed_weak_or_private_key_is_named() {
    let point_of_order_one = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let cases = [
        (with(ed(), "x", "AAAA"), "x is not 32 bytes"),
        (with(ed(), "x", "!"), "a part is not base64url"),
        (with(ed(), "x", point_of_order_one), "is a weak key"),
        (with(ed(), "d", "secret"), "is a private key"),
        (with(ec(), "y", P256_X), "x and y are not a point of P-256"),
        (with(ec(), "y", "AAAA"), "x and y are not 32 bytes each"),
        (json!({"kty": "EC", "crv": "P-256", "x": P256_X}), "lacks a part"),
        (with(rsa(), "n", &RSA_N[..172]), "n is not of 2048 to 4096 bits"),
        (with(rsa(), "n", RSA_N.repeat(3)), "n is not of 2048 to 4096 bits"),
        (with(rsa(), "e", "AQ"), "e is not an odd number from 3"),
        (with(rsa(), "e", "Ag"), "e is not an odd number from 3"),
        (with(rsa(), "e", ""), "e is not an odd number from 3"),
        (ed(), "has the kid of an earlier one"),
    ];
    for (bad, why) in cases {
        let error = parse(&[ed(), bad]).unwrap_err().to_string();
        assert!(error.contains("key 2: ") && error.contains(why), "{error}, not {why}");
    }
}

#[test]
fn what_is_no_key_set_says_so() {
    for text in ["", "{}", "[]", r#"{"keys":{}}"#, r#"{"keys":[{}]}"#, r#"{"keys":[]}"#] {
        assert!(Jwks::parse(text).is_err(), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn garbage_is_never_a_panic(text in ".{0,200}", x in "[A-Za-z0-9_-]{0,90}", y in "[A-Za-z0-9_-]{40,50}") {
        let _ = Jwks::parse(&text);
        for key in [with(ed(), "x", x.clone()), with(with(ec(), "x", x.clone()), "y", y.clone()), with(with(rsa(), "n", x.repeat(6)), "e", y)] {
            let _ = parse(&[key]);
        }
    }
}
