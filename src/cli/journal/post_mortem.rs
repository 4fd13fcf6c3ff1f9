//! A journal read once: what it adds up to, and what is wrong with it.

use std::io;
use std::path::{Path, PathBuf};

use runner_journal::{Hash, Row, Snapshot, Summary};

use super::story::Story;
use crate::cli::CliError;
use crate::machine::Run;
use crate::record;

/// A journal read once: what it adds up to, and what is wrong with it.
pub(super) struct PostMortem {
    pub(super) path: PathBuf,
    pub(super) snapshot: Snapshot,
    pub(super) summary: Summary,
    pub(super) run: Run,
    /// What the rows told on the way there.
    pub(super) story: Story,
    /// What the machine refuses of rows that are whole.
    illegal: Option<String>,
}

impl PostMortem {
    pub(super) fn open(path: &Path) -> Result<Self, CliError> {
        let failed = |source| CliError::Read {
            path: path.to_owned(),
            source,
        };
        let snapshot = Snapshot::take(path).map_err(failed)?;
        let mut run = Run::default();
        let mut story = Story::default();
        let mut illegal = None;
        let mut blob = |hash: &Hash| snapshot.blob(hash).ok().flatten();
        let summary = snapshot
            .read(|row| {
                if illegal.is_some() {
                    return;
                }
                story.before(row, &run);
                match record::step(&mut run, row, &mut blob) {
                    Ok(()) => story.after(row, &run),
                    Err(cause) => illegal = Some(format!("row {}: {cause}", row.seq)),
                }
            })
            .map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            snapshot,
            summary,
            run,
            story,
            illegal,
        })
    }

    pub(super) fn verify(&mut self, head: Option<Hash>) -> Result<(), CliError> {
        self.summary = self.snapshot.verify(head).map_err(|source| CliError::Read {
            path: self.path.clone(),
            source,
        })?;
        Ok(())
    }

    pub(super) fn problems(&self) -> Vec<String> {
        self.summary
            .problems
            .iter()
            .map(ToString::to_string)
            .chain(self.illegal.clone())
            .collect()
    }

    /// Says what is wrong, and what that makes of the exit code.
    pub(super) fn complain(&self) -> u8 {
        complain(&self.path, &self.problems())
    }

    /// Streams the rows that verify: a journal of any length in constant memory.
    pub(super) fn each(&self, mut write: impl FnMut(&Row) -> io::Result<()>) -> io::Result<()> {
        let mut result = Ok(());
        let read = self.snapshot.read(|row| {
            if result.is_ok() {
                result = write(row);
            }
        });
        read.map_err(io::Error::other)?;
        result
    }
}

/// Says what is wrong with a journal, and what that makes of the exit code.
pub(super) fn complain(path: &Path, problems: &[String]) -> u8 {
    if problems.is_empty() {
        return 0;
    }
    eprintln!("error: the journal {} is damaged", path.display());
    for problem in problems {
        eprintln!("  {problem}");
    }
    eprintln!("hint: every row shown verifies; rows that do not are not shown");
    1
}
