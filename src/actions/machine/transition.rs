//! What an event makes of a history: total, pure, and the only place where anything moves.

use thiserror::Error;

use super::effect::{EffectName, runner_name};
use super::event::{Config, Event, Fact, Failure, Finding, JobEnd, JobReport, Note, Outcome};
use super::state::{Attempt, Registration, Run, State};
use super::verdict::Ending;
use crate::machine::Millis;

/// So many names may be another runner's before it is given up.
const NAMES: u32 = 3;
/// The listener is launched so often in a row before it is given up.
const LAUNCHES: u32 = 5;

/// An event that cannot have happened here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{event} is illegal in state {}: {refusal}", state.map_or("none", Into::into))]
pub struct IllegalTransition {
    /// The state it came in.
    pub state: Option<State>,
    /// The event's name.
    pub event: &'static str,
    /// Why.
    pub refusal: Refusal,
}

/// Why an event is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Nothing is assigned yet.
    #[error("nothing is assigned yet")]
    NotAssigned,
    /// There is one runner for the life of a journal.
    #[error("a runner is assigned already")]
    AlreadyAssigned,
    /// The effect does not belong here.
    #[error("{0} cannot be intended here")]
    NotAnEffectOfState(EffectName),
    /// At most one intent is open.
    #[error("an intent for {0} is open")]
    IntentOpen(EffectName),
    /// A probe and an outcome need the intent they speak of.
    #[error("no such intent for {0} is open")]
    NoSuchIntent(EffectName),
    /// Attempts are counted without a gap.
    #[error("attempt {got} of {effect} comes where {expected} would")]
    WrongAttempt {
        /// Of which effect.
        effect: EffectName,
        /// What came.
        got: u32,
        /// What would have been right.
        expected: u32,
    },
    /// The outcome is not one that the effect has.
    #[error("the outcome does not belong to {0}")]
    WrongOutcome(EffectName),
    /// There is a verdict.
    #[error("there is a verdict already")]
    Concluded,
    /// The verdict waits for the removal.
    #[error("something is still registered, or may be")]
    StillRegistered,
}

/// What an event makes of a history.
pub fn transition(run: &Run, event: &Event) -> Result<Run, IllegalTransition> {
    let mut next = run.clone();
    apply(&mut next, event).map_err(|refusal| IllegalTransition {
        state: run.state,
        event: event.into(),
        refusal,
    })?;
    Ok(next)
}

fn apply(run: &mut Run, event: &Event) -> Result<(), Refusal> {
    match event {
        Event::Booted { at } => {
            run.boot.number += 1;
            run.boot.at = *at;
            // What an earlier start waited for in vain is no reason to wait now.
            for tally in run.tallies.values_mut() {
                tally.misses = 0;
                tally.since = None;
                tally.retry_after_ms = None;
            }
        }
        Event::Assigned { assignment, at } => {
            if run.state.is_some() {
                return Err(Refusal::AlreadyAssigned);
            }
            run.assignment = Some(assignment.clone());
            run.assigned_at = *at;
            enter(run, State::Assigned, *at);
        }
        Event::Intended { effect, attempt, at } => intend(run, *effect, *attempt, *at)?,
        Event::Probed {
            effect,
            attempt,
            finding,
            at,
        } => {
            is_open(run, *effect, *attempt)?;
            match finding {
                // Its outcome comes in the same transaction.
                Finding::Done => {}
                Finding::NotDone => not_done(run, *effect, *attempt, *at),
            }
        }
        Event::Ended {
            effect,
            attempt,
            outcome,
            at,
        } => {
            is_open(run, *effect, *attempt)?;
            end(run, *effect, outcome, *at)?;
        }
        Event::Concluded { verdict, at } => {
            unconcluded(run)?;
            if let Some(open) = run.open {
                return Err(Refusal::IntentOpen(open.effect));
            }
            if run.may_be_registered() {
                return Err(Refusal::StillRegistered);
            }
            run.verdict = Some((verdict.clone(), run.boot.number));
            enter(run, State::Deregistered, *at);
        }
        Event::Noted { note, at } => match note {
            Note::AnswerLost { effect, after_ms, .. } => miss(run, *effect, *after_ms, *at),
            Note::Left { .. } => {}
        },
    }
    Ok(())
}

fn unconcluded(run: &Run) -> Result<State, Refusal> {
    if run.verdict.is_some() {
        return Err(Refusal::Concluded);
    }
    run.state.ok_or(Refusal::NotAssigned)
}

fn intend(run: &mut Run, effect: EffectName, attempt: u32, at: Millis) -> Result<(), Refusal> {
    let state = unconcluded(run)?;
    if let Some(open) = run.open {
        return Err(Refusal::IntentOpen(open.effect));
    }
    let fits = match effect {
        EffectName::Register => run.registration.is_none() && run.ending.is_none(),
        EffectName::Job => run.usable().is_some() && run.ending.is_none(),
        EffectName::Remove => run.may_be_registered(),
    };
    if !fits || !state.effects().contains(&effect) {
        return Err(Refusal::NotAnEffectOfState(effect));
    }
    let tally = run.tallies.entry(effect).or_default();
    let expected = tally.attempts + 1;
    if attempt != expected {
        return Err(Refusal::WrongAttempt {
            effect,
            got: attempt,
            expected,
        });
    }
    tally.attempts = attempt;
    // How long a job runs is nobody's wait: there it begins with what is missed afterwards.
    tally.since = (effect != EffectName::Job).then(|| tally.since.unwrap_or(at));
    tally.last_at = at;
    run.open = Some(Attempt {
        effect,
        number: attempt,
        at,
    });
    Ok(())
}

fn is_open(run: &Run, effect: EffectName, attempt: u32) -> Result<(), Refusal> {
    unconcluded(run)?;
    let open = run.open.filter(|open| open.effect == effect && open.number == attempt);
    open.map(drop).ok_or(Refusal::NoSuchIntent(effect))
}

/// Nothing came of the open intent, as far as can be seen.
fn not_done(run: &mut Run, effect: EffectName, attempt: u32, at: Millis) {
    heard(run, effect, at);
    if effect == EffectName::Register
        && let Some(assignment) = &run.assignment
    {
        // A request that nobody answered may be carried out late.
        run.suspects.push(runner_name(assignment, attempt));
    }
}

fn end(run: &mut Run, effect: EffectName, outcome: &Outcome, at: Millis) -> Result<(), Refusal> {
    let wrong = Err(Refusal::WrongOutcome(effect));
    match (effect, outcome) {
        (
            EffectName::Register,
            Outcome::Done {
                fact: Fact::Registered { id, name, config },
            },
        ) => {
            match config {
                Config::AtHand => hit(run, effect, at),
                // Of no use without its configuration: nothing is gained yet, and the patience goes on.
                Config::Lost => heard(run, effect, at),
            }
            run.registration = Some(Registration {
                id: *id,
                name: name.clone(),
                config: *config,
                boot: run.boot.number,
            });
            if run.state == Some(State::Assigned) {
                enter(run, State::Registered, at);
            }
        }
        (
            EffectName::Job,
            Outcome::Done {
                fact: Fact::Job(report),
            },
        ) => {
            hit(run, effect, at);
            run.ending = Some(ending(report));
            run.job = Some(report.clone());
            enter(run, State::JobRan, at);
        }
        (
            EffectName::Remove,
            Outcome::Done {
                fact: Fact::Removed { names },
            },
        ) => {
            hit(run, effect, at);
            run.registration = None;
            run.suspects.retain(|name| !names.contains(name));
        }
        (EffectName::Register, Outcome::Taken { cause }) => {
            hit(run, effect, at);
            run.taken += 1;
            if run.taken >= NAMES {
                run.ending = Some(failed(Failure::NameTaken, cause));
            }
        }
        (_, Outcome::Retry { cause, after_ms }) => {
            run.open = None;
            miss(run, effect, *after_ms, at);
            if effect == EffectName::Job && run.tally(effect).misses >= LAUNCHES {
                run.ending = Some(failed(Failure::ListenerFailed, cause));
            }
        }
        (EffectName::Register | EffectName::Job, Outcome::Failed { failure, cause }) => {
            hit(run, effect, at);
            run.ending = Some(failed(*failure, cause));
        }
        // A removal is tried until it is done: there is no end without it.
        (EffectName::Remove, Outcome::Failed { .. } | Outcome::Taken { .. }) => return wrong,
        (EffectName::Job, Outcome::Taken { .. }) => return wrong,
        (_, Outcome::Done { .. }) => return wrong,
    }
    Ok(())
}

fn failed(failure: Failure, cause: &str) -> Ending {
    Ending::Failed {
        failure,
        cause: cause.to_owned(),
    }
}

/// What the end of the job makes of the runner.
fn ending(report: &JobReport) -> Ending {
    match report.end {
        JobEnd::Ran => Ending::Ran,
        JobEnd::None => Ending::Idle,
        JobEnd::Lost => failed(Failure::JobLost, report.listener.as_deref().unwrap_or_default()),
    }
}

/// The open intent is over, whatever came of it.
fn heard(run: &mut Run, effect: EffectName, at: Millis) {
    run.open = None;
    run.tallies.entry(effect).or_default().last_at = at;
}

fn hit(run: &mut Run, effect: EffectName, at: Millis) {
    heard(run, effect, at);
    let tally = run.tallies.entry(effect).or_default();
    tally.misses = 0;
    tally.since = None;
    tally.retry_after_ms = None;
}

fn miss(run: &mut Run, effect: EffectName, after_ms: Option<Millis>, at: Millis) {
    let tally = run.tallies.entry(effect).or_default();
    tally.misses += 1;
    // A start that found the intent open has not tried before.
    tally.since.get_or_insert(at);
    tally.retry_after_ms = after_ms;
    tally.last_at = at;
}

fn enter(run: &mut Run, state: State, at: Millis) {
    run.state = Some(state);
    run.since = at;
}
