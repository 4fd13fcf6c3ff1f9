//! git by subprocess: the runner's private repository, which alone ever sees the network and the token.
//!
//! The agent works in a clone of it ([`tree`]) and never pushes; when all of its processes are dead, its work is taken
//! over by git in the agent's sandbox ([`handover`]), checked, and pushed from here.

pub mod askpass;
mod changes;
mod command;
mod diff;
mod error;
mod files;
pub mod handover;
mod policy;
mod push;
mod remote;
mod token;
pub mod tree;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use changes::{ChangeKind, FileChange, FileMode};
pub use diff::{Diff, DiffOf};
pub use error::GitError;
pub use files::{CommittedFile, FILE_LIMIT};
pub use remote::{Cloned, RemoteRefs};

use crate::ids::{CommitId, RepoUrl};
use crate::secret::Secret;
use command::{Call, Git};
use token::Handover;

/// The commit that the task starts from.
const BASE: &str = "refs/runner/base";
/// A symbolic ref to the remote branch that a pull request goes to.
const TARGET: &str = "refs/runner/target";
/// Where the working branch stood on the remote when it was cloned, if it did.
const BEFORE: &str = "refs/runner/before";
/// What is to be pushed; the base where nothing changed. Set last: it is the hand-over's outcome.
const HEAD: &str = "refs/runner/head";
/// A blob that names the hand-over's shape.
const SHAPE: &str = "refs/runner/shape";
/// Work that policy refused.
pub const REFUSED: &str = "refs/runner/refused";
/// Where the remote's branches are kept.
const REMOTE_BRANCHES: &str = "refs/remotes/origin/";

/// How long a git command may take before it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOuts {
    /// `ls-remote`.
    pub list: Duration,
    /// The fetch of a clone.
    pub fetch: Duration,
    /// `push`.
    pub push: Duration,
}

impl Default for TimeOuts {
    fn default() -> Self {
        Self {
            list: Duration::from_mins(1),
            fetch: Duration::from_mins(30),
            push: Duration::from_mins(10),
        }
    }
}

/// Who a commit of the runner is by (`RUNNER_GIT_AUTHOR`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Author {
    name: String,
    email: String,
}

/// Not of the form `Name <address>`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("git author {0:?} is not allowed: `Name <address>` is, without further brackets and line breaks")]
pub struct InvalidAuthor(String);

impl FromStr for Author {
    type Err = InvalidAuthor;
    fn from_str(text: &str) -> Result<Self, InvalidAuthor> {
        let refuse = || InvalidAuthor(text.to_owned());
        let (name, email) = text
            .strip_suffix('>')
            .filter(|rest| !rest.contains(char::is_control))
            .and_then(|rest| rest.split_once('<'))
            .ok_or_else(refuse)?;
        let (name, email) = (name.trim(), email.trim());
        let odd = |part: &str| part.is_empty() || part.contains(['<', '>']);
        // git drops these from a name's ends and refuses a name of nothing else.
        let bare = name.trim_matches(|c: char| matches!(c, '.' | ',' | ':' | ';' | '"' | '\'' | '\\'));
        if odd(name) || odd(email) || bare.is_empty() {
            return Err(refuse());
        }
        Ok(Self {
            name: name.to_owned(),
            email: email.to_owned(),
        })
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <{}>", self.name, self.email)
    }
}

impl TryFrom<String> for Author {
    type Error = InvalidAuthor;
    fn try_from(text: String) -> Result<Self, InvalidAuthor> {
        text.parse()
    }
}

impl From<Author> for String {
    fn from(author: Author) -> Self {
        author.to_string()
    }
}

/// The bare repository in the state directory: out of the agent's reach, and the only one with a way to the network.
#[derive(Debug)]
pub struct PrivateRepository {
    git: Git,
    dir: PathBuf,
    secrets_dir: PathBuf,
    runner_exe: PathBuf,
    time_outs: TimeOuts,
}

impl PrivateRepository {
    /// Names the places; touches nothing. `runner_exe` is what git calls for the token: the runner's own binary, whose
    /// `main` calls [`askpass::main`] where [`askpass::FIFO`] is set.
    pub fn new(
        git_program: PathBuf,
        dir: PathBuf,
        secrets_dir: PathBuf,
        ca_file: Option<PathBuf>,
        runner_exe: PathBuf,
    ) -> Self {
        let home = dir.with_extension("home");
        Self {
            git: Git {
                program: git_program,
                home,
                ca_file,
            },
            dir,
            secrets_dir,
            runner_exe,
            time_outs: TimeOuts::default(),
        }
    }

    /// The same with other time-outs.
    #[must_use]
    pub fn with_time_outs(self, time_outs: TimeOuts) -> Self {
        Self { time_outs, ..self }
    }

    /// The bare repository's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its objects: what the hand-over in the sandbox has to be able to read.
    pub fn objects(&self) -> PathBuf {
        self.dir.join("objects")
    }

    /// The git program, for the sandbox too.
    pub fn git_program(&self) -> &Path {
        &self.git.program
    }

    /// Clears what a killed git or runner leaves: lock files in the repository, the token's FIFOs. Only for one who
    /// holds the journal's lock. Returns how many were removed.
    pub fn clear_stale_locks(&self) -> Result<usize, GitError> {
        let mut removed = 0;
        clear_locks(&self.dir, &mut removed)?;
        for entry in entries(&self.secrets_dir)? {
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(token::PREFIX.as_bytes())
            {
                tree::remove(&entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The token as git will ask for it, where the address takes one.
    fn hand_over<'a>(&self, url: &RepoUrl, token: Option<&'a Secret>) -> Result<Option<Handover<'a>>, GitError> {
        match (url, token) {
            (RepoUrl::Http(url), Some(secret)) => {
                Handover::new(secret, &self.secrets_dir, &self.runner_exe, url.as_str()).map(Some)
            }
            (RepoUrl::Local(_), _) | (RepoUrl::Http(_), None) => Ok(None),
        }
    }

    /// A call on the private repository, without a network.
    fn local<I, S>(&self, what: &'static str, args: I) -> Call<'_>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Call::local(what, &self.dir, args)
    }

    /// The commit that a ref of this repository stands at.
    async fn commit_at(&self, dir: &Path, name: &str) -> Result<Option<CommitId>, GitError> {
        let spec = format!("{name}^{{commit}}");
        let call = Call::local(
            "rev-parse",
            dir,
            ["rev-parse", "--verify", "--quiet", "--end-of-options", &spec],
        );
        let output = self.git.run(call).await?;
        if !output.status.success() {
            return Ok(None);
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().parse().ok())
    }
}

fn clear_locks(dir: &Path, removed: &mut usize) -> Result<(), GitError> {
    for entry in entries(dir)? {
        let path = entry.path();
        let kind = entry.file_type().map_err(GitError::io("look at", &path))?;
        if kind.is_dir() {
            clear_locks(&path, removed)?;
        } else if path.extension() == Some(OsStr::new("lock")) {
            std::fs::remove_file(&path).map_err(GitError::io("remove", &path))?;
            *removed += 1;
        }
    }
    Ok(())
}

/// What is in a directory; nothing where there is none.
fn entries(dir: &Path) -> Result<Vec<std::fs::DirEntry>, GitError> {
    let found = match std::fs::read_dir(dir) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(GitError::io("read the directory", dir)(error)),
    };
    found
        .collect::<Result<_, _>>()
        .map_err(GitError::io("read the directory", dir))
}

/// Syncs every file and directory below `dir`, and `dir`: git syncs its files, never the directories that name them.
async fn sync_tree(dir: &Path) -> Result<(), GitError> {
    fn walk(dir: &Path) -> Result<(), GitError> {
        for entry in entries(dir)? {
            let path = entry.path();
            let kind = entry.file_type().map_err(GitError::io("look at", &path))?;
            if kind.is_dir() {
                walk(&path)?;
            } else if kind.is_file() {
                sync(&path)?;
            }
        }
        sync(dir)
    }
    let dir = dir.to_owned();
    let path = dir.clone();
    tokio::task::spawn_blocking(move || walk(&dir))
        .await
        .map_err(|error| GitError::io("sync", path)(error.into()))?
}

/// Syncs one file or directory.
fn sync(path: &Path) -> Result<(), GitError> {
    std::fs::File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(GitError::io("sync", path))
}

/// How the directories begin in which something is made that is to be at `dir` once it is whole.
fn partial_prefix(dir: &Path) -> OsString {
    let path = dir.with_extension("partial-");
    path.file_name().unwrap_or_default().to_owned()
}

/// Makes one, with a name of its own: a killed runner's git may still be writing into the one before.
fn make_partial(dir: &Path, mode: u32) -> Result<PathBuf, GitError> {
    let partial = tempfile::Builder::new()
        .prefix(&partial_prefix(dir))
        .permissions(Permissions::from_mode(mode))
        .tempdir_in(parent(dir));
    let partial = partial.map_err(GitError::io("create a directory in", parent(dir)))?;
    Ok(partial.keep())
}

/// Removes all of them into which nobody writes.
fn remove_partials(dir: &Path) -> Result<(), GitError> {
    let prefix = partial_prefix(dir);
    for entry in entries(parent(dir))? {
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(prefix.as_encoded_bytes())
        {
            match tree::remove(&entry.path()) {
                // A killed runner's git still writes into it. It has a name of its own, so nobody has to wait.
                Err(GitError::Io { source, .. }) if source.kind() == ErrorKind::DirectoryNotEmpty => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// The directory that names `path`.
fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}
