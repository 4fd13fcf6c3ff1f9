//! What an append came to and what it took, for whoever measures.

use std::fmt;
use std::time::{Duration, Instant};

use strum::{EnumIter, IntoStaticStr};

use crate::entry::Entry;
use crate::error::AppendError;

/// An append, once it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// How it ended.
    pub end: AppendEnd,
    /// How many bytes of bodies and blobs it was to keep. Columns beside them are a few dozen bytes a row.
    pub bytes: u64,
    /// From COMMIT to its return: the write to the log and its sync. None where it did not come so far.
    pub synced_in: Option<Duration>,
}

/// How an append ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum AppendEnd {
    /// The rows are on disk.
    Kept,
    /// A row broke a rule: nothing was written.
    Refused,
    /// The disk failed or is full, or it had failed before: the journal takes nothing any more.
    Failed,
}

/// Who is told of each append; nobody, unless it is asked for, and then no clock is looked at either.
#[derive(Default)]
pub(crate) struct Watch(Option<Told>);

type Told = Box<dyn FnMut(&Appended) + Send>;

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Watch" } else { "nobody" })
    }
}

impl Watch {
    pub(crate) fn by(told: impl FnMut(&Appended) + Send + 'static) -> Self {
        Self(Some(Box::new(told)))
    }

    /// A moment to measure from, where anybody measures.
    pub(crate) fn now(&self) -> Option<Instant> {
        self.0.is_some().then(Instant::now)
    }

    pub(crate) fn tell<T>(
        &mut self,
        result: &Result<T, AppendError>,
        entries: &[Entry],
        blobs: &[&[u8]],
        synced_in: Option<Duration>,
    ) {
        let Some(told) = &mut self.0 else {
            return;
        };
        let bodies = entries.iter().filter_map(Entry::body).map(str::len);
        let bytes: usize = bodies.chain(blobs.iter().map(|blob| blob.len())).sum();
        told(&Appended {
            end: match result {
                Ok(_) => AppendEnd::Kept,
                Err(AppendError::Refused { .. } | AppendError::NoEntry) => AppendEnd::Refused,
                Err(AppendError::Full(_) | AppendError::Commit(_) | AppendError::Poisoned) => AppendEnd::Failed,
            },
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
            synced_in,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_anybody_watches_is_seen_in_a_journals_debug_form() {
        assert_eq!(format!("{:?}", Watch::default()), "nobody");
        assert_eq!(format!("{:?}", Watch::by(|_| {})), "Watch");
    }
}
