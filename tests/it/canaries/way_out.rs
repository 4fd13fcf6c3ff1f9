//! The one way out of a run: a proxy that asks for its password, keeps every request as it came, and takes those for each
//! host to its server.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use runner::embedded::listening::Listening;

use crate::harness::client;
use crate::traces::Trace;

pub(super) const USER: &str = "me";

/// What it passes on of no request and no answer.
const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
];

/// A request as it came.
#[derive(Clone)]
struct Heard {
    host: String,
    line: String,
    headers: HeaderMap,
    body: Bytes,
}

/// The proxy. It ends when it is dropped.
pub(super) struct WayOut {
    listening: Listening,
    shared: Arc<Shared>,
}

struct Shared {
    authorization: String,
    /// A host's name, and where its server is.
    servers: Vec<(&'static str, String)>,
    heard: Mutex<Vec<Heard>>,
}

impl WayOut {
    pub(super) async fn start(password: &str, servers: Vec<(&'static str, String)>) -> Self {
        let shared = Arc::new(Shared {
            authorization: format!("Basic {}", STANDARD.encode(format!("{USER}:{password}"))),
            servers,
            heard: Mutex::default(),
        });
        let router = Router::new().fallback(pass_on).with_state(Arc::clone(&shared));
        let listening = Listening::start(router).await.unwrap();
        Self { listening, shared }
    }

    /// `HOST:PORT`.
    pub(super) fn authority(&self) -> String {
        self.listening.address().to_string()
    }

    /// How many requests came for a host and had the password.
    pub(super) fn passed_on(&self, host: &str) -> usize {
        let heard = self.shared.heard.lock().unwrap();
        let with_password = |one: &&Heard| one.host == host && one.headers.contains_key(header::PROXY_AUTHORIZATION);
        heard.iter().filter(with_password).count()
    }

    /// All that was asked, in parts: the line, each header, the body.
    pub(super) fn traces(&self) -> Vec<Trace> {
        let heard = self.shared.heard.lock().unwrap();
        let parts = |one: &Heard| {
            let place = |part: &str| format!("{} {part}", one.host);
            let headers = one.headers.iter();
            let mut traces: Vec<Trace> = headers
                .map(|(name, value)| Trace::new(place(name.as_str()), value.as_bytes()))
                .collect();
            traces.push(Trace::new(place("line"), one.line.as_str()));
            traces.push(Trace::new(place("body"), one.body.as_ref()));
            traces
        };
        heard.iter().flat_map(parts).collect()
    }
}

async fn pass_on(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let host = parts.uri.host().unwrap_or_default().to_owned();
    let heard = Heard {
        host: host.clone(),
        line: format!("{} {}", parts.method, parts.uri),
        headers: parts.headers.clone(),
        body: body.clone(),
    };
    shared.heard.lock().unwrap().push(heard);
    let given = parts.headers.get(header::PROXY_AUTHORIZATION);
    if given.is_none_or(|given| given != &shared.authorization) {
        let challenge = [(header::PROXY_AUTHENTICATE, "Basic realm=\"way out\"")];
        return (StatusCode::PROXY_AUTHENTICATION_REQUIRED, challenge).into_response();
    }
    let Some((_, server)) = shared.servers.iter().find(|(name, _)| *name == host) else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let url = format!("{server}{}", parts.uri.path_and_query().unwrap());
    let asked = client()
        .request(parts.method, url)
        .headers(end_to_end(parts.headers))
        .body(body);
    let answer = asked.send().await.unwrap();
    let (status, headers) = (answer.status(), end_to_end(answer.headers().clone()));
    (status, headers, Body::from(answer.bytes().await.unwrap())).into_response()
}

fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers
}
