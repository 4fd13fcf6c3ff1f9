//! `register`: a just-in-time registration under a name of this attempt's own.

use super::{World, refused, wait_of};
use crate::actions::crash::{ActionsCrash, Inside};
use crate::actions::driver::{AnswerLost, Probe};
use crate::actions::machine::{Config, Fact, Failure, Outcome};
use crate::adapters::runners::{NewRunner, RunnersError};
use crate::crash;

/// Whoever has this attempt's name is this journal's runner, and nobody knows its configuration.
pub(super) async fn probe(world: &World, name: &str) -> Result<Probe, AnswerLost> {
    let token = world.token().await.map_err(|error| world.lost(error.to_string()))?;
    match world.runners.find(&token, name).await {
        Ok(Some(id)) => Ok(Probe::Ended(registered(id, name, Config::Lost))),
        Ok(None) => Ok(Probe::NotDone),
        Err(error) => {
            if matches!(error, RunnersError::Unauthorized(_)) {
                world.tokens.forget();
            }
            Err(world.unanswered(&error))
        }
    }
}

/// Registers. What is certainly not done is told from what nobody knows.
pub(super) async fn act(world: &World, name: &str) -> Result<Outcome, AnswerLost> {
    let token = match world.token().await {
        Ok(token) => token,
        Err(error) => return Ok(world.no_token(&error)),
    };
    let group = &world.assignment.group;
    let number = match world.runners.group(&token, group).await {
        Ok(Some(number)) => number,
        Ok(None) => {
            let cause = format!("{} has no runner group {group:?}", world.assignment.target);
            return Ok(world.failed(Failure::GroupNotFound, cause));
        }
        // Looking it up does nothing.
        Err(error) => {
            let text = error.to_string();
            return Ok(match refused(&error) {
                Some(failure) => world.failed(failure, text),
                None => world.retry(text, wait_of(&error)),
            });
        }
    };
    let new = NewRunner {
        name,
        runner_group_id: number,
        labels: world.assignment.labels.as_slice(),
        work_folder: &world.assignment.work_folder,
    };
    match world.runners.generate(&token, &new).await {
        Ok(generated) => {
            world.keep(generated.id, generated.config);
            crash::at(ActionsCrash::Inside(Inside::Registered));
            Ok(registered(generated.id, name, Config::AtHand))
        }
        Err(error) => {
            let text = error.to_string();
            match error {
                RunnersError::Lost(_) | RunnersError::Unavailable { .. } | RunnersError::Malformed(_) => {
                    Err(world.unanswered(&error))
                }
                RunnersError::Conflict(_) => Ok(Outcome::Taken {
                    cause: world.cause(format!("{name}: {text}")),
                }),
                RunnersError::NotSent(_) | RunnersError::RateLimited { .. } => Ok(world.retry(text, wait_of(&error))),
                RunnersError::Unauthorized(_)
                | RunnersError::Forbidden(_)
                | RunnersError::NotFound(_)
                | RunnersError::Unprocessable(_)
                | RunnersError::Refused { .. } => {
                    Ok(world.failed(refused(&error).unwrap_or(Failure::RegistrationRefused), text))
                }
            }
        }
    }
}

fn registered(id: u64, name: &str, config: Config) -> Outcome {
    Outcome::Done {
        fact: Fact::Registered {
            id,
            name: name.to_owned(),
            config,
        },
    }
}
