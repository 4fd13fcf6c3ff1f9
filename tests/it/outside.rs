//! The outside world of a test: task API, git server and forge, with one task in them.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use runner::adapters::agent::read_transcript;
use runner::adapters::http::{HttpOptions, Proxies, build_client};
use runner::embedded::faults::{Endpoint, Fault, Faults};
use runner::embedded::forge::{Branches, ForgeRepo, ForgeServer};
use runner::embedded::git_server::{Auth, Cut, GitServer, Operation, SeedCommit};
use runner::embedded::task_api::{Counts, Mint, TaskApiServer};
use runner::ids::{CommitId, TaskId};
use runner::secret::Secret;
use runner::task::{TaskData, TaskRepo};
use tempfile::TempDir;

/// Long enough that a test which waits for it has failed, short enough to be told so.
pub(crate) const NEVER: Duration = Duration::from_mins(1);
/// Searched for in every byte that a run leaves.
pub(crate) const CANARY: &str = "ghs_canary0123456789";

/// The outside world, with one task in it.
pub(crate) struct Outside {
    pub(crate) api: TaskApiServer,
    pub(crate) git: Arc<GitServer>,
    pub(crate) forge: ForgeServer,
    pub(crate) faults: Faults,
    pub(crate) task: TaskId,
    pub(crate) base: CommitId,
    // Goes after what stands on it.
    _root: TempDir,
}

impl Outside {
    pub(crate) async fn start() -> Self {
        Self::with_token(CANARY).await
    }

    /// The same, whose repository this token opens.
    pub(crate) async fn with_token(token: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let faults = Faults::new();
        let token = Secret::new(token);
        let git = start_git(root.path(), &token, &faults).await;
        git.create("o", "r").await.unwrap();
        let commit = |message: &str, readme: &str| SeedCommit {
            message: message.to_owned(),
            files: vec![("README.md".to_owned(), readme.as_bytes().to_vec())],
        };
        let base = git
            .seed("o", "r", &[commit("first", "one\n"), commit("second", "two\n")])
            .await
            .unwrap();
        let forge = start_forge(&git, &token, &faults).await;
        let api = TaskApiServer::start(faults.clone()).await.unwrap();
        let task: TaskId = "t-1".parse().unwrap();
        let outside = Self {
            api,
            git,
            forge,
            faults,
            task,
            base,
            _root: root,
        };
        outside.add_task(data(&outside.git), token);
        outside
    }

    /// Makes this the task, with the token that it gets.
    pub(crate) fn add_task(&self, data: TaskData, token: Secret) {
        self.api
            .add_task(&self.task, data, Mint::fixed(token, Duration::from_hours(1)));
    }

    pub(crate) fn counts(&self) -> Counts {
        self.api.counts(&self.task)
    }

    /// The verdict that counts, as the API has it.
    pub(crate) fn verdict(&self) -> serde_json::Value {
        let verdict = self.counts().verdict.expect("a verdict");
        serde_json::from_slice(&verdict).unwrap()
    }

    pub(crate) async fn branch(&self) -> Option<CommitId> {
        let branch = format!("runner/{}", self.task).parse().unwrap();
        self.git.branch("o", "r", &branch).await.unwrap()
    }

    /// git in the remote repository.
    pub(crate) fn remote(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .args(args)
            .current_dir(self.git.path("o", "r").unwrap())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The body of `POST /task`.
    pub(crate) fn assignment(&self) -> String {
        serde_json::json!({"taskID": self.task, "apiURL": self.api.api_url()}).to_string()
    }
}

pub(crate) fn data(git: &GitServer) -> TaskData {
    TaskData {
        description: "Make a change\n\nAny will do.".to_owned(),
        context: "There is nothing to know.".to_owned(),
        source_url: None,
        repo: TaskRepo {
            url: git.url("o", "r"),
            git_ref: None,
        },
    }
}

async fn start_git(root: &Path, token: &Secret, faults: &Faults) -> Arc<GitServer> {
    let faults = faults.clone();
    let cut = move |operation| {
        let endpoint = match operation {
            Operation::Push => Endpoint::GitPush,
            Operation::Fetch => Endpoint::GitFetch,
            Operation::List => return None,
        };
        match faults.next(endpoint)? {
            Fault::Refuse => Some(Cut::Before),
            Fault::DropAfter => Some(Cut::AfterWork),
            Fault::Delay(delay) => Some(Cut::Delay(delay)),
            Fault::Status(status) | Fault::Answer { status, .. } => Some(Cut::Status(status)),
        }
    };
    let git = which::which("git").unwrap();
    let server = GitServer::start(
        git,
        root.join("remote"),
        Auth::Token(token.clone()),
        Some(Arc::new(cut)),
    );
    Arc::new(server.await.unwrap())
}

async fn start_forge(git: &Arc<GitServer>, token: &Secret, faults: &Faults) -> ForgeServer {
    let git = Arc::clone(git);
    let runtime = tokio::runtime::Handle::current();
    let branches = Branches::with(move |name| {
        let head = runtime.block_on(git.branch("o", "r", &name.parse().ok()?));
        head.unwrap().map(|head| head.to_string())
    });
    let repo = ForgeRepo {
        owner: "o".to_owned(),
        name: "r".to_owned(),
        token: token.clone(),
        branches,
    };
    ForgeServer::start(repo, faults.clone()).await.unwrap()
}

pub(crate) fn client() -> reqwest::Client {
    build_client(&HttpOptions {
        proxies: Proxies::Direct,
        ..HttpOptions::default()
    })
    .unwrap()
}

/// What a transcript has.
pub(crate) fn transcript(path: &Path) -> String {
    let mut text = Vec::new();
    read_transcript(path).unwrap().read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// Every file below a directory that has these bytes in it, or in its name.
pub(crate) fn files_with(dir: &Path, needle: &str) -> Vec<PathBuf> {
    let has = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
    let mut found = everything_below(dir);
    found.retain(|(path, bytes)| has(path.file_name().unwrap().as_encoded_bytes()) || has(bytes));
    found.into_iter().map(|(path, _)| path).collect()
}

/// Every entry below a directory with its bytes: those of a link are where it leads, and what is no file has none.
pub(crate) fn everything_below(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let bytes = if kind.is_file() && path.extension().is_some_and(|extension| extension == "zst") {
                transcript(&path).into_bytes()
            } else if kind.is_file() {
                std::fs::read(&path).unwrap()
            } else if kind.is_symlink() {
                std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else {
                Vec::new()
            };
            if kind.is_dir() {
                dirs.push(path.clone());
            }
            found.push((path, bytes));
        }
    }
    found
}
