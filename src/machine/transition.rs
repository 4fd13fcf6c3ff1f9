//! What an event makes of a history: total, pure, and the only place where anything moves.

use std::sync::Arc;

use thiserror::Error;

use super::effect::EffectName;
use super::event::{Ack, Event, Fact, Finding, Note, Outcome, Trouble};
use super::state::{Attempt, Boot, Millis, Run, State, StateName, Tally, Work};
use super::verdict::{Ending, VerdictKind};
use crate::ids::RepoUrl;

/// An event that cannot have happened here. A journal that holds one is damaged, or another program's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{event} is illegal in state {}: {refusal}", state.map_or("none", <&'static str>::from))]
pub struct IllegalTransition {
    /// The state it came in.
    pub state: Option<StateName>,
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
    /// There is one task for the life of a journal.
    #[error("a task is assigned already")]
    AlreadyAssigned,
    /// The effect does not belong to the state.
    #[error("{0} is not an effect of this state")]
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
    /// The fact is not what the effect brings.
    #[error("the outcome does not belong to {0}")]
    WrongFact(EffectName),
    /// The task's end is known: there is nothing to do but to report it.
    #[error("the task's end is known already")]
    EndKnown,
    /// There is one verdict.
    #[error("there is a verdict already")]
    SecondVerdict,
    /// A verdict that the history does not support.
    #[error("a {0} verdict does not follow from this history")]
    UnfoundedVerdict(VerdictKind),
    /// The report needs a verdict.
    #[error("there is no verdict to report")]
    NoVerdict,
    /// Everything is over.
    #[error("the verdict is acknowledged")]
    Over,
    /// The edge is not in [`StateName::successors`].
    #[error("{to} does not follow this state")]
    NoSuchEdge {
        /// Where it would have led.
        to: StateName,
    },
}

/// Applies an event to a history.
///
/// Total over every pair of history and event: what is not legal is refused by name and changes nothing.
pub fn transition(run: &Run, event: &Event) -> Result<Run, IllegalTransition> {
    let refuse = |refusal| IllegalTransition {
        state: run.state_name(),
        event: event.into(),
        refusal,
    };
    let mut next = run.clone();
    match event {
        Event::Booted { at } => boot(&mut next, *at),
        Event::Assigned { assignment, at } => {
            if run.assignment.is_some() {
                return Err(refuse(Refusal::AlreadyAssigned));
            }
            next.assignment = Some(assignment.clone());
            enter(&mut next, State::Assigned, *at).map_err(refuse)?;
        }
        Event::Intended { effect, attempt, at } => intend(&mut next, *effect, *attempt, *at).map_err(refuse)?,
        Event::Probed {
            effect,
            attempt,
            finding,
            at,
        } => probe(&mut next, *effect, *attempt, *finding, *at).map_err(refuse)?,
        Event::Ended {
            effect,
            attempt,
            outcome,
            at,
        } => end(&mut next, *effect, *attempt, outcome, *at).map_err(refuse)?,
        Event::Concluded { verdict, at } => {
            may_conclude(run, verdict.kind).map_err(refuse)?;
            next.verdict = Some(Arc::clone(verdict));
            if verdict.kind == VerdictKind::Superseded {
                enter(&mut next, State::Reported, *at).map_err(refuse)?;
            }
        }
        Event::Noted { note, at } => see(&mut next, note, *at),
    }
    Ok(next)
}

/// Folds a whole history.
#[cfg(test)]
pub(crate) fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<Run, IllegalTransition> {
    events
        .into_iter()
        .try_fold(Run::default(), |run, event| transition(&run, event))
}

fn boot(run: &mut Run, at: Millis) {
    let unclean = run.boot.number > 0 && !run.left && run.assignment.is_some();
    if unclean {
        run.stalled_boots += 1;
    }
    run.left = false;
    // A start begins its waits anew: else one whose patience is shorter than the wait that was reached before would end
    // without having asked once.
    for tally in run.tallies.values_mut() {
        tally.misses = 0;
    }
    run.boot = Boot {
        number: run.boot.number + 1,
        at,
    };
}

fn enter(run: &mut Run, to: State, at: Millis) -> Result<(), Refusal> {
    let name = to.name();
    let legal = match run.state_name() {
        None => name == StateName::Assigned,
        Some(from) => from.successors().contains(&name),
    };
    if !legal {
        return Err(Refusal::NoSuchEdge { to: name });
    }
    run.state = Some(to);
    run.since = at;
    run.stalled_boots = 0;
    Ok(())
}

fn intend(run: &mut Run, effect: EffectName, attempt: u32, at: Millis) -> Result<(), Refusal> {
    let Some(state) = &run.state else {
        return Err(Refusal::NotAssigned);
    };
    if let Some(open) = run.open {
        return Err(Refusal::IntentOpen(open.effect));
    }
    if state.name() == StateName::Reported {
        return Err(Refusal::Over);
    }
    if effect == EffectName::Report {
        if run.verdict.is_none() {
            return Err(Refusal::NoVerdict);
        }
    } else if run.verdict.is_some() || run.ending.is_some() {
        return Err(Refusal::EndKnown);
    } else if !state.name().effects().contains(&effect) || !in_turn(state, effect) {
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
    if attempt == 1 {
        tally.first_at = at;
    }
    tally.last_at = at;
    run.open = Some(Attempt {
        effect,
        number: attempt,
        at,
    });
    Ok(())
}

/// In `Cloned` the agent comes first, and the hand-over once it has ended well. Nothing is pushed where nothing was
/// changed, and no pull request is opened where there is no forge.
pub(super) fn in_turn(state: &State, effect: EffectName) -> bool {
    match state {
        State::Cloned { agent, .. } => (effect == EffectName::Handover) == agent.is_some(),
        State::AgentRan(work) => work.handover.head.is_some(),
        State::Pushed(work) => matches!(work.task.repo, RepoUrl::Http(_)),
        State::Assigned
        | State::Started
        | State::DataFetched { .. }
        | State::TokenIssued { .. }
        | State::PrOpened { .. }
        | State::Reported => true,
    }
}

fn open_intent(run: &Run, effect: EffectName, attempt: u32) -> Result<(), Refusal> {
    match run.open {
        Some(open) if open.effect == effect && open.number == attempt => Ok(()),
        Some(_) | None => Err(Refusal::NoSuchIntent(effect)),
    }
}

fn probe(run: &mut Run, effect: EffectName, attempt: u32, finding: Finding, at: Millis) -> Result<(), Refusal> {
    open_intent(run, effect, attempt)?;
    let tally = run.tallies.entry(effect).or_default();
    tally.last_at = at;
    match finding {
        // The outcome follows in the same transaction, and closes the intent.
        Finding::Done => {}
        Finding::NotDone {
            ran_ms,
            spent_micro_usd,
        } => {
            tally.unclear += 1;
            tally.ran_ms += ran_ms.max(0);
            spend(tally, spent_micro_usd);
            run.open = None;
        }
    }
    Ok(())
}

fn end(run: &mut Run, effect: EffectName, attempt: u32, outcome: &Outcome, at: Millis) -> Result<(), Refusal> {
    open_intent(run, effect, attempt)?;
    run.open = None;
    let tally = run.tallies.entry(effect).or_default();
    tally.last_at = at;
    match outcome {
        Outcome::Done { fact } => {
            tally.misses = 0;
            learn(run, effect, fact, at)
        }
        Outcome::Retry {
            trouble,
            after_ms,
            ran_ms,
            spent_micro_usd,
            ..
        } => {
            tally.misses += 1;
            tally.retry_after_ms = *after_ms;
            tally.ran_ms += (*ran_ms).max(0);
            spend(tally, *spent_micro_usd);
            match trouble {
                Trouble::MintFailed => tally.mint_failures += 1,
                Trouble::Claimed => tally.claims += 1,
                Trouble::Unreachable | Trouble::NoResult => {}
            }
            Ok(())
        }
        Outcome::Failed { failure, cause, agent } => {
            if run.verdict.is_some() {
                return Err(Refusal::SecondVerdict);
            }
            run.ending = Some(Ending::Failed {
                failure: *failure,
                cause: cause.clone(),
                agent: agent.clone(),
            });
            Ok(())
        }
        Outcome::GivenUp { failure, cause } => {
            if run.verdict.is_some() {
                return Err(Refusal::SecondVerdict);
            }
            run.ending = Some(Ending::Failed {
                failure: *failure,
                cause: cause.clone(),
                agent: run.state.as_ref().and_then(State::agent).cloned(),
            });
            Ok(())
        }
        Outcome::Superseded => {
            if run.verdict.is_some() {
                return Err(Refusal::SecondVerdict);
            }
            run.ending = Some(Ending::Superseded);
            Ok(())
        }
        Outcome::Parked {
            ran_ms,
            spent_micro_usd,
        } => {
            tally.parked += 1;
            tally.ran_ms += (*ran_ms).max(0);
            spend(tally, *spent_micro_usd);
            Ok(())
        }
    }
}

fn spend(tally: &mut Tally, micro_usd: u64) {
    tally.spent_micro_usd = tally.spent_micro_usd.saturating_add(micro_usd);
}

/// What a fact makes of the state. The effect decides which fact can come, the state what it leads to.
fn learn(run: &mut Run, effect: EffectName, fact: &Fact, at: Millis) -> Result<(), Refusal> {
    let wrong = Err(Refusal::WrongFact(effect));
    let Some(state) = run.state.clone() else {
        return Err(Refusal::NotAssigned);
    };
    let to = match (effect, fact, state) {
        (EffectName::Start, Fact::Started { .. }, State::Assigned) => State::Started,
        (EffectName::Data, Fact::Data { task }, State::Started) => State::DataFetched { task: Arc::clone(task) },
        (EffectName::Token, Fact::Token(token), State::DataFetched { task }) => State::TokenIssued {
            task,
            token: token.clone(),
        },
        (EffectName::Clone, Fact::Cloned(checkout), State::TokenIssued { task, token }) => State::Cloned {
            task,
            token,
            checkout: checkout.clone(),
            agent: None,
        },
        (
            EffectName::Agent,
            Fact::AgentEnded(report),
            State::Cloned {
                task,
                token,
                checkout,
                agent: None,
            },
        ) => {
            run.state = Some(State::Cloned {
                task,
                token,
                checkout,
                agent: Some(report.clone()),
            });
            return Ok(());
        }
        (
            EffectName::Handover,
            Fact::HandedOver(handover),
            State::Cloned {
                task,
                token,
                checkout,
                agent: Some(agent),
            },
        ) => State::AgentRan(Work {
            task,
            token,
            checkout,
            agent,
            handover: handover.clone(),
        }),
        (EffectName::Push, Fact::Pushed, State::AgentRan(work)) if work.handover.head.is_some() => State::Pushed(work),
        (EffectName::PullRequest, Fact::PullRequest(pull_request), State::Pushed(work)) => State::PrOpened {
            work,
            pull_request: pull_request.clone(),
        },
        (EffectName::Report, Fact::Reported { ack }, _) => {
            return acknowledge(run, *ack, at);
        }
        (
            EffectName::Start
            | EffectName::Data
            | EffectName::Token
            | EffectName::Clone
            | EffectName::Agent
            | EffectName::Handover
            | EffectName::Push
            | EffectName::PullRequest
            | EffectName::Report,
            _,
            _,
        ) => return wrong,
    };
    enter(run, to, at)
}

fn acknowledge(run: &mut Run, ack: Ack, at: Millis) -> Result<(), Refusal> {
    if run.verdict.is_none() {
        return Err(Refusal::NoVerdict);
    }
    run.acknowledged = Some((ack, run.boot.number));
    enter(run, State::Reported, at)
}

/// A verdict has to follow from the history: no success without a push, no superseding without a 410.
fn may_conclude(run: &Run, kind: VerdictKind) -> Result<(), Refusal> {
    let Some(state) = &run.state else {
        return Err(Refusal::NotAssigned);
    };
    if run.verdict.is_some() {
        return Err(Refusal::SecondVerdict);
    }
    if let Some(open) = run.open {
        return Err(Refusal::IntentOpen(open.effect));
    }
    let founded = match (kind, &run.ending) {
        (VerdictKind::Completed, None) => match state {
            State::AgentRan(work) => work.handover.head.is_none(),
            State::Pushed(_) | State::PrOpened { .. } => true,
            State::Assigned
            | State::Started
            | State::DataFetched { .. }
            | State::TokenIssued { .. }
            | State::Cloned { .. }
            | State::Reported => false,
        },
        (VerdictKind::Failed, None | Some(Ending::Failed { .. })) => true,
        (VerdictKind::Superseded, Some(Ending::Superseded)) => true,
        (VerdictKind::Completed | VerdictKind::Failed | VerdictKind::Superseded, _) => false,
    };
    if founded {
        Ok(())
    } else {
        Err(Refusal::UnfoundedVerdict(kind))
    }
}

fn see(run: &mut Run, note: &Note, at: Millis) {
    match note {
        Note::Sandbox { .. } => {}
        Note::AnswerLost { effect, .. } => {
            let tally = run.tallies.entry(*effect).or_default();
            tally.misses += 1;
            tally.last_at = at;
            tally.retry_after_ms = None;
        }
        Note::Parked | Note::Undelivered => run.left = true,
    }
}
