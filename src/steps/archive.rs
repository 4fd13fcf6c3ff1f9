//! `archive`: what is left of a task is sent away once its verdict is told. Whatever comes of it, the verdict stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use strum::IntoEnumIterator;

use super::{World, retry};
use crate::adapters::archive::{
    self, DIFF_LIMIT, Destination, LeftOut, Manifest, ManifestVerdict, SendError, file_name,
};
use crate::adapters::git::{Diff, DiffOf};
use crate::crash::{self, CrashPoint, Inside};
use crate::driver::{Call, Probe};
use crate::machine::{ArchivePatience, Archived, Fact, Left, Millis, Outcome, StateName, Verdict};
use crate::telemetry::rfc3339;
use crate::text::cut;
use stage::{Refusal, Sources, Staged};

mod stage;

/// What is asked for.
pub(super) struct Order<'a> {
    pub(super) verdict: &'a Verdict,
    pub(super) patience: ArchivePatience,
    pub(super) within_ms: Millis,
}

/// It is sent again under the same name: whether it had arrived need not be known. Where there is no time for that, it is missed.
pub(super) fn probe(patience: ArchivePatience) -> Probe {
    match patience {
        ArchivePatience::TryAgain => Probe::NotDone(Left::default()),
        ArchivePatience::LastTime => Probe::Ended(missed(
            "the runner ended before it was there, as often as it may be tried",
        )),
    }
}

pub(super) async fn act(world: &World, order: &Order<'_>, call: &Call) -> Outcome {
    let Some(destination) = &world.archive else {
        return missed("RUNNER_ARCHIVE_URL is not set any more");
    };
    // The task is over: nothing needs the token any more, and it is gone before anything leaves this machine.
    if let Err(error) = world.seal.destroy() {
        tracing::warn!("the token stays sealed: {error}");
    }
    let within = Duration::from_millis(u64::try_from(order.within_ms).unwrap_or(0));
    let came = tokio::time::timeout(within, send(world, destination, order.verdict, call)).await;
    let error = match came {
        Ok(Ok(archived)) => {
            return Outcome::Done {
                fact: Fact::Archived(archived),
            };
        }
        Ok(Err(error)) => error,
        Err(_) => SendError::Passing {
            cause: format!("it took longer than {} s", within.as_secs()),
            retry_after: None,
        },
    };
    let told = format!("{}: {error}", shown(destination));
    match (error, order.patience) {
        (SendError::Passing { retry_after, .. }, ArchivePatience::TryAgain) => retry(told, retry_after),
        (SendError::Passing { .. }, ArchivePatience::LastTime) | (SendError::Refused { .. }, _) => missed(told),
    }
}

fn missed(cause: impl AsRef<str>) -> Outcome {
    Outcome::Missed {
        cause: super::bounded(cause),
    }
}

/// Where it goes, as far as that may be told.
fn shown(destination: &Destination) -> String {
    match destination {
        Destination::Folder(folder) => folder.display().to_string(),
        Destination::Put(put) => put.host(),
    }
}

async fn send(world: &World, destination: &Destination, verdict: &Verdict, call: &Call) -> Result<Archived, SendError> {
    let task = &call.assignment.task_id;
    // Dropped where nobody waits any more: a thread that is still at it then ends.
    let given_up = GivenUp::default();
    let (diffs, not_diffed) = diffs(world).await;
    let name = file_name(task);
    let sources = Sources {
        state: world.places.state.clone(),
        journal: world.places.journal.clone(),
        agent: world.places.agent_dir(),
        diffs,
        left_out: not_diffed,
        redactor: world.redactor.clone(),
        given_up: Arc::clone(&given_up.0),
        about: about(verdict, call),
        at_s: u64::try_from(call.intended_at / 1000).unwrap_or(0),
        folder: destination.folder().map(|folder| folder.join(&name)),
        attempt: call.attempt,
    };
    let staged = tokio::task::spawn_blocking(move || stage::stage(&sources));
    let Staged { bundle, left_out, file } = staged
        .await
        .map_err(|error| passing(error.to_string()))?
        .map_err(|refusal| refused(&refusal))?;
    let to = match (destination, file) {
        (Destination::Put(put), Some(file)) => {
            crash::at(CrashPoint::Inside(Inside::ArchiveMade));
            let client = world.clients.to(put.peer());
            archive::put(client, put.url(task), file, bundle.bytes).await?;
            put.host()
        }
        (Destination::Folder(folder), _) => folder.join(&name).display().to_string(),
        // A file is staged for every address that takes a PUT.
        (Destination::Put(_), None) => return Err(passing("nothing was staged".to_owned())),
    };
    Ok(Archived {
        to,
        bytes: bundle.bytes,
        sha256: bundle.sha256,
        left_out: told(&left_out),
    })
}

/// So many of what is left out are in the row, each in so many bytes: the manifest has them all.
const LEFT_OUT_TOLD: usize = 20;
const LEFT_OUT_LIMIT: usize = 300;

/// What is left out, in few enough words for a row.
fn told(left_out: &[LeftOut]) -> Vec<String> {
    let lines = left_out.iter().take(LEFT_OUT_TOLD);
    let mut told: Vec<String> = lines
        .map(|LeftOut { path, why }| cut(&format!("{path}: {why}"), LEFT_OUT_LIMIT))
        .collect();
    let more = left_out.len().saturating_sub(LEFT_OUT_TOLD);
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    told
}

fn passing(cause: String) -> SendError {
    SendError::Passing {
        cause,
        retry_after: None,
    }
}

fn refused(refusal: &Refusal) -> SendError {
    let cause = refusal.to_string();
    if refusal.is_final() {
        SendError::Refused { cause }
    } else {
        passing(cause)
    }
}

/// What was changed, by the name that its file has; and what of it could not be had.
async fn diffs(world: &World) -> (Vec<(&'static str, Diff)>, Vec<LeftOut>) {
    let (mut diffs, mut left_out) = (Vec::new(), Vec::new());
    for of in DiffOf::iter() {
        let name = match of {
            DiffOf::Head => "change.diff",
            DiffOf::Refused => "refused.diff",
        };
        match world.git.diff(of, DIFF_LIMIT).await {
            Ok(diff) => diffs.extend(diff.map(|diff| (name, diff))),
            Err(error) => left_out.push(LeftOut {
                path: name.to_owned(),
                why: error.to_string(),
            }),
        }
    }
    (diffs, left_out)
}

fn about(verdict: &Verdict, call: &Call) -> Manifest {
    Manifest {
        format: archive::FORMAT,
        task_id: call.assignment.task_id.clone(),
        runner: crate::VERSION.to_owned(),
        at: rfc3339(call.intended_at),
        state: StateName::Reported.to_string(),
        verdict: ManifestVerdict {
            event: verdict.kind,
            reason: verdict.reason,
            message: verdict.message.clone(),
        },
        boots: call.boot,
        journal_head: call.journal_head.clone(),
        files: Vec::new(),
        left_out: Vec::new(),
    }
}

/// Says so once nobody waits any more.
#[derive(Default)]
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_what_is_left_out_in_few_words_however_much_that_is() {
        let one = |number: usize| LeftOut {
            path: format!("f{number}"),
            why: "w".repeat(5000),
        };
        let many: Vec<LeftOut> = (0..300).map(one).collect();
        let said = told(&many);
        assert_eq!((said.len(), said.last().unwrap().as_str()), (21, "and 280 more"));
        assert!(said.iter().all(|line| line.len() <= LEFT_OUT_LIMIT + 4), "{said:?}");
        assert_eq!(told(&many[..20]).len(), 20);
    }
}
