//! The certificate of a key, of which only the thumbprint is shown: how Microsoft Entra finds the key.

use aws_lc_rs::digest;
use data_encoding::BASE64URL_NOPAD;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{KeyError, SigningKey};

/// A certificate. Nothing in it is secret, and nothing in it is verified: the server knows it already.
#[derive(Clone, Debug)]
pub struct Certificate(CertificateDer<'static>);

/// How the header names the certificate (RFC 7515 sections 4.1.7 and 4.1.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thumbprint {
    /// `x5t#S256`: what Microsoft Entra's documentation asks for, together with PS256.
    #[default]
    Sha256,
    /// `x5t`: for servers that know only SHA-1, such as older AD FS. It identifies; it protects nothing.
    Sha1,
}

impl Certificate {
    /// Reads the first certificate of a PEM text, which by custom is the one of the key. The text may hold
    /// the key too.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(text: &str) -> Result<Self, KeyError> {
        CertificateDer::from_pem_slice(text.as_bytes())
            .map(Self)
            // The reader's own error quotes lines, and a key may be among them.
            .map_err(|_| KeyError::NotACertificate)
    }

    /// The base64url-encoded digest of the certificate's DER.
    #[must_use]
    pub fn thumbprint(&self, kind: Thumbprint) -> String {
        let algorithm = match kind {
            Thumbprint::Sha256 => &digest::SHA256,
            Thumbprint::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        };
        BASE64URL_NOPAD.encode(digest::digest(algorithm, &self.0).as_ref())
    }

    /// Whether the certificate is of this key. That the public key's bytes are in it is enough to tell a
    /// mix-up, which the server would answer with something less clear.
    pub(super) fn is_of(&self, key: &SigningKey) -> bool {
        let public = key.public_key();
        self.0.windows(public.len()).any(|bytes| bytes == public)
    }
}
