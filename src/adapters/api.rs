//! The client of the task API (contract, section 2): task data, the one token, status reports and events.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, StatusCode};
use secrecy::zeroize::Zeroize;
use serde::Deserialize;
use serde_json::Value;
use strum::IntoStaticStr;
use thiserror::Error;

use crate::adapters::http::{Answer, ExchangeError, TransportError, exchange};
use crate::ids::{ApiUrl, TaskId};
use crate::redact::Redactor;
use crate::secret::Secret;
use crate::task::{CONTEXT_LIMIT, TaskData};
use crate::text::excerpt;
use crate::trace::Trace;

/// The header that makes a repeated request the same request.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest body of `GET /data`, in bytes: the context with every byte of it escaped (`\u003c`), and the rest.
pub const DATA_LIMIT: usize = 6 * CONTEXT_LIMIT + 1024 * 1024;
/// The longest body of any other answer, in bytes.
const ANSWER_LIMIT: usize = 64 * 1024;
/// The longest token and bearer token, in bytes.
const TOKEN_LIMIT: usize = 16 * 1024;

/// Task data with the very bytes it was parsed from, which is what the journal keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedData {
    /// The body as it came.
    pub body: Vec<u8>,
    /// What it says.
    pub data: TaskData,
}

/// The token that the API gives once.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    /// Not empty, visible ASCII alone.
    pub token: Secret,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A status that was answered 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusAnswer {
    /// What the API added.
    pub note: Option<Note>,
}

/// The `note` of an accepted status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A terminal status was recorded before this one.
    AlreadyNotified,
    /// A terminal status was recorded, and those it is for are still to be told.
    CallbackPending,
    /// The API's answer to any write conflict: this status may have been dropped, so it is no acknowledgement yet.
    TaskAlreadyClaimed,
    /// Words we do not know; at most 200 characters, escaped.
    Other(String),
}

impl Note {
    /// By what it contains, in any case: taking "already claimed" for an acknowledgement would lose a verdict.
    fn of(text: &str) -> Self {
        let lower = text.to_ascii_lowercase();
        if lower.contains("already claimed") {
            Self::TaskAlreadyClaimed
        } else if lower.contains("already notified") {
            Self::AlreadyNotified
        } else if lower.contains("callback pending") {
            Self::CallbackPending
        } else {
            Self::Other(excerpt(text))
        }
    }
}

/// Why a 409.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictKind {
    /// Two writes met and this one lost: nothing was done, ask again.
    ConcurrentUpdate,
    /// Anything else: for the token, that it was issued before.
    Other,
}

/// Why a call of the task API gave nothing. No variant shows a secret, or more than 200 characters of a body.
#[derive(Debug, Error, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ApiError {
    /// The API cannot have done anything.
    #[error("the request was not sent: {0}")]
    NotSent(String),
    /// The API may have done the work.
    #[error("the answer was lost, the request may have been carried out: {0}")]
    Lost(String),
    /// Nothing was sent: the bearer token could not be read (projected ones rotate, so it may be there the next time).
    #[error("failed to read the API's bearer token from {}: {source}", path.display())]
    BearerFile {
        /// `RUNNER_API_TOKEN_FILE`.
        path: PathBuf,
        /// What the system said, or `InvalidData` where it holds no token.
        source: io::Error,
    },
    /// 404.
    #[error("the API knows no such task (404{text})")]
    NotFound {
        /// What it said.
        text: ErrorText,
    },
    /// 410: the task was ended elsewhere.
    #[error("the task was ended elsewhere (410{text})")]
    Gone {
        /// What it said.
        text: ErrorText,
    },
    /// 409.
    #[error("the API answered that this conflicts with what it knows (409{text})")]
    Conflict {
        /// Which conflict.
        kind: ConflictKind,
        /// What it said.
        text: ErrorText,
    },
    /// 401.
    #[error("the API does not take our bearer token (401{text}); see RUNNER_API_TOKEN_FILE")]
    Unauthorized {
        /// What it said.
        text: ErrorText,
    },
    /// 408, 429 or 5xx. The status tells a mint that failed (502) from one that never began (503).
    #[error("the API cannot answer now ({status}{text})")]
    Retryable {
        /// Its status.
        status: u16,
        /// How long it asked us to stay away, at most five minutes.
        retry_after: Option<Duration>,
        /// What it said.
        text: ErrorText,
    },
    /// Any other status, redirects among them.
    #[error("the API refused the request ({status}{text})")]
    Refused {
        /// Its status.
        status: u16,
        /// What it said.
        text: ErrorText,
    },
    /// 200 with a body that is longer than allowed. What was asked for was done.
    #[error("the API's answer is longer than {limit} bytes")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
    /// 200 with a body that is not as the contract has it. What was asked for was done.
    #[error("the API's answer is not as the contract has it: {why}")]
    Malformed {
        /// For a person; never from the body of a token.
        why: String,
    },
}

/// What a peer said beside its status: at most 200 characters, escaped, our bearer token blotted out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ErrorText(String);

impl ErrorText {
    /// The words, empty where there were none.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn new(text: &str, sent: Option<&Secret>) -> Self {
        let text = sent.map_or_else(|| text.to_owned(), |secret| secret.scrub(text));
        Self(excerpt(&text))
    }
}

impl fmt::Display for ErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.0)
        }
    }
}

/// The client of one task. Each call is one request, never repeated.
#[derive(Debug, Clone)]
pub struct TaskApi {
    client: Client,
    base: ApiUrl,
    task: TaskId,
    bearer_file: Option<PathBuf>,
    trace: Option<Trace>,
    redactor: Option<Redactor>,
}

impl TaskApi {
    /// A client of `task` at `base`; the bearer token is read anew for each request.
    pub fn new(client: Client, base: ApiUrl, task: TaskId, bearer_file: Option<PathBuf>) -> Self {
        Self {
            client,
            base,
            task,
            bearer_file,
            trace: None,
            redactor: None,
        }
    }

    /// The same client, which tells of each bearer token that it reads.
    #[must_use]
    pub fn with_redactor(self, redactor: Redactor) -> Self {
        Self {
            redactor: Some(redactor),
            ..self
        }
    }

    /// The same client, whose requests carry a trace context.
    #[must_use]
    pub fn with_trace(self, trace: Option<Trace>) -> Self {
        Self { trace, ..self }
    }

    /// `GET /data`. Asking again is harmless.
    pub async fn data(&self) -> Result<FetchedData, ApiError> {
        let request = self.client.get(self.base.task_call(&self.task, "data"));
        let body = self.call(request, DATA_LIMIT).await?;
        let data = TaskData::parse(&body).map_err(|error| ApiError::Malformed { why: error.to_string() })?;
        Ok(FetchedData { body, data })
    }

    /// `GET /token`: the API marks the token as issued before it mints, and gives none a second time.
    /// After [`ApiError::TooLarge`] and [`ApiError::Malformed`] it counts as issued, and is lost.
    pub async fn token(&self, key: &str) -> Result<IssuedToken, ApiError> {
        let request = self
            .client
            .get(self.base.task_call(&self.task, "token"))
            .header(IDEMPOTENCY_KEY, key);
        let mut body = self.call(request, ANSWER_LIMIT).await?;
        let token = issued_token(&body);
        body.zeroize();
        token
    }

    /// `POST /status` of a body that is JSON already: the journal's bytes go out as they are, every time.
    pub async fn status(&self, body: &[u8], key: &str) -> Result<StatusAnswer, ApiError> {
        let answer = self.post("status", body, key).await?;
        accepted(&answer)
    }

    /// `POST /events` of a body that is JSON already. What a 200 says beside that is not looked at.
    pub async fn events(&self, body: &[u8], key: &str) -> Result<(), ApiError> {
        self.post("events", body, key).await.map(drop)
    }

    /// Whose client it is.
    pub fn task(&self) -> &TaskId {
        &self.task
    }

    async fn post(&self, call: &str, body: &[u8], key: &str) -> Result<Vec<u8>, ApiError> {
        let request = self
            .client
            .post(self.base.task_call(&self.task, call))
            .header(IDEMPOTENCY_KEY, key)
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_vec());
        self.call(request, ANSWER_LIMIT).await
    }

    /// Sends one request; the body of a 200 is the answer.
    async fn call(&self, request: RequestBuilder, limit: usize) -> Result<Vec<u8>, ApiError> {
        let bearer = self.bearer().await?;
        let mut request = request;
        if let Some(secret) = &bearer {
            request = request.header(AUTHORIZATION, self.bearer_header(secret)?);
        }
        if let Some(trace) = &self.trace {
            request = request.header("traceparent", trace.parent());
            if let Some(state) = trace.state() {
                request = request.header("tracestate", state);
            }
        }
        let answer = exchange(request, limit).await.map_err(|error| match error {
            ExchangeError::Transport(TransportError::NotSent(why)) => ApiError::NotSent(why),
            ExchangeError::Transport(TransportError::Lost(why)) => ApiError::Lost(why),
            ExchangeError::TooLarge => ApiError::TooLarge { limit },
        })?;
        if answer.status == StatusCode::OK {
            Ok(answer.body)
        } else {
            Err(refusal(&answer, bearer.as_ref()))
        }
    }

    async fn bearer(&self) -> Result<Option<Secret>, ApiError> {
        let Some(path) = &self.bearer_file else {
            return Ok(None);
        };
        let unreadable = |source| ApiError::BearerFile {
            path: path.clone(),
            source,
        };
        let text = tokio::fs::read_to_string(path).await.map_err(unreadable)?;
        let token = text.trim();
        if is_token(token) {
            let secret = Secret::new(token);
            if let Some(redactor) = &self.redactor {
                redactor.add(&secret);
            }
            Ok(Some(secret))
        } else {
            Err(unreadable(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is empty, too long, or not one word of visible ASCII",
            )))
        }
    }

    fn bearer_header(&self, secret: &Secret) -> Result<HeaderValue, ApiError> {
        bearer_value(secret).ok_or_else(|| ApiError::BearerFile {
            path: self.bearer_file.clone().unwrap_or_default(),
            source: io::ErrorKind::InvalidData.into(),
        })
    }
}

/// `Bearer SECRET`, marked so that no log of headers shows it; none where the secret cannot stand in a header.
pub(crate) fn bearer_value(secret: &Secret) -> Option<HeaderValue> {
    let mut text = format!("Bearer {}", secret.expose());
    let value = HeaderValue::from_str(&text);
    text.zeroize();
    let mut value = value.ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// One word of visible ASCII: what can stand in a header and in git's credential protocol without ending a line there.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= TOKEN_LIMIT && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Reads a token's answer. Nothing of its text goes into an error: it may have the token in it.
fn issued_token(body: &[u8]) -> Result<IssuedToken, ApiError> {
    #[derive(Deserialize)]
    struct Wire {
        token: String,
        #[serde(rename = "expiresAt")]
        expires_at: String,
    }
    let malformed = |why: &str| ApiError::Malformed { why: why.to_owned() };
    let mut wire: Wire = serde_json::from_slice(body)
        .map_err(|_| malformed("the token's answer is not JSON with the strings token and expiresAt"))?;
    let expires_at = wire.expires_at.parse();
    let token = is_token(&wire.token).then(|| Secret::new(wire.token.as_str()));
    wire.token.zeroize();
    Ok(IssuedToken {
        token: token.ok_or_else(|| malformed("the token is empty, too long, or not one word of visible ASCII"))?,
        expires_at: expires_at.map_err(|_| malformed("the token's expiresAt is not an RFC 3339 time"))?,
    })
}

/// Reads the answer to a status.
fn accepted(body: &[u8]) -> Result<StatusAnswer, ApiError> {
    #[derive(Deserialize)]
    struct Wire {
        status: String,
        note: Option<String>,
    }
    let wire: Wire = serde_json::from_slice(body).map_err(|error| ApiError::Malformed {
        why: excerpt(&error.to_string()),
    })?;
    if wire.status != "accepted" {
        return Err(ApiError::Malformed {
            why: format!("its status is {:?}, not \"accepted\"", excerpt(&wire.status)),
        });
    }
    Ok(StatusAnswer {
        note: wire.note.filter(|note| !note.is_empty()).as_deref().map(Note::of),
    })
}

/// What an answer other than 200 means.
fn refusal(answer: &Answer, bearer: Option<&Secret>) -> ApiError {
    let words = error_words(&answer.body);
    let text = ErrorText::new(&words, bearer);
    match answer.status.as_u16() {
        401 => ApiError::Unauthorized { text },
        404 => ApiError::NotFound { text },
        409 => ApiError::Conflict {
            kind: if words.to_ascii_lowercase().contains("concurrent update conflict") {
                ConflictKind::ConcurrentUpdate
            } else {
                ConflictKind::Other
            },
            text,
        },
        410 => ApiError::Gone { text },
        status @ (408 | 429 | 500..=599) => ApiError::Retryable {
            status,
            retry_after: answer.retry_after(),
            text,
        },
        status => ApiError::Refused { status, text },
    }
}

/// `error` and `details` of an error body; of anything else its own words.
fn error_words(body: &[u8]) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
        return String::from_utf8_lossy(body).into_owned();
    };
    let words: Vec<&str> = ["error", "details"]
        .into_iter()
        .filter_map(|name| fields.get(name)?.as_str())
        .filter(|text| !text.is_empty())
        .collect();
    words.join(": ")
}

#[cfg(test)]
mod tests;
