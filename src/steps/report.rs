//! `report`: the verdict's frozen bytes, under their frozen key, until somebody takes them.

use super::{World, lost, retry};
use crate::adapters::api::{ApiError, Note};
use crate::driver::{AnswerLost, Call};
use crate::machine::{Ack, CLAIM_PAUSE_MS, ClaimPatience, Fact, Left, Outcome, Trouble, Verdict};

pub(super) async fn act(
    world: &World,
    verdict: &Verdict,
    claims: ClaimPatience,
    call: &Call,
) -> Result<Outcome, AnswerLost> {
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
