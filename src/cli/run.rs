//! `runner run`: one task without an operator, by the same machine, with an embedded task API in place of the real one.

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use runner_journal::Journal;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::CliError;
use super::job;
use super::local::{clock, exports, on_runtime, prepare_directories, term, tidy, warn_of_archive};
use super::progress::Progress;
use crate::adapters::agent::AgentKind;
use crate::config::{Options, Role, Settings, state_home};
use crate::driver::{Assigned, Driver, Observe, Parts};
use crate::embedded::faults::Faults;
use crate::embedded::task_api::{Mint, TaskApiServer};
use crate::forwarder::Forwarder;
use crate::ids::{GitRef, RepoUrl, TaskId};
use crate::machine::{Assignment, Exit, Failure, Run as History, State};
use crate::redact::Redactor;
use crate::secret::Secret;
use crate::steps::{Told, World};
use crate::task::{Task, TaskData, TaskRepo};
use crate::telemetry::{Metrics, Status, Telemetry, log_file, system_clock};
use crate::text::printable;
use crate::trace::Trace;
use crate::{process, record};

/// A person's own token is not issued here, and lives as long as it lives.
const TOKEN_LIFETIME: Duration = Duration::from_hours(24);
/// The task as it was given, kept beside the journal for `--resume`.
const TASK_FILE: &str = "task.json";

/// What [`TASK_FILE`] has: the task, and which agent it was given to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    #[serde(flatten)]
    data: TaskData,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<AgentKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent_command: Option<String>,
}

/// Run one task without an operator.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner run --repo . --task 'Fix the typo in the README'
  GITHUB_TOKEN=… runner run --repo octo/hello --task-file issue.md --ref main
  runner run --repo . --task 'count the words' --agent command --agent-command ./my-agent
  runner run --resume                      go on with the newest task that is not finished
  runner run --repo . --task 'fix the typo' --dump-prompt      what the agent would be told; runs nothing

The token for a repository on the network comes from GITHUB_TOKEN or GH_TOKEN. A repository that is a path gets the
branch pushed to it; there is no pull request then.")]
pub(super) struct Run {
    /// The repository: a URL, OWNER/NAME on github.com, or a path
    #[arg(
        long,
        value_name = "REPO",
        required_unless_present = "resume",
        conflicts_with = "resume"
    )]
    repo: Option<String>,
    /// What is to be done
    #[arg(long, value_name = "TEXT", conflicts_with = "resume")]
    task: Option<String>,
    /// A file that says what is to be done; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["task", "resume"])]
    task_file: Option<PathBuf>,
    /// A file with what the agent should know besides
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    context_file: Option<PathBuf>,
    /// The branch, tag or full commit id to start from [default: the repository's default branch]
    #[arg(long = "ref", value_name = "REF", conflicts_with = "resume")]
    git_ref: Option<GitRef>,
    /// The issue or ticket that the task comes from
    #[arg(long, value_name = "URL", conflicts_with = "resume")]
    source_url: Option<String>,
    /// The task's id, which names the branch and the state directory [default: made from the time]
    #[arg(long, value_name = "ID")]
    task_id: Option<TaskId>,
    /// Go on with a task that was started and not finished: the newest, or the one of --task-id or --state-dir
    #[arg(long)]
    resume: bool,
    /// Print what the agent would be told, its instructions and its prompt, and run nothing: the repository is cloned into a
    /// temporary directory for it
    #[arg(long, conflicts_with = "resume")]
    dump_prompt: bool,
    #[command(flatten)]
    options: Options,
}

/// A task that is about to be run on this machine.
pub(super) struct Local {
    pub(super) id: TaskId,
    pub(super) data: TaskData,
    pub(super) token: Option<Secret>,
    pub(super) settings: Settings,
}

/// The same before a token is asked for.
struct What {
    id: TaskId,
    data: TaskData,
    settings: Settings,
}

impl Run {
    /// In a GitHub Actions job, `RUNNER_WORKSPACE` is the Actions runner's own: the directory around the checkout.
    pub(super) fn forget_workspace(&mut self) {
        self.options.workspace = None;
    }

    pub(super) fn execute(self, redactor: &Redactor) -> Result<u8, CliError> {
        process::harden_self()?;
        if self.dump_prompt {
            let what = self.what()?;
            return on_runtime(dump_prompt(what, redactor)).map(|()| 0);
        }
        let local = if self.resume { self.resumed()? } else { self.fresh()? };
        let (exit, settings) = on_runtime(async {
            let settings = local.settings.clone();
            Ok((Box::pin(drive(local, Left::ForLater, redactor)).await?, settings))
        })?;
        let exit = conclude(exit, &settings, Left::ForLater);
        Ok(exit.code())
    }

    fn fresh(self) -> Result<Local, CliError> {
        let What { id, data, settings } = self.what()?;
        Ok(Local {
            token: token_for(&data, &settings)?,
            id,
            data,
            settings,
        })
    }

    fn what(self) -> Result<What, CliError> {
        let description = self.description()?;
        let repo = repository(self.repo.as_deref().unwrap_or_default())?;
        let context = self.context_file.as_deref().map(read_text).transpose()?;
        let id = self.task_id.clone().map_or_else(new_id, Ok)?;
        let data = TaskData {
            description,
            context: context.unwrap_or_default(),
            source_url: self.source_url.clone(),
            repo: TaskRepo {
                url: repo,
                git_ref: self.git_ref.as_ref().map(ToString::to_string),
            },
        };
        let settings = settings(self.options, &id)?;
        Ok(What { id, data, settings })
    }

    fn resumed(self) -> Result<Local, CliError> {
        let home = || state_home(|name| std::env::var_os(name));
        let dir = match (&self.options.state_dir, &self.task_id, &self.options.journal) {
            (Some(dir), _, _) => dir.clone(),
            (None, Some(id), _) => home()?.join(id.as_str()),
            // A journal that is named says which task it is.
            (None, None, Some(journal)) => home()?.join(journaled_id(journal)?.as_str()),
            (None, None, None) => newest_unfinished()?,
        };
        let usage = |what: String| CliError::Usage {
            what,
            hint: "start a task with --repo and --task".to_owned(),
        };
        let kept = fs::read(dir.join(TASK_FILE))
            .map_err(|e| usage(format!("{} has no task to go on with: {e}", dir.display())))?;
        let data = TaskData::parse(&kept).map_err(|e| usage(format!("{}: {e}", dir.display())))?;
        let kept: Kept = serde_json::from_slice(&kept).map_err(|e| usage(format!("{}: {e}", dir.display())))?;
        let id = if let Some(id) = self.task_id {
            id
        } else {
            let beside = dir.join("journal.db");
            journaled_id(self.options.journal.as_ref().unwrap_or(&beside))?
        };
        let mut options = self.options;
        options.state_dir = Some(dir);
        // Gone on with by the agent that it was begun by, unless another one is named.
        if options.agent.is_none() {
            options.agent = kept.agent;
        }
        if options.agent_command.is_none() {
            options.agent_command = kept.agent_command;
        }
        let settings = settings(options, &id)?;
        Ok(Local {
            token: token_for(&data, &settings)?,
            id,
            data,
            settings,
        })
    }

    fn description(&self) -> Result<String, CliError> {
        let text = match (&self.task, &self.task_file) {
            (Some(text), _) => text.clone(),
            (None, Some(file)) if file == Path::new("-") => {
                let mut text = String::new();
                io::stdin()
                    .read_to_string(&mut text)
                    .map_err(|e| unreadable(Path::new("standard input"), &e))?;
                text
            }
            (None, Some(file)) => read_text(file)?,
            (None, None) => String::new(),
        };
        if text.trim().is_empty() {
            return Err(CliError::Usage {
                what: "there is no task".to_owned(),
                hint: "say what is to be done with --task TEXT or --task-file FILE".to_owned(),
            });
        }
        Ok(text)
    }
}

/// Prints what the agent would be told. Nothing of it stays: what the run would keep is in a temporary directory here.
async fn dump_prompt(what: What, redactor: &Redactor) -> Result<(), CliError> {
    let What { id, data, settings } = what;
    settings.tell_secrets(redactor, |name| std::env::var_os(name));
    let embedded = |cause: String| CliError::Embedded {
        what: "the task",
        cause,
    };
    let raw = serde_json::to_vec(&data).map_err(|e| embedded(e.to_string()))?;
    let task = Task::parse(&raw, settings.repos).map_err(|e| embedded(e.to_string()))?;
    // A public repository is read without one.
    let token = match &task.repo {
        RepoUrl::Local(_) => None,
        RepoUrl::Http(_) => given_token(),
    };
    if let Some(token) = &token {
        redactor.add(token);
    }
    let temporary = |source| CliError::Output {
        what: "a temporary directory".to_owned(),
        source,
    };
    let room = tempfile::tempdir().map_err(temporary)?;
    let state = settings.state_dir.clone();
    let settings = Settings {
        state_dir: room.path().join("state"),
        secrets_dir: room.path().join("secrets"),
        workspace: room.path().join("workspace"),
        ..settings
    };
    settings.prepare_directories()?;
    let world = World::new(&settings, redactor.clone(), Forwarder::new(clock(), Metrics::new()))?;
    let told = world.told(&task, &id, token.as_ref(), &state).await?;
    print_told(&told).map_err(|source| CliError::Output {
        what: "what the agent would be told".to_owned(),
        source,
    })
}

fn print_told(told: &Told) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut part = |heading: &str, text: &str| {
        // A repository may have anything in its files, and a terminal does what it is told.
        let text = if io::stdout().is_terminal() {
            printable(text)
        } else {
            text.to_owned()
        };
        writeln!(out, "===== {heading} =====\n\n{}\n", text.trim_end())
    };
    if let Some(system) = &told.system {
        part("added to the agent's system prompt", system)?;
    }
    part("on the agent's standard input", &told.prompt)
}

/// Runs the task to its end.
pub(super) async fn drive(local: Local, left: Left, redactor: &Redactor) -> Result<Exit, CliError> {
    let Local {
        id,
        data,
        token,
        settings,
    } = local;
    settings.tell_secrets(redactor, |name| std::env::var_os(name));
    if let Some(token) = &token {
        redactor.add(token);
    }
    holds_no_other_task(&settings, &id)?;
    prepare_directories(&settings).await?;
    warn_of_archive(&settings);
    let embedded = |cause: String| CliError::Embedded {
        what: "the task API",
        cause,
    };
    let api = TaskApiServer::start(Faults::new())
        .await
        .map_err(|e| embedded(e.to_string()))?;
    // What has no token needs none: a repository that is a path.
    let token = token.unwrap_or_else(|| Secret::new("none-needed"));
    let progress = Progress::new(redactor.clone(), settings.policy());
    let metrics = Metrics::of(&settings);
    let forwarder = Forwarder::new(clock(), metrics.clone());
    let exports = exports(&settings, redactor, &metrics)?;
    let world = World::new(&settings, redactor.clone(), forwarder.clone())?
        .with_api_at(api.api_url().clone())
        .with_sampling(exports.sampling())
        .with_watch(progress.watch())
        .with_metrics(metrics.clone());
    let mut opened = Journal::open(&settings.journal, &record::machine()).map_err(|source| CliError::Open {
        path: settings.journal.clone(),
        source,
    })?;
    opened.journal.watch(metrics.journal_watch());
    // Once the journal is ours: another run of this task does not lose its own.
    log_file::keep_in(&settings.state_dir);
    if left == Left::ForLater {
        keep_for_later(&data, &settings)?;
    }
    api.add_task(&id, data, Mint::fixed(token, TOKEN_LIFETIME));
    let telemetry = Telemetry::new(watch::Sender::new(Status::starting()), metrics);
    let mut observers: Vec<Box<dyn Observe>> = vec![
        Box::new(telemetry),
        Box::new(progress.clone()),
        Box::new(forwarder.observer()),
    ];
    observers.extend(exports.observer(&opened));
    let mut driver = Driver::start(Parts {
        opened,
        world,
        policy: settings.policy(),
        clock: clock(),
        observers,
        inbox: None,
        term: term(settings.options.term_grace),
    })?;
    if driver.run().assignment.is_none() {
        let assignment = Assignment {
            task_id: id,
            api_url: api.api_url().clone(),
            trace: given_trace(),
        };
        if driver.assign(assignment)? == Assigned::Stopping {
            progress.finish();
            return Ok(Exit::Idle);
        }
    }
    let exit = driver.drive().await;
    progress.finish();
    exports.close().await;
    let exit = exit?;
    tidy(exit, &settings);
    Ok(exit)
}

/// Keeps the task beside its journal.
fn keep_for_later(data: &TaskData, settings: &Settings) -> Result<(), CliError> {
    let kept = Kept {
        data: data.clone(),
        agent: settings.options.agent,
        agent_command: settings.options.agent_command.clone(),
    };
    let file = settings.state_dir.join(TASK_FILE);
    let written = serde_json::to_vec(&kept).map_err(io::Error::from);
    written
        .and_then(|kept| fs::write(&file, kept))
        .map_err(|source| CliError::Output {
            what: file.display().to_string(),
            source,
        })
}

/// Whether a task that is not finished can be gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// By `runner run --resume`.
    ForLater,
    /// It cannot: the world that it was in is gone.
    Behind,
}

/// One task for the life of a journal: another one is refused before anything of the first is touched.
fn holds_no_other_task(settings: &Settings, id: &TaskId) -> Result<(), CliError> {
    let own = history(&settings.journal).and_then(|run| run.assignment);
    match own {
        Some(own) if own.task_id != *id => Err(CliError::Usage {
            what: format!("{} holds another task, {}", settings.state_dir.display(), own.task_id),
            hint: "name another --state-dir, or go on with that one by --resume".to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Says how it ended: the one line that a script wants on standard output, the rest for a person.
pub(super) fn conclude(exit: Exit, settings: &Settings, left: Left) -> Exit {
    let history = history(&settings.journal);
    let journal = settings.journal.display();
    // As it was called: it need not be in PATH.
    let program = std::env::args().next().unwrap_or_else(|| "runner".to_owned());
    eprintln!();
    if let Some(verdict) = history.as_ref().and_then(|run| run.verdict.clone()) {
        eprintln!("{}: {}", verdict.kind, printable(&verdict.message));
        if let Some(hint) = verdict.reason.and_then(Failure::hint) {
            eprintln!("hint: {hint}");
        }
        if let Some(result) = result(&verdict.body) {
            println!("{result}");
        }
    } else if exit.code() == 75 && left == Left::ForLater {
        let elsewhere = settings.options.journal.as_ref();
        let elsewhere = elsewhere.map_or_else(String::new, |journal| format!(" --journal {}", journal.display()));
        eprintln!(
            "not finished; go on with: {program} run --resume --state-dir {}{elsewhere}",
            settings.state_dir.display()
        );
    }
    if left == Left::ForLater {
        job::Told {
            code: exit.code(),
            verdict: history.as_ref().and_then(|run| run.verdict.as_deref()),
            journal: &settings.journal,
        }
        .tell(|name| std::env::var_os(name));
    }
    eprintln!("journal: {journal}");
    eprintln!("look at it with: {program} journal dump {journal}");
    exit
}

/// The pull request, or the branch, of a verdict.
fn result(body: &str) -> Option<String> {
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    let details = body.get("details")?;
    let text = |name: &str| details.get(name)?.as_str().map(str::to_owned);
    text("prURL").or_else(|| text("branch"))
}

fn history(journal: &Path) -> Option<History> {
    let snapshot = runner_journal::Snapshot::take(journal).ok()?;
    let mut rows = Vec::new();
    snapshot.read(|row| rows.push(row)).ok()?;
    record::replay(&rows, |hash| snapshot.blob(hash).ok().flatten()).ok()
}

/// The settings of a task on this machine.
pub(super) fn settings(options: Options, id: &TaskId) -> Result<Settings, CliError> {
    let env = |name: &str| std::env::var_os(name);
    let home = match &options.state_dir {
        Some(dir) => std::path::absolute(dir).unwrap_or_else(|_| dir.clone()),
        None => state_home(env)?.join(id.as_str()),
    };
    let options = Options {
        state_dir: options.state_dir.map(|_| home.clone()),
        ..options
    };
    Ok(Settings::resolve(options, &Role::Local { home }, env)?)
}

fn token_for(data: &TaskData, settings: &Settings) -> Result<Option<Secret>, CliError> {
    match RepoUrl::parse(&data.repo.url, settings.repos)? {
        RepoUrl::Local(_) => Ok(None),
        RepoUrl::Http(url) => {
            let given = given_token().ok_or_else(|| CliError::Usage {
                what: format!("there is no token for {url}"),
                hint: "put one into GITHUB_TOKEN: it has to be able to push and to open pull requests".to_owned(),
            });
            given.map(Some)
        }
    }
}

fn given_token() -> Option<Secret> {
    let given = ["GITHUB_TOKEN", "GH_TOKEN"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok());
    let token = given.filter(|token| !token.trim().is_empty())?;
    Some(Secret::new(token.trim()))
}

/// The span that this command was started in, as pipelines tell their steps.
fn given_trace() -> Option<Trace> {
    let text = |name: &str| std::env::var(name).ok();
    Trace::parse(text("TRACEPARENT")?.trim(), text("TRACESTATE").as_deref())
}

/// A URL as it is, `OWNER/NAME` as one on github.com, a path as an absolute one.
fn repository(given: &str) -> Result<String, CliError> {
    if given.contains("://") {
        return Ok(given.to_owned());
    }
    let path = Path::new(given);
    if path.exists() {
        let absolute = fs::canonicalize(path).map_err(|e| unreadable(path, &e))?;
        return Ok(absolute.display().to_string());
    }
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    match given.split_once('/') {
        Some((owner, name)) if plain(owner) && plain(name) => Ok(format!("https://github.com/{owner}/{name}")),
        Some(_) | None => Err(CliError::Usage {
            what: format!("{given:?} is neither a URL nor OWNER/NAME nor a path that exists"),
            hint: "name the repository with --repo".to_owned(),
        }),
    }
}

fn read_text(path: &Path) -> Result<String, CliError> {
    fs::read_to_string(path).map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, error: &io::Error) -> CliError {
    CliError::Usage {
        what: format!("{} cannot be read: {error}", path.display()),
        hint: "name a text file in UTF-8".to_owned(),
    }
}

fn new_id() -> Result<TaskId, CliError> {
    let now = jiff::Timestamp::from_millisecond(system_clock()).unwrap_or_default();
    Ok(format!("run-{}", now.strftime("%Y%m%d-%H%M%S-%3f")).parse()?)
}

/// The newest task of this machine whose verdict has not been taken.
fn newest_unfinished() -> Result<PathBuf, CliError> {
    let home = state_home(|name| std::env::var_os(name))?;
    let tasks = fs::read_dir(&home)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let unfinished = tasks.filter(|dir| dir.join(TASK_FILE).exists()).filter(|dir| {
        let run = history(&dir.join("journal.db"));
        run.is_some_and(|run| !matches!(run.state, Some(State::Reported)))
    });
    let newest = unfinished.max_by_key(|dir| fs::metadata(dir.join(TASK_FILE)).and_then(|m| m.modified()).ok());
    newest.ok_or_else(|| CliError::Usage {
        what: format!("no task below {} is unfinished", home.display()),
        hint: "start one with --repo and --task".to_owned(),
    })
}

fn journaled_id(journal: &Path) -> Result<TaskId, CliError> {
    history(journal)
        .and_then(|run| run.assignment)
        .map(|assignment| assignment.task_id)
        .ok_or_else(|| CliError::Usage {
            what: format!("{} holds no task", journal.display()),
            hint: "name the task with --task-id".to_owned(),
        })
}
