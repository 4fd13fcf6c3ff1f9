//! `runner actions`: be a just-in-time, ephemeral GitHub Actions runner.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ring::rand::{SecureRandom, SystemRandom};
use runner_journal::Journal;
use tokio::sync::{oneshot, watch};

use super::CliError;
use super::local::{clock, on_runtime, term};
use crate::actions::credential::Tokens;
use crate::actions::driver::{DriveError, Driver, Parts};
use crate::actions::environment;
use crate::actions::listener::Place;
use crate::actions::machine::{Exit, JobFacts, Run};
use crate::actions::marks::{Marks, Moment};
use crate::actions::record;
use crate::actions::server::{Shown, Status, router};
use crate::actions::steps::{Outside, World};
use crate::adapters::http::{self, HttpOptions, Proxies};
use crate::config::{ActionsOptions, ActionsSettings};
use crate::process;
use crate::redact::Redactor;
use crate::server;
use crate::telemetry::spans::AgentIdentity;
use crate::telemetry::{ActionsTelemetry, Exports, Metrics, log_file};

/// How long answers under way may take once the process is about to end.
const LAST_ANSWERS: std::time::Duration = std::time::Duration::from_millis(500);

/// Be a just-in-time, ephemeral GitHub Actions runner: register, run one job, remove, exit.
///
/// What it registers it removes, whatever kills it: the next start on the same state directory goes on where this one was. A
/// job that has begun is never begun again. Exit 0 where a job was run, whatever its result, or none was to be run; 1 where it
/// failed; 75 where something is left to the next start.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  RUNNER_ACTIONS_TOKEN=… runner actions --actions-url https://github.com/OWNER/NAME
  RUNNER_ACTIONS_URL=https://github.com/ORG RUNNER_ACTIONS_GROUP=Builders \\
    RUNNER_ACTIONS_LABELS=self-hosted,linux,x64,claude \\
    RUNNER_ACTIONS_APP_ID=123456 RUNNER_ACTIONS_APP_KEY=\"$(cat app.pem)\" runner actions
  curl -sS http://127.0.0.1:8888/status                 where it is
  runner journal explain /var/lib/runner/journal.db     what happened, after the fact"
)]
pub(super) struct Actions {
    #[command(flatten)]
    options: Option<ActionsOptions>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What the hooks of a job call: marks that it began, or that it ended
    #[command(hide = true)]
    Hook {
        /// Which hook
        #[arg(value_parser = crate::config::one_of::<Moment>)]
        moment: Moment,
        /// Where marks are left
        #[arg(long, value_name = "DIR")]
        marks: PathBuf,
    },
}

impl Actions {
    /// Whether it is a hook of a job: in whose environment there are many variables that begin with `RUNNER_`.
    pub(super) fn is_hook(&self) -> bool {
        self.verb.is_some()
    }

    pub(super) fn execute(self, redactor: &Redactor) -> Result<u8, CliError> {
        match (self.verb, self.options) {
            (Some(Verb::Hook { moment, marks }), _) => mark(moment, &marks),
            (None, Some(options)) => {
                process::harden_self()?;
                let settings = ActionsSettings::resolve(options, |name| std::env::var_os(name))?;
                settings.tell_secrets(redactor, |name| std::env::var_os(name));
                on_runtime(run(settings, redactor.clone()))
            }
            (None, None) => Err(CliError::Usage {
                what: "it is not said whose jobs to run".to_owned(),
                hint: "name a repository or an organisation with --actions-url".to_owned(),
            }),
        }
    }
}

/// A job that could begin without its mark could begin twice, so it does not begin; that its end is not marked costs a later
/// start its certainty, and is no reason to call the job failed.
fn mark(moment: Moment, marks: &std::path::Path) -> Result<u8, CliError> {
    let facts = JobFacts::of_hook(|name| std::env::var(name).ok());
    let marked = Marks::at(marks).mark(moment, &facts);
    match (moment, marked) {
        (_, Ok(())) => Ok(0),
        (Moment::Started, Err(source)) => Err(CliError::Output {
            what: format!("the mark that the job began into {}", marks.display()),
            source,
        }),
        (Moment::Completed, Err(error)) => {
            println!("::warning::the runner could not mark the end of the job: {error}");
            Ok(0)
        }
    }
}

async fn run(settings: ActionsSettings, redactor: Redactor) -> Result<u8, CliError> {
    let proxies = Proxies::for_peer(&settings.api);
    let client = http::build_client(&HttpOptions {
        ca_file: settings.options.ca_file.clone(),
        proxies,
        ..HttpOptions::default()
    })?;
    let address = settings.options.listen;
    let metrics = Metrics::of_actions();
    // The log and metrics go to a collector as a task's do. There are no spans.
    let exports = Exports::start(
        |name| std::env::var_os(name),
        settings.options.ca_file.clone(),
        &settings.options.state_dir,
        AgentIdentity {
            name: "actions-runner",
            provider: None,
            model: None,
        },
        &redactor,
        &metrics,
    )?;
    let listener = server::bind(address).map_err(|source| CliError::Listen { address, source })?;
    settings.prepare_directories()?;
    let open = |source| CliError::Open {
        path: settings.journal.clone(),
        source,
    };
    let mut opened = Journal::open(&settings.journal, &record::machine()).map_err(open)?;
    opened.journal.watch(metrics.journal_watch());
    log_file::keep_in(&settings.options.state_dir);
    if let Ok(bound) = listener.local_addr() {
        tracing::info!("listening on {bound}");
    }
    let known = record::replay(&opened.rows).map_err(DriveError::from)?;
    let assignment = match &known.assignment {
        Some(own) => own.clone(),
        None => settings.assignment(random_id()?, &host()),
    };
    holds_no_other_runner(&settings, &known)?;
    let term = term(settings.options.term_grace);
    let place = Place {
        runner: std::env::current_exe().map_err(|source| CliError::Output {
            what: "to find this program".to_owned(),
            source,
        })?,
        official: absolute(&settings.options.dir),
        state: absolute(&settings.options.state_dir),
        id: assignment.id.clone(),
    };
    let policy = settings.policy();
    let world = World::new(Outside {
        client,
        api: settings.api.clone(),
        assignment: assignment.clone(),
        env: environment::of_job(&settings.options.env, |name| std::env::var_os(name)),
        tokens: Tokens::new(settings.credential, redactor.clone()),
        place,
        term: term.clone(),
        redactor,
    });
    let status = watch::Sender::new(Status::of(&known, opened.journal.head()));
    let routes = router(Shown {
        status: status.subscribe(),
        metrics: metrics.clone(),
    });
    let driver = Driver::start(
        Parts {
            opened,
            world,
            policy,
            clock: clock(),
            observers: vec![Box::new(ActionsTelemetry::new(status, metrics))],
            term,
        },
        assignment,
    )?;
    let (end, ended) = oneshot::channel::<()>();
    let serving = tokio::spawn(server::serve(listener, routes, ended));
    let exit = driver.drive().await;
    // Before the listener goes, since /healthz answers to the last moment.
    exports.close().await;
    drop(end);
    drop(tokio::time::timeout(LAST_ANSWERS, serving).await);
    let exit = exit?;
    if let Exit::NothingToDo = exit {
        tracing::info!("an earlier start had brought this runner to its end: a new one needs a new state directory");
    }
    Ok(exit.code())
}

/// One runner for the life of a journal: settings that want another one are refused before anything is done.
fn holds_no_other_runner(settings: &ActionsSettings, known: &Run) -> Result<(), CliError> {
    match &known.assignment {
        Some(own) if own.target != settings.options.url => Err(CliError::Usage {
            what: format!(
                "{} holds a runner of {}, and RUNNER_ACTIONS_URL names {}",
                settings.journal.display(),
                own.target,
                settings.options.url
            ),
            hint: "give this runner a state directory of its own with --state-dir".to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

fn absolute(path: &std::path::Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// What makes this journal's names its own.
fn random_id() -> Result<String, CliError> {
    let mut random = [0; 4];
    SystemRandom::new().fill(&mut random).map_err(|_| CliError::Output {
        what: "to draw a random name".to_owned(),
        source: std::io::Error::other("the system gives no random numbers"),
    })?;
    Ok(hex::encode(random))
}

fn host() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| String::new(),
        |names| names.nodename().to_string_lossy().into_owned(),
    )
}
