//! A small world for tests: a server that wants the token, a private repository, a workspace.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;

pub(super) use crate::harness::CANARY;
use crate::harness::{RUNNER, files_with};

use runner::adapters::git::handover::{HandedOver, HandoverError, Limits, Work, take};
use runner::adapters::git::tree::lay_tree;
use runner::adapters::git::{Author, Cloned, GitError, PrivateRepository};
use runner::embedded::git_server::{Auth, Cut, Faults, GitServer, Operation, SeedCommit};
use runner::ids::{BranchName, CommitId, LocalRepos, PlainHttp, RepoPolicy, RepoUrl};
use runner::policy::Rules;
use runner::process::{Input, Launch};
use runner::sandbox::{Confinement, Demand};
use runner::secret::Secret;

/// Every hook of `githooks(5)`.
pub(super) const HOOKS: [&str; 28] = [
    "applypatch-msg",
    "pre-applypatch",
    "post-applypatch",
    "pre-commit",
    "pre-merge-commit",
    "prepare-commit-msg",
    "commit-msg",
    "post-commit",
    "pre-rebase",
    "post-checkout",
    "post-merge",
    "pre-push",
    "pre-receive",
    "update",
    "proc-receive",
    "post-receive",
    "post-update",
    "reference-transaction",
    "push-to-checkout",
    "pre-auto-gc",
    "post-rewrite",
    "sendemail-validate",
    "fsmonitor-watchman",
    "p4-changelist",
    "p4-prepare-changelist",
    "p4-post-changelist",
    "p4-pre-submit",
    "post-index-change",
];

pub(super) struct World {
    pub(super) dir: TempDir,
    pub(super) server: GitServer,
    pub(super) private: PrivateRepository,
    pub(super) url: RepoUrl,
    pub(super) token: Secret,
    pub(super) branch: BranchName,
    pub(super) author: Author,
    pub(super) first: CommitId,
    pub(super) main: CommitId,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with_faults(None).await
    }

    pub(super) async fn with_faults(faults: Option<Faults>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["secrets", "state", "workspace"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        let token = Secret::new(CANARY);
        let auth = Auth::Token(token.clone());
        let server = GitServer::start(git(), root.join("server"), auth, faults)
            .await
            .unwrap();
        server.create("o", "r").await.unwrap();
        let file = |path: &str, content: &str| (path.to_owned(), content.as_bytes().to_vec());
        let first = SeedCommit {
            message: "first".to_owned(),
            files: vec![file("README.md", "hello\n"), file("src/a.txt", "one\ntwo\n")],
        };
        let second = SeedCommit {
            message: "second".to_owned(),
            files: vec![file(".gitignore", "ignored/\n")],
        };
        let first = server.seed("o", "r", &[first]).await.unwrap();
        let main = server.seed("o", "r", &[second]).await.unwrap();
        let policy = RepoPolicy {
            plain_http: PlainHttp::LoopbackOnly,
            local: LocalRepos::Refused,
        };
        let url = RepoUrl::parse(&server.url("o", "r"), policy).unwrap();
        let private = PrivateRepository::new(git(), root.join("state/git"), root.join("secrets"), None, RUNNER.into());
        Self {
            dir,
            server,
            private,
            url,
            token,
            branch: "runner/task".parse().unwrap(),
            author: "runner <runner@runner.example>".parse().unwrap(),
            first,
            main,
        }
    }

    /// Cloned, and the tree laid for the agent.
    pub(super) async fn laid() -> Self {
        let world = Self::new().await;
        world.cloned().await;
        world.lay().await;
        world
    }

    pub(super) async fn cloned(&self) -> Cloned {
        self.private
            .clone(&self.url, Some(&self.token), None, &self.branch)
            .await
            .unwrap()
    }

    pub(super) async fn lay(&self) {
        lay_tree(&self.private, &self.repo(), &self.main, &self.branch, &self.author)
            .await
            .unwrap();
    }

    pub(super) fn root(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    pub(super) fn repo(&self) -> PathBuf {
        self.root().join("workspace/repo")
    }

    pub(super) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.repo().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// git as the agent would call it: with the repository's own configuration.
    pub(super) fn agent_git(&self, args: &[&str]) -> String {
        git_in(&self.repo(), args)
    }

    pub(super) async fn take(&self) -> Result<HandedOver, HandoverError> {
        self.take_within(Limits::default()).await
    }

    pub(super) async fn take_within(&self, limits: Limits) -> Result<HandedOver, HandoverError> {
        self.take_by(limits, &Rules::default()).await
    }

    pub(super) async fn take_by(&self, limits: Limits, rules: &Rules) -> Result<HandedOver, HandoverError> {
        let root = self.root();
        let scratch = root.join("workspace/handover");
        let workspace = root.join("workspace");
        let mut confinement = Confinement::for_agent(&workspace, &workspace, &workspace, &git(), None);
        confinement.read_only.push(self.private.objects());
        let template = Launch {
            program: PathBuf::new(),
            args: Vec::new(),
            cwd: root.clone(),
            env: vec![("SHOULD_NOT".to_owned(), OsString::from("be there"))],
            stdin: Input::Null,
            runner: RUNNER.into(),
            confinement: Some(confinement),
            require: Demand::Whole,
            lock: root.join("state/agent.lock"),
            report: root.join("state/handover.json"),
            grace: Duration::from_secs(1),
            set_aside: 0,
        };
        let work = Work {
            workspace_repo: &self.repo(),
            scratch_dir: &scratch,
            base: &self.main,
            author: &self.author,
            message: "What the agent left\n",
            at: 1_770_000_000,
            limits,
            rules,
        };
        let taken = take(&self.private, &template, &work).await;
        assert!(!scratch.exists(), "the scratch directory stays");
        taken
    }

    pub(super) async fn push(&self, head: &CommitId) -> Result<(), GitError> {
        self.private
            .push(&self.url, Some(&self.token), &self.branch, head, None)
            .await
    }

    pub(super) async fn remote(&self) -> Option<CommitId> {
        self.server.branch("o", "r", &self.branch).await.unwrap()
    }

    /// What a file is on the pushed branch.
    pub(super) fn pushed(&self, path: &str) -> String {
        let server = self.server.path("o", "r").unwrap();
        git_in(&server, &["cat-file", "blob", &format!("{}:{path}", self.branch)])
    }

    /// Takes over, pushes, and looks: nothing planted ran, nothing has the token.
    pub(super) async fn hands_over_and_pushes(&self) -> HandedOver {
        let taken = self.take().await.unwrap();
        let head = taken.head.clone().expect("there is a change");
        self.push(&head).await.unwrap();
        assert_eq!(self.remote().await, Some(head));
        assert!(!self.marker().exists(), "a planted program ran");
        self.no_canary();
        taken
    }

    /// What a planted program writes its environment to.
    pub(super) fn marker(&self) -> PathBuf {
        self.root().join("marker")
    }

    /// A program that tells on its caller.
    pub(super) fn planted(&self) -> PathBuf {
        let path = self.root().join("workspace/planted.sh");
        let script = format!("#!/bin/sh\nenv >> '{}'\ncat\n", self.marker().display());
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    pub(super) fn no_canary(&self) {
        let found = files_with(&self.root(), CANARY);
        assert_eq!(found, Vec::<PathBuf>::new(), "the token is on disk");
    }
}

pub(super) fn git() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|dir| dir.join("git"))
        .find(|path| path.is_file())
        .unwrap()
}

pub(super) fn git_in(dir: &Path, args: &[&str]) -> String {
    let output = Command::new(git())
        .args(["-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_NAME", "agent")
        .env("GIT_AUTHOR_EMAIL", "agent@runner.example")
        .env("GIT_COMMITTER_NAME", "agent")
        .env("GIT_COMMITTER_EMAIL", "agent@runner.example")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Faults that spoil the first such operation alone, and how many are left to spoil.
pub(super) fn once(operation: Operation, cut: Cut) -> (Faults, Arc<AtomicUsize>) {
    let left = Arc::new(AtomicUsize::new(1));
    let counter = Arc::clone(&left);
    let faults: Faults = Arc::new(move |now| {
        let spoil = now == operation
            && counter
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok();
        spoil.then_some(cut)
    });
    (faults, left)
}

/// Faults that spoil each such operation.
pub(super) fn always(operation: Operation, cut: Cut) -> Faults {
    Arc::new(move |now| (now == operation).then_some(cut))
}
