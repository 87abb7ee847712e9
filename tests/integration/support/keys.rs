//! Keys that sign assertions, made for one test.

use aws_lc_rs::{
    encoding::AsDer,
    rsa::KeySize,
    signature::{Ed25519KeyPair, KeyPair, RsaKeyPair},
};
use data_encoding::BASE64;

use crate::oauth_server::PublicKey;

/// What stands before an RSA key of 2048 bits in PKCS#8: the rest is PKCS#1.
const PKCS8_HEAD: usize = 26;

/// A key pair.
pub enum Key {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl Key {
    pub fn rsa() -> Self {
        Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
    }

    pub fn ed25519() -> Self {
        Self::Ed25519(Box::new(Ed25519KeyPair::generate().unwrap()))
    }

    /// The private key as PKCS#8 in PEM.
    pub fn pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8())
    }

    /// The private RSA key as PKCS#1 in PEM, as GitHub hands it out.
    pub fn pkcs1(&self) -> String {
        pem("RSA PRIVATE KEY", &self.pkcs8()[PKCS8_HEAD..])
    }

    fn pkcs8(&self) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => pair.as_der().unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.to_pkcs8v1().unwrap().as_ref().to_vec(),
        }
    }

    /// The public half, as a server knows it.
    pub fn public(&self, kid: Option<&str>) -> PublicKey {
        match self {
            Self::Rsa(pair) => PublicKey::rsa(kid, pair.public_key().as_ref()),
            Self::Ed25519(pair) => PublicKey::ed25519(kid, pair.public_key().as_ref()),
        }
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in BASE64.encode(der).as_bytes().chunks(64) {
        text += std::str::from_utf8(line).unwrap();
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
