//! The archive: what is left of a task as one `.tar.zst`, made, sent away and read again.
//!
//! ```text
//! manifest.json          what is in it, with sizes and hashes, and what is not, and why
//! journal.db             the journal as it was, with journal.db-wal beside it where that had rows
//! change.diff            from the base to the head; refused.diff where that was not allowed to be pushed
//! runner.log.1           the end of the runner's log, the older part first
//! runner.log
//! agent/transcript-1.jsonl.zst
//! ```
//!
//! The names are those of a state directory, so that what reads one reads the other.

mod bundle;
mod destination;
mod manifest;
mod opened;
mod send;

pub use bundle::{Bundle, Contents, Piece};
pub use destination::{Destination, InvalidDestination, Put};
pub use manifest::{FORMAT, LeftOut, Listed, Manifest, ManifestVerdict};
pub use opened::{Opened, UnreadableBundle, is_bundle};
pub use send::{SendError, put, rename_into_place};

/// The largest sum of the files of one, in bytes: what does not fit is named and left out.
pub const TOTAL_LIMIT: u64 = 512 * 1024 * 1024;
/// The largest diff, in bytes; the rest is cut.
pub const DIFF_LIMIT: u64 = 16 * 1024 * 1024;
/// How many files there may be.
pub const FILES_LIMIT: usize = 256;

/// The file that says what is in an archive: the first of it.
pub const MANIFEST: &str = "manifest.json";
/// The journal's database.
pub const JOURNAL: &str = "journal.db";
/// Its write-ahead log.
pub const JOURNAL_LOG: &str = "journal.db-wal";

/// The name that a task's archive has, wherever it goes.
pub fn file_name(task: &crate::ids::TaskId) -> String {
    format!("{task}.tar.zst")
}

#[cfg(test)]
mod tests;
