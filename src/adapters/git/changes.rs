//! What lies between two commits of the private repository.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, Serializer};
use strum::{Display, IntoStaticStr};

use super::command::{Call, Feed};
use super::error::GitError;
use super::handover::{Violation, ViolationKind};
use super::{PrivateRepository, REMOTE_BRANCHES};
use crate::ids::CommitId;

/// Longest list of changes that is read, in bytes: some 300,000 files.
const LIST_LIMIT: u64 = 64 * 1024 * 1024;
/// Longer than this is no LFS pointer: its specification says less than 1,024 bytes.
const POINTER_LIMIT: u64 = 1024;
/// How every LFS pointer begins.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";

/// How a file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Display, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ChangeKind {
    /// Was not there.
    Added,
    /// Other content, or another executable bit.
    Modified,
    /// Is not there any more.
    Deleted,
    /// A file became a link, or the other way round.
    TypeChanged,
}

/// What a file is after the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Display, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FileMode {
    /// Not there.
    Absent,
    /// A plain file.
    Regular,
    /// A plain file with the executable bit.
    Executable,
    /// A symbolic link; its content is where it points.
    Symlink,
    /// A commit of another repository.
    Gitlink,
}

/// One file between two commits. Renames are a deletion and an addition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// From the repository's root; any bytes but NUL.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// How it changed.
    pub kind: ChangeKind,
    /// What it is now.
    pub mode: FileMode,
    /// Lines added; none for a binary file.
    pub added: Option<u64>,
    /// Lines removed; none for a binary file.
    pub removed: Option<u64>,
}

fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// A line of `diff-tree --raw`.
struct Raw {
    path: PathBuf,
    before: FileMode,
    after: FileMode,
    blob: String,
    status: u8,
}

impl PrivateRepository {
    /// Every file that differs between two commits, by path.
    pub async fn changes(&self, base: &CommitId, head: &CommitId) -> Result<Vec<FileChange>, GitError> {
        let listed = self.diff_tree(&["--raw", "--numstat"], base, head, LIST_LIMIT).await?;
        let mut fields = listed.split(|byte| *byte == 0);
        let mut files: Vec<FileChange> = Vec::new();
        let mut places: HashMap<PathBuf, usize> = HashMap::new();
        while let Some(field) = fields.next() {
            if field.starts_with(b":") {
                let raw = raw(field, fields.next().unwrap_or_default()).ok_or_else(unreadable)?;
                places.insert(raw.path.clone(), files.len());
                files.push(FileChange {
                    kind: kind(raw.status).ok_or_else(unreadable)?,
                    path: raw.path,
                    mode: raw.after,
                    added: None,
                    removed: None,
                });
            } else if !field.is_empty() {
                let mut parts = field.splitn(3, |byte| *byte == b'\t');
                let (added, removed) = (number(parts.next()), number(parts.next()));
                let path = Path::new(OsStr::from_bytes(parts.next().ok_or_else(unreadable)?));
                if let Some(file) = places.get(path).and_then(|place| files.get_mut(*place)) {
                    (file.added, file.removed) = (added, removed);
                }
            }
        }
        Ok(files)
    }

    async fn diff_tree(
        &self,
        format: &[&str],
        base: &CommitId,
        head: &CommitId,
        limit: u64,
    ) -> Result<Vec<u8>, GitError> {
        let mut args = vec!["diff-tree", "-r", "-z", "--no-renames"];
        args.extend(format);
        args.extend(["--end-of-options", base.as_str(), head.as_str()]);
        let call = Call {
            output: limit,
            ..self.local("diff-tree", args)
        };
        self.git.output(call).await
    }

    /// What may not be pushed whatever the task is: commits of other repositories, and LFS pointers, whose objects
    /// nobody uploads. Looked for in the whole difference and in each commit that the remote does not have.
    pub(super) async fn unpushable(&self, base: &CommitId, head: &CommitId) -> Result<Vec<Violation>, GitError> {
        let mut listed = self.diff_tree(&["--raw"], base, head, LIST_LIMIT).await?;
        let remotes = format!(
            "--remotes={}",
            REMOTE_BRANCHES
                .trim_start_matches("refs/remotes/")
                .trim_end_matches('/')
        );
        let commits = self
            .git
            .output(self.local(
                "rev-list",
                [
                    "rev-list",
                    "--no-merges",
                    head.as_str(),
                    "--not",
                    base.as_str(),
                    &remotes,
                ],
            ))
            .await?;
        let call = Call {
            feed: Feed::Bytes(commits),
            output: LIST_LIMIT,
            ..self.local(
                "diff-tree",
                [
                    "diff-tree",
                    "--stdin",
                    "--root",
                    "--no-commit-id",
                    "-r",
                    "-z",
                    "--no-renames",
                    "--raw",
                ],
            )
        };
        listed.extend(self.git.output(call).await?);

        let mut violations = Vec::new();
        let mut candidates = Vec::new();
        let mut fields = listed.split(|byte| *byte == 0);
        while let Some(field) = fields.next() {
            if field.is_empty() {
                continue;
            }
            let raw = raw(field, fields.next().unwrap_or_default()).ok_or_else(unreadable)?;
            if raw.before == FileMode::Gitlink || raw.after == FileMode::Gitlink {
                violations.push(Violation {
                    path: raw.path,
                    what: ViolationKind::Gitlink,
                });
            } else if matches!(raw.after, FileMode::Regular | FileMode::Executable) {
                candidates.push((raw.blob, raw.path));
            }
        }
        violations.extend(self.pointers(candidates).await?);
        violations.sort();
        violations.dedup();
        Ok(violations)
    }

    /// Those of the blobs that are LFS pointers.
    async fn pointers(&self, candidates: Vec<(String, PathBuf)>) -> Result<Vec<Violation>, GitError> {
        let mut found = Vec::new();
        for some in candidates.chunks(4096) {
            let sizes = self
                .batch("--batch-check=%(objectsize)", some.iter().map(|(id, _)| id))
                .await?;
            let sizes = String::from_utf8_lossy(&sizes).into_owned();
            let small: Vec<&(String, PathBuf)> = some
                .iter()
                .zip(sizes.lines())
                .filter(|(_, size)| size.parse().is_ok_and(|size: u64| size < POINTER_LIMIT))
                .map(|(one, _)| one)
                .collect();
            let contents = self
                .batch("--batch=%(objectsize)", small.iter().map(|(id, _)| id))
                .await?;
            let mut rest = contents.as_slice();
            for (_, path) in small {
                let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(unreadable)?;
                let (size, after) = rest.split_at(end);
                let size: usize = std::str::from_utf8(size)
                    .ok()
                    .and_then(|size| size.parse().ok())
                    .ok_or_else(unreadable)?;
                let content = after.get(1..=size).ok_or_else(unreadable)?;
                if content.starts_with(POINTER) {
                    found.push(Violation {
                        path: path.clone(),
                        what: ViolationKind::LfsPointer,
                    });
                }
                rest = after.get(size + 2..).ok_or_else(unreadable)?;
            }
        }
        Ok(found)
    }

    async fn batch(&self, mode: &str, ids: impl Iterator<Item = &String>) -> Result<Vec<u8>, GitError> {
        let mut lines = String::new();
        for id in ids {
            // Writing to a String does not fail.
            let _ = writeln!(lines, "{id}");
        }
        let call = Call {
            feed: Feed::Bytes(lines.into_bytes()),
            output: LIST_LIMIT,
            limit: Duration::from_mins(5),
            ..self.local("cat-file", ["cat-file", mode, "--buffer"])
        };
        self.git.output(call).await
    }
}

fn unreadable() -> GitError {
    GitError::Damaged {
        what: "git's list of changes cannot be read".to_owned(),
    }
}

/// Reads `:100644 100755 OLD NEW M` and the path after it.
fn raw(field: &[u8], path: &[u8]) -> Option<Raw> {
    let text = std::str::from_utf8(field.strip_prefix(b":")?).ok()?;
    let mut parts = text.split(' ');
    let (before, after) = (mode(parts.next()?)?, mode(parts.next()?)?);
    let blob = parts.nth(1)?.to_owned();
    let status = parts.next()?.bytes().next()?;
    Some(Raw {
        path: PathBuf::from(OsStr::from_bytes(path)),
        before,
        after,
        blob,
        status,
    })
}

fn mode(text: &str) -> Option<FileMode> {
    match text {
        "000000" => Some(FileMode::Absent),
        "100755" => Some(FileMode::Executable),
        "120000" => Some(FileMode::Symlink),
        "160000" => Some(FileMode::Gitlink),
        other => other.starts_with("100").then_some(FileMode::Regular),
    }
}

fn kind(status: u8) -> Option<ChangeKind> {
    match status {
        b'A' => Some(ChangeKind::Added),
        b'M' => Some(ChangeKind::Modified),
        b'D' => Some(ChangeKind::Deleted),
        b'T' => Some(ChangeKind::TypeChanged),
        _ => None,
    }
}

fn number(text: Option<&[u8]>) -> Option<u64> {
    std::str::from_utf8(text?).ok()?.parse().ok()
}
