//! What an archive says of itself, in its first file.

use serde::{Deserialize, Serialize};

use crate::ids::TaskId;
use crate::machine::{Failure, VerdictKind};

/// The format that is written here.
pub const FORMAT: u32 = 1;

/// What is in an archive, and what is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The format of the archive: 1.
    pub format: u32,
    /// Whose it is.
    #[serde(rename = "taskID")]
    pub task_id: TaskId,
    /// The version of the runner that made it.
    pub runner: String,
    /// When it was begun: RFC 3339, UTC.
    pub at: String,
    /// The state that the task is in: `Reported`.
    pub state: String,
    /// What the task came to.
    pub verdict: ManifestVerdict,
    /// Starts of the runner so far.
    pub boots: u32,
    /// The hash of the journal's last row: the archive's own intent. `runner journal verify` holds the journal against it.
    pub journal_head: String,
    /// The files, in the order in which they come.
    pub files: Vec<Listed>,
    /// What is not in it.
    pub left_out: Vec<LeftOut>,
}

/// What a task came to, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestVerdict {
    /// `completed`, `failed` or `superseded`.
    pub event: VerdictKind,
    /// Why, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Failure>,
    /// One sentence for a person.
    pub message: String,
}

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name in the archive.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// The SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
}

/// What is not in an archive, or not whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// What it would have been named.
    pub path: String,
    /// Why it is not there, for a person.
    pub why: String,
}
