//! The real binary against the embedded world: what a test of the whole needs.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::sync::watch;

pub(crate) use crate::outside::{CANARY, NEVER, Outside, client, data, everything_below, files_with, transcript};

pub(crate) const RUNNER: &str = env!("CARGO_BIN_EXE_runner");
/// An agent that leaves one change, uncommitted, and counts how often it ran.
pub(crate) const AGENT: &str = "cat > /dev/null; echo run >> \"$HOME/runs\"; echo change >> change.txt";

/// Whether the whole proof is asked for, which the night runs; otherwise a part that is quick.
pub(crate) fn whole() -> bool {
    std::env::var("PROOF").is_ok_and(|proof| proof == "whole")
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
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(follow(stdout, tell.clone()));
        }
        tokio::spawn(follow(child.stderr.take().unwrap(), tell));
        Self { child, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// What it said until now, on both outputs.
    pub(crate) fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// The same, as it grows.
    pub(crate) fn follow_log(&self) -> watch::Receiver<String> {
        self.log.clone()
    }

    /// All that it said, once it has ended.
    pub(crate) async fn whole_log(&self) -> String {
        let mut log = self.log.clone();
        let ended = async { while log.changed().await.is_ok() {} };
        tokio::time::timeout(NEVER, ended)
            .await
            .expect("its outputs are closed");
        self.log()
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

    /// The same, however long it takes.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        self.child.wait().await.unwrap()
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

async fn follow(output: impl AsyncRead + Unpin, tell: watch::Sender<String>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tell.send_modify(|log| {
            log.push_str(&line);
            log.push('\n');
        });
    }
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

/// The status and the body, as JSON where it is that.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> (u16, serde_json::Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text));
    (status, body)
}
