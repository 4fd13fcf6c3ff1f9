//! `archive`: what is left of a task is sent away once its verdict is told. Whatever comes of it, the verdict stands.

use crate::driver::Probe;
use crate::machine::{ArchivePatience, Left, Outcome};

/// It is sent again under the same name: whether it had arrived need not be known. Where there is no time for that, it is missed.
pub(super) fn probe(patience: ArchivePatience) -> Probe {
    match patience {
        ArchivePatience::TryAgain => Probe::NotDone(Left::default()),
        ArchivePatience::LastTime => Probe::Ended(missed(
            "the runner ended before it had, as often or for as long as it may be tried",
        )),
    }
}

pub(super) fn act() -> Outcome {
    missed("RUNNER_ARCHIVE_URL is not set any more")
}

fn missed(cause: impl AsRef<str>) -> Outcome {
    Outcome::Missed {
        cause: super::bounded(cause),
    }
}
