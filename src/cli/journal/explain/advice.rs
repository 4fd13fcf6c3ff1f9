//! What to do now, for each way in which a task ends or does not.

use super::facts::{Facts, capital, full};
use crate::cli::journal::story::Left;
use crate::machine::{Ack, EffectName, Failure, State, Verdict, VerdictKind};

/// What to do now; none where there is nothing left to do.
pub(super) fn sentence(facts: &Facts<'_>) -> Option<String> {
    advice(facts).map(|advice| capital(&advice))
}

fn advice(facts: &Facts<'_>) -> Option<String> {
    if facts.findings.newer.is_some() {
        return Some("read it with the newer program: there may be more than is told here.".to_owned());
    }
    if !facts.findings.problems.is_empty() {
        return Some(damaged(facts));
    }
    let Some(verdict) = facts.verdict() else {
        return Some(unfinished(facts));
    };
    let after = match (verdict.kind, verdict.reason) {
        (VerdictKind::Completed, _) => completed(facts),
        (VerdictKind::Superseded, _) => None,
        (VerdictKind::Failed, Some(failure)) => Some(failed(failure, facts)),
        (VerdictKind::Failed, None) => Some(anew(facts)),
    };
    let tell = untold(facts, verdict);
    match (tell, after) {
        (Some(tell), Some(after)) => Some(format!("{tell} Then {after}")),
        (tell, after) => tell.or(after),
    }
}

fn damaged(facts: &Facts<'_>) -> String {
    let rest = match facts.verdict() {
        Some(_) => "",
        None => " Look at the forge for a branch or a pull request of this task before it is begun anew.",
    };
    format!(
        "keep the file and its -wal as they are; `runner journal verify` says what is wrong and where, \
         `runner journal dump` shows every row that holds.{rest}"
    )
}

fn unfinished(facts: &Facts<'_>) -> String {
    if facts.run.assignment.is_none() {
        return match facts.run.boot.number {
            0 => "look whether this is the journal that was meant.".to_owned(),
            _ => "assign a task with POST /task; look at the operator's log if one was to come.".to_owned(),
        };
    }
    let how = match facts.run.open {
        Some(_) => "it looks first what came of the step that was begun, and does nothing twice",
        None => "it goes on with the next step",
    };
    match facts.story.left {
        Some(Left::Parked | Left::Undelivered) => {
            format!("start the runner again with this state directory: {how}.")
        }
        None => format!(
            "if a runner still works on it, wait, or watch with `runner journal tail --follow`; if not, start it again \
             with this state directory: {how}."
        ),
    }
}

/// What has to be done for the verdict to be heard.
fn untold(facts: &Facts<'_>, verdict: &Verdict) -> Option<String> {
    match (verdict.kind, facts.run.acknowledged.map(|(ack, _)| ack)) {
        (VerdictKind::Superseded, _) => None,
        (VerdictKind::Completed | VerdictKind::Failed, None) => Some(
            "see to it that the task API can be reached, and start the runner again with this state directory: it sends \
             the same report until it is acknowledged."
                .to_owned(),
        ),
        (VerdictKind::Completed | VerdictKind::Failed, Some(Ack::TakenAsClaimed)) => {
            Some("look at the task API whether it has this verdict.".to_owned())
        }
        (VerdictKind::Completed | VerdictKind::Failed, Some(Ack::NobodyLeft)) => {
            Some("tell whoever waits for it: the task API does not know the task any more.".to_owned())
        }
        (
            VerdictKind::Completed | VerdictKind::Failed,
            Some(Ack::Accepted | Ack::AlreadyNotified | Ack::CallbackPending | Ack::EndedElsewhere),
        ) => None,
    }
}

fn completed(facts: &Facts<'_>) -> Option<String> {
    let red = |what: &str| {
        let check = facts.work().and_then(|work| work.check.as_ref());
        match check.filter(|check| !check.passed()) {
            Some(check) => format!(
                "review {what} with care: nothing shows that it is good, since the check came to {}.",
                check.end
            ),
            None => format!("review {what}."),
        }
    };
    match facts.reached()? {
        State::PrOpened { .. } => Some(red("the pull request")),
        State::Pushed(_) => Some(red("the branch")),
        State::Assigned
        | State::Started
        | State::DataFetched { .. }
        | State::TokenIssued { .. }
        | State::Cloned { .. }
        | State::AgentRan(_)
        | State::Reported => None,
    }
}

/// A journal has one verdict, so a task that failed is begun anew as another one.
fn anew(facts: &Facts<'_>) -> String {
    if facts.is_pushed() {
        "look at what was saved; what is left to do needs a new task.".to_owned()
    } else {
        "assign it as a new task, to a runner with a state directory of its own.".to_owned()
    }
}

/// What mends the cause, and then what becomes of the task.
#[expect(clippy::too_many_lines, reason = "an arm a failure, read side by side")]
fn failed(failure: Failure, facts: &Facts<'_>) -> String {
    let cause = match failure {
        Failure::ApiUnreachable => unreachable(facts),
        Failure::TaskNotFound | Failure::TaskDataInvalid => {
            let api = facts.run.assignment.as_ref().map(|assignment| assignment.api_url.as_str());
            format!(
                "compare what was assigned with what the task API at {} serves for it.",
                facts.quote(api.unwrap_or_default(), 200)
            )
        }
        Failure::TokenAlreadyIssued => {
            "find out who asked for the token first: another runner, or an earlier one whose journal is gone. \
             A token is given once."
                .to_owned()
        }
        Failure::TokenMintFailed => "look into the task API's log for why it could not mint the token.".to_owned(),
        Failure::TokenAmbiguous => {
            "nothing is wrong with the runner: the answer with the token was lost, and a token is given once. Where \
             that happens often, look at the network between the runner and the task API."
                .to_owned()
        }
        Failure::TokenLost => {
            "set RUNNER_SEAL_KEY_FILE, or give RUNNER_SECRETS_DIR a volume that outlives a restart of the process."
                .to_owned()
        }
        Failure::TokenExpired => {
            "give the agent less time than the token lives: lower RUNNER_AGENT_TIMEOUT, or cut the task.".to_owned()
        }
        Failure::CloneFailed => format!(
            "check that {} is right, can be reached from the runner, and may be read with the task's token.",
            facts.repository().unwrap_or_else(|| "the repository's address".to_owned())
        ),
        Failure::RefNotFound => {
            let named = facts.data().and_then(|task| task.git_ref.as_ref());
            let named = named.map(|name| format!(" (it names {})", facts.quote(&name.to_string(), 100)));
            format!(
                "name a branch, a tag or a full commit id that exists in the task{}.",
                named.unwrap_or_default()
            )
        }
        Failure::AgentFailed => {
            "read what the agent said at its end: the transcripts are in the state directory, under agent/.".to_owned()
        }
        Failure::AgentTimedOut => "raise the bound that is named above, or cut the task into smaller ones.".to_owned(),
        Failure::AgentIdle => {
            "read the end of the transcript in the state directory, under agent/: a command that waits for input is \
             the usual cause. RUNNER_AGENT_IDLE_TIMEOUT is the bound."
                .to_owned()
        }
        Failure::AgentBudgetExceeded => {
            let spent = facts.effort().cost_micro_usd.map(super::usd);
            let spent = spent.map(|spent| format!(" above the {spent} that are spent"));
            format!(
                "raise RUNNER_AGENT_MAX_BUDGET_USD{}, or cut the task into smaller ones.",
                spent.unwrap_or_default()
            )
        }
        Failure::AgentTurnsExceeded => {
            let taken = facts.effort().turns.map(|turns| format!(" above {turns}"));
            format!(
                "raise RUNNER_AGENT_MAX_TURNS{}, or cut the task into smaller ones.",
                taken.unwrap_or_default()
            )
        }
        Failure::AgentOutOfMemory => {
            "give the container more memory, or cut the task: a build or a test of the repository may need it."
                .to_owned()
        }
        Failure::AgentMissing => {
            "install the agent in the image, or choose another with RUNNER_AGENT; `runner doctor` shows what is found."
                .to_owned()
        }
        Failure::AgentLost => {
            "look for memory limits and for whatever kills processes in the container. RUNNER_AGENT_ATTEMPTS is how often \
             it is started."
                .to_owned()
        }
        Failure::SetupFailed => {
            "run RUNNER_SETUP_COMMAND on the base commit, in the same image: the end of what it printed is above.".to_owned()
        }
        Failure::NoChanges => {
            "read what the agent said: the task may be done already, or not be clear. Where that is a good end, set \
             RUNNER_NO_CHANGES=complete."
                .to_owned()
        }
        Failure::PolicyViolation => {
            "read above what was found and where. The work is kept in the state directory: \
             git --git-dir=git log refs/runner/refused. Where the change is meant, RUNNER_PROTECTED_PATHS says what is \
             protected; a secret in it has to be replaced."
                .to_owned()
        }
        Failure::PushRejected => format!(
            "check the protection of branches in {} and what the task's token may write.",
            facts.repository().unwrap_or_else(|| "the repository".to_owned())
        ),
        Failure::PushConflict => {
            "delete the branch, or set another RUNNER_BRANCH_PREFIX; look first whose commits they are.".to_owned()
        }
        Failure::PrRefused => {
            "open the pull request from the branch by hand, and check what the task's token may do: pull requests need \
             write access."
                .to_owned()
        }
        Failure::Interrupted => {
            "RUNNER_ON_TERM=park leaves a task to the next start instead, where the state directory outlives the pod."
                .to_owned()
        }
        Failure::CrashLoop => crash_loop(facts),
        Failure::DiskFull => "give the state directory or the workspace more room.".to_owned(),
        Failure::SandboxUnavailable => {
            "use a kernel with Landlock, or accept the risk with RUNNER_SANDBOX=prefer; `runner doctor` shows what is \
             missing."
                .to_owned()
        }
        Failure::Internal => "report it, with this journal: it is a bug of the runner, unless the message names a fault of this machine.".to_owned(),
    };
    let then = format!("{} Then {}", full(&cause), anew(facts));
    match facts.story.unknown {
        Some(EffectName::Push) => format!("look at the forge first: the branch may be there. {}", capital(&then)),
        Some(EffectName::PullRequest) => {
            format!(
                "look at the forge first: the pull request may be there. {}",
                capital(&then)
            )
        }
        _ => then,
    }
}

/// Who could not be reached: the step that the wait was in says it.
fn unreachable(facts: &Facts<'_>) -> String {
    let forge = |effect| facts.run.tally(effect).attempts > 0;
    let whom = match facts.reached() {
        Some(State::TokenIssued { .. }) if forge(EffectName::Clone) => "the repository's host",
        Some(State::AgentRan(_)) if forge(EffectName::Push) => "the repository's host",
        Some(State::Pushed(_)) if forge(EffectName::PullRequest) => "the forge's API",
        _ => "the task API",
    };
    format!(
        "check the address of {whom} and the network from the runner to it. RUNNER_API_PATIENCE is how long it waits."
    )
}

/// What it died in, where the starts show it.
fn crash_loop(facts: &Facts<'_>) -> String {
    let most = facts.story.starts.crashed.iter().max_by_key(|(_, times)| **times);
    let during = most
        .and_then(|(effect, _)| *effect)
        .map(|effect| format!(", most often while {}", super::facts::doing(effect)));
    format!(
        "find out what ended the process{}: the log of the container and of the kernel have it. RUNNER_MAX_BOOTS is how \
         often it may die.",
        during.unwrap_or_default()
    )
}
