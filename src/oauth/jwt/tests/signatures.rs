//! What is signed, seen by someone who has the public key.

use aws_lc_rs::signature::{
    self, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{super::*, key, pem, read, vectors};

fn decode(text: &str) -> Vec<u8> {
    BASE64URL_NOPAD.decode(text.as_bytes()).unwrap()
}

fn verifier(algorithm: Algorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
        Algorithm::EdDsa => &signature::ED25519,
    }
}

/// Header and claims of a token whose signature was verified.
fn verified(token: &SecretString, algorithm: Algorithm, public: &[u8]) -> (Value, Value) {
    let (input, signature) = token.expose_secret().rsplit_once('.').unwrap();
    UnparsedPublicKey::new(verifier(algorithm), public)
        .verify(input.as_bytes(), &decode(signature))
        .unwrap();
    let (header, claims) = input.split_once('.').unwrap();
    let json = |part| serde_json::from_slice(&decode(part)).unwrap();
    (json(header), json(claims))
}

fn p384() -> SigningKey {
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    read(&pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref())).unwrap()
}

fn claims() -> Claims {
    GithubApp { issuer: "Iv1.abc" }.claims(Timestamp::UNIX_EPOCH)
}

fn signed(key: SigningKey, header: &Header<'_>) -> (Value, Value) {
    let public = key.public_key().to_vec();
    let signer = Signer::new(key, header).unwrap();
    let token = signer.sign(&claims()).unwrap();
    verified(&token, signer.algorithm(), &public)
}

#[test]
fn the_rsa_and_ed25519_vectors_come_out_to_the_byte() {
    for (jwk, algorithm, input, signature) in [
        (
            vectors::RSA,
            Algorithm::Rs256,
            vectors::RS256_INPUT,
            vectors::RS256_SIGNATURE,
        ),
        (
            vectors::ED25519,
            Algorithm::EdDsa,
            vectors::EDDSA_INPUT,
            vectors::EDDSA_SIGNATURE,
        ),
    ] {
        let ours = key(jwk).sign(algorithm, input.as_bytes()).unwrap();
        assert_eq!(BASE64URL_NOPAD.encode(&ours), signature);
    }
}

#[test]
fn the_vector_on_p256_and_our_own_signature_verify_alike() {
    let key = key(vectors::P256);
    let public = UnparsedPublicKey::new(verifier(Algorithm::Es256), key.public_key());
    let input = vectors::ES256_INPUT.as_bytes();
    let theirs = decode(vectors::ES256_SIGNATURE);
    let ours = key.sign(Algorithm::Es256, input).unwrap();
    assert_eq!(ours.len(), 64);
    public.verify(input, &theirs).unwrap();
    public.verify(input, &ours).unwrap();
}

#[test]
fn every_algorithm_verifies_and_is_named_in_the_header() {
    for (name, key) in [
        ("RS256", key(vectors::RSA)),
        ("RS384", key(vectors::RSA)),
        ("RS512", key(vectors::RSA)),
        ("PS256", key(vectors::RSA)),
        ("PS384", key(vectors::RSA)),
        ("PS512", key(vectors::RSA)),
        ("ES256", key(vectors::P256)),
        ("ES384", p384()),
        ("EdDSA", key(vectors::ED25519)),
    ] {
        let header = Header {
            algorithm: Some(name.parse().unwrap()),
            ..Header::default()
        };
        let (header, claims) = signed(key, &header);
        assert_eq!(header, json!({ "alg": name, "typ": "JWT" }));
        assert_eq!(
            claims,
            json!({ "iss": "Iv1.abc", "iat": -60, "exp": 540 }),
            "{name}"
        );
    }
}

#[test]
fn the_algorithm_follows_from_the_key_where_none_is_named() {
    for (key, name) in [
        (key(vectors::RSA), "RS256"),
        (key(vectors::P256), "ES256"),
        (p384(), "ES384"),
        (key(vectors::ED25519), "EdDSA"),
        (
            key(&vectors::RSA.replace("\"kty\"", r#""alg":"PS512","kty""#)),
            "PS512",
        ),
    ] {
        assert_eq!(signed(key, &Header::default()).0["alg"], name);
    }
}

#[test]
fn the_kid_is_the_one_given_or_the_keys_own() {
    let jwk = vectors::P256.replace("\"kty\"", r#""kid":"own \"1\"","kty""#);
    let header = |kid| Header {
        kid,
        ..Header::default()
    };
    assert_eq!(signed(key(&jwk), &header(None)).0["kid"], "own \"1\"");
    assert_eq!(signed(key(&jwk), &header(Some("mine"))).0["kid"], "mine");
    assert!(
        signed(key(vectors::P256), &header(None))
            .0
            .get("kid")
            .is_none()
    );
}

#[test]
fn a_certificate_is_shown_by_its_thumbprint() {
    let certificate = Certificate::read(vectors::CERTIFICATE).unwrap();
    let header = |thumbprint| Header {
        certificate: Some(&certificate),
        thumbprint,
        ..Header::default()
    };
    assert_eq!(
        signed(key(vectors::RSA), &header(Thumbprint::Sha256)).0,
        json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": vectors::CERTIFICATE_SHA256 })
    );
    assert_eq!(
        signed(key(vectors::RSA), &header(Thumbprint::Sha1)).0,
        json!({ "alg": "RS256", "typ": "JWT", "x5t": vectors::CERTIFICATE_SHA1 })
    );
    let named = Header {
        algorithm: Some(Algorithm::Rs256),
        ..header(Thumbprint::Sha256)
    };
    assert_eq!(signed(key(vectors::RSA), &named).0["alg"], "RS256");
}

#[test]
fn a_certificate_and_its_key_may_stand_in_one_file() {
    let both = format!(
        "{}{}",
        pem("PRIVATE KEY", &super::rsa_pkcs8()),
        vectors::CERTIFICATE
    );
    let certificate = Certificate::read(&both).unwrap();
    let header = Header {
        certificate: Some(&certificate),
        ..Header::default()
    };
    let header = signed(read(&both).unwrap(), &header).0;
    assert_eq!(header["x5t#S256"], vectors::CERTIFICATE_SHA256);
}

#[test]
fn another_keys_certificate_is_refused() {
    let certificate = Certificate::read(vectors::CERTIFICATE).unwrap();
    let header = Header {
        certificate: Some(&certificate),
        ..Header::default()
    };
    let error = Signer::new(key(vectors::P256), &header).unwrap_err();
    assert_eq!(error, KeyError::OtherCertificate);
    for text in [
        "",
        "MIID",
        vectors::RSA_1024,
        "-----BEGIN CERTIFICATE-----\nMII",
    ] {
        let error = Certificate::read(text).unwrap_err();
        assert_eq!(error, KeyError::NotACertificate);
    }
}

#[test]
fn an_algorithm_that_is_not_the_keys_is_refused() {
    let refused = |key, algorithm| {
        let header = Header {
            algorithm: Some(algorithm),
            ..Header::default()
        };
        Signer::new(key, &header).unwrap_err().to_string()
    };
    assert_eq!(
        refused(key(vectors::P256), Algorithm::Rs256),
        "RS256 signs with a key of type RSA, and this key is of type EC P-256"
    );
    assert_eq!(
        refused(key(vectors::P256), Algorithm::Es384),
        "ES384 signs with a key of type EC P-384, and this key is of type EC P-256"
    );
    let stated = vectors::RSA.replace("\"kty\"", r#""alg":"RS256","kty""#);
    assert_eq!(
        refused(key(&stated), Algorithm::Ps256),
        "the JSON Web Key is for RS256, and PS256 is asked for"
    );
    let wrong = vectors::RSA.replace("\"kty\"", r#""alg":"ES256","kty""#);
    let error = Signer::new(key(&wrong), &Header::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ES256 signs with a key of type EC P-256, and this key is of type RSA"
    );
}
