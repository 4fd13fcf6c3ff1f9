//! A journal in an archive: every command of `runner journal` takes one as it takes a journal.

use std::path::{Path, PathBuf};

use super::place::Place;
use super::words::escaped;
use crate::adapters::archive::{Opened, UnreadableBundle, is_bundle};
use crate::cli::CliError;

/// A journal to look at. What it was unpacked into is gone with this value.
pub(super) enum Found {
    /// A journal by itself.
    Journal(Place),
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
            return Ok(Self::Journal(Place::of(path)));
        }
        match Opened::unpack(&path) {
            Ok(opened) => {
                let of = opened.manifest.as_ref().map_or_else(String::new, |manifest| {
                    format!(", of task {}, archived at {}", manifest.task_id, manifest.at)
                });
                eprintln!("{}", unpacked(&path, &of));
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
    pub(super) fn look(self, look: impl FnOnce(&Place) -> Result<u8, CliError>) -> Result<u8, CliError> {
        match self {
            Self::Journal(place) => look(&place),
            Self::Bundle { path, opened } => {
                let looked = look(&Place {
                    file: opened.journal(),
                    name: path.clone(),
                });
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
    eprint!("{}", damage(path, problems));
}

/// What was opened.
fn unpacked(path: &Path, of: &str) -> String {
    escaped(&format!("reading the journal in the archive {}{of}", path.display()))
}

/// What is wrong with it, a line a problem.
fn damage(path: &Path, problems: &[String]) -> String {
    let mut text = String::new();
    if !problems.is_empty() {
        text = escaped(&format!("error: the archive {} is damaged", path.display())) + "\n";
    }
    for problem in problems {
        // Whoever made the archive named its files.
        text += &(escaped(&format!("  {problem}")) + "\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_terminal_obeys_what_an_archive_says() {
        let path = Path::new("a\u{1b}[2J.tar.zst");
        let problems = ["b\u{1b}[31m is not\nerror: in it".to_owned()];
        let said = damage(path, &problems) + &unpacked(path, ", of task t-1, archived at \u{1b}[H");
        assert!(!said.contains('\u{1b}'), "{said}");
        assert_eq!(said.lines().count(), 3, "a line a problem: {said}");
    }
}
