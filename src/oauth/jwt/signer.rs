//! A key with its header, and what comes out: the compact form (RFC 7515 section 3.1).

use data_encoding::BASE64URL_NOPAD;
use secrecy::SecretString;
use serde::Serialize;

use super::{Algorithm, Certificate, Claims, KeyError, KeyType, SigningKey, Thumbprint};

/// What the header says, beyond what the key says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Header<'a> {
    /// `alg`. Without it: what the key states, else PS256 where a certificate is named by SHA-256, else the
    /// default of the key's type. GitHub takes RS256 only: name it there, and other keys are refused here.
    pub algorithm: Option<Algorithm>,
    /// `kid`. Without it: the key's own, else none.
    pub kid: Option<&'a str>,
    /// The key's certificate, for `x5t#S256` or `x5t`.
    pub certificate: Option<&'a Certificate>,
    /// Which of the two.
    pub thumbprint: Thumbprint,
}

/// Signs claims with one key, one algorithm and one header.
#[derive(Debug)]
pub struct Signer {
    key: SigningKey,
    algorithm: Algorithm,
    /// Encoded.
    header: String,
}

/// The cryptography library failed, which it has no reason to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token could not be signed")]
pub struct SigningFailed;

#[derive(Serialize)]
struct Fields<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x5t: Option<String>,
    #[serde(rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    x5t_s256: Option<String>,
}

impl Signer {
    /// Binds a key to a header.
    ///
    /// # Errors
    /// When the algorithm is not one for this key, or the certificate is another key's.
    pub fn new(key: SigningKey, header: &Header<'_>) -> Result<Self, KeyError> {
        let algorithm = algorithm(&key, header)?;
        if header.certificate.is_some_and(|one| !one.is_of(&key)) {
            return Err(KeyError::OtherCertificate);
        }
        let thumbprint = |kind| {
            header
                .certificate
                .filter(|_| header.thumbprint == kind)
                .map(|certificate| certificate.thumbprint(kind))
        };
        let fields = Fields {
            alg: algorithm.name(),
            typ: "JWT",
            kid: header.kid.or(key.kid()),
            x5t: thumbprint(Thumbprint::Sha1),
            x5t_s256: thumbprint(Thumbprint::Sha256),
        };
        // Texts always become JSON.
        let header = serde_json::to_vec(&fields).map_err(|_| KeyError::Malformed)?;
        Ok(Self {
            key,
            algorithm,
            header: BASE64URL_NOPAD.encode(&header),
        })
    }

    /// The algorithm that was settled on.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The signed token. Until it expires, who has it is who it names.
    ///
    /// # Errors
    /// When the cryptography library fails.
    pub fn sign(&self, claims: &Claims) -> Result<SecretString, SigningFailed> {
        let claims = serde_json::to_vec(claims).map_err(|_| SigningFailed)?;
        let input = format!("{}.{}", self.header, BASE64URL_NOPAD.encode(&claims));
        let signature = self.key.sign(self.algorithm, input.as_bytes())?;
        // At its full size from the start, so that no copy of it stays behind.
        let size = input.len() + 1 + BASE64URL_NOPAD.encode_len(signature.len());
        let mut token = String::with_capacity(size);
        token.push_str(&input);
        token.push('.');
        BASE64URL_NOPAD.encode_append(&signature, &mut token);
        Ok(token.into())
    }
}

fn algorithm(key: &SigningKey, header: &Header<'_>) -> Result<Algorithm, KeyError> {
    let algorithm = match (header.algorithm, key.stated) {
        (Some(asked), Some(stated)) if asked != stated => {
            return Err(KeyError::OtherAlgorithm { stated, asked });
        }
        (Some(algorithm), _) | (None, Some(algorithm)) => algorithm,
        (None, None) => match (header.certificate, header.thumbprint, key.key_type()) {
            (Some(_), Thumbprint::Sha256, KeyType::Rsa) => Algorithm::Ps256,
            (_, _, key_type) => key_type.default_algorithm(),
        },
    };
    if algorithm.key_type() != key.key_type() {
        return Err(KeyError::DoesNotFit {
            algorithm,
            key: key.key_type(),
        });
    }
    Ok(algorithm)
}
