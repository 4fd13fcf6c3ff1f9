//! An append-only, hash-chained journal of effects in SQLite, for state machines that must survive a crash.
//!
//! A program that acts on the outside world and may die at any moment writes down what it is about to do, does it,
//! and writes down how it ended. When it starts again, the journal tells it what is known to have happened, and
//! which single effect it has to ask the outside world about. This crate is that journal. It knows rows, edges and
//! blobs, and nothing about what they mean.
//!
//! ```
//! use runner_journal::{Entry, Finding, Journal, Machine, Snapshot};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("journal.db");
//! let machine = Machine::new("door", [("", "Closed"), ("Closed", "Open")]);
//! let mut journal = Journal::open(&path, &machine)?.journal;
//!
//! let enter = |src: &str, dst: &str| Entry::Enter { src: src.into(), dst: dst.into(), body: None };
//! journal.append(0, &[Entry::Boot { body: None }, enter("", "Closed")], &[])?;
//! journal.append(5, &[Entry::Intent {
//!     effect: "push".into(), attempt: 1, key: "door/push/1".into(), body: Some(r#"{"force":3}"#.into()),
//! }], &[])?;
//! // … the door is pushed, and the process is killed. Whoever starts next finds the open intent, and looks:
//! drop(journal);
//! let opened = Journal::open(&path, &machine)?;
//! assert!(matches!(opened.rows.last().map(|row| &row.entry), Some(Entry::Intent { .. })));
//! let mut journal = opened.journal;
//! let head = journal.append(9, &[
//!     Entry::Boot { body: None },
//!     Entry::Probe { effect: "push".into(), attempt: 1, finding: Finding::Done, body: None },
//!     Entry::Outcome { effect: "push".into(), attempt: 1, finding: Finding::Done, body: None },
//!     enter("Closed", "Open"),
//! ], &[])?;
//! // What the machine does not allow is refused, and so is what was entered before.
//! assert!(journal.append(9, &[enter("Open", "Closed")], &[]).is_err());
//!
//! // Anybody may read, at any time, also while it is written: from a copy.
//! let summary = Snapshot::take(&path)?.verify(Some(head.hash))?;
//! assert!(summary.whole());
//! assert_eq!(summary.rows, 7);
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! | promise | what keeps it |
//! |---|---|
//! | what was acknowledged survives a loss of power | one transaction and one sync an append (WAL, `synchronous=FULL`, each setting read back); [`Journal::open`] makes what it read durable before it returns |
//! | after a failed write nothing is believed | a [`Journal`] whose commit failed answers [`AppendError::Poisoned`] for ever |
//! | this program cannot change or remove a row | triggers, unique indexes and CHECKs on every write; an authorizer that refuses everything but inserts |
//! | illegal histories cannot be written | the same, by the names in [`Rule`]: an edge of the machine, one enter a state, one open intent, one verdict |
//! | what others changed is seen | each row's SHA-256 covers its columns and the row before; [`Snapshot::verify`] |
//! | a lost end is seen | only against a head that was kept elsewhere ([`Journal::head`] belongs into every log line) |
//! | one writer | a lock beside the file, which names its holder, and SQLite's own exclusive lock |
//! | what is not ours is left alone | the file's head, its machine and its rows are checked before anything is written |
//! | a journal of a later program is read as far as this one understands it | each version's columns come behind those of the one before; a row's hash covers all of them, read or not |
//! | a journal of the dead is readable anywhere | [`Snapshot`] works on a copy of the file and its `-wal` |
//!
//! The chain has no key: whoever can write the file can write a whole new history. That, too, only a head kept
//! elsewhere can show.
//!
//! # The protocol of an effect
//!
//! Append an [intent](Entry::Intent), act, append the [outcome](Entry::Outcome) together with the
//! [state](Entry::Enter) it leads to. A start that finds an open intent looks whether the effect is there and
//! appends a [probe](Entry::Probe): `done` with its outcome, `not_done` before the next attempt under the same
//! key, `unknown` before a [verdict](Entry::Verdict). There is one verdict, frozen before it is told to anyone.
//!
//! # Files
//!
//! `journal.db`, `journal.db-wal` (only while it is open, or after a death) and `journal.db.lock`, 0600 in a
//! directory of 0700. The database file stays still while the journal is open, and the log only grows, so
//! copying the one and then the other gives a clean prefix. Never open the database file yourself in the process
//! that holds the journal: closing it again would drop SQLite's locks. [`Snapshot::take`] knows how.

mod authorizer;
mod columns;
mod entry;
mod error;
mod form;
mod hash;
mod journal;
mod lock;
mod open;
mod outside;
mod place;
mod problem;
mod rule;
mod schema;
mod snapshot;
mod tables;
mod walk;
mod watch;

pub use entry::{Entry, Finding, Kind, Machine, Row};
pub use error::{AppendError, Foreign, OpenError, ReadError};
pub use hash::{Hash, Head, InvalidHash};
pub use journal::{Journal, Opened};
pub use outside::{Holder, Stamp};
pub use place::network_file_system;
pub use problem::Problem;
pub use rule::Rule;
pub use snapshot::{Snapshot, Summary, copy};
pub use watch::{AppendEnd, Appended};

/// SQLite's `application_id` of a journal: "RJNL".
pub const APPLICATION_ID: i32 = 0x524A_4E4C;

/// The version of the schema that new journals are made in, SQLite's `user_version`. Older ones are gone on with.
pub const SCHEMA: u32 = 1;
