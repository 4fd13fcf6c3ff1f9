//! `token`: asked for until the server gives it, once; sealed before anyone is told; never asked for again.

use super::{World, api_refusal, failed, seal_refusal};
use crate::adapters::api::{ApiError, ConflictKind};
use crate::crash::{self, CrashPoint, Inside};
use crate::driver::{AnswerLost, Call, Probe};
use crate::machine::{Fact, Failure, Left, Outcome, TokenHistory, Trouble};
use crate::seal::Sealed;

/// A sealed token answers for itself. Without one the server is the arbiter: it is asked again.
pub(super) fn probe(world: &World) -> Probe {
    match world.seal.recover() {
        Ok(Some(sealed)) => {
            world.redactor.add(&sealed.token);
            Probe::Ended(done(&sealed))
        }
        Ok(None) | Err(_) => Probe::NotDone(Left::default()),
    }
}

pub(super) async fn act(world: &World, history: TokenHistory, call: &Call) -> Result<Outcome, AnswerLost> {
    let issued = match world.api(call).token(&call.key).await {
        Ok(issued) => issued,
        Err(error) => return refusal(&error, history),
    };
    world.redactor.add(&issued.token);
    crash::at(CrashPoint::Inside(Inside::TokenReceived));
    let sealed = Sealed {
        token: issued.token,
        expires_at_ms: issued.expires_at.as_millisecond(),
    };
    Ok(match world.seal.write(&sealed) {
        Ok(()) => done(&sealed),
        Err(error) => seal_refusal(&error),
    })
}

fn done(sealed: &Sealed) -> Outcome {
    Outcome::Done {
        fact: Fact::Token(sealed.facts()),
    }
}

fn refusal(error: &ApiError, history: TokenHistory) -> Result<Outcome, AnswerLost> {
    let text = error.to_string();
    match error {
        ApiError::Conflict {
            kind: ConflictKind::ConcurrentUpdate,
            ..
        } => Ok(super::retry(text, None)),
        ApiError::Conflict {
            kind: ConflictKind::Other,
            ..
        } => {
            let failure = match history {
                TokenHistory::NeverAsked => Failure::TokenAlreadyIssued,
                TokenHistory::AnswerLost => Failure::TokenAmbiguous,
                TokenHistory::MintFailed => Failure::TokenMintFailed,
            };
            Ok(failed(failure, text))
        }
        // 502 comes after the mark: nothing was lost, and a later 409 says so.
        ApiError::Retryable { status: 502, .. } => Ok(Outcome::Retry {
            trouble: Trouble::MintFailed,
            cause: text,
            after_ms: None,
            left: Left::default(),
        }),
        // A 200 that cannot be read was the one time that the token was given.
        ApiError::TooLarge { .. } | ApiError::Malformed { .. } => Ok(failed(Failure::TokenAmbiguous, text)),
        ApiError::NotSent(_)
        | ApiError::Lost(_)
        | ApiError::BearerFile { .. }
        | ApiError::NotFound { .. }
        | ApiError::Gone { .. }
        | ApiError::Unauthorized { .. }
        | ApiError::Retryable { .. }
        | ApiError::Refused { .. } => api_refusal(error, Failure::TokenMintFailed),
    }
}
