//! The real binary against the embedded world: what a test of the whole needs.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use runner::adapters::http::{HttpOptions, Proxies, build_client};
use runner::embedded::faults::{Endpoint, Fault, Faults};
use runner::embedded::forge::{Branches, ForgeRepo, ForgeServer};
use runner::embedded::git_server::{Auth, Cut, GitServer, Operation, SeedCommit};
use runner::embedded::task_api::{Counts, Mint, TaskApiServer};
use runner::ids::{CommitId, TaskId};
use runner::secret::Secret;
use runner::task::{TaskData, TaskRepo};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::sync::watch;

pub(crate) const RUNNER: &str = env!("CARGO_BIN_EXE_runner");
/// Long enough that a test which waits for it has failed, short enough to be told so.
pub(crate) const NEVER: Duration = Duration::from_mins(1);
/// Searched for in every byte that a run leaves.
pub(crate) const CANARY: &str = "ghs_canary0123456789";
/// An agent that leaves one change, uncommitted, and counts how often it ran.
pub(crate) const AGENT: &str = "cat > /dev/null; echo run >> \"$HOME/runs\"; echo change >> change.txt";

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
        let root = tempfile::tempdir().unwrap();
        let faults = Faults::new();
        let token = Secret::new(CANARY);
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
        api.add_task(&task, data(&git), Mint::fixed(token, Duration::from_hours(1)));
        Self {
            api,
            git,
            forge,
            faults,
            task,
            base,
            _root: root,
        }
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

/// One runner's directories, which outlive its processes.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    forge: String,
    pub(crate) env: Vec<(String, String)>,
}

impl Bench {
    pub(crate) fn new(outside: &Outside) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            forge: outside.forge.listening().base(),
            env: Vec::new(),
        }
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.path("state/journal.db")
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(RUNNER);
        command
            .arg("serve")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("nobody"))
            .env("RUNNER_LISTEN", "127.0.0.1:0")
            .env("RUNNER_STATE_DIR", self.path("state"))
            .env("RUNNER_SECRETS_DIR", self.path("secrets"))
            .env("RUNNER_WORKSPACE", self.path("workspace"))
            .env("RUNNER_GITHUB_API_URL", &self.forge)
            .env("RUNNER_AGENT", "command")
            .env("RUNNER_AGENT_COMMAND", AGENT)
            .env("RUNNER_AGENT_KILL_GRACE", "500ms")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn start(&self) -> Serving {
        Serving::spawn(self.command())
    }

    /// One start that dies at a place.
    pub(crate) fn start_to_crash_at(&self, place: &str) -> Serving {
        let mut command = self.command();
        command.env("RUNNER_CRASH_AT", place);
        Serving::spawn(command)
    }

    /// Starts and assigns until the task is over; gives the exit code of the last start.
    pub(crate) async fn until_over(&self, outside: &Outside) -> i32 {
        for _ in 0..20 {
            let mut serving = self.start();
            serving.assign(&outside.assignment()).await;
            let status = serving.wait().await;
            match status.code() {
                Some(75) => {}
                Some(code) => return code,
                None => panic!("killed by {status}: {}", serving.log()),
            }
        }
        panic!("the task is never over");
    }

    pub(crate) fn dump(&self) -> Vec<serde_json::Value> {
        let output = Command::new(RUNNER)
            .args(["journal", "dump", "--format", "ndjson"])
            .arg(self.journal())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How often the agent began.
    pub(crate) fn runs(&self) -> usize {
        std::fs::read_to_string(self.path("workspace/home/runs"))
            .unwrap_or_default()
            .lines()
            .count()
    }
}

/// A `runner serve` under way. Killed when dropped.
pub(crate) struct Serving {
    child: Child,
    log: watch::Receiver<String>,
}

impl Serving {
    pub(crate) fn spawn(command: Command) -> Self {
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (tell, log) = watch::channel(String::new());
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                tell.send_modify(|log| {
                    log.push_str(&line);
                    log.push('\n');
                });
            }
        });
        Self { child, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// Waits for a line with this in it; none where the process ended first.
    pub(crate) async fn line_with(&self, text: &str) -> Option<String> {
        let mut log = self.log.clone();
        let found = log.wait_for(|log| log.lines().any(|line| line.contains(text)));
        let log = tokio::time::timeout(NEVER, found).await.expect("a line in time").ok()?;
        log.lines().find(|line| line.contains(text)).map(str::to_owned)
    }

    /// Where it listens; none where it ended first.
    pub(crate) async fn address(&self) -> Option<String> {
        let line = self.line_with("listening on ").await?;
        let rest = line.split("listening on ").nth(1)?;
        let address: String = rest
            .chars()
            .take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':'))
            .collect();
        Some(format!("http://{address}"))
    }

    /// Assigns the task, if the process lives long enough to be told.
    pub(crate) async fn assign(&self, body: &str) -> Option<u16> {
        let address = self.address().await?;
        let answer = client()
            .post(format!("{address}/task"))
            .header("content-type", "application/json")
            .body(body.to_owned())
            .send()
            .await;
        answer.ok().map(|answer| answer.status().as_u16())
    }

    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(NEVER, self.child.wait()).await;
        assert!(ended.is_ok(), "it does not end: {}", self.log());
        ended.unwrap().unwrap()
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Kills it, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGKILL);
        assert_eq!(self.wait().await.signal(), Some(9));
    }
}

pub(crate) fn client() -> reqwest::Client {
    build_client(&HttpOptions {
        proxies: Proxies::Direct,
        ..HttpOptions::default()
    })
    .unwrap()
}

/// Every file below a directory that has these bytes in it, or in its name.
pub(crate) fn files_with(dir: &Path, needle: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if entry.file_name().to_string_lossy().contains(needle) {
                found.push(entry.path());
            }
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).unwrap();
                if bytes.windows(needle.len()).any(|window| window == needle.as_bytes()) {
                    found.push(entry.path());
                }
            }
        }
    }
    found
}

/// An agent that says that it is there, and leaves its change once it is let go on.
pub(crate) const WAITING_AGENT: &str = "cat > /dev/null; echo run >> \"$HOME/runs\"; : > \"$HOME/there\"; \
     until [ -e \"$HOME/go\" ]; do sleep 0.02; done; echo change >> change.txt";

impl Bench {
    /// Waits until [`WAITING_AGENT`] is at work.
    pub(crate) async fn agent_is_there(&self, serving: &Serving) {
        until("the agent is at work", serving, || {
            self.path("workspace/home/there").exists()
        })
        .await;
    }

    /// Lets [`WAITING_AGENT`] go on, now and whenever it is started again.
    pub(crate) fn let_the_agent_go(&self) {
        std::fs::write(self.path("workspace/home/go"), "").unwrap();
    }

    /// Starts and assigns once, and gives how that start ended with its log.
    pub(crate) async fn once(&self, outside: &Outside) -> (Option<i32>, String) {
        let mut serving = self.start();
        serving.assign(&outside.assignment()).await;
        let status = serving.wait().await;
        (status.code(), serving.log())
    }

    /// The rows of a kind, of one effect where one is named.
    pub(crate) fn rows(&self, kind: &str, effect: Option<&str>) -> Vec<serde_json::Value> {
        let wanted = |row: &serde_json::Value| row["kind"] == kind && effect.is_none_or(|e| row["effect"] == e);
        self.dump().into_iter().filter(wanted).collect()
    }
}

/// Waits until something holds, looking again and again. Fails where it never does.
pub(crate) async fn until(what: &str, serving: &Serving, holds: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < NEVER, "never: {what}: {}", serving.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The status and the body, as JSON where it is that.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> (u16, serde_json::Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text));
    (status, body)
}

/// A program as a user who is not root: as oneself, where one is not.
pub(crate) fn as_somebody(program: &Path) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "1001", "--regid", "1001", "--clear-groups", "--"])
        .arg(program);
    command
}

/// A copy of the program for somebody else. By a process of its own: while this one had it open for writing, a child
/// that another test forks would have it too, and it could not be executed.
pub(crate) fn copy_of_the_program(to: &Path) {
    let copied = Command::new("cp").arg(RUNNER).arg(to).status().unwrap();
    assert!(copied.success());
}
