//! The seed: the first refresh token of an authorization, in a Secret that belongs to the user.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use secrecy::{ExposeSecret, SecretString};

use super::{ValueError, keyed_hash, token};

/// The data key of a seed.
pub const REFRESH_TOKEN: &str = "refresh_token";

/// An authorization as its user handed it over.
#[derive(Clone)]
pub struct Seed {
    /// The first refresh token.
    pub refresh_token: SecretString,
    /// Tells one authorization from another without telling the token.
    pub fingerprint: String,
    /// The Secret's version.
    pub resource_version: Option<String>,
}

impl Seed {
    /// # Errors
    /// Says what is wrong with the value of `refresh_token`.
    pub fn read(secret: &Secret) -> Result<Self, ValueError> {
        let refresh_token = token(secret, REFRESH_TOKEN)?;
        Ok(Self {
            fingerprint: fingerprint(&refresh_token),
            refresh_token,
            resource_version: secret.resource_version(),
        })
    }
}

/// Identifies an authorization by its first refresh token, over restarts and restored clusters.
#[must_use]
pub fn fingerprint(refresh_token: &SecretString) -> String {
    let hash = keyed_hash(
        "tokenward.dev/seed/v1",
        [refresh_token.expose_secret().as_bytes()],
    );
    format!("refresh_token:{hash}")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(value: &[u8]) -> Secret {
        Secret {
            data: Some([(REFRESH_TOKEN.to_owned(), ByteString(value.to_vec()))].into()),
            ..Secret::default()
        }
    }

    fn error(secret: &Secret) -> ValueError {
        Seed::read(secret).err().unwrap()
    }

    #[test]
    fn a_final_line_feed_is_not_part_of_the_token() {
        let plain = Seed::read(&secret(b"rt-1")).unwrap();
        let echoed = Seed::read(&secret(b"rt-1\n")).unwrap();
        assert_eq!(echoed.refresh_token.expose_secret(), "rt-1");
        assert_eq!(plain.fingerprint, echoed.fingerprint);
        assert!(!plain.fingerprint.contains("rt-1"));
    }

    #[test]
    fn what_cannot_be_a_token_is_refused() {
        assert_eq!(error(&Secret::default()), ValueError::Missing);
        assert_eq!(error(&secret(b"")), ValueError::Empty);
        assert_eq!(error(&secret(b" \n")), ValueError::Empty);
        assert_eq!(error(&secret(b"\xff\xfe")), ValueError::NotText);
        assert_eq!(error(&secret(b"a\nb")), ValueError::NotAToken);
        assert_eq!(error(&secret(b"a\0b")), ValueError::NotAToken);
    }
}
