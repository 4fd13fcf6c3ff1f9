//! What can be wrong with a journal, each with the rows that it is about.

use std::fmt;

use crate::hash::{Hash, Head};
use crate::rule::Rule;

/// Something that is wrong with a journal: what, and from where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Rows whose columns do not give their hash: something in them was changed.
    #[error("{} not what was written: columns and hash do not agree", Rows(*from, *to, "is", "are"))]
    Altered {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// Rows that are not there.
    #[error("{} missing", Rows(*from, *to, "is", "are"))]
    Missing {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// A row and the next, which names another hash. Each is whole by itself, so one of them was replaced.
    #[error("row {seq} is not the one that row {} was written after: one of the two was replaced", seq + 1)]
    Replaced {
        /// The earlier of the two.
        seq: u64,
    },
    /// Rows behind a break in the chain.
    #[error("{} whole, but nothing shows that this journal wrote what stands there: the chain is broken before row {from}", Rows(*from, *to, "is", "are"))]
    Unlinked {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// A row that is what was written, but that no runner would write.
    #[error("row {seq} is not legal: {rule}")]
    Illegal {
        /// Which.
        seq: u64,
        /// The rule that it breaks.
        rule: Rule,
    },
    /// Rows of a newer version that are what was written, and that this program does not understand.
    #[error("{} of a newer program, and not understood by this one", Rows(*from, *to, "is", "are"))]
    NotUnderstood {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// SQLite cannot read on.
    #[error("nothing can be read from row {from} on: {cause}")]
    Unreadable {
        /// The first row that cannot be read.
        from: u64,
        /// What SQLite says.
        cause: String,
    },
    /// The machine's name cannot be read, so no row can be verified.
    #[error("the name of the machine cannot be read, so no row can be verified: {cause}")]
    Machine {
        /// Why not.
        cause: String,
    },
    /// The machine's edges cannot be read, so no transition can be verified.
    #[error("the machine's transitions cannot be read: {cause}")]
    Edges {
        /// Why not.
        cause: String,
    },
    /// The file's pages do not fit each other.
    #[error("the file is damaged: {cause}")]
    Pages {
        /// What SQLite's `quick_check` says.
        cause: String,
    },
    /// A table, index or trigger that is missing, altered or too many.
    #[error("the schema was changed: {object}")]
    Schema {
        /// Which, and how.
        object: String,
    },
    /// A blob whose bytes are not those of its name.
    #[error("blob {sha256} is not what was written")]
    BlobAltered {
        /// Its name.
        sha256: Hash,
    },
    /// A blob that came with a row and is not there.
    #[error("blob {sha256}, which came with row {seq}, is missing")]
    BlobMissing {
        /// Its name.
        sha256: Hash,
        /// The row that it came with.
        seq: u64,
    },
    /// The blobs cannot all be read.
    #[error("the blobs cannot be read: {cause}")]
    Blobs {
        /// What SQLite says.
        cause: String,
    },
    /// A head that was seen elsewhere is not in this journal: its end is lost, or it was written anew.
    #[error(
        "no row that verifies has the hash {expected}: rows are lost or replaced (the last row that verifies is {}, {})",
        last.seq, last.hash
    )]
    HeadMissing {
        /// What was seen.
        expected: Hash,
        /// Where the verified rows end.
        last: Head,
    },
    /// The database is gone, and a write-ahead log is left of it.
    #[error("the database is absent or empty, but its write-ahead log holds {bytes} bytes")]
    DatabaseGone {
        /// The log's size.
        bytes: u64,
    },
    /// There is more than a list can hold.
    #[error("and {count} more")]
    More {
        /// How many are not in the list.
        count: u64,
    },
}

impl Problem {
    /// A version of the schema that no program ever made.
    pub(crate) fn never_written(version: u32) -> Self {
        Self::Schema {
            object: format!("version {version} was never written"),
        }
    }
}

struct Rows(u64, u64, &'static str, &'static str);

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(from, to, one, several) = self;
        if from == to {
            write!(f, "row {from} {one}")
        } else {
            write!(f, "rows {from} to {to} {several}")
        }
    }
}

/// Problems in the order found: neighbours are one, and the list is bounded, so that memory is.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<Problem>,
    more: u64,
}

impl Problems {
    const MAX: usize = 500;

    pub(crate) fn push(&mut self, problem: Problem) {
        let room = self.list.len() < Self::MAX;
        match (self.list.last_mut(), &problem) {
            (Some(Problem::Altered { to, .. }), Problem::Altered { from, to: end })
            | (Some(Problem::NotUnderstood { to, .. }), Problem::NotUnderstood { from, to: end })
            | (Some(Problem::Unlinked { to, .. }), Problem::Unlinked { from, to: end })
                if *from == *to + 1 && self.more == 0 =>
            {
                *to = *end;
            }
            _ if room => self.list.push(problem),
            _ => self.more += 1,
        }
    }

    pub(crate) fn into_list(mut self) -> Vec<Problem> {
        if self.more > 0 {
            self.list.push(Problem::More { count: self.more });
        }
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_is_wrong_and_from_where() {
        let said = [
            (Problem::Missing { from: 5, to: 5 }, "row 5 is missing"),
            (Problem::Missing { from: 5, to: 7 }, "rows 5 to 7 are missing"),
            (
                Problem::Illegal {
                    seq: 2,
                    rule: Rule::Edge,
                },
                "row 2 is not legal: the machine has no such transition",
            ),
        ];
        for (problem, text) in said {
            assert_eq!(problem.to_string(), text);
        }
    }

    #[test]
    fn neighbours_are_one_problem_and_a_long_list_ends_in_a_count() {
        let mut problems = Problems::default();
        for seq in 1..=9 {
            problems.push(Problem::Altered { from: seq, to: seq });
        }
        for seq in 1..=1_000 {
            problems.push(Problem::Missing { from: seq, to: seq });
        }
        let list = problems.into_list();
        assert_eq!(list[0], Problem::Altered { from: 1, to: 9 });
        assert_eq!(list.len(), 501);
        assert_eq!(list[500], Problem::More { count: 501 });
    }

    #[test]
    fn rows_that_are_no_neighbours_are_two_problems() {
        let apart = [
            Problem::Altered { from: 1, to: 1 },
            Problem::Altered { from: 3, to: 3 },
            Problem::Unlinked { from: 4, to: 4 },
            Problem::Unlinked { from: 7, to: 7 },
        ];
        let mut problems = Problems::default();
        for problem in apart.clone() {
            problems.push(problem);
        }
        assert_eq!(problems.into_list(), apart);
    }
}
