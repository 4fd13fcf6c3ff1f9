//! What can be done outside, and what each needs to know.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumDiscriminants, EnumIter, EnumString, IntoStaticStr};

use super::state::{AgentReport, Checkout, Millis, TokenFacts, Work};
use super::verdict::Verdict;
use super::work::{CommandRun, Cut};
use crate::ids::{CommitId, SessionId};
use crate::task::Task;

/// Something that is done outside of the process, or to the disk, between an intent and an outcome.
#[derive(Debug, Clone, PartialEq, EnumDiscriminants)]
#[strum_discriminants(
    name(EffectName),
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
    strum(serialize_all = "snake_case"),
    serde(rename_all = "snake_case"),
    doc = "An effect's name: in the journal, the metrics and the docs."
)]
pub enum Effect {
    /// Tell the API `started`.
    Start {
        /// Whether it may be tried again.
        patience: StartPatience,
        /// How long this try may take.
        within_ms: Millis,
    },
    /// Fetch the task's data.
    Data,
    /// Ask for the one-time token, and seal it.
    Token {
        /// What earlier requests came to: it decides what a 409 means.
        history: TokenHistory,
    },
    /// Clone the repository into the private one.
    Clone {
        /// Which, and from where.
        task: Arc<Task>,
        /// What the token is known by.
        token: TokenFacts,
    },
    /// Lay the working tree and run the set-up command in it.
    Setup(InTree),
    /// Run the agent in the working tree, which is laid where the set-up has not.
    Agent(AgentRun),
    /// Run the check command in the tree as the agent left it.
    Check(InTree),
    /// Take what the agent changed into the private repository.
    Handover {
        /// What was to be done: the commit message is made from it.
        task: Arc<Task>,
        /// Where the work started from.
        checkout: Checkout,
        /// What the agent said.
        agent: AgentReport,
        /// Why it did not come to its own end, where it did not.
        cut: Option<Cut>,
        /// When the effect was first intended: the date of the runner's own commit, so that a second attempt makes the same one.
        at: Millis,
    },
    /// Push the head to the working branch.
    Push {
        /// What was done.
        work: Work,
        /// The commit to push.
        head: CommitId,
    },
    /// Open the pull request.
    PullRequest {
        /// What was done.
        work: Work,
        /// The commit that was pushed.
        head: CommitId,
    },
    /// Send the verdict until it is acknowledged.
    Report {
        /// The verdict: its bytes are sent as they are.
        verdict: Arc<Verdict>,
        /// What the answer `task already claimed` means now.
        claims: ClaimPatience,
    },
    /// Send what is left of the task to `RUNNER_ARCHIVE_URL`, as one file. Best effort: the verdict stands.
    Archive {
        /// What the task came to.
        verdict: Arc<Verdict>,
        /// Whether it may be tried again.
        patience: ArchivePatience,
        /// How long this try may take.
        within_ms: Millis,
    },
}

impl Effect {
    /// Its name.
    pub fn name(&self) -> EffectName {
        self.into()
    }

    /// The agent's conversation, where it is the agent and has one.
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Self::Agent(run) => run.session,
            Self::Start { .. }
            | Self::Data
            | Self::Token { .. }
            | Self::Clone { .. }
            | Self::Setup(_)
            | Self::Check(_)
            | Self::Handover { .. }
            | Self::Push { .. }
            | Self::PullRequest { .. }
            | Self::Report { .. }
            | Self::Archive { .. } => None,
        }
    }
}

/// A start of the agent.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentRun {
    /// What is to be done.
    pub task: Arc<Task>,
    /// What may be known of the token that its change is pushed with.
    pub token: TokenFacts,
    /// Where the work starts from.
    pub checkout: Checkout,
    /// How often the work was begun anew.
    pub anew: u32,
    /// The conversation that belongs to that; none for an agent that has none.
    pub session: Option<SessionId>,
    /// Whether a command of the operator's has prepared the tree.
    pub tree: Tree,
    /// What a check found, where it is to mend that.
    pub repair: Option<CommandRun>,
    /// How long it may run.
    pub time_left: TimeLeft,
    /// How many turns it may take.
    pub turns_left: u64,
    /// What earlier attempts have spent, in millionths of a US dollar.
    pub spent_micro_usd: u64,
}

/// Whether the working tree was prepared before the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    /// It is to be laid, or it is as an earlier start of the agent left it.
    Bare,
    /// The set-up command has run in it.
    Prepared,
}

/// A command of the operator's in the working tree.
#[derive(Debug, Clone, PartialEq)]
pub struct InTree {
    /// Where the work starts from.
    pub checkout: Checkout,
    /// How often the work was begun anew.
    pub anew: u32,
    /// How long it may run.
    pub time_left: TimeLeft,
}

/// How long something may run: until the nearest of several bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLeft {
    /// How long. Never negative.
    pub ms: Millis,
    /// Which bound that is.
    pub bound: Bound,
}

impl TimeLeft {
    /// How long something may run that begins this long after it was planned. The task's time and the token's life go on while
    /// its tree is laid; the time that it may run itself has not begun then.
    pub fn begun_after(self, passed: Millis) -> Millis {
        match self.bound {
            Bound::AgentTimeout => self.ms,
            Bound::TaskTimeout | Bound::TokenExpiry => self.ms.saturating_sub(passed).max(0),
        }
    }
}

/// What bounds a run in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
pub enum Bound {
    /// `RUNNER_AGENT_TIMEOUT`.
    AgentTimeout,
    /// `RUNNER_TASK_TIMEOUT`, less what a push and a report need.
    TaskTimeout,
    /// The token's expiry, less what a push needs.
    TokenExpiry,
}

impl Bound {
    /// Which bound it is, for a person: it follows "stopped by".
    pub fn sentence(self) -> &'static str {
        match self {
            Self::AgentTimeout => "RUNNER_AGENT_TIMEOUT, which is over all attempts",
            Self::TaskTimeout => "RUNNER_TASK_TIMEOUT, less the time for a push and a report",
            Self::TokenExpiry => "the expiry of the repository's token, less the time for a push",
        }
    }
}

/// Whether `started` may be tried again. It is best effort: the task goes on without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPatience {
    /// A failure is retried.
    TryAgain,
    /// The 15 seconds are spent: whatever comes is taken.
    LastTime,
}

/// Whether the archive may be tried again. It is best effort: its end is told, and changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchivePatience {
    /// A failure is retried.
    TryAgain,
    /// The attempts or the time are spent: whatever comes is taken.
    LastTime,
}

/// What earlier requests for the token came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenHistory {
    /// None was sent, or all were answered before the server did anything: a 409 is [`super::Failure::TokenAlreadyIssued`].
    NeverAsked,
    /// The answer of one was never seen: a 409 is [`super::Failure::TokenAmbiguous`].
    AnswerLost,
    /// One was answered 502, which comes after the mark: a 409 is [`super::Failure::TokenMintFailed`].
    MintFailed,
}

/// What the answer `task already claimed` means: the server gives it to any write conflict, so the verdict may have been dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimPatience {
    /// Send the same bytes again.
    SendAgain,
    /// It was the fifth: take it as the acknowledgement.
    TakeIt,
}
