//! What the sentences are made from.

use crate::cli::journal::bodies::Bodies;
use crate::cli::journal::findings::Findings;
use crate::cli::journal::story::Story;
use crate::cli::journal::words::one_line;
use crate::machine::{EffectName, Effort, Run, State, Verdict, Work};
use crate::task::Task;

/// A history, and what was read beside it.
pub(super) struct Facts<'a> {
    pub(super) run: &'a Run,
    pub(super) story: &'a Story,
    /// How many rows verify.
    pub(super) rows: u64,
    pub(super) findings: Findings,
    pub(super) bodies: &'a Bodies,
}

impl<'a> Facts<'a> {
    /// Others' words for a person: redacted, in one line, without anything that a terminal obeys.
    pub(super) fn quote(&self, text: &str, width: usize) -> String {
        let text = self.bodies.show(text);
        one_line(&text.split_whitespace().collect::<Vec<_>>().join(" "), width)
    }

    /// The task's id, or what stands for one.
    pub(super) fn task(&self) -> String {
        match &self.run.assignment {
            Some(assignment) => format!("Task {}", assignment.task_id),
            None => "No task".to_owned(),
        }
    }

    pub(super) fn verdict(&self) -> Option<&'a Verdict> {
        self.run.verdict.as_deref()
    }

    /// The last state that holds what was done.
    pub(super) fn reached(&self) -> Option<&'a State> {
        self.story.reached(self.run)
    }

    pub(super) fn data(&self) -> Option<&'a Task> {
        self.reached().and_then(State::task).map(AsRef::as_ref)
    }

    /// The repository, as the task names it.
    pub(super) fn repository(&self) -> Option<String> {
        Some(self.quote(&self.data()?.repo.to_string(), 200))
    }

    pub(super) fn work(&self) -> Option<&'a Work> {
        match self.reached()? {
            State::AgentRan(work) | State::Pushed(work) | State::PrOpened { work, .. } => Some(work),
            State::Assigned
            | State::Started
            | State::DataFetched { .. }
            | State::TokenIssued { .. }
            | State::Cloned { .. }
            | State::Reported => None,
        }
    }

    pub(super) fn agent_starts(&self) -> u32 {
        self.run.tally(EffectName::Agent).attempts
    }

    /// What all starts of the agent took.
    pub(super) fn effort(&self) -> Effort {
        self.run.tally(EffectName::Agent).effort
    }

    /// Whether nobody could find out in time what came of an effect.
    pub(super) fn is_unknown(&self, effect: EffectName) -> bool {
        self.story.unknown == Some(effect)
    }

    /// Whether there is something at the remote that the next one to look at it should know of.
    pub(super) fn is_pushed(&self) -> bool {
        self.reached().is_some_and(|state| state.pushed().is_some())
    }
}

/// `once`, `twice`, `3 times`.
pub(super) fn times(number: u32) -> String {
    match number {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    }
}

/// An effect as something that is under way: it follows "while".
pub(super) fn doing(effect: EffectName) -> &'static str {
    match effect {
        EffectName::Start => "it told the task API that the task had begun",
        EffectName::Data => "it fetched the task",
        EffectName::Token => "it asked for the one-time token",
        EffectName::Clone => "it cloned the repository",
        EffectName::Setup => "the set-up command ran",
        EffectName::Agent => "the agent was at work",
        EffectName::Check => "the check ran",
        EffectName::Handover => "it took over what the agent had changed",
        EffectName::Push => "it pushed the branch",
        EffectName::PullRequest => "it opened the pull request",
        EffectName::Report => "it reported the verdict",
        EffectName::Archive => "it archived the task",
    }
}

/// An effect as a thing.
pub(super) fn noun(effect: EffectName) -> &'static str {
    match effect {
        EffectName::Start => "telling the task API that the task had begun",
        EffectName::Data => "fetching the task",
        EffectName::Token => "asking for the token",
        EffectName::Clone => "the clone",
        EffectName::Setup => "the set-up command",
        EffectName::Agent => "the agent's work",
        EffectName::Check => "the check",
        EffectName::Handover => "taking over the change",
        EffectName::Push => "the push",
        EffectName::PullRequest => "the pull request",
        EffectName::Report => "the report",
        EffectName::Archive => "the archive",
    }
}

/// Whole sentences, with their full stop.
pub(super) fn full(text: &str) -> String {
    let text = text.trim_end();
    if text.ends_with(['.', '!', '?', '…']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

/// With a capital at its beginning.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}
