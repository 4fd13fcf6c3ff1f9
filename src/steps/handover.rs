//! `handover`: what the agent changed goes from its tree into the private repository, by git in the agent's sandbox, without a token.

use super::{World, lost, or_outcome};
use crate::adapters::git::GitError;
use crate::adapters::git::handover::{self, HandedOver, HandoverError, Limits, Shape, Work};
use crate::driver::{AnswerLost, Call, Probe};
use crate::machine::{AgentReport, Checkout, Fact, Failure, Handover, Millis, Outcome, Trouble};
use crate::task::Task;

pub(super) async fn probe(world: &World) -> Result<Probe, AnswerLost> {
    let cleared = world.git.clear_stale_locks();
    cleared.map_err(|e| lost(format!("the private repository cannot be looked into: {e}")))?;
    Ok(match handover::probe(&world.git, Limits::default()).await {
        Ok(Some(taken)) => Probe::Ended(done(&taken)),
        // What cannot be read is taken again: the working tree is still there.
        Ok(None) | Err(_) => Probe::NotDone { ran_ms: 0 },
    })
}

pub(super) async fn act(
    world: &World,
    task: &Task,
    checkout: &Checkout,
    agent: &AgentReport,
    at: Millis,
    call: &Call,
) -> Result<Outcome, AnswerLost> {
    let message = super::text::commit_message(task, &call.assignment.task_id);
    let message = world.redactor.clean(message);
    let template = or_outcome!(super::agent::git_in_the_sandbox(world).await);
    let work = Work {
        workspace_repo: &world.places.repo(),
        scratch_dir: &world.places.workspace.join("handover"),
        base: &checkout.base,
        author: &world.author,
        message: &message,
        at: u64::try_from(at / 1000).unwrap_or(0),
        limits: Limits::default(),
    };
    Ok(match handover::take(&world.git, &template, &work).await {
        Ok(taken) => done(&taken),
        Err(error) => refusal(&error, agent),
    })
}

fn done(taken: &HandedOver) -> Outcome {
    let flattened = match taken.shape {
        Shape::Descends => None,
        Shape::Flattened { why } => Some(why.to_string()),
    };
    Outcome::Done {
        fact: Fact::HandedOver(Handover {
            head: taken.head.clone(),
            commits: taken.commits,
            files: u32::try_from(taken.files_total).unwrap_or(u32::MAX),
            flattened,
        }),
    }
}

fn refusal(error: &HandoverError, agent: &AgentReport) -> Outcome {
    let text = error.to_string();
    let with_agent = |failure, cause: String| Outcome::Failed {
        failure,
        cause: super::bounded(cause),
        agent: Some(agent.clone()),
    };
    match error {
        HandoverError::Policy { violations, .. } => {
            let list: Vec<String> = violations
                .iter()
                .take(20)
                .map(|v| format!("{}: {}", v.path.display(), v.what))
                .collect();
            with_agent(Failure::PolicyViolation, format!("{text}\n{}", list.join("\n")))
        }
        HandoverError::Refused { .. } => with_agent(Failure::PolicyViolation, text),
        HandoverError::Private(GitError::DiskFull { .. }) => with_agent(Failure::DiskFull, text),
        HandoverError::Private(GitError::TooLarge { .. }) => with_agent(Failure::PolicyViolation, text),
        HandoverError::Private(_)
        | HandoverError::Launch(_)
        | HandoverError::TimedOut { .. }
        | HandoverError::Unreadable { .. }
        | HandoverError::Confined { .. } => Outcome::Retry {
            trouble: Trouble::NoResult,
            cause: super::bounded(text),
            after_ms: None,
            ran_ms: 0,
        },
    }
}
