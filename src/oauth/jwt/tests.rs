//! Signatures against the RFCs' vectors and the public keys; keys in every format, and what is no key.

mod keys;
mod signatures;
mod vectors;

use aws_lc_rs::{encoding::AsDer, signature::EcdsaKeyPair};
use data_encoding::BASE64;
use secrecy::SecretString;

use super::{KeyError, SigningKey, key::Pair};

fn read(text: &str) -> Result<SigningKey, KeyError> {
    SigningKey::read(&SecretString::from(text))
}

fn key(text: &str) -> SigningKey {
    read(text).unwrap()
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in BASE64.encode(der).as_bytes().chunks(64) {
        text.push_str(str::from_utf8(line).unwrap());
        text.push('\n');
    }
    format!("{text}-----END {label}-----\n")
}

fn rsa_pkcs8() -> Vec<u8> {
    match key(vectors::RSA).pair {
        Pair::Rsa(pair) => AsDer::as_der(&pair).unwrap().as_ref().to_vec(),
        _ => unreachable!(),
    }
}

/// In a PKCS#8 key of this size, 26 bytes come before the PKCS#1 key.
fn rsa_pkcs1() -> Vec<u8> {
    rsa_pkcs8()[26..].to_vec()
}

fn sec1(pair: &EcdsaKeyPair) -> Vec<u8> {
    pair.private_key().as_der().unwrap().as_ref().to_vec()
}
