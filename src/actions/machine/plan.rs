//! What is to be done next: a pure function of the history, the time and the settings.

use super::effect::{Effect, EffectName, runner_name};
use super::event::Left;
use super::state::Run;
use super::verdict::{Ending, VerdictKind};
use crate::machine::{Millis, Stopping, backoff_ms, left_of};

/// The settings that decide what is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long GitHub is waited for, an effect, by one start (`RUNNER_API_PATIENCE`).
    pub patience_ms: Millis,
}

/// What is so now, beside the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// The time.
    pub now: Millis,
    /// Whether the runner was told to stop.
    pub stopping: Stopping,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
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
    /// It did what it was for, and nothing is registered any more.
    Completed,
    /// It failed, and nothing is registered any more.
    Failed,
    /// An earlier start had brought everything to its end.
    NothingToDo,
    /// The rest is the next start's.
    Left(Left),
}

impl Exit {
    /// The process's exit code, by the same table as a task's.
    pub fn code(self) -> u8 {
        match self {
            Self::Completed | Self::NothingToDo => 0,
            Self::Failed => 1,
            Self::Left(_) => 75,
        }
    }
}

/// What is to be done next. Something has to be assigned before.
pub fn plan(run: &Run, situation: Situation, policy: Policy) -> Plan {
    if let Some((verdict, boot)) = &run.verdict {
        let now = *boot == run.boot.number;
        return Plan::Stop(match verdict.kind {
            _ if !now => Exit::NothingToDo,
            VerdictKind::Completed => Exit::Completed,
            VerdictKind::Failed => Exit::Failed,
        });
    }
    if let Some(open) = run.open {
        let effect = the(run, open.effect, open.number);
        return in_time(run, situation, policy, open.effect).unwrap_or(Plan::Probe {
            effect,
            attempt: open.number,
        });
    }
    // A runner that is told to stop, and has no job, has nothing left to do but to go.
    let told = (situation.stopping != Stopping::No).then_some(Ending::Idle);
    let effect = match (run.ending.clone().or(told), &run.registration) {
        (Some(_), _) if run.may_be_registered() => EffectName::Remove,
        (Some(ending), _) => return Plan::Conclude(ending),
        (None, None) => EffectName::Register,
        (None, Some(_)) if run.usable().is_some() => EffectName::Job,
        // Its configuration died with the process that had it, and no job has begun: it is made anew.
        (None, Some(_)) => EffectName::Remove,
    };
    let attempt = run.tally(effect).attempts + 1;
    in_time(run, situation, policy, effect).unwrap_or_else(|| Plan::Do {
        effect: the(run, effect, attempt),
        attempt,
    })
}

/// What is in the way of trying now, if anything: a pause after a miss, or the end of the patience.
fn in_time(run: &Run, situation: Situation, policy: Policy, effect: EffectName) -> Option<Plan> {
    let tally = run.tally(effect);
    if tally.misses == 0 {
        return None;
    }
    let out_of_patience = tally
        .since
        .is_some_and(|since| situation.now - since >= policy.patience_ms);
    // How often the listener is launched is bounded by itself; how often is asked what came of it, is not.
    let launches = effect == EffectName::Job && run.open.is_none();
    if out_of_patience && !launches {
        return Some(Plan::Stop(Exit::Left(Left::Unreachable)));
    }
    let seed = run.assignment.as_ref().map_or("", |assignment| assignment.id.as_str());
    let pause = backoff_ms(tally.misses, &format!("{seed}/{effect}")).max(tally.retry_after_ms.unwrap_or(0));
    let left = left_of(pause, tally.last_at, situation.now);
    (left > 0).then_some(Plan::Wait { for_ms: left })
}

/// An effect, with what the history knows for it.
fn the(run: &Run, effect: EffectName, attempt: u32) -> Effect {
    let (id, name) = match &run.registration {
        Some(registration) => (Some(registration.id), registration.name.clone()),
        None => (None, String::new()),
    };
    match effect {
        EffectName::Register => Effect::Register {
            name: run
                .assignment
                .as_ref()
                .map_or_else(String::new, |assignment| runner_name(assignment, attempt)),
        },
        EffectName::Job => Effect::Job {
            id: id.unwrap_or_default(),
            name,
        },
        EffectName::Remove => Effect::Remove {
            // Looked for once more when nothing else will be registered: the later, the surer.
            names: match (&run.ending, id) {
                (None, Some(_)) => Vec::new(),
                (Some(_), _) | (None, None) => run.suspects.clone(),
            },
            known: id.map(|id| (id, name)),
        },
    }
}
