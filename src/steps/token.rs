//! `token`: asked for until the server gives it, once; sealed before anyone is told; never asked for again.

use super::{World, api_refusal, failed, lost, seal_refusal};
use crate::adapters::api::{ApiError, ConflictKind};
use crate::crash::{self, CrashPoint, Inside};
use crate::driver::{AnswerLost, Call, Probe};
use crate::machine::{Fact, Failure, Left, Outcome, TokenHistory, Trouble};
use crate::seal::{SealError, Sealed};

/// A sealed token answers for itself. Without one the server is the arbiter: it is asked again.
pub(super) fn probe(world: &World) -> Probe {
    let recovered = world.seal.recover();
    if let Ok(Some(sealed)) = &recovered {
        world.redactor.add(&sealed.token);
    }
    found(recovered)
}

fn found(recovered: Result<Option<Sealed>, SealError>) -> Probe {
    match recovered {
        Ok(Some(sealed)) => Probe::Ended(done(&sealed)),
        Ok(None) => Probe::NotDone(Left::default()),
        // The token was given: the server would answer no more than that, and the way out would be hidden.
        Err(error) => Probe::Ended(seal_refusal(&error)),
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
        // 503 comes before the mark, and 429 before all. After any other the token may have been given, as after an answer
        // that never came.
        ApiError::Retryable { status, .. } if !matches!(status, 429 | 503) => Err(lost(text)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::api::ErrorText;

    fn answered(status: u16) -> ApiError {
        ApiError::Retryable {
            status,
            retry_after: None,
            text: ErrorText::default(),
        }
    }

    #[test]
    fn an_answer_after_which_the_token_may_be_given_is_a_lost_one() {
        for status in [408, 500, 501, 504, 507] {
            let heard = refusal(&answered(status), TokenHistory::NeverAsked);
            assert!(heard.is_err(), "{status}: {heard:?}");
        }
        for status in [429, 503] {
            let heard = refusal(&answered(status), TokenHistory::NeverAsked).unwrap();
            let asked_again = matches!(
                heard,
                Outcome::Retry {
                    trouble: Trouble::Unreachable,
                    ..
                }
            );
            assert!(asked_again, "{status}: {heard:?}");
        }
    }

    #[test]
    fn a_seal_that_cannot_be_read_is_not_asked_past() {
        let unreadable = found(Err(SealError::Unreadable("/run/runner/token.json".into())));
        let Probe::Ended(Outcome::Failed { failure, cause, .. }) = unreadable else {
            panic!("the token would be asked for again");
        };
        assert_eq!(failure, Failure::TokenLost);
        assert!(cause.contains("/run/runner/token.json"), "{cause}");
    }
}
