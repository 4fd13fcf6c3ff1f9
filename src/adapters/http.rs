//! What every HTTP client of the runner shares: one way to build it, one way to send, and what went wrong in transport.

use std::error::Error as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder, Response, StatusCode, redirect, retry};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;

use crate::ids::is_link_local;
use crate::text::excerpt;
use url::{Host, Url};

/// How long name resolution, TCP and TLS may take together.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request may take from its start to the last byte of its answer.
pub const DEFAULT_TOTAL_TIMEOUT: Duration = Duration::from_mins(1);
/// The longest wait that a peer may ask for by `Retry-After`.
pub const RETRY_AFTER_LIMIT: Duration = Duration::from_mins(5);
/// Sent with every request.
pub const USER_AGENT: &str = concat!("runner/", env!("CARGO_PKG_VERSION"));

/// How long a connection for streams is kept for the next one. Shorter than a peer's own, so that ours is not the late one.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);
/// How many bytes of an error's body are looked at; the rest is not read.
const ERROR_BODY_LIMIT: usize = 64 * 1024;

/// What an operator can set about the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOptions {
    /// See [`DEFAULT_CONNECT_TIMEOUT`].
    pub connect_timeout: Duration,
    /// See [`DEFAULT_TOTAL_TIMEOUT`].
    pub total_timeout: Duration,
    /// A PEM file of further roots, beside the platform's (`RUNNER_CA_FILE`).
    pub ca_file: Option<PathBuf>,
    /// Where requests go first.
    pub proxies: Proxies,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            total_timeout: DEFAULT_TOTAL_TIMEOUT,
            ca_file: None,
            proxies: Proxies::Environment,
        }
    }
}

/// Whether the proxy variables of the environment are heeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxies {
    /// `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    Environment,
    /// Straight to the peer: no proxy can reach a server on this machine's loopback.
    Direct,
}

impl Proxies {
    /// [`Proxies::Direct`] for a loopback host, else [`Proxies::Environment`].
    pub fn for_peer(peer: &Url) -> Self {
        let loopback = match peer.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if loopback { Self::Direct } else { Self::Environment }
    }
}

/// Why there is no client. Each is seen at the start, before anything is sent.
#[derive(Debug, Error)]
pub enum HttpSetupError {
    /// The file of further roots is missing or not readable.
    #[error("failed to read the CA file {}; name a readable PEM file or unset RUNNER_CA_FILE", path.display())]
    CaFileUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file of further roots has none in it: silently no roots, if it were let pass.
    #[error("the CA file {} has no certificate; name a PEM file with at least one in RUNNER_CA_FILE", path.display())]
    CaFileEmpty {
        /// The file.
        path: PathBuf,
    },
    /// The file of further roots has something broken in it.
    #[error("the CA file {} has a certificate that cannot be used: {why}; name another one in RUNNER_CA_FILE", path.display())]
    CaFileInvalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, for a person.
        why: String,
    },
    /// No usable client: most likely a machine without root certificates.
    #[error("failed to set up the HTTP client (are root certificates installed?): {0}")]
    Client(String),
}

/// Names are resolved as the system does, less the addresses that only this link can reach: cloud metadata lives there,
/// and a name that leads to it passes every check of an address. A proxy resolves names itself.
#[derive(Debug)]
struct BeyondThisLink;

impl Resolve for BeyondThisLink {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let beyond: Vec<SocketAddr> = found.filter(|address| !is_link_local(address.ip())).collect();
            if beyond.is_empty() {
                let why = "the name leads to link-local addresses alone, which belong to the machine";
                return Err(why.into());
            }
            Ok(Box::new(beyond.into_iter()) as Addrs)
        })
    }
}

/// Builds the client that the task API and the forge share.
///
/// It connects to no link-local address by a name, follows no redirect, keeps no cookie, resends nothing, and opens a connection for each request: one kept from
/// before may be closed by the peer in the very moment it is used again, which cannot be told from a lost answer.
pub fn build_client(options: &HttpOptions) -> Result<Client, HttpSetupError> {
    build(options, |builder| {
        builder.pool_max_idle_per_host(0).timeout(options.total_timeout)
    })
}

/// Builds a client for answers that take as long as they take: no time-out but that for the connection, and connections
/// are used again. The one who asked has to see to it that nothing is waited for in vain.
pub fn build_streaming_client(options: &HttpOptions) -> Result<Client, HttpSetupError> {
    build(options, |builder| builder.pool_idle_timeout(IDLE_CONNECTION))
}

fn build(options: &HttpOptions, more: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Client, HttpSetupError> {
    // An error here says that a provider is installed already: by an earlier call, or by whoever embeds this crate.
    drop(ring::default_provider().install_default());
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .dns_resolver(BeyondThisLink)
        .connect_timeout(options.connect_timeout);
    if options.proxies == Proxies::Direct {
        builder = builder.no_proxy();
    }
    if let Some(path) = &options.ca_file {
        builder = builder.tls_certs_merge(read_roots(path)?);
    }
    more(builder)
        .build()
        .map_err(|error| HttpSetupError::Client(whole_text(&error)))
}

/// The certificates of a PEM file, each held against what TLS takes for a root.
fn read_roots(path: &Path) -> Result<Vec<Certificate>, HttpSetupError> {
    let invalid = |why: String| HttpSetupError::CaFileInvalid {
        path: path.to_owned(),
        why,
    };
    let pem = fs::read(path).map_err(|source| HttpSetupError::CaFileUnreadable {
        path: path.to_owned(),
        source,
    })?;
    let mut roots = Vec::new();
    for der in CertificateDer::pem_slice_iter(&pem) {
        let der = der.map_err(|error| invalid(error.to_string()))?;
        let root = Certificate::from_der(&der).map_err(|error| invalid(error.to_string()))?;
        RootCertStore::empty()
            .add(der)
            .map_err(|error| invalid(error.to_string()))?;
        roots.push(root);
    }
    if roots.is_empty() {
        return Err(HttpSetupError::CaFileEmpty { path: path.to_owned() });
    }
    Ok(roots)
}

/// What went wrong in transport, by the one thing that decides what may be done next: whether the peer can have acted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransportError {
    /// No connection (refused, unreachable, no such name, TLS): the peer cannot have done anything.
    #[error("the request was not sent: {0}")]
    NotSent(String),
    /// A time-out or a reset after the request may have gone out: the peer may have done the work.
    #[error("the answer was lost, the request may have been carried out: {0}")]
    Lost(String),
}

impl TransportError {
    fn of(error: &reqwest::Error) -> Self {
        let text = whole_text(error);
        if error.is_connect() || error.is_builder() {
            Self::NotSent(text)
        } else {
            Self::Lost(text)
        }
    }
}

/// Why there is no whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExchangeError {
    /// It did not come.
    Transport(TransportError),
    /// It was a success with a body over the limit.
    TooLarge,
}

/// An answer, read to its end (an error's body to [`ERROR_BODY_LIMIT`] only).
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// How long the peer asked us to stay away, see [`retry_after`].
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers, Timestamp::now())
    }
}

/// Sends one request, once, and reads its answer up to `limit` bytes.
pub(crate) async fn exchange(request: RequestBuilder, limit: usize) -> Result<Answer, ExchangeError> {
    let lost = |error: &reqwest::Error| ExchangeError::Transport(TransportError::of(error));
    // Without the address, which may be a secret: the caller knows it.
    let lost = |error: reqwest::Error| lost(&error.without_url());
    let mut response = request.send().await.map_err(lost)?;
    let status = response.status();
    let headers = response.headers().clone();
    let body = if status.is_success() {
        if response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(ExchangeError::TooLarge);
        }
        let Read::Whole(body) = read(&mut response, limit).await.map_err(lost)? else {
            return Err(ExchangeError::TooLarge);
        };
        body
    } else {
        let (Read::Whole(body) | Read::Cut(body)) = read(&mut response, ERROR_BODY_LIMIT).await.map_err(lost)?;
        body
    };
    Ok(Answer { status, headers, body })
}

/// A body, read as far as it was allowed.
enum Read {
    Whole(Vec<u8>),
    Cut(Vec<u8>),
}

async fn read(response: &mut Response, limit: usize) -> Result<Read, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = limit - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            return Ok(Read::Cut(body));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Read::Whole(body))
}

/// `Retry-After`, in seconds or as an HTTP date (RFC 9110, section 10.2.3), at most [`RETRY_AFTER_LIMIT`];
/// a date that has passed is no wait, and what is neither is no answer.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        // More digits than fit are a long wait, not none.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let until = DateTimeParser::new().parse_timestamp(text).ok()?;
        Duration::try_from(until.duration_since(now)).unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_LIMIT))
}

/// An error of the client with everything below it; the address is left out, the caller knows it.
pub(crate) fn whole_text(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
        next = cause.source();
    }
    if text.is_empty() {
        // Without a cause the error speaks for itself, in one fixed phrase and the address.
        text = error.to_string();
    }
    excerpt(&text)
}

#[cfg(test)]
mod tests;
