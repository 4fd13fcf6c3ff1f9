//! Why a task failed: the names are the contract's, section 6, and go out as `details.reason`.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumString, IntoStaticStr};

/// A reason that a program can branch on and a person can read. Stable: others depend on the names.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Display,
    EnumIter,
    EnumString,
    IntoStaticStr,
)]
pub enum Failure {
    /// The task API or the forge did not answer for longer than `RUNNER_API_PATIENCE`.
    ApiUnreachable,
    /// The task API does not know the task.
    TaskNotFound,
    /// What the task API gave as the task cannot be used.
    TaskDataInvalid,
    /// The token had been issued before this runner asked for the first time.
    TokenAlreadyIssued,
    /// The server marked the token as issued and then could not mint it.
    TokenMintFailed,
    /// The token was asked for, the answer was never seen, and the server says that it was issued.
    TokenAmbiguous,
    /// The sealed token is gone after a restart.
    TokenLost,
    /// The forge refused the token after its expiry.
    TokenExpired,
    /// The repository could not be cloned.
    CloneFailed,
    /// The branch, tag or commit that the task names does not exist.
    RefNotFound,
    /// The agent said that it failed, or its API refused it.
    AgentFailed,
    /// The agent ran until one of the bounds on its time.
    AgentTimedOut,
    /// The agent was silent for longer than `RUNNER_AGENT_IDLE_TIMEOUT`.
    AgentIdle,
    /// The agent spent its budget.
    AgentBudgetExceeded,
    /// The agent used up its turns.
    AgentTurnsExceeded,
    /// The memory limit was all but reached, or was, and something of the agent was killed for it.
    AgentOutOfMemory,
    /// The agent's program is not there, or cannot be started.
    AgentMissing,
    /// The agent ended without a result more often than `RUNNER_AGENT_ATTEMPTS` allows.
    AgentLost,
    /// The set-up command failed.
    SetupFailed,
    /// The agent changed nothing.
    NoChanges,
    /// The change has something in it that is not allowed to be pushed.
    PolicyViolation,
    /// The remote refused the push.
    PushRejected,
    /// The branch moved under the runner, or was there before it began.
    PushConflict,
    /// The forge refused the pull request.
    PrRefused,
    /// The runner was told to stop.
    Interrupted,
    /// The runner died too often without getting any further.
    CrashLoop,
    /// The disk is full.
    DiskFull,
    /// The sandbox that `RUNNER_SANDBOX=require` asks for is not to be had here.
    SandboxUnavailable,
    /// Something that should not happen did.
    Internal,
}

impl Failure {
    /// One sentence for a person.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::ApiUnreachable => "The task API or the forge could not be reached for longer than the runner waits.",
            Self::TaskNotFound => "The task API does not know this task.",
            Self::TaskDataInvalid => "What the task API gave as the task cannot be used.",
            Self::TokenAlreadyIssued => "The one-time token had been issued before this runner asked for it.",
            Self::TokenMintFailed => "The task API could not mint the token, and will not try again.",
            Self::TokenAmbiguous => "The one-time token was issued, but its answer was lost on the way.",
            Self::TokenLost => "The token that this runner had sealed is gone after a restart.",
            Self::TokenExpired => "The token expired before the work was done.",
            Self::CloneFailed => "The repository could not be cloned.",
            Self::RefNotFound => "The branch, tag or commit that the task names does not exist in the repository.",
            Self::AgentFailed => "The agent ended with an error.",
            Self::AgentTimedOut => "The agent ran out of time.",
            Self::AgentIdle => "The agent was silent for too long.",
            Self::AgentBudgetExceeded => "The agent spent its budget.",
            Self::AgentTurnsExceeded => "The agent used up its turns.",
            Self::AgentOutOfMemory => "The agent needed more memory than there is.",
            Self::AgentMissing => "The agent's program could not be started.",
            Self::AgentLost => "The agent ended without a result too often.",
            Self::SetupFailed => "The set-up command failed, so the agent was not started.",
            Self::NoChanges => "The agent changed nothing.",
            Self::PolicyViolation => "The change contains something that may not be pushed.",
            Self::PushRejected => "The remote refused the push.",
            Self::PushConflict => "The branch's name is taken on the remote.",
            Self::PrRefused => "The forge refused the pull request.",
            Self::Interrupted => "The runner was told to stop before the task was done.",
            Self::CrashLoop => "The runner died again and again without getting any further.",
            Self::DiskFull => "The disk is full.",
            Self::SandboxUnavailable => "The sandbox that is required cannot be had on this machine.",
            Self::Internal => "Something happened that should not: please report it with the journal.",
        }
    }

    /// What to do about it, where there is something.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Self::ApiUnreachable => {
                Some("check the address and the network; RUNNER_API_PATIENCE sets how long to wait")
            }
            Self::TaskNotFound | Self::TaskDataInvalid => {
                Some("compare what was assigned with what the task API serves")
            }
            Self::TokenAlreadyIssued | Self::TokenMintFailed | Self::TokenAmbiguous => {
                Some("assign the task anew: a token is given once")
            }
            Self::TokenLost => {
                Some("set RUNNER_SEAL_KEY_FILE, or give RUNNER_SECRETS_DIR a volume that outlives a restart")
            }
            Self::TokenExpired => Some("a token lives for an hour: lower RUNNER_AGENT_TIMEOUT, or cut the task"),
            Self::CloneFailed => Some("check the repository's address and what the token may read"),
            Self::RefNotFound => Some("name a branch, a tag or a full commit id that exists"),
            Self::AgentFailed => Some("the transcript in the state directory has what the agent said"),
            Self::AgentTimedOut => Some("raise the bound that the message names, or cut the task"),
            Self::AgentIdle => Some("look at the end of the transcript; RUNNER_AGENT_IDLE_TIMEOUT is the bound"),
            Self::AgentBudgetExceeded => Some("raise RUNNER_AGENT_MAX_BUDGET_USD, or cut the task"),
            Self::AgentTurnsExceeded => Some("raise RUNNER_AGENT_MAX_TURNS, or cut the task"),
            Self::AgentOutOfMemory => Some("give the container more memory, or cut the task"),
            Self::AgentMissing => Some("install the agent, or set RUNNER_AGENT"),
            Self::AgentLost => {
                Some("look for memory limits and kills; RUNNER_AGENT_ATTEMPTS sets how often it is started")
            }
            Self::SetupFailed => {
                Some("run RUNNER_SETUP_COMMAND on the base commit: the message has the end of what it printed")
            }
            Self::NoChanges => Some("set RUNNER_NO_CHANGES=complete where that is a good end"),
            Self::PolicyViolation => Some(
                "the message lists what was found and where; the work is in the state directory: git --git-dir=git log refs/runner/refused",
            ),
            Self::PushRejected => Some("check branch protection and what the token may write"),
            Self::PushConflict => Some("delete the branch, or set another RUNNER_BRANCH_PREFIX"),
            Self::PrRefused => Some("check what the token may do: pull requests need write access"),
            Self::Interrupted => Some("RUNNER_ON_TERM=park leaves the task to the next start instead"),
            Self::CrashLoop => Some("look into the log for what ended the process; RUNNER_MAX_BOOTS is the bound"),
            Self::DiskFull => Some("give the state directory or the workspace more room"),
            Self::SandboxUnavailable => {
                Some("use a kernel with Landlock, or accept the risk with RUNNER_SANDBOX=prefer")
            }
            Self::Internal => None,
        }
    }
}
