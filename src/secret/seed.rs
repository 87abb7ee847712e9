//! The seed: an authorization as its user hands it over, in a Secret that belongs to the user.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use secrecy::{ExposeSecret, SecretString};

use super::{ValueError, keyed_hash, token};
use crate::api::GrantType;

/// The data key of a first refresh token.
pub const REFRESH_TOKEN: &str = "refresh_token";
/// The data key of an authorization code; counts only where there is no refresh token.
pub const AUTHORIZATION_CODE: &str = "authorization_code";
/// The redirect URI that the authorization code was asked for with.
pub const REDIRECT_URI: &str = "redirect_uri";
/// The PKCE verifier of the authorization code (RFC 7636).
pub const CODE_VERIFIER: &str = "code_verifier";
/// The private key that signs assertions, as PEM or JWK.
pub const PRIVATE_KEY: &str = "private_key";
/// The issuer of assertions that the private key signs.
pub const ISSUER: &str = "issuer";
/// The identifier of the private key, where the provider asks for one.
pub const KEY_ID: &str = "key_id";
/// A key file of a Google service account, in place of the private key and its issuer.
pub const SERVICE_ACCOUNT: &str = "service_account.json";

/// An authorization as its user handed it over.
#[derive(Clone)]
pub struct Seed {
    /// The authorization.
    pub authorization: Authorization,
    /// Tells one authorization from another without telling the token.
    pub fingerprint: String,
    /// The Secret's version.
    pub resource_version: Option<String>,
}

/// What a seed holds.
#[derive(Clone)]
pub enum Authorization {
    /// The first refresh token.
    RefreshToken(SecretString),
    /// An authorization code, which can be redeemed once and soon.
    Code {
        /// The code.
        code: SecretString,
        /// The redirect URI of the authorization request.
        redirect_uri: Option<String>,
        /// The PKCE verifier.
        verifier: Option<SecretString>,
    },
    /// A private key and who signs with it.
    Key {
        /// PEM or JWK.
        key: SecretString,
        /// The assertion's issuer.
        issuer: String,
        /// The key's identifier.
        key_id: Option<String>,
    },
    /// A key file of a Google service account.
    ServiceAccount(SecretString),
}

/// What is wrong with a seed: the key, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error} {key}")]
pub struct SeedError {
    /// The data key.
    pub key: &'static str,
    /// What is wrong with its value.
    pub error: ValueError,
}

impl Seed {
    /// # Errors
    /// Says what is wrong with which value.
    pub fn read(secret: &Secret, grant: GrantType) -> Result<Self, SeedError> {
        let authorization = match grant {
            GrantType::JwtBearer => key(secret)?,
            _ => user(secret)?,
        };
        Ok(Self {
            fingerprint: authorization.fingerprint(),
            authorization,
            resource_version: secret.resource_version(),
        })
    }
}

impl Authorization {
    /// Whether it is an authorization code.
    #[must_use]
    pub fn is_code(&self) -> bool {
        matches!(self, Self::Code { .. })
    }

    /// What is presented, and cannot be presented again for certain.
    #[must_use]
    pub fn secret(&self) -> &SecretString {
        match self {
            Self::RefreshToken(secret) | Self::ServiceAccount(secret) => secret,
            Self::Code { code, .. } => code,
            Self::Key { key, .. } => key,
        }
    }

    /// Identifies an authorization by what is presented, over restarts and restored clusters.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let kind = match self {
            Self::RefreshToken(_) => REFRESH_TOKEN,
            Self::Code { .. } => AUTHORIZATION_CODE,
            Self::Key { .. } => PRIVATE_KEY,
            Self::ServiceAccount(_) => SERVICE_ACCOUNT,
        };
        let secret = self.secret().expose_secret();
        let hash = keyed_hash("tokenward.dev/seed/v1", [secret.as_bytes()]);
        format!("{kind}:{hash}")
    }
}

fn user(secret: &Secret) -> Result<Authorization, SeedError> {
    match value(secret, REFRESH_TOKEN) {
        Ok(refresh_token) => Ok(Authorization::RefreshToken(refresh_token)),
        Err(error) if error.error != ValueError::Missing => Err(error),
        Err(missing) => match value(secret, AUTHORIZATION_CODE) {
            Ok(code) => Ok(Authorization::Code {
                code,
                redirect_uri: optional(secret, REDIRECT_URI)?
                    .map(|uri| uri.expose_secret().to_owned()),
                verifier: optional(secret, CODE_VERIFIER)?,
            }),
            Err(error) if error.error == ValueError::Missing => Err(missing),
            Err(error) => Err(error),
        },
    }
}

fn key(secret: &Secret) -> Result<Authorization, SeedError> {
    let text = |key: &'static str| {
        super::private_key(secret, key).map_err(|error| SeedError { key, error })
    };
    match text(SERVICE_ACCOUNT) {
        Ok(file) => return Ok(Authorization::ServiceAccount(file)),
        Err(error) if error.error != ValueError::Missing => return Err(error),
        Err(_) => {}
    }
    Ok(Authorization::Key {
        key: text(PRIVATE_KEY)?,
        issuer: value(secret, ISSUER)?.expose_secret().to_owned(),
        key_id: optional(secret, KEY_ID)?.map(|id| id.expose_secret().to_owned()),
    })
}

fn value(secret: &Secret, key: &'static str) -> Result<SecretString, SeedError> {
    token(secret, key).map_err(|error| SeedError { key, error })
}

fn optional(secret: &Secret, key: &'static str) -> Result<Option<SecretString>, SeedError> {
    match value(secret, key) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.error == ValueError::Missing => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(data: &[(&str, &[u8])]) -> Secret {
        let data = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), ByteString(value.to_vec())));
        Secret {
            data: Some(data.collect()),
            ..Secret::default()
        }
    }

    fn read(data: &[(&str, &[u8])]) -> Result<Seed, SeedError> {
        Seed::read(&secret(data), GrantType::RefreshToken)
    }

    fn error(value: &[u8]) -> ValueError {
        read(&[(REFRESH_TOKEN, value)]).err().unwrap().error
    }

    #[test]
    fn a_final_line_feed_is_not_part_of_the_token() {
        let plain = read(&[(REFRESH_TOKEN, b"rt-1")]).ok().unwrap();
        let echoed = read(&[(REFRESH_TOKEN, b"rt-1\n")]).ok().unwrap();
        assert_eq!(echoed.authorization.secret().expose_secret(), "rt-1");
        assert_eq!(plain.fingerprint, echoed.fingerprint);
        assert!(!plain.fingerprint.contains("rt-1"));
    }

    #[test]
    fn what_cannot_be_a_token_is_refused() {
        let missing = read(&[]).err().unwrap();
        assert_eq!(
            (missing.key, missing.error),
            (REFRESH_TOKEN, ValueError::Missing)
        );
        assert_eq!(error(b""), ValueError::Empty);
        assert_eq!(error(b" \n"), ValueError::Empty);
        assert_eq!(error(b"\xff\xfe"), ValueError::NotText);
        assert_eq!(error(b"a\nb"), ValueError::NotAToken);
        assert_eq!(error(b"a\0b"), ValueError::NotAToken);
    }

    #[test]
    fn a_code_counts_where_there_is_no_refresh_token() {
        let code: (&str, &[u8]) = (AUTHORIZATION_CODE, b"c-1");
        let seed = read(&[code, (REDIRECT_URI, b"https://a/cb"), (CODE_VERIFIER, b"v")]);
        match seed.ok().unwrap().authorization {
            Authorization::Code {
                code,
                redirect_uri,
                verifier,
            } => {
                assert_eq!(code.expose_secret(), "c-1");
                assert_eq!(redirect_uri.as_deref(), Some("https://a/cb"));
                assert_eq!(verifier.unwrap().expose_secret(), "v");
            }
            _ => panic!("no code"),
        }
        let both = read(&[code, (REFRESH_TOKEN, b"rt")]).ok().unwrap();
        assert!(!both.authorization.is_code());
        let same = read(&[(AUTHORIZATION_CODE, b"rt")]).ok().unwrap();
        assert_ne!(both.fingerprint, same.fingerprint);
        let bad = read(&[code, (CODE_VERIFIER, b"")]).err().unwrap();
        assert_eq!((bad.key, bad.error), (CODE_VERIFIER, ValueError::Empty));
        // An empty refresh token is a mistake, not a choice of the code.
        assert!(read(&[code, (REFRESH_TOKEN, b"")]).is_err());
    }

    #[test]
    fn a_key_has_an_issuer_or_is_a_service_account() {
        let read = |data: &[(&str, &[u8])]| Seed::read(&secret(data), GrantType::JwtBearer);
        let key: (&str, &[u8]) = (PRIVATE_KEY, b"-----BEGIN\nx\n");
        assert!(read(&[key, (ISSUER, b"me")]).is_ok());
        assert_eq!(read(&[key]).err().unwrap().key, ISSUER);
        assert_eq!(read(&[]).err().unwrap().key, PRIVATE_KEY);
        let file = read(&[(SERVICE_ACCOUNT, b"{}")]).ok().unwrap();
        assert!(matches!(
            file.authorization,
            Authorization::ServiceAccount(_)
        ));
    }
}
