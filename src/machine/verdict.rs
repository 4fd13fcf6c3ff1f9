//! The one verdict: what is said of a task at its end, frozen before it is first sent.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use strum::{Display, EnumIter, EnumString, IntoStaticStr};

use super::effect::EffectName;
use super::failure::Failure;
use super::state::{AgentReport, Run, State, Work};
use crate::text::cut;

/// The three ways a task ends.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumIter, EnumString, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum VerdictKind {
    /// It was done.
    Completed,
    /// It was not.
    Failed,
    /// It was ended elsewhere; nothing is sent.
    Superseded,
}

/// What a task has to end with.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// Done: with a pull request, a branch or without changes, as the state says.
    Completed(Checking),
    /// Failed.
    Failed {
        /// Why.
        failure: Failure,
        /// What exactly happened, for a person.
        cause: String,
        /// What the agent said before it failed, where it was the agent.
        agent: Option<AgentReport>,
    },
    /// Ended elsewhere.
    Superseded,
}

/// Whether a change is put to a check (`RUNNER_CHECK_COMMAND`). Where one is wanted and the history has none, there was no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checking {
    /// It is.
    Wanted,
    /// There is no check.
    NotWanted,
}

/// The verdict as it is journaled and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which.
    pub kind: VerdictKind,
    /// Why, where it failed.
    pub reason: Option<Failure>,
    /// One sentence for a person.
    pub message: String,
    /// The bytes of `POST /status`: `{event, message, details}`. Never composed again.
    pub body: String,
    /// The idempotency key that they are sent under.
    pub key: String,
}

/// Why a journaled verdict cannot be read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the verdict in the journal is not one of this runner's: {0}")]
pub struct UnreadableVerdict(String);

/// `{taskID}/{effect}/{n}` (contract, section 2): the same on every retry of what is done once.
pub fn idempotency_key(run: &Run, effect: EffectName) -> String {
    let task = run.assignment.as_ref().map_or("", |a| a.task_id.as_str());
    format!("{task}/{effect}/1")
}

impl Verdict {
    /// Composes the verdict of a run. `journal_head` is the hash of the last row before the verdict's.
    pub fn compose(run: &Run, ending: &Ending, journal_head: &str) -> Self {
        let (kind, reason, message) = match ending {
            Ending::Completed(checking) => (VerdictKind::Completed, None, completed_message(run, *checking)),
            Ending::Failed { failure, cause, .. } => {
                let cause = cut(cause, 4096);
                (
                    VerdictKind::Failed,
                    Some(*failure),
                    format!("{} {cause}{}", failure.sentence(), saved(run)),
                )
            }
            Ending::Superseded => (
                VerdictKind::Superseded,
                None,
                "The task was ended elsewhere; nothing is sent.".to_owned(),
            ),
        };
        let details = details(run, ending, &message, journal_head);
        let body = json!({"event": kind, "message": message, "details": details}).to_string();
        Self {
            kind,
            reason,
            message,
            body,
            key: idempotency_key(run, EffectName::Report),
        }
    }

    /// Reads back what [`Verdict::compose`] wrote.
    pub fn read(body: &str, key: &str) -> Result<Self, UnreadableVerdict> {
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
            key: key.to_owned(),
        })
    }
}

fn completed_message(run: &Run, checking: Checking) -> String {
    match &run.state {
        Some(State::PrOpened { work, pull_request }) => match unproven(work, checking) {
            Some(why) => format!("Opened {} as a draft: {why}.", pull_request.url),
            None => format!("Opened {}", pull_request.url),
        },
        Some(State::Pushed(work)) => match unproven(work, checking) {
            Some(why) => format!("Pushed {}: {why}.", work.checkout.branch),
            None => format!("Pushed {}", work.checkout.branch),
        },
        _ => "The agent changed nothing, which counts as done here.".to_owned(),
    }
}

/// Why nobody knows that a change is good, where there is a check.
fn unproven(work: &Work, checking: Checking) -> Option<String> {
    let Some(check) = &work.check else {
        let unchecked = "the change is not checked (there was no time for it)".to_owned();
        return (checking == Checking::Wanted).then_some(unchecked);
    };
    if check.passed() {
        return None;
    }
    let what = if check.was_run() {
        "the check is red"
    } else {
        "the change is not checked"
    };
    Some(format!("{what} ({})", check.end))
}

/// Where the work is that an agent had done when it was cut short.
fn saved(run: &Run) -> String {
    match &run.state {
        Some(state) if state.cut().is_none() => String::new(),
        Some(State::PrOpened { pull_request, .. }) => {
            format!(" What it had done is in the draft {}.", pull_request.url)
        }
        Some(State::Pushed(work)) => format!(" What it had done is on the branch {}.", work.checkout.branch),
        Some(_) | None => String::new(),
    }
}

/// The contract's section 2, under `completed`.
fn details(run: &Run, ending: &Ending, message: &str, journal_head: &str) -> Value {
    let state = run.state.as_ref();
    let mut details = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            details.insert(name.to_owned(), value);
        }
    };
    if let Some(State::PrOpened { pull_request, .. }) = state {
        put("prURL", json!(pull_request.url));
        put("pr_url", json!(pull_request.url));
    }
    if let Ending::Failed { failure, .. } = ending {
        put("error", json!(message));
        put("reason", json!(failure));
    }
    put("outcome", json!(outcome(run, ending)));
    put("state", json!(run.state_name()));
    put("attempts", json!(run.tally(EffectName::Agent).attempts));
    put("boots", json!(run.boot.number));
    put("journalHead", json!(journal_head));
    let said = match ending {
        Ending::Failed { agent: Some(agent), .. } => Some(agent),
        Ending::Completed(_) | Ending::Failed { agent: None, .. } | Ending::Superseded => state.and_then(State::agent),
    };
    // What attempts that came to nothing have taken is told, too.
    let effort = run.tally(EffectName::Agent).effort;
    put("costUSD", effort.cost_micro_usd.map_or(Value::Null, usd));
    put("turns", json!(effort.turns));
    put("inputTokens", json!(effort.input_tokens));
    put("outputTokens", json!(effort.output_tokens));
    let session = said.and_then(|agent| agent.session_id.clone());
    put(
        "sessionID",
        json!(session.or_else(|| run.session.map(|id| id.to_string()))),
    );
    if let Some((branch, commit)) = state.and_then(State::pushed) {
        put("commit", json!(commit));
        put("branch", json!(branch));
    }
    Value::Object(details)
}

fn outcome(run: &Run, ending: &Ending) -> &'static str {
    match (&run.state, ending) {
        (Some(state @ (State::Pushed(_) | State::PrOpened { .. })), _) if state.cut().is_some() => "salvaged",
        (Some(State::PrOpened { .. }), _) => "pull_request",
        (Some(State::Pushed(_)), _) => "branch",
        (
            _,
            Ending::Completed(_)
            | Ending::Failed {
                failure: Failure::NoChanges,
                ..
            },
        ) => "no_changes",
        (_, Ending::Failed { .. } | Ending::Superseded) => "none",
    }
}

/// Millionths of a dollar as a JSON number of dollars.
fn usd(micro: u64) -> Value {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a cost beyond 2^53 millionths of a dollar is not a cost"
    )]
    let dollars = micro as f64 / 1e6;
    json!(dollars)
}
