//! A private key, as it was read.

use std::fmt;

use aws_lc_rs::{
    error::KeyRejected,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P256K1_SHA256_FIXED_SIGNING,
        ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, RsaKeyPair,
    },
};
use secrecy::{ExposeSecret, SecretString};

use super::{Algorithm, KeyError, KeyType, jwk, pem, signer::SigningFailed};

/// A private key. It lives in the cryptography library, which wipes it, and is never formatted.
pub struct SigningKey {
    pub(super) pair: Pair,
    pub(super) kid: Option<String>,
    /// The `alg` of a JSON Web Key.
    pub(super) stated: Option<Algorithm>,
}

/// A key pair, checked by the library for whether its parts fit together.
pub(super) enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// Reads a key in PEM (PKCS#8, PKCS#1 as `RSA PRIVATE KEY`, SEC1 as `EC PRIVATE KEY`), or a private JSON
    /// Web Key (RFC 7517; RFC 7518 section 6, RFC 8037 section 2), of which `kid` and `alg` count too.
    ///
    /// # Errors
    /// Says what is wrong, without anything of the text.
    pub fn read(text: &SecretString) -> Result<Self, KeyError> {
        let text = text.expose_secret();
        // Some editors write a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
        if text.is_empty() {
            Err(KeyError::Empty)
        } else if text.starts_with('{') {
            jwk::read(text)
        } else if pem::looks_like(text) {
            pem::read(text).map(|pair| Self {
                pair,
                kid: None,
                stated: None,
            })
        } else {
            Err(KeyError::NotAKey)
        }
    }

    /// The key's identifier: a JSON Web Key's `kid`, a service account's `private_key_id`.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The key's type.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        match self.pair {
            Pair::Rsa(_) => KeyType::Rsa,
            Pair::P256(_) => KeyType::P256,
            Pair::P384(_) => KeyType::P384,
            Pair::Ed25519(_) => KeyType::Ed25519,
        }
    }

    /// The public half as it stands in certificates: `RSAPublicKey` (RFC 8017), or the point.
    pub(super) fn public_key(&self) -> &[u8] {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::P256(pair) | Pair::P384(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    /// A signature as RFC 7518 section 3 wants it. `algorithm` fits the key.
    pub(super) fn sign(
        &self,
        algorithm: Algorithm,
        message: &[u8],
    ) -> Result<Vec<u8>, SigningFailed> {
        if algorithm.key_type() != self.key_type() {
            return Err(SigningFailed);
        }
        // The library has its own source and ignores this one.
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let encoding = algorithm.rsa().ok_or(SigningFailed)?;
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature)
                    .map_err(|_| SigningFailed)?;
                Ok(signature)
            }
            Pair::P256(pair) | Pair::P384(pair) => pair
                .sign(&random, message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| SigningFailed),
            Pair::Ed25519(pair) => pair
                .try_sign(message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| SigningFailed),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.key_type())
    }
}

impl Pair {
    /// RFC 5208 and RFC 5958.
    pub(super) fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let rejected = match RsaKeyPair::from_pkcs8(der) {
            Ok(pair) => return Ok(Self::Rsa(pair)),
            Err(rejected) => rejected,
        };
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map(Self::P256)
            .or_else(|_| {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, der).map(Self::P384)
            })
            .or_else(|_| Ed25519KeyPair::from_pkcs8(der).map(Self::Ed25519))
            // What the first reader said tells a key of another type from no key.
            .map_err(|_| error(rejected))
    }

    /// `RSAPrivateKey` of RFC 8017 appendix A.1.2.
    pub(super) fn from_pkcs1(der: &[u8]) -> Result<Self, KeyError> {
        RsaKeyPair::from_der(der).map(Self::Rsa).map_err(error)
    }

    /// `ECPrivateKey` of RFC 5915.
    pub(super) fn from_sec1(der: &[u8]) -> Result<Self, KeyError> {
        EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map(Self::P256)
            .or_else(|_| {
                EcdsaKeyPair::from_private_key_der(&ECDSA_P384_SHA384_FIXED_SIGNING, der)
                    .map(Self::P384)
            })
            .map_err(|_| {
                // The reader of one curve tells a key on another curve from no key only by failing.
                let others = [
                    &ECDSA_P521_SHA512_FIXED_SIGNING,
                    &ECDSA_P256K1_SHA256_FIXED_SIGNING,
                ];
                let reads = |curve| EcdsaKeyPair::from_private_key_der(curve, der).is_ok();
                if others.into_iter().any(reads) {
                    KeyError::Unsupported
                } else {
                    KeyError::Malformed
                }
            })
    }
}

/// The library's reasons are a few fixed words.
pub(super) fn error(rejected: KeyRejected) -> KeyError {
    match rejected.description_() {
        "TooSmall" => KeyError::TooShort,
        "TooLarge" => KeyError::TooLong,
        "WrongAlgorithm" => KeyError::Unsupported,
        _ => KeyError::Malformed,
    }
}
