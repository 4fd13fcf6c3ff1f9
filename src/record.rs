//! Events as journal rows and back: the one way in and out of the journal, for a live run and a replay alike.

use std::fmt::Display;
use std::sync::Arc;

use runner_journal::{Entry, Finding as Found, Hash, Row};
use serde::{Deserialize, Serialize};
use strum::IntoEnumIterator;
use thiserror::Error;

use crate::ids::{LocalRepos, PlainHttp, RepoPolicy, SessionId};
use crate::machine::{
    Ack, AgentReport, Archived, Assignment, Checkout, CommandRun, EffectName, Event, Fact, Failure, Finding, Handover,
    IllegalTransition, Left, Millis, Note, Outcome, PullRequest, Run, StateName, TokenFacts, Trouble,
    UnreadableVerdict, Verdict, idempotency_key, transition,
};
use crate::task::{Task, TaskError};

/// The machine's name, which every journal of it carries and every hash covers.
pub const MACHINE: &str = "runner/task";

/// Tasks were held against the policy when they were fetched; a replay reads back what was taken.
const AS_TAKEN: RepoPolicy = RepoPolicy {
    plain_http: PlainHttp::Anywhere,
    local: LocalRepos::Allowed,
};

/// The machine as the journal's database knows it: its name and its edges.
pub fn machine() -> runner_journal::Machine {
    machine_of(MACHINE, StateName::Assigned, StateName::successors)
}

/// A machine by its name, the state that it begins in, and what may follow each of its states.
pub(crate) fn machine_of<S: IntoEnumIterator + Display + Copy + 'static>(
    name: &str,
    first: S,
    successors: impl Fn(S) -> &'static [S],
) -> runner_journal::Machine {
    let begins = (String::new(), first.to_string());
    let edges = S::iter().flat_map(|from| {
        successors(from)
            .iter()
            .map(move |to| (from.to_string(), to.to_string()))
    });
    runner_journal::Machine {
        name: name.to_owned(),
        edges: std::iter::once(begins).chain(edges).collect(),
    }
}

/// Why a journal's rows are not a history of this machine.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// A row that cannot have been written by this machine.
    #[error("row {seq}: {cause}")]
    Row {
        /// Which.
        seq: u64,
        /// What is wrong with it.
        #[source]
        cause: RowError,
    },
}

/// What is wrong with a row.
#[derive(Debug, Error)]
pub enum RowError {
    /// The body is not of the form that this kind of row has.
    #[error("its body cannot be read: {0}")]
    Body(#[from] serde_json::Error),
    /// A name that this machine does not have.
    #[error("it names {0:?}, which this machine does not know")]
    UnknownName(String),
    /// The machine refuses the event.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// The state that was entered is not the one that the events before lead to.
    #[error("it enters {written}, and the rows before lead to {}", replayed.map_or("no state", Into::into))]
    OtherState {
        /// What the row says.
        written: String,
        /// What the machine says.
        replayed: Option<StateName>,
    },
    /// An acknowledgement that no outcome speaks of.
    #[error("it acknowledges a verdict that no outcome says was taken")]
    UnfoundedAck,
    /// The task's data is not in the journal.
    #[error("the task data it refers to is missing")]
    MissingBlob,
    /// The task's data cannot be read back.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The verdict cannot be read back.
    #[error(transparent)]
    Verdict(#[from] UnreadableVerdict),
}

impl RowError {
    /// Whether a machine of a later program could take the row: it names what this one does not have.
    pub fn is_of_a_newer_machine(&self) -> bool {
        match self {
            Self::UnknownName(_) => true,
            Self::OtherState { written, .. } => written.parse::<StateName>().is_err(),
            // serde_json has no other way of telling.
            Self::Body(error) => error.is_data() && error.to_string().starts_with("unknown variant"),
            Self::Illegal(_) | Self::UnfoundedAck | Self::MissingBlob | Self::Task(_) | Self::Verdict(_) => false,
        }
    }
}

/// The rows that an event stands in, and the payloads beside them.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// In order, for one transaction.
    pub entries: Vec<Entry>,
    /// Payloads too large for a row, which refers to them by their SHA-256.
    pub blobs: Vec<Arc<[u8]>>,
}

#[derive(Serialize, Deserialize)]
struct BootBody {
    version: String,
}

#[derive(Serialize, Deserialize)]
struct IntentBody {
    session: SessionId,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum OutcomeBody {
    Done {
        fact: FactBody,
    },
    Retry {
        trouble: Trouble,
        cause: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after_ms: Option<Millis>,
        #[serde(flatten)]
        left: Left,
    },
    Failed {
        failure: Failure,
        cause: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentReport>,
    },
    GivenUp {
        failure: Failure,
        cause: String,
    },
    Missed {
        cause: String,
    },
    Superseded,
    Parked {
        #[serde(flatten)]
        left: Left,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
enum FactBody {
    Started { told: bool },
    Data { sha256: Hash, bytes: usize },
    Token(TokenFacts),
    Cloned(Checkout),
    SetUp(CommandRun),
    AgentEnded(AgentReport),
    Checked(CommandRun),
    HandedOver(Handover),
    Pushed,
    PullRequest(PullRequest),
    Reported { ack: Ack },
    Archived(Archived),
}

#[derive(Serialize, Deserialize)]
struct AckBody {
    ack: Ack,
}

/// Writes an event down. `before` and `after` are the histories around it: what follows from it (`enter`, `ack`) is written beside it.
pub fn write(before: &Run, event: &Event, after: &Run) -> Result<Written, serde_json::Error> {
    let mut blobs = Vec::new();
    let mut entries = Vec::new();
    match event {
        Event::Booted { .. } => entries.push(Entry::Boot {
            body: Some(json(&BootBody {
                version: crate::VERSION.to_owned(),
            })?),
        }),
        Event::Assigned { assignment, .. } => entries.push(Entry::Enter {
            src: String::new(),
            dst: StateName::Assigned.to_string(),
            body: Some(json(assignment)?),
        }),
        Event::Intended {
            effect,
            attempt,
            session,
            ..
        } => entries.push(Entry::Intent {
            effect: effect.to_string(),
            attempt: *attempt,
            key: idempotency_key(before, *effect),
            body: session.map(|session| json(&IntentBody { session })).transpose()?,
        }),
        Event::Probed {
            effect,
            attempt,
            finding,
            ..
        } => entries.push(Entry::Probe {
            effect: effect.to_string(),
            attempt: *attempt,
            finding: match finding {
                Finding::Done => Found::Done,
                Finding::NotDone(_) => Found::NotDone,
            },
            body: Some(json(finding)?),
        }),
        Event::Ended {
            effect,
            attempt,
            outcome,
            ..
        } => {
            if let Outcome::Done {
                fact: Fact::Data { task },
            } = outcome
            {
                blobs.push(Arc::clone(&task.raw));
            }
            entries.push(Entry::Outcome {
                effect: effect.to_string(),
                attempt: *attempt,
                finding: found(outcome),
                body: Some(json(&outcome_body(outcome))?),
            });
        }
        Event::Concluded { verdict, .. } => entries.push(Entry::Verdict {
            key: verdict.key.clone(),
            body: verdict.body.clone(),
        }),
        Event::Noted { note, .. } => entries.push(Entry::Note { body: json(note)? }),
    }
    if let (None, Some((ack, _))) = (&before.acknowledged, &after.acknowledged) {
        entries.push(Entry::Ack {
            body: Some(json(&AckBody { ack: *ack })?),
        });
    }
    if let (Some(src), Some(dst)) = (before.state_name(), after.state_name())
        && src != dst
    {
        entries.push(Entry::Enter {
            src: src.to_string(),
            dst: dst.to_string(),
            body: None,
        });
    }
    Ok(Written { entries, blobs })
}

fn json(body: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string(body)
}

fn found(outcome: &Outcome) -> Found {
    match outcome {
        Outcome::Done { .. } => Found::Done,
        Outcome::Retry { .. }
        | Outcome::Failed { .. }
        | Outcome::Missed { .. }
        | Outcome::Superseded
        | Outcome::Parked(_) => Found::NotDone,
        Outcome::GivenUp { .. } => Found::Unknown,
    }
}

fn outcome_body(outcome: &Outcome) -> OutcomeBody {
    match outcome {
        Outcome::Done { fact } => OutcomeBody::Done { fact: fact_body(fact) },
        Outcome::Retry {
            trouble,
            cause,
            after_ms,
            left,
        } => OutcomeBody::Retry {
            trouble: *trouble,
            cause: cause.clone(),
            after_ms: *after_ms,
            left: *left,
        },
        Outcome::Failed { failure, cause, agent } => OutcomeBody::Failed {
            failure: *failure,
            cause: cause.clone(),
            agent: agent.clone(),
        },
        Outcome::GivenUp { failure, cause } => OutcomeBody::GivenUp {
            failure: *failure,
            cause: cause.clone(),
        },
        Outcome::Missed { cause } => OutcomeBody::Missed { cause: cause.clone() },
        Outcome::Superseded => OutcomeBody::Superseded,
        Outcome::Parked(left) => OutcomeBody::Parked { left: *left },
    }
}

fn fact_body(fact: &Fact) -> FactBody {
    match fact {
        Fact::Started { told } => FactBody::Started { told: *told },
        Fact::Data { task } => FactBody::Data {
            sha256: Hash::of(&task.raw),
            bytes: task.raw.len(),
        },
        Fact::Token(token) => FactBody::Token(token.clone()),
        Fact::Cloned(checkout) => FactBody::Cloned(checkout.clone()),
        Fact::SetUp(setup) => FactBody::SetUp(setup.clone()),
        Fact::AgentEnded(report) => FactBody::AgentEnded(report.clone()),
        Fact::Checked(check) => FactBody::Checked(check.clone()),
        Fact::HandedOver(handover) => FactBody::HandedOver(handover.clone()),
        Fact::Pushed => FactBody::Pushed,
        Fact::PullRequest(pull_request) => FactBody::PullRequest(pull_request.clone()),
        Fact::Reported { ack } => FactBody::Reported { ack: *ack },
        Fact::Archived(archived) => FactBody::Archived(archived.clone()),
    }
}

/// Folds a journal's rows. `blob` finds a payload by its SHA-256.
pub fn replay<'a>(
    rows: impl IntoIterator<Item = &'a Row>,
    mut blob: impl FnMut(&Hash) -> Option<Vec<u8>>,
) -> Result<Run, ReplayError> {
    let mut run = Run::default();
    for row in rows {
        step(&mut run, row, &mut blob).map_err(|cause| ReplayError::Row { seq: row.seq, cause })?;
    }
    Ok(run)
}

/// Applies one row to a history, which stays as it was where the row is refused. Gives the event that the row stands for; one
/// that follows from the event before it stands for none.
pub fn step(
    run: &mut Run,
    row: &Row,
    blob: &mut dyn FnMut(&Hash) -> Option<Vec<u8>>,
) -> Result<Option<Event>, RowError> {
    let at = row.at_ms;
    let event = match &row.entry {
        Entry::Boot { .. } => Event::Booted { at },
        Entry::Enter { src, body, .. } if src.is_empty() => Event::Assigned {
            assignment: serde_json::from_str::<Assignment>(body.as_deref().unwrap_or_default())?,
            at,
        },
        Entry::Enter { dst, .. } => {
            let replayed = run.state_name();
            return if replayed.is_some_and(|s| s.to_string() == *dst) {
                Ok(None)
            } else {
                Err(RowError::OtherState {
                    written: dst.clone(),
                    replayed,
                })
            };
        }
        Entry::Ack { .. } => {
            return if run.acknowledged.is_some() {
                Ok(None)
            } else {
                Err(RowError::UnfoundedAck)
            };
        }
        Entry::Intent {
            effect, attempt, body, ..
        } => Event::Intended {
            effect: named(effect)?,
            attempt: *attempt,
            session: body
                .as_deref()
                .map(serde_json::from_str::<IntentBody>)
                .transpose()?
                .map(|intent| intent.session),
            at,
        },
        Entry::Probe {
            effect, attempt, body, ..
        } => Event::Probed {
            effect: named(effect)?,
            attempt: *attempt,
            finding: serde_json::from_str(body.as_deref().unwrap_or_default())?,
            at,
        },
        Entry::Outcome {
            effect, attempt, body, ..
        } => Event::Ended {
            effect: named(effect)?,
            attempt: *attempt,
            outcome: read_outcome(serde_json::from_str(body.as_deref().unwrap_or_default())?, blob)?,
            at,
        },
        Entry::Verdict { key, body } => Event::Concluded {
            verdict: Arc::new(Verdict::read(body, key)?),
            at,
        },
        Entry::Note { body } => Event::Noted {
            note: serde_json::from_str::<Note>(body)?,
            at,
        },
    };
    *run = transition(run, &event)?;
    Ok(Some(event))
}

/// The payload that a row's replay will ask for, where it does.
pub fn blob_of(entry: &Entry) -> Option<Hash> {
    let Entry::Outcome {
        effect,
        body: Some(body),
        ..
    } = entry
    else {
        return None;
    };
    // Bodies are read once: of the one effect that brings a payload, twice.
    if effect != <&str>::from(EffectName::Data) {
        return None;
    }
    match serde_json::from_str(body) {
        Ok(OutcomeBody::Done {
            fact: FactBody::Data { sha256, .. },
        }) => Some(sha256),
        Ok(_) | Err(_) => None,
    }
}

fn named(effect: &str) -> Result<EffectName, RowError> {
    effect.parse().map_err(|_| RowError::UnknownName(effect.to_owned()))
}

fn read_outcome(body: OutcomeBody, blob: &mut dyn FnMut(&Hash) -> Option<Vec<u8>>) -> Result<Outcome, RowError> {
    Ok(match body {
        OutcomeBody::Done { fact } => Outcome::Done {
            fact: read_fact(fact, blob)?,
        },
        OutcomeBody::Retry {
            trouble,
            cause,
            after_ms,
            left,
        } => Outcome::Retry {
            trouble,
            cause,
            after_ms,
            left,
        },
        OutcomeBody::Failed { failure, cause, agent } => Outcome::Failed { failure, cause, agent },
        OutcomeBody::GivenUp { failure, cause } => Outcome::GivenUp { failure, cause },
        OutcomeBody::Missed { cause } => Outcome::Missed { cause },
        OutcomeBody::Superseded => Outcome::Superseded,
        OutcomeBody::Parked { left } => Outcome::Parked(left),
    })
}

fn read_fact(body: FactBody, blob: &mut dyn FnMut(&Hash) -> Option<Vec<u8>>) -> Result<Fact, RowError> {
    Ok(match body {
        FactBody::Started { told } => Fact::Started { told },
        FactBody::Data { sha256, .. } => {
            let raw = blob(&sha256).ok_or(RowError::MissingBlob)?;
            Fact::Data {
                task: Arc::new(Task::parse(&raw, AS_TAKEN)?),
            }
        }
        FactBody::Token(token) => Fact::Token(token),
        FactBody::Cloned(checkout) => Fact::Cloned(checkout),
        FactBody::SetUp(setup) => Fact::SetUp(setup),
        FactBody::AgentEnded(report) => Fact::AgentEnded(report),
        FactBody::Checked(check) => Fact::Checked(check),
        FactBody::HandedOver(handover) => Fact::HandedOver(handover),
        FactBody::Pushed => Fact::Pushed,
        FactBody::PullRequest(pull_request) => Fact::PullRequest(pull_request),
        FactBody::Reported { ack } => Fact::Reported { ack },
        FactBody::Archived(archived) => Fact::Archived(archived),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_does_not_follow_is_named_for_a_person() {
        let refused = |replayed| RowError::OtherState {
            written: "Cloned".to_owned(),
            replayed,
        };
        let said = refused(Some(StateName::TokenIssued)).to_string();
        assert_eq!(said, "it enters Cloned, and the rows before lead to TokenIssued");
        let said = refused(None).to_string();
        assert_eq!(said, "it enters Cloned, and the rows before lead to no state");
    }
}
