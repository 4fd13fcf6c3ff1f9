//! The listener: it parses, it refuses, and it hands an assignment to the driver. No route can move a task that is under way.

mod door;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::driver::{Assign, Assigned};
use crate::ids::{ApiUrl, TaskId};
use crate::machine::Assignment;
use crate::secret::Secret;
use crate::telemetry::{self, Metrics, Status};
use crate::trace::Trace;

use door::{BODY_TIME, Owed};
pub(crate) use door::{bind, serve};

/// A `POST /task` body may have this many bytes (contract, section 1).
const BODY_LIMIT: usize = 64 * 1024;

/// What the routes stand on.
#[derive(Clone)]
pub struct Listener {
    /// To the driver.
    pub inbox: mpsc::Sender<Assign>,
    /// From the driver.
    pub status: watch::Receiver<Status>,
    /// What `/metrics` serves.
    pub metrics: Metrics,
    /// What `/task` asks for, if anything.
    pub task_token: Option<Secret>,
    /// Hosts that an apiURL may name; empty allows any.
    pub api_allow: Vec<String>,
}

/// The routes.
pub fn router(listener: Listener) -> Router {
    Router::new()
        .route("/task", post(assign))
        .route("/healthz", get(|| async { "ok" }))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .fallback(|| async {
            Refused::new(
                StatusCode::NOT_FOUND,
                "no such route",
                "POST /task, GET /healthz, GET /status and GET /metrics are",
            )
        })
        .method_not_allowed_fallback(|| async {
            Refused::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "no such method here",
                "POST /task, GET /healthz, GET /status and GET /metrics are",
            )
        })
        .with_state(listener)
}

/// An error body: `{"error": "...", "details": "..."}`.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    body: RefusedBody,
}

#[derive(Debug, Serialize)]
struct RefusedBody {
    error: &'static str,
    details: String,
}

impl Refused {
    fn new(status: StatusCode, error: &'static str, details: impl Into<String>) -> Self {
        Self {
            status,
            body: RefusedBody {
                error,
                details: details.into(),
            },
        }
    }

    fn too_slow() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the answer takes too long",
            "the journal may be on a slow disk; ask again: what was taken by then is accepted again",
        )
    }

    fn bad_request(error: &'static str, details: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, details)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[derive(Deserialize)]
struct TaskRequest {
    #[serde(rename = "taskID")]
    task_id: String,
    #[serde(rename = "apiURL")]
    api_url: String,
}

async fn assign(State(listener): State<Listener>, request: Request<Body>) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    authorize(&listener, &parts.headers)?;
    json_only(&parts.headers)?;
    let body = read(&parts.headers, body).await?;
    let assignment = parse(&body, trace(&parts.headers))?;
    allow(&listener, &assignment.api_url)?;
    let (answer, answered) = oneshot::channel();
    let unwritable = || {
        Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the assignment was not taken",
            "the journal cannot be written",
        )
    };
    let place = listener.inbox.reserve().await.map_err(|_| unwritable())?;
    if let Some(owed) = parts.extensions.get::<Owed>() {
        owed.begin();
    }
    place.send(Assign { assignment, answer });
    match answered.await.map_err(|_| unwritable())? {
        Assigned::Accepted => Ok(axum::Json(serde_json::json!({"status": "accepted"})).into_response()),
        Assigned::Other(own) => Err(Refused::new(
            StatusCode::CONFLICT,
            "another task is assigned here",
            format!("this runner's one task is {own}; its apiURL may differ from this one's too"),
        )),
        Assigned::Stopping => Err(Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the assignment was not taken",
            "the runner was told to stop",
        )),
    }
}

fn authorize(listener: &Listener, headers: &HeaderMap) -> Result<(), Refused> {
    let Some(token) = &listener.task_token else {
        return Ok(());
    };
    let given = one(headers, header::AUTHORIZATION)
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, given)| given.trim());
    // Digests are compared, so that not even the length shows in the time it takes.
    let same = given.is_some_and(|given| {
        let (given, token) = (
            Sha256::digest(given.as_bytes()),
            Sha256::digest(token.expose().as_bytes()),
        );
        bool::from(given.as_slice().ct_eq(token.as_slice()))
    });
    if same {
        Ok(())
    } else {
        Err(Refused::new(
            StatusCode::UNAUTHORIZED,
            "not authorized",
            "this runner asks for the bearer token of RUNNER_TASK_TOKEN",
        ))
    }
}

/// A header that is there once: of two, somebody before us may have looked at the other one.
fn one(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.to_str().ok()).flatten()
}

fn json_only(headers: &HeaderMap) -> Result<(), Refused> {
    let media_type = one(headers, header::CONTENT_TYPE)
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase());
    match media_type.as_deref() {
        Some("application/json") => Ok(()),
        Some(_) | None => Err(Refused::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not application/json",
            "send the task with Content-Type: application/json",
        )),
    }
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Refused> {
    let too_large = || {
        Refused::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is too large",
            format!("at most {BODY_LIMIT} bytes are taken"),
        )
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > BODY_LIMIT as u64) {
        return Err(too_large());
    }
    match timeout(BODY_TIME, axum::body::to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_long(&error) => Err(too_large()),
        Ok(Err(error)) => Err(Refused::bad_request("the body could not be read", error.to_string())),
        Err(_) => Err(Refused::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come in time",
            format!("it may take {} s", BODY_TIME.as_secs()),
        )),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>)
}

/// What is no trace context is as if there were none: a trace never keeps a task from being taken.
fn trace(headers: &HeaderMap) -> Option<Trace> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    Trace::parse(text("traceparent")?, text("tracestate"))
}

fn parse(body: &[u8], trace: Option<Trace>) -> Result<Assignment, Refused> {
    let request: TaskRequest = serde_json::from_slice(body).map_err(|e| {
        Refused::bad_request(
            "not a task: {\"taskID\": \"...\", \"apiURL\": \"...\"} is",
            e.to_string(),
        )
    })?;
    let task_id: TaskId = request
        .task_id
        .parse()
        .map_err(|e: crate::ids::InvalidName| Refused::bad_request("taskID is not allowed", e.to_string()))?;
    let api_url: ApiUrl = request
        .api_url
        .parse()
        .map_err(|e: crate::ids::InvalidName| Refused::bad_request("apiURL is not allowed", e.to_string()))?;
    Ok(Assignment {
        task_id,
        api_url,
        trace,
    })
}

fn allow(listener: &Listener, api_url: &ApiUrl) -> Result<(), Refused> {
    let forbidden = |details: String| Refused::new(StatusCode::FORBIDDEN, "this apiURL is not allowed here", details);
    if api_url.is_link_local() {
        return Err(forbidden(
            "link-local addresses belong to the machine, not to a task API".to_owned(),
        ));
    }
    let host = api_url.host().unwrap_or_default();
    // Both sides are in the URL parser's own spelling; the dot that ends a full name is no part of it.
    let name = |host: &str| host.strip_suffix('.').unwrap_or(host).to_owned();
    if listener.api_allow.is_empty() || listener.api_allow.iter().any(|allowed| name(allowed) == name(&host)) {
        Ok(())
    } else {
        Err(forbidden(format!(
            "{host} is not in RUNNER_API_ALLOW: {}",
            listener.api_allow.join(", ")
        )))
    }
}

async fn status(State(listener): State<Listener>) -> axum::Json<Status> {
    axum::Json(listener.status.borrow().clone())
}

async fn metrics(State(listener): State<Listener>, headers: HeaderMap) -> Response {
    exposition(&listener.metrics, &headers)
}

/// Metrics in the form that a scraper wants: OpenMetrics, unless it asks for plain text and not for that.
pub(crate) fn exposition(metrics: &Metrics, headers: &HeaderMap) -> Response {
    // Before the text is made: who waits for this one knows that the text came after.
    metrics.scraped();
    let Ok(text) = metrics.encode() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let asked = |kind: &str| {
        let values = headers.get_all(header::ACCEPT).into_iter();
        values
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.contains(kind))
    };
    let (kind, text) = if asked("text/plain") && !asked("application/openmetrics-text") {
        ("text/plain; version=0.0.4; charset=utf-8", telemetry::classic(&text))
    } else {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", text)
    };
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod tests;
