//! What an event makes of a history: total, pure, and the only place where anything moves.

use std::sync::Arc;

use thiserror::Error;

use super::effect::EffectName;
use super::event::{Ack, Event, Fact, Finding, Note, Outcome, Trouble};
use super::state::{AgentReport, ArchiveEnd, Attempt, Boot, Handover, Millis, Run, State, StateName, Work};
use super::verdict::{Ending, VerdictKind};
use super::work::{Cut, Left, Next, Progress};
use crate::ids::{RepoUrl, SessionId};

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
#[cfg_attr(
    test,
    derive(strum::EnumDiscriminants),
    strum_discriminants(name(RefusalKind), vis(pub(crate)), derive(strum::EnumIter))
)]
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
    /// Everything is over, or nothing but the archive is left to do.
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
            next.assigned_at = *at;
            enter(&mut next, State::Assigned, *at).map_err(refuse)?;
        }
        Event::Intended {
            effect,
            attempt,
            session,
            at,
        } => intend(&mut next, *effect, *attempt, *session, *at).map_err(refuse)?,
        Event::Probed {
            effect,
            attempt,
            finding,
            at,
        } => probe(&mut next, *effect, *attempt, finding, *at).map_err(refuse)?,
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
    if let Some(open) = &mut run.open {
        open.unanswered = 0;
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

fn intend(
    run: &mut Run,
    effect: EffectName,
    attempt: u32,
    session: Option<SessionId>,
    at: Millis,
) -> Result<(), Refusal> {
    let Some(state) = &run.state else {
        return Err(Refusal::NotAssigned);
    };
    if let Some(open) = run.open {
        return Err(Refusal::IntentOpen(open.effect));
    }
    if state.name() == StateName::Reported {
        // The verdict is told: what is left to do is to send away what led to it, once.
        if effect != EffectName::Archive || run.archive.is_some() {
            return Err(Refusal::Over);
        }
    } else if effect == EffectName::Report {
        if run.verdict.is_none() {
            return Err(Refusal::NoVerdict);
        }
    } else if run.verdict.is_some() || run.ending.is_some() {
        return Err(Refusal::EndKnown);
    } else if !state.name().effects().contains(&effect) || !in_turn(run, state, effect) {
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
        unanswered: 0,
    });
    run.session = session.or(run.session);
    Ok(())
}

/// In `Cloned` the work in the tree says what may come. Nothing is pushed where nothing was changed, and no pull request is
/// opened where there is no forge.
pub(super) fn in_turn(run: &Run, state: &State, effect: EffectName) -> bool {
    match state {
        State::Cloned { progress, .. } => progress.allows(effect, run.tally(EffectName::Agent).attempts > 0),
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

fn probe(run: &mut Run, effect: EffectName, attempt: u32, finding: &Finding, at: Millis) -> Result<(), Refusal> {
    open_intent(run, effect, attempt)?;
    let tally = run.tallies.entry(effect).or_default();
    tally.last_at = at;
    match finding {
        // The outcome follows in the same transaction, and closes the intent.
        Finding::Done => {}
        Finding::NotDone(left) => {
            tally.unclear += 1;
            run.open = None;
            leave(run, effect, *left, None);
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
            cause,
            after_ms,
            left,
        } => {
            tally.misses += 1;
            tally.retry_after_ms = *after_ms;
            run.last_miss = Some(cause.clone());
            match trouble {
                Trouble::MintFailed => tally.mint_failures += 1,
                Trouble::Claimed => tally.claims += 1,
                Trouble::NothingToGoOnIn => tally.uncounted += 1,
                Trouble::Unreachable | Trouble::NoResult => {}
            }
            leave(run, effect, *left, Some(cause));
            Ok(())
        }
        Outcome::Failed { failure, cause, agent } => {
            if run.verdict.is_some() {
                return Err(Refusal::SecondVerdict);
            }
            // It ran, now or before: what it left in the tree is saved before the task fails.
            if effect == EffectName::Agent && (agent.is_some() || attempt > 1) {
                let report = &agent.clone().unwrap_or_default();
                let total = tally.effort.plus(report.effort);
                tally.effort = total;
                if let Some(progress) = progress(run) {
                    let cut = Cut {
                        failure: *failure,
                        cause: cause.clone(),
                    };
                    progress.agent_ended(report, total, Some(cut));
                    return Ok(());
                }
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
        Outcome::Missed { .. } => {
            if effect != EffectName::Archive {
                return Err(Refusal::WrongFact(effect));
            }
            run.archive = Some(ArchiveEnd::Missed);
            Ok(())
        }
        Outcome::Superseded => {
            if run.verdict.is_some() {
                return Err(Refusal::SecondVerdict);
            }
            run.ending = Some(Ending::Superseded);
            Ok(())
        }
        Outcome::Parked(left) => {
            tally.uncounted += 1;
            leave(run, effect, *left, None);
            Ok(())
        }
    }
}

/// Takes in what an attempt that came to no end took, and what it left.
fn leave(run: &mut Run, effect: EffectName, left: Left, cause: Option<&str>) {
    let tally = run.tallies.entry(effect).or_default();
    tally.effort = tally.effort.plus(left.effort);
    if effect == EffectName::Agent
        && let Some(progress) = progress(run)
    {
        if left.next == Next::BeginAnew {
            progress.begin_anew();
        }
        progress.lost = cause.map(str::to_owned);
    }
}

fn progress(run: &mut Run) -> Option<&mut Progress> {
    match &mut run.state {
        Some(State::Cloned { progress, .. }) => Some(progress),
        Some(_) | None => None,
    }
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
            progress: Progress::default(),
        },
        (EffectName::Setup | EffectName::Agent | EffectName::Check, fact, State::Cloned { .. }) => {
            return work_on(run, effect, fact);
        }
        (
            EffectName::Handover,
            Fact::HandedOver(handover),
            State::Cloned {
                task,
                token,
                checkout,
                progress,
            },
        ) => {
            let starts = run.tally(EffectName::Agent);
            let cut = handover.cut.clone().or(progress.cut);
            // What an agent left that did not come to its end is no success, so it has to say why.
            if progress.agent.is_none() && cut.is_none() {
                return wrong;
            }
            State::AgentRan(Work {
                task,
                token,
                checkout,
                // One that never came to an end has said nothing, but has taken something.
                agent: progress.agent.unwrap_or_else(|| AgentReport {
                    session_id: run.session.map(|id| id.to_string()),
                    effort: starts.effort,
                    ..AgentReport::default()
                }),
                agent_starts: starts.attempts,
                check: progress.check,
                handover: Handover {
                    cut,
                    ..handover.clone()
                },
            })
        }
        (EffectName::Push, Fact::Pushed, State::AgentRan(work)) => State::Pushed(work),
        (EffectName::PullRequest, Fact::PullRequest(pull_request), State::Pushed(work)) => State::PrOpened {
            work,
            pull_request: pull_request.clone(),
        },
        (EffectName::Report, Fact::Reported { ack }, _) => {
            return acknowledge(run, *ack, at);
        }
        (EffectName::Archive, Fact::Archived(_), State::Reported) => {
            run.archive = Some(ArchiveEnd::Kept);
            return Ok(());
        }
        (
            EffectName::Start
            | EffectName::Data
            | EffectName::Token
            | EffectName::Clone
            | EffectName::Setup
            | EffectName::Agent
            | EffectName::Check
            | EffectName::Handover
            | EffectName::Push
            | EffectName::PullRequest
            | EffectName::Report
            | EffectName::Archive,
            _,
            _,
        ) => return wrong,
    };
    enter(run, to, at)
}

/// Takes in what is known of the work in the tree: no state is entered by it.
fn work_on(run: &mut Run, effect: EffectName, fact: &Fact) -> Result<(), Refusal> {
    let tally = run.tallies.entry(effect).or_default();
    if let Fact::AgentEnded(report) = fact {
        tally.effort = tally.effort.plus(report.effort);
    }
    let total = tally.effort;
    let Some(progress) = progress(run) else {
        return Err(Refusal::WrongFact(effect));
    };
    match (effect, fact) {
        (EffectName::Setup, Fact::SetUp(setup)) => progress.setup = Some(setup.clone()),
        (EffectName::Agent, Fact::AgentEnded(report)) => progress.agent_ended(report, total, None),
        (EffectName::Check, Fact::Checked(check)) => progress.check = Some(check.clone()),
        _ => return Err(Refusal::WrongFact(effect)),
    }
    Ok(())
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
        // What was cut short is no success, whatever of it was saved.
        (VerdictKind::Completed, None) if state.cut().is_some() => false,
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
        Note::Sandbox { .. } | Note::OutOfMemory { .. } | Note::PluginMissing(_) => {}
        Note::AnswerLost { effect, cause } => {
            run.last_miss = Some(cause.clone());
            let tally = run.tallies.entry(*effect).or_default();
            tally.misses += 1;
            tally.last_at = at;
            tally.retry_after_ms = None;
            if let Some(open) = run.open.as_mut().filter(|open| open.effect == *effect) {
                open.unanswered += 1;
            }
        }
        Note::Parked | Note::Undelivered => run.left = true,
    }
}
