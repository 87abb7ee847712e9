//! How an OAuth provider behaves: one schema for provider objects and for the entries of the catalogue.
//!
//! Every field is optional. What a provider object leaves out comes from its preset, and what that
//! leaves out has the careful default, which the methods of [`Description`] give: a provider whose conduct is
//! not known is taken to rotate its refresh tokens, to have no grace period, and to revoke everything when a
//! spent one is presented.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{Duration, GrantType};

/// What is known of a provider.
///
/// URLs are templates: `{name}` stands for a variable that `parameters` defines. After the variables are put
/// in, the URL must be https, without user information and fragment, and its host must end as the template's does.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// The token endpoint (RFC 6749 section 3.2), as an https URL or a template of one, such as
    /// `https://login.example.com/{tenant}/token`; http is accepted for loopback addresses when the
    /// operator runs with `--allow-http-loopback`. Its address must be public, unless the operator allows
    /// its network (`--allow-provider-network`). Needed, unless the preset states it or `issuer` leads to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(
        validation = Rule::new("isURL(self.replace('{', '').replace('}', '')) && self.matches('^(?i)https?://') && url(self.replace('{', '').replace('}', '')).getHostname() != ''")
            .message("spec.tokenUrl must be an absolute https URL, such as https://login.example.com/oauth/token"),
        validation = Rule::new("!self.contains('#') && !self.matches('^[^:]+://[^/?]*@')")
            .message("spec.tokenUrl must have no user information and no fragment"),
        validation = Rule::new("!isURL(self.replace('{', '').replace('}', '')) || !self.matches('^(?i)http://') || url(self.replace('{', '').replace('}', '')).getHostname() in ['localhost', '127.0.0.1', '[::1]', '::1']")
            .message("spec.tokenUrl must use https: over http, tokens can be read by anyone on the way (http is for loopback addresses only)"),
    )]
    pub token_url: Option<String>,

    /// Where refresh tokens are presented, if not at `tokenUrl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub refresh_url: Option<String>,

    /// The revocation endpoint (RFC 7009).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub revoke_url: Option<String>,

    /// The introspection endpoint (RFC 7662).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub introspect_url: Option<String>,

    /// The device authorization endpoint (RFC 8628).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub device_url: Option<String>,

    /// The authorization endpoint (RFC 6749 section 3.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub authorize_url: Option<String>,

    /// The userinfo endpoint (OpenID Connect Core section 5.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub userinfo_url: Option<String>,

    /// The issuer, from which endpoints that are not stated here are discovered (RFC 8414, OpenID Connect
    /// Discovery 1.0). The document found must name this very issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(
        validation = Rule::new("self.matches('^(?i)https?://') && !self.contains('#') && !self.contains('?')")
            .message("spec.issuer must be an https URL without query and fragment (RFC 8414 section 2)"),
    )]
    pub issuer: Option<String>,

    /// The variables of the URL templates and of `params`, and what their values may be.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub parameters: BTreeMap<String, Parameter>,

    /// The grants that the provider offers; without any, all are tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub grants: Option<Vec<GrantType>>,

    /// How the client authenticates at the token endpoint (RFC 6749 section 2.3.1). `Basic`: HTTP
    /// Basic with the id and the secret form-encoded first. `BasicRaw`: HTTP Basic with both as they are.
    /// `Body`: as `client_id` and `client_secret` in the body. `PrivateKeyJwt`: by a signed assertion (RFC 7523).
    /// `None`: a public client, only `client_id` in the body. Defaults to `Basic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuthentication>,

    /// The assertion of `clientAuth: PrivateKeyJwt`, and that of the grants JwtBearer and GitHubAppInstallation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assertion: Option<Assertion>,

    /// How the body of a request is written. Defaults to `Form`, which RFC 6749 asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_format: Option<BodyFormat>,

    /// Headers that the provider wants with every request, such as a version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Line>", extend("maxProperties" = 16))]
    #[x_kube(
        validation = Rule::new("self.all(name, name.matches('^[A-Za-z0-9-]{1,64}$') && !(name.lowerAscii() in ['authorization', 'host', 'content-type', 'content-length', 'transfer-encoding', 'connection', 'accept', 'cookie', 'proxy-authorization', 'te', 'upgrade']))")
            .message("spec.headers must be names of headers that are not set by the request itself (Authorization, Accept, Content-Type, …)"),
    )]
    pub headers: BTreeMap<String, String>,

    /// Parameters that the provider wants in the body beyond those of the protocol, such as `audience`. Values are templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Line>", extend("maxProperties" = 16))]
    #[x_kube(
        validation = Rule::new("self.all(name, !(name in ['grant_type', 'refresh_token', 'client_id', 'client_secret', 'client_assertion', 'client_assertion_type', 'code', 'code_verifier', 'redirect_uri', 'assertion', 'scope', 'resource', 'access_token', 'username', 'password', 'device_code']))")
            .message("spec.params must not name a parameter of the protocol itself (grant_type, refresh_token, client_id, …)"),
    )]
    pub params: BTreeMap<String, String>,

    /// What differs from grant to grant, by the name of the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_grant: Option<PerGrant>,

    /// How scopes are written and read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<ScopeConvention>,

    /// Where the parts of an answer are, as JSON pointers (RFC 6901). Defaults to the names of RFC 6749.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<ResponsePointers>,

    /// The unit of the lifetimes in an answer. Defaults to `Seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_unit: Option<LifetimeUnit>,

    /// The lifetime of tokens whose answer states none, as a Go duration. Without it such a token
    /// is served until it is replaced by hand: nobody knows when to refresh it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s')")
            .message("spec.defaultLifetime must be a duration of at least 1s, such as 1h"),
    )]
    pub default_lifetime: Option<Duration>,

    /// The longest lifetime that is believed, as a Go duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s')")
            .message("spec.maximumLifetime must be a duration of at least 1s, such as 1h"),
    )]
    pub maximum_lifetime: Option<Duration>,

    /// What an answer must say to count as a success, for providers that answer 200 whatever happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<Success>,

    /// Where an answer says what went wrong, as JSON pointers; looked at in this order, and `/error` after them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 128), pattern(r"^(/[^/]*)+$")))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub error_pointers: Vec<String>,

    /// What the provider's own error codes mean. They count before the codes of OAuth.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub error_map: BTreeMap<String, ErrorMeaning>,

    /// Whether a refresh gives a new refresh token and ends the old one: `Never`, `Sometimes` or
    /// `Always`. Defaults to `Always`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,

    /// How long a spent refresh token may be presented again and gives the same answer, as a Go
    /// duration. `0s`, the default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('8760h')")
            .message("spec.reuseGrace must be a duration of at most 8760h, such as 30s"),
    )]
    pub reuse_grace: Option<Duration>,

    /// What presenting a spent refresh token costs: `None` (nothing), `RejectOnly` (that request fails) or
    /// `RevokesFamily` (every token of the authorization ends; RFC 9700 section 4.14.2). Defaults to `RevokesFamily`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse_detection: Option<ReuseDetection>,

    /// Whether the old access token works on after a refresh: `Survives` (until its expiry),
    /// `Invalidated`, or `Unknown`, the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token_on_refresh: Option<AccessTokenOnRefresh>,

    /// How long a refresh token lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token_lifetime: Option<RefreshTokenLifetime>,

    /// When tokens are refreshed, and how often requests may be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<RefreshLimits>,

    /// What is revoked when a credential is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Revocation>,
}

/// The schema of one line of text: at most 1024 printable characters of ASCII.
pub(super) struct Line;

impl JsonSchema for Line {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Line".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 1024, "pattern": r"^[\x20-\x7E]*$"})
    }
}

/// A variable of a template.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameter {
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// A regular expression that the whole value must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub pattern: Option<String>,
    /// The values it may have.
    #[serde(default, rename = "enum", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub allowed: Vec<String>,
    /// Its value where none is given; without it, one must be given.
    #[serde(default, rename = "default", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub default_value: Option<String>,
}

/// A signed assertion (RFC 7523).
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Assertion {
    /// The algorithm (RFC 7518 section 3.1, RFC 8037). Defaults to what fits the key: `RS256`, `ES256`, `ES384` or `EdDSA`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<SigningAlgorithm>,
    /// The key's identifier, for the header `kid`. Defaults to that of the key, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub key_id: Option<String>,
    /// For whom it is: `TokenUrl`, `Issuer`, or a URL. Defaults to `TokenUrl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub audience: Option<String>,
    /// How long it is valid, as a Go duration. Defaults to `60s` for a client, `5m` for a grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('1h')")
            .message("spec.assertion.lifetime must be a duration from 10s to 1h, such as 60s"),
    )]
    pub lifetime: Option<Duration>,
    /// Whether scopes are a claim of a grant's assertion (Google) instead of a parameter of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_claim: Option<bool>,
}

/// The algorithm of a signature.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[allow(missing_docs, reason = "the names of RFC 7518")]
pub enum SigningAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// How the client authenticates at the token endpoint.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum ClientAuthentication {
    /// HTTP Basic, id and secret form-encoded first.
    #[default]
    Basic,
    /// HTTP Basic, id and secret as they are.
    BasicRaw,
    /// `client_id` and `client_secret` in the body.
    Body,
    /// A signed assertion (RFC 7523 section 2.2).
    PrivateKeyJwt,
    /// A public client.
    None,
}

/// How the body of a request is written.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum BodyFormat {
    /// `application/x-www-form-urlencoded`.
    #[default]
    Form,
    /// `application/json`.
    Json,
}

/// What differs from grant to grant.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PerGrant {
    /// With grant RefreshToken, when a refresh token is presented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<GrantConvention>,
    /// With grant RefreshToken, when an authorization code is redeemed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_code: Option<GrantConvention>,
    /// With grant ClientCredentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_credentials: Option<GrantConvention>,
    /// With grant JwtBearer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt_bearer: Option<GrantConvention>,
    /// With grant GitHubAppInstallation.
    #[serde(
        default,
        rename = "GitHubAppInstallation",
        skip_serializing_if = "Option::is_none"
    )]
    pub github_app_installation: Option<GrantConvention>,
}

/// What one grant has of its own.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantConvention {
    /// The value of `grant_type`, where the provider has a name of its own for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub grant_type: Option<String>,
    /// Headers beyond those of all grants.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Line>", extend("maxProperties" = 16))]
    #[x_kube(
        validation = Rule::new("self.all(name, name.matches('^[A-Za-z0-9-]{1,64}$') && !(name.lowerAscii() in ['authorization', 'host', 'content-type', 'content-length', 'transfer-encoding', 'connection', 'accept', 'cookie', 'proxy-authorization', 'te', 'upgrade']))")
            .message("headers must be names of headers that are not set by the request itself (Authorization, Accept, Content-Type, …)"),
    )]
    pub headers: BTreeMap<String, String>,
    /// Parameters beyond those of all grants. Values are templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Line>", extend("maxProperties" = 16))]
    #[x_kube(
        validation = Rule::new("self.all(name, !(name in ['grant_type', 'refresh_token', 'client_id', 'client_secret', 'client_assertion', 'client_assertion_type', 'code', 'code_verifier', 'redirect_uri', 'assertion', 'scope', 'resource', 'access_token', 'username', 'password', 'device_code']))")
            .message("params must not name a parameter of the protocol itself (grant_type, refresh_token, client_id, …)"),
    )]
    pub params: BTreeMap<String, String>,
}

/// How scopes are written and read.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScopeConvention {
    /// What stands between scopes in a request. Defaults to a space (RFC 6749 section 3.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1))]
    pub separator: Option<String>,
    /// The characters that may stand between scopes in an answer. Defaults to a space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub response_separators: Option<String>,
    /// Whether a refresh names the scopes again. Defaults to false: it keeps what was authorized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_on_refresh: Option<bool>,
}

/// Where the parts of an answer are, as JSON pointers (RFC 6901).
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponsePointers {
    /// The access token. Defaults to `/access_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), pattern(r"^(/[^/]*)+$"))]
    pub access_token: Option<String>,
    /// The refresh token. Defaults to `/refresh_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), pattern(r"^(/[^/]*)+$"))]
    pub refresh_token: Option<String>,
    /// The type of the token. Defaults to `/token_type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), pattern(r"^(/[^/]*)+$"))]
    pub token_type: Option<String>,
    /// The lifetime of the access token. Defaults to `/expires_in`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), pattern(r"^(/[^/]*)+$"))]
    pub expires_in: Option<String>,
    /// When the access token expires: RFC 3339, or a Unix time. Defaults to `/expires_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), pattern(r"^(/[^/]*)+$"))]
    pub expires_at: Option<String>,
    /// The lifetime of the refresh token. Defaults to `/refresh_token_expires_in`, and `/refresh_expires_in` after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), pattern(r"^(/[^/]*)+$"))]
    pub refresh_expires_in: Option<String>,
    /// The granted scopes. Defaults to `/scope`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), pattern(r"^(/[^/]*)+$"))]
    pub scope: Option<String>,
    /// The ID token (OpenID Connect Core section 3.1.3.3). Defaults to `/id_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), pattern(r"^(/[^/]*)+$"))]
    pub id_token: Option<String>,
    /// What else of an answer programs need, such as `instance_url`: the key in the target Secret, and where it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Line>", extend("maxProperties" = 16))]
    #[x_kube(
        validation = Rule::new("self.all(name, name.matches('^[a-z0-9_]{1,64}$') && !(name in ['access_token', 'refresh_token', 'id_token', 'token_type', 'scope', 'expires_at', 'issued_at', 'token_generation', 'authorization', 'seeds', 'origin', 'client_id', 'attempt', 'metadata']))")
            .message("a key of spec.response.metadata must be of the form [a-z0-9_]{1,64} and none that the Secret has anyway"),
    )]
    pub metadata: BTreeMap<String, String>,
}

/// The unit of the lifetimes in an answer.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum LifetimeUnit {
    /// As RFC 6749 has it.
    #[default]
    Seconds,
    /// A thousandth of that.
    Milliseconds,
}

/// What an answer must say to count as a success.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Success {
    /// Where, as a JSON pointer.
    #[schemars(length(max = 128), pattern(r"^(/[^/]*)+$"))]
    pub pointer: String,
    /// What stands there, as text: `true`, `0`, `ok`.
    #[schemars(length(max = 128))]
    pub equals: String,
}

/// What an error code of a provider means.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ErrorMeaning {
    /// It cannot serve now, and has spent nothing.
    Transient,
    /// It asks for a pause.
    RateLimited,
    /// The authorization is gone; only a new one helps.
    NeedsReauthorization,
    /// It does not know the client, or its secret is wrong.
    InvalidClient,
    /// It refuses the scopes.
    InvalidScope,
    /// The request is not as it wants it.
    Misconfiguration,
    /// It may have taken the refresh token, or not.
    Ambiguous,
}

/// Whether a refresh gives a new refresh token and ends the old one.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Rotation {
    /// The refresh token stays the same.
    Never,
    /// It changes now and then.
    Sometimes,
    /// It changes at every refresh.
    #[default]
    Always,
}

/// What presenting a spent refresh token costs.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum ReuseDetection {
    /// Nothing: it is accepted.
    None,
    /// That request fails.
    RejectOnly,
    /// Every token of the authorization ends.
    #[default]
    RevokesFamily,
}

/// Whether the old access token works on after a refresh.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum AccessTokenOnRefresh {
    /// Until its expiry.
    Survives,
    /// It ends with the refresh.
    Invalidated,
    /// Not known: taken to end.
    #[default]
    Unknown,
}

/// How long a refresh token lives, as Go durations.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefreshTokenLifetime {
    /// Since it was used last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Duration>,
    /// Since the authorization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absolute: Option<Duration>,
}

/// When tokens are refreshed, and how often requests may be made.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefreshLimits {
    /// How long before its expiry a token is refreshed, where the credential does not say, as a Go duration. Defaults to `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('8760h')")
            .message("spec.refresh.before must be a duration from 1s to 8760h, such as 5m"),
    )]
    pub before: Option<Duration>,
    /// The shortest time between two refreshes of one credential, as a Go duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("duration(self) <= duration('24h')")
            .message("spec.refresh.minInterval must be a duration of at most 24h, such as 1m"),
    )]
    pub min_interval: Option<Duration>,
    /// How many token requests the provider allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// So many requests in so much time.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// The number of requests.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: u32,
    /// The time, as a Go duration.
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')")
            .message("spec.refresh.rateLimit.per must be a duration from 1s to 24h, such as 1m"),
    )]
    pub per: Duration,
    /// Whose requests they are: all of the client's, or those of one authorization. Defaults to `Client`.
    #[serde(default)]
    pub scope: RateLimitScope,
}

/// Whose requests a limit counts.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum RateLimitScope {
    /// All of the client's.
    #[default]
    Client,
    /// Those of one authorization.
    Authorization,
}

/// What is revoked when a credential is deleted (RFC 7009).
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// Which token is presented for it. Defaults to `RefreshToken`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<RevokedToken>,
    /// Whether the provider also ends what other credentials of the same user and client have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_consent: Option<bool>,
}

/// The token that is presented for revocation.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum RevokedToken {
    /// The refresh token, and with it what came from it.
    #[default]
    RefreshToken,
    /// The access token.
    AccessToken,
    /// One after the other.
    Both,
}

impl Description {
    /// [`Rotation`], `Always` by default.
    #[must_use]
    pub fn rotation(&self) -> Rotation {
        self.rotation.unwrap_or_default()
    }

    /// [`ReuseDetection`], `RevokesFamily` by default.
    #[must_use]
    pub fn reuse_detection(&self) -> ReuseDetection {
        self.reuse_detection.unwrap_or_default()
    }

    /// How long a spent refresh token may be presented again, 0 by default.
    #[must_use]
    pub fn reuse_grace(&self) -> std::time::Duration {
        self.reuse_grace.map(Into::into).unwrap_or_default()
    }

    /// [`AccessTokenOnRefresh`], `Unknown` by default.
    #[must_use]
    pub fn access_token_on_refresh(&self) -> AccessTokenOnRefresh {
        self.access_token_on_refresh.unwrap_or_default()
    }

    /// How long before its expiry a token is refreshed, where the credential does not say.
    #[must_use]
    pub fn refresh_before(&self) -> Option<std::time::Duration> {
        let before = self.refresh.as_ref().and_then(|r| r.before);
        before.map(Into::into)
    }

    /// [`ClientAuthentication`], `Basic` by default.
    #[must_use]
    pub fn client_auth(&self) -> ClientAuthentication {
        self.client_auth.unwrap_or_default()
    }

    /// What `grant` has of its own; `redeems_code`: while an authorization code is redeemed.
    #[must_use]
    pub fn convention(&self, grant: GrantType, redeems_code: bool) -> Option<&GrantConvention> {
        let per = self.per_grant.as_ref()?;
        match grant {
            GrantType::RefreshToken if redeems_code => per.authorization_code.as_ref(),
            GrantType::RefreshToken => per.refresh_token.as_ref(),
            GrantType::ClientCredentials => per.client_credentials.as_ref(),
            GrantType::JwtBearer => per.jwt_bearer.as_ref(),
            GrantType::GitHubAppInstallation => per.github_app_installation.as_ref(),
        }
    }
}
