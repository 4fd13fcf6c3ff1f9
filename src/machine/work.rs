//! The work in the tree, between the clone and the hand-over: set-up, agent, check, and the agent once more.

use serde::{Deserialize, Serialize};

use super::effect::EffectName;
use super::failure::Failure;
use super::state::{AgentReport, Millis};
use crate::text::cut;

/// What the agent said first, and what it said of its mending, together: in bytes.
const SUMMARY_LIMIT: usize = 8 * 1024;

/// What a start of the agent took, or all of them together. What nobody counted is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effort {
    /// How long its processes ran.
    #[serde(default)]
    pub ran_ms: Millis,
    /// Millionths of a US dollar: as the runner counts them where it does, else as the agent does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micro_usd: Option<u64>,
    /// Turns taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<u64>,
    /// Tokens read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Tokens written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
}

impl Effort {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
        Self {
            ran_ms: self.ran_ms.saturating_add(other.ran_ms.max(0)),
            cost_micro_usd: sum(self.cost_micro_usd, other.cost_micro_usd),
            turns: sum(self.turns, other.turns),
            input_tokens: sum(self.input_tokens, other.input_tokens),
            output_tokens: sum(self.output_tokens, other.output_tokens),
        }
    }

    /// What it cost, as far as it is known.
    pub fn spent_micro_usd(&self) -> u64 {
        self.cost_micro_usd.unwrap_or_default()
    }
}

/// Where the next start of the agent begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// In the conversation and the tree as they were left.
    #[default]
    GoOn,
    /// At the base commit, in a new conversation: there is none to go on in.
    BeginAnew,
}

/// What an attempt that came to no end has taken, and what it left to the next one. Of weight for `agent` alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// What it took.
    #[serde(flatten)]
    pub effort: Effort,
    /// Where the next one begins.
    #[serde(default, skip_serializing_if = "is_go_on")]
    pub next: Next,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_go_on(next: &Next) -> bool {
    *next == Next::GoOn
}

/// How a command of the operator's (`RUNNER_SETUP_COMMAND`, `RUNNER_CHECK_COMMAND`) came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(
    test,
    derive(strum::EnumDiscriminants),
    strum_discriminants(name(CommandEndKind), vis(pub(crate)), derive(strum::EnumIter))
)]
pub enum CommandEnd {
    /// It exited with this code.
    Exit(i32),
    /// This signal killed it.
    Signal(i32),
    /// It was stopped, because its time was over.
    TimedOut,
    /// It was stopped, because the runner was.
    Interrupted,
    /// It could not be started.
    NotStarted,
}

impl std::fmt::Display for CommandEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::TimedOut => f.write_str("out of time"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::NotStarted => f.write_str("not started"),
        }
    }
}

/// A run of such a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRun {
    /// How it ended.
    pub end: CommandEnd,
    /// How long it ran.
    pub ran_ms: Millis,
    /// The end of what it printed, bounded.
    pub output: String,
}

impl CommandRun {
    /// Whether it exited with 0.
    pub fn passed(&self) -> bool {
        self.end == CommandEnd::Exit(0)
    }

    /// Whether it came to a result, good or bad.
    pub fn was_run(&self) -> bool {
        match self.end {
            CommandEnd::Exit(_) | CommandEnd::Signal(_) | CommandEnd::TimedOut => true,
            CommandEnd::Interrupted | CommandEnd::NotStarted => false,
        }
    }

    /// Whether it says something that an agent could mend.
    fn may_be_mended(&self) -> bool {
        self.was_run() && !self.passed()
    }
}

/// Why an agent was ended before it had done its work. What it left is saved, and the task fails with this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Why.
    pub failure: Failure,
    /// What exactly happened, for a person.
    pub cause: String,
}

impl Cut {
    /// Why a task fails whose agent was cut short, and of which what was left could not be delivered either.
    pub fn and_not_delivered(&self, failure: Failure, cause: &str) -> (Failure, String) {
        let why = format!(
            "{} What it left was not delivered: {} {cause}",
            self.cause,
            failure.sentence()
        );
        (self.failure, why)
    }
}

/// How far the work in the tree has come.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// How often it was begun anew, from the base commit.
    pub anew: u32,
    /// What the set-up command came to, in the tree as it was laid last.
    pub setup: Option<CommandRun>,
    /// What the agent said at its end, with what all of its starts took.
    pub agent: Option<AgentReport>,
    /// Why the agent did not come to its own end.
    pub cut: Option<Cut>,
    /// What was said of its last start, where that came to no end.
    pub lost: Option<String>,
    /// What the check came to, of the tree as the agent left it last.
    pub check: Option<CommandRun>,
    /// What it had come to before the agent was asked to mend what it found.
    pub first_check: Option<CommandRun>,
}

impl Progress {
    /// The check that the agent is to mend: it is asked once.
    pub fn to_be_mended(&self) -> Option<&CommandRun> {
        let red = self.check.as_ref().filter(|check| check.may_be_mended());
        red.filter(|_| self.first_check.is_none() && self.cut.is_none() && self.agent.is_some())
    }

    /// Whether the history allows an effect. `started` is whether the agent ever was: then there may be work to save.
    pub(super) fn allows(&self, effect: EffectName, started: bool) -> bool {
        match effect {
            EffectName::Setup => self.agent.is_none() && self.setup.is_none(),
            EffectName::Agent => self.agent.is_none() || self.to_be_mended().is_some(),
            EffectName::Check => self.agent.is_some() && self.cut.is_none() && self.check.is_none(),
            EffectName::Handover => self.agent.is_some() || started,
            EffectName::Start
            | EffectName::Data
            | EffectName::Token
            | EffectName::Clone
            | EffectName::Push
            | EffectName::PullRequest
            | EffectName::Report
            | EffectName::Archive => false,
        }
    }

    /// Takes in that there is nothing to go on in.
    pub(super) fn begin_anew(&mut self) {
        *self = Self {
            anew: self.anew + 1,
            ..Self::default()
        };
    }

    /// Takes in an end of the agent: `report` is of this start, `total` what all of them took.
    pub(super) fn agent_ended(&mut self, report: &AgentReport, total: Effort, ended_by: Option<Cut>) {
        let mut whole = AgentReport {
            effort: total,
            ..report.clone()
        };
        if let Some(earlier) = self.agent.take() {
            // It was asked to mend what it had done: what it said of that comes after what it said of the whole.
            whole.summary = match (earlier.summary, whole.summary) {
                (Some(first), Some(then)) => Some(cut(&format!("{first}\n\n{then}"), SUMMARY_LIMIT)),
                (first, then) => first.or(then),
            };
            whole.model = earlier.model.or(whole.model);
            whole.session_id = whole.session_id.or(earlier.session_id);
            let again = std::mem::replace(&mut whole.missing_parts, earlier.missing_parts);
            for server in again {
                if !whole.missing_parts.contains(&server) {
                    whole.missing_parts.push(server);
                }
            }
            self.first_check = self.check.take();
        }
        self.agent = Some(whole);
        self.cut = ended_by;
    }
}
