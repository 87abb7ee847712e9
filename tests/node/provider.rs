//! An OAuth server that pods reach, by TLS as providers are.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use tokio::{io::copy_bidirectional, net::TcpListener, net::TcpStream, task::JoinHandle};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use crate::{
    node::ADDRESS,
    oauth_server::{Config, OAuthServer, OldToken},
    place::{Namespace, apply, kubectl},
};

/// How long tokens live: a test asks for each refresh, so that nothing depends on how fast it is.
const LIFETIME: Duration = Duration::from_secs(3600);

/// The server, its door for TLS, and the objects that describe it.
pub struct Provider {
    pub oauth: OAuthServer,
    /// Where its token endpoint is for the operator.
    secure: SocketAddr,
    certificate: String,
    door: JoinHandle<()>,
}

impl Provider {
    /// One that rotates refresh tokens, gives up an authorization whose tokens are used twice, and does this to the old
    /// access token at a refresh.
    pub async fn start(on_refresh: OldToken) -> Self {
        let config = Config {
            address: SocketAddr::from((ADDRESS, 0)),
            ..Config::default()
        };
        let oauth = OAuthServer::start(config).await.expect("an OAuth server");
        oauth.configure(|behaviour| {
            behaviour.lifetime = LIFETIME;
            behaviour.on_refresh = on_refresh;
        });
        let address = std::net::Ipv4Addr::from(ADDRESS).to_string();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec![address]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let mut tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a certificate and its key");
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let listener = TcpListener::bind(SocketAddr::from((ADDRESS, 0))).await;
        let listener = listener.expect("a free port");
        let plain = oauth.url();
        let plain = plain.strip_prefix("http://").expect("http").to_owned();
        Self {
            secure: listener.local_addr().expect("an address"),
            certificate: cert.pem(),
            door: tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), plain)),
            oauth,
        }
    }

    /// Describes it in a namespace.
    pub fn describe(&self, namespace: &Namespace, old_token: &str) {
        let url = format!("https://{}/token", self.secure);
        let bundle = data_encoding::BASE64.encode(self.certificate.as_bytes());
        apply(
            &namespace.name,
            &[
                secret("client", &json!({"client_secret": "demo-secret"})),
                json!({
                    "apiVersion": "tokenward.dev/v1alpha1", "kind": "OAuthProvider",
                    "metadata": {"name": "provider"},
                    "spec": {
                        "tokenUrl": url, "caBundle": bundle,
                        "client": {"id": "demo", "secretKeyRefs": [{"name": "client", "key": "client_secret"}]},
                        "rotation": "Always", "reuseDetection": "RevokesFamily",
                        "accessTokenOnRefresh": old_token,
                    },
                }),
            ],
        );
    }

    /// Has a user authorize the client, and a credential made of that.
    pub fn authorize(&self, namespace: &Namespace, name: &str) {
        let seed = format!("{name}-seed");
        let token = self.oauth.issue_refresh_token("read");
        apply(
            &namespace.name,
            &[
                secret(&seed, &json!({"refresh_token": token})),
                json!({
                    "apiVersion": "tokenward.dev/v1alpha1", "kind": "IntegrationCredential",
                    "metadata": {"name": name},
                    "spec": {"user": name, "oauth2": {
                        "providerRef": {"name": "provider"}, "grantType": "RefreshToken",
                        "seedSecretRef": {"name": seed},
                    }},
                }),
            ],
        );
    }

    /// The token of a credential, once it is not `old`.
    pub async fn next(&self, namespace: &Namespace, name: &str, old: &str) -> String {
        let another = |secret: &Value| token_in(secret).filter(|token| token != old);
        namespace
            .until("secret", name, "another token", another)
            .await
    }

    /// Calls that were refused.
    pub fn refused(&self) -> usize {
        self.oauth.resource_calls().1
    }

    /// Whether a call with this token was accepted.
    pub fn was_used(&self, token: &str) -> bool {
        let calls = self.oauth.resource_log();
        calls
            .iter()
            .any(|call| call.accepted && call.access_token.as_deref() == Some(token))
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.door.abort();
    }
}

/// Asks for a refresh.
pub fn ask(namespace: &Namespace, name: &str, request: &str) {
    let annotation = format!("tokenward.dev/refresh-requested={request}");
    let object = format!("integrationcredential/{name}");
    kubectl(&[
        "annotate",
        "--overwrite",
        "-n",
        &namespace.name,
        &object,
        &annotation,
    ]);
}

fn token_in(secret: &Value) -> Option<String> {
    let encoded = secret["data"]["access_token"].as_str()?;
    let decoded = data_encoding::BASE64.decode(encoded.as_bytes()).ok()?;
    String::from_utf8(decoded).ok()
}

fn secret(name: &str, data: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "labels": {"tokenward.dev/watch": "true"}}, "stringData": data,
    })
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, plain: String) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        let (tls, plain) = (tls.clone(), plain.clone());
        tokio::spawn(async move {
            let mut client = tls.accept(client).await?;
            let mut server = TcpStream::connect(plain).await?;
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}
