//! What a remote has, and the clone of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::command::Call;
use super::error::GitError;
use super::{
    BASE, BEFORE, PrivateRepository, REMOTE_BRANCHES, TARGET, make_partial, parent, remove_partials, sync, sync_tree,
    tree,
};
use crate::crash::{self, CrashPoint, Inside};
use crate::ids::{BranchName, CommitId, GitRef, RepoUrl};
use crate::secret::Secret;

/// Longest list of refs that is read, in bytes.
const LIST_LIMIT: u64 = 256 * 1024 * 1024;

/// What real histories have in them and no harm: formats that old versions of git and its imports wrote. Everything
/// else that `git fsck` knows (`.git` entries, bad paths, broken links, broken submodule files) refuses the fetch.
const FORGIVEN: &[&str] = &[
    "zeroPaddedFilemode",
    "badTimezone",
    "badDateOverflow",
    "missingSpaceBeforeDate",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeEmail",
    "badName",
    "badEmail",
    "multipleAuthors",
    "nulInCommit",
];

/// The refs of a remote, as `ls-remote` shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteRefs {
    /// The default branch and where it stands; none in an empty repository or where HEAD is detached.
    pub head: Option<(BranchName, CommitId)>,
    /// Full names; a tag object's commit is under the name with `^{}` at its end.
    pub refs: BTreeMap<String, CommitId>,
}

impl RemoteRefs {
    /// Where a branch stands.
    pub fn branch(&self, branch: &BranchName) -> Option<&CommitId> {
        self.refs.get(&branch.full_ref())
    }

    /// A branch that this one would have to be below, or that is below it: there can be only one of the two.
    fn in_the_way_of(&self, branch: &BranchName) -> Option<&str> {
        let is_below = |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
        let mut branches = self.refs.keys().filter_map(|name| name.strip_prefix("refs/heads/"));
        let wanted = branch.as_str();
        branches.find(|there| is_below(wanted, there) || is_below(there, wanted))
    }

    /// Where a tag stands, peeled.
    fn tag(&self, name: &str) -> Option<&CommitId> {
        let full = format!("refs/tags/{name}");
        self.refs.get(&format!("{full}^{{}}")).or_else(|| self.refs.get(&full))
    }
}

/// What the clone found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cloned {
    /// The commit that the task starts from.
    pub base: CommitId,
    /// The branch that a pull request goes to.
    pub base_branch: BranchName,
    /// Where the working branch stands on the remote, if it is there already.
    pub remote_branch: Option<CommitId>,
}

/// How the base was named.
enum Base {
    /// A branch, which may move between the list and the fetch: its fetched state counts.
    Branch,
    /// A tag or a commit, fixed.
    Fixed { id: CommitId, fetch: String },
}

impl PrivateRepository {
    /// The refs of the remote.
    pub async fn ls_remote(&self, url: &RepoUrl, token: Option<&Secret>) -> Result<RemoteRefs, GitError> {
        let token = self.hand_over(url, token)?;
        let call = Call {
            git_dir: None,
            transport: Some(url.transport()),
            token: token.as_ref(),
            output: LIST_LIMIT,
            limit: self.time_outs.list,
            ..Call::local(
                "ls-remote",
                Path::new(""),
                ["ls-remote", "--symref", "--", &url.as_git_argument()],
            )
        };
        let listed = self.git.output(call).await?;
        Ok(parse_refs(&String::from_utf8_lossy(&listed)))
    }

    /// Makes the private repository: every branch whole, the base even where no branch has it. Run again after a crash
    /// anywhere it comes to the same; what is there already is thrown away.
    pub async fn clone(
        &self,
        url: &RepoUrl,
        token: Option<&Secret>,
        base: Option<&GitRef>,
        branch: &BranchName,
    ) -> Result<Cloned, GitError> {
        remove_partials(&self.dir)?;
        tree::remove(&self.dir)?;
        let refs = self.ls_remote(url, token).await?;
        if refs.refs.is_empty() {
            return Err(GitError::EmptyRepository);
        }
        // Else the push would be refused for it, once the agent is paid.
        if let Some(there) = refs.in_the_way_of(branch) {
            return Err(GitError::BranchInTheWay {
                branch: branch.clone(),
                there: there.to_owned(),
            });
        }
        let (target, base_of) = resolve(&refs, base)?;
        let partial = make_partial(&self.dir, 0o700)?;
        let format = match refs.refs.values().next().map(|id| id.as_str().len()) {
            Some(64) => "--object-format=sha256",
            Some(_) | None => "--object-format=sha1",
        };
        let mut init: Vec<OsString> = [
            "init",
            "--quiet",
            "--bare",
            "--template=",
            format,
            "--initial-branch=runner",
        ]
        .map(OsString::from)
        .into();
        init.extend(["--".into(), partial.clone().into()]);
        let call = Call {
            git_dir: None,
            ..Call::local("init", &partial, init)
        };
        self.git.output(call).await?;
        let branches = format!("+refs/heads/*:{REMOTE_BRANCHES}*");
        self.fetch(&partial, url, token, &branches).await?;

        let tracking = |name: &BranchName| format!("{REMOTE_BRANCHES}{name}");
        let not_found = || match base {
            Some(base) => GitError::RefNotFound(base.clone()),
            None => GitError::NoDefaultBranch,
        };
        let id = match base_of {
            Base::Branch => self.commit_at(&partial, &tracking(&target)).await?,
            Base::Fixed { id, fetch } => {
                if self.commit_at(&partial, id.as_str()).await?.is_none() {
                    match self.fetch(&partial, url, token, &fetch).await {
                        // The remote knows no such commit, or does not give it away.
                        Err(GitError::Other { detail, .. } | GitError::Lost { detail }) if says_no_such(&detail) => {
                            return Err(not_found());
                        }
                        other => other?,
                    }
                }
                self.commit_at(&partial, id.as_str()).await?
            }
        };
        let id = id.ok_or_else(not_found)?;
        let update = |name: &str, id: &CommitId| Call::local("update-ref", &partial, ["update-ref", name, id.as_str()]);
        if let Some(before) = self.commit_at(&partial, &tracking(branch)).await? {
            self.git.output(update(BEFORE, &before)).await?;
        }
        let symbolic = ["symbolic-ref", TARGET, &tracking(&target)];
        self.git.output(Call::local("symbolic-ref", &partial, symbolic)).await?;
        self.git.output(update(BASE, &id)).await?;
        // Thousands of branches are one file to sync.
        let pack = Call::local("pack-refs", &partial, ["pack-refs", "--all"]);
        self.git.output(pack).await?;
        sync_tree(&partial).await?;
        crash::at(CrashPoint::Inside(Inside::CloneFetched));
        std::fs::rename(&partial, &self.dir).map_err(GitError::io("rename", &partial))?;
        crash::at(CrashPoint::Inside(Inside::CloneRenamed));
        sync(parent(&self.dir))?;
        self.probe_clone().await?.ok_or_else(|| GitError::Damaged {
            what: "the clone just made cannot be read".to_owned(),
        })
    }

    /// Whether the clone is there, whole and durable. A hand-over that has happened does not change the answer.
    pub async fn probe_clone(&self) -> Result<Option<Cloned>, GitError> {
        if !self.dir.is_dir() {
            return Ok(None);
        }
        let Some(base) = self.commit_at(&self.dir, BASE).await? else {
            return Ok(None);
        };
        let symbolic = self.local("symbolic-ref", ["symbolic-ref", "--quiet", TARGET]);
        let target = self.git.run(symbolic).await?;
        let target = String::from_utf8_lossy(&target.stdout);
        let Some(base_branch) = target.trim_end().strip_prefix(REMOTE_BRANCHES) else {
            return Ok(None);
        };
        let Ok(base_branch) = base_branch.parse() else {
            return Ok(None);
        };
        let remote_branch = self.commit_at(&self.dir, BEFORE).await?;
        // The process may have died between the rename and this.
        sync(parent(&self.dir))?;
        Ok(Some(Cloned {
            base,
            base_branch,
            remote_branch,
        }))
    }

    async fn fetch(&self, dir: &Path, url: &RepoUrl, token: Option<&Secret>, refspec: &str) -> Result<(), GitError> {
        let token = self.hand_over(url, token)?;
        let mut settings: Vec<String> = FORGIVEN.iter().map(|id| format!("fetch.fsck.{id}=ignore")).collect();
        settings.extend(["fetch.fsckObjects=true".to_owned(), "fetch.unpackLimit=1".to_owned()]);
        let url_text = url.as_git_argument();
        let args = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--no-auto-maintenance",
            "--",
            &url_text,
            refspec,
        ];
        let call = Call {
            settings,
            transport: Some(url.transport()),
            token: token.as_ref(),
            limit: self.time_outs.fetch,
            ..Call::local("fetch", dir, args)
        };
        self.git.output(call).await.map(drop)
    }
}

/// Finds the base among the remote's refs, and the branch that a pull request goes to.
fn resolve(refs: &RemoteRefs, base: Option<&GitRef>) -> Result<(BranchName, Base), GitError> {
    let default = || match &refs.head {
        Some((branch, _)) => Ok(branch.clone()),
        None => Err(GitError::NoDefaultBranch),
    };
    let Some(base) = base else {
        return Ok((default()?, Base::Branch));
    };
    let name = base.as_str();
    let short = name.strip_prefix("refs/heads/").unwrap_or(name);
    if let Ok(branch) = short.parse::<BranchName>()
        && refs.branch(&branch).is_some()
    {
        return Ok((branch, Base::Branch));
    }
    let short = name.strip_prefix("refs/tags/").unwrap_or(name);
    if let Some(id) = refs.tag(short) {
        let fixed = Base::Fixed {
            id: id.clone(),
            fetch: format!("refs/tags/{short}"),
        };
        return Ok((default()?, fixed));
    }
    let id: CommitId = name.parse().map_err(|_| GitError::RefNotFound(base.clone()))?;
    let fetch = id.to_string();
    Ok((default()?, Base::Fixed { id, fetch }))
}

/// Whether a fetch failed because what it asked for is not there, and not because the line broke.
fn says_no_such(detail: &str) -> bool {
    ["not our ref", "couldn't find remote ref", "unadvertised object"]
        .iter()
        .any(|words| detail.contains(words))
}

/// Reads `ref: refs/heads/main\tHEAD` and `ID\tNAME`; what is neither is left out.
fn parse_refs(listed: &str) -> RemoteRefs {
    let mut found = RemoteRefs::default();
    let mut default = None;
    for (left, name) in listed.lines().filter_map(|line| line.split_once('\t')) {
        if let Some(target) = left.strip_prefix("ref: ") {
            if name == "HEAD" {
                default = target.strip_prefix("refs/heads/").and_then(|name| name.parse().ok());
            }
        } else if let Ok(id) = left.parse::<CommitId>()
            && name != "HEAD"
        {
            found.refs.insert(name.to_owned(), id);
        }
    }
    found.head = default.and_then(|branch: BranchName| {
        let id = found.branch(&branch)?.clone();
        Some((branch, id))
    });
    found
}
