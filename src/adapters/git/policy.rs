//! Holds a change against the rules before it is pushed: the whole difference, and each commit that the remote does not
//! have, since what one commit adds and the next takes away is pushed all the same.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::changes::{Entry, FileMode, unreadable};
use super::error::GitError;
use super::{PrivateRepository, REMOTE_BRANCHES};
use crate::ids::CommitId;
use crate::policy::{Rules, is_evidence, leaves_the_tree};
use crate::redact::{Kind, Redactor};

/// Longer than this is no LFS pointer: its specification says less than 1,024 bytes.
const POINTER_LIMIT: u64 = 1024;
/// How every LFS pointer begins.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
/// How much is read at once, in bytes, but for a file that is larger.
const AT_ONCE: u64 = 16 * 1024 * 1024;
/// What has a NUL in so many first bytes is no text, as git has it.
const TEXT_UP_TO: usize = 8000;

/// Something that is not pushed, whatever the task is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// From the repository's root; empty for the change as a whole. `commit ID` for a commit's message.
    pub path: PathBuf,
    /// Which line of the file, from 1, where it is one line.
    pub line: Option<usize>,
    /// What is wrong with it.
    pub what: ViolationKind,
}

impl Violation {
    /// One of a whole path.
    pub(super) fn of(path: impl Into<PathBuf>, what: ViolationKind) -> Self {
        Self {
            path: path.into(),
            line: None,
            what,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.path.as_os_str().is_empty(), self.line) {
            (true, _) => f.write_str("the change as a whole")?,
            (false, None) => write!(f, "{}", self.path.display())?,
            (false, Some(line)) => write!(f, "{}:{line}", self.path.display())?,
        }
        write!(f, ": {}", self.what)
    }
}

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ViolationKind {
    /// A submodule or a repository inside the repository.
    Gitlink,
    /// An LFS pointer: its object cannot be pushed.
    LfsPointer,
    /// A name that git refuses (`.GIT` and its like).
    InvalidPath,
    /// The workspace itself is a link, not a directory, or gone.
    WorkspaceReplaced,
    /// `RUNNER_PROTECTED_PATHS` names it.
    Protected,
    /// A secret in an added line, a name or a commit's message.
    Secret(Kind),
    /// A symbolic link out of the tree.
    LinkOutside,
    /// Larger than the remote takes.
    FileTooLarge,
    /// More than is pushed at once.
    ChangeTooLarge,
    /// Too large to be searched for secrets.
    NotSearched,
}

impl fmt::Display for ViolationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gitlink => "a submodule, or a repository inside the repository",
            Self::LfsPointer => "an LFS pointer, whose object cannot be pushed",
            Self::InvalidPath => "a name that git refuses",
            Self::WorkspaceReplaced => "the workspace is no directory any more",
            Self::Protected => "a protected path (RUNNER_PROTECTED_PATHS)",
            Self::Secret(kind) => return write!(f, "{} in what is added", kind.name()),
            Self::LinkOutside => "a link that may lead out of the repository",
            Self::FileTooLarge => "larger than GitHub takes (100 MiB)",
            Self::ChangeTooLarge => "its new files are larger than 1 GiB together",
            Self::NotSearched => "too large to be searched for secrets",
        })
    }
}

/// A secret in some text.
struct Spot {
    kind: Kind,
    /// From 1; none where it is no text.
    line: Option<usize>,
    /// The lines that it is in.
    text: Vec<Vec<u8>>,
}

/// A new blob with something in it.
struct Suspect {
    id: String,
    spots: Vec<Spot>,
}

impl PrivateRepository {
    /// Everything in a change that may not be pushed.
    pub(super) async fn violations(
        &self,
        base: &CommitId,
        head: &CommitId,
        rules: &Rules,
    ) -> Result<Vec<Violation>, GitError> {
        let commits = self.new_commits(base, head).await?;
        let mut entries = self.entries_between(base, head).await?;
        entries.extend(self.entries_of(&commits).await?);
        let mut found: Vec<Violation> = entries.iter().flat_map(|entry| by_name(entry, rules)).collect();
        found.extend(self.by_content(base, head, &entries, rules).await?);
        found.extend(self.by_message(&commits, rules).await?);
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// What the remote does not have: objects of any kind, or commits alone.
    async fn new_objects(&self, base: &CommitId, head: &CommitId, kinds: &[&str]) -> Result<Vec<String>, GitError> {
        let remotes = REMOTE_BRANCHES
            .trim_start_matches("refs/remotes/")
            .trim_end_matches('/');
        let remotes = format!("--remotes={remotes}");
        let mut args = vec!["rev-list"];
        args.extend(kinds);
        args.extend([head.as_str(), "--not", base.as_str(), &remotes]);
        let listed = self.long("rev-list", &args, Vec::new()).await?;
        let listed = String::from_utf8(listed).map_err(|_| unreadable())?;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    async fn new_commits(&self, base: &CommitId, head: &CommitId) -> Result<Vec<String>, GitError> {
        self.new_objects(base, head, &[]).await
    }

    async fn by_message(&self, commits: &[String], rules: &Rules) -> Result<Vec<Violation>, GitError> {
        let mut found = Vec::new();
        for some in commits.chunks(256) {
            let texts = self.contents(some).await?;
            for (id, text) in some.iter().zip(texts) {
                let secrets = rules.redactor.find(&text);
                let secret = secrets.iter().find(|one| is_evidence(one.kind, &text[one.at.clone()]));
                if let Some(secret) = secret {
                    let name = format!("commit {}", id.get(..12).unwrap_or(id));
                    found.push(Violation::of(name, ViolationKind::Secret(secret.kind)));
                }
            }
        }
        Ok(found)
    }

    async fn by_content(
        &self,
        base: &CommitId,
        head: &CommitId,
        entries: &[Entry],
        rules: &Rules,
    ) -> Result<Vec<Violation>, GitError> {
        let new = self
            .new_objects(base, head, &["--objects", "--no-object-names"])
            .await?;
        let new: HashSet<&str> = new.iter().map(String::as_str).collect();
        let mut blobs: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in entries {
            if matches!(entry.mode, FileMode::Regular | FileMode::Executable | FileMode::Symlink) {
                blobs.entry(&entry.blob).or_default().push(entry);
            }
        }
        let ids: Vec<String> = blobs.keys().map(|id| (*id).to_owned()).collect();
        let sizes = self.sizes(&ids).await?;

        let mut found = Vec::new();
        let mut read = Vec::new();
        let (mut whole, mut searched) = (0_u64, 0_u64);
        for (id, size) in ids.iter().zip(sizes) {
            let users = &blobs[id.as_str()];
            let mut note = |what| found.extend(users.iter().map(|entry| Violation::of(&entry.path, what)));
            if !new.contains(id.as_str()) {
                // A name for what the remote has already: still a link, or a pointer.
                if size < POINTER_LIMIT || users.iter().any(|entry| entry.mode == FileMode::Symlink) {
                    read.push((id.clone(), size));
                }
                continue;
            }
            whole = whole.saturating_add(size);
            if size > rules.bounds.file {
                note(ViolationKind::FileTooLarge);
            } else if size > rules.bounds.searched_file || searched.saturating_add(size) > rules.bounds.searched {
                note(ViolationKind::NotSearched);
            } else {
                searched += size;
                read.push((id.clone(), size));
            }
        }
        if whole > rules.bounds.change {
            found.push(Violation::of("", ViolationKind::ChangeTooLarge));
        }

        for some in portions(read) {
            let texts = self.contents(&some).await?;
            let blobs_read: Vec<(String, Vec<u8>)> = some.into_iter().zip(texts).collect();
            for (id, content) in &blobs_read {
                found.extend(blobs[id.as_str()].iter().filter_map(|entry| by_itself(entry, content)));
            }
            let fresh: Vec<(String, Vec<u8>)> = blobs_read
                .into_iter()
                .filter(|(id, _)| new.contains(id.as_str()))
                .collect();
            for suspect in suspects(fresh, &rules.redactor).await? {
                for entry in &blobs[suspect.id.as_str()] {
                    found.extend(self.added(entry, &suspect.spots, rules).await?);
                }
            }
        }
        Ok(found)
    }

    /// Those of a blob's secrets whose lines were not in the file before.
    async fn added(&self, entry: &Entry, spots: &[Spot], rules: &Rules) -> Result<Vec<Violation>, GitError> {
        let before: Vec<String> = entry
            .before
            .iter()
            .filter(|(mode, _)| *mode != FileMode::Gitlink)
            .map(|(_, id)| id.clone())
            .collect();
        let sizes = self.sizes(&before).await?;
        let small = before.into_iter().zip(sizes);
        // What is too large to be looked at again proves nothing.
        let small: Vec<String> = small
            .filter(|(_, size)| *size <= rules.bounds.searched_file)
            .map(|(id, _)| id)
            .collect();
        let mut known: HashSet<Vec<u8>> = HashSet::new();
        for id in small {
            for content in self.contents(&[id]).await? {
                known.extend(content.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
            }
        }
        let new = spots
            .iter()
            .filter(|spot| !spot.text.iter().all(|line| known.contains(line)));
        Ok(new
            .map(|spot| Violation {
                path: entry.path.clone(),
                line: spot.line,
                what: ViolationKind::Secret(spot.kind),
            })
            .collect())
    }
}

/// What a path and its mode say alone.
fn by_name(entry: &Entry, rules: &Rules) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut note = |what| found.push(Violation::of(&entry.path, what));
    if rules.protected.has(&entry.path) {
        note(ViolationKind::Protected);
    }
    if entry.mode == FileMode::Gitlink || entry.before.iter().any(|(mode, _)| *mode == FileMode::Gitlink) {
        note(ViolationKind::Gitlink);
    }
    if entry.mode != FileMode::Absent {
        let path = entry.path.as_os_str().as_bytes();
        let secrets = rules.redactor.find(path);
        if let Some(secret) = secrets.iter().find(|one| is_evidence(one.kind, &path[one.at.clone()])) {
            note(ViolationKind::Secret(secret.kind));
        }
    }
    found
}

/// What a file's content says without any other.
fn by_itself(entry: &Entry, content: &[u8]) -> Option<Violation> {
    let what = if entry.mode == FileMode::Symlink {
        let target = Path::new(OsStr::from_bytes(content));
        leaves_the_tree(&entry.path, target).then_some(ViolationKind::LinkOutside)
    } else {
        let small = (content.len() as u64) < POINTER_LIMIT;
        (small && content.starts_with(POINTER)).then_some(ViolationKind::LfsPointer)
    };
    what.map(|what| Violation::of(&entry.path, what))
}

/// So many at once that they fit into memory.
fn portions(blobs: Vec<(String, u64)>) -> Vec<Vec<String>> {
    let mut portions: Vec<Vec<String>> = Vec::new();
    let mut room = 0;
    for (id, size) in blobs {
        match portions.last_mut() {
            Some(last) if size <= room => {
                room -= size;
                last.push(id);
            }
            Some(_) | None => {
                room = AT_ONCE.saturating_sub(size);
                portions.push(vec![id]);
            }
        }
    }
    portions
}

/// Searches blobs on a thread that may take its time.
async fn suspects(blobs: Vec<(String, Vec<u8>)>, redactor: &Redactor) -> Result<Vec<Suspect>, GitError> {
    let redactor = redactor.clone();
    let searched = tokio::task::spawn_blocking(move || {
        let suspects = blobs.into_iter().map(|(id, content)| Suspect {
            id,
            spots: search(&content, &redactor),
        });
        suspects.filter(|suspect| !suspect.spots.is_empty()).collect()
    });
    searched.await.map_err(|error| GitError::Damaged {
        what: format!("the search for secrets did not end: {error}"),
    })
}

fn search(content: &[u8], redactor: &Redactor) -> Vec<Spot> {
    let is_text = !content.iter().take(TEXT_UP_TO).any(|byte| *byte == 0);
    let found = redactor.find(content).into_iter();
    // In other bytes a shape may come about by chance; the secrets themselves do not.
    let found = found.filter(|one| is_text || one.kind == Kind::Exact);
    let mut spots = Vec::new();
    let (mut line, mut counted) = (1, 0);
    for one in found.filter(|one| is_evidence(one.kind, &content[one.at.clone()])) {
        line += content[counted..one.at.start].split(|byte| *byte == b'\n').count() - 1;
        counted = one.at.start;
        let begin = content[..one.at.start]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let end = content[one.at.end..].iter().position(|byte| *byte == b'\n');
        let end = end.map_or(content.len(), |after| one.at.end + after);
        spots.push(Spot {
            kind: one.kind,
            line: is_text.then_some(line),
            text: content[begin..end]
                .split(|byte| *byte == b'\n')
                .map(<[u8]>::to_vec)
                .collect(),
        });
    }
    spots
}
