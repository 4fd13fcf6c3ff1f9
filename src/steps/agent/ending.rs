//! What an agent's end makes of its attempt.

use std::time::Duration;

use super::bill::Bill;
use super::{io_failure, no_room};
use crate::adapters::agent::{
    AgentEnd, AgentReport as Said, AgentTrouble, Bounds, EndedBy, Judgement, MicroUsd, RunError, Unkept,
};
use crate::cgroup::Use;
use crate::machine::{AgentReport, AgentRun, Fact, Failure, Left, Next, OnTerm, Outcome, Trouble};
use crate::process::{Ended, Exit, LaunchError, StartFailure, Stopped};
use crate::steps::{bounded, failed};
use crate::text::cut;

/// What the agent said last is kept in a row, which is bounded: this many bytes of it, escapes and all.
const SUMMARY_LIMIT: usize = 6 * 1024;
/// What Claude Code says of a conversation that it cannot find.
const UNKNOWN_CONVERSATION: &str = "No conversation found";
const SIGKILL: i32 = 9;
/// What a shell says of a program that SIGKILL ended.
const SIGKILL_BELOW: i32 = 128 + SIGKILL;

/// Why an agent is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The runner was told to stop.
    Told,
    /// It asked for more than it may spend.
    Budget,
    /// The task was ended elsewhere.
    EndedElsewhere,
    /// There is next to no memory left.
    Memory(Use),
}

/// An attempt that is over, and what it was held to.
pub(super) struct Attempt<'a> {
    pub(super) end: &'a AgentEnd<Why>,
    pub(super) run: &'a AgentRun,
    pub(super) bounds: Bounds,
    pub(super) bill: &'a Bill,
    /// Whether the agent asked for more than it may spend.
    pub(super) refused_for_budget: bool,
    /// How many processes in the container the kernel killed meanwhile for want of memory.
    pub(super) killed: u64,
    /// Whether it went on in its conversation.
    pub(super) resumed: bool,
    /// Where the next one begins, where this one came to no end.
    pub(super) next: Next,
    /// Over all attempts.
    pub(super) budget: MicroUsd,
    pub(super) on_term: OnTerm,
}

/// What a run that has no end to judge means. What it took is known by its bill and by how long it was waited for.
pub(super) fn not_run(error: &RunError, bill: &Bill, ran: Duration, next: Next) -> Outcome {
    match error {
        RunError::Transcript(Unkept { path, source }) => io_failure(path, source),
        RunError::Launch(LaunchError::NoRoom { .. }) => failed(Failure::DiskFull, error.to_string()),
        // It may have begun before its supervisor was lost.
        RunError::Launch(_) | RunError::TranscriptExists { .. } => Outcome::Retry {
            trouble: Trouble::NoResult,
            cause: bounded(format!("the agent could not be started, or was lost: {error}")),
            after_ms: None,
            left: Left {
                effort: bill.effort(&Said::default(), ran),
                next,
            },
        },
    }
}

/// What an end means, by what ended it.
pub(super) fn outcome(attempt: &Attempt<'_>) -> Outcome {
    let Attempt { end, bill, .. } = attempt;
    // What is done is done, whatever ended it, but for a task that is nobody's any more.
    if let Judgement::Succeeded(_) = end.judgement
        && end.by != EndedBy::Stop(Why::EndedElsewhere)
    {
        return judged(&end.judgement, &end.ended, bill, attempt.next);
    }
    // A terminal's Ctrl-C reaches the supervisor as well as the runner, and may reach it first.
    let told = end.ended.stopped == Stopped::Asked && end.by == EndedBy::Itself;
    match end.by {
        EndedBy::Itself if told => match &end.unkept {
            Some(unkept) => stopped(
                attempt,
                no_room(&unkept.source),
                format!("It was stopped, because what it says could not be kept: {unkept}."),
            ),
            None => interrupted(attempt),
        },
        EndedBy::Stop(Why::EndedElsewhere) => Outcome::Superseded,
        EndedBy::Stop(Why::Told) => interrupted(attempt),
        EndedBy::Stop(Why::Memory(used)) => stopped(
            attempt,
            Failure::AgentOutOfMemory,
            format!("{used} of memory were in use, and it was stopped before the container would have been killed."),
        ),
        EndedBy::TimeOut => stopped(
            attempt,
            Failure::AgentTimedOut,
            format!(
                "It was stopped after {} s by {}.",
                attempt.bounds.timeout.as_secs(),
                attempt.run.time_left.bound.sentence()
            ),
        ),
        // Refused, it may have gone by itself before it was stopped.
        EndedBy::Stop(Why::Budget) => out_of_budget(attempt),
        EndedBy::Itself | EndedBy::Idle | EndedBy::LingeredAfterResult if attempt.refused_for_budget => {
            out_of_budget(attempt)
        }
        EndedBy::Itself if was_killed_for_memory(attempt) => stopped(
            attempt,
            Failure::AgentOutOfMemory,
            format!(
                "It ended with {} when memory ran out: {}.",
                end.ended.exit,
                killed(attempt.killed)
            ),
        ),
        EndedBy::Idle => stopped(
            attempt,
            Failure::AgentIdle,
            format!(
                "It was silent for {} s (RUNNER_AGENT_IDLE_TIMEOUT), and was stopped.",
                attempt.bounds.idle.unwrap_or_default().as_secs()
            ),
        ),
        EndedBy::Itself | EndedBy::LingeredAfterResult if cannot_go_on(attempt) => Outcome::Retry {
            trouble: Trouble::NothingToGoOnIn,
            cause: bounded(format!("the agent begins anew: it said {:?}", end.stderr.trim())),
            after_ms: None,
            left: Left {
                effort: bill.effort(end.judgement.report(), end.ended.ran),
                next: Next::BeginAnew,
            },
        },
        EndedBy::Itself | EndedBy::LingeredAfterResult => {
            let mut outcome = judged(&end.judgement, &end.ended, bill, attempt.next);
            if let Outcome::Failed { cause, .. } | Outcome::Retry { cause, .. } = &mut outcome
                && attempt.killed > 0
            {
                *cause = bounded(format!("{cause} (for want of memory, {})", killed(attempt.killed)));
            }
            outcome
        }
    }
}

/// Whether its first process, or the program that this one was for, was killed by nobody but the kernel.
fn was_killed_for_memory(attempt: &Attempt<'_>) -> bool {
    attempt.killed > 0
        && attempt.end.ended.stopped == Stopped::No
        && matches!(
            attempt.end.ended.exit,
            Exit::Signal(SIGKILL) | Exit::Code(SIGKILL_BELOW)
        )
}

fn killed(processes: u64) -> String {
    match processes {
        1 => "the kernel killed a process".to_owned(),
        more => format!("the kernel killed {more} processes"),
    }
}

/// Whether it said that it does not know the conversation in which it was to go on.
fn cannot_go_on(attempt: &Attempt<'_>) -> bool {
    let said = match &attempt.end.judgement {
        Judgement::Succeeded(_) => "",
        Judgement::Failed { message, .. } => message,
        Judgement::NoResult { stderr, .. } => stderr,
    };
    attempt.resumed && said.contains(UNKNOWN_CONVERSATION)
}

fn stopped(attempt: &Attempt<'_>, failure: Failure, cause: String) -> Outcome {
    let Attempt { end, bill, .. } = attempt;
    Outcome::Failed {
        failure,
        cause: bounded(cause),
        agent: Some(reported(end.judgement.report(), &end.ended, bill)),
    }
}

fn out_of_budget(attempt: &Attempt<'_>) -> Outcome {
    let spent = attempt.bill.in_all(attempt.end.judgement.report());
    let budget = attempt.budget;
    stopped(
        attempt,
        Failure::AgentBudgetExceeded,
        format!("It asked for more after it had spent ${spent} of ${budget}, and was stopped."),
    )
}

fn interrupted(attempt: &Attempt<'_>) -> Outcome {
    let Attempt { end, bill, .. } = attempt;
    match attempt.on_term {
        OnTerm::Park => Outcome::Parked(Left {
            effort: bill.effort(end.judgement.report(), end.ended.ran),
            next: attempt.next,
        }),
        OnTerm::Report => stopped(
            attempt,
            Failure::Interrupted,
            "It was told to stop while the agent ran.".to_owned(),
        ),
    }
}

/// What a judgement means, where nothing but the agent itself ended it.
pub(super) fn judged(judgement: &Judgement, ended: &Ended, bill: &Bill, next: Next) -> Outcome {
    match judgement {
        Judgement::Succeeded(said) => Outcome::Done {
            fact: Fact::AgentEnded(reported(said, ended, bill)),
        },
        Judgement::Failed {
            trouble,
            message,
            report,
        } => Outcome::Failed {
            failure: failure(*trouble, ended),
            cause: bounded(message),
            // One that was never started has left nothing.
            agent: ended.failure.is_none().then(|| reported(report, ended, bill)),
        },
        Judgement::NoResult { exit, stderr, report } => Outcome::Retry {
            trouble: Trouble::NoResult,
            cause: bounded(format!("the agent ended with {exit} and no result: {}", stderr.trim())),
            after_ms: None,
            left: Left {
                effort: bill.effort(report, ended.ran),
                next,
            },
        },
    }
}

fn failure(trouble: AgentTrouble, ended: &Ended) -> Failure {
    match trouble {
        AgentTrouble::TurnsExceeded => Failure::AgentTurnsExceeded,
        AgentTrouble::BudgetExceeded => Failure::AgentBudgetExceeded,
        AgentTrouble::Missing => Failure::AgentMissing,
        AgentTrouble::NotStarted => match ended.failure {
            Some(StartFailure::Sandbox { .. }) => Failure::SandboxUnavailable,
            Some(_) | None => Failure::AgentMissing,
        },
        AgentTrouble::Failed | AgentTrouble::NotLoggedIn | AgentTrouble::Api { .. } | AgentTrouble::Interrupted => {
            Failure::AgentFailed
        }
    }
}

fn reported(said: &Said, ended: &Ended, bill: &Bill) -> AgentReport {
    let ran: Duration = ended.ran;
    AgentReport {
        summary: said.summary.as_deref().map(|text| cut(text, SUMMARY_LIMIT)),
        session_id: said.session_id.as_deref().map(|id| cut(id, 200)),
        model: said.model.as_deref().map(|name| cut(name, 200)),
        missing_parts: Vec::new(),
        effort: bill.effort(said, ran),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::model::Spent;
    use crate::process::LaunchError;

    #[test]
    fn an_agent_that_was_lost_has_taken_what_was_counted_and_the_time_that_it_had() {
        let spent = Spent {
            requests: 3,
            cost_micro_usd: MicroUsd::from_micros(1_500_000),
            ..Spent::default()
        };
        let bill = Bill::counted(spent);
        let lost = RunError::Launch(LaunchError::SupervisorLost {
            status: "signal 9".to_owned(),
        });
        let outcome = not_run(&lost, &bill, Duration::from_secs(90), Next::GoOn);
        let Outcome::Retry { left, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(
            (left.effort.ran_ms, left.effort.cost_micro_usd),
            (90_000, Some(1_500_000))
        );
    }
}
