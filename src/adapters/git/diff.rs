//! What a task changed, as text for a post-mortem.

use super::command::{Call, Overflow};
use super::error::GitError;
use super::{BASE, HEAD, PrivateRepository, REFUSED};

/// Which work a diff shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter)]
pub enum DiffOf {
    /// What was handed over: from the base to the head.
    Head,
    /// What was not allowed to be pushed.
    Refused,
}

/// A diff, as git prints it: of a binary file the name alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// Its text, which need not be UTF-8.
    pub text: Vec<u8>,
    /// Whether there was more.
    pub cut: bool,
}

impl PrivateRepository {
    /// What lies between the base and the work that was taken over, at most `limit` bytes of it. None where there is no
    /// repository, no such work or no change.
    pub async fn diff(&self, of: DiffOf, limit: u64) -> Result<Option<Diff>, GitError> {
        if !self.dir.is_dir() {
            return Ok(None);
        }
        let name = match of {
            DiffOf::Head => HEAD,
            DiffOf::Refused => REFUSED,
        };
        let (base, head) = (
            self.commit_at(&self.dir, BASE).await?,
            self.commit_at(&self.dir, name).await?,
        );
        let (Some(base), Some(head)) = (base, head) else {
            return Ok(None);
        };
        let args = [
            "diff-tree",
            "-p",
            "-r",
            "--no-commit-id",
            "--no-ext-diff",
            "--no-textconv",
            "--no-color",
            "--no-renames",
            "--full-index",
            "--end-of-options",
            base.as_str(),
            head.as_str(),
        ];
        let call = Call {
            output: limit,
            overflow: Overflow::Cut,
            ..self.local("diff-tree", args)
        };
        let output = self.git.run(call).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if output.stdout.len() > limit {
            let mut text = output.stdout;
            text.truncate(limit);
            return Ok(Some(Diff { text, cut: true }));
        }
        let text = output.good("diff-tree")?;
        Ok((!text.is_empty()).then_some(Diff { text, cut: false }))
    }
}
