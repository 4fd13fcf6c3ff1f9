//! The door: how many connections may stand in it, and for how long. No peer can hold the listener or end it.
//!
//! | bound | what happens beyond it |
//! |---|---|
//! | [`CONNECTIONS`] at once | the oldest that is owed no answer is closed for the new one, so `/healthz` always gets in |
//! | [`HEAD_TIME`] for a request's head, idle time included | the connection is closed |
//! | [`HEAD_LIMIT`] bytes of head, 100 headers | 431 |
//! | [`BODY_TIME`] for a request's body | 408 |
//! | [`BODY_LIMIT`](super::BODY_LIMIT) bytes of body | 413 |
//! | [`REQUEST_TIME`] from the head to the answer | 503 |
//! | [`CONNECTION_TIME`] for a connection | it ends after the answer under way |

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, ErrorKind};
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
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::Refused;

/// How many connections there may be at once. Each costs a descriptor and at most some ten KiB.
const CONNECTIONS: usize = 256;
/// How long a request's head may take, from the first moment of the connection or the end of the answer before.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How many bytes the head of a request may have; what is read ahead of a body is as much.
const HEAD_LIMIT: usize = 16 * 1024;
/// How long the body of a request may take.
pub(super) const BODY_TIME: Duration = Duration::from_secs(10);
/// How long an answer may be waited for, from the end of the head: the journal may be on a slow disk.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// How long a connection may take requests. The answer that is under way then has [`REQUEST_TIME`], also to be read.
const CONNECTION_TIME: Duration = Duration::from_mins(1);
/// How long accepting pauses where the system has no descriptor, and none can be had by closing a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What a flood does is logged no more often than this.
const LOG_PAUSE: Duration = Duration::from_mins(1);

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
        let talk = talk(stream, routes.clone(), owed.clone(), self.go_on.subscribe());
        let task = tokio::spawn(talk);
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
async fn talk(stream: TcpStream, routes: Router, owed: Owed, mut go_on: watch::Receiver<()>) {
    let routes = TowerToHyperService::new(routes);
    let answering = service_fn(|request| answer(&routes, &owed, request));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_header_size(HEAD_LIMIT)
        .max_buf_size(HEAD_LIMIT);
    let mut talking = pin!(http.serve_connection(TokioIo::new(stream), answering));
    let ended = tokio::select! {
        ended = talking.as_mut() => ended,
        () = time_is_up(&mut go_on) => {
            talking.as_mut().graceful_shutdown();
            timeout(REQUEST_TIME, talking).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        // A peer can have as many of these as it likes.
        tracing::debug!("a connection broke off: {error}");
    }
}

/// The listener ends, or the connection has lived long enough.
async fn time_is_up(go_on: &mut watch::Receiver<()>) {
    drop(timeout(CONNECTION_TIME, go_on.changed()).await);
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
