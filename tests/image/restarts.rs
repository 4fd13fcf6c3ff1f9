//! A container that is killed and started again, and a runner that is killed inside one.

use std::fs;

use serde_json::Value;

use crate::container::{Container, INTERRUPTED_AGENT, Place, Plan};
use crate::messages_api::{MessagesApi, Turn};
use crate::outside::Outside;

fn rows<'a>(dump: &'a [Value], kind: &str, effect: &str) -> Vec<&'a Value> {
    let wanted = |row: &&Value| row["kind"] == kind && (effect.is_empty() || row["effect"] == effect);
    dump.iter().filter(wanted).collect()
}

/// Whether what [`INTERRUPTED_AGENT`] left to sleep is among these processes.
fn is_asleep(processes: &str) -> bool {
    processes.lines().any(|line| line.starts_with("sleep 7777"))
}

/// In the middle of the agent's work, what it left to sleep with it.
async fn in_mid_agent(plan: Plan, outside: &Outside) -> Container {
    let container = plan.in_mid_agent(outside).await;
    assert!(is_asleep(&container.said("own")), "the control of what comes");
    container
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_container_with_a_seal_key_is_started_again_and_completes() {
    let outside = Outside::start().await;
    let mut plan = Plan::hardened(&outside).with_command(INTERRUPTED_AGENT).with_seal_key();
    plan.secrets = Place::Tmpfs;
    let container = in_mid_agent(plan, &outside).await;
    assert_eq!(container.lines_with("will not survive"), [] as [String; 0]);
    container.kill();
    container.start();
    assert_eq!(container.wait(), 0, "{}", container.logs());
    assert_eq!(outside.verdict()["event"], "completed");
    let counts = outside.counts();
    assert_eq!(
        (counts.tokens_minted, counts.verdicts_received.len()),
        (1, 1),
        "{counts:?}"
    );
    assert_eq!(outside.forge.pulls().len(), 1);
    assert_eq!(container.said("runs").lines().count(), 2);
    assert!(
        !is_asleep(&container.said("beside-2")),
        "{}",
        container.said("beside-2")
    );
    let dump = container.dump();
    assert_eq!(rows(&dump, "boot", "").len(), 2);
    assert_eq!(rows(&dump, "verdict", "").len(), 1);
}

/// Processes and memory are gone; what is left are the volumes, the conversation on them, and the sealed token.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_gone_in_mid_turn_is_gone_on_with_by_another_in_the_same_conversation() {
    let outside = Outside::start().await;
    let model = MessagesApi::start().await;
    model.script([
        Turn::bash("echo kept-from-before; echo first > first.txt"),
        Turn::Silent,
    ]);
    let mut plan = Plan::hardened(&outside)
        .with_seal_key()
        .with("ANTHROPIC_BASE_URL", model.url())
        .with("ANTHROPIC_API_KEY", "sk-ant-of-this-test");
    plan.secrets = Place::Tmpfs;
    let container = plan.assigned(&outside).await;
    // Claude Code writes its conversation down a moment later than it goes on in it.
    let written = |c: &Container| {
        let projects = fs::read_dir(c.path("workspace/home/.claude/projects"))
            .into_iter()
            .flatten();
        let files = projects.flat_map(|project| fs::read_dir(project.unwrap().path()).unwrap());
        let mut texts = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap_or_default());
        texts.any(|text| text.contains("\"tool_result\""))
    };
    container
        .until("the first part is written down", |c| {
            model.turns_taken() == 2 && written(c)
        })
        .await;
    container.kill();
    container.replace();
    model.script([
        Turn::bash("echo second > second.txt"),
        Turn::Says("Both parts are done."),
    ]);
    container.start();
    assert_eq!(container.wait(), 0, "{}", container.logs());
    let resumed = &model.asked()[2];
    assert!(
        resumed.contains("kept-from-before") && resumed.contains("You were interrupted"),
        "{resumed}"
    );
    let dump = container.dump();
    let intents = rows(&dump, "intent", "agent");
    let sessions: Vec<&Value> = intents.iter().map(|row| &row["body"]["session"]).collect();
    assert_eq!((sessions.len(), sessions[0]), (2, sessions[1]), "{sessions:?}");
    let verdict = outside.verdict();
    let details = &verdict["details"];
    assert_eq!(verdict["event"], "completed", "{verdict}");
    assert_eq!(&details["sessionID"], sessions[0], "{verdict}");
    assert_eq!(
        (details["inputTokens"].as_u64(), details["turns"].as_u64()),
        (Some(3000), Some(3)),
        "{verdict}"
    );
    let cost = details["costUSD"].as_f64().unwrap();
    let pulls = outside.forge.pulls();
    assert_eq!(
        (pulls.len(), outside.git.counts().pushes, outside.counts().tokens_minted),
        (1, 1, 1)
    );
    assert!(
        pulls[0]
            .body
            .as_deref()
            .unwrap()
            .contains(&format!("| cost | ${cost:.4} |")),
        "{pulls:?}"
    );
    for (file, text) in [("first.txt", "first"), ("second.txt", "second")] {
        assert_eq!(
            outside.remote(&["show", &format!("runner/{}:{file}", outside.task)]),
            text
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_seal_key_a_killed_container_says_once_that_its_token_is_lost_and_had_said_so_beforehand() {
    let outside = Outside::start().await;
    let mut plan = Plan::hardened(&outside).with_command(INTERRUPTED_AGENT);
    plan.secrets = Place::Tmpfs;
    let container = in_mid_agent(plan, &outside).await;
    let said = container.lines_with("will not survive");
    assert_eq!(said.len(), 1, "{}", container.logs());
    assert!(
        said[0].contains("TokenLost") && said[0].contains("RUNNER_SEAL_KEY_FILE"),
        "{said:?}"
    );
    container.kill();
    container.start();
    assert_eq!(container.wait(), 1, "{}", container.logs());
    let verdict = outside.verdict();
    assert_eq!(
        (&verdict["event"], &verdict["details"]["reason"]),
        (&"failed".into(), &"TokenLost".into())
    );
    let counts = outside.counts();
    assert_eq!(
        (counts.tokens_minted, counts.verdicts_received.len()),
        (1, 1),
        "{counts:?}"
    );
    assert_eq!(
        container.said("runs").lines().count(),
        1,
        "what cannot be pushed any more is not paid for"
    );
    // A third start has nothing left to do.
    container.start();
    assert_eq!(container.wait(), 0, "{}", container.logs());
    assert_eq!(outside.counts().verdicts_received.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_runner_is_started_again_in_the_same_container_after_the_old_agent_is_dead() {
    let outside = Outside::start().await;
    let container = in_mid_agent(Plan::hardened(&outside).with_command(INTERRUPTED_AGENT), &outside).await;
    let (init, serve) = (container.init(), container.runner());
    let started = container.inspect("{{.State.StartedAt}}");
    let killed = container.kill_serve();
    let healthy = container.healthy().await;
    println!(
        "SIGKILL of `runner serve` to /healthz: {:.1} ms",
        (healthy - killed).as_secs_f64() * 1e3
    );
    assert_ne!(container.runner(), serve);
    container.agent_started(2).await;
    assert_eq!(container.wait(), 0, "{}", container.logs());
    let beside = container.said("beside-2");
    assert!(beside.contains("runner serve") && !is_asleep(&beside), "{beside}");
    assert_eq!(outside.verdict()["event"], "completed");
    assert_eq!(outside.counts().tokens_minted, 1);
    assert_eq!(outside.forge.pulls().len(), 1);
    assert_eq!(
        container.inspect("{{.State.StartedAt}}"),
        started,
        "nobody started the container again"
    );
    assert_eq!(container.inspect("{{.RestartCount}}"), "0");
    assert_ne!(init, serve);
    assert_eq!(rows(&container.dump(), "boot", "").len(), 2);
}
