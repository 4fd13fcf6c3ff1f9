//! Where a journal is, and what people know it by.

use std::path::PathBuf;

use runner_journal::{ReadError, Snapshot};

use super::words::escaped;
use crate::cli::CliError;

/// A journal to look at.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The database.
    pub(super) file: PathBuf,
    /// What it is called in what is said: of a journal out of an archive, the archive's path.
    pub(super) name: PathBuf,
}

impl Place {
    /// A journal by itself.
    pub(super) fn of(file: impl Into<PathBuf>) -> Self {
        let file = file.into();
        Self {
            name: file.clone(),
            file,
        }
    }

    /// Its name for a line of text. Whoever made the file named it, and a terminal does what it is told.
    pub(super) fn said(&self) -> String {
        escaped(&self.name.display().to_string())
    }

    /// A copy of it.
    pub(super) fn snapshot(&self) -> Result<Snapshot, CliError> {
        Snapshot::take(&self.file).map_err(|source| self.unread(source))
    }

    /// It could not be read.
    pub(super) fn unread(&self, source: ReadError) -> CliError {
        CliError::Read {
            path: self.name.clone(),
            source,
        }
    }
}
