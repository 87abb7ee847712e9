//! Keys in every format, what is no key, and that nobody is told what was read.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use data_encoding::BASE64URL_NOPAD;
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{super::*, key, pem, read, rsa_pkcs1, rsa_pkcs8, sec1, vectors};

fn refused(text: &str) -> KeyError {
    read(text).unwrap_err()
}

/// A vector with some fields set, or removed by null.
fn with(jwk: &str, changes: Value) -> String {
    let mut jwk: Value = serde_json::from_str(jwk).unwrap();
    let Value::Object(changes) = changes else {
        unreachable!()
    };
    let fields = jwk.as_object_mut().unwrap();
    fields.extend(changes);
    fields.retain(|_, value| !value.is_null());
    jwk.to_string()
}

fn service_account(changes: Value) -> String {
    let file = json!({
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "0123abcd",
        "private_key": pem("PRIVATE KEY", &rsa_pkcs8()),
        "client_email": "robot@project.example",
        "client_id": "1234",
        "token_uri": "https://oauth2.example/token",
    });
    with(&file.to_string(), changes)
}

#[test]
fn rsa_keys_are_read_in_each_format() {
    let public = key(vectors::RSA).public_key().to_vec();
    for text in [
        pem("PRIVATE KEY", &rsa_pkcs8()),
        pem("RSA PRIVATE KEY", &rsa_pkcs1()),
        pem("RSA PRIVATE KEY", &rsa_pkcs1()).replace('\n', "\r\n"),
        format!("\u{feff}\n {}", vectors::RSA),
        format!("Bag Attributes\n\n{}", pem("PRIVATE KEY", &rsa_pkcs8())),
    ] {
        let key = key(&text);
        assert_eq!(key.key_type(), KeyType::Rsa);
        assert_eq!(key.public_key(), public);
        assert_eq!(key.kid(), None);
    }
}

#[test]
fn elliptic_keys_are_read_in_each_format() {
    for (algorithm, key_type) in [
        (&ECDSA_P256_SHA256_FIXED_SIGNING, KeyType::P256),
        (&ECDSA_P384_SHA384_FIXED_SIGNING, KeyType::P384),
    ] {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let parameters =
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        for text in [
            pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref()),
            pem("EC PRIVATE KEY", &sec1(&pair)),
            format!("{parameters}{}", pem("EC PRIVATE KEY", &sec1(&pair))),
        ] {
            let key = key(&text);
            assert_eq!(key.key_type(), key_type);
            assert_eq!(key.public_key(), pair.public_key().as_ref());
        }
    }
}

#[test]
fn an_elliptic_json_web_key_of_each_curve_is_read() {
    use aws_lc_rs::encoding::AsBigEndian;
    for (algorithm, crv, key_type) in [
        (&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", KeyType::P256),
        (&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", KeyType::P384),
    ] {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let jwk = json!({
            "kty": "EC",
            "crv": crv,
            "x": BASE64URL_NOPAD.encode(x),
            "y": BASE64URL_NOPAD.encode(y),
            "d": BASE64URL_NOPAD.encode(pair.private_key().as_be_bytes().unwrap().as_ref()),
        });
        let key = key(&jwk.to_string());
        assert_eq!(key.key_type(), key_type);
        assert_eq!(key.public_key(), pair.public_key().as_ref());
    }
}

#[test]
fn ed25519_keys_are_read_in_each_format() {
    let pair = Ed25519KeyPair::generate().unwrap();
    for document in [pair.to_pkcs8().unwrap(), pair.to_pkcs8v1().unwrap()] {
        let key = key(&pem("PRIVATE KEY", document.as_ref()));
        assert_eq!(key.key_type(), KeyType::Ed25519);
        assert_eq!(key.public_key(), pair.public_key().as_ref());
    }
    assert_eq!(key(vectors::ED25519).key_type(), KeyType::Ed25519);
}

#[test]
fn a_json_web_key_says_how_it_is_called_and_what_for() {
    let full = json!({
        "kid": "one", "alg": "PS256", "use": "sig", "key_ops": ["sign", "verify"], "x5c": ["MII"],
    });
    let jwk = key(&with(vectors::RSA, full));
    assert_eq!(jwk.kid(), Some("one"));
    let signer = Signer::new(jwk, &Header::default()).unwrap();
    assert_eq!(signer.algorithm(), Algorithm::Ps256);

    let refused = |changes| refused(&with(vectors::RSA, changes));
    assert_eq!(refused(json!({ "use": "enc" })), KeyError::NotForSigning);
    assert_eq!(
        refused(json!({ "key_ops": ["decrypt"] })),
        KeyError::NotForSigning
    );
    assert_eq!(
        refused(json!({ "alg": "RSA-OAEP" })),
        KeyError::UnknownAlgorithm(UnknownAlgorithm)
    );
}

#[test]
fn a_zero_in_front_of_an_rsa_number_does_no_harm() {
    let jwk: Value = serde_json::from_str(vectors::RSA).unwrap();
    let longer = |name: &str| {
        let number = jwk[name].as_str().unwrap();
        let number = BASE64URL_NOPAD.decode(number.as_bytes()).unwrap();
        BASE64URL_NOPAD.encode(&[&[0], &number[..]].concat())
    };
    let changes = json!({ "n": longer("n"), "d": longer("d"), "p": longer("p") });
    let public = key(vectors::RSA).public_key().to_vec();
    assert_eq!(key(&with(vectors::RSA, changes)).public_key(), public);
}

#[test]
fn what_is_no_usable_key_is_told_apart() {
    let pkcs8 = pem("PRIVATE KEY", &rsa_pkcs8());
    let p521 = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap();
    let p521_sec1 = pem("EC PRIVATE KEY", &sec1(&p521));
    let p521 = pem("PRIVATE KEY", p521.to_pkcs8v1().unwrap().as_ref());
    let headers = "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n";
    let legacy = pem("RSA PRIVATE KEY", b"x").replacen('\n', headers, 1);
    for (text, expected) in [
        (String::new(), KeyError::Empty),
        (" \n\u{feff}".to_owned(), KeyError::NotAKey),
        ("hunter2".to_owned(), KeyError::NotAKey),
        ("ssh-rsa AAAA me@here".to_owned(), KeyError::NotAKey),
        (pem("X509 CRL", b"x"), KeyError::NotAKey),
        (pem("ENCRYPTED PRIVATE KEY", b"x"), KeyError::Encrypted),
        (legacy, KeyError::Encrypted),
        (pem("PUBLIC KEY", b"x"), KeyError::Public),
        (pem("RSA PUBLIC KEY", b"x"), KeyError::Public),
        (vectors::CERTIFICATE.to_owned(), KeyError::Public),
        (pem("OPENSSH PRIVATE KEY", b"x"), KeyError::OpenSsh),
        (pem("DSA PRIVATE KEY", b"x"), KeyError::Unsupported),
        (p521, KeyError::Unsupported),
        (p521_sec1, KeyError::Unsupported),
        (pem("PRIVATE KEY", b"x"), KeyError::Malformed),
        (pem("RSA PRIVATE KEY", &rsa_pkcs8()), KeyError::Malformed),
        (pem("EC PRIVATE KEY", &rsa_pkcs1()), KeyError::Malformed),
        (pem("PRIVATE KEY", &rsa_pkcs1()), KeyError::Malformed),
        (vectors::RSA_1024.to_owned(), KeyError::TooShort),
        (format!("{pkcs8}{pkcs8}"), KeyError::SeveralKeys),
        // As a line of an environment file, in one line, indented, cut off, with a stray character.
        (pkcs8.replace('\n', "\\n"), KeyError::BrokenPem),
        (pkcs8.replace('\n', " "), KeyError::BrokenPem),
        (pkcs8.replace('\n', "\n  "), KeyError::BrokenPem),
        (pkcs8.replace("-----END", ""), KeyError::BrokenPem),
        (pkcs8.replacen("MII", "M!I", 1), KeyError::BrokenPem),
    ] {
        assert_eq!(refused(&text), expected);
    }
}

#[test]
fn a_short_rsa_key_is_told_apart_in_each_format() {
    let der = vectors::RSA_1024
        .lines()
        .filter(|line| !line.starts_with('-'));
    let der: String = der.collect();
    let der = data_encoding::BASE64.decode(der.as_bytes()).unwrap();
    let algorithm = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    let size = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
    let pkcs8 = [
        &[0x30, 0x82],
        &size(22 + der.len())[..],
        &[2, 1, 0],
        algorithm,
        &[4, 0x82],
        &size(der.len()),
        &der,
    ]
    .concat();
    assert_eq!(refused(&pem("PRIVATE KEY", &pkcs8)), KeyError::TooShort);

    let mut jwk = json!({ "kty": "RSA" });
    let mut rest = &der[4..];
    for name in ["version", "n", "e", "d", "p", "q", "dp", "dq", "qi"] {
        let (size, after) = match rest {
            [2, 0x81, size, after @ ..] | [2, size, after @ ..] => (usize::from(*size), after),
            _ => unreachable!(),
        };
        jwk[name] = BASE64URL_NOPAD.encode(&after[..size]).into();
        rest = &after[size..];
    }
    assert_eq!(refused(&jwk.to_string()), KeyError::TooShort);
}

#[test]
fn what_is_no_usable_json_web_key_is_told_apart() {
    let rsa = |changes| refused(&with(vectors::RSA, changes));
    let p256 = |changes| refused(&with(vectors::P256, changes));
    let ed25519 = |changes| refused(&with(vectors::ED25519, changes));
    let short = BASE64URL_NOPAD.encode(&[1; 31]);
    let other = BASE64URL_NOPAD.encode(&[1; 32]);
    for (error, expected) in [
        (refused("{"), KeyError::BrokenJson),
        (refused("{}"), KeyError::Missing("kty")),
        (refused(r#"{"keys":[]}"#), KeyError::SeveralKeys),
        (refused(r#"{"kty":"oct","k":"AA"}"#), KeyError::Unsupported),
        (refused(vectors::P521), KeyError::Unsupported),
        (
            refused(&service_account(json!({}))),
            KeyError::ServiceAccountFile,
        ),
        (rsa(json!({ "d": null })), KeyError::Public),
        (p256(json!({ "d": null })), KeyError::Public),
        (ed25519(json!({ "d": null })), KeyError::Public),
        (rsa(json!({ "n": null })), KeyError::Missing("n")),
        (rsa(json!({ "qi": null })), KeyError::Missing("qi")),
        (p256(json!({ "y": null })), KeyError::Missing("y")),
        (p256(json!({ "crv": null })), KeyError::Missing("crv")),
        (ed25519(json!({ "crv": "X25519" })), KeyError::Unsupported),
        (rsa(json!({ "oth": [] })), KeyError::Unsupported),
        (rsa(json!({ "d": "A" })), KeyError::BrokenJson),
        (rsa(json!({ "d": "+/==" })), KeyError::BrokenJson),
        (rsa(json!({ "d": 7 })), KeyError::BrokenJson),
        (rsa(json!({ "d": other })), KeyError::Malformed),
        (rsa(json!({ "n": "" })), KeyError::Malformed),
        (p256(json!({ "d": short })), KeyError::Malformed),
        (p256(json!({ "d": other })), KeyError::Malformed),
        (p256(json!({ "x": other })), KeyError::Malformed),
        (ed25519(json!({ "d": short })), KeyError::Malformed),
        (ed25519(json!({ "d": other })), KeyError::Malformed),
        (ed25519(json!({ "x": short })), KeyError::Malformed),
    ] {
        assert_eq!(error, expected);
    }
}

#[test]
fn a_service_accounts_file_says_who_signs_with_what_for_where() {
    let read = |text: &str| ServiceAccountKey::read(&SecretString::from(text));
    let account = read(&service_account(json!({}))).unwrap();
    assert_eq!(account.issuer, "robot@project.example");
    assert_eq!(account.token_uri, "https://oauth2.example/token");
    assert_eq!(account.key.kid(), Some("0123abcd"));
    assert_eq!(account.key.public_key(), key(vectors::RSA).public_key());
    let anonymous = read(&service_account(json!({ "private_key_id": null }))).unwrap();
    assert_eq!(anonymous.key.kid(), None);

    for (changes, expected) in [
        (
            json!({ "type": "authorized_user" }),
            KeyError::NotServiceAccount,
        ),
        (json!({ "type": null }), KeyError::NotServiceAccount),
        (
            json!({ "client_email": "" }),
            KeyError::Missing("client_email"),
        ),
        (json!({ "token_uri": null }), KeyError::Missing("token_uri")),
        (
            json!({ "private_key": null }),
            KeyError::Missing("private_key"),
        ),
        (json!({ "private_key": "" }), KeyError::Empty),
        (json!({ "private_key": ["x"] }), KeyError::BrokenJson),
        (
            json!({ "private_key": vectors::CERTIFICATE }),
            KeyError::Public,
        ),
    ] {
        assert_eq!(read(&service_account(changes)).unwrap_err(), expected);
    }
    assert_eq!(read("").unwrap_err(), KeyError::Empty);
    assert_eq!(read("{").unwrap_err(), KeyError::BrokenJson);
    assert_eq!(
        read(&pem("PRIVATE KEY", &rsa_pkcs8())).unwrap_err(),
        KeyError::NotServiceAccount
    );
}

/// Whether `shown` repeats eight characters in a row of what was read, as they are or as numbers.
fn repeats(shown: &str, text: &str) -> bool {
    let characters: Vec<char> = text.chars().collect();
    characters.windows(8).any(|part| {
        let part: String = part.iter().collect();
        // Labels and names of fields are in our own words too.
        let word = |c: char| c.is_ascii_alphabetic() || "-_ \":".contains(c);
        let numbers = format!("{:?}", part.as_bytes());
        !part.chars().all(word) && shown.contains(&part)
            || shown.contains(numbers.trim_matches(['[', ']']))
    })
}

#[test]
fn a_key_in_the_wrong_place_is_not_repeated_in_an_error() {
    const CANARY: &str = "c4n4ry-0123456789-c4n4ry";
    for text in [
        CANARY.to_owned(),
        format!("{{{CANARY}"),
        format!("{{\"kty\":\"{CANARY}\"}}"),
        format!("{{\"kty\":[\"{CANARY}\"]}}"),
        format!("{{\"kty\":\"OKP\",\"crv\":\"{CANARY}\"}}"),
        format!("{{\"keys\":\"{CANARY}\"}}"),
        with(vectors::RSA, json!({ "key_ops": CANARY })),
        with(vectors::RSA, json!({ "use": CANARY })),
        with(vectors::RSA, json!({ "alg": CANARY })),
        with(vectors::RSA, json!({ "d": { CANARY: CANARY } })),
        with(vectors::RSA, json!({ "d": CANARY })),
        format!("{{\"type\":\"{CANARY}\"}}"),
        format!("{{\"type\":[\"{CANARY}\"]}}"),
        service_account(json!({ "private_key": [CANARY] })),
        service_account(json!({ "private_key": CANARY })),
        service_account(json!({ "private_key": CANARY.repeat(3), "token_uri": 1 })),
        service_account(json!({ "private_key_id": { CANARY: 1 } })),
        format!("-----BEGIN {CANARY}"),
        format!("-----BEGIN {CANARY}-----\n{CANARY}"),
        format!("-----BEGIN PRIVATE KEY----- {CANARY}"),
        format!("-----BEGIN CERTIFICATE-----\n{CANARY}\n-----END CERTIFICATE-----"),
        pem("PRIVATE KEY", CANARY.as_bytes()),
    ] {
        let secret = SecretString::from(text.as_str());
        let errors = [
            SigningKey::read(&secret).err(),
            ServiceAccountKey::read(&secret).err(),
            Certificate::read(&text).err(),
        ];
        for error in errors {
            let shown = format!("{error:?} {}", error.unwrap());
            assert!(!repeats(&shown, &text), "{shown}");
        }
    }
}

#[test]
fn no_debug_shows_anything_of_a_key() {
    let texts = [
        vectors::RSA.to_owned(),
        vectors::P256.to_owned(),
        vectors::ED25519.to_owned(),
        pem("PRIVATE KEY", &rsa_pkcs8()),
    ];
    for text in texts {
        let shown = format!("{:?}", key(&text));
        assert!(!repeats(&shown, &text), "{shown}");
        let signer = Signer::new(key(&text), &Header::default()).unwrap();
        let shown = format!("{signer:?}");
        assert!(!repeats(&shown, &text), "{shown}");
    }
    let text = service_account(json!({ "client_email": "me", "token_uri": "t" }));
    let account = ServiceAccountKey::read(&SecretString::from(text.as_str())).unwrap();
    let shown = format!("{account:?}");
    assert!(!repeats(&shown, &text), "{shown}");
    assert_eq!(format!("{:?}", key(vectors::P256)), "SigningKey(EC P-256)");
}

fn damaged() -> impl Strategy<Value = String> {
    let texts = prop::sample::select(vec![
        vectors::RSA.to_owned(),
        vectors::P256.to_owned(),
        vectors::ED25519.to_owned(),
        vectors::RSA_1024.to_owned(),
        pem("PRIVATE KEY", &rsa_pkcs8()),
        service_account(json!({})),
    ]);
    let change = (any::<prop::sample::Index>(), 0..40_usize, "[ -~\n]{0,12}");
    (texts, prop::collection::vec(change, 1..4)).prop_map(|(mut text, changes)| {
        for (at, cut, put) in changes {
            let at = at.index(text.len());
            let end = text.len().min(at + cut);
            text.replace_range(at..end, &put);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_damaged_key_is_never_repeated_in_an_error(text in damaged()) {
        let secret = SecretString::from(text.as_str());
        let errors = [
            SigningKey::read(&secret).err(),
            ServiceAccountKey::read(&secret).err(),
            Certificate::read(&text).err(),
        ];
        for error in errors.into_iter().flatten() {
            let shown = format!("{error} {error:?}");
            prop_assert!(!repeats(&shown, &text), "{}", shown);
        }
    }

    #[test]
    fn no_text_makes_the_readers_panic(text in any::<String>()) {
        for text in [text.clone(), format!("{{{text}}}"), format!("-----BEGIN {text}")] {
            let secret = SecretString::from(text.as_str());
            let _ = SigningKey::read(&secret);
            let _ = ServiceAccountKey::read(&secret);
            let _ = Certificate::read(&text);
        }
    }
}
