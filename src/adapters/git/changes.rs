//! What lies between two commits of the private repository.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use strum::{Display, IntoStaticStr};

use super::PrivateRepository;
use super::command::{Call, Feed};
use super::error::GitError;
use crate::ids::CommitId;

/// Longest list of changes that is read, in bytes: some 300,000 files.
const LIST_LIMIT: u64 = 64 * 1024 * 1024;
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

/// A line of `diff-tree --raw`: of a merge, where what came of it is none of its parents'.
pub(super) struct Entry {
    pub(super) path: PathBuf,
    /// What it was, in each parent.
    pub(super) before: Vec<(FileMode, String)>,
    /// What it is now.
    pub(super) mode: FileMode,
    pub(super) blob: String,
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
                let entry = entry(field, fields.next().unwrap_or_default()).ok_or_else(unreadable)?;
                places.insert(entry.path.clone(), files.len());
                files.push(FileChange {
                    kind: kind(entry.status).ok_or_else(unreadable)?,
                    path: entry.path,
                    mode: entry.mode,
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

    /// What differs between two commits.
    pub(super) async fn entries_between(&self, base: &CommitId, head: &CommitId) -> Result<Vec<Entry>, GitError> {
        entries(&self.diff_tree(&["--raw"], base, head, LIST_LIMIT).await?)
    }

    /// What these commits change, each by itself.
    pub(super) async fn entries_of(&self, commits: &[String]) -> Result<Vec<Entry>, GitError> {
        let args = [
            "diff-tree",
            "--stdin",
            "--root",
            "--no-commit-id",
            "-r",
            "-z",
            "--no-renames",
            "--raw",
            "-c",
        ];
        entries(&self.long("diff-tree", &args, lines(commits)).await?)
    }

    /// How large objects are, in bytes.
    pub(super) async fn sizes(&self, ids: &[String]) -> Result<Vec<u64>, GitError> {
        let args = ["cat-file", "--batch-check=%(objectsize)", "--buffer"];
        let listed = self.long("cat-file", &args, lines(ids)).await?;
        let listed = String::from_utf8_lossy(&listed);
        let sizes: Option<Vec<u64>> = listed.lines().map(|size| size.parse().ok()).collect();
        sizes.filter(|sizes| sizes.len() == ids.len()).ok_or_else(unreadable)
    }

    /// What objects have in them. All of it is in memory: the caller has looked at [`Self::sizes`].
    pub(super) async fn contents(&self, ids: &[String]) -> Result<Vec<Vec<u8>>, GitError> {
        let args = ["cat-file", "--batch=%(objectsize)", "--buffer"];
        let listed = self.long("cat-file", &args, lines(ids)).await?;
        let mut contents = Vec::new();
        let mut rest = listed.as_slice();
        for _ in ids {
            let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(unreadable)?;
            let (size, after) = rest.split_at(end);
            let size: usize = std::str::from_utf8(size)
                .ok()
                .and_then(|size| size.parse().ok())
                .ok_or_else(unreadable)?;
            contents.push(after.get(1..=size).ok_or_else(unreadable)?.to_vec());
            rest = after.get(size + 2..).ok_or_else(unreadable)?;
        }
        Ok(contents)
    }

    /// A call that may have much to say.
    pub(super) async fn long(&self, what: &'static str, args: &[&str], feed: Vec<u8>) -> Result<Vec<u8>, GitError> {
        let call = Call {
            feed: Feed::Bytes(feed),
            output: LIST_LIMIT,
            ..self.local(what, args)
        };
        self.git.output(call).await
    }
}

fn lines(ids: &[String]) -> Vec<u8> {
    ids.iter()
        .flat_map(|id| [id.as_bytes(), b"\n"])
        .flatten()
        .copied()
        .collect()
}

pub(super) fn unreadable() -> GitError {
    GitError::Damaged {
        what: "git's list of changes cannot be read".to_owned(),
    }
}

fn entries(listed: &[u8]) -> Result<Vec<Entry>, GitError> {
    let mut fields = listed.split(|byte| *byte == 0);
    let mut entries = Vec::new();
    while let Some(field) = fields.next() {
        if !field.is_empty() {
            entries.push(entry(field, fields.next().unwrap_or_default()).ok_or_else(unreadable)?);
        }
    }
    Ok(entries)
}

/// Reads `:100644 100755 OLD NEW M` and the path after it. A merge has a colon, a mode, an object and a letter a parent.
fn entry(field: &[u8], path: &[u8]) -> Option<Entry> {
    let text = std::str::from_utf8(field).ok()?;
    let rest = text.trim_start_matches(':');
    let parents = text.len() - rest.len();
    let parts: Vec<&str> = rest.split(' ').collect();
    if parents == 0 || parts.len() != 2 * (parents + 1) + 1 {
        return None;
    }
    let (modes, objects) = parts.split_at(parents + 1);
    let before = modes.iter().zip(objects).take(parents);
    Some(Entry {
        path: PathBuf::from(OsStr::from_bytes(path)),
        before: before
            .map(|(one, blob)| Some((mode(one)?, (*blob).to_owned())))
            .filter(|one| !matches!(one, Some((FileMode::Absent, _))))
            .collect::<Option<_>>()?,
        mode: mode(modes.last()?)?,
        blob: (*objects.get(parents)?).to_owned(),
        status: parts.last()?.bytes().next()?,
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
