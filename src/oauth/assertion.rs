//! The signed assertions of a request (RFC 7523), as the provider's description wants them.

use std::{str::FromStr, time::Duration};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::jwt::{
    Algorithm, Certificate, Claims, ClientAssertion, GithubApp, GrantAssertion, Header, KeyError,
    LifetimeError, ServiceAccountKey, Signer, SigningFailed, SigningKey,
};
use crate::{
    api::{Assertion, Description, SigningAlgorithm},
    secret::seed::Authorization,
};

/// Why there is no assertion.
#[derive(Debug, thiserror::Error)]
pub enum AssertionError {
    /// The key is none, or does not fit.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The lifetime is out of bounds.
    #[error(transparent)]
    Lifetime(#[from] LifetimeError),
    /// The audience is to be the issuer, and there is none.
    #[error("spec.assertion.audience is Issuer, and spec.issuer is not set")]
    NoIssuer,
    /// The seed holds no key.
    #[error("there is no key to sign with")]
    NoKey,
    /// The cryptography library failed.
    #[error(transparent)]
    Failed(#[from] SigningFailed),
}

/// When an assertion is made, and what tells it from every other.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// The time.
    pub now: Timestamp,
    /// Its `jti`; never used before.
    pub id: &'a str,
}

/// By which a client authenticates (RFC 7523 section 2.2). A certificate beside the key in the same text is named in
/// the header, as Microsoft Entra wants it.
///
/// # Errors
/// Says what is wrong with the key or the description.
pub fn of_client(
    description: &Description,
    key: &SecretString,
    client_id: &str,
    token_url: &str,
    moment: Moment<'_>,
) -> Result<SecretString, AssertionError> {
    let text = key.expose_secret();
    let certificate = text
        .contains("BEGIN CERTIFICATE")
        .then(|| Certificate::read(text))
        .transpose()?;
    let claims = ClientAssertion {
        client_id,
        audience: audience(description, token_url)?,
        lifetime: lifetime(description, ClientAssertion::DEFAULT_LIFETIME),
        not_before: certificate.is_some(),
    }
    .claims(moment.now, moment.id)?;
    sign(
        description,
        SigningKey::read(key)?,
        None,
        certificate.as_ref(),
        &claims,
    )
}

/// Which is the grant itself (RFC 7523 section 2.1), signed with the seed's key.
///
/// # Errors
/// Says what is wrong with the key or the description.
pub fn of_seed(
    description: &Description,
    seed: &Authorization,
    subject: Option<&str>,
    scopes: &[String],
    token_url: &str,
    moment: Moment<'_>,
) -> Result<SecretString, AssertionError> {
    let (key, issuer, key_id) = match seed {
        Authorization::Key {
            key,
            issuer,
            key_id,
        } => (SigningKey::read(key)?, issuer.clone(), key_id.as_deref()),
        Authorization::ServiceAccount(file) => {
            let file = ServiceAccountKey::read(file)?;
            (file.key, file.issuer, None)
        }
        Authorization::RefreshToken(_) | Authorization::Code { .. } => {
            return Err(AssertionError::NoKey);
        }
    };
    let own = description.assertion.as_ref();
    let in_claim = own.and_then(|a| a.scope_claim).unwrap_or(false);
    let claims = GrantAssertion {
        issuer: &issuer,
        subject,
        audience: audience(description, token_url)?,
        scopes: if in_claim { scopes } else { &[] },
        lifetime: lifetime(description, GrantAssertion::DEFAULT_LIFETIME),
    }
    .claims(moment.now, Some(moment.id))?;
    sign(description, key, key_id, None, &claims)
}

/// By which a GitHub App asks for a token of one of its installations.
///
/// # Errors
/// Says what is wrong with the key.
pub fn of_app(
    key: &SecretString,
    app: &str,
    moment: Moment<'_>,
) -> Result<SecretString, AssertionError> {
    let claims = GithubApp { issuer: app }.claims(moment.now);
    let header = Header {
        algorithm: Some(Algorithm::Rs256),
        ..Header::default()
    };
    let signer = Signer::new(SigningKey::read(key)?, &header)?;
    Ok(signer.sign(&claims)?)
}

fn sign(
    description: &Description,
    key: SigningKey,
    key_id: Option<&str>,
    certificate: Option<&Certificate>,
    claims: &Claims,
) -> Result<SecretString, AssertionError> {
    let own = description.assertion.as_ref();
    let header = Header {
        algorithm: own.and_then(algorithm),
        kid: key_id.or_else(|| own.and_then(|a| a.key_id.as_deref())),
        certificate,
        ..Header::default()
    };
    Ok(Signer::new(key, &header)?.sign(claims)?)
}

fn algorithm(assertion: &Assertion) -> Option<Algorithm> {
    let name = match assertion.algorithm? {
        SigningAlgorithm::RS256 => "RS256",
        SigningAlgorithm::RS384 => "RS384",
        SigningAlgorithm::RS512 => "RS512",
        SigningAlgorithm::PS256 => "PS256",
        SigningAlgorithm::PS384 => "PS384",
        SigningAlgorithm::PS512 => "PS512",
        SigningAlgorithm::ES256 => "ES256",
        SigningAlgorithm::ES384 => "ES384",
        SigningAlgorithm::EdDSA => "EdDSA",
    };
    Algorithm::from_str(name).ok()
}

fn audience<'a>(
    description: &'a Description,
    token_url: &'a str,
) -> Result<&'a str, AssertionError> {
    let own = description.assertion.as_ref();
    match own.and_then(|a| a.audience.as_deref()) {
        None | Some("TokenUrl") => Ok(token_url),
        Some("Issuer") => description
            .issuer
            .as_deref()
            .ok_or(AssertionError::NoIssuer),
        Some(audience) => Ok(audience),
    }
}

fn lifetime(description: &Description, default: Duration) -> Duration {
    let own = description.assertion.as_ref();
    own.and_then(|a| a.lifetime).map_or(default, Into::into)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// RFC 8037 appendix A.1.
    const KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"k1",
        "d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    const MOMENT: Moment<'_> = Moment {
        now: Timestamp::UNIX_EPOCH,
        id: "j1",
    };

    fn described(description: Value) -> Description {
        serde_json::from_value(description).unwrap()
    }

    fn opened(token: &SecretString) -> (Value, Value) {
        let part = |n: usize| {
            let part = token.expose_secret().split('.').nth(n).unwrap().to_owned();
            let part = data_encoding::BASE64URL_NOPAD
                .decode(part.as_bytes())
                .unwrap();
            serde_json::from_slice(&part).unwrap()
        };
        (part(0), part(1))
    }

    #[test]
    fn a_client_signs_for_the_audience_that_the_description_names() {
        let of = |description: Value| {
            let description = described(description);
            let token = of_client(
                &description,
                &KEY.into(),
                "c",
                "https://x.example/t",
                MOMENT,
            );
            token.map(|token| opened(&token))
        };
        let (header, claims) = of(json!({})).unwrap();
        assert_eq!(header, json!({"alg": "EdDSA", "typ": "JWT", "kid": "k1"}));
        assert_eq!(
            claims,
            json!({"iss": "c", "sub": "c", "aud": "https://x.example/t", "iat": 0, "exp": 60, "jti": "j1"})
        );
        let issuer = json!({"issuer": "https://i.example", "assertion": {"audience": "Issuer", "keyId": "k2", "lifetime": "2m"}});
        let (header, claims) = of(issuer).unwrap();
        assert_eq!(header["kid"], "k2");
        assert_eq!(
            (&claims["aud"], &claims["exp"]),
            (&json!("https://i.example"), &json!(120))
        );
        let (_, claims) = of(json!({"assertion": {"audience": "https://other.example"}})).unwrap();
        assert_eq!(claims["aud"], "https://other.example");
        assert!(matches!(
            of(json!({"assertion": {"audience": "Issuer"}})),
            Err(AssertionError::NoIssuer)
        ));
        assert!(matches!(
            of(json!({"assertion": {"algorithm": "RS256"}})),
            Err(AssertionError::Key(_))
        ));
        assert!(matches!(
            of(json!({"assertion": {"lifetime": "30m"}})),
            Err(AssertionError::Lifetime(_))
        ));
    }

    #[test]
    fn a_seeds_key_signs_the_grant() {
        let seed = Authorization::Key {
            key: KEY.into(),
            issuer: "me".to_owned(),
            key_id: Some("k3".to_owned()),
        };
        let scopes = ["a".to_owned(), "b".to_owned()];
        let of = |description: Value| {
            let description = described(description);
            let url = "https://x.example/t";
            opened(&of_seed(&description, &seed, Some("you"), &scopes, url, MOMENT).unwrap())
        };
        let (header, claims) = of(json!({"assertion": {"scopeClaim": true}}));
        assert_eq!(header["kid"], "k3");
        assert_eq!(
            claims,
            json!({"iss": "me", "sub": "you", "aud": "https://x.example/t", "scope": "a b", "iat": 0, "exp": 300, "jti": "j1"})
        );
        assert!(of(json!({})).1.get("scope").is_none());
    }

    #[test]
    fn a_refresh_token_signs_nothing() {
        let seed = Authorization::RefreshToken("rt".into());
        let signed = of_seed(
            &Description::default(),
            &seed,
            None,
            &[],
            "https://x",
            MOMENT,
        );
        assert!(matches!(signed, Err(AssertionError::NoKey)));
    }
}
