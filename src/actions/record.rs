//! The second machine's events as journal rows and back, as [`crate::record`] has the first one's.

use runner_journal::{Entry, Finding as Found, Row};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::crash::ActionsCrash;
use super::machine::{
    Assignment, EffectName, Event, Finding, IllegalTransition, Note, Outcome, Run, State, UnreadableVerdict, Verdict,
    key, runner_name, transition,
};
use crate::crash::{self, Side, Write};
use crate::ledger::Machine;
use crate::record::{Written, machine_of};

/// The machine's name, which every journal of it carries and every hash covers.
pub const MACHINE: &str = "runner/actions";

/// The machine as the ledger has to know it.
pub struct ActionsMachine;

/// The machine as the journal's database knows it: its name and its edges.
pub fn machine() -> runner_journal::Machine {
    machine_of(MACHINE, State::Assigned, State::successors)
}

/// Why a row is not one of this machine's.
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
        replayed: Option<State>,
    },
    /// This machine tells its verdict to nobody.
    #[error("it is an acknowledgement, and nobody is told of this machine's verdict")]
    Ack,
    /// The verdict cannot be read back.
    #[error(transparent)]
    Verdict(#[from] UnreadableVerdict),
}

/// Why a journal's rows are not a history of this machine.
#[derive(Debug, Error)]
#[error("row {seq}: {cause}")]
pub struct ReplayError {
    /// Which row.
    pub seq: u64,
    /// What is wrong with it.
    #[source]
    pub cause: RowError,
}

#[derive(Serialize, Deserialize)]
struct BootBody {
    version: String,
}

#[derive(Serialize)]
struct RegisterBody {
    name: String,
}

impl Machine for ActionsMachine {
    type Run = Run;
    type Event = Event;
    type Illegal = IllegalTransition;

    fn transition(run: &Run, event: &Event) -> Result<Run, IllegalTransition> {
        transition(run, event)
    }

    fn write(before: &Run, event: &Event, after: &Run) -> Result<Written, serde_json::Error> {
        let mut entries = vec![entry(before, event)?];
        if let (Some(src), Some(dst)) = (before.state, after.state)
            && src != dst
        {
            entries.push(Entry::Enter {
                src: src.to_string(),
                dst: dst.to_string(),
                body: None,
            });
        }
        Ok(Written {
            entries,
            blobs: Vec::new(),
        })
    }

    fn crash_around(event: &Event, side: Side) {
        match event {
            Event::Booted { .. } => crash::at(ActionsCrash::Write(side, Write::Boot)),
            Event::Assigned { .. } => crash::at(ActionsCrash::Write(side, Write::Assigned)),
            Event::Concluded { .. } => crash::at(ActionsCrash::Write(side, Write::Verdict)),
            Event::Intended { effect, .. } => crash::at(ActionsCrash::Intent(side, *effect)),
            Event::Ended { effect, .. } => crash::at(ActionsCrash::Outcome(side, *effect)),
            Event::Probed { .. } | Event::Noted { .. } => {}
        }
    }
}

fn entry(before: &Run, event: &Event) -> Result<Entry, serde_json::Error> {
    Ok(match event {
        Event::Booted { .. } => Entry::Boot {
            body: Some(json(&BootBody {
                version: crate::VERSION.to_owned(),
            })?),
        },
        Event::Assigned { assignment, .. } => Entry::Enter {
            src: String::new(),
            dst: State::Assigned.to_string(),
            body: Some(json(assignment)?),
        },
        Event::Intended { effect, attempt, .. } => Entry::Intent {
            effect: effect.to_string(),
            attempt: *attempt,
            key: key(before, effect.into(), *attempt),
            body: intended(before, *effect, *attempt)?,
        },
        Event::Probed {
            effect,
            attempt,
            finding,
            ..
        } => Entry::Probe {
            effect: effect.to_string(),
            attempt: *attempt,
            finding: match finding {
                Finding::Done => Found::Done,
                Finding::NotDone => Found::NotDone,
            },
            body: None,
        },
        Event::Ended {
            effect,
            attempt,
            outcome,
            ..
        } => Entry::Outcome {
            effect: effect.to_string(),
            attempt: *attempt,
            finding: match outcome {
                Outcome::Done { .. } => Found::Done,
                Outcome::Taken { .. } | Outcome::Retry { .. } | Outcome::Failed { .. } => Found::NotDone,
            },
            body: Some(json(outcome)?),
        },
        Event::Concluded { verdict, .. } => Entry::Verdict {
            key: key(before, "verdict", 1),
            body: verdict.body.clone(),
        },
        Event::Noted { note, .. } => Entry::Note { body: json(note)? },
    })
}

/// For a person: a replay derives the name again.
fn intended(run: &Run, effect: EffectName, attempt: u32) -> Result<Option<String>, serde_json::Error> {
    match (effect, &run.assignment) {
        (EffectName::Register, Some(assignment)) => json(&RegisterBody {
            name: runner_name(assignment, attempt),
        })
        .map(Some),
        (EffectName::Register | EffectName::Job | EffectName::Remove, _) => Ok(None),
    }
}

fn json(body: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string(body)
}

/// Folds a journal's rows.
pub fn replay<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Result<Run, ReplayError> {
    let mut run = Run::default();
    for row in rows {
        step(&mut run, row).map_err(|cause| ReplayError { seq: row.seq, cause })?;
    }
    Ok(run)
}

/// Applies one row to a history, which stays as it was where the row is refused.
pub fn step(run: &mut Run, row: &Row) -> Result<(), RowError> {
    let at = row.at_ms;
    let event = match &row.entry {
        Entry::Boot { .. } => Event::Booted { at },
        Entry::Enter { src, body, .. } if src.is_empty() => Event::Assigned {
            assignment: serde_json::from_str::<Assignment>(text(body.as_ref()))?,
            at,
        },
        Entry::Enter { dst, .. } => {
            return if run.state.is_some_and(|state| state.to_string() == *dst) {
                Ok(())
            } else {
                Err(RowError::OtherState {
                    written: dst.clone(),
                    replayed: run.state,
                })
            };
        }
        Entry::Ack { .. } => return Err(RowError::Ack),
        Entry::Intent { effect, attempt, .. } => Event::Intended {
            effect: named(effect)?,
            attempt: *attempt,
            at,
        },
        Entry::Probe {
            effect,
            attempt,
            finding,
            ..
        } => Event::Probed {
            effect: named(effect)?,
            attempt: *attempt,
            finding: match finding {
                Found::Done => Finding::Done,
                Found::NotDone => Finding::NotDone,
                Found::Unknown => return Err(RowError::UnknownName(finding.to_string())),
            },
            at,
        },
        Entry::Outcome {
            effect, attempt, body, ..
        } => Event::Ended {
            effect: named(effect)?,
            attempt: *attempt,
            outcome: serde_json::from_str::<Outcome>(text(body.as_ref()))?,
            at,
        },
        Entry::Verdict { body, .. } => Event::Concluded {
            verdict: Verdict::read(body)?,
            at,
        },
        Entry::Note { body } => Event::Noted {
            note: serde_json::from_str::<Note>(body)?,
            at,
        },
    };
    *run = transition(run, &event)?;
    Ok(())
}

fn text(body: Option<&String>) -> &str {
    body.map_or("", String::as_str)
}

fn named(effect: &str) -> Result<EffectName, RowError> {
    effect.parse().map_err(|_| RowError::UnknownName(effect.to_owned()))
}
