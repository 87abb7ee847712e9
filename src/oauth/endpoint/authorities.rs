//! Certificate authorities that are trusted for one provider, beside those of the system.

use aws_lc_rs::digest;
use reqwest::Certificate;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Why a bundle cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It is no PEM: a line, a marker or the base64 inside is wrong.
    #[error(
        "it is not PEM (certificates between -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----)"
    )]
    NotPem,
    /// There is no certificate in it.
    #[error("it holds no certificate")]
    Empty,
    /// What is in the PEM is no certificate. Counted from 1.
    #[error("its certificate number {0} cannot be read")]
    NotACertificate(usize),
}

/// A bundle of certificate authorities.
#[derive(Clone, Debug)]
pub struct Authorities {
    certificates: Vec<Certificate>,
    hash: [u8; digest::SHA256_OUTPUT_LEN],
}

impl Authorities {
    /// Reads a PEM bundle. What stands between the certificates is not looked at.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(pem: &[u8]) -> Result<Self, BundleError> {
        let mut certificates = Vec::new();
        let mut context = digest::Context::new(&digest::SHA256);
        for (index, der) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let der = der.map_err(|_| BundleError::NotPem)?;
            let unreadable = BundleError::NotACertificate(index + 1);
            // The store reads it in full; a certificate of the HTTP client is only bytes until it connects.
            if RootCertStore::empty().add(der.clone()).is_err() {
                return Err(unreadable);
            }
            context.update(&der.len().to_be_bytes());
            context.update(&der);
            certificates.push(Certificate::from_der(&der).map_err(|_| unreadable)?);
        }
        if certificates.is_empty() {
            return Err(BundleError::Empty);
        }
        let mut hash = [0; digest::SHA256_OUTPUT_LEN];
        hash.copy_from_slice(context.finish().as_ref());
        Ok(Self { certificates, hash })
    }

    /// The certificates.
    pub(super) fn certificates(&self) -> Vec<Certificate> {
        self.certificates.clone()
    }

    /// The same for the same certificates, in this order.
    pub(super) fn hash(&self) -> [u8; digest::SHA256_OUTPUT_LEN] {
        self.hash
    }
}
