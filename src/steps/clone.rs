//! `clone`: the private repository, and whether the working branch is on the remote already.

use super::{World, failed, git_refusal, lost, or_outcome};
use crate::adapters::git::Cloned;
use crate::driver::{AnswerLost, Call, Probe};
use crate::ids::BranchName;
use crate::machine::{Checkout, Fact, Failure, Left, Outcome, TokenFacts};
use crate::task::Task;

pub(super) async fn probe(world: &World, call: &Call) -> Result<Probe, AnswerLost> {
    let cleared = world.git.clear_stale_locks();
    cleared.map_err(|e| lost(format!("the private repository cannot be looked into: {e}")))?;
    let branch = match world.branch(call) {
        Ok(branch) => branch,
        Err(outcome) => return Ok(Probe::Ended(outcome)),
    };
    // What cannot be read is cloned anew.
    Ok(match world.git.probe_clone().await {
        Ok(Some(cloned)) => Probe::Ended(outcome(cloned, branch)),
        Ok(None) | Err(_) => Probe::NotDone(Left::default()),
    })
}

pub(super) async fn act(world: &World, task: &Task, token: &TokenFacts, call: &Call) -> Result<Outcome, AnswerLost> {
    let branch = or_outcome!(world.branch(call));
    let secret = or_outcome!(world.git_token(&task.repo, token));
    let cloned = world
        .git
        .clone(&task.repo, secret.as_ref(), task.git_ref.as_ref(), &branch)
        .await;
    Ok(match cloned {
        Ok(cloned) => outcome(cloned, branch),
        Err(error) => git_refusal(&error, Failure::CloneFailed, token),
    })
}

/// A branch that is there before the agent has run is somebody else's: refused before the agent is paid.
fn outcome(cloned: Cloned, branch: BranchName) -> Outcome {
    if let Some(head) = cloned.remote_branch {
        return failed(
            Failure::PushConflict,
            format!("{branch} is on the remote already, at {head}; nothing was run"),
        );
    }
    Outcome::Done {
        fact: Fact::Cloned(Checkout {
            base: cloned.base,
            base_branch: cloned.base_branch,
            branch,
        }),
    }
}
