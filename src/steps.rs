//! The real world: one file an effect, with its probe, its act, and what each answer means.
//!
//! A step makes one attempt. Whether there is another is the plan's business, and so is how long is waited before it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Client;
use url::Url;

use crate::adapters::agent::{Agent, Seen};
use crate::adapters::api::{ApiError, TaskApi};
use crate::adapters::archive::Destination;
use crate::adapters::git::{Author, GitError, PrivateRepository};
use crate::adapters::http::{self, HttpOptions, HttpSetupError, Proxies};
use crate::adapters::model::Upstream;
use crate::config::Settings;
use crate::driver::{AnswerLost, Call, Execute, Probe};
use crate::forwarder::Forwarder;
use crate::ids::{ApiUrl, BranchName, RepoPolicy, RepoUrl};
use crate::machine::{Effect, Failure, Left, Millis, Note, Outcome, TimeLeft, TokenFacts, Trouble};
use crate::policy::{Bounds, Rules};
use crate::redact::Redactor;
use crate::sandbox::{self, InForce};
use crate::seal::{Seal, SealError, Sealed};
use crate::secret::Secret;
use crate::telemetry::{Metrics, system_clock};
use crate::text::cut;
use crate::trace::{Sampling, TaskTrace, Trace};

mod agent;
mod archive;
mod clone;
mod command;
mod data;
mod handover;
mod prompt;
mod pull_request;
mod push;
mod redacted;
mod report;
mod sandboxed;
mod start;
mod text;
mod token;
mod tree;

pub use prompt::{DumpError, Told};
pub use sandboxed::give_room_back;

/// Who is told what the agent is doing.
pub type Watch = Arc<dyn Fn(&Seen) + Send + Sync>;

/// The outside world as the settings have it.
pub struct World {
    clients: Clients,
    git: PrivateRepository,
    seal: Seal,
    agent: Agent,
    allowance: agent::Allowance,
    commands: Commands,
    instructions: prompt::Instructions,
    model: Option<Upstream>,
    archive: Option<Destination>,
    author: Author,
    places: Places,
    repos: RepoPolicy,
    branch_prefix: String,
    forge_api: Option<Url>,
    draft: pull_request::Draft,
    sandbox: sandbox::Mode,
    kill_grace: Duration,
    on_term: crate::machine::OnTerm,
    api_token_file: Option<PathBuf>,
    api_at: Option<ApiUrl>,
    sampling: Sampling,
    watch: Watch,
    metrics: Metrics,
    forwarder: Forwarder,
    notes: Mutex<Vec<Note>>,
    rules: Rules,
    redactor: Redactor,
}

/// The HTTP client, and the same without a proxy for what runs on this machine.
struct Clients {
    by_environment: Client,
    direct: OnceLock<Client>,
    ca_file: Option<PathBuf>,
}

impl Clients {
    fn new(ca_file: Option<PathBuf>) -> Result<Self, HttpSetupError> {
        Ok(Self {
            by_environment: http::build_client(&HttpOptions {
                ca_file: ca_file.clone(),
                ..HttpOptions::default()
            })?,
            direct: OnceLock::new(),
            ca_file,
        })
    }

    /// The one for a peer. The direct one is made when it is first asked for: most runners never do.
    fn to(&self, peer: &Url) -> &Client {
        match Proxies::for_peer(peer) {
            Proxies::Environment => &self.by_environment,
            proxies @ Proxies::Direct => self.direct.get_or_init(|| {
                let options = HttpOptions {
                    ca_file: self.ca_file.clone(),
                    proxies,
                    ..HttpOptions::default()
                };
                // What could be built at the start can be built again, but for a CA file that has gone since.
                http::build_client(&options).unwrap_or_else(|_| self.by_environment.clone())
            }),
        }
    }
}

/// The operator's commands in the working tree.
struct Commands {
    setup: Option<String>,
    check: Option<String>,
}

/// Where things are on disk.
#[derive(Debug, Clone)]
struct Places {
    runner: PathBuf,
    state: PathBuf,
    journal: PathBuf,
    secrets: PathBuf,
    seal_key: Option<PathBuf>,
    model_key: Option<PathBuf>,
    workspace: PathBuf,
}

impl Places {
    /// Transcripts, prompts and reports: out of the agent's reach.
    fn agent_dir(&self) -> PathBuf {
        self.state.join("agent")
    }

    fn repo(&self) -> PathBuf {
        self.workspace.join("repo")
    }

    fn home(&self) -> PathBuf {
        self.workspace.join("home")
    }

    fn tmp(&self) -> PathBuf {
        self.workspace.join("tmp")
    }
}

impl World {
    /// Makes the clients. Opens nothing, connects nowhere. What it says of itself goes through `redactor`, which it tells of
    /// every token that it gets, and what the agent does through `forwarder`.
    pub fn new(settings: &Settings, redactor: Redactor, forwarder: Forwarder) -> Result<Self, HttpSetupError> {
        let options = &settings.options;
        let clients = Clients::new(options.ca_file.clone())?;
        let runner = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
        let places = Places {
            runner: runner.clone(),
            state: settings.state_dir.clone(),
            journal: settings.journal.clone(),
            secrets: settings.secrets_dir.clone(),
            seal_key: options.seal_key_file.clone(),
            model_key: options.model_key_file.clone(),
            workspace: settings.workspace.clone(),
        };
        Ok(Self {
            clients,
            git: PrivateRepository::new(
                which::which("git").unwrap_or_else(|_| PathBuf::from("git")),
                settings.state_dir.join("git"),
                settings.secrets_dir.clone(),
                options.ca_file.clone(),
                runner,
            ),
            seal: settings.seal(),
            agent: agent::chosen(settings),
            allowance: agent::Allowance {
                budget: options.agent_max_budget_usd,
                idle: options.agent_idle_timeout,
                ports: options.agent_ports.clone(),
                env: options
                    .agent_env
                    .iter()
                    .filter(|name| !name.is_empty())
                    .cloned()
                    .collect(),
            },
            commands: Commands {
                setup: settings.setup_command().map(ToOwned::to_owned),
                check: settings.check_command().map(ToOwned::to_owned),
            },
            instructions: prompt::Instructions {
                operator: settings.instructions.clone(),
                repo_config: options.repo_config,
            },
            model: settings.model.clone(),
            archive: settings.archive.clone(),
            author: options.git_author.clone(),
            places,
            repos: settings.repos,
            branch_prefix: options.branch_prefix.clone(),
            forge_api: options.github_api_url.clone(),
            draft: if options.pr_draft {
                pull_request::Draft::Yes
            } else {
                pull_request::Draft::No
            },
            sandbox: settings.sandbox,
            kill_grace: options.agent_kill_grace,
            on_term: options.on_term,
            api_token_file: options.api_token_file.clone(),
            api_at: None,
            sampling: Sampling::default(),
            watch: Arc::new(|_| {}),
            metrics: Metrics::new(),
            forwarder,
            notes: Mutex::new(Vec::new()),
            rules: Rules {
                protected: options.protected_paths.clone(),
                redactor: redactor.clone(),
                bounds: Bounds::default(),
            },
            redactor,
        })
    }

    /// Reaches the task API here, whatever the assignment says: `runner run` brings its own, at another port each time.
    #[must_use]
    pub fn with_api_at(mut self, api: ApiUrl) -> Self {
        self.api_at = Some(api);
        self
    }

    /// Tells the task API and the agent of our spans, where they are recorded.
    #[must_use]
    pub fn with_sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Tells what the agent is doing.
    #[must_use]
    pub fn with_watch(mut self, watch: Watch) -> Self {
        self.watch = watch;
        self
    }

    /// Counts here what no row of the journal says.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// What is started by an effect is told of the trace so: the effect's attempt is its parent.
    fn trace(&self, call: &Call) -> Option<Trace> {
        let trace = TaskTrace::of(&call.assignment, call.assigned_at);
        let span = trace.attempt(call.effect, call.attempt);
        self.sampling.context(&trace, span)
    }

    /// The task API for what is said beside the effects, for as long as this start lives.
    fn api_of_boot(&self, call: &Call) -> TaskApi {
        let trace = TaskTrace::of(&call.assignment, call.assigned_at);
        let context = self.sampling.context(&trace, trace.boot(call.boot));
        self.api(call).with_trace(context)
    }

    /// The task API for an effect. It is the operator's, and hears of the trace; the forge and the model are somebody else's,
    /// and do not.
    fn api(&self, call: &Call) -> TaskApi {
        let base = self.api_at.clone().unwrap_or_else(|| call.assignment.api_url.clone());
        let task = call.assignment.task_id.clone();
        let client = match Url::parse(base.as_str()) {
            Ok(peer) => self.clients.to(&peer),
            // An ApiUrl was parsed as one.
            Err(_) => &self.clients.by_environment,
        };
        TaskApi::new(client.clone(), base, task, self.api_token_file.clone())
            .with_trace(self.trace(call))
            .with_redactor(self.redactor.clone())
    }

    /// The working branch of a task.
    fn branch(&self, call: &Call) -> Result<BranchName, Outcome> {
        let name = format!("{}{}", self.branch_prefix, call.assignment.task_id);
        name.parse().map_err(|e| failed(Failure::Internal, format!("{e}")))
    }

    /// The sealed token: an effect that needs it and does not find it has failed for good.
    fn token(&self, facts: &TokenFacts) -> Result<Secret, Outcome> {
        match self.seal.read() {
            Ok(Some(sealed)) if sealed.facts() == *facts => {
                self.redactor.add(&sealed.token);
                Ok(sealed.token)
            }
            Ok(Some(Sealed { .. })) => Err(failed(Failure::TokenLost, "another token is sealed than the journal's")),
            Ok(None) => Err(failed(Failure::TokenLost, gone(&self.seal))),
            Err(error) => Err(seal_refusal(&error)),
        }
    }

    /// The token for git: a path of this machine needs none.
    fn git_token(&self, repo: &RepoUrl, facts: &TokenFacts) -> Result<Option<Secret>, Outcome> {
        match repo {
            RepoUrl::Http(_) => self.token(facts).map(Some),
            RepoUrl::Local(_) => Ok(None),
        }
    }

    /// The sandbox as this machine gives it, held against the setting.
    async fn sandbox_in_force(&self) -> Result<Option<InForce>, Outcome> {
        let runner = self.places.runner.clone();
        let surveyed = tokio::task::spawn_blocking(move || sandbox::survey(&runner)).await;
        let unavailable = |cause: String| failed(Failure::SandboxUnavailable, cause);
        let rights = surveyed
            .map_err(|e| unavailable(e.to_string()))?
            .map_err(|e| unavailable(e.to_string()))?;
        let wanted = self.allowance.ports.wanted();
        let decided = sandbox::decide(self.sandbox, &rights, &wanted);
        // Of each start: the journal has a note of the first one alone.
        let in_force = decided.as_ref().ok().and_then(Option::as_ref);
        self.metrics
            .sandboxed(self.sandbox, &wanted, in_force.map(|sandbox| &sandbox.rights));
        decided.map_err(|e| unavailable(e.to_string()))
    }

    fn note(&self, note: Note) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }
}

impl Execute for World {
    async fn probe(&self, effect: &Effect, call: &Call) -> Result<Probe, AnswerLost> {
        redacted::probe(&self.redactor, self.look(effect, call).await)
    }

    async fn act(&self, effect: &Effect, call: &Call) -> Result<Outcome, AnswerLost> {
        redacted::act(&self.redactor, self.carry_out(effect, call).await)
    }

    fn notes(&self) -> Vec<Note> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl World {
    async fn look(&self, effect: &Effect, call: &Call) -> Result<Probe, AnswerLost> {
        match effect {
            // Telling and asking twice does no harm, and the API deduplicates the verdict.
            // So does preparing a tree, and looking at it.
            Effect::Start { .. } | Effect::Data | Effect::Setup(_) | Effect::Check(_) | Effect::Report { .. } => {
                Ok(Probe::NotDone(Left::default()))
            }
            Effect::Archive { patience, .. } => Ok(archive::probe(*patience)),
            Effect::Token { .. } => Ok(token::probe(self)),
            Effect::Clone { .. } => clone::probe(self, call).await,
            Effect::Agent(run) => agent::probe(self, run, call).await,
            Effect::Handover { cut, .. } => handover::probe(self, cut.as_ref()).await,
            Effect::Push { work, head } => push::probe(self, work, head).await,
            Effect::PullRequest { work, .. } => pull_request::probe(self, work, call).await,
        }
    }

    async fn carry_out(&self, effect: &Effect, call: &Call) -> Result<Outcome, AnswerLost> {
        // Nothing is told of a task before its `started`, and nothing after its verdict.
        if !matches!(
            effect,
            Effect::Start { .. } | Effect::Report { .. } | Effect::Archive { .. }
        ) {
            self.forwarder.start(|| self.api_of_boot(call), call.boot);
            // Whichever answer said so: nothing more is done for a task that is nobody's any more.
            if self.forwarder.has_ended_elsewhere() {
                return Ok(Outcome::Superseded);
            }
        }
        match effect {
            Effect::Start { patience, within_ms } => start::act(self, *patience, *within_ms, call).await,
            Effect::Data => data::act(self, call).await,
            Effect::Token { history } => token::act(self, *history, call).await,
            Effect::Clone { task, token } => clone::act(self, task, token, call).await,
            Effect::Setup(at) => command::set_up(self, at, call).await,
            // By far the largest of them: not every effect's future is to be of its size.
            Effect::Agent(run) => Box::pin(agent::act(self, run, call)).await,
            Effect::Check(at) => command::check(self, at, call).await,
            Effect::Handover {
                task,
                checkout,
                agent,
                cut,
                at,
            } => {
                let taken = handover::Taken {
                    task,
                    checkout,
                    agent,
                    cut: cut.as_ref(),
                    at: *at,
                };
                handover::act(self, &taken, call).await
            }
            Effect::Push { work, head } => push::act(self, work, head).await,
            Effect::PullRequest { work, head } => pull_request::act(self, work, head, call).await,
            Effect::Report { verdict, claims } => report::act(self, verdict, *claims, call).await,
            Effect::Archive {
                verdict,
                patience,
                within_ms,
            } => {
                let order = archive::Order {
                    verdict,
                    patience: *patience,
                    within_ms: *within_ms,
                };
                Ok(archive::act(self, &order, call).await)
            }
        }
    }
}

/// A cause may have this many bytes: a row's body is bounded, and a person reads it.
const CAUSE_LIMIT: usize = 4096;

fn bounded(text: impl AsRef<str>) -> String {
    cut(text.as_ref(), CAUSE_LIMIT)
}

fn failed(failure: Failure, cause: impl AsRef<str>) -> Outcome {
    Outcome::Failed {
        failure,
        cause: bounded(cause),
        agent: None,
    }
}

fn retry(cause: impl AsRef<str>, after: Option<Duration>) -> Outcome {
    Outcome::Retry {
        trouble: Trouble::Unreachable,
        cause: bounded(cause),
        after_ms: after.map(|a| Millis::try_from(a.as_millis()).unwrap_or(Millis::MAX)),
        left: Left::default(),
    }
}

/// What is left, now, of the time that was planned then.
fn time_from(planned: Instant, left: TimeLeft) -> Duration {
    let passed = Millis::try_from(planned.elapsed().as_millis()).unwrap_or(Millis::MAX);
    Duration::from_millis(u64::try_from(left.begun_after(passed)).unwrap_or(0))
}

fn lost(cause: impl AsRef<str>) -> AnswerLost {
    AnswerLost { cause: bounded(cause) }
}

/// Where a token that is gone was looked for, and what keeps the next one.
fn gone(seal: &Seal) -> String {
    let files: Vec<String> = seal.files().iter().map(|file| file.display().to_string()).collect();
    format!(
        "It was looked for in {}. A seal key (RUNNER_SEAL_KEY_FILE) keeps it in the state directory, encrypted; without \
         one, RUNNER_SECRETS_DIR needs a volume that outlives a restart of the process.",
        files.join(" and ")
    )
}

/// What a seal that cannot be used means.
fn seal_refusal(error: &SealError) -> Outcome {
    let failure = match error {
        SealError::DiskFull(_) => Failure::DiskFull,
        SealError::Io { .. }
        | SealError::NotOurs(_)
        | SealError::Unreadable(_)
        | SealError::WrongKey(_)
        | SealError::NoKey(_)
        | SealError::OtherVersion { .. } => Failure::TokenLost,
    };
    failed(failure, error.to_string())
}

/// What the task API's refusals mean for a call whose answer the task needs. `refused` is the failure where it says no.
fn api_refusal(error: &ApiError, refused: Failure) -> Result<Outcome, AnswerLost> {
    let text = error.to_string();
    Ok(match error {
        ApiError::Lost(_) => return Err(lost(text)),
        ApiError::NotSent(_) | ApiError::BearerFile { .. } | ApiError::Unauthorized { .. } => retry(text, None),
        ApiError::Retryable { retry_after, .. } => retry(text, *retry_after),
        ApiError::NotFound { .. } => failed(Failure::TaskNotFound, text),
        ApiError::Gone { .. } => Outcome::Superseded,
        ApiError::Conflict { .. }
        | ApiError::Refused { .. }
        | ApiError::TooLarge { .. }
        | ApiError::Malformed { .. } => failed(refused, text),
    })
}

/// What git's failures mean. `refused` is the failure where the remote says no.
fn git_refusal(error: &GitError, refused: Failure, token: &TokenFacts) -> Outcome {
    let text = error.to_string();
    match error {
        GitError::Unreachable { .. } | GitError::Lost { .. } | GitError::Server { .. } | GitError::TimedOut { .. } => {
            retry(text, None)
        }
        GitError::AuthenticationFailed { .. } if system_clock() >= token.expires_at_ms => {
            failed(Failure::TokenExpired, text)
        }
        GitError::DiskFull { .. } => failed(Failure::DiskFull, text),
        GitError::RefNotFound(_) => failed(Failure::RefNotFound, text),
        GitError::Stale { .. } | GitError::BranchInTheWay { .. } => failed(Failure::PushConflict, text),
        GitError::TokenUnusable => failed(Failure::TokenMintFailed, text),
        GitError::AuthenticationFailed { .. }
        | GitError::Forbidden { .. }
        | GitError::NotFound { .. }
        | GitError::Redirected { .. }
        | GitError::Untrusted { .. }
        | GitError::Refused { .. }
        | GitError::RemoteRejected { .. }
        | GitError::EmptyRepository
        | GitError::NoDefaultBranch
        | GitError::TooLarge { .. } => failed(refused, text),
        GitError::Other { .. } => failed(refused, text),
        // Of this machine: nobody's branch protection or token is to be looked at for it.
        GitError::Spawn { .. } | GitError::Damaged { .. } | GitError::Io { .. } => failed(Failure::Internal, text),
    }
}

/// What a probe makes of a refusal: what may pass is looked for again, what is final has ended the effect.
fn not_found_out(refusal: Outcome) -> Result<Probe, AnswerLost> {
    if let Outcome::Retry { cause, .. } = refusal {
        Err(AnswerLost { cause })
    } else {
        Ok(Probe::Ended(refusal))
    }
}

/// Either an outcome that came early, or what was wanted.
macro_rules! or_outcome {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(outcome) => return Ok(outcome),
        }
    };
}
use or_outcome;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_this_machine_is_not_called_the_remotes() {
        let token = TokenFacts {
            sha256_prefix: String::new(),
            expires_at_ms: Millis::MAX,
        };
        let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let faults = [
            GitError::Spawn {
                program: "/usr/bin/git".into(),
                source: gone(),
            },
            GitError::Damaged {
                what: "no base".to_owned(),
            },
            GitError::Io {
                what: "read",
                path: "/state/git".into(),
                source: gone(),
            },
        ];
        for error in faults {
            for refused in [Failure::PushRejected, Failure::CloneFailed] {
                let outcome = git_refusal(&error, refused, &token);
                assert_eq!(outcome, failed(Failure::Internal, error.to_string()));
            }
        }
    }
}
