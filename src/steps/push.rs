//! `push`: the head goes to the working branch. What the remote branch is at decides, before and after.

use super::{World, failed, git_refusal, lost, not_found_out, or_outcome};
use crate::adapters::git::{GitError, RemoteRefs};
use crate::driver::{AnswerLost, Probe};
use crate::ids::CommitId;
use crate::machine::{Fact, Failure, Left, Outcome, Work};
use crate::secret::Secret;

pub(super) async fn probe(world: &World, work: &Work, head: &CommitId) -> Result<Probe, AnswerLost> {
    let cleared = world.git.clear_stale_locks();
    cleared.map_err(|e| lost(format!("the private repository cannot be looked into: {e}")))?;
    let secret = match world.git_token(&work.task.repo, &work.token) {
        Ok(secret) => secret,
        Err(outcome) => return Ok(Probe::Ended(outcome)),
    };
    match look(world, work, secret.as_ref()).await {
        Ok(refs) => Ok(match standing(&refs, work, head) {
            Standing::Absent => Probe::NotDone(Left::default()),
            Standing::AtHead => Probe::Ended(done()),
            Standing::Elsewhere(outcome) => Probe::Ended(outcome),
        }),
        Err(error) => not_found_out(git_refusal(&error, Failure::PushRejected, &work.token)),
    }
}

pub(super) async fn act(world: &World, work: &Work, head: &CommitId) -> Result<Outcome, AnswerLost> {
    let secret = or_outcome!(world.git_token(&work.task.repo, &work.token));
    let branch = &work.checkout.branch;
    let pushed = world
        .git
        .push(&work.task.repo, secret.as_ref(), branch, head, None)
        .await;
    let Err(error) = pushed else {
        return Ok(done());
    };
    // A client may send again what was done and not answered, and then report it as refused: the remote knows.
    match look(world, work, secret.as_ref()).await {
        Ok(refs) => Ok(match standing(&refs, work, head) {
            Standing::AtHead => done(),
            Standing::Elsewhere(outcome) => outcome,
            Standing::Absent => git_refusal(&error, Failure::PushRejected, &work.token),
        }),
        Err(_) => Err(lost(error.to_string())),
    }
}

async fn look(world: &World, work: &Work, secret: Option<&Secret>) -> Result<RemoteRefs, GitError> {
    world.git.ls_remote(&work.task.repo, secret).await
}

enum Standing {
    Absent,
    AtHead,
    Elsewhere(Outcome),
}

fn standing(refs: &RemoteRefs, work: &Work, head: &CommitId) -> Standing {
    let branch = &work.checkout.branch;
    match refs.branch(branch) {
        None => Standing::Absent,
        Some(id) if id == head => Standing::AtHead,
        Some(id) => Standing::Elsewhere(failed(
            Failure::PushConflict,
            format!("{branch} is at {id} on the remote, and this task's head is {head}"),
        )),
    }
}

fn done() -> Outcome {
    Outcome::Done { fact: Fact::Pushed }
}
