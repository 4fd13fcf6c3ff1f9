//! The embedded outside world with one task in it, in this process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use runner::embedded::faults::Faults;
use runner::embedded::forge::{Branches, ForgeRepo, ForgeServer};
use runner::embedded::git_server::{Auth, GitServer, SeedCommit};
use runner::embedded::task_api::{Mint, TaskApiServer};
use runner::secret::Secret;
use runner::task::{TaskData, TaskRepo};
use tempfile::TempDir;

use crate::Result;
use crate::process::Room;

pub(crate) struct World {
    api: TaskApiServer,
    forge: String,
    _forge: ForgeServer,
    _git: Arc<GitServer>,
    // Goes after what stands on it.
    _root: TempDir,
}

impl World {
    pub(crate) async fn start() -> Result<Self> {
        let root = tempfile::tempdir()?;
        let token = Secret::new("ghs_of_a_benchmark");
        let remote = root.path().join("remote");
        let git = GitServer::start(which::which("git")?, remote, Auth::Token(token.clone()), None).await?;
        git.create("o", "r").await?;
        let commit = |n: usize| SeedCommit {
            message: format!("change {n}"),
            files: vec![(format!("src/file{n}.txt"), vec![b'x'; 1000])],
        };
        git.seed("o", "r", &(1..=20).map(commit).collect::<Vec<_>>()).await?;
        let git = Arc::new(git);
        let (asked, runtime) = (Arc::clone(&git), tokio::runtime::Handle::current());
        let branches = Branches::with(move |name| {
            let head = runtime.block_on(asked.branch("o", "r", &name.parse().ok()?));
            head.ok()?.map(|head| head.to_string())
        });
        let repo = ForgeRepo {
            owner: "o".to_owned(),
            name: "r".to_owned(),
            token: token.clone(),
            branches,
        };
        let forge = ForgeServer::start(repo, Faults::new()).await?;
        let api = TaskApiServer::start(Faults::new()).await?;
        let data = TaskData {
            description: "Make a change".to_owned(),
            context: String::new(),
            source_url: None,
            repo: TaskRepo {
                url: git.url("o", "r"),
                git_ref: None,
            },
        };
        api.add_task(&"t-1".parse()?, data, Mint::fixed(token, Duration::from_hours(1)));
        Ok(Self {
            api,
            forge: forge.listening().base(),
            _forge: forge,
            _git: git,
            _root: root,
        })
    }

    pub(crate) fn forge(&self) -> &str {
        &self.forge
    }

    pub(crate) fn assignment(&self) -> String {
        serde_json::json!({"taskID": "t-1", "apiURL": self.api.api_url()}).to_string()
    }

    /// A runner's directories, for one that knows this forge.
    pub(crate) fn room(&self, runner: &Path, agent: &str) -> Result<Room> {
        let mut room = Room::new(runner, agent)?;
        room.set("RUNNER_GITHUB_API_URL", &self.forge);
        Ok(room)
    }
}
