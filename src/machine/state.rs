//! What is a fact about a task, and what its history adds up to.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumDiscriminants, EnumIter, EnumString, IntoStaticStr};

use super::effect::EffectName;
use super::event::{Ack, Assignment};
use super::verdict::{Ending, Verdict};
use super::work::{CommandRun, Cut, Effort, Progress};
use crate::ids::{BranchName, CommitId, SessionId};
use crate::task::Task;

/// Milliseconds since the Unix epoch, or a span of milliseconds.
pub type Millis = i64;

/// A state is a fact, not an activity (contract, section 3). A variant holds what is known once it is one.
#[derive(Debug, Clone, PartialEq, EnumDiscriminants)]
#[strum_discriminants(
    name(StateName),
    derive(
        Hash,
        PartialOrd,
        Ord,
        Display,
        EnumIter,
        EnumString,
        IntoStaticStr,
        Serialize,
        Deserialize
    ),
    doc = "A state's name: in the journal, the database's edges, `/status`, the metrics and the docs."
)]
pub enum State {
    /// The assignment is journaled.
    Assigned,
    /// The API was told `started`, or would not hear it.
    Started,
    /// The task data is here and valid.
    DataFetched {
        /// What is to be done.
        task: Arc<Task>,
    },
    /// The token is sealed.
    TokenIssued {
        /// What is to be done.
        task: Arc<Task>,
        /// What may be known of the token.
        token: TokenFacts,
    },
    /// The repository is on disk at a known base commit.
    Cloned {
        /// What is to be done.
        task: Arc<Task>,
        /// What may be known of the token.
        token: TokenFacts,
        /// Where the work starts from.
        checkout: Checkout,
        /// How far the work in the tree has come. It is not taken yet.
        progress: Progress,
    },
    /// The agent has ended, and what it changed is in the private repository.
    AgentRan(Work),
    /// The remote branch is at the head.
    Pushed(Work),
    /// A pull request exists.
    PrOpened {
        /// What was done.
        work: Work,
        /// Where it can be seen.
        pull_request: PullRequest,
    },
    /// The one verdict is acknowledged, or there is nobody left to tell.
    Reported,
}

impl StateName {
    /// Every state that may follow this one. The only definition of the edges: the database's table, the diagram and
    /// the transition function's check are derived from it.
    pub fn successors(self) -> &'static [StateName] {
        match self {
            Self::Assigned => &[Self::Started, Self::Reported],
            Self::Started => &[Self::DataFetched, Self::Reported],
            Self::DataFetched => &[Self::TokenIssued, Self::Reported],
            Self::TokenIssued => &[Self::Cloned, Self::Reported],
            Self::Cloned => &[Self::AgentRan, Self::Reported],
            Self::AgentRan => &[Self::Pushed, Self::Reported],
            Self::Pushed => &[Self::PrOpened, Self::Reported],
            Self::PrOpened => &[Self::Reported],
            Self::Reported => &[],
        }
    }

    /// The effects that may be intended in this state: while there is no verdict, and in `Reported` after it.
    pub fn effects(self) -> &'static [EffectName] {
        match self {
            Self::Assigned => &[EffectName::Start],
            Self::Started => &[EffectName::Data],
            Self::DataFetched => &[EffectName::Token],
            Self::TokenIssued => &[EffectName::Clone],
            Self::Cloned => &[
                EffectName::Setup,
                EffectName::Agent,
                EffectName::Check,
                EffectName::Handover,
            ],
            Self::AgentRan => &[EffectName::Push],
            Self::Pushed => &[EffectName::PullRequest],
            Self::PrOpened => &[],
            Self::Reported => &[EffectName::Archive],
        }
    }
}

/// What may be known of the token: never the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenFacts {
    /// The first 8 hexadecimal digits of its SHA-256.
    pub sha256_prefix: String,
    /// When it expires.
    pub expires_at_ms: Millis,
}

/// Where the work starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {
    /// The commit that the agent's branch starts at.
    pub base: CommitId,
    /// The branch that the pull request goes to.
    pub base_branch: BranchName,
    /// The working branch.
    pub branch: BranchName,
}

/// What the agent said of its run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentReport {
    /// Its last words, bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The conversation's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The model it says it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What of the chosen plugins it had to do without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_parts: Vec<MissingPart>,
    /// What it took: in a row this start of the agent, in a state all of them.
    #[serde(flatten)]
    pub effort: Effort,
}

/// A chosen plugin that the agent did not take, or an MCP server of one that did not answer when the agent began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingPart {
    /// The plugin.
    pub plugin: String,
    /// The server, where the plugin as a whole is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// What the agent says of it in a word or two: `failed`, `pending` and the like.
    pub status: String,
}

impl MissingPart {
    /// What is missing, for a sentence. `name` makes a name fit where it stands.
    pub fn named(&self, name: impl Fn(&str) -> String) -> String {
        let (plugin, status) = (name(&self.plugin), name(&self.status));
        match &self.server {
            Some(server) => format!("the MCP server {} of the plugin {plugin} ({status})", name(server)),
            None => format!("the plugin {plugin} ({status})"),
        }
    }
}

/// What was taken from the agent's working tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The commit to push; none where nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<CommitId>,
    /// Commits from the base to the head.
    pub commits: u32,
    /// Files changed, added and removed.
    pub files: u32,
    /// Why the agent's own commits could not be kept, where they could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flattened: Option<String>,
    /// Why the agent did not come to its own end, where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
}

/// Everything that is known once the agent's work is taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// What was to be done.
    pub task: Arc<Task>,
    /// What may be known of the token.
    pub token: TokenFacts,
    /// Where the work started from.
    pub checkout: Checkout,
    /// What the agent said.
    pub agent: AgentReport,
    /// How often it was started.
    pub agent_starts: u32,
    /// What the check came to, where there is one and it was run.
    pub check: Option<CommandRun>,
    /// What it changed.
    pub handover: Handover,
}

/// A pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequest {
    /// Its number.
    pub number: u64,
    /// Where a person reads it.
    pub url: String,
}

/// What was sent away after a task's end, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// A file's path, or the host that took it: an address that takes a file may be a secret.
    pub to: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// What is not in it, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

impl State {
    /// Its name.
    pub fn name(&self) -> StateName {
        self.into()
    }

    /// The task, once it is known.
    pub fn task(&self) -> Option<&Arc<Task>> {
        match self {
            Self::Assigned | Self::Started | Self::Reported => None,
            Self::DataFetched { task } | Self::TokenIssued { task, .. } | Self::Cloned { task, .. } => Some(task),
            Self::AgentRan(work) | Self::Pushed(work) | Self::PrOpened { work, .. } => Some(&work.task),
        }
    }

    /// What the agent said, once it has ended.
    pub fn agent(&self) -> Option<&AgentReport> {
        match self {
            Self::Assigned | Self::Started | Self::DataFetched { .. } | Self::TokenIssued { .. } | Self::Reported => {
                None
            }
            Self::Cloned { progress, .. } => progress.agent.as_ref(),
            Self::AgentRan(work) | Self::Pushed(work) | Self::PrOpened { work, .. } => Some(&work.agent),
        }
    }

    /// Why the agent did not come to its own end, where it did not.
    pub fn cut(&self) -> Option<&Cut> {
        match self {
            Self::Assigned | Self::Started | Self::DataFetched { .. } | Self::TokenIssued { .. } | Self::Reported => {
                None
            }
            Self::Cloned { progress, .. } => progress.cut.as_ref(),
            Self::AgentRan(work) | Self::Pushed(work) | Self::PrOpened { work, .. } => work.handover.cut.as_ref(),
        }
    }

    /// What is on the remote: the branch and its head.
    pub fn pushed(&self) -> Option<(&BranchName, &CommitId)> {
        match self {
            Self::Pushed(work) | Self::PrOpened { work, .. } => {
                work.handover.head.as_ref().map(|head| (&work.checkout.branch, head))
            }
            Self::Assigned
            | Self::Started
            | Self::DataFetched { .. }
            | Self::TokenIssued { .. }
            | Self::Cloned { .. }
            | Self::AgentRan(_)
            | Self::Reported => None,
        }
    }
}

/// A start of the runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Boot {
    /// 1 for the first; 0 before it.
    pub number: u32,
    /// When.
    pub at: Millis,
}

/// An effect that was intended, and of which no outcome is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Which.
    pub effect: EffectName,
    /// 1 for the first.
    pub number: u32,
    /// When it was intended.
    pub at: Millis,
    /// How often in this start it could not be found out what came of it.
    pub unanswered: u32,
}

/// What has been tried of one effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Intents written.
    pub attempts: u32,
    /// When the first of them was.
    pub first_at: Millis,
    /// When the last thing was heard of it.
    pub last_at: Millis,
    /// Attempts of this start that came to nothing, and probes that could not be made: what the back-off grows with.
    pub misses: u32,
    /// What the other side asked to be waited for, after the last miss.
    pub retry_after_ms: Option<Millis>,
    /// Attempts that do not count against how often there may be one: stopped to be gone on with by a later start, or ended
    /// before they began, because there was nothing to go on in.
    pub uncounted: u32,
    /// Attempts whose answer was never seen: lost on the way, or the runner died.
    pub unclear: u32,
    /// Answers that said that the token's mint had failed after the mark (`token` only).
    pub mint_failures: u32,
    /// Answers `task already claimed` (`report` only).
    pub claims: u32,
    /// What all attempts took (`agent` only).
    pub effort: Effort,
}

/// What a journal adds up to: the fold of [`super::transition()`] over its events.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Run {
    /// The present start of the runner.
    pub boot: Boot,
    /// What was assigned.
    pub assignment: Option<Assignment>,
    /// When.
    pub assigned_at: Millis,
    /// The agent's conversation, as it was intended last.
    pub session: Option<SessionId>,
    /// The last state entered; none before the assignment.
    pub state: Option<State>,
    /// When it was entered.
    pub since: Millis,
    /// The intent whose outcome is not known.
    pub open: Option<Attempt>,
    /// What has been tried, by effect.
    pub tallies: BTreeMap<EffectName, Tally>,
    /// What was said of the last attempt that came to nothing, or whose answer was lost.
    pub last_miss: Option<String>,
    /// What the task has to end with: known, and not yet the verdict.
    pub ending: Option<Ending>,
    /// Starts in a row that ended uncleanly and entered no new state.
    pub stalled_boots: u32,
    /// Whether this start has said good-bye (parked, or left with the report undelivered).
    pub left: bool,
    /// The verdict, frozen.
    pub verdict: Option<Arc<Verdict>>,
    /// How the verdict was acknowledged, and in which start.
    pub acknowledged: Option<(Ack, u32)>,
    /// How the archive ended, once it has.
    pub archive: Option<ArchiveEnd>,
}

/// How the archive ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArchiveEnd {
    /// It is where it was to go.
    Kept,
    /// It could not be brought there. The verdict stands.
    Missed,
}

impl Run {
    /// What has been tried of an effect.
    pub fn tally(&self, effect: EffectName) -> Tally {
        self.tallies.get(&effect).copied().unwrap_or_default()
    }

    /// The present state's name.
    pub fn state_name(&self) -> Option<StateName> {
        self.state.as_ref().map(State::name)
    }
}
