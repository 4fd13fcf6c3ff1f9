//! Plain files of a commit in the private repository: read there, no working tree has a say in what they are.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::PrivateRepository;
use super::command::Call;
use super::error::GitError;
use crate::ids::CommitId;

/// Longest list of a commit's files that is read, in bytes.
const LIST_LIMIT: u64 = 64 * 1024 * 1024;
/// The largest file that is read, in bytes: a larger one is no text for anybody to follow.
pub const FILE_LIMIT: u64 = 1024 * 1024;

/// A plain file of a commit. Symbolic links and other repositories are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedFile {
    /// From the repository's root.
    pub path: PathBuf,
    /// How long it is, in bytes.
    pub bytes: u64,
    blob: String,
}

impl PrivateRepository {
    /// The plain files that lie right in these directories of a commit, such as `docs`; the empty name is its root. One that
    /// is not there, or is a link, has none.
    pub async fn files_in(&self, commit: &CommitId, directories: &[&str]) -> Result<Vec<CommittedFile>, GitError> {
        let mut files = Vec::new();
        for directory in directories {
            let mut args = vec![
                "ls-tree",
                "-z",
                "-l",
                "--full-tree",
                "--end-of-options",
                commit.as_str(),
            ];
            // With the slash, what is in it; without one, it itself.
            let inside = format!("{directory}/");
            if !directory.is_empty() {
                args.push(&inside);
            }
            let call = Call {
                output: LIST_LIMIT,
                ..self.local("ls-tree", args)
            };
            let listed = self.git.output(call).await?;
            let entries = listed.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
            for entry in entries {
                files.extend(file(entry).map_err(|()| unreadable())?);
            }
        }
        Ok(files)
    }

    /// What a file has in it, as text; none where it is longer than [`FILE_LIMIT`]. What is no UTF-8 in it is replaced.
    pub async fn text_of(&self, file: &CommittedFile) -> Result<Option<String>, GitError> {
        if file.bytes > FILE_LIMIT {
            return Ok(None);
        }
        let call = Call {
            output: FILE_LIMIT,
            ..self.local("cat-file", ["cat-file", "blob", &file.blob])
        };
        let bytes = self.git.output(call).await?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// Reads `100644 blob ID SIZE<tab>PATH`; none for what is no plain file.
fn file(entry: &[u8]) -> Result<Option<CommittedFile>, ()> {
    let tab = entry.iter().position(|byte| *byte == b'\t').ok_or(())?;
    let (about, path) = entry.split_at(tab);
    let about = std::str::from_utf8(about).map_err(|_| ())?;
    let mut parts = about.split_ascii_whitespace();
    let (mode, _, blob, bytes) = (parts.next(), parts.next(), parts.next(), parts.next());
    if !mode.ok_or(())?.starts_with("100") {
        return Ok(None);
    }
    Ok(Some(CommittedFile {
        path: Path::new(OsStr::from_bytes(path.get(1..).unwrap_or_default())).to_owned(),
        bytes: bytes.and_then(|size| size.parse().ok()).ok_or(())?,
        blob: blob.ok_or(())?.to_owned(),
    }))
}

fn unreadable() -> GitError {
    GitError::Damaged {
        what: "git's list of a commit's files cannot be read".to_owned(),
    }
}
