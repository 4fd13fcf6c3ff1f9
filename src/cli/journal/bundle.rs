//! A journal in an archive: every command of `runner journal` takes one as it takes a journal.

use std::path::{Path, PathBuf};

use crate::adapters::archive::{Opened, UnreadableBundle, is_bundle};
use crate::cli::CliError;

/// A journal to look at. What it was unpacked into is gone with this value.
pub(super) enum Found {
    /// A journal by itself.
    Journal(PathBuf),
    /// One out of an archive.
    Bundle {
        /// The archive.
        path: PathBuf,
        /// What was in it.
        opened: Box<Opened>,
    },
}

impl Found {
    /// The journal at a path, or in the archive that is there.
    pub(super) fn at(path: PathBuf) -> Result<Self, CliError> {
        if !is_bundle(&path) {
            return Ok(Self::Journal(path));
        }
        match Opened::unpack(&path) {
            Ok(opened) => {
                let of = opened.manifest.as_ref().map_or_else(String::new, |manifest| {
                    format!(", of task {}, archived at {}", manifest.task_id, manifest.at)
                });
                eprintln!("reading the journal in the archive {}{of}", path.display());
                Ok(Self::Bundle {
                    path,
                    opened: Box::new(opened),
                })
            }
            Err(source) => {
                if let UnreadableBundle::NoJournal { problems } = &source {
                    say(&path, problems);
                }
                Err(CliError::Bundle { path, source })
            }
        }
    }

    /// Looks at the journal. An archive that is damaged is told of beside what the journal is, whichever of its files it is.
    pub(super) fn look(self, look: impl FnOnce(&Path) -> Result<u8, CliError>) -> Result<u8, CliError> {
        match self {
            Self::Journal(path) => look(&path),
            Self::Bundle { path, opened } => {
                let looked = look(&opened.journal());
                say(&path, &opened.problems);
                let code = looked?;
                Ok(if code == 0 {
                    u8::from(!opened.problems.is_empty())
                } else {
                    code
                })
            }
        }
    }
}

fn say(path: &Path, problems: &[String]) {
    if !problems.is_empty() {
        eprintln!("error: the archive {} is damaged", path.display());
    }
    for problem in problems {
        eprintln!("  {problem}");
    }
}
