//! The forge in miniature: pull requests as GitHub's REST interface has them (contract, section 4).

use std::cmp::Reverse;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::embedded::calls::{Arrival, Call, CallLog};
use crate::embedded::faults::{Endpoint, Faults};
use crate::embedded::listening::Listening;
use crate::embedded::task_api::bears;
use crate::secret::Secret;

/// Says where a branch of the repository points: its commit id, or nothing where there is no such branch.
#[derive(Clone)]
pub struct Branches(Arc<Look>);

type Look = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Branches {
    /// By `look`, which may block: it is called off the event loop.
    pub fn with(look: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    async fn head_of(&self, branch: &str) -> Option<String> {
        let look = Arc::clone(&self.0);
        let branch = branch.to_owned();
        tokio::task::spawn_blocking(move || look(&branch)).await.ok().flatten()
    }
}

impl fmt::Debug for Branches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Branches")
    }
}

/// The one repository that the forge has.
#[derive(Debug, Clone)]
pub struct ForgeRepo {
    /// Whose it is.
    pub owner: String,
    /// What it is called, without `.git`.
    pub name: String,
    /// The token that opens it.
    pub token: Secret,
    /// Its branches.
    pub branches: Branches,
}

/// A pull request as it is kept and written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredPull {
    /// From 1.
    pub number: u64,
    /// Where people would see it.
    pub html_url: String,
    /// `open` or `closed`.
    pub state: String,
    /// Whether it is a draft.
    pub draft: bool,
    /// One line.
    pub title: String,
    /// Markdown.
    pub body: Option<String>,
    /// What it brings.
    pub head: StoredEnd,
    /// Where it is to go.
    pub base: StoredEnd,
}

/// One end of a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredEnd {
    /// `OWNER:BRANCH`.
    pub label: String,
    /// The branch.
    #[serde(rename = "ref")]
    pub name: String,
    /// The commit it pointed at.
    pub sha: String,
    /// Null where the fork is gone.
    pub repo: Option<StoredRepo>,
}

/// A repository, as far as a pull request names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredRepo {
    /// `OWNER/NAME`.
    pub full_name: String,
}

impl StoredEnd {
    /// An end in the repository `OWNER/NAME`.
    pub fn new(owner: &str, name: &str, branch: &str, sha: &str) -> Self {
        Self {
            label: format!("{owner}:{branch}"),
            name: branch.to_owned(),
            sha: sha.to_owned(),
            repo: Some(StoredRepo {
                full_name: format!("{owner}/{name}"),
            }),
        }
    }
}

#[derive(Debug)]
struct Shared {
    repo: ForgeRepo,
    pulls: Mutex<Vec<StoredPull>>,
    calls: CallLog,
    faults: Faults,
}

/// The server. It ends when it is dropped.
#[derive(Debug)]
pub struct ForgeServer {
    shared: Arc<Shared>,
    listening: Listening,
}

impl ForgeServer {
    /// Starts it on a free port of 127.0.0.1, without pull requests. Its interface is at the root, as that of
    /// `api.github.com`, and under `/api/v3`, as that of any other host.
    pub async fn start(repo: ForgeRepo, faults: Faults) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            repo,
            pulls: Mutex::default(),
            calls: CallLog::default(),
            faults,
        });
        let interface = Router::new()
            .route("/repos/{owner}/{name}/pulls", get(serve_list).post(serve_create))
            .route("/repos/{owner}/{name}/pulls/{number}", get(serve_one))
            .with_state(Arc::clone(&shared));
        let router = Router::new().merge(interface.clone()).nest("/api/v3", interface);
        let listening = Listening::start(router).await?;
        Ok(Self { shared, listening })
    }

    /// Where it listens; its URL is what `RUNNER_GITHUB_API_URL` is set to.
    pub fn listening(&self) -> &Listening {
        &self.listening
    }

    /// All pull requests, oldest first.
    pub fn pulls(&self) -> Vec<StoredPull> {
        self.shared.pulls().clone()
    }

    /// Puts a pull request there that nobody asked for; its number is kept.
    pub fn plant(&self, pull: StoredPull) {
        self.shared.pulls().push(pull);
    }

    /// Closes a pull request.
    pub fn close(&self, number: u64) {
        let mut pulls = self.shared.pulls();
        for pull in pulls.iter_mut().filter(|pull| pull.number == number) {
            "closed".clone_into(&mut pull.state);
        }
    }

    /// The requests that came for `endpoint`; those for [`Endpoint::PullCreate`] are the POSTs.
    pub fn calls(&self, endpoint: Endpoint) -> Vec<Call> {
        self.shared.calls.of(endpoint)
    }

    /// All requests, and the way to wait for them.
    pub fn call_log(&self) -> &CallLog {
        &self.shared.calls
    }
}

type Shares = State<Arc<Shared>>;
type Repo = (String, String);

#[derive(Debug, Clone, Deserialize)]
struct ListQuery {
    head: Option<String>,
    state: Option<String>,
    per_page: Option<usize>,
    page: Option<usize>,
}

async fn serve_list(
    State(shared): Shares,
    Path(repo): Path<Repo>,
    Query(query): Query<ListQuery>,
    arrival: Arrival,
) -> Response {
    let refused = shared.refuses(&repo, &arrival);
    let world = Arc::clone(&shared);
    let work = async move { (refused.unwrap_or_else(|| world.list(&query)), ()) };
    shared.handle(Endpoint::PullList, &repo, arrival, work).await
}

async fn serve_one(
    State(shared): Shares,
    Path((owner, name, number)): Path<(String, String, u64)>,
    arrival: Arrival,
) -> Response {
    let repo = (owner, name);
    let refused = shared.refuses(&repo, &arrival);
    let world = Arc::clone(&shared);
    let work = async move { (refused.unwrap_or_else(|| world.one(number)), ()) };
    shared.handle(Endpoint::PullGet, &repo, arrival, work).await
}

async fn serve_create(State(shared): Shares, Path(repo): Path<Repo>, arrival: Arrival) -> Response {
    let refused = shared.refuses(&repo, &arrival);
    let (world, body) = (Arc::clone(&shared), arrival.body.clone());
    // As the client names this server: it alone knows by which address it got here.
    let host = arrival.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let site = format!("http://{}", host.unwrap_or("localhost"));
    let work = async move {
        let response = match refused {
            Some(response) => response,
            None => world.create(&body, &site).await,
        };
        (response, ())
    };
    shared.handle(Endpoint::PullCreate, &repo, arrival, work).await
}

/// The body that opens a pull request.
#[derive(Debug, Deserialize)]
struct NewPull {
    title: String,
    head: String,
    base: String,
    body: Option<String>,
    #[serde(default)]
    draft: bool,
}

impl Shared {
    fn pulls(&self) -> MutexGuard<'_, Vec<StoredPull>> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn handle<W>(&self, endpoint: Endpoint, repo: &Repo, arrival: Arrival, work: W) -> Response
    where
        W: Future<Output = (Response, ())> + Send + 'static,
    {
        let subject = format!("{}/{}", repo.0, repo.1);
        let handled = self.calls.handle(&self.faults, endpoint, subject, arrival, work).await;
        handled.response
    }

    /// The answer to one without the token, or about another repository.
    fn refuses(&self, (owner, name): &Repo, arrival: &Arrival) -> Option<Response> {
        let ours = owner.eq_ignore_ascii_case(&self.repo.owner) && name.eq_ignore_ascii_case(&self.repo.name);
        if !bears(&arrival.headers, &self.repo.token) {
            Some(failure(StatusCode::UNAUTHORIZED, "Bad credentials", &[]))
        } else if ours {
            None
        } else {
            Some(failure(StatusCode::NOT_FOUND, "Not Found", &[]))
        }
    }

    /// Newest first, open ones unless asked for others, thirty a page.
    fn list(&self, query: &ListQuery) -> Response {
        let state = query.state.as_deref().unwrap_or("open");
        let per_page = query.per_page.unwrap_or(30).clamp(1, 100);
        let skip = query.page.unwrap_or(1).saturating_sub(1).saturating_mul(per_page);
        let mut found: Vec<StoredPull> = self
            .pulls()
            .iter()
            .filter(|pull| state == "all" || pull.state == state)
            .filter(|pull| query.head.as_ref().is_none_or(|head| *head == pull.head.label))
            .cloned()
            .collect();
        found.sort_by_key(|pull| Reverse(pull.number));
        let page: Vec<StoredPull> = found.into_iter().skip(skip).take(per_page).collect();
        Json(page).into_response()
    }

    fn one(&self, number: u64) -> Response {
        match self.pulls().iter().find(|pull| pull.number == number) {
            Some(pull) => Json(pull).into_response(),
            None => failure(StatusCode::NOT_FOUND, "Not Found", &[]),
        }
    }

    async fn create(&self, body: &[u8], site: &str) -> Response {
        let new: NewPull = match serde_json::from_slice(body) {
            Ok(new) => new,
            Err(error) => return failure(StatusCode::BAD_REQUEST, &error.to_string(), &[]),
        };
        let ForgeRepo {
            owner, name, branches, ..
        } = &self.repo;
        let branch = new.head.strip_prefix(&format!("{owner}:")).unwrap_or(&new.head);
        let Some(head) = branches.head_of(branch).await else {
            return unprocessable(json!({"field": "head", "code": "invalid"}));
        };
        let Some(base) = branches.head_of(&new.base).await else {
            return unprocessable(json!({"field": "base", "code": "invalid"}));
        };
        if head == base {
            let message = format!("No commits between {} and {branch}", new.base);
            return unprocessable(json!({"code": "custom", "message": message}));
        }
        let label = format!("{owner}:{branch}");
        let mut pulls = self.pulls();
        let rival = |pull: &StoredPull| pull.state == "open" && pull.head.label == label && pull.base.name == new.base;
        if pulls.iter().any(rival) {
            let message = format!("A pull request already exists for {label}.");
            return unprocessable(json!({"code": "custom", "message": message}));
        }
        let number = pulls.iter().map(|pull| pull.number).max().unwrap_or(0) + 1;
        let pull = StoredPull {
            number,
            html_url: format!("{site}/{owner}/{name}/pull/{number}"),
            state: "open".to_owned(),
            draft: new.draft,
            title: new.title,
            body: new.body,
            head: StoredEnd::new(owner, name, branch, &head),
            base: StoredEnd::new(owner, name, &new.base, &base),
        };
        pulls.push(pull.clone());
        (StatusCode::CREATED, Json(pull)).into_response()
    }
}

fn unprocessable(mut error: Value) -> Response {
    error["resource"] = "PullRequest".into();
    failure(StatusCode::UNPROCESSABLE_ENTITY, "Validation Failed", &[error])
}

fn failure(status: StatusCode, message: &str, errors: &[Value]) -> Response {
    let mut body = json!({"message": message, "status": status.as_u16().to_string()});
    if !errors.is_empty() {
        body["errors"] = errors.into();
    }
    (status, Json(body)).into_response()
}

#[cfg(test)]
mod tests;
