//! Which clock ended an agent is what the verdict says, and what the agent had done by then is saved.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its room has failed")]

use std::time::Duration;

use runner::embedded::task_api::Mint;
use runner::secret::Secret;

use crate::harness::{Bench, CANARY, Outside, data};

/// It works, says something all the time, and never comes to an end.
const BUSY: &str = "cat > /dev/null; echo change >> change.txt; while :; do echo busy; sleep 0.1; done";
/// The same without a word.
const SILENT: &str = "cat > /dev/null; echo change >> change.txt; sleep 600";

/// The verdict's message of a run whose token lives for so long, with these settings.
async fn ended(token_lives: Duration, agent: &str, settings: &[(&str, &str)], reason: &str) -> String {
    let outside = Outside::start().await;
    let mint = Mint::fixed(Secret::new(CANARY), token_lives);
    outside.api.add_task(&outside.task, data(&outside.git), mint);
    let mut bench = Bench::new(&outside).with("RUNNER_AGENT_COMMAND", agent);
    for (name, value) in settings {
        bench = bench.with(name, value);
    }
    let (code, log) = bench.once(&outside).await;
    assert_eq!(code, Some(1), "{log}");
    let verdict = outside.verdict();
    assert_eq!(verdict["details"]["reason"], reason, "{verdict}");
    assert_eq!(verdict["details"]["outcome"], "salvaged", "{verdict}");
    verdict["message"].as_str().unwrap().to_owned()
}

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_the_agent_the_task_and_the_token_each_end_it_by_name() {
    // What a push and a report need is kept: a quarter of a short time-out, two minutes of a token.
    let short_lived = Duration::from_secs(130);
    let (agent, task, token, idle) = tokio::join!(
        ended(HOUR, BUSY, &[("RUNNER_AGENT_TIMEOUT", "2s")], "AgentTimedOut"),
        ended(HOUR, BUSY, &[("RUNNER_TASK_TIMEOUT", "12s")], "AgentTimedOut"),
        ended(short_lived, BUSY, &[], "AgentTimedOut"),
        ended(HOUR, SILENT, &[("RUNNER_AGENT_IDLE_TIMEOUT", "2s")], "AgentIdle"),
    );
    for (message, names) in [
        (agent, "It was stopped after 2 s by RUNNER_AGENT_TIMEOUT"),
        (task, "by RUNNER_TASK_TIMEOUT"),
        (token, "by the expiry of the repository's token"),
        (idle, "It was silent for 2 s (RUNNER_AGENT_IDLE_TIMEOUT)"),
    ] {
        assert!(message.contains(names), "{message}");
    }
}
