//! What an agent had done when it was cut short is delivered as a draft, and the task fails with what cut it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use runner::embedded::faults::{Endpoint, Fault, Times};
use serde_json::Value;

use crate::harness::{Bench, Outside, Serving, until};
use crate::messages_api::Turn;
use crate::resume::Room as ClaudeRoom;

/// What an agent does before it is cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    Something,
    Nothing,
}

struct Room {
    outside: Outside,
    bench: Bench,
}

impl Room {
    /// A world whose agent does something or nothing, and then this.
    async fn with(did: Did, then: &str, settings: &[(&str, &str)]) -> Self {
        let change = match did {
            Did::Something => "echo change >> change.txt; ",
            Did::Nothing => "",
        };
        let agent = format!("cat > /dev/null; echo run >> \"$HOME/runs\"; {change}: > \"$TMPDIR/there\"; {then}");
        let outside = Outside::start().await;
        let mut bench = Bench::new(&outside).with("RUNNER_AGENT_COMMAND", &agent);
        for (name, value) in settings {
            bench = bench.with(name, value);
        }
        Self { outside, bench }
    }

    async fn fails(&self) -> Value {
        let (ended, log) = self.bench.once(&self.outside).await;
        assert_eq!(ended, Some(1), "{log}");
        self.verdict()
    }

    async fn in_mid_agent(&self) -> Serving {
        let serving = self.bench.start();
        serving.assign(&self.outside.assignment()).await;
        let there = self.bench.path("workspace/tmp/there");
        until("the agent is at work", &serving, || there.exists()).await;
        serving
    }

    /// The one verdict.
    fn verdict(&self) -> Value {
        assert_eq!(self.bench.rows("verdict", None).len(), 1);
        let verdict = self.outside.verdict();
        assert_eq!(verdict["event"], "failed", "{verdict}");
        verdict
    }

    /// Its change is on the remote, in one draft, and the verdict has all of that.
    async fn was_salvaged(&self, verdict: &Value, reason: &str) {
        let details = &verdict["details"];
        assert_eq!(details["reason"], reason, "{verdict}");
        assert_eq!(details["outcome"], "salvaged", "{reason}: {verdict}");
        assert_eq!(details["state"], "PrOpened", "{reason}: {verdict}");
        let pulls = self.outside.forge.pulls();
        assert_eq!(pulls.len(), 1, "{reason}");
        assert!(pulls[0].draft, "{reason}: {pulls:?}");
        assert!(pulls[0].title.starts_with("[incomplete] "), "{reason}: {pulls:?}");
        let body = pulls[0].body.as_deref().unwrap();
        let first = body.lines().nth(1).unwrap_or_default();
        assert!(first.contains("**This work is not finished.**"), "{reason}: {body}");
        assert!(!body.contains("not checked"), "{reason}: {body}");
        for name in ["prURL", "pr_url"] {
            assert_eq!(details[name], pulls[0].html_url, "{reason}");
        }
        let message = verdict["message"].as_str().unwrap();
        assert!(
            message.ends_with(&format!("is in the draft {}.", pulls[0].html_url)),
            "{message}"
        );
        let head = self.outside.branch().await.expect("the branch");
        assert_eq!(details["commit"], head.as_str(), "{reason}");
        let file = format!("{head}:change.txt");
        assert_eq!(self.outside.remote(&["show", &file]), "change", "{reason}");
        assert_eq!(self.outside.git.counts().pushes, 1, "{reason}");
    }

    async fn left_nothing(&self, verdict: &Value, reason: &str) {
        let details = &verdict["details"];
        assert_eq!(details["reason"], reason, "{verdict}");
        assert_eq!(details["outcome"], "none", "{reason}: {verdict}");
        assert_eq!(details["prURL"], Value::Null, "{reason}");
        assert_eq!(self.outside.branch().await, None, "{reason}");
        assert_eq!(self.outside.forge.pulls().len(), 0, "{reason}");
    }
}

const RUNS_ON: &str = "sleep 600";
const TALKS_ON: &str = "while :; do echo working; sleep 0.2; done";
const OUT_OF_TURNS: &str =
    r#"echo '{"type":"result","subtype":"error_max_turns","is_error":true,"num_turns":3}'; exit 1"#;
const OUT_OF_BUDGET: &str =
    r#"echo '{"type":"result","subtype":"error_max_budget_usd","is_error":true,"total_cost_usd":1.25}'; exit 1"#;

/// A way in which an agent is cut short without anybody's doing.
struct Way {
    /// What it does at last.
    then: &'static str,
    settings: &'static [(&'static str, &'static str)],
    reason: &'static str,
    /// Of the message.
    words: &'static str,
}

const fn way(
    then: &'static str,
    settings: &'static [(&'static str, &'static str)],
    reason: &'static str,
    words: &'static str,
) -> Way {
    Way {
        then,
        settings,
        reason,
        words,
    }
}

const WAYS: [Way; 7] = [
    way(
        RUNS_ON,
        &[("RUNNER_AGENT_TIMEOUT", "3s")],
        "AgentTimedOut",
        "RUNNER_AGENT_TIMEOUT",
    ),
    way(
        RUNS_ON,
        &[("RUNNER_TASK_TIMEOUT", "8s")],
        "AgentTimedOut",
        "RUNNER_TASK_TIMEOUT",
    ),
    way(
        RUNS_ON,
        &[("RUNNER_AGENT_IDLE_TIMEOUT", "3s")],
        "AgentIdle",
        "RUNNER_AGENT_IDLE_TIMEOUT",
    ),
    way(OUT_OF_TURNS, &[], "AgentTurnsExceeded", "error_max_turns"),
    way(OUT_OF_BUDGET, &[], "AgentBudgetExceeded", "error_max_budget_usd"),
    way("echo it-broke >&2; exit 1", &[], "AgentFailed", "it-broke"),
    way("kill -9 $$", &[], "AgentLost", "It was started 2 times."),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_cuts_an_agent_short_what_it_did_is_in_a_draft_and_the_task_fails_with_that() {
    for Way {
        then,
        settings,
        reason,
        words,
    } in WAYS
    {
        let room = Room::with(Did::Something, then, settings).await;
        let verdict = room.fails().await;
        room.was_salvaged(&verdict, reason).await;
        assert!(verdict["message"].as_str().unwrap().contains(words), "{verdict}");
        assert_eq!(verdict["details"]["error"], verdict["message"]);
        let runs = if reason == "AgentLost" { 2 } else { 1 };
        assert_eq!(room.bench.runs(), runs, "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_cut_short_with_nothing_done_leaves_nothing_on_the_remote() {
    for Way {
        then,
        settings,
        reason,
        words,
    } in WAYS
    {
        let room = Room::with(Did::Nothing, then, settings).await;
        let verdict = room.fails().await;
        room.left_nothing(&verdict, reason).await;
        assert!(verdict["message"].as_str().unwrap().contains(words), "{verdict}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_what_the_agent_did_is_delivered_within_the_grace() {
    for did in [Did::Something, Did::Nothing] {
        let room = Room::with(did, TALKS_ON, &[]).await;
        let mut serving = room.in_mid_agent().await;
        serving.signal(Signal::SIGTERM);
        assert_eq!(serving.wait().await.code(), Some(1), "{}", serving.log());
        match did {
            Did::Something => room.was_salvaged(&room.verdict(), "Interrupted").await,
            Did::Nothing => room.left_nothing(&room.verdict(), "Interrupted").await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_of_claude_code_ends_in_a_draft_with_its_cost() {
    let Some(room) = ClaudeRoom::new(&[("RUNNER_AGENT_MAX_BUDGET_USD", "3")]).await else {
        return;
    };
    room.model
        .script((0..9).map(|_| Turn::bash("echo change > change.txt")));
    let (code, log) = room.bench.once(&room.outside).await;
    assert_eq!(code, Some(1), "{log}");
    let verdict = room.outside.verdict();
    let details = &verdict["details"];
    assert_eq!(details["reason"], "AgentBudgetExceeded", "{verdict}");
    assert_eq!(
        (&details["outcome"], details["costUSD"].as_f64()),
        (&"salvaged".into(), Some(3.0)),
        "{verdict}"
    );
    let pulls = room.outside.forge.pulls();
    assert_eq!((pulls.len(), pulls[0].draft), (1, true));
    assert!(
        pulls[0].body.as_deref().unwrap().contains("| cost | $3.0000 |"),
        "{pulls:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_rule_is_not_delivered_and_the_first_reason_stays() {
    let breaks = "mkdir -p .github/workflows; echo x > .github/workflows/ci.yml; exit 1";
    let room = Room::with(Did::Something, breaks, &[]).await;
    let verdict = room.fails().await;
    room.left_nothing(&verdict, "AgentFailed").await;
    let message = verdict["message"].as_str().unwrap();
    for words in ["What it left was not delivered:", ".github/workflows/ci.yml"] {
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_or_a_pull_request_that_is_refused_leaves_the_first_reason() {
    let room = Room::with(Did::Something, "exit 1", &[]).await;
    let hooks = room.outside.git.path("o", "r").unwrap().join("hooks");
    fs::create_dir_all(&hooks).unwrap();
    fs::write(
        hooks.join("pre-receive"),
        "#!/bin/sh\necho it-is-protected >&2\nexit 1\n",
    )
    .unwrap();
    fs::set_permissions(hooks.join("pre-receive"), fs::Permissions::from_mode(0o755)).unwrap();
    let verdict = room.fails().await;
    room.left_nothing(&verdict, "AgentFailed").await;
    let message = verdict["message"].as_str().unwrap();
    for words in ["What it left was not delivered:", "it-is-protected"] {
        assert!(message.contains(words), "{message}");
    }

    let room = Room::with(Did::Something, "exit 1", &[]).await;
    room.outside
        .faults
        .inject(Endpoint::PullCreate, Fault::Status(403), Times::Always);
    let verdict = room.fails().await;
    assert_eq!(verdict["details"]["reason"], "AgentFailed", "{verdict}");
    assert!(
        verdict["message"]
            .as_str()
            .unwrap()
            .contains("What it left was not delivered:"),
        "{verdict}"
    );
    // The branch is there nevertheless, and the verdict says where.
    let head = room.outside.branch().await.expect("the branch");
    assert_eq!(verdict["details"]["commit"], head.as_str(), "{verdict}");
    assert_eq!(verdict["details"]["outcome"], "salvaged", "{verdict}");
    assert!(
        verdict["message"]
            .as_str()
            .unwrap()
            .ends_with("is on the branch runner/t-1."),
        "{verdict}"
    );
}

/// The mending cannot begin: what the agent had come to is delivered nevertheless.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_cannot_be_started_again_leaves_what_it_did_before() {
    let Some(room) = ClaudeRoom::new(&[]).await else { return };
    let program = room.bench.path("bin/claude");
    let there = room.bench.path("workspace/tmp/there");
    let go = room.bench.path("workspace/tmp/go");
    let check = "echo red; : > ../tmp/there; until [ -e ../tmp/go ]; do sleep 0.02; done; exit 1";
    let bench = room.bench.with("RUNNER_CHECK_COMMAND", check);
    room.model
        .script([Turn::bash("echo change > change.txt"), Turn::Says("I changed it.")]);
    let mut serving = bench.start();
    serving.assign(&room.outside.assignment()).await;
    until("the check runs", &serving, || there.exists()).await;
    fs::remove_file(program).unwrap();
    fs::write(go, "").unwrap();
    assert_eq!(serving.wait().await.code(), Some(1), "{}", serving.log());
    let verdict = room.outside.verdict();
    assert_eq!(verdict["details"]["reason"], "AgentMissing", "{verdict}");
    assert_eq!(verdict["details"]["outcome"], "salvaged", "{verdict}");
    assert_eq!(verdict["details"]["costUSD"], 2.0, "{verdict}");
    let pulls = room.outside.forge.pulls();
    assert_eq!((pulls.len(), pulls[0].draft), (1, true));
    assert!(pulls[0].body.as_deref().unwrap().contains("I changed it."), "{pulls:?}");
}
