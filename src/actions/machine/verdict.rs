//! The one verdict: what a runner's journal ends with, when nothing of it is registered any more.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use strum::{Display, IntoStaticStr};

use super::effect::EffectName;
use super::event::{Failure, JobFacts, JobResult};
use super::state::Run;
use crate::text::cut;

/// What a runner has to end with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// A job was run, whatever its result.
    Ran,
    /// There was no job: the runner was told to stop, or GitHub had none for it.
    Idle,
    /// It failed.
    Failed {
        /// Why.
        failure: Failure,
        /// What exactly happened, for a person.
        cause: String,
    },
}

/// The two ways in which a runner ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum VerdictKind {
    /// It did what it was for.
    Completed,
    /// It did not.
    Failed,
}

/// The verdict as it is journaled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which.
    pub kind: VerdictKind,
    /// Why, where it failed.
    pub reason: Option<Failure>,
    /// One sentence for a person.
    pub message: String,
    /// The row's body: `{event, message, details}`, as a task's verdict has it.
    pub body: String,
}

/// Why a journaled verdict cannot be read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the verdict in the journal is not one of an Actions runner's: {0}")]
pub struct UnreadableVerdict(String);

/// The idempotency key of an attempt: each registration and each launch is its own.
pub fn key(run: &Run, effect: &str, attempt: u32) -> String {
    let id = run.assignment.as_ref().map_or("", |assignment| assignment.id.as_str());
    format!("{id}/{effect}/{attempt}")
}

impl Verdict {
    /// Composes the verdict of a run. `journal_head` is the hash of the last row before the verdict's.
    pub fn compose(run: &Run, ending: &Ending, journal_head: &str) -> Self {
        let result = run.job.as_ref().and_then(|report| report.result);
        let job = run.job.as_ref().and_then(|report| report.job.as_ref());
        let (kind, reason, outcome, message) = match ending {
            Ending::Ran => (VerdictKind::Completed, None, "job", ran(job, result)),
            Ending::Idle => (
                VerdictKind::Completed,
                None,
                "idle",
                "No job was run, and nothing is registered any more.".to_owned(),
            ),
            Ending::Failed { failure, cause } => {
                let message = format!("{} {}", failure.sentence(), cut(cause, 2048));
                (
                    VerdictKind::Failed,
                    Some(*failure),
                    "none",
                    message.trim_end().to_owned(),
                )
            }
        };
        let mut details = Map::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                details.insert(name.to_owned(), value);
            }
        };
        put("outcome", json!(outcome));
        put("reason", json!(reason));
        put("result", json!(result));
        put("job", json!(job));
        put("registrations", json!(run.tally(EffectName::Register).attempts));
        put("launches", json!(run.tally(EffectName::Job).attempts));
        put("boots", json!(run.boot.number));
        put("journalHead", json!(journal_head));
        let body = json!({"event": kind, "message": message, "details": details}).to_string();
        Self {
            kind,
            reason,
            message,
            body,
        }
    }

    /// Reads back what [`Verdict::compose`] wrote.
    pub fn read(body: &str) -> Result<Self, UnreadableVerdict> {
        #[derive(Deserialize)]
        struct Details {
            reason: Option<Failure>,
        }
        #[derive(Deserialize)]
        struct Body {
            event: VerdictKind,
            message: String,
            details: Details,
        }
        let read: Body = serde_json::from_str(body).map_err(|e| UnreadableVerdict(e.to_string()))?;
        Ok(Self {
            kind: read.event,
            reason: read.details.reason,
            message: read.message,
            body: body.to_owned(),
        })
    }
}

fn ran(job: Option<&JobFacts>, result: Option<JobResult>) -> String {
    let what = match job {
        Some(facts) => format!("Job {} of {} (run {})", facts.job, facts.repository, facts.run_id),
        None => "A job".to_owned(),
    };
    match result {
        Some(result) => format!("{what} was run: {result}."),
        None => format!("{what} was run to its end; whether GitHub was told is not known."),
    }
}
