//! For each failure a life that ends in it: where it comes up, with the words that the runner has for it.

use super::super::super::lived::Lived;
use crate::machine::{Ack, EffectName, Ending, Failure, Note, Trouble};

/// A life that ends in this failure.
#[expect(clippy::too_many_lines, reason = "a life a failure")]
pub(super) fn life_that_ends_in(failure: Failure) -> Lived {
    let lived = match failure {
        Failure::ApiUnreachable => Lived::up_to(EffectName::Data)
            .tries_again(EffectName::Data, Trouble::Unreachable, REFUSED)
            .tries_again(EffectName::Data, Trouble::Unreachable, REFUSED)
            .gives_up(EffectName::Data, failure, REFUSED),
        Failure::TaskNotFound => {
            Lived::up_to(EffectName::Data).fails(EffectName::Data, failure, "GET /data was answered 404: no such task")
        }
        Failure::TaskDataInvalid => {
            Lived::up_to(EffectName::Data).fails(EffectName::Data, failure, "the task's description is empty")
        }
        Failure::TokenAlreadyIssued => token(failure),
        Failure::TokenMintFailed => Lived::up_to(EffectName::Token)
            .tries_again(
                EffectName::Token,
                Trouble::MintFailed,
                "GET /token was answered 502: the mint failed",
            )
            .fails(EffectName::Token, failure, TAKEN),
        Failure::TokenAmbiguous => {
            Lived::up_to(EffectName::Token)
                .crashes_in(EffectName::Token)
                .fails(EffectName::Token, failure, TAKEN)
        }
        Failure::TokenLost => Lived::up_to(EffectName::Clone).crashes_in(EffectName::Clone).fails(
            EffectName::Clone,
            failure,
            "there is no sealed token in /run/runner",
        ),
        Failure::TokenExpired => Lived::up_to(EffectName::Push).after(3_600_000).fails(
            EffectName::Push,
            failure,
            "the remote answered 401, and the token expired at 2026-01-02T04:04:05.000Z",
        ),
        Failure::CloneFailed => Lived::up_to(EffectName::Clone).fails(
            EffectName::Clone,
            failure,
            "git fetch: remote: Repository not found.",
        ),
        Failure::RefNotFound => Lived::up_to(EffectName::Clone).fails(
            EffectName::Clone,
            failure,
            "main is no branch, tag or commit of https://github.com/octo/hello",
        ),
        Failure::AgentFailed => nothing_saved(failure, "It ended with exit code 1: API Error: 401 Invalid API key."),
        Failure::AgentTimedOut => saved(
            failure,
            "It was stopped after 1500 s by RUNNER_AGENT_TIMEOUT, which is over all attempts.",
        ),
        Failure::AgentIdle => saved(
            failure,
            "It was silent for 600 s (RUNNER_AGENT_IDLE_TIMEOUT), and was stopped.",
        ),
        Failure::AgentBudgetExceeded => saved(failure, "$10.00 are spent (RUNNER_AGENT_MAX_BUDGET_USD)."),
        Failure::AgentTurnsExceeded => saved(failure, "It took 50 turns (RUNNER_AGENT_MAX_TURNS)."),
        Failure::AgentOutOfMemory => Lived::up_to(EffectName::Agent)
            .notes(Note::OutOfMemory { killed: 2 })
            .agent_is_cut(
                failure,
                "It ended with signal 9 when memory ran out: 2 processes were killed.",
            )
            .hands_over()
            .pushes()
            .opens_it(),
        Failure::AgentMissing => {
            Lived::up_to(EffectName::Agent).fails(EffectName::Agent, failure, "claude is not in PATH")
        }
        Failure::AgentLost => Lived::up_to(EffectName::Agent)
            .crashes_in(EffectName::Agent)
            .tries_again(
                EffectName::Agent,
                Trouble::NoResult,
                "the agent ended with signal 9 and said no result",
            )
            .leaves_nothing(
                failure,
                "It was started 2 times (RUNNER_AGENT_ATTEMPTS) and came to no end.",
            ),
        Failure::SetupFailed => {
            Lived::up_to(EffectName::Setup).fails(EffectName::Setup, failure, "exit code 127: sh: 1: make: not found")
        }
        Failure::NoChanges => Lived::up_to(EffectName::Handover).changes_nothing(),
        Failure::PolicyViolation => Lived::up_to(EffectName::Handover).fails(
            EffectName::Handover,
            failure,
            ".github/workflows/ci.yml is protected (RUNNER_PROTECTED_PATHS)",
        ),
        Failure::PushRejected => Lived::up_to(EffectName::Push).fails(
            EffectName::Push,
            failure,
            "! [remote rejected] runner/t-1 (protected branch hook declined)",
        ),
        Failure::PushConflict => {
            Lived::up_to(EffectName::Clone).fails(EffectName::Clone, failure, "runner/t-1 is at dddddddddddd already")
        }
        Failure::PrRefused => Lived::up_to(EffectName::PullRequest).fails(
            EffectName::PullRequest,
            failure,
            "POST /repos/octo/hello/pulls was answered 403: Resource not accessible by integration",
        ),
        Failure::Interrupted => saved(failure, "It was told to stop in state Cloned."),
        Failure::CrashLoop => (0..5)
            .fold(Lived::up_to(EffectName::Clone), |lived, _| {
                lived.crashes_in(EffectName::Clone)
            })
            .ends(&Ending::Failed {
                failure,
                cause: "It died 5 times in a row in state TokenIssued (RUNNER_MAX_BOOTS).".to_owned(),
                agent: None,
            }),
        Failure::DiskFull => Lived::up_to(EffectName::Clone).fails(
            EffectName::Clone,
            failure,
            "/var/lib/runner/git: No space left on device",
        ),
        Failure::SandboxUnavailable => {
            Lived::up_to(EffectName::Agent).fails(EffectName::Agent, failure, "Landlock is not in this kernel")
        }
        Failure::Internal => Lived::up_to(EffectName::Handover).fails(
            EffectName::Handover,
            failure,
            "the sandbox ended with an answer that nobody knows",
        ),
    };
    let lived = if lived.run.verdict.is_some() {
        lived
    } else {
        lived.concludes()
    };
    lived.reports(Ack::Accepted)
}

const REFUSED: &str = "failed to connect to api:8081: connection refused";
const TAKEN: &str = "GET /token was answered 409: the token was issued already";

fn token(failure: Failure) -> Lived {
    Lived::up_to(EffectName::Token).fails(EffectName::Token, failure, TAKEN)
}

/// What the agent had done is in a draft.
fn saved(failure: Failure, cause: &str) -> Lived {
    Lived::up_to(EffectName::Agent)
        .agent_is_cut(failure, cause)
        .hands_over()
        .pushes()
        .opens_it()
}

/// The agent had done nothing.
fn nothing_saved(failure: Failure, cause: &str) -> Lived {
    Lived::up_to(EffectName::Agent)
        .agent_is_cut(failure, cause)
        .changes_nothing()
}
