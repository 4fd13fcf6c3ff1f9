//! What the commands that run a task share: the runtime, the clock, signals.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use super::CliError;
use crate::adapters::archive::Destination;
use crate::config::{ConfigError, Settings};
use crate::driver::{Clock, Term};
use crate::machine::Exit;
use crate::redact::Redactor;
use crate::steps::give_room_back;
use crate::telemetry::{Exports, Metrics, system_clock};

/// Two workers beside this thread, which is the driver's: it may wait for a disk, and the listener may not.
pub(super) fn on_runtime<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| CliError::Output {
            what: "to start the runtime".to_owned(),
            source,
        })?;
    let done = runtime.block_on(work);
    // A listener or a blocked write is not waited for.
    runtime.shutdown_background();
    done
}

/// Tidies up after a process: once the task is over, nothing needs the token any more.
pub(super) fn tidy(exit: Exit, settings: &Settings) {
    match exit {
        Exit::Completed | Exit::Failed | Exit::NobodyLeft | Exit::Superseded | Exit::NothingToDo => {
            if let Err(error) = settings.seal().destroy() {
                tracing::warn!("the token stays sealed: {error}");
            }
        }
        Exit::Idle | Exit::Parked | Exit::Undelivered => {}
    }
}

/// What goes to a collector, where OpenTelemetry's variables name one. On a runtime.
pub(super) fn exports(settings: &Settings, redactor: &Redactor, metrics: &Metrics) -> Result<Exports, CliError> {
    let env = |name: &str| std::env::var_os(name);
    let ca_file = settings.options.ca_file.clone();
    let agent = settings.agent_identity();
    Ok(Exports::start(
        env,
        ca_file,
        &settings.state_dir,
        agent,
        redactor,
        metrics,
    )?)
}

/// Makes the directories of a task. A disk that is full may be so for the room that is set aside while an agent lives: the one of
/// a runner that was killed is waited for, and the disk is looked at once more.
pub(super) async fn prepare_directories(settings: &Settings) -> Result<(), ConfigError> {
    let first = settings.prepare_directories();
    if !matches!(first, Err(ConfigError::FullDirectory { .. })) {
        return first;
    }
    match give_room_back(&settings.state_dir).await {
        Ok(true) => settings.prepare_directories(),
        Ok(false) => first,
        Err(error) => {
            tracing::warn!("it is not given back: {error}");
            first
        }
    }
}

/// Says at the start what would be said at the end: a folder that is not there takes no archive. It may come yet, as a volume
/// does, and the task does not wait for it.
pub(super) fn warn_of_archive(settings: &Settings) {
    let folder = settings.archive.as_ref().and_then(Destination::folder);
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        tracing::warn!(
            "RUNNER_ARCHIVE_URL names {}, which is no directory here: unless it is one by then, there will be no archive",
            folder.display()
        );
    }
}

/// The system's clock.
pub(super) fn clock() -> Clock {
    Arc::new(system_clock)
}

/// SIGTERM and SIGINT, from now on.
pub(super) fn term(grace: Duration) -> Term {
    let (tell, told) = watch::channel(None);
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let tell = tell.clone();
        match signal(kind) {
            Ok(mut signals) => {
                tokio::spawn(async move {
                    while signals.recv().await.is_some() {
                        // The first counts: the grace does not begin anew.
                        tell.send_if_modified(|told| {
                            let first = told.is_none();
                            told.get_or_insert_with(Instant::now);
                            first
                        });
                    }
                });
            }
            Err(error) => tracing::warn!("signals cannot be watched, and will end the process at once: {error}"),
        }
    }
    Term { told, grace }
}
