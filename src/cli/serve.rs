//! `runner serve`: listen, run one task, exit.

use std::time::Duration;

use clap::Args;
use runner_journal::Journal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::CliError;
use super::local::{clock, exports, on_runtime, prepare_directories, term, tidy, warn_of_archive};
use crate::config::{Options, Role, Settings};
use crate::driver::{Driver, Observe, Parts};
use crate::forwarder::Forwarder;
use crate::redact::Redactor;
use crate::server::{self, Listener, router};
use crate::steps::World;
use crate::survival::{self, Ground};
use crate::telemetry::{Metrics, Status, Telemetry, log_file};
use crate::{process, record};

/// How long what the agent did last may take to be told, where the task is left to the next start.
const LAST_EVENTS: Duration = Duration::from_millis(200);
/// How long answers under way may take once the process is about to end. A peer that holds a line open waits in vain.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Listen, run one task, exit.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  RUNNER_STATE_DIR=/data/state RUNNER_SECRETS_DIR=/data/secrets \\
    RUNNER_WORKSPACE=/data/work runner serve
  curl -sS -H 'Content-Type: application/json' \\
       -d '{\"taskID\": \"my-task\", \"apiURL\": \"http://api:8081\"}' http://127.0.0.1:8888/task")]
pub(super) struct Serve {
    #[command(flatten)]
    options: Options,
}

impl Serve {
    pub(super) fn execute(self, redactor: &Redactor) -> Result<u8, CliError> {
        process::harden_self()?;
        let settings = Settings::resolve(self.options, &Role::Serve, |name| std::env::var_os(name))?;
        settings.tell_secrets(redactor, |name| std::env::var_os(name));
        on_runtime(serve(settings, redactor.clone()))
    }
}

async fn serve(settings: Settings, redactor: Redactor) -> Result<u8, CliError> {
    // What can be refused is refused before anything is made: exit 2 has touched nothing.
    let metrics = Metrics::of(&settings);
    let forwarder = Forwarder::new(clock(), metrics.clone());
    let exports = exports(&settings, &redactor, &metrics)?;
    let world = World::new(&settings, redactor, forwarder.clone())?
        .with_sampling(exports.sampling())
        .with_metrics(metrics.clone());
    let address = settings.options.listen;
    let listener = server::bind(address).map_err(|source| CliError::Listen { address, source })?;
    prepare_directories(&settings).await?;
    warn_of_archive(&settings);
    survival::log(&Ground::here(|name| std::env::var_os(name)).losses(&settings));
    let mut opened = Journal::open(&settings.journal, &record::machine()).map_err(|source| CliError::Open {
        path: settings.journal.clone(),
        source,
    })?;
    opened.journal.watch(metrics.journal_watch());
    // Before that, the directory was somebody else's for all that is known.
    log_file::keep_in(&settings.state_dir);
    if let Ok(bound) = listener.local_addr() {
        tracing::info!("listening on {bound}");
    }
    let (inbox, requests) = mpsc::channel(16);
    let status = watch::Sender::new(Status::starting());
    let routes = router(Listener {
        inbox,
        status: status.subscribe(),
        metrics: metrics.clone(),
        task_token: settings.task_token.clone(),
        api_allow: settings.options.api_allow.clone(),
    });
    let term = term(settings.options.term_grace);
    let told = term.told.clone();
    let mut observers: Vec<Box<dyn Observe>> = vec![
        Box::new(Telemetry::new(status, metrics.clone())),
        Box::new(forwarder.observer()),
    ];
    observers.extend(exports.observer(&opened));
    let driver = Driver::start(Parts {
        opened,
        world,
        policy: settings.policy(),
        clock: clock(),
        observers,
        inbox: Some(requests),
        term,
    })?;
    // The listener lives as long as the process: /healthz answers to the last moment.
    let (end, ended) = oneshot::channel::<()>();
    let serving = tokio::spawn(server::serve(listener, routes, ended));
    let exit = driver.drive().await;
    // A task that is left to the next start has told nothing of its end, and its events are in time still.
    forwarder.close(LAST_EVENTS).await;
    if let Ok(exit) = &exit {
        tidy(*exit, &settings);
    }
    // Before the listener goes, since /healthz answers to the last moment.
    exports.close().await;
    if let Some(patience) = settings.options.metrics_linger {
        last_scrape(&metrics, patience, told).await;
    }
    // Who waits for an answer gets it: without this, a 503 was lost with the process that it speaks of.
    drop(end);
    drop(tokio::time::timeout(LAST_ANSWERS, serving).await);
    Ok(exit?.code())
}

/// Waits until what the metrics say of the end is scraped: not longer than this, and not where the runner was told to stop.
async fn last_scrape(metrics: &Metrics, patience: Duration, mut told: watch::Receiver<Option<Instant>>) {
    tokio::select! {
        () = metrics.next_scrape() => {}
        () = tokio::time::sleep(patience) => tracing::warn!("nobody scraped the metrics of the end within {patience:?}"),
        Ok(_) = told.wait_for(Option::is_some) => {}
    }
}
