//! Why a key or a certificate cannot be used. Nothing of the value is repeated: it is, or may be, a secret.

use super::{Algorithm, KeyType, UnknownAlgorithm};

/// What is wrong with a key. To be read behind the name of the value: "private_key: it is empty".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing but white space.
    #[error("it is empty")]
    Empty,
    /// Neither of the two formats.
    #[error("it is neither a private key in PEM nor a JSON Web Key")]
    NotAKey,
    /// PEM that cannot be read: often the line breaks are gone, or stand there as backslash and n.
    #[error("it looks like PEM, but cannot be read: are its line breaks and its last line there?")]
    BrokenPem,
    /// JSON that cannot be read, or with fields of other types or encodings than a key's.
    #[error("it looks like JSON, but cannot be read as a key")]
    BrokenJson,
    /// It needs a passphrase.
    #[error("the key is encrypted: it must come without a passphrase")]
    Encrypted,
    /// The public half, or a certificate without the key.
    #[error("it is a public key or a certificate: signing needs the private key")]
    Public,
    /// The format of ssh-keygen.
    #[error("the key is in the format of OpenSSH: convert it with ssh-keygen -p -m PKCS8")]
    OpenSsh,
    /// Which of them is meant is not for us to guess.
    #[error("there are several keys: only one may be given")]
    SeveralKeys,
    /// A key file of a Google service account, where a key alone is expected.
    #[error("it is the key file of a service account, and a private key alone is expected here")]
    ServiceAccountFile,
    /// Something else, where a key file of a Google service account is expected.
    #[error("it is not the key file of a service account: its type is not service_account")]
    NotServiceAccount,
    /// A field that is needed.
    #[error("its field {0} is missing")]
    Missing(&'static str),
    /// A key for which there is no algorithm here.
    #[error("its type of key is not supported: RSA, EC on P-256 or P-384, and Ed25519 are")]
    Unsupported,
    /// The right format, with something else in it.
    #[error(
        "it is no private key of a supported type, or parts of it are missing or do not fit together"
    )]
    Malformed,
    /// RFC 7518 section 3.3 asks for 2048 bits.
    #[error("the RSA key is shorter than 2048 bits")]
    TooShort,
    /// Longer than the cryptography library signs with.
    #[error("the RSA key is longer than 8192 bits")]
    TooLong,
    /// RFC 7517 sections 4.2 and 4.3.
    #[error("the JSON Web Key is not for signing: see its use and key_ops")]
    NotForSigning,
    /// RFC 7517 section 4.4.
    #[error("the algorithm that the JSON Web Key states is not supported: {0}")]
    UnknownAlgorithm(#[from] UnknownAlgorithm),
    /// RFC 7517 section 4.4: a key that states its algorithm is for no other.
    #[error("the JSON Web Key is for {stated}, and {asked} is asked for")]
    OtherAlgorithm {
        /// What the key says.
        stated: Algorithm,
        /// What the provider is said to expect.
        asked: Algorithm,
    },
    /// An algorithm that signs with other keys.
    #[error("{algorithm} signs with a key of type {}, and this key is of type {key}", algorithm.key_type())]
    DoesNotFit {
        /// The algorithm.
        algorithm: Algorithm,
        /// The key's type.
        key: KeyType,
    },
    /// The certificate, not the key.
    #[error("the certificate cannot be read: it must be in PEM")]
    NotACertificate,
    /// The certificate is of another key: every assertion would be refused.
    #[error("the certificate does not belong to the private key")]
    OtherCertificate,
}
