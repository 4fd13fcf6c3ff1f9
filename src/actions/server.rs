//! What an Actions runner shows of itself over HTTP: whether it is alive, where it is, and its metrics. No route moves it.

use axum::Router;
use axum::extract::State as Shared;
use axum::http::HeaderMap;
use axum::routing::get;
use runner_journal::Head;
use serde::Serialize;
use tokio::sync::watch;

use super::machine::{EffectName, Failure, JobReport, Run, State, VerdictKind};
use crate::server::exposition;
use crate::telemetry::{Metrics, rfc3339};

/// `GET /status`: of rows that are on disk.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The name that is registered, where one is.
    pub runner: Option<String>,
    /// Whose jobs it takes.
    pub target: Option<String>,
    /// The last state entered.
    pub state: Option<State>,
    /// What is under way.
    pub effect: Option<EffectName>,
    /// This start's number.
    pub boot: u32,
    /// The last row's number.
    pub seq: u64,
    /// The last row's hash.
    pub journal_head: String,
    /// What came of the job, once that is known.
    pub job: Option<JobReport>,
    /// The verdict, once there is one.
    pub verdict: Option<VerdictStatus>,
    /// When the state was entered.
    pub since: Option<String>,
    /// This program's version.
    pub version: &'static str,
}

/// The verdict as `/status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerdictStatus {
    /// Which.
    pub event: VerdictKind,
    /// Why, where it failed.
    pub reason: Option<Failure>,
    /// One sentence.
    pub message: String,
}

impl Status {
    /// Of a history, whose last row is `head`.
    pub fn of(run: &Run, head: Head) -> Self {
        Self {
            runner: run.registration.as_ref().map(|registration| registration.name.clone()),
            target: run.assignment.as_ref().map(|assignment| assignment.target.to_string()),
            state: run.state,
            effect: run.open.map(|open| open.effect),
            boot: run.boot.number,
            seq: head.seq,
            journal_head: head.hash.to_string(),
            job: run.job.clone(),
            verdict: run.verdict.as_ref().map(|(verdict, _)| VerdictStatus {
                event: verdict.kind,
                reason: verdict.reason,
                message: verdict.message.clone(),
            }),
            since: run.state.map(|_| rfc3339(run.since)),
            version: crate::VERSION,
        }
    }
}

/// What the routes stand on.
#[derive(Clone)]
pub struct Shown {
    /// From the driver.
    pub status: watch::Receiver<Status>,
    /// What `/metrics` serves.
    pub metrics: Metrics,
}

/// The routes.
pub fn router(shown: Shown) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route(
            "/status",
            get(|Shared(shown): Shared<Shown>| async move { axum::Json(shown.status.borrow().clone()) }),
        )
        .route(
            "/metrics",
            get(|Shared(shown): Shared<Shown>, headers: HeaderMap| async move { exposition(&shown.metrics, &headers) }),
        )
        .with_state(shown)
}
