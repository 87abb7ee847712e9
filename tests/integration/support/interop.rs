//! OAuth servers of others, as processes of their own; tests/interop/README.md describes them.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use reqwest::{Client, StatusCode, header, redirect};
use serde::Deserialize;
use serde_json::{Value, json};
use url::{
    Url,
    form_urlencoded::{Serializer, byte_serialize},
};
use uuid::Uuid;

use super::{eventually, installed::installed, operator::guarded};

/// What installs the servers, and what it needs.
const MAKE: (&str, &str) = (
    "interop",
    "npm of Node 20 or newer, and python3 3.10 or newer with venv",
);

/// Where users are sent back to. Nobody listens there.
pub const REDIRECT_URI: &str = "http://127.0.0.1/callback";

/// A running server, ended with the test.
pub struct Server {
    child: Child,
    folder: tempfile::TempDir,
    http: Client,
    /// Its address and, where it publishes metadata, its issuer.
    pub url: String,
    authorize_path: &'static str,
    token_path: &'static str,
}

/// What a user's consent brought: not redeemed yet.
pub struct Consent {
    pub code: String,
    /// Of PKCE (RFC 7636).
    pub verifier: String,
    pub redirect_uri: String,
}

/// What a redeemed code brought.
#[derive(Deserialize)]
pub struct Tokens {
    pub access_token: String,
    pub refresh_token: String,
}

/// A request to the token endpoint, as the server saw it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRequest {
    pub grant: String,
    pub refresh_token: Option<String>,
    pub status: u16,
    pub error: Option<String>,
    /// Whether the answer was thrown away, after all the work was done.
    pub lost: bool,
}

impl Server {
    /// `oidc-provider`: rotates, has no grace period, and ends everything when a spent token is presented.
    pub async fn oidc_provider() -> Self {
        let script = source("oidc-provider/server.mjs");
        let installed = installed("TOKENWARD_INTEROP_OIDC", MAKE).await;
        let mut command = guarded("node");
        command.arg(script).arg(installed);
        Self::start(command, ["/auth", "/token"]).await
    }

    /// `django-oauth-toolkit`: rotates, has a grace period if it is told to, ends the old access token with
    /// each refresh, and everything when a spent token is presented after the grace.
    pub async fn django() -> Self {
        let python = installed("TOKENWARD_INTEROP_DJANGO", MAKE).await;
        let mut command = guarded(python.join("bin/python"));
        command
            .args(["-m", "server"])
            .current_dir(source("django"))
            .env("PYTHONDONTWRITEBYTECODE", "1");
        Self::start(command, ["/authorize/", "/token/"]).await
    }

    async fn start(mut command: Command, [authorize_path, token_path]: [&'static str; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name| File::create(folder.path().join(name)).unwrap();
        let child = command
            .stdin(Stdio::piped())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn();
        let http = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .build();
        let mut server = Self {
            child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")),
            folder,
            http: http.unwrap(),
            url: String::new(),
            authorize_path,
            token_path,
        };
        let out = server.folder.path().join("out");
        server.url = eventually("the server's address", async || {
            assert!(server.child.try_wait().unwrap().is_none(), "it has ended");
            let out = std::fs::read_to_string(&out).unwrap();
            let (line, _) = out.split_once('\n')?;
            line.strip_prefix("listening on ").map(str::to_owned)
        })
        .await;
        server
    }

    /// Its token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}{}", self.url, self.token_path)
    }

    /// Gives it a command; tests/interop/README.md lists them.
    pub async fn control(&self, command: &str, argument: Value) -> Value {
        let url = format!("{}/control/{command}", self.url);
        let sent = self.http.post(url).body(argument.to_string()).send().await;
        read(sent.unwrap(), command).await
    }

    /// Registers a client for users, or gives it another secret.
    pub async fn client(&self, id: &str, secret: &str) {
        let client = json!({"id": id, "secret": secret, "redirectUri": REDIRECT_URI});
        self.control("client", client).await;
    }

    /// Registers a client that acts for itself.
    pub async fn machine(&self, id: &str, secret: &str) {
        let client = json!({"id": id, "secret": secret, "grant": "client_credentials"});
        self.control("client", client).await;
    }

    /// Has the user authorize the client in the way of a browser (RFC 6749 section 4.1, RFC 7636): through
    /// every redirect, with the cookies that are set on the way.
    pub async fn authorize(&self, client: &str, user: &str) -> Consent {
        let verifier = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let challenge = BASE64URL_NOPAD.encode(digest(&SHA256, verifier.as_bytes()).as_ref());
        let parameters = [
            ("response_type", "code"),
            ("client_id", client),
            ("redirect_uri", REDIRECT_URI),
            ("scope", "read"),
            ("state", "of-the-test"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("login_hint", user),
        ];
        let start = format!("{}{}", self.url, self.authorize_path);
        let mut url = Url::parse_with_params(&start, parameters).unwrap();
        let mut cookies = HashMap::new();
        while !url.as_str().starts_with(REDIRECT_URI) {
            url = self.follow(url, &mut cookies).await;
        }
        let answer: HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(answer["state"], "of-the-test");
        Consent {
            code: answer["code"].clone(),
            verifier,
            redirect_uri: REDIRECT_URI.to_owned(),
        }
    }

    /// One step of a browser.
    async fn follow(&self, url: Url, cookies: &mut HashMap<String, String>) -> Url {
        let sent = cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let sent = sent.collect::<Vec<_>>().join("; ");
        let request = self.http.get(url.clone()).header(header::COOKIE, sent);
        let answer = request.send().await.unwrap();
        for cookie in answer.headers().get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = cookie.split_once('=').unwrap();
            cookies.insert(name.to_owned(), value.to_owned());
        }
        let to = answer.headers().get(header::LOCATION);
        let to = to.unwrap_or_else(|| panic!("{url}: {}, no redirect", answer.status()));
        url.join(to.to_str().unwrap()).unwrap()
    }

    /// Redeems a code as the client.
    pub async fn redeem(&self, client: [&str; 2], consent: &Consent) -> Tokens {
        let [id, secret] = client;
        let parameters = [
            ("grant_type", "authorization_code"),
            ("code", &consent.code),
            ("code_verifier", &consent.verifier),
            ("redirect_uri", &consent.redirect_uri),
        ];
        let body = Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish();
        let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        let request = self.http.post(self.token_url());
        let request = request.basic_auth(encoded(id), Some(encoded(secret)));
        let form = "application/x-www-form-urlencoded";
        let sent = request.header(header::CONTENT_TYPE, form).body(body).send();
        serde_json::from_value(read(sent.await.unwrap(), "a code").await).unwrap()
    }

    /// Whether an access token opens something right now.
    pub async fn accepts(&self, token: &str) -> bool {
        let url = format!("{}/resource", self.url);
        let sent = self.http.get(url).bearer_auth(token).send().await;
        sent.unwrap().status() == StatusCode::OK
    }

    /// What its token endpoint was asked so far.
    pub async fn requests(&self) -> Vec<TokenRequest> {
        let requests = self.control("requests", json!({})).await;
        serde_json::from_value(requests).unwrap()
    }

    /// The refreshes among these requests, each with its token.
    pub async fn refreshes(&self) -> Vec<(String, TokenRequest)> {
        let mut requests = self.requests().await;
        requests.retain(|request| request.grant == "refresh_token");
        let with_token = |request: TokenRequest| (request.refresh_token.clone().unwrap(), request);
        requests.into_iter().map(with_token).collect()
    }

    /// How often this refresh token was presented.
    pub async fn presentations(&self, token: &str) -> usize {
        let refreshes = self.refreshes().await;
        refreshes.iter().filter(|(t, _)| t == token).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let err = std::fs::read_to_string(self.folder.path().join("err"));
            eprintln!("--- the OAuth server ---\n{}", err.unwrap_or_default());
        }
    }
}

async fn read(answer: reqwest::Response, what: &str) -> Value {
    let status = answer.status();
    let body = answer.text().await.unwrap();
    assert!(status.is_success(), "{what}: {status} {body}");
    serde_json::from_str(&body).unwrap()
}

fn source(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/interop").join(path)
}
