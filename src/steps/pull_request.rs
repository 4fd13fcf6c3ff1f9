//! `pull_request`: looked for by this task's marker, opened where there is none, looked for again where that is refused.

use super::text::{PullRequestText, template};
use super::{World, failed, lost, not_found_out, or_outcome, retry};
use crate::adapters::forge::{Forge, ForgeAddress, ForgeError, NewPullRequest, PullRequest as Found, Unprocessable};
use crate::crash::{self, CrashPoint, Inside};
use crate::driver::{AnswerLost, Call, Probe};
use crate::ids::{CommitId, RepoUrl};
use crate::machine::{CommandEnd, CommandRun, Fact, Failure, Left, Outcome, PullRequest, Work};
use crate::secret::Secret;
use crate::telemetry::system_clock;

/// Whether pull requests are opened as drafts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Draft {
    Yes,
    No,
}

pub(super) async fn probe(world: &World, work: &Work, call: &Call) -> Result<Probe, AnswerLost> {
    let (forge, token) = match forge(world, work) {
        Ok(forge) => forge,
        Err(outcome) => return Ok(Probe::Ended(outcome)),
    };
    match find(&forge, &token, work, call).await {
        Ok(Some(found)) => Ok(Probe::Ended(done(&found))),
        Ok(None) => Ok(Probe::NotDone(Left::default())),
        Err(error) => not_found_out(refusal(&error, work)?),
    }
}

pub(super) async fn act(world: &World, work: &Work, head: &CommitId, call: &Call) -> Result<Outcome, AnswerLost> {
    let (forge, token) = or_outcome!(forge(world, work));
    match find(&forge, &token, work, call).await {
        Ok(Some(found)) => return Ok(done(&found)),
        Ok(None) => {}
        Err(error) => return refusal(&error, work),
    }
    crash::at(CrashPoint::Inside(Inside::PullRequestLooked));
    // The work does not wait for a frame that cannot be read.
    let template = template(&world.git, &work.checkout.base).await.unwrap_or_else(|error| {
        tracing::warn!("the repository's template for pull requests cannot be read: {error}");
        None
    });
    let check = checked(world, work);
    // Both went through the redactor when they became rows.
    let incomplete = work.handover.cut.as_ref();
    let incomplete = incomplete.map(|cut| format!("{} {}", cut.failure.sentence(), cut.cause));
    let text = PullRequestText {
        task: &work.task,
        id: &call.assignment.task_id,
        agent: &work.agent,
        handover: &work.handover,
        checkout: &work.checkout,
        head,
        check: check.as_ref(),
        incomplete: incomplete.as_deref(),
        attempts: Some(work.agent_starts),
        journal_head: Some(&call.journal_head),
        template: template.as_deref(),
    };
    let new = NewPullRequest {
        title: world.redactor.clean(text.title()),
        body: world.redactor.clean(text.body()),
        head: work.checkout.branch.clone(),
        base: work.checkout.base_branch.clone(),
        draft: world.draft == Draft::Yes || text.is_draft(),
    };
    match forge.create(&token, &new).await {
        Ok(created) => Ok(done(&created)),
        Err(
            error @ ForgeError::Unprocessable {
                reason: Unprocessable::AlreadyExists | Unprocessable::Other,
                ..
            },
        ) => match find(&forge, &token, work, call).await {
            Ok(Some(found)) => Ok(done(&found)),
            Ok(None) | Err(_) => refusal(&error, work),
        },
        Err(error) => refusal(&error, work),
    }
}

/// What the check came to. Of one that there should have been, and that nobody had the time for, that it was not.
fn checked(world: &World, work: &Work) -> Option<CommandRun> {
    let missed = || CommandRun {
        end: CommandEnd::NotStarted,
        ran_ms: 0,
        output: "There was no time left for it.".to_owned(),
    };
    let is_owed = world.commands.check.is_some() && work.handover.cut.is_none();
    work.check.clone().or_else(|| is_owed.then(missed))
}

fn forge(world: &World, work: &Work) -> Result<(Forge, Secret), Outcome> {
    let RepoUrl::Http(url) = &work.task.repo else {
        return Err(failed(Failure::Internal, "a path of this machine has no forge"));
    };
    let address =
        ForgeAddress::derive(url, world.forge_api.as_ref()).map_err(|e| failed(Failure::PrRefused, e.to_string()))?;
    let token = world.token(&work.token)?;
    let client = world.clients.to(address.api()).clone();
    Ok((Forge::new(client, address), token))
}

async fn find(forge: &Forge, token: &Secret, work: &Work, call: &Call) -> Result<Option<Found>, ForgeError> {
    forge.find(token, &work.checkout.branch, &call.assignment.task_id).await
}

fn done(found: &Found) -> Outcome {
    Outcome::Done {
        fact: Fact::PullRequest(PullRequest {
            number: found.number,
            url: found.url.to_string(),
        }),
    }
}

fn refusal(error: &ForgeError, work: &Work) -> Result<Outcome, AnswerLost> {
    let text = error.to_string();
    Ok(match error {
        ForgeError::Lost(_) => return Err(lost(text)),
        ForgeError::NotSent(_) => retry(text, None),
        ForgeError::Retryable { retry_after, .. } => retry(text, *retry_after),
        // The forge may not see yet what was pushed a moment ago.
        ForgeError::Unprocessable {
            reason: Unprocessable::HeadInvalid,
            ..
        } => retry(text, None),
        ForgeError::Unauthorized { .. } if system_clock() >= work.token.expires_at_ms => {
            failed(Failure::TokenExpired, text)
        }
        ForgeError::Unauthorized { .. }
        | ForgeError::Forbidden { .. }
        | ForgeError::NotFound { .. }
        | ForgeError::Unprocessable { .. }
        | ForgeError::Refused { .. }
        | ForgeError::Malformed { .. } => failed(Failure::PrRefused, text),
    })
}
