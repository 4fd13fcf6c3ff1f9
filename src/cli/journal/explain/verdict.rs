//! How it ended, or how far it has come, in one sentence or two.

use super::facts::{Facts, capital, full, noun};
use crate::cli::journal::story::Left;
use crate::machine::{Ack, State, Verdict, VerdictKind};

pub(super) fn sentence(facts: &Facts<'_>) -> String {
    let said = if facts.run.assignment.is_none() {
        unassigned(facts)
    } else {
        match facts.verdict() {
            Some(verdict) => ended(facts, verdict),
            None => unfinished(facts),
        }
    };
    match (&facts.findings.newer, facts.findings.problems.len()) {
        (Some(_), _) => {
            format!("This journal is of a newer program, and is told as far as this one understands it. {said}")
        }
        (None, 0) => said,
        (None, _) => format!("This journal is damaged, and is told only as far as its rows hold together. {said}"),
    }
}

fn unassigned(facts: &Facts<'_>) -> String {
    match (facts.rows, facts.run.boot.number) {
        (0, _) => "Nothing was written: no row of this journal can be read.".to_owned(),
        (_, 0) => "Nothing can be told of a task.".to_owned(),
        (_, _) => "No task was assigned to this runner.".to_owned(),
    }
}

fn ended(facts: &Facts<'_>, verdict: &Verdict) -> String {
    let task = facts.task();
    let message = full(&facts.quote(&verdict.message, 2_000));
    let said = match (verdict.kind, verdict.reason) {
        (VerdictKind::Completed, _) => format!("{task} is done. {message}"),
        (VerdictKind::Failed, Some(reason)) => format!("{task} failed ({reason}). {message}"),
        (VerdictKind::Failed, None) => format!("{task} failed. {message}"),
        (VerdictKind::Superseded, _) => {
            format!("{task} was ended elsewhere while this runner had it, so nothing was reported.")
        }
    };
    match (verdict.kind, acknowledged(facts)) {
        (VerdictKind::Superseded, _) => said,
        (VerdictKind::Completed | VerdictKind::Failed, how) => format!("{said} {how}"),
    }
}

fn acknowledged(facts: &Facts<'_>) -> &'static str {
    match facts.run.acknowledged.map(|(ack, _)| ack) {
        Some(Ack::Accepted) => "The task API knows.",
        Some(Ack::AlreadyNotified) => "The task API knows: it had heard of it before.",
        Some(Ack::CallbackPending) => "The task API knows, and will pass it on later.",
        Some(Ack::TakenAsClaimed) => {
            "The task API kept answering that the task is claimed already, which was taken for an acknowledgement: \
             it may not know."
        }
        Some(Ack::NobodyLeft) => "The task API does not know the task any more (404), so nobody could be told.",
        Some(Ack::EndedElsewhere) => "The task had been ended elsewhere (410), so nobody could be told.",
        None if facts.story.left == Some(Left::Undelivered) => {
            "The task API does not know it: it could not be reached, and the next start tells it."
        }
        None => "The task API has not acknowledged it.",
    }
}

fn unfinished(facts: &Facts<'_>) -> String {
    let task = facts.task();
    let reached = match facts.reached() {
        None | Some(State::Assigned) => "it is assigned, and nothing more is done",
        Some(State::Started) if facts.story.untold => "it has begun, and the task API was not told so",
        Some(State::Started) => "the task API was told that it has begun",
        Some(State::DataFetched { .. }) => "the task was fetched",
        Some(State::TokenIssued { .. }) => "the task was fetched and the token is there",
        Some(State::Cloned { progress, .. }) if progress.agent.is_some() => {
            "the agent has ended, and what it did is not taken over"
        }
        Some(State::Cloned { .. }) => "the repository is cloned, and the agent has not come to an end",
        Some(State::AgentRan(_)) => "the agent's work is taken over, and not pushed",
        Some(State::Pushed(_)) => "the branch is pushed, and nothing is reported",
        Some(State::PrOpened { .. }) => "the pull request is open, and nothing is reported",
        Some(State::Reported) => "it is over",
    };
    let now = match (facts.story.left, facts.run.open) {
        (Some(Left::Parked), _) => " The runner was told to stop, and left it to the next start.".to_owned(),
        (Some(Left::Undelivered), _) => " The runner left it to the next start.".to_owned(),
        (None, Some(open)) => {
            let attempt = match open.number {
                1 => String::new(),
                more => format!(", in attempt {more},"),
            };
            format!(
                " {}{attempt} is under way, or was cut off: the journal has its beginning, and not its end.",
                capital(noun(open.effect))
            )
        }
        (None, None) => String::new(),
    };
    format!("{task} is not finished: {reached}.{now}")
}
