//! Rows that are not shown, because they are missing or do not verify.

use runner_journal::Problem;

use crate::machine::Millis;

/// Rows that are not shown.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli::journal) struct Gap {
    pub(in crate::cli::journal) from: u64,
    /// The last of them; none where nobody knows how many there were.
    pub(in crate::cli::journal) to: Option<u64>,
    /// Where they belong, in milliseconds from the journal's first row.
    pub(in crate::cli::journal) at: Millis,
    /// What is wrong with them.
    pub(in crate::cli::journal) why: Vec<String>,
}

impl Gap {
    pub(super) fn new(from: u64, to: Option<u64>, at: Millis) -> Self {
        Self {
            from,
            to,
            at,
            why: Vec::new(),
        }
    }

    /// Which rows: `row 3`, `rows 3 to 5`, `row 3 and all after it`.
    pub(in crate::cli::journal) fn rows(&self) -> String {
        match self.to {
            Some(to) if to == self.from => format!("row {to}"),
            Some(to) => format!("rows {} to {to}", self.from),
            None => format!("row {} and whatever came after it", self.from),
        }
    }
}

/// The rows that a problem is about; without an end where it is about all that follow.
fn rows(problem: &Problem) -> Option<(u64, Option<u64>)> {
    match problem {
        Problem::Altered { from, to }
        | Problem::Missing { from, to }
        | Problem::NotUnderstood { from, to }
        | Problem::Unlinked { from, to } => Some((*from, Some(*to))),
        Problem::Replaced { seq } => Some((*seq, Some(seq.saturating_add(1)))),
        Problem::Illegal { seq, .. } => Some((*seq, Some(*seq))),
        Problem::Unreadable { from, .. } => Some((*from, None)),
        Problem::Machine { .. } => Some((1, None)),
        Problem::Edges { .. }
        | Problem::Pages { .. }
        | Problem::Schema { .. }
        | Problem::BlobAltered { .. }
        | Problem::BlobMissing { .. }
        | Problem::Blobs { .. }
        | Problem::HeadMissing { .. }
        | Problem::DatabaseGone { .. }
        | Problem::More { .. } => None,
    }
}

/// What is missing from row `next` on, once no row is left.
pub(super) fn after(next: u64, problems: &[Problem]) -> Option<(u64, Option<u64>)> {
    let behind = problems
        .iter()
        .filter_map(rows)
        .filter(|(_, to)| to.is_none_or(|to| to >= next));
    let last = behind.map(|(_, to)| to.unwrap_or(u64::MAX)).max()?;
    Some((next, Some(last).filter(|last| *last != u64::MAX)))
}

/// What the problems say of a gap.
pub(super) fn why(gap: &Gap, problems: &[Problem]) -> Vec<String> {
    let about = problems.iter().filter(|problem| {
        rows(problem).is_some_and(|(from, to)| from <= gap.to.unwrap_or(u64::MAX) && to.is_none_or(|to| to >= gap.from))
    });
    about.map(ToString::to_string).collect()
}
