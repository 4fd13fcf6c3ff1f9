//! Every fact that can come in. An event is what one journal row stands for; `enter` and `ack` rows follow from them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, IntoStaticStr};

use super::effect::EffectName;
use super::failure::Failure;
use super::state::{AgentReport, Archived, Checkout, Handover, Millis, MissingPart, PullRequest, TokenFacts};
use super::verdict::Verdict;
use super::work::{CommandRun, Left};
use crate::ids::{ApiUrl, SessionId, TaskId};
use crate::task::Task;
use crate::trace::Trace;

/// What the operator assigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The task.
    #[serde(rename = "taskID")]
    pub task_id: TaskId,
    /// Where its API is.
    #[serde(rename = "apiURL")]
    pub api_url: ApiUrl,
    /// The trace that the operator's request belonged to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
}

impl Assignment {
    /// Whether it is the same task at the same API: a trace is of one request, and does not count.
    pub fn is_same_task(&self, other: &Self) -> bool {
        self.task_id == other.task_id && self.api_url == other.api_url
    }
}

/// A fact.
#[derive(Debug, Clone, PartialEq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[cfg_attr(
    test,
    derive(strum::EnumDiscriminants),
    strum_discriminants(name(EventKind), vis(pub(crate)), derive(EnumIter))
)]
pub enum Event {
    /// The runner started. Legal always; an open intent is left open, since nothing is known of it.
    Booted {
        /// When.
        at: Millis,
    },
    /// A task was assigned. Legal once, before anything else.
    Assigned {
        /// Which.
        assignment: Assignment,
        /// When.
        at: Millis,
    },
    /// An effect is about to be done. Legal in the states that have it, while no intent is open.
    Intended {
        /// Which.
        effect: EffectName,
        /// One more than the last.
        attempt: u32,
        /// The agent's conversation, where it is the agent and has one.
        session: Option<SessionId>,
        /// When.
        at: Millis,
    },
    /// What was found out about an open intent whose outcome was not seen.
    Probed {
        /// Which.
        effect: EffectName,
        /// Of which attempt.
        attempt: u32,
        /// What.
        finding: Finding,
        /// When.
        at: Millis,
    },
    /// What came of an open intent.
    Ended {
        /// Which.
        effect: EffectName,
        /// Which attempt.
        attempt: u32,
        /// What.
        outcome: Outcome,
        /// When.
        at: Millis,
    },
    /// The verdict was frozen. Legal once, after the assignment, while no intent is open.
    Concluded {
        /// Which.
        verdict: Arc<Verdict>,
        /// When.
        at: Millis,
    },
    /// Something was seen that moves nothing.
    Noted {
        /// What.
        note: Note,
        /// When.
        at: Millis,
    },
}

impl Event {
    /// When it came in.
    pub fn at(&self) -> Millis {
        match self {
            Self::Booted { at }
            | Self::Assigned { at, .. }
            | Self::Intended { at, .. }
            | Self::Probed { at, .. }
            | Self::Ended { at, .. }
            | Self::Concluded { at, .. }
            | Self::Noted { at, .. } => *at,
        }
    }
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
#[cfg_attr(
    test,
    derive(strum::EnumDiscriminants),
    strum_discriminants(name(FindingKind), vis(pub(crate)), derive(EnumIter))
)]
pub enum Finding {
    /// The effect has ended: its outcome follows in the same transaction.
    Done,
    /// It has not: it is done again under the same idempotency key.
    NotDone(Left),
}

/// What came of an effect.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    test,
    derive(strum::EnumDiscriminants),
    strum_discriminants(name(OutcomeKind), vis(pub(crate)), derive(EnumIter))
)]
pub enum Outcome {
    /// It is done, and this is what is known now.
    Done {
        /// What.
        fact: Fact,
    },
    /// It is known not to have been done, and may be tried again.
    Retry {
        /// What kind of trouble: the machine counts some of them.
        trouble: Trouble,
        /// For a person.
        cause: String,
        /// What the other side asked to be waited for.
        after_ms: Option<Millis>,
        /// What it took and left.
        left: Left,
    },
    /// It cannot be done, and the task has failed. Where it was the agent and has said something, its work is saved first.
    Failed {
        /// Why.
        failure: Failure,
        /// For a person.
        cause: String,
        /// What the agent said before it failed, where it was the agent.
        agent: Option<AgentReport>,
    },
    /// Whether it was done could not be found out in time, and the task has failed.
    GivenUp {
        /// Why.
        failure: Failure,
        /// For a person.
        cause: String,
    },
    /// It could not be done and is not tried again, and nothing depends on it: the archive.
    Missed {
        /// For a person.
        cause: String,
    },
    /// The task was ended elsewhere (410).
    Superseded,
    /// It was stopped, to be gone on with by a later start.
    Parked(Left),
}

/// What kind of trouble an attempt met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// The other side could not be reached, or said that it cannot now.
    Unreachable,
    /// The token's mint failed after the mark (502).
    MintFailed,
    /// The answer `task already claimed`.
    Claimed,
    /// The agent ended without a result.
    NoResult,
    /// The agent was not started, or said at once that it cannot go on: what it was to go on in is gone.
    NothingToGoOnIn,
}

/// What is known once an effect is done.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    test,
    derive(strum::EnumDiscriminants),
    strum_discriminants(name(FactKind), vis(pub(crate)), derive(EnumIter))
)]
pub enum Fact {
    /// `started` was sent.
    Started {
        /// Whether the API took it.
        told: bool,
    },
    /// The task's data. The journal keeps the bytes as a blob, and the row their hash.
    Data {
        /// What is to be done.
        task: Arc<Task>,
    },
    /// The token is sealed.
    Token(TokenFacts),
    /// The repository is here.
    Cloned(Checkout),
    /// The set-up command went well.
    SetUp(CommandRun),
    /// The agent ended well.
    AgentEnded(AgentReport),
    /// The check was run, or could not be.
    Checked(CommandRun),
    /// Its work is taken.
    HandedOver(Handover),
    /// The remote branch is at the head.
    Pushed,
    /// The pull request exists.
    PullRequest(PullRequest),
    /// The verdict was taken.
    Reported {
        /// How.
        ack: Ack,
    },
    /// What is left of the task was sent away.
    Archived(Archived),
}

/// How a verdict was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(EnumIter))]
pub enum Ack {
    /// The API took it.
    Accepted,
    /// The API had it already.
    AlreadyNotified,
    /// The API will pass it on later.
    CallbackPending,
    /// The API kept saying `task already claimed`.
    TakenAsClaimed,
    /// The API does not know the task (404): there is nobody left to tell.
    NobodyLeft,
    /// The task was ended elsewhere (410): there is nobody left to tell.
    EndedElsewhere,
}

/// Something seen that moves nothing, but that a post-mortem wants to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
#[cfg_attr(
    test,
    derive(strum::EnumDiscriminants),
    strum_discriminants(name(NoteKind), vis(pub(crate)), derive(EnumIter))
)]
pub enum Note {
    /// What confines the agent.
    Sandbox {
        /// The setting.
        mode: String,
        /// The rights in force.
        rights: Vec<String>,
    },
    /// While the agent ran, the kernel killed processes of this container for want of memory.
    OutOfMemory {
        /// How many.
        killed: u64,
    },
    /// The agent did not take a chosen plugin, or an MCP server of one did not answer when it began. It worked without.
    PluginMissing(MissingPart),
    /// The answer to an effect, or the probe of one, was lost: it is looked at again.
    AnswerLost {
        /// Which.
        effect: EffectName,
        /// For a person.
        cause: String,
    },
    /// This start leaves the task to the next one, because it was told to stop.
    Parked,
    /// This start leaves the verdict to the next one, because the API could not be reached.
    Undelivered,
}
