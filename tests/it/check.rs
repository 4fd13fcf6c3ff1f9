//! Set-up and check: the operator's commands around the agent, in its tree and its sandbox.

use std::fs;
use std::os::unix::fs::DirBuilderExt;

use nix::sys::signal::Signal;
use runner::embedded::forge::StoredPull;
use serde_json::Value;

use crate::harness::{Bench, CANARY, Outside, Serving, files_with, until};
use crate::messages_api::Turn;
use crate::processes::the_pod_goes;
use crate::resume::Room as ClaudeRoom;

/// Keeps what it is told, and adds to its change: `mended` where it is told of a check.
const AGENT: &str = "echo run >> \"$HOME/runs\"; cat > \"$HOME/prompt-$(wc -l < $HOME/runs)\"; \
     if grep -q 'The check of this repository was run' $HOME/prompt-2 2>/dev/null; then echo mended >> change.txt; echo I mended it.; \
     else echo change >> change.txt; echo I changed it.; fi";
const MENDED_IS_GREEN: &str = "grep mended change.txt || { echo the-check-complains >&2; exit 3; }";

struct Room {
    outside: Outside,
    bench: Bench,
}

impl Room {
    async fn with(settings: &[(&str, &str)]) -> Self {
        let outside = Outside::start().await;
        let mut bench = Bench::new(&outside).with("RUNNER_AGENT_COMMAND", AGENT);
        for (name, value) in settings {
            bench = bench.with(name, value);
        }
        Self { outside, bench }
    }

    async fn ends_with(&self, code: i32) {
        let (ended, log) = self.bench.once(&self.outside).await;
        assert_eq!(ended, Some(code), "{log}");
    }

    /// A start whose command is at work: it says so by a file.
    async fn in_mid_command(&self) -> Serving {
        let serving = self.bench.start();
        serving.assign(&self.outside.assignment()).await;
        let there = self.bench.path("workspace/tmp/there");
        until("the command is at work", &serving, || there.exists()).await;
        serving
    }

    /// What the rows say of the ends of a command.
    fn ends(&self, command: &str) -> Vec<Value> {
        let rows = self.bench.rows("outcome", Some(command));
        rows.iter().map(|row| row["body"]["fact"]["end"].clone()).collect()
    }

    fn prompt(&self, number: u32) -> String {
        fs::read_to_string(self.bench.path(&format!("workspace/home/prompt-{number}"))).unwrap()
    }

    fn on_branch(&self, file: &str) -> String {
        self.outside
            .remote(&["show", &format!("runner/{}:{file}", self.outside.task)])
    }

    /// The verdict, which is `completed`, with its one pull request.
    fn completed(&self) -> (Value, StoredPull) {
        let verdict = self.outside.verdict();
        assert_eq!(verdict["event"], "completed", "{verdict}");
        assert_eq!(verdict["details"]["outcome"], "pull_request", "{verdict}");
        assert_eq!(self.bench.rows("verdict", None).len(), 1);
        let mut pulls = self.outside.forge.pulls();
        assert_eq!(pulls.len(), 1);
        assert_eq!(verdict["details"]["prURL"], pulls[0].html_url);
        (verdict, pulls.remove(0))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_green_check_ends_in_a_pull_request_that_is_no_draft() {
    let room = Room::with(&[("RUNNER_CHECK_COMMAND", "grep change change.txt")]).await;
    room.ends_with(0).await;
    let (verdict, pull) = room.completed();
    assert!(!pull.draft, "{pull:?}");
    assert!(
        verdict["message"].as_str().unwrap().starts_with("Opened http"),
        "{verdict}"
    );
    assert_eq!(room.ends("check"), [serde_json::json!({"exit": 0})]);
    assert_eq!(
        room.bench.rows("outcome", Some("check"))[0]["body"]["fact"]["output"],
        "change\n"
    );
    assert_eq!(room.bench.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_conversations_mends_in_the_same_tree_and_is_told_task_and_output() {
    let room = Room::with(&[("RUNNER_CHECK_COMMAND", MENDED_IS_GREEN)]).await;
    room.ends_with(0).await;
    let (_, pull) = room.completed();
    assert!(!pull.draft, "{pull:?}");
    assert_eq!(room.on_branch("change.txt"), "change\nmended");
    assert!(!room.prompt(1).contains("the-check-complains"));
    for words in ["Make a change", "exit code 3", "the-check-complains"] {
        assert!(room.prompt(2).contains(words), "{words}: {}", room.prompt(2));
    }
    let body = pull.body.unwrap();
    assert!(
        body.contains("I changed it.") && body.contains("I mended it."),
        "{body}"
    );
    assert_eq!(room.bench.runs(), 2);
    assert_eq!(room.bench.rows("intent", Some("check")).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_code_mends_in_the_same_conversation_on_one_bill() {
    let Some(room) = ClaudeRoom::new(&[("RUNNER_CHECK_COMMAND", MENDED_IS_GREEN)]).await else {
        return;
    };
    room.model.script([
        Turn::bash("echo change > change.txt; echo what-it-saw-first"),
        Turn::Says("I changed it."),
        Turn::bash("echo mended >> change.txt"),
        Turn::Says("I mended it."),
    ]);
    let (code, log) = room.bench.once(&room.outside).await;
    assert_eq!(code, Some(0), "{log}");
    let asked = room.model.asked();
    assert_eq!(asked.len(), 4);
    for words in ["what-it-saw-first", "the-check-complains", "exit code 3"] {
        assert!(asked[2].contains(words), "{words}: {}", asked[2]);
    }
    assert_eq!(room.intended(), [room.session(0), room.session(0)]);
    let pulls = room.outside.forge.pulls();
    assert_eq!((pulls.len(), pulls[0].draft), (1, false));
    let body = pulls[0].body.as_deref().unwrap();
    assert!(
        body.contains("I changed it.") && body.contains("I mended it."),
        "{body}"
    );
    assert!(body.contains("| cost | $4.0000 |"), "{body}");
    let verdict = room.outside.verdict();
    assert_eq!(verdict["event"], "completed", "{verdict}");
    let details = &verdict["details"];
    assert_eq!(
        (details["costUSD"].as_f64(), details["turns"].as_u64()),
        (Some(4.0), Some(4)),
        "{verdict}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_stays_red_ends_in_a_draft_that_says_so_and_the_task_is_completed() {
    let room = Room::with(&[("RUNNER_CHECK_COMMAND", "echo it-is-never-good; exit 7")]).await;
    room.ends_with(0).await;
    let (verdict, pull) = room.completed();
    assert!(pull.draft, "{pull:?}");
    let message = verdict["message"].as_str().unwrap();
    assert!(
        message.contains("as a draft") && message.contains("exit code 7"),
        "{message}"
    );
    let body = pull.body.unwrap();
    assert!(body.contains("**The check fails** (exit code 7"), "{body}");
    assert!(body.contains("it-is-never-good"), "{body}");
    assert_eq!((room.bench.runs(), room.ends("check").len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_hangs_is_stopped_by_its_bound_and_is_red() {
    let hangs_once = "[ -e ../tmp/hung ] || { : > ../tmp/hung; echo it-hangs; sleep 600; }";
    let room = Room::with(&[("RUNNER_CHECK_COMMAND", hangs_once), ("RUNNER_AGENT_TIMEOUT", "5s")]).await;
    room.ends_with(0).await;
    let (_, pull) = room.completed();
    assert!(!pull.draft, "{pull:?}");
    assert_eq!(
        room.ends("check"),
        [Value::from("timed_out"), serde_json::json!({"exit": 0})]
    );
    let told = room.prompt(2);
    assert!(told.contains("out of time") && told.contains("it-hangs"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_cannot_be_started_ends_in_a_draft_and_nothing_is_mended() {
    let room = Room::with(&[("RUNNER_CHECK_COMMAND", "true")]).await;
    // The supervisor's report has no place to be written to.
    let mut private = fs::DirBuilder::new();
    private
        .recursive(true)
        .mode(0o700)
        .create(room.bench.path("state/agent/check-1.json"))
        .unwrap();
    room.ends_with(0).await;
    let (verdict, pull) = room.completed();
    assert!(pull.draft, "{pull:?}");
    assert!(
        verdict["message"]
            .as_str()
            .unwrap()
            .contains("not checked (not started)"),
        "{verdict}"
    );
    assert!(
        pull.body
            .unwrap()
            .contains("**The change is not checked** (not started)")
    );
    assert_eq!(room.bench.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_in_the_check_the_change_is_delivered_as_a_draft() {
    let room = Room::with(&[("RUNNER_CHECK_COMMAND", ": > ../tmp/there; sleep 600")]).await;
    let mut serving = room.in_mid_command().await;
    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
    let (verdict, pull) = room.completed();
    assert!(pull.draft, "{pull:?}");
    assert!(
        verdict["message"]
            .as_str()
            .unwrap()
            .contains("not checked (interrupted)"),
        "{verdict}"
    );
    assert!(
        pull.body
            .unwrap()
            .contains("**The change is not checked** (interrupted")
    );
    assert_eq!(room.bench.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_in_the_check_the_next_start_checks_again() {
    let waits = "[ -e ../tmp/go ] || { : > ../tmp/there; sleep 600; }";
    let room = Room::with(&[("RUNNER_CHECK_COMMAND", waits), ("RUNNER_ON_TERM", "park")]).await;
    let mut serving = room.in_mid_command().await;
    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.wait().await.code(), Some(75), "{}", serving.log());
    fs::write(room.bench.path("workspace/tmp/go"), "").unwrap();
    assert_eq!(room.bench.until_over(&room.outside).await, 0);
    let (_, pull) = room.completed();
    assert!(!pull.draft, "{pull:?}");
    assert_eq!(room.bench.runs(), 1);
}

/// Its mending is half done; it cannot know that, and is told once more.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_agent_mends_it_mends_again_in_the_same_tree() {
    let agent = format!(
        "{AGENT}; if [ -e \"$HOME/prompt-2\" ] && ! [ -e \"$TMPDIR/go\" ]; then : > \"$TMPDIR/there\"; sleep 600; fi"
    );
    let room = Room::with(&[
        ("RUNNER_CHECK_COMMAND", MENDED_IS_GREEN),
        ("RUNNER_AGENT_COMMAND", &agent),
    ])
    .await;
    let serving = room.in_mid_command().await;
    the_pod_goes(serving).await;
    fs::write(room.bench.path("workspace/tmp/go"), "").unwrap();
    assert_eq!(room.bench.until_over(&room.outside).await, 0);
    room.completed();
    assert_eq!(room.on_branch("change.txt"), "change\nmended\nmended");
    assert!(room.prompt(3).contains("the-check-complains"), "{}", room.prompt(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_up_that_fails_ends_the_task_before_the_agent_is_paid() {
    let command = "seq 100000; echo the-last-line >&2; exit 4";
    let room = Room::with(&[("RUNNER_SETUP_COMMAND", command)]).await;
    room.ends_with(1).await;
    let verdict = room.outside.verdict();
    assert_eq!(verdict["details"]["reason"], "SetupFailed", "{verdict}");
    let message = verdict["message"].as_str().unwrap();
    assert!(
        message.contains("exit code 4") && message.contains("99999\n100000\nthe-last-line"),
        "{message}"
    );
    assert!(message.len() < 5000, "{}", message.len());
    assert_eq!((room.bench.runs(), room.outside.git.counts().pushes), (0, 0));
    assert!(room.bench.rows("intent", Some("agent")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_in_the_set_up_the_task_is_interrupted_or_parked() {
    let waits = "[ -e ../tmp/go ] || { : > ../tmp/there; sleep 600; }";
    for (on_term, code) in [("report", 1), ("park", 75)] {
        let room = Room::with(&[("RUNNER_SETUP_COMMAND", waits), ("RUNNER_ON_TERM", on_term)]).await;
        let mut serving = room.in_mid_command().await;
        serving.signal(Signal::SIGTERM);
        assert_eq!(serving.wait().await.code(), Some(code), "{}", serving.log());
        if on_term == "park" {
            fs::write(room.bench.path("workspace/tmp/go"), "").unwrap();
            assert_eq!(room.bench.until_over(&room.outside).await, 0);
            room.completed();
        } else {
            let verdict = room.outside.verdict();
            assert_eq!(verdict["details"]["reason"], "Interrupted", "{verdict}");
            assert_eq!((room.bench.runs(), room.outside.forge.pulls().len()), (0, 0));
        }
    }
}

const COUNTED_SET_UP: &str = "echo once >> ../tmp/set-ups; echo prepared > prepared.txt";

fn set_ups(bench: &Bench) -> usize {
    fs::read_to_string(bench.path("workspace/tmp/set-ups"))
        .unwrap()
        .lines()
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_set_up_leaves_is_there_for_agent_and_check_also_when_the_work_begins_anew() {
    let agent = "cat > /dev/null; echo run >> \"$HOME/runs\"; cat prepared.txt > change.txt; : > \"$TMPDIR/there\"; \
                 [ -e \"$TMPDIR/go\" ] || sleep 600";
    let room = Room::with(&[
        ("RUNNER_SETUP_COMMAND", COUNTED_SET_UP),
        ("RUNNER_AGENT_COMMAND", agent),
        ("RUNNER_CHECK_COMMAND", "diff prepared.txt change.txt"),
    ])
    .await;
    let serving = room.in_mid_command().await;
    assert_eq!(set_ups(&room.bench), 1);
    the_pod_goes(serving).await;
    fs::write(room.bench.path("workspace/tmp/go"), "").unwrap();
    assert_eq!(room.bench.until_over(&room.outside).await, 0);
    let (_, pull) = room.completed();
    assert!(!pull.draft, "{pull:?}");
    assert_eq!((set_ups(&room.bench), room.bench.runs()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_gone_on_with_is_not_set_up_for_again() {
    let Some(room) = ClaudeRoom::new(&[("RUNNER_SETUP_COMMAND", COUNTED_SET_UP)]).await else {
        return;
    };
    the_pod_goes(room.in_mid_turn().await).await;
    room.will_finish();
    assert_eq!(room.bench.until_over(&room.outside).await, 0);
    assert_eq!(set_ups(&room.bench), 1);
    assert_eq!(room.outside.verdict()["event"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn set_up_and_check_are_in_the_sandbox_and_have_no_key() {
    for (sandbox, reaches) in [("require", false), ("off", true)] {
        let outside = Outside::start().await;
        let bench = Bench::new(&outside);
        let looks = format!(
            "cat {} > /dev/null && echo reads-the-journal; ls {} && echo lists-the-secrets; env",
            bench.journal().display(),
            bench.path("secrets").display()
        );
        let bench = bench
            .with("RUNNER_SANDBOX", sandbox)
            .with("ANTHROPIC_API_KEY", "sk-ant-of-this-test")
            .with("RUNNER_SETUP_COMMAND", &looks)
            .with("RUNNER_CHECK_COMMAND", &looks);
        let (code, log) = bench.once(&outside).await;
        assert_eq!(code, Some(0), "{log}");
        for command in ["setup", "check"] {
            let rows = bench.rows("outcome", Some(command));
            let said = rows[0]["body"]["fact"]["output"].as_str().unwrap();
            assert!(said.contains("TMPDIR="), "it says its environment: {said}");
            for name in ["ANTHROPIC", "RUNNER_", "sk-ant"] {
                assert!(!said.contains(name), "{sandbox} {command}: {name}: {said}");
            }
            for reached in ["reads-the-journal", "lists-the-secrets"] {
                assert_eq!(
                    said.contains(reached),
                    reaches,
                    "{sandbox} {command}: {reached}: {said}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_a_command_prints_is_told_nobody() {
    let prints = format!("echo it-is {CANARY} here; exit 1");
    let room = Room::with(&[("RUNNER_CHECK_COMMAND", &prints)]).await;
    room.ends_with(0).await;
    let (verdict, pull) = room.completed();
    let said = &room.bench.rows("outcome", Some("check"))[0]["body"]["fact"]["output"];
    assert!(said.as_str().unwrap().contains("it-is [redacted] here"), "{said}");
    assert!(!verdict.to_string().contains(CANARY) && !pull.body.unwrap().contains(CANARY));
    assert!(!room.prompt(2).contains(CANARY), "{}", room.prompt(2));
    assert!(files_with(room.bench.dir.path(), CANARY).is_empty());
}
