//! git in the agent's sandbox, and the pack that comes out of it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::pin::pin;

use tokio::io::AsyncReadExt as _;

use super::super::command::{Call, Feed, SETTINGS, base_environment, tail, write_private};
use super::super::error::{GitError, summary};
use super::super::{Author, PrivateRepository};
use super::{Flattening, HandoverError, Shape, Violation, ViolationKind, Work};
use crate::crash::{self, CrashPoint, Inside};
use crate::ids::CommitId;
use crate::process::{Exit, Input, Launch, Running, wait_until_free};

/// Whose objects a git in the sandbox may use beside the private repository's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Objects {
    Agents,
    PrivateOnly,
}

/// git in the agent's sandbox: no token, no network, a git directory of its own.
pub(super) struct Confined<'a> {
    pub(super) private: &'a PrivateRepository,
    pub(super) template: &'a Launch,
    pub(super) work: &'a Work<'a>,
    pub(super) git_dir: PathBuf,
    pub(super) home: PathBuf,
}

impl Confined<'_> {
    /// The commit in the private repository that has the agent's tree; the base where nothing changed.
    pub(super) async fn take(&self) -> Result<(CommitId, Shape), HandoverError> {
        for dir in [self.work.scratch_dir, &self.home] {
            std::fs::create_dir(dir).map_err(GitError::io("create", dir))?;
        }
        let format = match self.work.base.as_str().len() {
            64 => "--object-format=sha256",
            _ => "--object-format=sha1",
        };
        let mut init: Vec<OsString> = ["init", "--quiet", "--bare", "--template=", format, "--"]
            .map(OsString::from)
            .into();
        init.push(self.git_dir.clone().into());
        self.run("init", init, Objects::PrivateOnly, &[]).await?;

        let why = match self.agents_head().await? {
            Ok(head) => match self.with_history(&head).await {
                Ok(taken) => return Ok(taken),
                Err(error) if error.may_be_the_agents_git() => Flattening::ObjectsRefused,
                Err(error) => return Err(error),
            },
            Err(why) => why,
        };
        // Without anything of the agent's `.git`.
        let tree = self.tree_on(self.work.base, Objects::PrivateOnly).await?;
        let shape = Shape::Flattened { why };
        if tree == self.tree_of_base().await? {
            return Ok((self.work.base.clone(), shape));
        }
        self.transfer(&tree, Objects::PrivateOnly).await?;
        Ok((self.commit_on_base(&tree).await?, shape))
    }

    /// The agent's HEAD, or why there is none to use.
    async fn agents_head(&self) -> Result<Result<CommitId, Flattening>, HandoverError> {
        let git_dir = self.work.workspace_repo.join(".git");
        if !is_real_dir(&git_dir) || !is_real_dir(&git_dir.join("objects")) {
            return Ok(Err(Flattening::GitDirReplaced));
        }
        let args = ["rev-parse", "--verify", "--quiet", "--end-of-options", "HEAD^{commit}"];
        let mut launch = self.launch(&git_dir, args.map(OsString::from).into(), Objects::PrivateOnly, &[]);
        launch.stdin = Input::Null;
        let printed = self.output("rev-parse", &launch).await;
        match printed.map(|(stdout, _)| String::from_utf8_lossy(&stdout).trim_end().parse()) {
            Ok(Ok(head)) => Ok(Ok(head)),
            Ok(Err(_)) => Ok(Err(Flattening::HeadUnreadable)),
            Err(error) if error.may_be_the_agents_git() => Ok(Err(Flattening::HeadUnreadable)),
            Err(error) => Err(error),
        }
    }

    /// The agent's commits, and one of the runner's where the tree is not HEAD's.
    async fn with_history(&self, agents_head: &CommitId) -> Result<(CommitId, Shape), HandoverError> {
        let objects = Objects::Agents;
        let tree = self.tree_on(agents_head, objects).await?;
        let heads_tree = format!("{agents_head}^{{tree}}");
        let heads_tree = ["rev-parse", "--verify", "--end-of-options", &heads_tree].map(OsString::from);
        let head = if tree == self.line("rev-parse", heads_tree.into(), objects, &[]).await? {
            agents_head.clone()
        } else {
            let message = self.work.scratch_dir.join("message");
            write_private(&message, self.work.message.as_bytes()).map_err(GitError::io("write", &message))?;
            let mut args = ["commit-tree", &tree, "-p", agents_head.as_str(), "-F"]
                .map(OsString::from)
                .to_vec();
            args.push(message.into());
            let committed = self.line("commit-tree", args, objects, &self.identity()).await?;
            committed.parse().map_err(|_| HandoverError::Confined {
                step: "commit-tree",
                detail: summary(&committed),
            })?
        };
        if &head == self.work.base {
            return Ok((head, Shape::Descends));
        }
        self.transfer(head.as_str(), objects).await?;
        let whole = [
            "rev-list",
            "--objects",
            "--quiet",
            head.as_str(),
            "--not",
            self.work.base.as_str(),
        ];
        self.private.git.output(self.private.local("rev-list", whole)).await?;
        // The commit's own tree, as the private repository reads it: the sandbox's word is not needed.
        let tree = format!("{head}^{{tree}}");
        let tree = self
            .private
            .local("rev-parse", ["rev-parse", "--verify", "--end-of-options", &tree]);
        let tree = self.private.git.line(tree).await?;
        let descends = self.descends(&head).await?;
        Ok(match (tree == self.tree_of_base().await?, descends) {
            (true, _) => (self.work.base.clone(), Shape::Descends),
            (false, true) => (head, Shape::Descends),
            (false, false) => {
                let why = Flattening::NotDescending;
                (self.commit_on_base(&tree).await?, Shape::Flattened { why })
            }
        })
    }

    async fn descends(&self, head: &CommitId) -> Result<bool, GitError> {
        let args = ["merge-base", "--is-ancestor", self.work.base.as_str(), head.as_str()];
        let output = self.private.git.run(self.private.local("merge-base", args)).await?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            Some(_) | None => output.good("merge-base").map(|_| false),
        }
    }

    async fn tree_of_base(&self) -> Result<String, GitError> {
        let tree = format!("{}^{{tree}}", self.work.base);
        let call = self
            .private
            .local("rev-parse", ["rev-parse", "--verify", "--end-of-options", &tree]);
        self.private.git.line(call).await
    }

    /// One commit of the tree on the base, made where nobody else writes.
    async fn commit_on_base(&self, tree: &str) -> Result<CommitId, GitError> {
        let call = Call {
            feed: Feed::Bytes(self.work.message.as_bytes().to_vec()),
            env: self.identity().into(),
            ..self.private.local(
                "commit-tree",
                ["commit-tree", tree, "-p", self.work.base.as_str(), "-F", "-"],
            )
        };
        let line = self.private.git.line(call).await?;
        line.parse().map_err(|_| GitError::Damaged {
            what: "git commit-tree printed no commit".to_owned(),
        })
    }

    /// The tree of the working directory. `on` says what is tracked although it is ignored; its index is fresh, so that
    /// no flag of the agent's index can hide a change.
    async fn tree_on(&self, on: &CommitId, objects: Objects) -> Result<String, HandoverError> {
        let index = self.work.scratch_dir.join(match objects {
            Objects::Agents => "index",
            Objects::PrivateOnly => "index-from-base",
        });
        let env = [("GIT_INDEX_FILE", index.into())];
        let read = ["read-tree", on.as_str()].map(OsString::from);
        self.run("read-tree", read.into(), objects, &env).await?;
        let mut add: Vec<OsString> = vec!["--work-tree".into(), self.work.workspace_repo.into()];
        add.extend(["add", "--all"].map(OsString::from));
        let launch = self.launch(&self.git_dir, add, objects, &env);
        match self.output("add", &launch).await {
            Ok((_, complaints)) => readable(&complaints)?,
            Err(HandoverError::Confined { detail, .. }) => return Err(refused_by_add(&detail)),
            Err(other) => return Err(other),
        }
        self.line("write-tree", vec!["write-tree".into()], objects, &env).await
    }

    /// Sends what `tip` has and the base has not into the private repository, checked object by object.
    async fn transfer(&self, tip: &str, objects: Objects) -> Result<(), HandoverError> {
        let revs = self.work.scratch_dir.join("revs");
        let wanted = format!("{tip}\n^{}\n", self.work.base);
        write_private(&revs, wanted.as_bytes()).map_err(GitError::io("write", &revs))?;
        let pack = [
            "pack-objects",
            "--revs",
            "--thin",
            "--stdout",
            "--delta-base-offset",
            "-q",
        ];
        let mut launch = self.launch(&self.git_dir, pack.map(OsString::from).into(), objects, &[]);
        launch.stdin = Input::File(revs);
        let mut running = self.start(&launch).await?;
        let mut complaints = None;
        let indexed = {
            let index = Call {
                feed: Feed::Stream(&mut running.stdout, self.work.limits.pack),
                limit: self.work.limits.step,
                ..self
                    .private
                    .local("index-pack", ["index-pack", "--strict", "--fix-thin", "--stdin"])
            };
            let mut indexed = pin!(self.private.git.run(index));
            let mut stderr = pin!(tail(Some(&mut running.stderr), KEPT));
            loop {
                tokio::select! {
                    indexed = &mut indexed => break indexed,
                    said = &mut stderr, if complaints.is_none() => complaints = Some(said),
                }
            }
        };
        crash::at(CrashPoint::Inside(Inside::HandoverIndexed));
        // An early end drops `running`, and with it the sandbox.
        match indexed?.good("index-pack") {
            Err(GitError::Other { detail, .. }) => return Err(HandoverError::Refused { detail }),
            other => other?,
        };
        let end = async {
            let said = match complaints {
                Some(said) => said,
                None => tail(Some(&mut running.stderr), KEPT).await,
            };
            (said, running.ended().await)
        };
        match tokio::time::timeout(self.work.limits.step, end).await {
            Ok((said, ended)) => succeeded("pack-objects", ended?.exit, &said),
            Err(_) => Err(self.timed_out("pack-objects")),
        }
    }

    async fn line(
        &self,
        step: &'static str,
        args: Vec<OsString>,
        objects: Objects,
        env: &[(&'static str, OsString)],
    ) -> Result<String, HandoverError> {
        let (stdout, _) = self
            .output(step, &self.launch(&self.git_dir, args, objects, env))
            .await?;
        let line = String::from_utf8_lossy(&stdout).trim_end().to_owned();
        if line.bytes().all(|byte| byte.is_ascii_hexdigit()) && !line.is_empty() {
            Ok(line)
        } else {
            Err(HandoverError::Confined {
                step,
                detail: summary(&line),
            })
        }
    }

    async fn run(
        &self,
        step: &'static str,
        args: Vec<OsString>,
        objects: Objects,
        env: &[(&'static str, OsString)],
    ) -> Result<(), HandoverError> {
        let launch = self.launch(&self.git_dir, args, objects, env);
        self.output(step, &launch).await.map(drop)
    }

    /// Standard output, of which an id at most is of interest, and the end of standard error.
    async fn output(&self, step: &'static str, launch: &Launch) -> Result<(Vec<u8>, Vec<u8>), HandoverError> {
        let mut running = self.start(launch).await?;
        let work = async {
            let mut stdout = Vec::new();
            let mut first = (&mut running.stdout).take(1024);
            let reading = async {
                // A pipe that breaks ends the output; the exit says the rest.
                let _ = first.read_to_end(&mut stdout).await;
                tail(Some(first.into_inner()), 0).await
            };
            let (_, stderr) = tokio::join!(reading, tail(Some(&mut running.stderr), KEPT));
            let ended = running.ended().await?;
            succeeded(step, ended.exit, &stderr)?;
            Ok((stdout, stderr))
        };
        match tokio::time::timeout(self.work.limits.step, work).await {
            Ok(printed) => printed,
            Err(_) => Err(self.timed_out(step)),
        }
    }

    /// Starts a git once the one before is dead, all of it: after an early end its supervisor may still be killing.
    async fn start(&self, launch: &Launch) -> Result<Running, HandoverError> {
        let lock = launch.lock.clone();
        let bound = self.work.limits.step;
        let waiting = tokio::task::spawn_blocking(move || wait_until_free(&lock, bound).map(drop));
        match waiting.await {
            Ok(free) => free?,
            // The runtime is going down.
            Err(_) => return Err(self.timed_out("start")),
        }
        Ok(launch.start()?)
    }

    fn timed_out(&self, step: &'static str) -> HandoverError {
        HandoverError::TimedOut {
            step,
            after: self.work.limits.step,
        }
    }

    fn launch(
        &self,
        git_dir: &Path,
        args: Vec<OsString>,
        objects: Objects,
        env: &[(&'static str, OsString)],
    ) -> Launch {
        let mut launch = self.template.clone();
        launch.program.clone_from(&self.private.git.program);
        self.work.scratch_dir.clone_into(&mut launch.cwd);
        launch.stdin = Input::Null;
        launch.args = SETTINGS
            .iter()
            .flat_map(|setting| ["-c".into(), (*setting).into()])
            .collect();
        launch.args.extend(["--git-dir".into(), git_dir.into()]);
        launch.args.extend(args);
        let mut alternates = quoted(&self.private.objects());
        if objects == Objects::Agents {
            alternates.push(":");
            alternates.push(quoted(&self.work.workspace_repo.join(".git/objects")));
        }
        let own = [
            ("GIT_ALTERNATE_OBJECT_DIRECTORIES", alternates),
            ("GIT_CEILING_DIRECTORIES", self.work.scratch_dir.into()),
        ];
        launch.env = base_environment(&self.home)
            .into_iter()
            .chain(own)
            .chain(env.iter().cloned())
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        launch
    }

    fn identity(&self) -> [(&'static str, OsString); 6] {
        let Author { name, email } = self.work.author;
        let date = format!("@{} +0000", self.work.at);
        [
            ("GIT_AUTHOR_NAME", name.into()),
            ("GIT_AUTHOR_EMAIL", email.into()),
            ("GIT_AUTHOR_DATE", date.clone().into()),
            ("GIT_COMMITTER_NAME", name.into()),
            ("GIT_COMMITTER_EMAIL", email.into()),
            ("GIT_COMMITTER_DATE", date.into()),
        ]
    }
}

/// Standard error that is kept of a git in the sandbox.
const KEPT: usize = 16 * 1024;

fn succeeded(step: &'static str, exit: Exit, stderr: &[u8]) -> Result<(), HandoverError> {
    let code = match exit {
        Exit::Code(0) => return Ok(()),
        Exit::Code(code) => Some(code),
        Exit::Signal(_) => None,
    };
    let stderr = String::from_utf8_lossy(stderr);
    let error = GitError::from_failure(step, code, &stderr);
    if matches!(error, GitError::DiskFull { .. }) {
        return Err(error.into());
    }
    Err(HandoverError::Confined {
        step,
        detail: stderr.into_owned(),
    })
}

/// A directory that cannot be read is a warning to git, and its files would be missing from the tree.
fn readable(complaints: &[u8]) -> Result<(), HandoverError> {
    let said = String::from_utf8_lossy(complaints);
    if said.contains("Permission denied") {
        let detail = summary(&said);
        return Err(HandoverError::Unreadable { detail });
    }
    Ok(())
}

/// What `git add` says of the two things that it refuses by name.
fn refused_by_add(stderr: &str) -> HandoverError {
    let quoted = |line: &str, before: &str, after: &str| {
        let name = line.strip_prefix(before)?.strip_suffix(after)?;
        Some(PathBuf::from(name.trim_end_matches('/')))
    };
    let violations: Vec<Violation> = stderr
        .lines()
        .filter_map(|line| {
            let nested = quoted(line, "error: '", "' does not have a commit checked out");
            let invalid = quoted(line, "error: invalid path '", "'");
            let (path, what) = nested
                .map(|path| (path, ViolationKind::Gitlink))
                .or_else(|| invalid.map(|path| (path, ViolationKind::InvalidPath)))?;
            Some(Violation::of(path, what))
        })
        .collect();
    if !violations.is_empty() {
        return HandoverError::Policy {
            violations,
            refused: None,
        };
    }
    let detail = summary(stderr);
    if stderr.contains("Permission denied") {
        HandoverError::Unreadable { detail }
    } else {
        HandoverError::Confined { step: "add", detail }
    }
}

/// A directory, not a link to one.
pub(super) fn is_real_dir(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}

/// A path as git's list of alternates takes any path: in quotes.
fn quoted(path: &Path) -> OsString {
    let mut text = vec![b'"'];
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', *byte]),
            b'\n' => text.extend(b"\\n"),
            other => text.push(*other),
        }
    }
    text.push(b'"');
    OsString::from_vec(text)
}
