//! What can be done outside, and what each needs to know.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumDiscriminants, EnumIter, EnumString, IntoStaticStr};

use super::state::{AgentReport, Checkout, Millis, TokenFacts, Work};
use super::verdict::Verdict;
use crate::ids::CommitId;
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
    /// Lay the working tree and run the agent in it.
    Agent(AgentRun),
    /// Take what the agent changed into the private repository.
    Handover {
        /// What was to be done: the commit message is made from it.
        task: Arc<Task>,
        /// Where the work started from.
        checkout: Checkout,
        /// What the agent said.
        agent: AgentReport,
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
}

impl Effect {
    /// Its name.
    pub fn name(&self) -> EffectName {
        self.into()
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
    /// How long it may run.
    pub time_left_ms: Millis,
    /// What earlier attempts have spent, in millionths of a US dollar.
    pub spent_micro_usd: u64,
}

/// Whether `started` may be tried again. It is best effort: the task goes on without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPatience {
    /// A failure is retried.
    TryAgain,
    /// The 15 seconds are spent: whatever comes is taken.
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
