//! `job`: the official listener, which runs one job. A job that has begun is never begun again.

use std::io;
use std::time::Duration;

use super::World;
use crate::actions::crash::{ActionsCrash, Inside};
use crate::actions::driver::{AnswerLost, Probe};
use crate::actions::jit::without_update;
use crate::actions::listener::{self, HadAJob, ListenerEnd};
use crate::actions::machine::{Fact, Failure, JobEnd, JobFacts, JobReport, JobResult, Outcome};
use crate::actions::marks::Marked;
use crate::crash;
use crate::machine::Stopping;
use crate::process::{Exit, StartFailure, wait_until_free};

/// How long what an earlier start left may take to be gone.
const LEFT_BEHIND: Duration = Duration::from_secs(30);

/// After a crash: no process of the job lives, and the marks say how far it had come.
pub(super) async fn probe(world: &World) -> Result<Probe, AnswerLost> {
    found(world, None).await
}

/// What is found once nothing of the listener or of the job lives. `listener` says how it ended, where somebody saw it.
async fn found(world: &World, listener: Option<String>) -> Result<Probe, AnswerLost> {
    let lock = world.place.lock();
    let freed = tokio::task::spawn_blocking(move || wait_until_free(&lock, LEFT_BEHIND).map(drop)).await;
    freed
        .map_err(|error| world.lost(error.to_string()))?
        .map_err(|error| world.lost(error.to_string()))?;
    Ok(match world.place.marks().read() {
        Ok(Marked::Nothing) => Probe::NotDone,
        Ok(Marked::Begun(job)) => Probe::Ended(done(JobEnd::Lost, None, Some(job), listener)),
        Ok(Marked::Completed(job, result)) => Probe::Ended(done(JobEnd::Ran, result, Some(job), listener)),
        // Who looks again sees no more, and somebody put it there: there was a job.
        Err(error) => Probe::Ended(unreadable(&error)),
    })
}

/// Runs the listener to its end.
pub(super) async fn act(world: &World, id: u64) -> Result<Outcome, AnswerLost> {
    let Some(config) = world.config_of(id) else {
        return Ok(world.failed(Failure::RegistrationRefused, "its configuration is not at hand"));
    };
    let config = without_update(&config).unwrap_or_else(|| {
        tracing::warn!("the configuration has a form that is not known: self-update is as GitHub says");
        config
    });
    world.redactor.add(&config);
    let launch = match world.place.launch(&config, world.env.clone()) {
        Ok(launch) => launch,
        Err(error) => return Ok(world.retry(format!("the hooks cannot be written: {error}"), None)),
    };
    let marks = world.place.marks();
    let ran = listener::run(&launch, &marks, world.term.clone(), &world.redactor).await;
    crash::at(ActionsCrash::Inside(Inside::ListenerDead));
    match ran {
        Ok(end) => Ok(match marks.read() {
            Ok(marked) => judge(world, &end, marked),
            Err(error) => unreadable(&error),
        }),
        Err(error) => {
            // Whatever is left of it may not meet the next one, and may still be at the job: as after a crash.
            tracing::error!("{error}");
            let cause = world.cause(error.to_string());
            Ok(match found(world, Some(cause.clone())).await? {
                Probe::Ended(outcome) => outcome,
                Probe::NotDone => world.retry(cause, None),
            })
        }
    }
}

/// What the end of a listener means.
fn judge(world: &World, end: &ListenerEnd, marked: Marked) -> Outcome {
    let exit = world.cause(format!("{}{}", end.ended.exit, said(&end.last_words)));
    let (job, begun) = match marked {
        Marked::Completed(job, result) => return done(JobEnd::Ran, result.or(end.result), Some(job), Some(exit)),
        Marked::Begun(job) => (Some(job), true),
        Marked::Nothing => (None, end.had_a_job == HadAJob::Yes),
    };
    if let Some(result) = end.result {
        return done(JobEnd::Ran, Some(result), job, Some(exit));
    }
    if begun {
        return done(JobEnd::Lost, None, job, Some(exit));
    }
    if let Some(failure) = &end.ended.failure {
        return match failure {
            StartFailure::NotFound { .. } | StartFailure::NotExecutable { .. } => {
                world.failed(Failure::ListenerMissing, failure.to_string())
            }
            StartFailure::Sandbox { .. }
            | StartFailure::Path { .. }
            | StartFailure::Descriptors { .. }
            | StartFailure::Preparation { .. } => world.retry(failure.to_string(), None),
        };
    }
    // Told to stop while it had no job: however it went, that is what was wanted.
    if world.term.stopping() != Stopping::No {
        return done(JobEnd::None, None, None, Some(exit));
    }
    match end.ended.exit {
        Exit::Code(0) => done(JobEnd::None, None, None, Some(exit)),
        // A passing error, an update, a configuration that was moved: it wants to be launched again.
        Exit::Code(2 | 3 | 4 | 6) => world.retry(exit, None),
        Exit::Code(5) => world.failed(Failure::SessionConflict, exit),
        Exit::Code(7) => world.failed(Failure::VersionDeprecated, exit),
        Exit::Code(_) => world.failed(Failure::ListenerFailed, exit),
        // Killed by somebody, for want of memory most likely.
        Exit::Signal(_) => world.retry(exit, None),
    }
}

fn said(words: &str) -> String {
    if words.is_empty() {
        String::new()
    } else {
        format!("; its last words: {words}")
    }
}

fn unreadable(error: &io::Error) -> Outcome {
    let why = format!("its marks cannot be read: {error}");
    done(JobEnd::Lost, None, None, Some(why))
}

fn done(end: JobEnd, result: Option<JobResult>, job: Option<JobFacts>, listener: Option<String>) -> Outcome {
    Outcome::Done {
        fact: Fact::Job(JobReport {
            end,
            result,
            job,
            listener,
        }),
    }
}
