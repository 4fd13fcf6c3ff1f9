//! What comes next in the tree: set-up, agent, check, the agent once more to mend what the check found, hand-over.

use std::sync::Arc;

use super::super::effect::{AgentRun, Bound, Effect, EffectName, InTree, TimeLeft, Tree};
use super::super::failure::Failure;
use super::super::state::{Checkout, Millis, Run, TokenFacts};
use super::super::work::{Cut, Progress};
use super::{MISSES, Policy, Situation, Stopping, since};
use crate::ids::{RepoUrl, SessionId};
use crate::task::Task;

/// What a push, a pull request and a report need at the end of `RUNNER_TASK_TIMEOUT` or of the token's life; of a short
/// time-out a quarter.
const RESERVE_MS: Millis = 120_000;

/// What is known in `Cloned`.
#[derive(Clone, Copy)]
pub(super) struct Tended<'a> {
    pub(super) run: &'a Run,
    pub(super) task: &'a Arc<Task>,
    pub(super) token: &'a TokenFacts,
    pub(super) checkout: &'a Checkout,
    pub(super) progress: &'a Progress,
}

impl Tended<'_> {
    /// Why the agent is not started, or not again, although it has not come to its own end.
    pub(super) fn cut(&self, situation: Situation, policy: &Policy) -> Option<Cut> {
        if self.progress.agent.is_some() {
            return self.progress.cut.clone();
        }
        let cut = |failure, cause| Some(Cut { failure, cause });
        if situation.stopping != Stopping::No {
            return cut(Failure::Interrupted, "It was told to stop in state Cloned.".to_owned());
        }
        if self.is_the_last_start(policy) {
            let cause = format!("{} starts in a row got no further than Cloned.", self.run.stalled_boots);
            return cut(Failure::CrashLoop, cause);
        }
        let setup = self.run.tally(EffectName::Setup);
        if setup.misses >= MISSES {
            let cause = format!("It could not be started in {} attempts.", setup.attempts);
            return cut(Failure::SetupFailed, cause);
        }
        self.used_up(situation.now, policy)
    }

    /// Whether the runner died so often that what is there is saved before anything else can end it.
    fn is_the_last_start(&self, policy: &Policy) -> bool {
        self.run.stalled_boots >= policy.max_boots
    }

    /// Whether the agent has nothing left of what it may take.
    fn used_up(&self, now: Millis, policy: &Policy) -> Option<Cut> {
        let tally = self.run.tally(EffectName::Agent);
        let effort = tally.effort;
        let spent = effort.spent_micro_usd();
        let turns = effort.turns.unwrap_or_default();
        let counted = self.counted();
        let time_left = self.time_left(now, policy);
        let (failure, cause) = if time_left.ms <= 0 {
            let cause = format!(
                "It ran for {} s in all, and was stopped by {}.",
                effort.ran_ms / 1000,
                time_left.bound.sentence()
            );
            (Failure::AgentTimedOut, cause)
        } else if spent >= policy.agent_budget_micro_usd {
            let (dollars, cents) = (spent / 1_000_000, spent % 1_000_000 / 10_000);
            let cause = format!("It spent ${dollars}.{cents:02} in {counted} attempts.");
            (Failure::AgentBudgetExceeded, cause)
        } else if turns >= policy.agent_max_turns {
            let cause = format!("It took {turns} turns in {counted} attempts.");
            (Failure::AgentTurnsExceeded, cause)
        } else if counted >= self.starts(policy) {
            let started = format!("It was started {counted} times.");
            let cause = match &self.progress.lost {
                Some(last) => format!("{started} The last time, {last}"),
                None => started,
            };
            (Failure::AgentLost, cause)
        } else {
            return None;
        };
        Some(Cut { failure, cause })
    }

    /// How often it was started, as far as that counts.
    fn counted(&self) -> u32 {
        let tally = self.run.tally(EffectName::Agent);
        tally.attempts.saturating_sub(tally.uncounted)
    }

    /// How often it may be: to mend what a check found it is started once more.
    fn starts(&self, policy: &Policy) -> u32 {
        let once_more = self.progress.to_be_mended().is_some();
        policy.agent_attempts.saturating_add(once_more.into())
    }

    /// Whether something of the agent's may be in the tree, so that there is something to save.
    pub(super) fn may_hold_work(&self) -> bool {
        self.run.tally(EffectName::Agent).attempts > 0
    }

    /// What comes next; the hand-over where nothing else does. Of an open intent what it was, whatever has changed since.
    pub(super) fn next(&self, situation: Situation, policy: &Policy) -> Effect {
        let progress = self.progress;
        let cut = self.cut(situation, policy);
        match self.run.open.map(|open| open.effect) {
            Some(EffectName::Setup) => return Effect::Setup(self.in_tree(situation.now, policy)),
            Some(EffectName::Agent) => return Effect::Agent(self.agent(situation.now, policy)),
            Some(EffectName::Check) => return Effect::Check(self.in_tree(situation.now, policy)),
            Some(EffectName::Handover) => return self.handover(cut),
            Some(_) | None => {}
        }
        if cut.is_some() {
            return self.handover(cut);
        }
        if progress.agent.is_none() {
            return if policy.setup && progress.setup.is_none() {
                Effect::Setup(self.in_tree(situation.now, policy))
            } else {
                Effect::Agent(self.agent(situation.now, policy))
            };
        }
        // Without time for it, what is done is delivered without a check: the draft says so.
        let in_time = situation.stopping == Stopping::No
            && !self.is_the_last_start(policy)
            && self.time_left(situation.now, policy).ms > 0;
        if policy.check && progress.check.is_none() && in_time {
            return Effect::Check(self.in_tree(situation.now, policy));
        }
        if progress.to_be_mended().is_some() && in_time && self.used_up(situation.now, policy).is_none() {
            return Effect::Agent(self.agent(situation.now, policy));
        }
        self.handover(None)
    }

    fn agent(&self, now: Millis, policy: &Policy) -> AgentRun {
        let effort = self.run.tally(EffectName::Agent).effort;
        let progress = self.progress;
        let task_id = self.run.assignment.as_ref().map(|assignment| &assignment.task_id);
        AgentRun {
            task: Arc::clone(self.task),
            token: self.token.clone(),
            checkout: self.checkout.clone(),
            anew: progress.anew,
            session: task_id
                .filter(|_| policy.agent_sessions)
                .map(|task| SessionId::of(task, progress.anew)),
            tree: if progress.setup.is_some() {
                Tree::Prepared
            } else {
                Tree::Bare
            },
            repair: progress.to_be_mended().cloned(),
            time_left: self.time_left(now, policy),
            turns_left: policy
                .agent_max_turns
                .saturating_sub(effort.turns.unwrap_or_default())
                .max(1),
            spent_micro_usd: effort.spent_micro_usd(),
        }
    }

    fn in_tree(&self, now: Millis, policy: &Policy) -> InTree {
        InTree {
            checkout: self.checkout.clone(),
            anew: self.progress.anew,
            time_left: self.time_left(now, policy),
        }
    }

    fn handover(&self, cut: Option<Cut>) -> Effect {
        let tally = self.run.tally(EffectName::Handover);
        // Only a runner that was told to stop hands over what an agent left that could have gone on.
        let told = || Cut {
            failure: Failure::Interrupted,
            cause: "An earlier start was told to stop while the agent ran.".to_owned(),
        };
        let cut = cut.or_else(|| self.progress.agent.is_none().then(told));
        Effect::Handover {
            task: Arc::clone(self.task),
            checkout: self.checkout.clone(),
            agent: self.progress.agent.clone().unwrap_or_default(),
            cut,
            at: if tally.attempts == 0 {
                self.run.since
            } else {
                tally.first_at
            },
        }
    }

    /// The nearest of the bounds. A path of this machine is pushed to without a token.
    fn time_left(&self, now: Millis, policy: &Policy) -> TimeLeft {
        let ran = self.run.tally(EffectName::Agent).effort.ran_ms;
        let of_agent = (Bound::AgentTimeout, policy.agent_timeout_ms - ran);
        let of_task = policy.task_timeout_ms.map(|timeout| {
            let reserve = RESERVE_MS.min(timeout / 4);
            let passed = since(now, self.run.assigned_at);
            (Bound::TaskTimeout, timeout - reserve - passed)
        });
        let of_token = matches!(self.task.repo, RepoUrl::Http(_)).then(|| {
            let left = self.token.expires_at_ms.saturating_sub(now).saturating_sub(RESERVE_MS);
            (Bound::TokenExpiry, left)
        });
        let (bound, ms) =
            [of_task, of_token].into_iter().flatten().fold(
                of_agent,
                |nearest, other| if other.1 < nearest.1 { other } else { nearest },
            );
        TimeLeft { ms: ms.max(0), bound }
    }
}
