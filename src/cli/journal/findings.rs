//! What is wrong with a journal, or beyond this program, and what that makes of the exit code.

use std::io::{self, Write};
use std::path::Path;

use runner_journal::{Problem, SCHEMA, Snapshot, Summary};

use super::history::Cause;
use super::words::escaped;
use crate::record::MACHINE;
use crate::redact::Redactor;

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
        // It may repeat what stands in the body.
        let cause = Redactor::new().clean(cause);
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
        // A problem repeats what stands in the file: names of tables, and parts of bodies.
        let mut say = |line: String| writeln!(out, "{}", escaped(&line));
        match &self.newer {
            Some(newer) => say(format!("error: the journal {path} is of a newer program: {newer}"))?,
            None if self.problems.is_empty() => return Ok(0),
            None => say(format!("error: the journal {path} is damaged"))?,
        }
        for problem in &self.problems {
            if self.newer.as_ref() != Some(problem) {
                say(format!("  {problem}"))?;
            }
        }
        let hint = match self.newer {
            Some(_) => {
                "what this program understands of it was read, and there may be more: read it with the newer program"
            }
            None => "every row shown verifies; rows that do not are not shown",
        };
        say(format!("hint: {hint}"))?;
        Ok(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::journal::lived::Lived;
    use crate::record::RowError;

    #[test]
    fn no_terminal_obeys_what_is_said_of_a_journal() {
        let findings = Findings {
            problems: vec!["there is a table \u{1b}]0;owned\u{7} too many".to_owned()],
            newer: None,
        };
        let mut out = Vec::new();
        findings.print(Path::new("a\u{1b}[2J.db"), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text}");
        assert!(text.contains("\\u{1b}]0;owned"), "{text}");
    }

    #[test]
    fn what_is_said_of_a_row_is_without_what_looks_like_a_secret() {
        let (_directory, post_mortem) = Lived::booted().post_mortem();
        let cause = RowError::UnknownName("ghp_0123456789abcdefghijABCDEFGHIJ012345".to_owned());
        let refused = Refused::of(3, &Cause::Task(cause), &post_mortem.snapshot);
        assert!(refused.cause.contains("[redacted]"), "{}", refused.cause);
        assert!(refused.newer);
    }
}
