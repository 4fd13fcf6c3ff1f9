//! The door: how many connections may stand in it, and for how long. No peer can hold the listener or end it.
//!
//! A connection is for one request: none is idle, and nobody has a thousand requests answered whose answers it never reads.
//!
//! | bound | what happens beyond it |
//! |---|---|
//! | [`CONNECTIONS`] at once | the oldest that is owed no answer is closed for the new one, so `/healthz` always gets in |
//! | [`HEAD_TIME`] for the request's head | the connection is closed |
//! | [`HEAD_LIMIT`] bytes of head, 100 headers | 431 |
//! | [`BODY_TIME`] for its body | 408 |
//! | [`BODY_LIMIT`](super::BODY_LIMIT) bytes of body | 413 |
//! | [`REQUEST_TIME`] from the head to the answer | 503 |
//! | [`CONNECTION_TIME`] for all of it, the answer read | the connection is closed |

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::Refused;

/// How many connections there may be at once. Each costs a descriptor and at most some ten KiB.
const CONNECTIONS: usize = 256;
/// How long a request's head may take, from the first moment of the connection.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How many bytes the head of a request may have; what is read ahead of a body is as much.
const HEAD_LIMIT: usize = 16 * 1024;
/// How long the body of a request may take.
pub(super) const BODY_TIME: Duration = Duration::from_secs(10);
/// How long an answer may be waited for, from the end of the head: the journal may be on a slow disk.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// How long a connection may take in all.
const CONNECTION_TIME: Duration = Duration::from_mins(1);
/// How long a peer may go on sending once it has its answer, and is not listened to.
const LINGER_TIME: Duration = Duration::from_secs(2);
/// How many connections may wait to be let in; the kernel allows no more than `net.core.somaxconn`.
const BACKLOG: u32 = 4096;
/// How long accepting pauses where the system has no descriptor, and none can be had by closing a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What a flood does is logged no more often than this.
const LOG_PAUSE: Duration = Duration::from_mins(1);

/// Binds the listener, with a long line before it: the kernel drops who finds it full, who then comes again after a second.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A start right after another's end does not wait for what is left of its connections.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop` resolves, and then until every answer under way is given.
pub(crate) async fn serve(listener: TcpListener, routes: Router, stop: impl Future) {
    let mut standing = Standing::default();
    {
        let mut stop = pin!(stop);
        let mut flood = Seldom::default();
        loop {
            let stream = tokio::select! {
                _ = &mut stop => break,
                stream = standing.next(&listener, &mut flood) => stream,
            };
            standing.let_in(stream, &routes);
        }
    }
    drop(listener);
    standing.end().await;
}

/// The connections, the oldest first.
struct Standing {
    connections: VecDeque<Connection>,
    /// Dropped to tell all of them to end.
    go_on: watch::Sender<()>,
}

struct Connection {
    task: JoinHandle<()>,
    owed: Owed,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            connections: VecDeque::new(),
            go_on: watch::Sender::new(()),
        }
    }
}

impl Standing {
    /// The next connection, once there is room for it.
    async fn next(&mut self, listener: &TcpListener, flood: &mut Seldom) -> TcpStream {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    self.make_room(flood).await;
                    return stream;
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    flood.warn(|times| format!("connections could not be accepted, {times} so far: {error}"));
                    if !self.close_oldest().await {
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    async fn make_room(&mut self, flood: &mut Seldom) {
        self.connections.retain(|connection| !connection.task.is_finished());
        while self.connections.len() >= CONNECTIONS {
            flood.warn(|times| format!("{CONNECTIONS} connections are open: the oldest was closed, {times} so far"));
            if self.close_oldest().await {
                continue;
            }
            // All are owed an answer, which each has in a bounded time.
            if let Some(oldest) = self.connections.pop_front() {
                drop(oldest.task.await);
            }
        }
    }

    /// Closes the oldest connection that is owed no answer. None is there where this is false.
    async fn close_oldest(&mut self) -> bool {
        let oldest = self.connections.iter().position(|connection| !connection.owed.is());
        let Some(connection) = oldest.and_then(|at| self.connections.remove(at)) else {
            return false;
        };
        connection.task.abort();
        // Its descriptor is free once this returns.
        drop(connection.task.await);
        true
    }

    fn let_in(&mut self, stream: TcpStream, routes: &Router) {
        let owed = Owed::default();
        let task = tokio::spawn(talk(stream, routes.clone(), owed.clone(), self.go_on.subscribe()));
        self.connections.push_back(Connection { task, owed });
    }

    /// Lets every answer under way be given.
    async fn end(self) {
        drop(self.go_on);
        for connection in self.connections {
            drop(connection.task.await);
        }
    }
}

/// Whether it is about one peer, which went away before it was let in.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

/// Whether a connection is owed an answer: the driver has its assignment, so it is not closed for another one.
#[derive(Debug, Clone, Default)]
pub(super) struct Owed(Arc<AtomicBool>);

impl Owed {
    /// From now on, until the answer is there.
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// One connection from its first byte to its last.
async fn talk(stream: TcpStream, routes: Router, owed: Owed, go_on: watch::Receiver<()>) {
    let ended = timeout(CONNECTION_TIME, exchange(stream, routes, owed, go_on)).await;
    if let Ok(Err(error)) = ended {
        // A peer can have as many of these as it likes.
        tracing::debug!("a connection broke off: {error}");
    }
}

/// One request and its answer.
async fn exchange(
    stream: TcpStream,
    routes: Router,
    owed: Owed,
    mut go_on: watch::Receiver<()>,
) -> Result<(), hyper::Error> {
    let routes = TowerToHyperService::new(routes);
    let answering = service_fn(|request| Box::pin(answer(&routes, &owed, request)));
    let mut talking = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(HEAD_TIME)
        .max_header_size(HEAD_LIMIT)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), answering);
    let ended = tokio::select! {
        ended = poll_fn(|cx| talking.poll_without_shutdown(cx)) => ended,
        _ = go_on.changed() => {
            Pin::new(&mut talking).graceful_shutdown();
            poll_fn(|cx| talking.poll_without_shutdown(cx)).await
        }
    };
    // What is no request was answered too.
    if ended.as_ref().map_or_else(hyper::Error::is_parse, |()| true) {
        drop(timeout(LINGER_TIME, linger(talking.into_parts().io.into_inner())).await);
    }
    ended
}

/// Takes what is still sent, and throws it away: a connection that is closed with something unread is reset, and an
/// answer that its peer has not read is lost with that.
async fn linger(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut unread = [0; 4096];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

async fn answer(
    routes: &TowerToHyperService<Router>,
    owed: &Owed,
    mut request: Request<Incoming>,
) -> Result<Response, Infallible> {
    request.extensions_mut().insert(owed.clone());
    let answer = timeout(REQUEST_TIME, routes.call(request)).await;
    owed.end();
    answer.unwrap_or_else(|_| Ok(Refused::too_slow().into_response()))
}

/// Says something once in a while, and how often it happened.
#[derive(Default)]
struct Seldom {
    times: u64,
    said: Option<Instant>,
}

impl Seldom {
    fn warn(&mut self, text: impl FnOnce(u64) -> String) {
        self.times += 1;
        if self.said.is_none_or(|said| said.elapsed() >= LOG_PAUSE) {
            self.said = Some(Instant::now());
            tracing::warn!("{}", text(self.times));
        }
    }
}

#[cfg(test)]
mod tests;
