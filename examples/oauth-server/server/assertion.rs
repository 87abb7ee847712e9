//! Signed assertions: of clients (RFC 7523, section 2.2), as grants (section 2.1), and of GitHub Apps.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;

use super::request::{Presented, Refusal};
use super::state::State;

/// The assertion type of RFC 7523, section 2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A key that assertions are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    kid: Option<String>,
    algorithm: &'static str,
    bytes: Vec<u8>,
}

impl PublicKey {
    /// An RSA key, as `RSAPublicKey` in DER (RFC 8017), for RS256.
    pub fn rsa(kid: Option<&str>, der: &[u8]) -> Self {
        Self::new(kid, "RS256", der)
    }

    /// An Ed25519 key, as its 32 bytes.
    pub fn ed25519(kid: Option<&str>, bytes: &[u8]) -> Self {
        Self::new(kid, "EdDSA", bytes)
    }

    fn new(kid: Option<&str>, algorithm: &'static str, bytes: &[u8]) -> Self {
        Self {
            kid: kid.map(str::to_owned),
            algorithm,
            bytes: bytes.to_vec(),
        }
    }

    /// Whether it made this signature. A key that has an identifier wants to be named.
    fn made(&self, header: &Value, message: &[u8], signature: &[u8]) -> bool {
        let named = self.kid.is_none() || header["kid"].as_str() == self.kid.as_deref();
        let verification: &'static dyn VerificationAlgorithm = match self.algorithm {
            "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
            _ => &signature::ED25519,
        };
        let key = UnparsedPublicKey::new(verification, &self.bytes);
        named && header["alg"] == self.algorithm && key.verify(message, signature).is_ok()
    }
}

/// What an assertion says, believed or not.
struct Jwt {
    header: Value,
    claims: Value,
    /// What is signed.
    message: String,
    signature: Vec<u8>,
}

impl Jwt {
    fn read(token: &str) -> Option<Self> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let part = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).ok();
        Some(Self {
            header: serde_json::from_slice(&part(header)?).ok()?,
            claims: serde_json::from_slice(&part(claims)?).ok()?,
            message: message.to_owned(),
            signature: part(signature)?,
        })
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.claims[claim].as_str()
    }

    /// Whether one of these made it, and it is valid now and for at most `longest` seconds.
    fn check(&self, keys: &[PublicKey], longest: i64) -> Result<(), &'static str> {
        let now = jiff::Timestamp::now().as_second();
        let seconds = |claim: &str| self.claims[claim].as_i64();
        let (Some(issued), Some(expires)) = (seconds("iat"), seconds("exp")) else {
            return Err("iat or exp is missing");
        };
        if issued > now || expires <= now || expires - issued > longest {
            return Err("it is not valid now, or for too long");
        }
        let message = self.message.as_bytes();
        let made = |key: &PublicKey| key.made(&self.header, message, &self.signature);
        if keys.iter().any(made) {
            Ok(())
        } else {
            Err("no key of its issuer has made the signature")
        }
    }
}

/// Who the assertion of a client says that it is.
pub(super) fn client_of(request: &Presented) -> Option<String> {
    let jwt = Jwt::read(request.param("client_assertion")?)?;
    jwt.text("iss").map(str::to_owned)
}

impl State {
    /// Whether the client that presents this is the one that it says.
    pub(super) fn check_client_assertion(
        &mut self,
        id: &str,
        request: &Presented,
    ) -> Result<(), Refusal> {
        let refused = |text: &str| Refusal::new("invalid_client", text);
        if request.param("client_assertion_type") != Some(JWT_BEARER) {
            return Err(refused("unknown client_assertion_type"));
        }
        let token = request.param("client_assertion").unwrap_or_default();
        let jwt = Jwt::read(token).ok_or_else(|| refused("no JWT"))?;
        if jwt.text("iss") != Some(id) || jwt.text("sub") != Some(id) {
            return Err(refused("iss and sub are not the client"));
        }
        let client = self.clients.iter().find(|known| known.id == id);
        let keys = client.map(|client| client.keys.clone()).unwrap_or_default();
        jwt.check(&keys, 300).map_err(refused)?;
        self.check_audience_and_id(&jwt, request).map_err(refused)
    }

    /// Whom an assertion stands for, and the scope that it names.
    pub(super) fn check_grant_assertion(
        &mut self,
        request: &Presented,
    ) -> Result<(String, Option<String>), Refusal> {
        let refused = |text: &str| Refusal::new("invalid_grant", text);
        let token = request.param("assertion").unwrap_or_default();
        let jwt = Jwt::read(token).ok_or_else(|| refused("no JWT"))?;
        let issuer = jwt.text("iss").unwrap_or_default();
        let keys = self.issuers.get(issuer).cloned().unwrap_or_default();
        jwt.check(&keys, 3600).map_err(refused)?;
        self.check_audience_and_id(&jwt, request).map_err(refused)?;
        let subject = jwt.text("sub").unwrap_or(issuer).to_owned();
        Ok((subject, jwt.text("scope").map(str::to_owned)))
    }

    /// Which app asks for a token of one of its installations.
    pub(super) fn check_app(&self, request: &Presented) -> Result<String, Refusal> {
        let refused = |text: &str| Refusal::new("invalid_client", text);
        let jwt = request.bearer().and_then(Jwt::read);
        let jwt = jwt.ok_or_else(|| refused("no JWT in Authorization"))?;
        let issuer = jwt.text("iss").unwrap_or_default();
        let client = self.clients.iter().find(|known| known.id == issuer);
        let keys = client.map(|client| client.keys.clone()).unwrap_or_default();
        jwt.check(&keys, 600).map_err(refused)?;
        Ok(issuer.to_owned())
    }

    /// An assertion is for one audience, and is taken once.
    fn check_audience_and_id(
        &mut self,
        jwt: &Jwt,
        request: &Presented,
    ) -> Result<(), &'static str> {
        let own = self.url.clone() + &request.path;
        let audience = self.behaviour.audience.as_ref().unwrap_or(&own);
        if jwt.text("aud") != Some(audience) {
            return Err("aud is another server");
        }
        match jwt.text("jti") {
            Some(id) if self.assertions.insert(id.to_owned()) => Ok(()),
            _ => Err("jti is missing or was seen before"),
        }
    }
}
