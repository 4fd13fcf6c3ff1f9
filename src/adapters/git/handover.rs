//! Takes the agent's work over, once all of its processes are dead: git in the agent's sandbox reads the tree, and what
//! comes out of there is a pack that the private repository checks object by object.
//!
//! Nothing of the agent's `.git` is trusted. Its HEAD and its objects are used where they hold together and descend from
//! the base; else the tree alone counts, as one commit on the base.

mod confined;

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};
use thiserror::Error;

use super::command::{Call, Feed};
use super::error::GitError;
pub use super::policy::{Violation, ViolationKind};
use super::{Author, BASE, FileChange, HEAD, PrivateRepository, REFUSED, SHAPE, sync, sync_tree, tree};
use crate::crash::{self, CrashPoint, Inside};
use crate::ids::CommitId;
use crate::policy::Rules;
use crate::process::{Launch, LaunchError};
use confined::{Confined, is_real_dir};

/// What is taken over, and how.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// The agent's working tree.
    pub workspace_repo: &'a Path,
    /// A path inside the workspace, writable in the sandbox; made anew and removed again.
    pub scratch_dir: &'a Path,
    /// The commit that the task started from.
    pub base: &'a CommitId,
    /// Who a commit of the runner is by.
    pub author: &'a Author,
    /// What it says.
    pub message: &'a str,
    /// When it is from, in Unix seconds: the same for every try, so that each makes the same commit.
    pub at: u64,
    /// The bounds.
    pub limits: Limits,
    /// What it may not have in it.
    pub rules: &'a Rules,
}

/// The bounds of a hand-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Each git in the sandbox.
    pub step: Duration,
    /// The pack, in bytes.
    pub pack: u64,
    /// How many files [`HandedOver::files`] names.
    pub files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            step: Duration::from_mins(5),
            pack: 4 * 1024 * 1024 * 1024,
            files: 1000,
        }
    }
}

/// The agent's work, in the private repository and durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HandedOver {
    /// What is to be pushed; nothing where the tree is the base's.
    pub head: Option<CommitId>,
    /// How many commits it is from the base.
    pub commits: u32,
    /// Whether the agent's own commits are in it.
    pub shape: Shape,
    /// The first files that differ from the base.
    pub files: Vec<FileChange>,
    /// How many differ.
    pub files_total: usize,
}

/// Whether the agent's history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// The agent's commits, and one of the runner's for what was left uncommitted.
    Descends,
    /// One commit of the agent's tree on the base. The pull request says so.
    Flattened {
        /// Why the agent's commits are not in it.
        why: Flattening,
    },
}

/// Why the agent's commits were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Flattening {
    /// `.git` is missing, or a link or a file.
    GitDirReplaced,
    /// `.git` names no commit that could be read in time.
    HeadUnreadable,
    /// Its objects are missing, damaged, forged or too many.
    ObjectsRefused,
    /// Its HEAD does not descend from the base: history was rewritten.
    NotDescending,
}

/// Why the work was not taken over. Nothing of it is lost: the workspace is as it was.
#[derive(Debug, Error)]
pub enum HandoverError {
    /// It has in it what is not pushed. `refused` is the commit in the private repository where there is one.
    #[error("{} that may not be pushed{}", if violations.len() == 1 { "1 thing".to_owned() } else { format!("{} things", violations.len()) },
        violations.first().map(|first| format!(", first {first}")).unwrap_or_default())]
    Policy {
        /// Each of them, by path.
        violations: Vec<Violation>,
        /// The work as it would have been pushed.
        refused: Option<CommitId>,
    },
    /// The private repository, or the disk.
    #[error(transparent)]
    Private(#[from] GitError),
    /// The sandbox could not be started.
    #[error("the sandbox could not be started: {0}")]
    Launch(#[from] LaunchError),
    /// The private repository refused the objects (`index-pack --strict`): a crafted tree, or a `.gitmodules` that runs
    /// a program.
    #[error("the changes have objects in them that git refuses: {detail}")]
    Refused {
        /// git's words.
        detail: String,
    },
    /// A git in the sandbox did not end.
    #[error("git {step} in the sandbox took longer than {after:?}")]
    TimedOut {
        /// The git command.
        step: &'static str,
        /// Its time-out.
        after: Duration,
    },
    /// The tree has files in it that cannot be read.
    #[error("parts of the tree cannot be read: {detail}")]
    Unreadable {
        /// git's words.
        detail: String,
    },
    /// A git in the sandbox failed.
    #[error("git {step} in the sandbox failed: {detail}")]
    Confined {
        /// The git command.
        step: &'static str,
        /// git's words, which the agent may have chosen.
        detail: String,
    },
}

impl HandoverError {
    /// Whether the same could still succeed without the agent's `.git`.
    fn may_be_the_agents_git(&self) -> bool {
        match self {
            Self::Private(error) => matches!(
                error,
                GitError::Other { .. } | GitError::TimedOut { .. } | GitError::TooLarge { .. } | GitError::Lost { .. }
            ),
            Self::TimedOut { .. } | Self::Confined { .. } | Self::Refused { .. } => true,
            Self::Policy { .. } | Self::Launch(_) | Self::Unreadable { .. } => false,
        }
    }
}

/// Whether a hand-over has happened: its whole answer, from the private repository alone.
pub async fn probe(private: &PrivateRepository, limits: Limits) -> Result<Option<HandedOver>, HandoverError> {
    let Some(head) = private.commit_at(&private.dir, HEAD).await? else {
        return Ok(None);
    };
    let base = private
        .commit_at(&private.dir, BASE)
        .await?
        .ok_or_else(|| GitError::Damaged {
            what: format!("{BASE} is missing"),
        })?;
    let said = private
        .git
        .line(private.local("cat-file", ["cat-file", "blob", SHAPE]))
        .await?;
    let shape = match said.split_once(' ') {
        None if said == "descends" => Some(Shape::Descends),
        Some(("flattened", why)) => why.parse().ok().map(|why| Shape::Flattened { why }),
        None | Some(_) => None,
    };
    let shape = shape.ok_or_else(|| GitError::Damaged {
        what: format!("{SHAPE} says {said:?}"),
    })?;
    // The process may have died between the ref and its sync.
    sync_refs(private)?;
    describe(private, &base, head, shape, limits).await.map(Some)
}

/// Takes the work over. Run again after a crash anywhere it comes to the same commit, as long as the workspace is there.
pub async fn take(
    private: &PrivateRepository,
    template: &Launch,
    work: &Work<'_>,
) -> Result<HandedOver, HandoverError> {
    if !is_real_dir(work.workspace_repo) {
        let violation = Violation::of("", ViolationKind::WorkspaceReplaced);
        return Err(HandoverError::Policy {
            violations: vec![violation],
            refused: None,
        });
    }
    tree::remove(work.scratch_dir)?;
    let confined = Confined {
        private,
        template,
        work,
        git_dir: work.scratch_dir.join("git"),
        home: work.scratch_dir.join("home"),
    };
    let taken = confined.take().await;
    tree::remove(work.scratch_dir)?;
    let (head, shape) = taken?;
    crash::at(CrashPoint::Inside(Inside::HandoverPacked));
    finish(private, work, head, shape).await
}

/// Checks the commit against policy and records it.
async fn finish(
    private: &PrivateRepository,
    work: &Work<'_>,
    head: CommitId,
    shape: Shape,
) -> Result<HandedOver, HandoverError> {
    let violations = private.violations(work.base, &head, work.rules).await?;
    if !violations.is_empty() {
        let keep = private.local("update-ref", ["update-ref", REFUSED, head.as_str()]);
        private.git.output(keep).await?;
        // What is said to be kept is kept.
        sync_tree(&private.dir).await?;
        return Err(HandoverError::Policy {
            violations,
            refused: Some(head),
        });
    }
    let said = match shape {
        Shape::Descends => "descends".to_owned(),
        Shape::Flattened { why } => format!("flattened {why}"),
    };
    let call = Call {
        feed: Feed::Bytes(said.into_bytes()),
        ..private.local("hash-object", ["hash-object", "-w", "--stdin"])
    };
    let blob = private.git.line(call).await?;
    private
        .git
        .output(private.local("update-ref", ["update-ref", SHAPE, &blob]))
        .await?;
    // The ref may only name what is durable.
    sync_tree(&private.dir).await?;
    crash::at(CrashPoint::Inside(Inside::HandoverSynced));
    let set = private.local("update-ref", ["update-ref", HEAD, head.as_str()]);
    private.git.output(set).await?;
    crash::at(CrashPoint::Inside(Inside::HandoverNamed));
    sync_refs(private)?;
    describe(private, work.base, head, shape, work.limits).await
}

fn sync_refs(private: &PrivateRepository) -> Result<(), GitError> {
    sync(&private.dir.join("refs/runner"))?;
    sync(&private.dir.join("refs"))
}

async fn describe(
    private: &PrivateRepository,
    base: &CommitId,
    head: CommitId,
    shape: Shape,
    limits: Limits,
) -> Result<HandedOver, HandoverError> {
    let mut files = private.changes(base, &head).await?;
    let files_total = files.len();
    files.truncate(limits.files);
    let range = ["rev-list", "--count", head.as_str(), "--not", base.as_str()];
    let count = private.git.line(private.local("rev-list", range)).await?;
    Ok(HandedOver {
        commits: count.parse().unwrap_or(u32::MAX),
        head: (&head != base).then_some(head),
        shape,
        files,
        files_total,
    })
}
