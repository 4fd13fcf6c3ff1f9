//! `report`: the verdict's frozen bytes, under their frozen key, until somebody takes them.

use std::time::Duration;

use super::{World, lost, retry};
use crate::adapters::api::{ApiError, Note};
use crate::driver::{AnswerLost, Call};
use crate::machine::{Ack, CLAIM_PAUSE_MS, ClaimPatience, Fact, Left, Outcome, Stopping, Trouble, Verdict};

/// How long what the agent did last may take to be told, before the verdict is.
const LAST_EVENTS: Duration = Duration::from_secs(1);
/// The same where the runner was told to stop: what is left of the grace is the verdict's.
const LAST_EVENTS_IN_A_HURRY: Duration = Duration::from_millis(100);

pub(super) async fn act(
    world: &World,
    verdict: &Verdict,
    claims: ClaimPatience,
    call: &Call,
) -> Result<Outcome, AnswerLost> {
    // Nothing is told of a task after its verdict.
    let within = match *call.stop.borrow() {
        Stopping::No => LAST_EVENTS,
        Stopping::Grace | Stopping::Over => LAST_EVENTS_IN_A_HURRY,
    };
    world.forwarder.close(within).await;
    let ack = match world.api(call).status(verdict.body.as_bytes(), &verdict.key).await {
        Ok(answer) => match answer.note {
            None | Some(Note::Other(_)) => Ack::Accepted,
            Some(Note::AlreadyNotified) => Ack::AlreadyNotified,
            Some(Note::CallbackPending) => Ack::CallbackPending,
            Some(Note::TaskAlreadyClaimed) if claims == ClaimPatience::TakeIt => Ack::TakenAsClaimed,
            Some(Note::TaskAlreadyClaimed) => {
                return Ok(Outcome::Retry {
                    trouble: Trouble::Claimed,
                    cause: "the API says that the task is claimed already: the verdict may have been dropped"
                        .to_owned(),
                    after_ms: Some(CLAIM_PAUSE_MS),
                    left: Left::default(),
                });
            }
        },
        Err(ApiError::NotFound { .. }) => Ack::NobodyLeft,
        Err(ApiError::Gone { .. }) => Ack::EndedElsewhere,
        Err(error @ ApiError::Lost(_)) => return Err(lost(error.to_string())),
        Err(error @ ApiError::Retryable { retry_after, .. }) => return Ok(retry(error.to_string(), retry_after)),
        // Whatever else the API says: the verdict stands, and is sent until it is taken or the patience is over.
        Err(
            error @ (ApiError::NotSent(_)
            | ApiError::BearerFile { .. }
            | ApiError::Unauthorized { .. }
            | ApiError::Conflict { .. }
            | ApiError::Refused { .. }
            | ApiError::TooLarge { .. }
            | ApiError::Malformed { .. }),
        ) => return Ok(retry(error.to_string(), None)),
    };
    Ok(Outcome::Done {
        fact: Fact::Reported { ack },
    })
}
