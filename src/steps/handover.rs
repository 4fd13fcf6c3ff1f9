//! `handover`: what the agent changed goes from its tree into the private repository, by git in the agent's sandbox, without a token.

use std::fmt::Write as _;
use std::path::Path;

use super::{World, lost, or_outcome, sandboxed};
use crate::adapters::git::handover::{self, HandedOver, HandoverError, Limits, Shape, Violation, Work};
use crate::adapters::git::{GitError, REFUSED};
use crate::driver::{AnswerLost, Call, Probe};
use crate::machine::{AgentReport, Checkout, Cut, Fact, Failure, Handover, Left, Millis, Outcome, Trouble};
use crate::redact::Redactor;
use crate::task::Task;
use crate::text::{count, cut, escape_controls};

/// What is taken.
pub(super) struct Taken<'a> {
    pub(super) task: &'a Task,
    pub(super) checkout: &'a Checkout,
    pub(super) agent: &'a AgentReport,
    pub(super) cut: Option<&'a Cut>,
    pub(super) at: Millis,
}

pub(super) async fn probe(world: &World, cut: Option<&Cut>) -> Result<Probe, AnswerLost> {
    let cleared = world.git.clear_stale_locks();
    cleared.map_err(|e| lost(format!("the private repository cannot be looked into: {e}")))?;
    Ok(match handover::probe(&world.git, Limits::default()).await {
        Ok(Some(taken)) => Probe::Ended(done(&taken, cut)),
        // What cannot be read is taken again: the working tree is still there.
        Ok(None) | Err(_) => Probe::NotDone(Left::default()),
    })
}

pub(super) async fn act(world: &World, taken: &Taken<'_>, call: &Call) -> Result<Outcome, AnswerLost> {
    or_outcome!(
        sandboxed::free(world)
            .await
            .map_err(|e| sandboxed::not_started(&e.to_string()))
    );
    let message = super::text::commit_message(taken.task, &call.assignment.task_id, taken.agent.summary.as_deref());
    let message = world.redactor.clean(message);
    let template = or_outcome!(sandboxed::git(world).await);
    let work = Work {
        workspace_repo: &world.places.repo(),
        scratch_dir: &world.places.workspace.join("handover"),
        base: &taken.checkout.base,
        author: &world.author,
        message: &message,
        at: u64::try_from(taken.at / 1000).unwrap_or(0),
        limits: Limits::default(),
        rules: &world.rules,
    };
    Ok(match handover::take(&world.git, &template, &work).await {
        Ok(work) => done(&work, taken.cut),
        Err(error) => refusal(world, &error, taken),
    })
}

fn done(taken: &HandedOver, cut: Option<&Cut>) -> Outcome {
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
            cut: cut.cloned(),
        }),
    }
}

/// The list of a report has this many bytes at most, and how many more there are.
const LIST_LIMIT: usize = 3000;
/// A path of it has this many.
const LINE_LIMIT: usize = 300;

/// Each violation in a line, and where the work is.
fn listed(violations: &[Violation], kept: Option<&Path>, redactor: &Redactor) -> String {
    let mut text = format!(
        "{}:",
        count(u32::try_from(violations.len()).unwrap_or(u32::MAX), "violation")
    );
    for (number, violation) in violations.iter().enumerate() {
        if text.len() > LIST_LIMIT {
            let _ = write!(text, "\n- and {} more", violations.len() - number);
            break;
        }
        let line = escape_controls(&redactor.clean(violation.to_string()));
        let _ = write!(text, "\n- {}", cut(&line, LINE_LIMIT));
    }
    if let Some(dir) = kept {
        let _ = write!(
            text,
            "\nNothing was pushed. The work is kept in {} as {REFUSED}.",
            dir.display()
        );
    }
    text
}

fn refusal(world: &World, error: &HandoverError, taken: &Taken<'_>) -> Outcome {
    let text = error.to_string();
    let with_agent = |failure, cause: String| {
        let (failure, cause) = match taken.cut {
            Some(cut) => cut.and_not_delivered(failure, &cause),
            None => (failure, cause),
        };
        Outcome::Failed {
            failure,
            cause: super::bounded(cause),
            agent: Some(taken.agent.clone()),
        }
    };
    match error {
        HandoverError::Policy { violations, refused } => {
            let kept = refused.as_ref().map(|_| world.git.dir());
            with_agent(Failure::PolicyViolation, listed(violations, kept, &world.redactor))
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
            left: Left::default(),
        },
    }
}
