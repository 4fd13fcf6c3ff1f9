//! `podman stop` in the middle of the agent's work.

use std::time::Duration;

use crate::container::{INTERRUPTED_AGENT, Plan};
use crate::outside::Outside;

/// What podman leaves the container, in seconds; the runner's own grace is shorter.
const STOP_AFTER: u32 = 15;

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_container_reports_the_task_as_interrupted_within_the_grace() {
    let outside = Outside::start().await;
    let container = Plan::hardened(&outside)
        .with_command(INTERRUPTED_AGENT)
        .with("RUNNER_TERM_GRACE", "10s")
        .in_mid_agent(&outside)
        .await;
    let took = container.stop(STOP_AFTER);
    assert_eq!(container.wait(), 1, "{}", container.logs());
    assert!(
        took < Duration::from_secs(STOP_AFTER.into()),
        "it was killed after {took:?}"
    );
    println!("podman stop in mid-agent, report: {:.0} ms", took.as_secs_f64() * 1e3);
    let verdict = outside.verdict();
    assert_eq!(
        (&verdict["event"], &verdict["details"]["reason"]),
        (&"failed".into(), &"Interrupted".into())
    );
    assert_eq!(outside.counts().verdicts_received.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_container_that_parks_ends_with_75_and_completes_when_started_later() {
    let outside = Outside::start().await;
    let container = Plan::hardened(&outside)
        .with_command(INTERRUPTED_AGENT)
        .with("RUNNER_ON_TERM", "park")
        .with("RUNNER_TERM_GRACE", "10s")
        .in_mid_agent(&outside)
        .await;
    let took = container.stop(STOP_AFTER);
    assert_eq!(container.wait(), 75, "{}", container.logs());
    println!("podman stop in mid-agent, park: {:.0} ms", took.as_secs_f64() * 1e3);
    assert_eq!(outside.counts().verdicts_received.len(), 0);
    container.start();
    assert_eq!(container.wait(), 0, "{}", container.logs());
    assert_eq!(outside.verdict()["event"], "completed");
    assert_eq!(outside.counts().tokens_minted, 1);
    assert_eq!(outside.forge.pulls().len(), 1);
}
