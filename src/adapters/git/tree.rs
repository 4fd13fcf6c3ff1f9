//! The agent's working tree: a clone of the private repository that shares nothing with it.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::command::Call;
use super::error::GitError;
use super::{Author, PrivateRepository, REMOTE_BRANCHES, make_partial, remove_partials};
use crate::crash::{self, CrashPoint, Inside};
use crate::ids::{BranchName, CommitId};

/// Lays a fresh tree at `workspace_repo`, whatever is there: the base checked out on the working branch, the remote's
/// branches as `origin/*`, no remote, no hook, no object shared with the private repository. It is there whole or not at all.
pub async fn lay_tree(
    private: &PrivateRepository,
    workspace_repo: &Path,
    base: &CommitId,
    branch: &BranchName,
    author: &Author,
) -> Result<(), GitError> {
    remove_partials(workspace_repo)?;
    // As git would make it: less what the umask takes.
    let partial = make_partial(workspace_repo, 0o777)?;
    let git_dir = partial.join(".git");
    let format = match base.as_str().len() {
        64 => "--object-format=sha256",
        _ => "--object-format=sha1",
    };
    let name = format!("--initial-branch={branch}");
    let mut init: Vec<OsString> = ["init", "--quiet", "--template=", format, &name]
        .map(OsString::from)
        .into();
    init.extend(["--".into(), partial.clone().into()]);
    let call = Call {
        git_dir: None,
        ..Call::local("init", &git_dir, init)
    };
    private.git.output(call).await?;

    let mut fetch: Vec<OsString> = [
        "fetch",
        "--quiet",
        "--no-tags",
        "--no-write-fetch-head",
        "--no-auto-maintenance",
    ]
    .map(OsString::from)
    .into();
    fetch.extend(["--".into(), private.dir.clone().into()]);
    fetch.push(format!("+{REMOTE_BRANCHES}*:{REMOTE_BRANCHES}*").into());
    fetch.push(format!("{}:{}", super::BASE, super::BASE).into());
    let call = Call {
        transport: Some("file"),
        settings: vec!["fetch.unpackLimit=1".to_owned()],
        limit: private.time_outs.fetch,
        ..Call::local("fetch", &git_dir, fetch)
    };
    private.git.output(call).await?;

    let at = |args: &[&str]| {
        let mut call = Call::local("checkout", &git_dir, args);
        call.env = vec![("GIT_WORK_TREE", partial.clone().into())];
        call.limit = private.time_outs.fetch;
        call
    };
    let calls: [&[&str]; 5] = [
        &["update-ref", &branch.full_ref(), base.as_str()],
        &["update-ref", "-d", super::BASE],
        &["config", "user.name", &author.name],
        &["config", "user.email", &author.email],
        &["reset", "--hard", "--quiet", "--no-recurse-submodules"],
    ];
    for args in calls {
        private.git.output(at(args)).await?;
    }
    // Out of the way first: whoever dies while it is removed leaves no half of it under its name, to be taken for work.
    let removed = workspace_repo.with_extension("removed");
    remove(&removed)?;
    match std::fs::rename(workspace_repo, &removed) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(GitError::io("rename", workspace_repo)(error));
        }
        Ok(()) | Err(_) => {}
    }
    crash::at(CrashPoint::Inside(Inside::TreeMoved));
    remove(&removed)?;
    crash::at(CrashPoint::Inside(Inside::TreeReady));
    std::fs::rename(&partial, workspace_repo).map_err(GitError::io("rename", &partial))
}

/// Removes what a git that was killed has locked in a working tree's own repository, so that the next one can work.
pub fn clear_stale_locks(workspace_repo: &Path) -> Result<(), GitError> {
    let git_dir = workspace_repo.join(".git");
    // A link or a file in its place is the agent's own doing: nothing is followed out of the tree.
    if git_dir.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        super::clear_locks(&git_dir, &mut 0)?;
    }
    Ok(())
}

/// Removes a file, a link (never what it points to) or a whole tree, also one whose directories were made unreadable.
pub(super) fn remove(path: &Path) -> Result<(), GitError> {
    let attempt = || match path.symlink_metadata() {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    let result = match attempt() {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(path).map_err(GitError::io("make writable", path))?;
            attempt()
        }
        other => other,
    };
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(GitError::io("remove", path)),
    }
}

/// Gives the owner every right on every directory of a tree.
fn open_up(dir: &Path) -> std::io::Result<()> {
    if !dir.symlink_metadata()?.is_dir() {
        return Ok(());
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}
