//! Small servers on the loopback address: HTTP/1.1 with and without TLS, HTTP/2, and a proxy.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::http::Response;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// A certificate authority that nobody trusts by itself.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// TLS for the names of the tests, with these protocols (ALPN).
    fn acceptor(&self, protocols: &[&str]) -> TlsAcceptor {
        let names = ["provider.test", "localhost", "127.0.0.1"].map(str::to_owned);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.to_vec()).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What a server does with each request.
#[derive(Clone)]
pub enum Reply {
    /// Status and headers, then the body.
    Whole(&'static str, Vec<u8>),
    /// The head, a piece of the body, and nothing more.
    Stall,
}

impl Reply {
    pub fn json(body: &str) -> Self {
        Self::Whole("200 OK", body.as_bytes().to_vec())
    }
}

/// What a server has seen.
#[derive(Clone, Default)]
pub struct Seen {
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Seen {
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Each request as it came: the head and the body.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// A server that runs as long as the test's runtime.
pub struct Server {
    pub port: u16,
    pub seen: Seen,
}

impl Server {
    pub async fn plain(reply: Reply) -> Self {
        Self::start(move |stream, seen| {
            let reply = reply.clone();
            async move { http1(stream, &reply, &seen).await }
        })
        .await
    }

    pub async fn tls(authority: &Authority, protocols: &[&str], reply: Reply) -> Self {
        let acceptor = authority.acceptor(protocols);
        Self::start(move |stream, seen| {
            let (acceptor, reply) = (acceptor.clone(), reply.clone());
            async move {
                let stream = acceptor.accept(stream).await.ok()?;
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    http2(stream, &reply, &seen).await
                } else {
                    http1(stream, &reply, &seen).await
                }
            }
        })
        .await
    }

    /// A proxy that leads every tunnel to `port`, whatever the name.
    pub async fn proxy(port: u16) -> Self {
        Self::start(move |mut stream, seen| async move {
            let request = read_request(&mut stream).await?;
            seen.requests.lock().unwrap().push(request);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
            let mut behind = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
            copy_bidirectional(&mut stream, &mut behind).await.ok()?;
            Some(())
        })
        .await
    }

    async fn start<F>(serve: impl Fn(TcpStream, Seen) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Option<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Seen::default();
        let noted = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                noted.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, noted.clone()));
            }
        });
        Self { port, seen }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut read = Vec::new();
    loop {
        let byte = stream.read_u8().await.ok()?;
        read.push(byte);
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse::<usize>().unwrap())
        });
        if body.len() >= length.unwrap_or(0) {
            return Some(text.into_owned());
        }
    }
}

async fn http1(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    reply: &Reply,
    seen: &Seen,
) -> Option<()> {
    loop {
        let request = read_request(&mut stream).await?;
        seen.requests.lock().unwrap().push(request);
        match reply {
            Reply::Whole(head, body) => {
                let head = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all(head.as_bytes()).await.ok()?;
                stream.write_all(body).await.ok()?;
                stream.flush().await.ok()?;
            }
            Reply::Stall => {
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"acc";
                stream.write_all(head).await.ok()?;
                stream.flush().await.ok()?;
            }
        }
    }
}

async fn http2(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    reply: &Reply,
    seen: &Seen,
) -> Option<()> {
    let mut connection = h2::server::handshake(stream).await.ok()?;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (head, body) = request.into_parts();
        drop(body);
        let line = format!("{} {:?}", head.uri, head.version);
        seen.requests.lock().unwrap().push(line);
        let Reply::Whole(_, body) = reply else {
            return None;
        };
        let mut stream = respond.send_response(Response::new(()), false).ok()?;
        stream.send_data(body.clone().into(), true).ok()?;
    }
    Some(())
}
