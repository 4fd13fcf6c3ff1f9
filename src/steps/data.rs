//! `data`: what is to be done, fetched and held against what is allowed here.

use std::sync::Arc;

use super::{World, api_refusal, failed};
use crate::driver::{AnswerLost, Call};
use crate::machine::{Fact, Failure, Outcome};
use crate::task::Task;

pub(super) async fn act(world: &World, call: &Call) -> Result<Outcome, AnswerLost> {
    let fetched = match world.api(call).data().await {
        Ok(fetched) => fetched,
        Err(error) => return api_refusal(&error, Failure::TaskDataInvalid),
    };
    Ok(match Task::parse(&fetched.body, world.repos) {
        Ok(task) => Outcome::Done {
            fact: Fact::Data { task: Arc::new(task) },
        },
        Err(error) => failed(Failure::TaskDataInvalid, error.to_string()),
    })
}
