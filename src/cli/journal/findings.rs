//! What is wrong with a journal, or beyond this program, and what that makes of the exit code.

use std::io::{self, Write};
use std::path::Path;

use runner_journal::{Problem, SCHEMA, Snapshot, Summary};

use super::history::Cause;
use crate::record::MACHINE;

/// A row that the machine does not take.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) seq: u64,
    pub(super) cause: String,
    /// Whether a newer program's machine may take it.
    pub(super) newer: bool,
}

impl Refused {
    pub(super) fn of(seq: u64, cause: &Cause, snapshot: &Snapshot) -> Self {
        let (cause, newer) = match cause {
            // Another machine's rows are not a newer one's.
            Cause::Task(cause) => (
                cause.to_string(),
                snapshot.machine() == Some(MACHINE) && (snapshot.is_newer() || cause.is_of_a_newer_machine()),
            ),
            Cause::Runner(cause) => (cause.to_string(), false),
        };
        Self { seq, cause, newer }
    }
}

/// What was found of a journal beside its rows.
#[derive(Debug)]
pub(super) struct Findings {
    /// What is wrong, in the order found.
    pub(super) problems: Vec<String>,
    /// What of it is of a later program than this, where something is.
    pub(super) newer: Option<String>,
}

impl Findings {
    pub(super) fn of(snapshot: &Snapshot, summary: &Summary, refused: Option<&Refused>) -> Self {
        let of_a_newer_machine = refused.filter(|refused| refused.newer);
        let newer = if snapshot.is_newer() {
            Some(format!(
                "its schema is version {}, and this program knows version {SCHEMA}",
                snapshot.schema()
            ))
        } else {
            of_a_newer_machine.map(|refused| format!("row {}: {}", refused.seq, refused.cause))
        };
        let refused = refused.map(|refused| format!("row {}: {}", refused.seq, refused.cause));
        let problems = summary.problems.iter().map(Problem::to_string).chain(refused).collect();
        Self { problems, newer }
    }

    /// Whether there is nothing to say.
    pub(super) fn is_empty(&self) -> bool {
        self.code() == 0
    }

    /// Says on standard error what is wrong, and what that makes of the exit code: 0 where nothing is, 1 where the journal
    /// is damaged, 3 where it is of a newer program.
    pub(super) fn complain(&self, path: &Path) -> u8 {
        let mut out = io::stderr().lock();
        // Where nothing can be said, the exit code still says it.
        self.print(path, &mut out).unwrap_or_else(|_| self.code())
    }

    fn code(&self) -> u8 {
        match (&self.newer, self.problems.len()) {
            (Some(_), _) => 3,
            (None, 0) => 0,
            (None, _) => 1,
        }
    }

    fn print(&self, path: &Path, out: &mut impl Write) -> io::Result<u8> {
        let path = path.display();
        match &self.newer {
            Some(newer) => writeln!(out, "error: the journal {path} is of a newer program: {newer}")?,
            None if self.problems.is_empty() => return Ok(0),
            None => writeln!(out, "error: the journal {path} is damaged")?,
        }
        for problem in &self.problems {
            if self.newer.as_ref() != Some(problem) {
                writeln!(out, "  {problem}")?;
            }
        }
        let hint = match self.newer {
            Some(_) => {
                "what this program understands of it was read, and there may be more: read it with the newer program"
            }
            None => "every row shown verifies; rows that do not are not shown",
        };
        writeln!(out, "hint: {hint}")?;
        Ok(self.code())
    }
}
