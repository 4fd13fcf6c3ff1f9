//! `start`: the sandbox is looked at, and the API is told that the task has begun. The telling is best effort.

use std::time::Duration;

use serde_json::json;

use super::{World, api_refusal, or_outcome};
use crate::adapters::api::ApiError;
use crate::driver::{AnswerLost, Call};
use crate::machine::{Fact, Failure, Millis, Note, Outcome, StartPatience};
use crate::sandbox::InForce;

pub(super) async fn act(
    world: &World,
    patience: StartPatience,
    within_ms: Millis,
    call: &Call,
) -> Result<Outcome, AnswerLost> {
    // First of all, and before the one-time token is spent: what is required and missing stays missing.
    let in_force = or_outcome!(world.sandbox_in_force().await);
    or_outcome!(super::agent::can_be_started(world, in_force.as_ref()));
    if let Some(partial) = in_force.as_ref().filter(|sandbox| !sandbox.missing.is_empty()) {
        tracing::warn!(
            "this kernel does not give the whole sandbox: {} is missing",
            partial.missing
        );
    }
    if !in_force.as_ref().is_some_and(InForce::hides_files) {
        tracing::warn!("the agent runs without a sandbox for files: it can read what this user can, tokens among it");
    }
    let rights = in_force.map(|sandbox| sandbox.rights.iter().map(|right| right.to_string()).collect());
    world.note(Note::Sandbox {
        mode: world.sandbox.to_string(),
        rights: rights.unwrap_or_default(),
    });
    let body = json!({
        "event": "started",
        "message": format!("runner {} started the task", crate::VERSION),
        "details": {"attempt": call.attempt},
    });
    let told = |told| Outcome::Done {
        fact: Fact::Started { told },
    };
    let body = body.to_string();
    let api = world.api(call);
    let told_in_time = tokio::time::timeout(
        Duration::from_millis(within_ms.unsigned_abs()),
        api.status(body.as_bytes(), &call.key),
    )
    .await;
    let answer = told_in_time.unwrap_or_else(|_| Err(ApiError::Lost(format!("no answer within {within_ms} ms"))));
    match answer {
        Ok(_) => Ok(told(true)),
        Err(ApiError::Gone { .. }) => Ok(Outcome::Superseded),
        Err(_) if patience == StartPatience::LastTime => Ok(told(false)),
        // What the API refuses, it will refuse again; the task does not hang on it.
        Err(
            ApiError::NotFound { .. }
            | ApiError::Conflict { .. }
            | ApiError::Refused { .. }
            | ApiError::Malformed { .. }
            | ApiError::TooLarge { .. },
        ) => Ok(told(false)),
        Err(error) => api_refusal(&error, Failure::Internal),
    }
}
