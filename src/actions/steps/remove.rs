//! `remove`: what is registered is not any more. A runner that is not there is removed.

use super::{World, wait_of};
use crate::actions::crash::{ActionsCrash, Inside};
use crate::actions::machine::{Fact, Outcome};
use crate::adapters::runners::RunnersError;
use crate::crash;

/// Removes the runner of this number and name, and whatever has one of these names. It is idempotent, so a lost answer is a miss.
pub(super) async fn act(world: &World, known: Option<&(u64, String)>, names: &[String]) -> Outcome {
    let token = match world.token().await {
        Ok(token) => token,
        Err(error) => return world.retry(error.to_string(), None),
    };
    let removed = async {
        if let Some((id, name)) = known {
            world.runners.remove(&token, *id, name).await?;
        }
        for name in names {
            if let Some(id) = world.runners.find(&token, name).await? {
                tracing::warn!("{name} was registered by a request that nobody answered");
                world.runners.remove(&token, id, name).await?;
            }
        }
        Ok::<(), RunnersError>(())
    };
    match removed.await {
        Ok(()) => {
            crash::at(ActionsCrash::Inside(Inside::Removed));
            Outcome::Done {
                fact: Fact::Removed { names: names.to_vec() },
            }
        }
        Err(error) => {
            if matches!(error, RunnersError::Unauthorized(_)) {
                world.tokens.forget();
            }
            // A runner that was killed counts as busy for a while (422): that passes as well.
            world.retry(error.to_string(), wait_of(&error))
        }
    }
}
