//! The main job with the real Claude Code on a repository with history: wherever `RUNNER_TEST_CLAUDE` names the CLI.
//!
//! It is found through `PATH`, started in the sandbox, and talks to a Messages API of this test's own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot set up its room has failed"
)]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runner::embedded::git_server::SeedCommit;
use runner::ids::CommitId;
use runner::ids::SessionId;
use serde_json::{Value, json};

use crate::harness::{Bench, CANARY, NEVER, Outside, RUNNER, files_with, transcript};
use crate::messages_api::{MessagesApi, Turn};

/// What the model hears and the agent never sees.
pub(crate) const KEY: &str = "sk-ant-of-this-test";
const TASK: &str = "Make a change\n\nAny will do.";
const LAST_WORDS: &str = "I committed kept.txt and left left.txt for you.";

/// A repository with history, a scripted model, and the real CLI as the agent.
pub(crate) struct Room {
    pub(crate) outside: Outside,
    base: CommitId,
    pub(crate) model: MessagesApi,
    pub(crate) bench: Bench,
}

impl Room {
    pub(crate) async fn new(program: &Path, key: Option<&str>) -> Self {
        let outside = Outside::start().await;
        let commit = |n: usize| SeedCommit {
            message: format!("change {n}"),
            files: vec![(format!("src/part{}/file{n}.txt", n % 5), vec![b'x'; 100 * n])],
        };
        let history: Vec<SeedCommit> = (1..=40).map(commit).collect();
        let base = outside.git.seed("o", "r", &history).await.unwrap();
        let model = MessagesApi::start().await;
        let bench = Bench::new(&outside);
        let folder = bench.path("bin");
        std::fs::create_dir(&folder).unwrap();
        symlink(program, folder.join("claude")).unwrap();
        let path = std::env::join_paths(
            std::iter::once(folder).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let mut bench = bench
            .with("PATH", path.unwrap().to_str().unwrap())
            .with("RUNNER_AGENT", "claude")
            .with("ANTHROPIC_BASE_URL", model.url());
        if let Some(key) = key {
            bench = bench.with("ANTHROPIC_API_KEY", key);
        }
        Self {
            outside,
            base,
            model,
            bench,
        }
    }

    /// `runner run` on the repository, to its end: the exit code and what it printed.
    pub(crate) async fn run(&self) -> (Option<i32>, String) {
        let mut command = Command::new(RUNNER);
        command
            .args(["run", "--task", TASK, "--task-id", self.outside.task.as_str()])
            .args(["--repo", &self.outside.git.url("o", "r")])
            .env_clear()
            .env("HOME", self.bench.path("nobody"))
            .env("GITHUB_TOKEN", CANARY)
            .env("RUNNER_STATE_DIR", self.bench.path("state"))
            .env("RUNNER_GITHUB_API_URL", self.outside.forge.listening().base())
            .envs(self.bench.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        let running = tokio::process::Command::from(command).kill_on_drop(true).output();
        let output = tokio::time::timeout(NEVER, running).await.expect("it ends").unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text.into_owned())
    }

    /// The verdict as the journal has it: what was sent, byte for byte.
    pub(crate) fn journaled_verdict(&self) -> Value {
        let rows = self.bench.dump();
        let verdicts: Vec<&Value> = rows.iter().filter(|row| row["kind"] == "verdict").collect();
        assert_eq!(verdicts.len(), 1, "{verdicts:?}");
        assert_eq!(rows.iter().filter(|row| row["kind"] == "ack").count(), 1);
        verdicts[0]["body"].clone()
    }

    fn commits(&self) -> Vec<String> {
        let range = format!("{}..runner/{}", self.base, self.outside.task);
        let log = self.outside.remote(&["log", "--reverse", "--format=%s", &range]);
        log.lines().map(str::to_owned).collect()
    }

    /// The change is there once, the pull request says what was done and what it cost, and no secret went anywhere.
    fn assert_done(&self, verdict: &Value) {
        assert_eq!(verdict["event"], "completed", "{verdict}");
        assert_eq!(self.commits(), ["the agent's own", "Make a change"]);
        assert_eq!(self.outside.git.counts().pushes, 1);
        let file = |name: &str| {
            self.outside
                .remote(&["show", &format!("runner/{}:{name}", self.outside.task)])
        };
        assert_eq!((file("kept.txt").as_str(), file("left.txt").as_str()), ("kept", "left"));
        assert_eq!(file("src/part0/file5.txt").len(), 500, "what was there stays");

        let details = &verdict["details"];
        let cost = details["costUSD"].as_f64().unwrap();
        assert!(cost > 0.0 && cost < 1.0, "{details}");
        assert_eq!(details["turns"], 3, "{details}");
        assert_eq!(
            (&details["inputTokens"], &details["outputTokens"]),
            (&json!(3000), &json!(300))
        );
        assert_eq!(details["sessionID"], SessionId::of(&self.outside.task, 0).to_string());
        assert_eq!(details["outcome"], "pull_request");

        let pulls = self.outside.forge.pulls();
        assert_eq!(pulls.len(), 1);
        let body = pulls[0].body.as_deref().unwrap();
        assert!(body.starts_with(LAST_WORDS), "{body}");
        assert!(body.contains("| change | 2 commits, 2 files |"), "{body}");
        let said = body.split("| cost | $").nth(1).and_then(|rest| rest.split(' ').next());
        let said: f64 = said.unwrap().parse().unwrap();
        assert!((said - cost).abs() < 0.000_1, "{body}\n{cost}");
        assert_eq!(details["prURL"], pulls[0].html_url);

        let heard = self.model.heard();
        assert_eq!(self.model.turns_taken(), 3);
        assert!(
            heard.contains("Make a change\\n\\nAny will do."),
            "the task is in what the model was told"
        );
        assert!(
            heard.contains(&format!("\"x-api-key\": \"{KEY}\"")),
            "the key came with it"
        );
        // The agent looked around it, and said what it saw: this is the control of the next line.
        assert!(
            heard.contains("CLAUDE_CONFIG_DIR="),
            "the agent's environment is in what it told the model"
        );
        assert!(!heard.contains(CANARY), "the agent saw the token");
        let transcript = transcript(&self.bench.path("state/agent/transcript-1.jsonl.zst"));
        assert!(transcript.contains("CLAUDE_CONFIG_DIR=") && !transcript.contains(CANARY));
        assert_eq!(files_with(self.bench.dir.path(), CANARY), [] as [PathBuf; 0]);
        // Its key is another one, which the model never hears as a key, and which looks like one to the redactor.
        assert!(
            heard.contains("ANTHROPIC_API_KEY=sk-ant-runner-"),
            "the agent has a key of its own"
        );
        assert!(
            transcript.contains("ANTHROPIC_API_KEY=sk-ant-[redacted]"),
            "{transcript}"
        );
        assert_eq!(heard.matches(KEY).count(), heard.matches("\"x-api-key\": ").count());
        assert!(!heard.contains("\"x-api-key\": \"sk-ant-runner-"));
        assert!(!heard.contains("br, zstd"), "answers come as they can be counted");
        assert_eq!(files_with(self.bench.dir.path(), KEY), [] as [PathBuf; 0]);
    }
}

/// The CLI, or why there is none.
pub(crate) fn program() -> Option<PathBuf> {
    let Some(named) = std::env::var_os("RUNNER_TEST_CLAUDE") else {
        println!("not run: RUNNER_TEST_CLAUDE names no Claude Code CLI (npm: @anthropic-ai/claude-code)");
        return None;
    };
    let program = std::fs::canonicalize(&named);
    Some(program.unwrap_or_else(|error| panic!("RUNNER_TEST_CLAUDE={}: {error}", named.display())))
}

/// Looks for secrets, commits one file, leaves another, and says so.
fn work(repo: &Path) -> Vec<Turn> {
    let look = "env | sort; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -aE 'TOKEN|ANTHROPIC|sk-ant'; \
                printf 'kept\\n' > kept.txt && git add kept.txt && git commit -q -m \"the agent's own\"";
    let left = json!({"file_path": repo.join("left.txt"), "content": "left\n"});
    vec![Turn::bash(look), Turn::Tool("Write", left), Turn::Says(LAST_WORDS)]
}

#[tokio::test(flavor = "multi_thread")]
async fn runner_run_with_claude_code_opens_one_pull_request_that_says_what_was_done_and_what_it_cost() {
    let Some(program) = program() else { return };
    let room = Room::new(&program, Some(KEY)).await;
    room.model.script(work(&room.bench.path("state/workspace/repo")));
    let (code, printed) = room.run().await;
    assert_eq!(code, Some(0), "{printed}");
    room.assert_done(&room.journaled_verdict());
    assert!(!printed.contains(CANARY), "{printed}");
    assert!(
        printed.starts_with(&room.outside.forge.pulls()[0].html_url),
        "{printed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_with_claude_code_and_limited_ports_ends_in_the_same_pull_request() {
    let Some(program) = program() else { return };
    let mut room = Room::new(&program, Some(KEY)).await;
    room.bench = room.bench.with("RUNNER_AGENT_PORTS", "443");
    room.model.script(work(&room.bench.path("workspace/repo")));
    let mut serving = room.bench.start();
    serving.assign(&room.outside.assignment()).await;
    let status = serving.wait().await;
    assert_eq!(status.code(), Some(0), "{}", serving.log());
    let verdict = room.outside.verdict();
    assert_eq!(verdict, room.journaled_verdict());
    room.assert_done(&verdict);
    assert!(!serving.log().contains(CANARY));
}

/// What a repository may have for Claude Code: text, a hook, and an address of its own for the model.
fn configuration() -> SeedCommit {
    let settings = json!({
        "env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "ANTHROPIC_API_KEY": "sk-ant-of-the-repository"},
        "hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": "echo hooked > \"$HOME/hooked\""}]}]},
    });
    let servers =
        json!({"mcpServers": {"own": {"command": "/bin/sh", "args": ["-c", "echo started > \"$HOME/started\"; cat"]}}});
    SeedCommit {
        message: "say how work is done here".to_owned(),
        files: vec![
            ("CLAUDE.md".to_owned(), b"THE REPOSITORY SAYS: use tabs.\n".to_vec()),
            (".claude/settings.json".to_owned(), settings.to_string().into_bytes()),
            (".mcp.json".to_owned(), servers.to_string().into_bytes()),
        ],
    }
}

/// Trusted or not, the model is reached by the runner's way: the address in the repository's settings is nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn claude_code_runs_what_a_repository_brings_only_where_it_is_trusted_and_is_told_its_words_by_default() {
    let Some(program) = program() else { return };
    for (repo_config, told, trusted) in [
        ("instructions", true, false),
        ("none", false, false),
        ("trust", true, true),
    ] {
        let mut room = Room::new(&program, Some(KEY)).await;
        let seeded = room.outside.git.seed("o", "r", &[configuration()]).await.unwrap();
        room.base = seeded;
        room.bench = room.bench.with("RUNNER_REPO_CONFIG", repo_config);
        room.model.script(work(&room.bench.path("state/workspace/repo")));
        let (code, printed) = room.run().await;
        assert_eq!(code, Some(0), "{repo_config}: {printed}");
        room.assert_done(&room.journaled_verdict());
        let heard = room.model.heard();
        assert_eq!(heard.contains("THE REPOSITORY SAYS: use tabs."), told, "{repo_config}");
        assert_eq!(heard.contains("<repository-file "), told && !trusted, "{repo_config}");
        for left in ["hooked", "started"] {
            let there = room.bench.path("state/workspace/home").join(left).exists();
            assert_eq!(there, trusted, "{repo_config}: {left}");
        }
    }
}

/// Claude Code calls it an error of its own name, with exit code 1.
#[tokio::test(flavor = "multi_thread")]
async fn claude_code_that_uses_up_its_turns_fails_by_that_name_and_says_what_it_cost() {
    let Some(program) = program() else { return };
    let mut room = Room::new(&program, Some(KEY)).await;
    room.model
        .script((0..5).map(|_| Turn::bash("echo change >> change.txt")));
    room.bench = room.bench.with("RUNNER_AGENT_MAX_TURNS", "2");
    let (code, printed) = room.run().await;
    assert_eq!(code, Some(1), "{printed}");
    let verdict = room.journaled_verdict();
    assert_eq!(verdict["details"]["reason"], "AgentTurnsExceeded", "{verdict}");
    assert!(verdict["details"]["costUSD"].as_f64().unwrap() > 0.0, "{verdict}");
    assert_eq!(room.model.turns_taken(), 2);
    // What it had done is paid for, and saved.
    assert_eq!(verdict["details"]["outcome"], "salvaged", "{verdict}");
    let pulls = room.outside.forge.pulls();
    assert_eq!(pulls.len(), 1);
    assert!(pulls[0].draft, "{:?}", pulls[0]);
    assert_eq!(verdict["details"]["prURL"], pulls[0].html_url, "{verdict}");
    assert!(room.outside.branch().await.is_some());
}

/// Its own count says that it has spent next to nothing: the runner's prices are others.
#[tokio::test(flavor = "multi_thread")]
async fn claude_code_that_spends_its_budget_by_the_runners_count_is_stopped_by_name() {
    let Some(program) = program() else { return };
    let mut room = Room::new(&program, Some(KEY)).await;
    room.model
        .script((0..9).map(|_| Turn::bash("echo change >> change.txt")));
    let prices = room.bench.path("prices.json");
    let rates = r#""output":0,"cache_write_5m":0,"cache_write_1h":0,"cache_read":0"#;
    let dear = format!(r#"{{"models":[{{"model":"claude-dear-1","input":2000,{rates}}}]}}"#);
    std::fs::write(&prices, dear).unwrap();
    room.bench = room
        .bench
        .with("RUNNER_MODEL_PRICES", prices.to_str().unwrap())
        .with("RUNNER_AGENT_MODEL", "claude-dear-1")
        .with("RUNNER_AGENT_MAX_BUDGET_USD", "5");
    let (code, printed) = room.run().await;
    assert_eq!(code, Some(1), "{printed}");
    let verdict = room.journaled_verdict();
    assert_eq!(verdict["details"]["reason"], "AgentBudgetExceeded", "{verdict}");
    assert_eq!(
        verdict["details"]["costUSD"], 6.0,
        "1000 tokens a turn, $2 each: {verdict}"
    );
    assert_eq!(room.model.turns_taken(), 3);
}

/// Claude Code calls it a success of no turns, asks nobody, and says it in words alone.
#[tokio::test(flavor = "multi_thread")]
async fn claude_code_without_a_key_fails_and_says_that_it_is_not_logged_in() {
    let Some(program) = program() else { return };
    let room = Room::new(&program, None).await;
    let (code, printed) = room.run().await;
    assert_eq!(code, Some(1), "{printed}");
    let verdict = room.journaled_verdict();
    assert_eq!(verdict["details"]["reason"], "AgentFailed", "{verdict}");
    assert!(
        verdict["message"].as_str().unwrap().contains("Not logged in"),
        "{verdict}"
    );
    assert_eq!(room.model.turns_taken(), 0);
    assert_eq!(room.outside.branch().await, None);
}
