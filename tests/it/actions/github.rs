//! GitHub's self-hosted runners in miniature: what is registered is counted, and so is what was ever asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use runner::embedded::faults::{Endpoint, Fault, Faults, Times};
use runner::embedded::listening::{Connection, Listening};
use serde_json::{Value, json};

use crate::outside::CANARY;

/// What an installation of the App gets.
pub(crate) const INSTALLED: &str = "ghs_installation0123456789";
/// In every configuration that is given out.
pub(crate) const CONFIG_CANARY: &str = "jit_canary0123456789";

/// A runner as it is registered.
#[derive(Debug, Clone)]
pub(crate) struct Registered {
    pub(crate) name: String,
    pub(crate) labels: Vec<String>,
    pub(crate) group: u64,
    pub(crate) online: bool,
}

#[derive(Default)]
struct Inner {
    runners: BTreeMap<u64, Registered>,
    ids: u64,
    /// Each name that was ever registered.
    names: Vec<String>,
    /// `METHOD path`, and the credential that came with it.
    asked: Vec<(String, String)>,
    base: String,
    /// The App's public key, as DER.
    app: Option<Vec<u8>>,
    /// How many removals are refused because the runner counts as busy.
    busy: u32,
}

#[derive(Clone, Default)]
struct Shared {
    inner: Arc<Mutex<Inner>>,
    faults: Faults,
}

pub(crate) struct GitHub {
    listening: Listening,
    shared: Shared,
}

impl GitHub {
    pub(crate) async fn start() -> Self {
        let shared = Shared::default();
        let scoped = |prefix: &str| {
            Router::new()
                .route(&format!("{prefix}/actions/runners/generate-jitconfig"), post(generate))
                .route(&format!("{prefix}/actions/runners"), get(list))
                .route(&format!("{prefix}/actions/runners/{{id}}"), delete(remove))
                .route(&format!("{prefix}/actions/runner-groups"), get(groups))
                .route(&format!("{prefix}/installation"), get(installation))
        };
        let router = scoped("/repos/octo/hello")
            .merge(scoped("/orgs/octo"))
            .route("/app/installations/77/access_tokens", post(access_token))
            .route("/online/{id}", post(online))
            .route("/done/{id}", post(done))
            .fallback(|| async { said(404, "Not Found") })
            .with_state(shared.clone());
        let listening = Listening::start(router).await.unwrap();
        shared.lock().base = listening.base();
        Self { listening, shared }
    }

    pub(crate) fn base(&self) -> String {
        self.listening.base()
    }

    pub(crate) fn inject(&self, endpoint: Endpoint, fault: Fault, times: Times) {
        self.shared.faults.inject(endpoint, fault, times);
    }

    /// What is registered now.
    pub(crate) fn registered(&self) -> Vec<Registered> {
        self.shared.lock().runners.values().cloned().collect()
    }

    /// Every name that was ever registered.
    pub(crate) fn names(&self) -> Vec<String> {
        self.shared.lock().names.clone()
    }

    /// `METHOD path` of each request for runners, and its credential.
    pub(crate) fn asked(&self) -> Vec<(String, String)> {
        self.shared.lock().asked.clone()
    }

    pub(crate) fn asked_for(&self, what: &str) -> usize {
        self.asked().iter().filter(|(asked, _)| asked.contains(what)).count()
    }

    /// Takes an App's signatures by this public key, in place of a token.
    pub(crate) fn know_app(&self, public_key: Vec<u8>) {
        self.shared.lock().app = Some(public_key);
    }

    /// Says of the next removals that the runner is busy.
    pub(crate) fn call_busy(&self, times: u32) {
        self.shared.lock().busy = times;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Refuses who may not ask, and does the rest with the fault that is on.
    async fn answer(
        &self,
        endpoint: Endpoint,
        what: &str,
        headers: &HeaderMap,
        connection: &Connection,
        work: impl FnOnce(&mut Inner) -> Response + Send + 'static,
    ) -> Response {
        let header = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let bearer = header("authorization")
            .strip_prefix("Bearer ")
            .unwrap_or_default()
            .to_owned();
        let refused = {
            let mut inner = self.lock();
            inner.asked.push((what.to_owned(), bearer.clone()));
            let wanted = if inner.app.is_some() { INSTALLED } else { CANARY };
            assert_eq!(header("x-github-api-version"), "2022-11-28");
            (bearer != wanted).then(|| said(401, "Bad credentials"))
        };
        if let Some(refused) = refused {
            return refused;
        }
        let shared = self.clone();
        let work = async move { (work(&mut shared.lock()), ()) };
        self.faults.around(endpoint, connection, work).await.response
    }

    /// The same for what an App asks, which shows a signature.
    async fn to_app(
        &self,
        endpoint: Endpoint,
        headers: &HeaderMap,
        connection: &Connection,
        answer: Value,
        status: StatusCode,
    ) -> Response {
        let bearer = headers["authorization"]
            .to_str()
            .unwrap()
            .strip_prefix("Bearer ")
            .unwrap();
        let key = self.lock().app.clone().expect("an App is known");
        let (signed, signature) = bearer.rsplit_once('.').expect("a signed token");
        let right = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
            .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap());
        let claims = URL_SAFE_NO_PAD.decode(signed.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        let now = runner::telemetry::system_clock() / 1000;
        let in_time = claims["iat"].as_i64().unwrap() <= now && claims["exp"].as_i64().unwrap() > now;
        if right.is_err() || !in_time || claims["exp"].as_i64().unwrap() > now + 600 || claims["iss"] != "1234" {
            return said(401, "A JSON web token could not be decoded");
        }
        let work = async move { ((status, Json(answer)).into_response(), ()) };
        self.faults.around(endpoint, connection, work).await.response
    }
}

fn said(status: u16, message: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(json!({"message": message}))).into_response()
}

async fn generate(
    State(shared): State<Shared>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let new: Value = serde_json::from_slice(&body).unwrap();
    let work = move |inner: &mut Inner| {
        let labels: Vec<String> = serde_json::from_value(new["labels"].clone()).unwrap();
        let (Some(name), Some(group)) = (new["name"].as_str(), new["runner_group_id"].as_u64()) else {
            return said(422, "Invalid input: object is missing required key: runner_group_id.");
        };
        if labels.is_empty() || labels.len() > 100 || name.len() > 64 {
            return said(422, "Invalid input");
        }
        if inner.runners.values().any(|known| known.name == name) {
            return said(409, "Already exists - A runner with that name already exists.");
        }
        inner.ids += 1;
        let id = inner.ids;
        inner.names.push(name.to_owned());
        inner.runners.insert(
            id,
            Registered {
                name: name.to_owned(),
                labels,
                group,
                online: false,
            },
        );
        let settings = json!({"AgentId": id, "AgentName": name, "DisableUpdate": "False", "ServerUrl": inner.base});
        let files = json!({
            ".runner": STANDARD.encode(settings.to_string()),
            ".credentials": STANDARD.encode(CONFIG_CANARY),
        });
        let made = json!({
            "runner": {"id": id, "name": name, "os": "unknown", "status": "offline", "busy": false},
            "encoded_jit_config": STANDARD.encode(files.to_string()),
        });
        (StatusCode::CREATED, Json(made)).into_response()
    };
    shared
        .answer(
            Endpoint::RunnerRegister,
            "POST generate-jitconfig",
            &headers,
            &connection,
            work,
        )
        .await
}

/// A hundred a page, and by name where one is given: as GitHub does it.
async fn list(
    State(shared): State<Shared>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let work = move |inner: &mut Inner| {
        let wanted = |known: &&Registered| query.get("name").is_none_or(|name| *name == known.name);
        let found = inner.runners.iter().filter(|(_, known)| wanted(known));
        let found: Vec<Value> = found
            .map(|(id, known)| json!({"id": id, "name": known.name, "status": "offline", "busy": false}))
            .collect();
        Json(json!({"total_count": found.len(), "runners": found})).into_response()
    };
    shared
        .answer(Endpoint::RunnerList, "GET runners", &headers, &connection, work)
        .await
}

async fn remove(
    State(shared): State<Shared>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    Path(id): Path<u64>,
    headers: HeaderMap,
) -> Response {
    let work = move |inner: &mut Inner| {
        if inner.busy > 0 {
            inner.busy -= 1;
            return said(422, "Runner is currently running a job and cannot be deleted.");
        }
        match inner.runners.remove(&id) {
            Some(_) => StatusCode::NO_CONTENT.into_response(),
            None => said(404, "Not Found"),
        }
    };
    shared
        .answer(Endpoint::RunnerRemove, "DELETE runner", &headers, &connection, work)
        .await
}

async fn groups(
    State(shared): State<Shared>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    headers: HeaderMap,
) -> Response {
    let work = |_: &mut Inner| {
        let groups = json!([{"id": 1, "name": "Default"}, {"id": 5, "name": "Builders"}]);
        Json(json!({"total_count": 2, "runner_groups": groups})).into_response()
    };
    shared
        .answer(Endpoint::RunnerGroups, "GET runner-groups", &headers, &connection, work)
        .await
}

async fn installation(
    State(shared): State<Shared>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    headers: HeaderMap,
) -> Response {
    let answer = json!({"id": 77});
    shared
        .to_app(Endpoint::AppInstallation, &headers, &connection, answer, StatusCode::OK)
        .await
}

async fn access_token(
    State(shared): State<Shared>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    headers: HeaderMap,
) -> Response {
    let answer = json!({"token": INSTALLED, "expires_at": "2999-01-01T00:00:00Z"});
    shared
        .to_app(Endpoint::AppToken, &headers, &connection, answer, StatusCode::CREATED)
        .await
}

/// The listener comes online; nobody whose registration is gone does.
async fn online(State(shared): State<Shared>, Path(id): Path<u64>) -> StatusCode {
    match shared.lock().runners.get_mut(&id) {
        Some(runner) => {
            runner.online = true;
            StatusCode::OK
        }
        None => StatusCode::NOT_FOUND,
    }
}

/// A runner has run its one job: GitHub removes it by itself.
async fn done(State(shared): State<Shared>, Path(id): Path<u64>) -> StatusCode {
    shared.lock().runners.remove(&id);
    StatusCode::OK
}
