//! What the rows tell that the state at their end does not hold any more: the work, the starts, what went wrong between.

use std::collections::BTreeMap;

use runner_journal::{Entry, Finding, Row};
use serde::Deserialize;

use crate::machine::{EffectName, Millis, MissingPart, Note, Run, State};

/// What the rows tell that the state at their end does not hold any more. Grows with effects, not with rows.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// When the first row was written; none where there is none.
    pub(super) first_at: Option<Millis>,
    /// When the last row was.
    pub(super) last_at: Millis,
    /// How the starts of the runner ended that were followed by another one.
    pub(super) starts: Starts,
    /// How the present start said good-bye, where it has.
    pub(super) left: Option<Left>,
    /// How many processes were killed for want of memory while the agent ran.
    pub(super) killed_for_memory: u64,
    /// MCP servers of plugins that the agent had to do without.
    pub(super) missing_parts: Vec<MissingPart>,
    /// What confined the agent last: the setting, and the rights in force.
    pub(super) sandbox: Option<(String, Vec<String>)>,
    /// The program that wrote the last start.
    pub(super) version: Option<String>,
    /// The state that the verdict was frozen in, which `Reported` forgets.
    concluded_in: Option<State>,
    /// The effect of which nobody could find out in time what came of it. Its intent is closed by that.
    pub(super) unknown: Option<EffectName>,
    /// Whether the task has begun without the task API being told.
    pub(super) untold: bool,
    /// The last outcome of an effect that came to nothing: of which attempt, and as it stands in its row.
    misses: BTreeMap<String, (u32, String)>,
}

/// How starts of the runner ended, each counted where the next one begins.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Starts {
    /// Without a word, by the effect that was open, none where none was.
    pub(super) crashed: BTreeMap<Option<EffectName>, u32>,
    /// Told to stop, and the task left to the next one.
    pub(super) parked: u32,
    /// The API could not be reached, and the report left to the next one.
    pub(super) undelivered: u32,
}

/// How a start leaves a task to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// It was told to stop.
    Parked,
    /// The report could not be delivered.
    Undelivered,
}

impl Story {
    /// Sees a row before the machine takes it.
    pub(super) fn before(&mut self, row: &Row, run: &Run) {
        if let Entry::Verdict { .. } = row.entry {
            self.concluded_in.clone_from(&run.state);
        }
    }

    /// Sees a row that the machine took.
    pub(super) fn after(&mut self, row: &Row, run: &Run) {
        self.first_at.get_or_insert(row.at_ms);
        self.last_at = row.at_ms;
        match &row.entry {
            Entry::Boot { body } => {
                self.end_of_a_start(run);
                self.version = body.as_deref().and_then(version);
            }
            Entry::Outcome {
                effect,
                finding: Finding::Unknown,
                ..
            } => self.unknown = effect.parse().ok(),
            Entry::Outcome {
                effect,
                attempt,
                finding: Finding::NotDone,
                body: Some(body),
            } => match self.misses.get_mut(effect) {
                Some((last, said)) => {
                    *last = *attempt;
                    said.clone_from(body);
                }
                None => {
                    self.misses.insert(effect.clone(), (*attempt, body.clone()));
                }
            },
            Entry::Outcome {
                effect,
                finding: Finding::Done,
                body: Some(body),
                ..
            } if effect == <&str>::from(EffectName::Start) => self.untold = is_untold(body),
            Entry::Note { body } => match serde_json::from_str(body) {
                Ok(Note::Parked) => self.left = Some(Left::Parked),
                Ok(Note::Undelivered) => self.left = Some(Left::Undelivered),
                Ok(Note::OutOfMemory { killed }) => self.killed_for_memory += killed,
                Ok(Note::Sandbox { mode, rights }) => self.sandbox = Some((mode, rights)),
                Ok(Note::PluginMissing(server)) if !self.missing_parts.contains(&server) => {
                    self.missing_parts.push(server);
                }
                Ok(Note::PluginMissing(_) | Note::AnswerLost { .. }) | Err(_) => {}
            },
            Entry::Enter { .. }
            | Entry::Intent { .. }
            | Entry::Probe { .. }
            | Entry::Outcome { .. }
            | Entry::Verdict { .. }
            | Entry::Ack { .. } => {}
        }
    }

    /// A start begins: how did the one before it end?
    fn end_of_a_start(&mut self, run: &Run) {
        let left = self.left.take();
        // One that had no task, or whose task was over, has nothing that it could have left.
        if run.boot.number <= 1 || run.assignment.is_none() || matches!(run.state, Some(State::Reported)) {
            return;
        }
        match left {
            Some(Left::Parked) => self.starts.parked += 1,
            Some(Left::Undelivered) => self.starts.undelivered += 1,
            None => *self.starts.crashed.entry(run.open.map(|open| open.effect)).or_default() += 1,
        }
    }

    /// The last state that holds what was done.
    pub(super) fn reached<'a>(&'a self, run: &'a Run) -> Option<&'a State> {
        self.concluded_in.as_ref().or(run.state.as_ref())
    }

    /// What was said of the last attempt of an effect that came to nothing and was to be tried again.
    pub(super) fn last_miss(&self, effect: EffectName) -> Option<String> {
        match self.miss(effect)? {
            (_, Miss::Retry { cause }) => Some(cause).filter(|cause| !cause.is_empty()),
            (_, Miss::Failed | Miss::Superseded | Miss::Parked | Miss::Other) => None,
        }
    }

    /// What an attempt came to that came to nothing; none where no row says it.
    pub(super) fn miss_of(&self, effect: EffectName, attempt: u32) -> Option<Miss> {
        let (of, miss) = self.miss(effect)?;
        (of == attempt).then_some(miss)
    }

    fn miss(&self, effect: EffectName) -> Option<(u32, Miss)> {
        let (attempt, body) = self.misses.get(<&str>::from(effect))?;
        Some((*attempt, serde_json::from_str(body).ok()?))
    }
}

/// What an attempt that came to nothing came to, as its row has it.
#[derive(Debug, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(super) enum Miss {
    /// It is tried again.
    Retry {
        /// Why it came to nothing.
        cause: String,
    },
    /// The task failed for it.
    Failed,
    /// The task was ended elsewhere.
    Superseded,
    /// It was stopped, for a later start to go on.
    Parked,
    /// Something else.
    #[serde(other)]
    Other,
}

fn is_untold(body: &str) -> bool {
    #[derive(Deserialize)]
    struct Body {
        fact: Started,
    }
    #[derive(Deserialize)]
    struct Started {
        told: bool,
    }
    serde_json::from_str::<Body>(body).is_ok_and(|body| !body.fact.told)
}

fn version(body: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        version: String,
    }
    serde_json::from_str::<Body>(body).ok().map(|body| body.version)
}
