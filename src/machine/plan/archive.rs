//! What is done once the verdict is told: what led to it is sent away, within bounds, and whatever comes of that is taken.

use std::sync::Arc;

use super::{Archiving, BACKOFF_SLACK_MS, Plan, Policy, Situation, Stopping, left_of, pause_ms, since};
use crate::machine::effect::{ArchivePatience, Effect, EffectName};
use crate::machine::state::{Millis, Run};

/// How long a start may be busy with it, from the first try that it makes. Time in which no runner ran does not count.
const PATIENCE_MS: Millis = 60_000;
/// One try may take this long, so that there is time for another.
const ATTEMPT_MS: Millis = 25_000;
/// One that begins late has this long nevertheless.
const ATTEMPT_AT_LEAST_MS: Millis = 1_000;
/// How often it is tried in all, over all starts: what kills the runner each time has an end, too.
const ATTEMPTS: u32 = 5;

/// The next step of the archive in `Reported`; none where there is nothing to do any more, or no time.
pub(super) fn plan(run: &Run, situation: Situation, policy: &Policy) -> Option<Plan> {
    if policy.archive == Archiving::Off || run.archive.is_some() || situation.stopping == Stopping::Over {
        return None;
    }
    let verdict = run.verdict.as_ref()?;
    let tally = run.tally(EffectName::Archive);
    let begun = if tally.attempts == 0 {
        situation.now
    } else {
        run.boot.at.max(tally.first_at)
    };
    let left = PATIENCE_MS - since(situation.now, begun);
    if tally.misses > 0 {
        let pause = pause_ms(run, EffectName::Archive, tally);
        // Asked to wait for longer than there is time, it is tried once more at the end of it.
        let wait = left_of(pause, tally.last_at, situation.now).min(left);
        if wait > 0 {
            return Some(Plan::Wait { for_ms: wait });
        }
    }
    let attempt = run.open.map_or(tally.attempts + 1, |open| open.number);
    let patience = if attempt >= ATTEMPTS || left < ATTEMPT_MS + BACKOFF_SLACK_MS {
        ArchivePatience::LastTime
    } else {
        ArchivePatience::TryAgain
    };
    let effect = Effect::Archive {
        verdict: Arc::clone(verdict),
        patience,
        within_ms: left.clamp(ATTEMPT_AT_LEAST_MS, ATTEMPT_MS),
    };
    Some(match run.open {
        Some(_) => Plan::Probe { effect, attempt },
        None => Plan::Do { effect, attempt },
    })
}
