//! Private JSON Web Keys (RFC 7517; their parameters are those of RFC 7518 section 6 and RFC 8037).

use std::fmt;

use aws_lc_rs::{
    rsa::{KeyPairComponents, PublicKeyComponents},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, RsaKeyPair,
    },
};
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret, SecretSlice};
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, Visitor},
};

use super::{
    KeyError, SigningKey,
    key::{Pair, error},
};

#[derive(Deserialize)]
struct Jwk {
    kty: Option<String>,
    crv: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    n: Option<Part>,
    e: Option<Part>,
    d: Option<Part>,
    p: Option<Part>,
    q: Option<Part>,
    dp: Option<Part>,
    dq: Option<Part>,
    qi: Option<Part>,
    x: Option<Part>,
    y: Option<Part>,
    /// RSA with more than two primes.
    oth: Option<IgnoredAny>,
    /// A set of keys (RFC 7517 section 5).
    keys: Option<IgnoredAny>,
    /// A service account's file.
    #[serde(rename = "type")]
    file: Option<IgnoredAny>,
}

/// Decoded base64url.
struct Part(SecretSlice<u8>);

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Decode;

        impl Visitor<'_> for Decode {
            type Value = Part;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64url")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Part, E> {
                BASE64URL_NOPAD
                    .decode(text.as_bytes())
                    .map(|bytes| Part(bytes.into()))
                    .map_err(|_| E::custom("not base64url"))
            }
        }

        deserializer.deserialize_str(Decode)
    }
}

/// Reads a JSON object.
pub(super) fn read(text: &str) -> Result<SigningKey, KeyError> {
    // The parser's own error quotes values.
    let jwk: Jwk = serde_json::from_str(text).map_err(|_| KeyError::BrokenJson)?;
    let Some(kty) = jwk.kty.as_deref() else {
        return Err(if jwk.keys.is_some() {
            KeyError::SeveralKeys
        } else if jwk.file.is_some() {
            KeyError::ServiceAccountFile
        } else {
            KeyError::Missing("kty")
        });
    };
    let pair = match (kty, jwk.crv.as_deref()) {
        ("RSA", _) => rsa(&jwk)?,
        ("EC", Some("P-256")) => Pair::P256(elliptic(&jwk, &ECDSA_P256_SHA256_FIXED_SIGNING, 32)?),
        ("EC", Some("P-384")) => Pair::P384(elliptic(&jwk, &ECDSA_P384_SHA384_FIXED_SIGNING, 48)?),
        ("OKP", Some("Ed25519")) => ed25519(&jwk)?,
        ("EC" | "OKP", None) => return Err(KeyError::Missing("crv")),
        _ => return Err(KeyError::Unsupported),
    };
    let purpose = jwk.purpose.as_deref().unwrap_or("sig");
    let signs = |ops: &Vec<String>| ops.iter().any(|op| op == "sign");
    if purpose != "sig" || !jwk.key_ops.as_ref().is_none_or(signs) {
        return Err(KeyError::NotForSigning);
    }
    Ok(SigningKey {
        pair,
        kid: jwk.kid,
        stated: jwk.alg.as_deref().map(str::parse).transpose()?,
    })
}

/// RFC 7518 section 6.3. The factors may be left out there; a key without them is rare, and not accepted.
fn rsa(jwk: &Jwk) -> Result<Pair, KeyError> {
    let n = unsigned(part(jwk.n.as_ref(), "n")?);
    let e = unsigned(part(jwk.e.as_ref(), "e")?);
    let d = private(jwk.d.as_ref())?;
    if jwk.oth.is_some() {
        return Err(KeyError::Unsupported);
    }
    let components = KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d,
        p: part(jwk.p.as_ref(), "p")?,
        q: part(jwk.q.as_ref(), "q")?,
        dP: part(jwk.dp.as_ref(), "dp")?,
        dQ: part(jwk.dq.as_ref(), "dq")?,
        qInv: part(jwk.qi.as_ref(), "qi")?,
    };
    RsaKeyPair::from_components(&components)
        .map(Pair::Rsa)
        .map_err(error)
}

/// RFC 7518 section 6.2: every number has the `size` of the curve's field, in bytes.
fn elliptic(
    jwk: &Jwk,
    algorithm: &'static EcdsaSigningAlgorithm,
    size: usize,
) -> Result<EcdsaKeyPair, KeyError> {
    let d = private(jwk.d.as_ref())?;
    let (x, y) = (part(jwk.x.as_ref(), "x")?, part(jwk.y.as_ref(), "y")?);
    if [d, x, y].into_iter().any(|number| number.len() != size) {
        return Err(KeyError::Malformed);
    }
    // The uncompressed form of a point (SEC 1 section 2.3.3).
    let point = [&[4], x, y].concat();
    EcdsaKeyPair::from_private_key_and_public_key(algorithm, d, &point).map_err(error)
}

/// RFC 8037 section 2.
fn ed25519(jwk: &Jwk) -> Result<Pair, KeyError> {
    let d = private(jwk.d.as_ref())?;
    let x = part(jwk.x.as_ref(), "x")?;
    if d.len() != 32 {
        return Err(KeyError::Malformed);
    }
    Ed25519KeyPair::from_seed_and_public_key(d, x)
        .map(Pair::Ed25519)
        .map_err(error)
}

fn private(d: Option<&Part>) -> Result<&[u8], KeyError> {
    part(d, "d").map_err(|_| KeyError::Public)
}

fn part<'a>(part: Option<&'a Part>, name: &'static str) -> Result<&'a [u8], KeyError> {
    part.map(|part| part.0.expose_secret())
        .ok_or(KeyError::Missing(name))
}

/// Without the zero in front that some programs write, against RFC 7518 section 2.
fn unsigned(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
