//! What is to be done next: a pure function of the history, the time and the settings.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::effect::{ClaimPatience, Effect, EffectName, StartPatience, TokenHistory};
use super::event::Ack;
use super::failure::Failure;
use super::state::{Attempt, Millis, Run, State, Tally};
use super::transition::in_turn;
use super::verdict::{Checking, Ending, Verdict, VerdictKind};
use super::work::Cut;
use crate::ids::RepoUrl;
use tree::Tended;

mod archive;
mod tree;

/// `started` is tried for at most this long; then the task goes on (contract, section 2).
const START_PATIENCE_MS: Millis = 15_000;
/// One try of it may take this long: an API that takes a connection and never answers is no reason to wait longer.
const START_ATTEMPT_MS: Millis = 4_000;
/// `task already claimed` is taken as the acknowledgement at the fifth time (contract, section 2).
const CLAIMS: u32 = 5;
/// Between two of them: five over a minute.
pub const CLAIM_PAUSE_MS: Millis = 12_000;
/// What is local and idempotent: what does not work three times will not.
const MISSES: u32 = 3;
/// What runs here, or is on this disk, says what came of it unless something hangs in the kernel. With the pauses between, and up to
/// a minute for each time, it has some minutes to come back.
const UNANSWERED: u32 = 20;
/// The first wait is drawn from up to this long.
const BACKOFF_BASE_MS: Millis = 500;
/// What the next waits may add before the try after this one: with it, the last try still ends in time.
const BACKOFF_SLACK_MS: Millis = 3_000;
/// No wait is longer, but for what the other side asks for.
const BACKOFF_CAP_MS: Millis = 30_000;

/// This long before a patience ends, what was to be waited for until after it is tried once more.
const LAST_TRY_MS: Millis = 1_000;

/// The settings that decide what is done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How long an API or a forge that cannot be reached is waited for, an effect (`RUNNER_API_PATIENCE`).
    pub api_patience_ms: Millis,
    /// How often the agent may be started in all (`RUNNER_AGENT_ATTEMPTS`).
    pub agent_attempts: u32,
    /// How long it may run, over all attempts (`RUNNER_AGENT_TIMEOUT`).
    pub agent_timeout_ms: Millis,
    /// How many turns it may take, over all attempts (`RUNNER_AGENT_MAX_TURNS`).
    pub agent_max_turns: u64,
    /// Whether it has conversations that can be gone on with.
    pub agent_sessions: bool,
    /// How long the task may take, from its assignment (`RUNNER_TASK_TIMEOUT`).
    pub task_timeout_ms: Option<Millis>,
    /// Whether there is a set-up command (`RUNNER_SETUP_COMMAND`).
    pub setup: bool,
    /// Whether there is a check (`RUNNER_CHECK_COMMAND`).
    pub check: bool,
    /// How much it may spend, over all attempts, in millionths of a US dollar (`RUNNER_AGENT_MAX_BUDGET_USD`).
    pub agent_budget_micro_usd: u64,
    /// Unclean ends in a row that reach no new state (`RUNNER_MAX_BOOTS`).
    pub max_boots: u32,
    /// Whether an agent that changed nothing has failed (`RUNNER_NO_CHANGES`).
    pub no_changes: NoChanges,
    /// What SIGTERM does (`RUNNER_ON_TERM`).
    pub on_term: OnTerm,
    /// Whether there is somewhere to send what is left of the task to (`RUNNER_ARCHIVE_URL`).
    pub archive: Archiving,
}

/// Whether what is left of a task is sent away once its verdict is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archiving {
    /// There is nowhere to send it to.
    Off,
    /// There is.
    On,
}

/// Whether an agent that changed nothing has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::Display, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum NoChanges {
    /// The verdict is `failed`, `NoChanges`.
    Fail,
    /// The verdict is `completed`, outcome `no_changes`.
    Complete,
}

/// What SIGTERM does to a task that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::Display, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum OnTerm {
    /// Report `failed`, `Interrupted`, within the grace; what is already handed over is still pushed.
    Report,
    /// Leave the task to the next start.
    Park,
}

/// What is so now, beside the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// The time.
    pub now: Millis,
    /// Whether the runner was told to stop.
    pub stopping: Stopping,
}

/// Whether the runner was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopping {
    /// It was not.
    No,
    /// It was, and there is time left to push and report.
    Grace,
    /// It was, and the grace is over.
    Over,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Wait for an assignment.
    Listen,
    /// Write the intent, do it, write the outcome.
    Do {
        /// What.
        effect: Effect,
        /// The attempt's number.
        attempt: u32,
    },
    /// Find out what came of the open intent.
    Probe {
        /// Of what.
        effect: Effect,
        /// The attempt's number.
        attempt: u32,
    },
    /// Stop looking for what came of the open intent, and fail.
    GiveUp {
        /// Of what.
        effect: EffectName,
        /// The attempt's number.
        attempt: u32,
        /// Why the task fails.
        failure: Failure,
        /// For a person.
        cause: String,
    },
    /// Wait before anything else.
    Wait {
        /// How long.
        for_ms: Millis,
    },
    /// Freeze the verdict.
    Conclude(Ending),
    /// End the process.
    Stop(Exit),
}

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The task completed, and that was acknowledged by this process.
    Completed,
    /// The task failed, and that was acknowledged by this process.
    Failed,
    /// The API does not know the task any more: the verdict could not be told.
    NobodyLeft,
    /// The task was ended elsewhere.
    Superseded,
    /// An earlier start had brought everything to its end.
    NothingToDo,
    /// Told to stop while nothing was assigned.
    Idle,
    /// Told to stop, and the task is left to the next start.
    Parked,
    /// The verdict could not be delivered: the next start goes on.
    Undelivered,
}

impl Exit {
    /// The process's exit code (contract, section 5).
    pub fn code(self) -> u8 {
        match self {
            Self::Completed | Self::Superseded | Self::NothingToDo | Self::Idle => 0,
            Self::Failed | Self::NobodyLeft => 1,
            Self::Parked | Self::Undelivered => 75,
        }
    }
}

/// What is to be done next.
pub fn plan(run: &Run, situation: Situation, policy: &Policy) -> Plan {
    let Some(state) = &run.state else {
        return match situation.stopping {
            Stopping::No => Plan::Listen,
            Stopping::Grace | Stopping::Over => Plan::Stop(Exit::Idle),
        };
    };
    if matches!(state, State::Reported) {
        return archive::plan(run, situation, policy).unwrap_or_else(|| Plan::Stop(exit(run)));
    }
    let stopped = situation.stopping != Stopping::No;
    if stopped && policy.on_term == OnTerm::Park {
        return Plan::Stop(Exit::Parked);
    }
    if run.verdict.is_none() {
        if let Some(open) = run.open {
            if let Some((failure, cause)) = given_up(run, open, state, situation, policy) {
                return Plan::GiveUp {
                    effect: open.effect,
                    attempt: open.number,
                    failure,
                    cause,
                };
            }
        } else if let Some(ending) = ending(run, state, situation, policy) {
            return Plan::Conclude(ending);
        }
    }
    let Some(effect) = next_effect(run, state, situation, policy) else {
        return Plan::Conclude(delivered(state, policy));
    };
    let name = effect.name();
    let tally = run.tally(name);
    if name == EffectName::Report {
        let gave_up = tally.misses > 0
            && (situation.stopping == Stopping::Over
                || since(situation.now, run.boot.at.max(tally.first_at)) >= policy.api_patience_ms);
        if gave_up {
            return Plan::Stop(Exit::Undelivered);
        }
    }
    if tally.misses > 0 {
        let pause = left_of(pause_ms(run, name, tally), tally.last_at, situation.now);
        let left = pause.min(time_for_waits(run, name, situation.now, policy));
        if left > 0 {
            return Plan::Wait { for_ms: left };
        }
    }
    match run.open {
        Some(open) => Plan::Probe {
            effect,
            attempt: open.number,
        },
        None => Plan::Do {
            effect,
            attempt: tally.attempts + 1,
        },
    }
}

/// Time that has passed: never negative, since clocks jump.
fn since(now: Millis, then: Millis) -> Millis {
    now.saturating_sub(then).max(0)
}

/// How long an effect may be waited for before it is tried again: no longer than its patience lasts, whatever the other side
/// asks for, and shortly before that ends it is tried once more.
fn time_for_waits(run: &Run, effect: EffectName, now: Millis, policy: &Policy) -> Millis {
    let tally = run.tally(effect);
    match effect {
        // The last time is after its patience.
        EffectName::Start => START_PATIENCE_MS - since(now, tally.first_at),
        EffectName::Data
        | EffectName::Token
        | EffectName::Clone
        | EffectName::Push
        | EffectName::PullRequest
        | EffectName::Report => {
            let begun = run.boot.at.max(tally.first_at);
            let end = begun.saturating_add(policy.api_patience_ms);
            let last_try = end.saturating_sub(LAST_TRY_MS);
            let until = if tally.last_at < last_try { last_try } else { end };
            until.saturating_sub(now)
        }
        // No other side asks for anything; the archive has a time of its own.
        EffectName::Setup | EffectName::Agent | EffectName::Check | EffectName::Handover | EffectName::Archive => {
            Millis::MAX
        }
    }
}

/// What is left of a pause that began at `from`. Nothing is where the clock was set back to before that: what comes after a
/// wait is planned anew, so that the whole pause would be waited for again and again until the clock has caught up. The try
/// that is made instead is by the new time, and so is the pause after it.
pub fn left_of(pause: Millis, from: Millis, now: Millis) -> Millis {
    if now < from {
        return 0;
    }
    pause.saturating_sub(since(now, from)).max(0)
}

/// How a task ends of which all was delivered that there is.
fn delivered(state: &State, policy: &Policy) -> Ending {
    match state.cut() {
        None if policy.check => Ending::Completed(Checking::Wanted),
        None => Ending::Completed(Checking::NotWanted),
        Some(cut) => Ending::Failed {
            failure: cut.failure,
            cause: cut.cause.clone(),
            agent: state.agent().cloned(),
        },
    }
}

fn exit(run: &Run) -> Exit {
    let Some(verdict) = &run.verdict else {
        return Exit::NothingToDo;
    };
    match (&run.acknowledged, verdict.kind) {
        (None | Some((Ack::EndedElsewhere, _)), _) => Exit::Superseded,
        (Some((_, boot)), _) if *boot != run.boot.number => Exit::NothingToDo,
        (Some((Ack::NobodyLeft, _)), _) => Exit::NobodyLeft,
        (Some(_), VerdictKind::Completed) => Exit::Completed,
        (Some(_), VerdictKind::Failed) => Exit::Failed,
        (Some(_), VerdictKind::Superseded) => Exit::Superseded,
    }
}

/// Whether the task has to end now, and how. Asked while no intent is open.
fn ending(run: &Run, state: &State, situation: Situation, policy: &Policy) -> Option<Ending> {
    let tended = tended(run, state);
    let cut = match &tended {
        Some(tended) => tended.cut(situation, policy),
        None => state.cut().cloned(),
    };
    if let Some(ending) = &run.ending {
        return Some(blamed(ending.clone(), state.cut()));
    }
    if let State::AgentRan(work) = state
        && work.handover.head.is_none()
        && (cut.is_some() || policy.no_changes == NoChanges::Complete)
    {
        return Some(delivered(state, policy));
    }
    let nothing_to_save = |cut: &Cut| {
        let holds = tended.as_ref().is_none_or(Tended::may_hold_work);
        (!holds).then(|| (cut.failure, cut.cause.clone()))
    };
    let (failure, cause) = overtaken(run, state, situation, policy)
        .or_else(|| unchanged(state))
        .or_else(|| cut.as_ref().and_then(nothing_to_save))
        .or_else(|| {
            let effects = state.name().effects().iter().copied();
            let mut next = effects.filter(|effect| in_turn(run, state, *effect));
            next.find_map(|effect| exhausted(run, effect, situation.now, policy))
        })?;
    let ending = Ending::Failed {
        failure,
        cause,
        agent: state.agent().cloned(),
    };
    Some(blamed(ending, cut.as_ref()))
}

/// What cut an agent short is why its task failed, also where what it left could not be delivered.
fn blamed(ending: Ending, cut: Option<&Cut>) -> Ending {
    match (ending, cut) {
        (Ending::Failed { failure, cause, agent }, Some(cut)) if cut.failure != failure => {
            let (failure, cause) = cut.and_not_delivered(failure, &cause);
            Ending::Failed { failure, cause, agent }
        }
        (ending, _) => ending,
    }
}

/// The work in the tree, while there is one.
fn tended<'a>(run: &'a Run, state: &'a State) -> Option<Tended<'a>> {
    match state {
        State::Cloned {
            task,
            token,
            checkout,
            progress,
        } => Some(Tended {
            run,
            task,
            token,
            checkout,
            progress,
        }),
        State::Assigned
        | State::Started
        | State::DataFetched { .. }
        | State::TokenIssued { .. }
        | State::AgentRan(_)
        | State::Pushed(_)
        | State::PrOpened { .. }
        | State::Reported => None,
    }
}

/// Whether the search for what came of an open intent has to end now.
fn given_up(
    run: &Run,
    open: Attempt,
    state: &State,
    situation: Situation,
    policy: &Policy,
) -> Option<(Failure, String)> {
    overtaken(run, state, situation, policy).or_else(|| match open.effect {
        EffectName::Data | EffectName::Token | EffectName::Clone | EffectName::Push | EffectName::PullRequest => {
            unreachable(run, open.effect, situation.now, policy)
        }
        EffectName::Setup | EffectName::Agent | EffectName::Check | EffectName::Handover => unanswered(run, open),
        // Best effort, or told without end.
        EffectName::Start | EffectName::Report | EffectName::Archive => None,
    })
}

/// Whether what is local was asked often enough.
fn unanswered(run: &Run, open: Attempt) -> Option<(Failure, String)> {
    (open.unanswered >= UNANSWERED).then(|| {
        let asked = format!(
            "What came of {} {} could not be found out, {} times in this start.",
            open.effect, open.number, open.unanswered
        );
        (Failure::Internal, with_last_miss(run, asked))
    })
}

/// A cause, and what was said the last time: it missed in this start, and nothing else was tried since.
fn with_last_miss(run: &Run, cause: String) -> String {
    match run.last_miss.as_deref() {
        None | Some("") => cause,
        Some(last) => format!("{cause} The last time: {last}"),
    }
}

/// What ends a task whatever it is doing.
fn overtaken(run: &Run, state: &State, situation: Situation, policy: &Policy) -> Option<(Failure, String)> {
    // Where an agent has worked, there is one start more: it saves that, and does nothing else.
    let saving = tended(run, state).is_some_and(|tended| tended.may_hold_work());
    if run.stalled_boots >= policy.max_boots.saturating_add(saving.into()) {
        let cause = format!(
            "{} starts in a row got no further than {}.",
            run.stalled_boots,
            state.name()
        );
        return Some((Failure::CrashLoop, cause));
    }
    interrupted(run, state, situation.stopping).then(|| {
        let cause = format!("It was told to stop in state {}.", state.name());
        (Failure::Interrupted, cause)
    })
}

fn unchanged(state: &State) -> Option<(Failure, String)> {
    match state {
        State::AgentRan(work) if work.handover.head.is_none() => {
            let said = work.agent.summary.as_deref().unwrap_or("(nothing)");
            Some((Failure::NoChanges, format!("It said: {said}")))
        }
        State::Assigned
        | State::Started
        | State::DataFetched { .. }
        | State::TokenIssued { .. }
        | State::Cloned { .. }
        | State::AgentRan(_)
        | State::Pushed(_)
        | State::PrOpened { .. }
        | State::Reported => None,
    }
}

/// Told to stop, what an agent has done is still pushed while the grace lasts: it was paid for.
fn interrupted(run: &Run, state: &State, stopping: Stopping) -> bool {
    match stopping {
        Stopping::No => false,
        Stopping::Over => true,
        Stopping::Grace => match state {
            State::Cloned { .. } => !tended(run, state).is_some_and(|tended| tended.may_hold_work()),
            State::Assigned | State::Started | State::DataFetched { .. } | State::TokenIssued { .. } => true,
            State::AgentRan(_) | State::Pushed(_) | State::PrOpened { .. } | State::Reported => false,
        },
    }
}

/// Whether an effect has used up its tries, its time or the patience with the other side.
fn exhausted(run: &Run, effect: EffectName, now: Millis, policy: &Policy) -> Option<(Failure, String)> {
    let tally = run.tally(effect);
    match effect {
        EffectName::Data | EffectName::Token | EffectName::Clone | EffectName::Push | EffectName::PullRequest => {
            unreachable(run, effect, now, policy)
        }
        EffectName::Handover => (tally.misses >= MISSES).then(|| {
            (
                Failure::Internal,
                format!("The hand-over was tried {} times.", tally.attempts),
            )
        }),
        // Best effort; cut short with a name of its own; told without end.
        EffectName::Start
        | EffectName::Setup
        | EffectName::Agent
        | EffectName::Check
        | EffectName::Report
        | EffectName::Archive => None,
    }
}

/// Whether the other side has been away for too long. Time before this start does not count: nobody was asking.
fn unreachable(run: &Run, effect: EffectName, now: Millis, policy: &Policy) -> Option<(Failure, String)> {
    let tally = run.tally(effect);
    let waited = since(now, run.boot.at.max(tally.first_at));
    (tally.misses > 0 && waited >= policy.api_patience_ms).then(|| {
        let tried = format!(
            "{effect} was tried {} times, over {} s in this start.",
            tally.attempts,
            waited / 1000
        );
        (Failure::ApiUnreachable, with_last_miss(run, tried))
    })
}

/// The effect that leads on from here; none where the task is done.
fn next_effect(run: &Run, state: &State, situation: Situation, policy: &Policy) -> Option<Effect> {
    if let Some(verdict) = &run.verdict {
        return Some(report(run, verdict));
    }
    match state {
        State::Assigned => {
            let tally = run.tally(EffectName::Start);
            let begun = if tally.attempts == 0 {
                situation.now
            } else {
                tally.first_at
            };
            let left = START_PATIENCE_MS - since(situation.now, begun);
            let patience = if left < START_ATTEMPT_MS + BACKOFF_SLACK_MS {
                StartPatience::LastTime
            } else {
                StartPatience::TryAgain
            };
            let within_ms = left.clamp(START_ATTEMPT_MS / 8, START_ATTEMPT_MS);
            Some(Effect::Start { patience, within_ms })
        }
        State::Started => Some(Effect::Data),
        State::DataFetched { .. } => Some(Effect::Token {
            history: token_history(run.tally(EffectName::Token)),
        }),
        State::TokenIssued { task, token } => Some(Effect::Clone {
            task: Arc::clone(task),
            token: token.clone(),
        }),
        State::Cloned { .. } => tended(run, state).map(|tended| tended.next(situation, policy)),
        State::AgentRan(work) => work.handover.head.as_ref().map(|head| Effect::Push {
            work: work.clone(),
            head: head.clone(),
        }),
        State::Pushed(work) => match (&work.task.repo, &work.handover.head) {
            (RepoUrl::Http(_), Some(head)) => Some(Effect::PullRequest {
                work: work.clone(),
                head: head.clone(),
            }),
            // A path of this machine has no forge: the branch is the end.
            (RepoUrl::Local(_), _) | (RepoUrl::Http(_), None) => None,
        },
        State::PrOpened { .. } | State::Reported => None,
    }
}

fn report(run: &Run, verdict: &Arc<Verdict>) -> Effect {
    let claims = if run.tally(EffectName::Report).claims + 1 >= CLAIMS {
        ClaimPatience::TakeIt
    } else {
        ClaimPatience::SendAgain
    };
    Effect::Report {
        verdict: Arc::clone(verdict),
        claims,
    }
}

/// A 502 comes after the mark, so a later loss cannot have been the one that was answered.
fn token_history(tally: Tally) -> TokenHistory {
    if tally.mint_failures > 0 {
        TokenHistory::MintFailed
    } else if tally.unclear > 0 {
        TokenHistory::AnswerLost
    } else {
        TokenHistory::NeverAsked
    }
}

fn pause_ms(run: &Run, effect: EffectName, tally: Tally) -> Millis {
    let seed = run.assignment.as_ref().map_or("", |a| a.task_id.as_str());
    backoff_ms(tally.misses, &format!("{seed}/{effect}")).max(tally.retry_after_ms.unwrap_or(0))
}

/// How long to wait after the n-th miss: exponential with full jitter, which is drawn from the seed, so that the same
/// history always waits as long, and two runners do not wait alike.
pub fn backoff_ms(misses: u32, seed: &str) -> Millis {
    if misses == 0 {
        return 0;
    }
    let ceiling = BACKOFF_BASE_MS
        .saturating_mul(1 << misses.saturating_sub(1).min(16))
        .min(BACKOFF_CAP_MS);
    let digest: [u8; 32] = Sha256::digest(format!("{seed}/{misses}")).into();
    let [a, b, c, d, ..] = digest;
    let draw = i64::from(u32::from_be_bytes([a, b, c, d]));
    // Never nothing at all: a tenth of the ceiling is the floor, so that a server that is down is not hammered.
    ceiling / 10 + draw % (ceiling - ceiling / 10)
}
