//! What a runner shows of itself while it lives and after, and what that costs.

use nix::sys::signal::Signal;
use runner::embedded::faults::{Endpoint, Fault, Times};
use serde_json::{Value, json};

use super::Bench;
use crate::harness::client;

#[tokio::test(flavor = "multi_thread")]
async fn status_health_and_metrics_say_where_the_runner_is() {
    let bench = Bench::new(&json!([{"job": "until [ -e go ]; do sleep 0.02; done"}])).await;
    let mut serving = bench.start();
    let address = serving.address().await.unwrap();
    bench.noted_by(&serving, "jobs").await;
    let get = async |route: &str| client().get(format!("{address}{route}")).send().await.unwrap();
    assert_eq!(get("/healthz").await.text().await.unwrap(), "ok");
    let status: Value = get("/status").await.json().await.unwrap();
    assert_eq!(
        (&status["state"], &status["effect"]),
        (&json!("Registered"), &json!("job")),
        "{status}"
    );
    assert_eq!(status["target"], "https://github.com/octo/hello");
    assert_eq!(status["runner"], bench.github.names()[0].as_str());
    let metrics = get("/metrics").await.text().await.unwrap();
    for line in [
        "runner_state{state=\"Registered\"} 1",
        "runner_state{state=\"JobRan\"} 0",
        "runner_effect_open{effect=\"job\"} 1",
        "runner_effect_attempts_total{effect=\"register\",result=\"done\"} 1",
        "runner_effect_duration_seconds_count{effect=\"register\",result=\"done\"} 1",
        "runner_boots 1",
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line}: {metrics}");
    }
    assert!(
        !metrics.contains("state=\"Cloned\""),
        "a task's states are not this machine's"
    );
    std::fs::write(bench.path("official/go"), "").unwrap();
    assert_eq!(serving.wait().await.code(), Some(0));
    let log = serving.whole_log().await;
    let last = log.lines().rfind(|line| line.contains("entered Deregistered")).unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["state"], "Deregistered", "{last}");
    assert!(last["head"].as_str().is_some_and(|head| head.len() == 64), "{last}");
}

/// Printed, for the docs: from the start of the process to the registration on disk, and what it takes while it waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_registered_soon_and_takes_little_while_it_waits() {
    let bench = Bench::new(&json!([{"idle": true}])).await;
    let begun = std::time::Instant::now();
    let mut serving = bench.start();
    assert!(
        serving.line_with("entered Registered").await.is_some(),
        "{}",
        serving.log()
    );
    let registered = begun.elapsed();
    assert!(
        serving.line_with("waits for a job").await.is_some(),
        "{}",
        serving.log()
    );
    let resident = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap()
            .to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let kib = resident(serving.pid());
    println!(
        "proof: actions: 1 runner, {} ms from its start to registered, {kib} KiB resident while idle (debug build, without the listener)",
        registered.as_millis()
    );
    assert!(kib < 200 * 1024, "{kib} KiB");
    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.wait().await.code(), Some(0));
}

/// What `.ci` and people read of it.
#[tokio::test(flavor = "multi_thread")]
async fn its_journal_is_dumped_verified_followed_explained_and_replayed() {
    let bench = Bench::new(&json!([{"exit": 2}, {"job": "exit 1"}])).await;
    bench
        .github
        .inject(Endpoint::RunnerRegister, Fault::DropAfter, Times::Next(1));
    assert_eq!(bench.once().await.0, Some(0));
    let said = |arguments: &[&str]| {
        let output = bench.journal_command(arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    };
    let table = said(&["dump"]);
    assert!(table.contains("Deregistered") && table.contains("register"), "{table}");
    assert!(
        table.lines().next().unwrap().contains("https://github.com/octo/hello"),
        "{table}"
    );
    let json: Value = serde_json::from_str(&said(&["dump", "--format", "json"])).unwrap();
    assert_eq!(
        (&json["state"], &json["journal"]["whole"]),
        (&json!("Deregistered"), &json!(true))
    );
    assert!(said(&["verify"]).contains("whole"));
    assert!(
        said(&["tail", "--follow"]).contains("Deregistered"),
        "it ends, since nothing more comes"
    );
    let explained = said(&["explain"]);
    for words in ["octo/hello", "was lost", "2 times", "Failed", "registered"] {
        assert!(explained.contains(words), "{words}: {explained}");
    }
    let replayed = said(&["replay"]);
    assert!(replayed.contains("JobRan → Deregistered"), "{replayed}");
    for format in ["html", "mermaid"] {
        assert!(!said(&["dump", "--format", format]).is_empty());
    }
}
