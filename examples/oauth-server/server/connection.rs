//! Connections that can be broken on purpose.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How much of a body is let through when an answer is cut off.
const CUT_BODY_AFTER: usize = 10;

/// Accepts connections and numbers them.
pub struct Doors {
    listener: TcpListener,
    stop: CancellationToken,
    accepted: u64,
}

impl Doors {
    pub fn new(listener: TcpListener, stop: CancellationToken) -> Self {
        Self {
            listener,
            stop,
            accepted: 0,
        }
    }
}

impl Listener for Doors {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        let (tcp, peer) = Listener::accept(&mut self.listener).await;
        self.accepted += 1;
        let broken = self.stop.child_token();
        let stream = Stream {
            tcp,
            ending: Box::pin(broken.clone().cancelled_owned()),
            connection: Connection {
                number: self.accepted,
                broken,
                cut: Arc::default(),
            },
        };
        (stream, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// What a request handler knows of the connection that it answers on.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Counts from 1 since the server (re)started.
    pub number: u64,
    broken: CancellationToken,
    cut: Arc<AtomicBool>,
}

impl Connection {
    /// From now on not one byte more is written, and the connection closes.
    pub fn break_now(&self) {
        self.broken.cancel();
    }

    /// The next answer stops short: its head, a few bytes of its body, and the connection closes.
    pub fn cut_next_answer(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Whether the connection was broken or the server stopped.
    pub fn is_broken(&self) -> bool {
        self.broken.is_cancelled()
    }

    /// Ends when the connection is broken or the server stops.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }
}

impl Connected<IncomingStream<'_, Doors>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Doors>) -> Self {
        stream.io().connection.clone()
    }
}

/// A TCP stream which fails once its connection is broken.
pub struct Stream {
    tcp: TcpStream,
    ending: Pin<Box<WaitForCancellationFutureOwned>>,
    connection: Connection,
}

fn aborted() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionAborted)
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.connection.is_broken() || self.ending.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(aborted()));
        }
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.connection.is_broken() {
            return Poll::Ready(Err(aborted()));
        }
        if !self.connection.cut.load(Ordering::SeqCst) {
            return Pin::new(&mut self.tcp).poll_write(cx, buf);
        }
        // The head of an answer arrives here in one piece, alone or with its body behind it.
        let head = buf.windows(4).position(|four| four == b"\r\n\r\n");
        let short = head.map_or(0, |end| end + 4 + CUT_BODY_AFTER);
        let short = short.min(buf.len().saturating_sub(1));
        let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, &buf[..short]))?;
        self.connection.break_now();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
