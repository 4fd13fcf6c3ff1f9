//! What happened, in order.

use std::fmt::Write as _;

use strum::IntoEnumIterator;

use super::facts::{Facts, doing, full, noun, times};
use crate::cli::journal::story::Miss;
use crate::machine::{CommandEnd, CommandRun, EffectName, State, Work};
use crate::telemetry::rfc3339;
use crate::text::count;

pub(super) fn sentences(facts: &Facts<'_>) -> Vec<String> {
    [
        assigned(facts),
        asked(facts),
        cloned(facts),
        set_up(facts),
        agent(facts),
        said(facts),
        checked(facts),
        changed(facts),
        retries(facts),
        starts(facts),
        memory(facts),
        plugins(facts),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn assigned(facts: &Facts<'_>) -> Option<String> {
    match &facts.run.assignment {
        Some(assignment) => Some(format!(
            "It was assigned at {} by way of the task API at {}.",
            rfc3339(facts.run.assigned_at),
            facts.quote(assignment.api_url.as_str(), 200)
        )),
        None => facts
            .story
            .first_at
            .map(|at| format!("The runner started at {} and waited for one.", rfc3339(at))),
    }
}

fn asked(facts: &Facts<'_>) -> Option<String> {
    let task = facts.data()?;
    let repository = facts.repository()?;
    let from = task
        .git_ref
        .as_ref()
        .map(|from| format!(" at {}", facts.quote(&from.to_string(), 100)));
    Some(format!(
        "It asks for \"{}\" in {repository}{}.",
        facts.quote(&task.title(), 80),
        from.unwrap_or_default()
    ))
}

fn cloned(facts: &Facts<'_>) -> Option<String> {
    let checkout = match facts.reached()? {
        State::Cloned { checkout, .. } => checkout,
        State::AgentRan(work) | State::Pushed(work) | State::PrOpened { work, .. } => &work.checkout,
        State::Assigned | State::Started | State::DataFetched { .. } | State::TokenIssued { .. } | State::Reported => {
            return None;
        }
    };
    Some(format!(
        "The repository was cloned, and the work began at commit {:.12} of {}.",
        checkout.base.as_str(),
        facts.quote(&checkout.base_branch.to_string(), 100)
    ))
}

fn set_up(facts: &Facts<'_>) -> Option<String> {
    let State::Cloned { progress, .. } = facts.reached()? else {
        return None;
    };
    let setup = progress.setup.as_ref()?;
    Some(format!("The set-up command ended with {}.", setup.end))
}

fn agent(facts: &Facts<'_>) -> Option<String> {
    let starts = facts.agent_starts();
    if starts == 0 {
        return None;
    }
    let often = times(starts);
    let miss = facts.story.miss_of(EffectName::Agent, starts);
    let end = match facts.reached()? {
        state if state.cut().is_some() => {
            let cause = state.cut().map(|cut| facts.quote(&cut.cause, 400)).unwrap_or_default();
            format!("was cut short: {}", full(&cause))
        }
        state if state.agent().is_some() => "came to its own end.".to_owned(),
        _ => match miss {
            // One that ran and failed is cut short: this one never ran.
            Some(Miss::Failed) => return Some("The agent could not be started.".to_owned()),
            Some(Miss::Superseded) => "was stopped, since the task had been ended elsewhere.".to_owned(),
            Some(Miss::Parked) => "was stopped, for a later start of the runner to go on.".to_owned(),
            Some(Miss::Retry { .. }) => "ended without a result.".to_owned(),
            Some(Miss::Other) | None => "came to no end that was written down.".to_owned(),
        },
    };
    Some(format!("The agent was started {often}, and {end}"))
}

fn said(facts: &Facts<'_>) -> Option<String> {
    let summary = facts.reached()?.agent()?.summary.as_deref()?;
    let summary = facts.quote(summary, 300);
    (!summary.is_empty()).then(|| format!("Its last words: \"{summary}\""))
}

fn checked(facts: &Facts<'_>) -> Option<String> {
    let (check, mended) = match facts.reached()? {
        State::Cloned { progress, .. } => (progress.check.as_ref()?, progress.first_check.is_some()),
        State::AgentRan(work) | State::Pushed(work) | State::PrOpened { work, .. } => {
            (work.check.as_ref()?, facts.run.tally(EffectName::Check).attempts > 1)
        }
        State::Assigned | State::Started | State::DataFetched { .. } | State::TokenIssued { .. } | State::Reported => {
            return None;
        }
    };
    let mended = if mended { ", run more than once," } else { "" };
    Some(format!("The check{mended} {}.", result(check)))
}

fn result(check: &CommandRun) -> String {
    match check.end {
        CommandEnd::Exit(0) => "passed".to_owned(),
        CommandEnd::Exit(_) | CommandEnd::Signal(_) | CommandEnd::TimedOut => format!("is red ({})", check.end),
        CommandEnd::Interrupted | CommandEnd::NotStarted => format!("could not be run ({})", check.end),
    }
}

fn changed(facts: &Facts<'_>) -> Option<String> {
    let Work { handover, .. } = facts.work()?;
    Some(match &handover.head {
        Some(head) => {
            let flattened = handover.flattened.as_deref().map(|why| {
                format!(
                    " The agent's own commits were put together as one: {}",
                    full(&facts.quote(why, 200))
                )
            });
            format!(
                "What it changed is {} in {}, up to commit {:.12}.{}",
                count(handover.files, "file"),
                count(handover.commits, "commit"),
                head.as_str(),
                flattened.unwrap_or_default()
            )
        }
        None => "It changed nothing.".to_owned(),
    })
}

/// What had to be done more than once, and why the last time.
fn retries(facts: &Facts<'_>) -> Option<String> {
    let tried: Vec<String> = EffectName::iter()
        // How often the agent was started is said where the agent is, and the check is run once more where it is red.
        .filter(|effect| !matches!(effect, EffectName::Agent | EffectName::Check))
        .filter_map(|effect| {
            let attempts = facts.run.tally(effect).attempts;
            (attempts > 1).then(|| {
                let why = facts.story.last_miss(effect).map(|why| facts.quote(&why, 160));
                let why = why.map(|why| format!(" (last: {why})")).unwrap_or_default();
                format!("{} {}{why}", noun(effect), times(attempts))
            })
        })
        .collect();
    let mut text = (!tried.is_empty()).then(|| format!("Tried more than once: {}.", tried.join("; ")));
    if let Some(why) = facts.story.last_miss(EffectName::Agent) {
        let why = full(&facts.quote(&why, 160));
        let text = text.get_or_insert_default();
        if !text.is_empty() {
            text.push(' ');
        }
        let _ = write!(
            text,
            "Of a start of the agent that came to nothing it is written: {why}"
        );
    }
    text
}

/// How often the runner was started, and why it had to be.
fn starts(facts: &Facts<'_>) -> Option<String> {
    let starts = facts.run.boot.number;
    if starts <= 1 {
        return None;
    }
    let ended = &facts.story.starts;
    let mut text = format!("The runner was started {}.", times(starts));
    let crashed: Vec<String> = ended
        .crashed
        .iter()
        .map(|(open, number)| match open {
            Some(effect) => format!("{} while {}", times(*number), doing(*effect)),
            None => format!("{} between two steps", times(*number)),
        })
        .collect();
    if !crashed.is_empty() {
        let _ = write!(
            text,
            " It ended without a word, as when it is killed, {}.",
            crashed.join(" and ")
        );
    }
    if ended.parked > 0 {
        let often = times(ended.parked);
        let _ = write!(
            text,
            " It was told to stop {often}, and left the task to the next start."
        );
    }
    if ended.undelivered > 0 {
        let often = times(ended.undelivered);
        let _ = write!(
            text,
            " It could not deliver its report {often}, and left that to the next start."
        );
    }
    Some(text)
}

/// What the agent had to do without.
fn plugins(facts: &Facts<'_>) -> Option<String> {
    let missing = facts.story.missing_parts.iter();
    let named: Vec<String> = missing.map(|part| part.named(|text| facts.quote(text, 64))).collect();
    (!named.is_empty()).then(|| format!("The agent worked without {}.", named.join(" and ")))
}

fn memory(facts: &Facts<'_>) -> Option<String> {
    let killed = facts.story.killed_for_memory;
    (killed > 0).then(|| {
        let processes = if killed == 1 { "process" } else { "processes" };
        format!("While the agent ran, the kernel killed {killed} {processes} of this container for want of memory.")
    })
}
