//! The push: one commit to one branch, under a lease.

use super::command::{Call, Output};
use super::error::{GitError, summary};
use super::{HEAD, PrivateRepository};
use crate::ids::{BranchName, CommitId, RepoUrl};
use crate::secret::Secret;

impl PrivateRepository {
    /// Moves the remote branch from `expected` (nothing: it must not exist) to `head`. A branch that is at `head`
    /// already is a success. After every error the remote may nevertheless be at `head`: look with
    /// [`PrivateRepository::ls_remote`].
    pub async fn push(
        &self,
        url: &RepoUrl,
        token: Option<&Secret>,
        branch: &BranchName,
        head: &CommitId,
        expected: Option<&CommitId>,
    ) -> Result<(), GitError> {
        if self.commit_at(&self.dir, head.as_str()).await?.is_none() {
            return Err(GitError::Damaged {
                what: format!("{head} is not in it; {HEAD} is what can be pushed"),
            });
        }
        let token = self.hand_over(url, token)?;
        let name = branch.full_ref();
        let lease = format!(
            "--force-with-lease={name}:{}",
            expected.map(CommitId::as_str).unwrap_or_default()
        );
        let refspec = format!("{head}:{name}");
        let url_text = url.as_git_argument();
        let args = [
            "push",
            "--porcelain",
            "--quiet",
            "--no-verify",
            "--no-follow-tags",
            "--no-signed",
            "--recurse-submodules=no",
            &lease,
            "--",
            &url_text,
            &refspec,
        ];
        let call = Call {
            transport: Some(url.transport()),
            token: token.as_ref(),
            limit: self.time_outs.push,
            ..self.local("push", args)
        };
        let output = self.git.run(call).await?;
        verdict(&output)
    }
}

/// Reads `FLAG\tFROM:TO\tSUMMARY`: the remote's word on the one ref, where it came to one.
fn verdict(output: &Output) -> Result<(), GitError> {
    if output.status.success() {
        return Ok(());
    }
    let report = String::from_utf8_lossy(&output.stdout);
    let refused = report.lines().find_map(|line| {
        let mut fields = line.splitn(3, '\t');
        (fields.next() == Some("!")).then(|| fields.nth(1).unwrap_or_default().to_owned())
    });
    let Some(said) = refused else {
        return Err(GitError::from_failure("push", output.status.code(), &output.stderr));
    };
    let reason = summary(&said);
    // A race that the remote saw itself is no rule of the remote's.
    let raced = [
        "incorrect old value",
        "cannot lock ref",
        "reference already exists",
        "failed to update ref",
    ];
    Err(
        if said.starts_with("[rejected]") || raced.iter().any(|race| said.contains(race)) {
            GitError::Stale { reason }
        } else if said.starts_with("[remote rejected]") {
            let remote: Vec<&str> = output
                .stderr
                .lines()
                .filter_map(|line| line.strip_prefix("remote:"))
                .collect();
            let remote = summary(&remote.join("\n"));
            let reason = if remote.is_empty() {
                reason
            } else {
                format!("{reason}: {remote}")
            };
            GitError::RemoteRejected { reason }
        } else {
            // `[remote failure]`: the pack arrived, and no word came back.
            GitError::Lost { detail: reason }
        },
    )
}
