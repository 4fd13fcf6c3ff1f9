//! The loopback proxy itself: who may ask, what may be asked, and how it is passed on.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName,
    HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use reqwest::Client;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use subtle::ConstantTimeEq;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use url::Url;

use super::meter::{Counted, Follow, Meter, Spent};
use super::{Access, ModelKey, Upstream};
use crate::adapters::agent::MicroUsd;
use crate::adapters::http::{HttpOptions, HttpSetupError, Proxies, build_streaming_client, whole_text};
use crate::redact::Redactor;
use crate::secret::Secret;

/// All that Claude Code 2.1.330 without a person was seen to ask for; and what counts tokens, which costs nothing. Everything
/// else is refused.
const MESSAGES: &str = "/v1/messages";
const COUNT_TOKENS: &str = "/v1/messages/count_tokens";
/// So many connections at once, and so requests; more wait. It bounds what may pass the budget while it is being reached.
const CONNECTIONS: usize = 32;
/// How long accepting pauses when the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How much of an error's body is passed on. It is read whole, so that the key can be taken out of it.
const ERROR_LIMIT: usize = 64 * 1024;
/// How much of a refused request is still read, so that who sent it reads the refusal.
const REFUSED_LIMIT: usize = 32 * 1024 * 1024;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The agent is told of the operator's trace, and may say so to everyone: the model's API is not the operator's.
const OF_THE_TRACE: [HeaderName; 3] = [
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];
/// RFC 9110, section 7.6.1, and two that never became part of it.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

type Answer = Response<UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>>;

/// Why there is no proxy.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// No port is to be had.
    #[error("listen on 127.0.0.1 for the agent: {0}")]
    Listen(io::Error),
    /// No client.
    #[error(transparent)]
    Client(#[from] HttpSetupError),
    /// No key for the agent.
    #[error("draw a key for the agent: the system gives no random numbers")]
    Random,
}

/// A proxy under way. Dropping it ends it with all of its connections, those to the model too.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    key: Secret,
    meter: Arc<Meter>,
    serving: JoinHandle<()>,
    keeping: JoinHandle<()>,
}

impl Proxy {
    /// Begins to listen on a free port of 127.0.0.1. `left` is what may be spent, `account` the file in which what was spent
    /// is kept up to date. It tells `redactor` of each key that it reads: one that rotates is another than at the start.
    pub async fn start(
        upstream: Upstream,
        left: MicroUsd,
        account: PathBuf,
        redactor: Redactor,
    ) -> Result<Self, ProxyError> {
        let client = build_streaming_client(&HttpOptions {
            ca_file: upstream.ca_file.clone(),
            proxies: Proxies::for_peer(&upstream.base),
            ..HttpOptions::default()
        })?;
        let mut random = [0_u8; 32];
        SystemRandom::new().fill(&mut random).map_err(|_| ProxyError::Random)?;
        let key = Secret::new(format!("sk-ant-runner-{}", hex::encode(random)));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(ProxyError::Listen)?;
        let address = listener.local_addr().map_err(ProxyError::Listen)?;
        let meter = Meter::new(Arc::clone(&upstream.prices), left);
        let door = Arc::new(Door {
            key: key.clone(),
            base: upstream.base,
            model_key: upstream.key,
            client,
            meter: Arc::clone(&meter),
            redactor,
        });
        Ok(Self {
            address,
            key,
            keeping: tokio::spawn(keep(meter.follow(), account)),
            meter,
            serving: tokio::spawn(serve(listener, door)),
        })
    }

    /// Tells of each request from now on. Only the first call counts.
    pub fn tell(&self, follow: Follow) {
        self.meter.tell(follow);
    }

    /// What the agent gets.
    pub fn access(&self) -> Access {
        Access {
            url: format!("http://{}", self.address),
            key: self.key.clone(),
        }
    }

    /// The one port of this machine that the agent has to reach.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What was used until now.
    pub fn spent(&self) -> Spent {
        self.meter.spent()
    }

    /// Whether a request was refused because the budget was spent.
    pub fn refused_for_budget(&self) -> bool {
        *self.meter.refusals().borrow()
    }

    /// Comes back when that is so.
    pub async fn out_of_budget(&self) {
        // The meter lives as long as the proxy.
        drop(self.meter.refusals().wait_for(|refused| *refused).await);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
        self.keeping.abort();
    }
}

/// Keeps the account on disk, off the way of what is passed on. It may be a moment behind.
async fn keep(mut spent: watch::Receiver<Spent>, account: PathBuf) {
    while spent.changed().await.is_ok() {
        let now = spent.borrow_and_update().clone();
        let account = account.clone();
        // An account that cannot be written is one that a restart does not know; the requests go on.
        drop(tokio::task::spawn_blocking(move || now.keep(&account)).await);
    }
}

impl Spent {
    /// Writes it in one piece: a reader sees this or the one before.
    pub fn keep(&self, account: &Path) -> io::Result<()> {
        let new = account.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(self)?)?;
        std::fs::rename(new, account)
    }

    /// What an earlier run kept; none where there was none or it cannot be read.
    pub fn kept(account: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(account).ok()?).ok()
    }
}

/// The connections are this task's own: they end with it.
async fn serve(listener: TcpListener, door: Arc<Door>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    // Only for speed.
                    drop(stream.set_nodelay(true));
                    let door = Arc::clone(&door);
                    let service = service_fn(move |request| {
                        let door = Arc::clone(&door);
                        async move { Ok::<_, Infallible>(door.answer(request).await) }
                    });
                    connections.spawn(async move {
                        // A connection that breaks off is the agent's affair.
                        drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
                    });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// What each request meets.
struct Door {
    key: Secret,
    base: Url,
    model_key: ModelKey,
    client: Client,
    meter: Arc<Meter>,
    redactor: Redactor,
}

/// Why a request is not passed on, or has no answer.
enum Refusal {
    WrongKey,
    NotServed(String),
    BudgetSpent(MicroUsd),
    NoKey(String),
    Unreachable(String),
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Messages,
    CountTokens,
}

impl Door {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let asked = match self.may_pass(&parts) {
            Ok(asked) => asked,
            Err(refusal) => {
                read_and_forget(Limited::new(body, REFUSED_LIMIT)).await;
                return refusal.answer();
            }
        };
        let passed = self.pass_on(asked, parts, body).await;
        passed.unwrap_or_else(Refusal::answer)
    }

    fn may_pass(&self, parts: &Parts) -> Result<Asked, Refusal> {
        if !self.knows(&parts.headers) {
            return Err(Refusal::WrongKey);
        }
        let asked = match (&parts.method, parts.uri.path()) {
            (&Method::POST, MESSAGES) => Asked::Messages,
            (&Method::POST, COUNT_TOKENS) => Asked::CountTokens,
            (method, path) => return Err(Refusal::NotServed(format!("{method} {path}"))),
        };
        if asked == Asked::Messages && !self.meter.admits() {
            return Err(Refusal::BudgetSpent(self.meter.left()));
        }
        Ok(asked)
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let given = match (headers.get(API_KEY), headers.get(AUTHORIZATION)) {
            (Some(key), _) => key.as_bytes(),
            (None, Some(value)) => value.as_bytes().strip_prefix(b"Bearer ").unwrap_or_default(),
            (None, None) => return false,
        };
        given.ct_eq(self.key.expose().as_bytes()).into()
    }

    async fn pass_on(&self, asked: Asked, parts: Parts, body: Incoming) -> Result<Answer, Refusal> {
        let real = self.model_key.read().map_err(Refusal::NoKey)?;
        self.redactor.add(&real);
        let mut headers = end_to_end(parts.headers);
        for name in [HOST, EXPECT, API_KEY, AUTHORIZATION].into_iter().chain(OF_THE_TRACE) {
            headers.remove(name);
        }
        // What is compressed cannot be counted.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        self.model_key.sign(&real, &mut headers).map_err(Refusal::NoKey)?;
        let mut url = self.base.clone();
        let path = match asked {
            Asked::Messages => MESSAGES,
            Asked::CountTokens => COUNT_TOKENS,
        };
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url.set_query(parts.uri.query());
        let request = self.client.post(url).headers(headers).body(reqwest::Body::wrap(body));
        let response = request.send().await.map_err(|error| {
            let text = real.scrub(&whole_text(&error.without_url()));
            Refusal::Unreachable(format!("{}: {text}", self.base.host_str().unwrap_or_default()))
        })?;
        let (mut head, body) = Response::from(response).into_parts();
        head.headers = end_to_end(head.headers);
        if head.status.is_client_error() || head.status.is_server_error() {
            // A gateway may repeat what it was sent.
            head.headers.remove(CONTENT_LENGTH);
            let text = match Limited::new(body, ERROR_LIMIT).collect().await {
                Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
                Err(error) if error.is::<LengthLimitError>() => {
                    error_body("api_error", "the model's error is too long")
                }
                Err(error) => return Err(Refusal::Unreachable(real.scrub(&error.to_string()))),
            };
            return Ok(Response::from_parts(head, text_body(real.scrub(&text))));
        }
        let counted = (asked == Asked::Messages && head.status.is_success()).then(|| {
            let kind = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            self.meter.count(kind.unwrap_or_default())
        });
        let body = match counted {
            Some(counted) => Passing { body, counted }.map_err(Into::into).boxed_unsync(),
            None => body.map_err(Into::into).boxed_unsync(),
        };
        Ok(Response::from_parts(head, body))
    }
}

/// The headers that are for the other end, not for the next hop.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.into_iter().chain(named) {
        headers.remove(name);
    }
    headers
}

/// An answer on its way through: every piece is counted, and goes on as it is.
struct Passing {
    body: reqwest::Body,
    counted: Counted,
}

impl Body for Passing {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(bytes) = frame.data_ref() {
                    self.counted.feed(bytes);
                }
                // After the last piece nobody need ask again.
                if self.body.is_end_stream() {
                    self.counted.finish();
                }
            }
            Poll::Ready(Some(Err(_)) | None) => self.counted.finish(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn read_and_forget(mut body: Limited<Incoming>) {
    while let Some(Ok(_)) = body.frame().await {}
}

impl Refusal {
    fn answer(self) -> Answer {
        let (status, kind, text) = match self {
            Self::WrongKey => (
                StatusCode::UNAUTHORIZED,
                "authentication_error",
                "this is not the key that the runner made for this agent".to_owned(),
            ),
            Self::NotServed(what) => (
                StatusCode::NOT_FOUND,
                "not_found_error",
                format!("the runner passes on POST {MESSAGES} and POST {COUNT_TOKENS}, and not {what}"),
            ),
            Self::BudgetSpent(left) => (
                StatusCode::PAYMENT_REQUIRED,
                "billing_error",
                format!("the runner passes on no further request: the agent has spent its budget of ${left}"),
            ),
            Self::NoKey(why) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "api_error",
                format!("the runner has no key for the model: {why}"),
            ),
            Self::Unreachable(why) => (
                StatusCode::BAD_GATEWAY,
                "api_error",
                format!("the runner could not reach the model's API at {why}"),
            ),
        };
        let mut answer = Response::new(text_body(error_body(kind, &text)));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status.is_client_error() {
            // It will be no other the next time.
            headers.insert(
                HeaderName::from_static("x-should-retry"),
                HeaderValue::from_static("false"),
            );
        }
        answer
    }
}

/// The API's own form of an error.
fn error_body(kind: &str, text: &str) -> String {
    json!({"type": "error", "error": {"type": kind, "message": text}}).to_string()
}

fn text_body(text: String) -> UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed_unsync()
}
