//! The ways in which Claude Code fails, each with the real CLI (wherever `RUNNER_TEST_CLAUDE` names it) and a model that
//! behaves as badly as it is told. Each ends for its own reason, or well, and none hangs.
//!
//! The CLI is patient: it tries again for minutes. Here it is told to be less so, or a bound of the runner's ends it; how it
//! gives up by itself is in the tests that are run at night.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its room has failed")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::claude::program;
use crate::harness::{Bench, Outside, Serving};
use crate::messages_api::{MessagesApi, Turn};

/// Longer than the CLI tries by itself.
const LONG: Duration = Duration::from_mins(8);
/// What the CLI is told where it is not to be patient.
const IMPATIENT: (&str, &str) = ("CLAUDE_CODE_MAX_RETRIES", "1");

/// How a run has to end.
enum End {
    Completed,
    /// The failure's name, what its message says, and whether there is work that is saved.
    Failed(&'static str, &'static str, Work),
}

#[derive(Debug, PartialEq)]
enum Work {
    Saved,
    None,
}

/// What is done to the CLI from outside once it is at work.
#[derive(Clone, Copy)]
enum Blow {
    None,
    Signal(Signal),
}

/// One way to fail.
struct Case {
    name: &'static str,
    script: Vec<Turn>,
    /// What the model does after the script.
    always: Option<Turn>,
    settings: Vec<(&'static str, &'static str)>,
    /// Further arguments of the CLI.
    arguments: &'static str,
    blow: Blow,
    end: End,
    other_end: Option<End>,
}

impl Case {
    fn new(name: &'static str, script: impl IntoIterator<Item = Turn>, end: End) -> Self {
        Self {
            name,
            script: script.into_iter().collect(),
            always: None,
            settings: Vec::new(),
            arguments: "",
            blow: Blow::None,
            end,
            other_end: None,
        }
    }

    /// The model does nothing else.
    fn always(name: &'static str, turn: Turn, end: End) -> Self {
        Self {
            always: Some(turn),
            ..Self::new(name, [], end)
        }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.settings.push((name, value));
        self
    }

    /// What may come as well.
    fn or(self, end: End) -> Self {
        Self {
            other_end: Some(end),
            ..self
        }
    }

    fn impatient(self) -> Self {
        let (name, value) = IMPATIENT;
        self.with("RUNNER_AGENT_ENV", name).with(name, value)
    }

    fn struck_by(self, signal: Signal) -> Self {
        Self {
            blow: Blow::Signal(signal),
            ..self
        }
    }
}

fn failed(reason: &'static str, says: &'static str) -> End {
    End::Failed(reason, says, Work::None)
}

fn change() -> Turn {
    Turn::bash("echo change >> change.txt")
}

const DONE: Turn = Turn::Says("Done.");

/// What ends within seconds.
fn quick() -> Vec<Case> {
    let waits = || Turn::bash("echo change >> change.txt; : > \"$HOME/there\"; sleep 600");
    let in_background = json!({"command": "sleep 600", "description": "Wait", "run_in_background": true});
    let idle = ("RUNNER_AGENT_IDLE_TIMEOUT", "8s");
    let api_error =
        |name, status, says| Case::always(name, Turn::Status(status), failed("AgentFailed", says)).impatient();
    vec![
        Case::always(
            "a stream that stalls",
            Turn::Stalls,
            failed("AgentIdle", "(RUNNER_AGENT_IDLE_TIMEOUT)"),
        )
        .with(idle.0, idle.1),
        Case::always(
            "no headers",
            Turn::Silent,
            failed("AgentIdle", "(RUNNER_AGENT_IDLE_TIMEOUT)"),
        )
        .with(idle.0, idle.1),
        Case {
            always: Some(Turn::Stalls),
            ..Case::new(
                "a stream that stalls after work was done",
                [change()],
                End::Failed("AgentTimedOut", "RUNNER_AGENT_TIMEOUT", Work::Saved),
            )
        }
        .with("RUNNER_AGENT_TIMEOUT", "20s"),
        Case::always(
            "401 until time is over",
            Turn::Status(401),
            failed("AgentTimedOut", "RUNNER_AGENT_TIMEOUT"),
        )
        .with("RUNNER_AGENT_TIMEOUT", "8s"),
        api_error("401", 401, "401"),
        api_error("403", 403, "403"),
        api_error("404", 404, ""),
        api_error("429", 429, "429"),
        api_error("500", 500, "500"),
        api_error("529", 529, "529"),
        Case::new(
            "a connection that breaks once",
            [Turn::Breaks, change(), DONE],
            End::Completed,
        ),
        Case::new(
            "a connection that breaks later",
            [change(), Turn::Breaks, DONE],
            End::Completed,
        ),
        Case::new("500 once", [change(), Turn::Status(500), DONE], End::Completed),
        Case::new(
            "a result, and silence because of a process in the background",
            [change(), Turn::Tool("Bash", in_background), DONE],
            End::Completed,
        )
        .with(idle.0, "15s"),
        // What is lost is begun again, in the same conversation.
        Case::new("SIGKILL", [waits(), DONE], End::Completed).struck_by(Signal::SIGKILL),
        Case::new("SIGTERM", [waits(), DONE], End::Completed).struck_by(Signal::SIGTERM),
        // It says that it was interrupted, unless it is too busy for that: then it is lost, as above.
        Case::new("SIGINT", [waits(), DONE], End::Failed("AgentFailed", "", Work::Saved))
            .or(End::Completed)
            .struck_by(Signal::SIGINT),
        Case {
            arguments: "--settings /nowhere/settings.json",
            ..Case::new("bad settings", [], failed("AgentLost", "Settings file not found"))
        },
        Case::new("no changes", [DONE], failed("NoChanges", "")),
        Case::new("no changes, which is well", [DONE], End::Completed).with("RUNNER_NO_CHANGES", "complete"),
    ]
}

/// What the CLI waits minutes for before it gives up.
fn patient() -> Vec<Case> {
    let api_error = |name, status, says| Case::always(name, Turn::Status(status), failed("AgentFailed", says));
    vec![
        api_error("401 for ever", 401, "401"),
        api_error("429 for ever", 429, "429"),
        api_error("500 for ever", 500, "500"),
        // Without IS_SANDBOX=1, which it is told as root, it gives up after 2 s.
        api_error("529 for ever", 529, "529"),
        Case::new(
            "a stream that stalls once",
            [change(), Turn::Stalls, DONE],
            End::Completed,
        ),
    ]
}

struct Room {
    outside: Outside,
    // Goes with the test.
    model: MessagesApi,
    bench: Bench,
}

impl Room {
    async fn new(program: &Path, case: &Case) -> Self {
        let outside = Outside::start().await;
        let model = MessagesApi::start().await;
        model.script(case.script.clone());
        if let Some(turn) = &case.always {
            model.always(turn.clone());
        }
        let bench = Bench::new(&outside);
        let folder = bench.path("bin");
        fs::create_dir(&folder).unwrap();
        let mut folders = vec![folder.clone()];
        if case.arguments.is_empty() {
            symlink(program, folder.join("claude")).unwrap();
        } else {
            let script = format!("#!/bin/sh\nexec '{}' \"$@\" {}\n", program.display(), case.arguments);
            fs::write(folder.join("claude"), script).unwrap();
            fs::set_permissions(folder.join("claude"), fs::Permissions::from_mode(0o755)).unwrap();
            // So that the sandbox lets the script have it.
            folders.push(program.parent().unwrap().to_owned());
        }
        let system = std::env::var_os("PATH").unwrap();
        let path = std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&system))).unwrap();
        let mut bench = bench
            .with("PATH", path.to_str().unwrap())
            .with("RUNNER_AGENT", "claude")
            .with("ANTHROPIC_BASE_URL", model.url())
            .with("ANTHROPIC_API_KEY", "sk-ant-of-this-test");
        for (name, value) in &case.settings {
            bench = bench.with(name, value);
        }
        Self { outside, model, bench }
    }

    /// The CLI's own process: the one that has its arguments, not ours.
    fn cli(&self) -> i32 {
        let desk = self.bench.path("state/agent");
        let is_it = |pid: &i32| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments).into_owned();
            arguments.contains(desk.to_str().unwrap())
                && !arguments.contains("__supervise")
                && !arguments.contains("__sandbox")
        };
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let found: Vec<i32> = pids.filter(is_it).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found[0]
    }

    async fn run(&self, blow: Blow) -> Serving {
        let serving = self.bench.start();
        serving.assign(&self.outside.assignment()).await;
        if let Blow::Signal(signal) = blow {
            self.bench.agent_is_there(&serving).await;
            kill(Pid::from_raw(self.cli()), signal).unwrap();
        }
        serving
    }
}

/// What is wrong with how it ended.
fn judge(case: &Case, code: Option<i32>, verdict: &Value, pulls: usize) -> Result<(), String> {
    let ends = || std::iter::once(&case.end).chain(&case.other_end);
    if ends().any(|end| is_it(end, code, verdict, pulls)) {
        return Ok(());
    }
    let expected: Vec<String> = ends().map(ToString::to_string).collect();
    Err(format!(
        "{}: expected {}, got {code:?}, {verdict}",
        case.name,
        expected.join(" or ")
    ))
}

fn is_it(end: &End, code: Option<i32>, verdict: &Value, pulls: usize) -> bool {
    let details = &verdict["details"];
    match end {
        End::Completed => code == Some(0) && verdict["event"] == "completed",
        End::Failed(reason, says, work) => {
            let message = verdict["message"].as_str().unwrap_or_default();
            let saved = details["outcome"] == "salvaged" && pulls == 1;
            let as_it_should = details["reason"] == *reason && message.contains(says);
            code == Some(1) && as_it_should && saved == (*work == Work::Saved)
        }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Completed => f.write_str("completed"),
            Self::Failed(reason, says, work) => write!(f, "{reason}: …{says}… ({work:?})"),
        }
    }
}

/// All of them, three at a time, since each mostly waits.
async fn all_end_as_they_should(cases: Vec<Case>, within: Duration) {
    let Some(program): Option<PathBuf> = program() else {
        return;
    };
    let program = &program;
    let wrong: Vec<String> = futures_util::stream::iter(cases)
        .map(|case| async move {
            let begun = std::time::Instant::now();
            let room = Room::new(program, &case).await;
            let mut serving = room.run(case.blow).await;
            let Ok(status) = tokio::time::timeout(within, serving.ended()).await else {
                return Some(format!("{} hangs: {}", case.name, serving.log()));
            };
            let verdict = room.outside.verdict();
            println!(
                "{}: {:.1} s, {} requests, {}",
                case.name,
                begun.elapsed().as_secs_f64(),
                room.model.turns_taken(),
                verdict["message"]
            );
            let judged = judge(&case, status.code(), &verdict, room.outside.forge.pulls().len());
            judged.err().map(|wrong| format!("{wrong}\n{}", serving.log()))
        })
        .buffer_unordered(3)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_code_ends_for_its_own_reason_in_each_way_to_fail() {
    all_end_as_they_should(quick(), crate::harness::NEVER).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: run at night"]
async fn claude_code_gives_up_by_itself_when_its_patience_is_over() {
    all_end_as_they_should(patient(), LONG).await;
}
