//! The task API in miniature, with the semantics of the real one (contract, section 2).

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::adapters::api::IDEMPOTENCY_KEY;
use crate::embedded::calls::{Arrival, Call, CallLog};
use crate::embedded::faults::{Ending, Endpoint, Faults, Times};
use crate::embedded::listening::Listening;
use crate::ids::{ApiUrl, InvalidName, TaskId};
use crate::secret::Secret;
use crate::task::TaskData;

mod events;

use events::Batch;

/// How many events of one task are kept.
const ACTIVITIES_LIMIT: usize = 10_000;

/// Why the server did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// No port could be had.
    #[error("failed to listen on 127.0.0.1: {0}")]
    Listen(#[from] io::Error),
    /// Its own address is not one that the runner takes.
    #[error("failed to name the server's address: {0}")]
    Address(#[from] InvalidName),
}

/// A token that was made.
#[derive(Debug, Clone)]
pub struct Minted {
    /// The token.
    pub token: Secret,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Minting failed; the token counts as issued all the same.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("failed to mint the token: {0}")]
pub struct MintFailed(pub String);

type MintFuture = Pin<Box<dyn Future<Output = Result<Minted, MintFailed>> + Send>>;

/// How a task's token is made, when it is asked for.
#[derive(Clone)]
pub struct Mint(Arc<dyn Fn() -> MintFuture + Send + Sync>);

impl Mint {
    /// By `make`, which is called once at most.
    pub fn with<F, M>(make: M) -> Self
    where
        M: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<Minted, MintFailed>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(make())))
    }

    /// Always this token, which ends `lifetime` after it was asked for.
    pub fn fixed(token: Secret, lifetime: Duration) -> Self {
        Self::with(move || {
            let token = token.clone();
            async move {
                let expires_at = Timestamp::now()
                    .checked_add(lifetime)
                    .map_err(|error| MintFailed(error.to_string()))?;
                Ok(Minted { token, expires_at })
            }
        })
    }

    /// Never: each request ends in a 502.
    pub fn failing() -> Self {
        Self::with(|| async { Err(MintFailed("switched to fail".to_owned())) })
    }
}

impl fmt::Debug for Mint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mint")
    }
}

/// What a further terminal status is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RepeatNote {
    /// `already notified`.
    #[default]
    AlreadyNotified,
    /// `callback pending`.
    CallbackPending,
}

/// What the world outside saw of one task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Tokens that were minted; more than one would break the contract.
    pub tokens_minted: u32,
    /// Answers with a token that were sent.
    pub tokens_answered: u32,
    /// The terminal status that counts, byte for byte.
    pub verdict: Option<Vec<u8>>,
    /// Terminal statuses that came in and were well formed, byte for byte, whatever became of them.
    pub verdicts_received: Vec<Vec<u8>>,
    /// Answers to terminal statuses that were sent and acknowledge one.
    pub acknowledgements: u32,
    /// Statuses that were recorded, each with its event's name, in order.
    pub events: Vec<String>,
    /// `progress` statuses that were recorded, in order.
    pub progress: Vec<Value>,
    /// What was told by `POST /events`, each once, in order; the first 10,000.
    pub activities: Vec<Value>,
}

/// Where a task stands, as the API sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Open,
    Terminal,
    EndedElsewhere,
}

#[derive(Debug)]
struct Task {
    data: TaskData,
    mint: Mint,
    token_issued: bool,
    standing: Standing,
    drop_verdicts: Times,
    repeat_note: RepeatNote,
    last_batch: LastBatch,
    counts: Counts,
}

/// The last events that were recorded: what comes after them, and what comes a second time.
#[derive(Debug, Default)]
struct LastBatch {
    key: Option<String>,
    sequence: u64,
}

#[derive(Debug, Default)]
struct Shared {
    tasks: Mutex<HashMap<String, Task>>,
    bearer: Mutex<Option<Secret>>,
    calls: CallLog,
    faults: Faults,
}

/// The server. It ends when it is dropped.
#[derive(Debug)]
pub struct TaskApiServer {
    shared: Arc<Shared>,
    listening: Listening,
    url: ApiUrl,
}

impl TaskApiServer {
    /// Starts it on a free port of 127.0.0.1, without tasks, open to all.
    pub async fn start(faults: Faults) -> Result<Self, StartError> {
        let shared = Arc::new(Shared {
            faults,
            ..Shared::default()
        });
        let router = Router::new()
            .route("/api/v1/tasks/{task}/data", get(serve_data))
            .route("/api/v1/tasks/{task}/token", get(serve_token))
            .route("/api/v1/tasks/{task}/status", post(serve_status))
            .route("/api/v1/tasks/{task}/events", post(serve_events))
            .with_state(Arc::clone(&shared));
        let listening = Listening::start(router).await?;
        let url = listening.base().parse()?;
        Ok(Self { shared, listening, url })
    }

    /// What an assignment names as `apiURL`.
    pub fn api_url(&self) -> &ApiUrl {
        &self.url
    }

    /// Where it listens.
    pub fn listening(&self) -> &Listening {
        &self.listening
    }

    /// Adds a task, or begins it anew.
    pub fn add_task(&self, id: &TaskId, data: TaskData, mint: Mint) {
        let task = Task {
            data,
            mint,
            token_issued: false,
            standing: Standing::Open,
            drop_verdicts: Times::Next(0),
            repeat_note: RepeatNote::default(),
            last_batch: LastBatch::default(),
            counts: Counts::default(),
        };
        self.shared.tasks().insert(id.to_string(), task);
    }

    /// From now on 401 without this bearer token.
    pub fn require_bearer(&self, token: Secret) {
        *self.shared.bearer.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }

    /// The task was ended elsewhere: 410 from now on.
    pub fn end_elsewhere(&self, id: &TaskId) {
        self.with_task(id, |task| task.standing = Standing::EndedElsewhere);
    }

    /// Drops terminal statuses: they are answered 200 `task already claimed` and not recorded.
    pub fn drop_verdicts(&self, id: &TaskId, times: Times) {
        self.with_task(id, |task| task.drop_verdicts = times);
    }

    /// What a further terminal status is told.
    pub fn answer_repeats_with(&self, id: &TaskId, note: RepeatNote) {
        self.with_task(id, |task| task.repeat_note = note);
    }

    /// The requests that came for `endpoint`.
    pub fn calls(&self, endpoint: Endpoint) -> Vec<Call> {
        self.shared.calls.of(endpoint)
    }

    /// All requests, and the way to wait for them.
    pub fn call_log(&self) -> &CallLog {
        &self.shared.calls
    }

    /// What was seen of a task; nothing, for one that is not known.
    pub fn counts(&self, id: &TaskId) -> Counts {
        let tasks = self.shared.tasks();
        tasks
            .get(id.as_str())
            .map(|task| task.counts.clone())
            .unwrap_or_default()
    }

    fn with_task(&self, id: &TaskId, change: impl FnOnce(&mut Task)) {
        if let Some(task) = self.shared.tasks().get_mut(id.as_str()) {
            change(task);
        }
    }
}

type Shares = State<Arc<Shared>>;

async fn serve_data(State(shared): Shares, Path(id): Path<String>, arrival: Arrival) -> Response {
    let authorized = shared.authorizes(&arrival.headers);
    let (world, task) = (Arc::clone(&shared), id.clone());
    let work = async move {
        let response = if authorized {
            world.with_open_task(&task, |task| Json(&task.data).into_response())
        } else {
            unauthorized()
        };
        (response, ())
    };
    let calls = &shared.calls;
    let handled = calls.handle(&shared.faults, Endpoint::Data, id, arrival, work).await;
    handled.response
}

async fn serve_token(State(shared): Shares, Path(id): Path<String>, arrival: Arrival) -> Response {
    let authorized = shared.authorizes(&arrival.headers);
    let (world, task) = (Arc::clone(&shared), id.clone());
    let work = async move {
        let response = if authorized {
            world.issue(&task).await
        } else {
            unauthorized()
        };
        (response, ())
    };
    let calls = &shared.calls;
    let handled = calls
        .handle(&shared.faults, Endpoint::Token, id.clone(), arrival, work)
        .await;
    if handled.did.is_some() && handled.ending == Ending::Answered(200) {
        shared.with_any_task(&id, |task| task.counts.tokens_answered += 1);
    }
    handled.response
}

async fn serve_status(State(shared): Shares, Path(id): Path<String>, arrival: Arrival) -> Response {
    let authorized = shared.authorizes(&arrival.headers);
    let status = Status::parse(&arrival.headers, &arrival.body);
    let endpoint = status
        .as_ref()
        .map_or(Endpoint::Progress, |status| status.event.endpoint());
    let (world, task, body) = (Arc::clone(&shared), id.clone(), arrival.body.clone());
    let work = async move {
        match status {
            _ if !authorized => (unauthorized(), StatusFate::NotRecorded),
            Ok(status) => world.record(&task, &status, &body),
            Err(refused) => (refused.into_response(), StatusFate::NotRecorded),
        }
    };
    let calls = &shared.calls;
    let handled = calls.handle(&shared.faults, endpoint, id.clone(), arrival, work).await;
    if handled.did == Some(StatusFate::VerdictStands) && handled.ending == Ending::Answered(200) {
        shared.with_any_task(&id, |task| task.counts.acknowledgements += 1);
    }
    handled.response
}

async fn serve_events(State(shared): Shares, Path(id): Path<String>, arrival: Arrival) -> Response {
    let authorized = shared.authorizes(&arrival.headers);
    let batch = Batch::parse(&arrival.headers, &arrival.body);
    let key = arrival.headers.get(&IDEMPOTENCY_KEY);
    let key = key.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (world, task) = (Arc::clone(&shared), id.clone());
    let work = async move {
        let response = match batch {
            _ if !authorized => unauthorized(),
            Ok(batch) => world.take_events(&task, batch, key),
            Err(refused) => refused.into_response(),
        };
        (response, ())
    };
    let calls = &shared.calls;
    let handled = calls.handle(&shared.faults, Endpoint::Events, id, arrival, work).await;
    handled.response
}

/// What a status did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StatusFate {
    NotRecorded,
    Recorded,
    /// A verdict is on record, by this status or one before it.
    VerdictStands,
}

impl Shared {
    fn tasks(&self) -> MutexGuard<'_, HashMap<String, Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn authorizes(&self, headers: &HeaderMap) -> bool {
        let bearer = self.bearer.lock().unwrap_or_else(PoisonError::into_inner);
        bearer.as_ref().is_none_or(|token| bears(headers, token))
    }

    fn with_any_task(&self, id: &str, change: impl FnOnce(&mut Task)) {
        if let Some(task) = self.tasks().get_mut(id) {
            change(task);
        }
    }

    fn with_open_task(&self, id: &str, answer: impl FnOnce(&mut Task) -> Response) -> Response {
        match self.tasks().get_mut(id) {
            None => failure(StatusCode::NOT_FOUND, "task not found"),
            Some(task) if task.standing != Standing::Open => failure(StatusCode::GONE, "task is already terminal"),
            Some(task) => answer(task),
        }
    }

    /// Marks first and mints then: what goes wrong in between costs the token, never gives two.
    async fn issue(&self, id: &str) -> Response {
        let mut mint = None;
        let refused = self.with_open_task(id, |task| {
            if task.token_issued {
                return failure(StatusCode::CONFLICT, "token already issued");
            }
            task.token_issued = true;
            mint = Some(task.mint.clone());
            StatusCode::OK.into_response()
        });
        let Some(mint) = mint else {
            return refused;
        };
        match (mint.0)().await {
            Ok(minted) => {
                self.with_any_task(id, |task| task.counts.tokens_minted += 1);
                let body = json!({"token": minted.token.expose(), "expiresAt": minted.expires_at.to_string()});
                Json(body).into_response()
            }
            Err(error) => failure(StatusCode::BAD_GATEWAY, &error.to_string()),
        }
    }

    /// Sequences rise over requests, too; the same request a second time is no news.
    fn take_events(&self, id: &str, batch: Batch, key: Option<String>) -> Response {
        self.with_open_task(id, |task| {
            let last = &mut task.last_batch;
            if key.is_some() && key == last.key {
                return accepted(None);
            }
            if batch.first() <= last.sequence {
                return failure(StatusCode::BAD_REQUEST, "a sequence that was there before");
            }
            *last = LastBatch {
                key,
                sequence: batch.last(),
            };
            let events = batch.events.into_iter().map(|(_, event)| event);
            let room = ACTIVITIES_LIMIT.saturating_sub(task.counts.activities.len());
            task.counts.activities.extend(events.take(room));
            accepted(None)
        })
    }

    fn record(&self, id: &str, status: &Status, body: &[u8]) -> (Response, StatusFate) {
        let mut tasks = self.tasks();
        let Some(task) = tasks.get_mut(id) else {
            let response = failure(StatusCode::NOT_FOUND, "task not found");
            return (response, StatusFate::NotRecorded);
        };
        let terminal = status.event.endpoint() == Endpoint::Verdict;
        if terminal {
            task.counts.verdicts_received.push(body.to_vec());
        }
        match task.standing {
            Standing::Terminal if terminal => {
                let note = match task.repeat_note {
                    RepeatNote::AlreadyNotified => "already notified",
                    RepeatNote::CallbackPending => "callback pending",
                };
                (accepted(Some(note)), StatusFate::VerdictStands)
            }
            Standing::Terminal | Standing::EndedElsewhere => {
                let response = failure(StatusCode::GONE, "task is already terminal");
                (response, StatusFate::NotRecorded)
            }
            Standing::Open if terminal && task.drop_verdicts.take() => {
                (accepted(Some("task already claimed")), StatusFate::NotRecorded)
            }
            Standing::Open => {
                let name: &str = status.event.into();
                task.counts.events.push(name.to_owned());
                if status.event == StatusEvent::Progress {
                    task.counts.progress.extend(serde_json::from_slice::<Value>(body));
                }
                if !terminal {
                    return (accepted(None), StatusFate::Recorded);
                }
                task.counts.verdict = Some(body.to_vec());
                task.standing = Standing::Terminal;
                (accepted(None), StatusFate::VerdictStands)
            }
        }
    }
}

/// The body of `POST /status`, held against the contract to the letter.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Status {
    event: StatusEvent,
    #[serde(rename = "message")]
    _message: String,
    #[serde(rename = "details")]
    _details: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
enum StatusEvent {
    Started,
    Progress,
    Completed,
    Failed,
}

impl StatusEvent {
    fn endpoint(self) -> Endpoint {
        match self {
            Self::Started => Endpoint::Started,
            Self::Progress => Endpoint::Progress,
            Self::Completed | Self::Failed => Endpoint::Verdict,
        }
    }
}

/// Why a status, or events, are not looked at.
#[derive(Debug)]
enum StatusRefused {
    NotJsonType,
    Malformed(String),
}

impl Status {
    fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, StatusRefused> {
        if !is_json(headers) {
            return Err(StatusRefused::NotJsonType);
        }
        serde_json::from_slice(body).map_err(|error| StatusRefused::Malformed(error.to_string()))
    }
}

impl StatusRefused {
    fn into_response(self) -> Response {
        match self {
            Self::NotJsonType => failure(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the content type is not application/json",
            ),
            Self::Malformed(why) => failure(StatusCode::BAD_REQUEST, &why),
        }
    }
}

/// Whether the request says that its body is JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok()?.split(';').next());
    media_type.map(str::trim) == Some("application/json")
}

/// Whether the request carries this bearer token. The embedded world has no one to hide timing from.
pub(crate) fn bears(headers: &HeaderMap, token: &Secret) -> bool {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        == Some(token.expose())
}

fn accepted(note: Option<&str>) -> Response {
    match note {
        Some(note) => Json(json!({"status": "accepted", "note": note})).into_response(),
        None => Json(json!({"status": "accepted"})).into_response(),
    }
}

fn unauthorized() -> Response {
    failure(StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong")
}

fn failure(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({"error": error, "details": ""}))).into_response()
}

#[cfg(test)]
mod tests;
