//! What a row's body says, as far as a chronicle needs it.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{BootEnd, End};
use crate::adapters::agent::MicroUsd;
use crate::machine::{AgentReport, CommandRun, Effort, Handover, PullRequest};
use crate::text::{count, cut};

/// How long the words are at most, in bytes.
const WORDS: usize = 240;

/// What a row's body says. A body that is of another form says nothing.
#[derive(Default)]
pub(super) struct Said {
    pub(super) end: Option<End>,
    pub(super) words: Option<String>,
    pub(super) report: Option<Box<AgentReport>>,
    pub(super) left: Option<BootEnd>,
}

impl Said {
    pub(super) fn of(body: &str) -> Self {
        let Ok(body) = serde_json::from_str::<Value>(body) else {
            return Self::default();
        };
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let fact = body.get("fact").filter(|fact| fact.is_object());
        let words = match (text("failure"), text("cause")) {
            (Some(failure), Some(cause)) => Some(format!("{failure}: {cause}")),
            (failure, cause) => failure.or(cause).map(str::to_owned),
        };
        Self {
            end: text("outcome").and_then(end),
            words: words.or_else(|| fact.and_then(of_fact)).map(|words| cut(&words, WORDS)),
            report: report(&body, fact),
            left: match text("note") {
                Some("parked") => Some(BootEnd::Parked),
                Some("undelivered") => Some(BootEnd::Undelivered),
                Some("left") => Some(BootEnd::Left),
                _ => None,
            },
        }
    }
}

fn end(outcome: &str) -> Option<End> {
    Some(match outcome {
        "done" => End::Done,
        "retry" => End::Retry,
        "failed" => End::Failed,
        "given_up" => End::GivenUp,
        "missed" => End::Missed,
        "superseded" => End::Superseded,
        "parked" => End::Parked,
        _ => return None,
    })
}

fn of_fact(fact: &Value) -> Option<String> {
    match fact.get("fact")?.as_str()? {
        "checked" | "set_up" => {
            let run: CommandRun = read(fact)?;
            Some(if run.passed() {
                "passed".to_owned()
            } else {
                format!("red: {}", run.end)
            })
        }
        "agent_ended" => effort(&read::<AgentReport>(fact)?.effort),
        "handed_over" => {
            let taken: Handover = read(fact)?;
            Some(match taken.head {
                Some(_) => format!("{}, {}", count(taken.commits, "commit"), count(taken.files, "file")),
                None => "nothing was changed".to_owned(),
            })
        }
        "pull_request" => Some(read::<PullRequest>(fact)?.url),
        _ => None,
    }
}

/// Turns and cost in a few words.
fn effort(effort: &Effort) -> Option<String> {
    let turns = effort.turns.map(|turns| {
        let turns = u32::try_from(turns).unwrap_or(u32::MAX);
        count(turns, "turn")
    });
    let cost = effort
        .cost_micro_usd
        .map(|cost| format!("${}", MicroUsd::from_micros(cost)));
    let known: Vec<String> = turns.into_iter().chain(cost).collect();
    (!known.is_empty()).then(|| known.join(", "))
}

/// What an agent said, or what a start of it that came to no end has taken.
fn report(body: &Value, fact: Option<&Value>) -> Option<Box<AgentReport>> {
    let said = match (fact, body.get("agent")) {
        (Some(fact), _) => Some(fact).filter(|fact| fact["fact"] == "agent_ended")?,
        (None, Some(agent)) if agent.is_object() => agent,
        (None, _) => body,
    };
    said.get("ran_ms")?;
    read(said).map(Box::new)
}

fn read<T: DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}
