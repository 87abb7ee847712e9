//! Private keys in PEM: PKCS#8, PKCS#1 (what GitHub hands out) and SEC1.

use rustls::pki_types::pem::{PemObject, SectionKind};
use secrecy::{ExposeSecret, SecretSlice};

use super::{error::KeyError, key::Pair};

/// Whether `text` is meant to be PEM.
pub(super) fn looks_like(text: &str) -> bool {
    text.contains("-----BEGIN ")
}

/// The one private key in `text`. Certificates and parameters beside it do no harm.
pub(super) fn read(text: &str) -> Result<Pair, KeyError> {
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || text.contains("Proc-Type: 4,ENCRYPTED")
    {
        return Err(KeyError::Encrypted);
    }
    let mut found = None;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        // The reader's own error quotes lines.
        let (kind, der) = section.map_err(|_| KeyError::BrokenPem)?;
        let der = SecretSlice::from(der);
        if !is_private(kind) {
            continue;
        }
        if found.replace((kind, der)).is_some() {
            return Err(KeyError::SeveralKeys);
        }
    }
    let (kind, der) = found.ok_or_else(|| without_key(text))?;
    let der = der.expose_secret();
    match kind {
        SectionKind::RsaPrivateKey => Pair::from_pkcs1(der),
        SectionKind::EcPrivateKey => Pair::from_sec1(der),
        _ => Pair::from_pkcs8(der),
    }
}

fn is_private(kind: SectionKind) -> bool {
    matches!(
        kind,
        SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey
    )
}

/// What PEM is in which no section of a private key was found.
fn without_key(text: &str) -> KeyError {
    let has = |label: &str| text.contains(&format!("-----BEGIN {label}-----"));
    if has("OPENSSH PRIVATE KEY") {
        KeyError::OpenSsh
    } else if ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"]
        .into_iter()
        .any(has)
    {
        // Such a line is there, but not as a line of its own.
        KeyError::BrokenPem
    } else if text.contains("PRIVATE KEY") {
        KeyError::Unsupported
    } else if ["PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"]
        .into_iter()
        .any(has)
    {
        KeyError::Public
    } else {
        KeyError::NotAKey
    }
}
