//! Told to stop: without a job at once, with one when it has ended or its part of the grace is over.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::Bench;
use crate::harness::NEVER;

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_without_a_job_the_runner_goes_at_once_and_is_removed() {
    let bench = Bench::new(&json!([{"idle": true}]))
        .await
        .with("RUNNER_TERM_GRACE", "60s");
    let mut serving = bench.start();
    assert!(
        serving.line_with("waits for a job").await.is_some(),
        "{}",
        serving.log()
    );
    assert_eq!(bench.github.registered().len(), 1);
    let told = Instant::now();
    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
    assert!(told.elapsed() < Duration::from_secs(15), "{:?}", told.elapsed());
    assert!(bench.github.registered().is_empty());
    assert_eq!(bench.noted("signals"), ["INT"]);
    assert_eq!(bench.verdict()["details"]["outcome"], "idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_before_it_is_registered_nothing_is() {
    use runner::embedded::faults::{Endpoint, Fault, Times};
    let bench = Bench::new(&json!([{"idle": true}])).await;
    bench
        .github
        .inject(Endpoint::RunnerRegister, Fault::Status(503), Times::Always);
    let mut serving = bench.start();
    assert!(serving.line_with("was lost").await.is_some(), "{}", serving.log());
    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
    assert!(bench.github.names().is_empty());
    assert_eq!(bench.verdict()["details"]["outcome"], "idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_with_a_job_the_job_ends_first() {
    let bench = Bench::new(&json!([{"job": "until [ -e go ]; do sleep 0.02; done"}]))
        .await
        .with("RUNNER_TERM_GRACE", "60s");
    let mut serving = bench.start();
    bench.noted_by(&serving, "jobs").await;
    serving.signal(Signal::SIGTERM);
    assert!(
        serving.line_with("told to stop: the job has").await.is_some(),
        "{}",
        serving.log()
    );
    std::fs::write(bench.path("official/go"), "").unwrap();
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
    assert_eq!(bench.noted("signals"), Vec::<String>::new(), "nobody told the listener");
    assert_eq!(bench.verdict()["details"]["result"], "Succeeded");
    assert!(bench.github.registered().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_outlives_the_grace_is_cancelled_by_the_listener() {
    let bench = Bench::new(&json!([{"job": "sleep 600"}]))
        .await
        .with("RUNNER_TERM_GRACE", "6s");
    let mut serving = bench.start();
    bench.noted_by(&serving, "jobs").await;
    let told = Instant::now();
    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
    let took = told.elapsed();
    assert!(
        (Duration::from_secs(2)..Duration::from_secs(6)).contains(&took),
        "{took:?}"
    );
    assert_eq!(bench.noted("signals"), ["INT"]);
    assert_eq!(bench.verdict()["details"]["result"], "Canceled");
    assert!(bench.github.registered().is_empty());
}

/// The last resort: the listener is deaf, its job has a session of its own, and both are killed within the grace.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_deaf_is_killed_with_its_job_which_is_lost_and_the_runner_removed() {
    let bench = Bench::new(&json!([{"job": "echo $$ > pid; exec sleep 600", "deaf": true, "keeps": true}]))
        .await
        .with("RUNNER_TERM_GRACE", "6s");
    let mut serving = bench.start();
    bench.noted_by(&serving, "jobs").await;
    bench.noted_by(&serving, "pid").await;
    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.wait().await.code(), Some(1), "{}", serving.log());
    assert_eq!(bench.verdict()["details"]["reason"], "JobLost");
    assert!(bench.github.registered().is_empty());
    assert_gone(&bench.noted("pid")[0]).await;
}

/// A runner that is killed leaves no job behind that nobody watches.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_runner_takes_its_job_with_it_and_the_next_start_calls_it_lost() {
    let bench = Bench::new(&json!([{"job": "echo $$ > pid; exec sleep 600", "keeps": true}])).await;
    let mut serving = bench.start();
    bench.noted_by(&serving, "jobs").await;
    bench.noted_by(&serving, "pid").await;
    serving.kill().await;
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(1), "{log}");
    let verdict: Value = bench.verdict();
    assert_eq!(verdict["details"]["reason"], "JobLost", "{verdict}");
    assert_eq!(verdict["details"]["job"]["job"], "build", "{verdict}");
    assert_eq!(bench.noted("launches").len(), 1, "it is not begun again");
    assert!(bench.github.registered().is_empty());
    assert_gone(&bench.noted("pid")[0]).await;
}

/// The process that stays above the listener, which `runner actions` has started.
fn supervisor_of(runner: u32) -> Pid {
    let children = format!("/proc/{runner}/task/{runner}/children");
    let mut all: Vec<String> = vec![std::fs::read_to_string(children).unwrap_or_default()];
    // Whichever thread started it.
    for task in std::fs::read_dir(format!("/proc/{runner}/task")).unwrap().flatten() {
        all.push(std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    }
    let pid = all
        .iter()
        .flat_map(|text| text.split_whitespace())
        .next()
        .unwrap()
        .parse();
    Pid::from_raw(pid.unwrap())
}

/// A supervisor that is killed while the runner lives leaves the job running: it is ended first, and then the marks are read.
#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_is_killed_takes_its_job_with_it_and_the_marks_say_how_far_it_had_come() {
    let bench = Bench::new(&json!([{"job": "echo $$ > pid; exec sleep 600", "keeps": true}])).await;
    let mut serving = bench.start();
    bench.noted_by(&serving, "jobs").await;
    bench.noted_by(&serving, "pid").await;
    kill(supervisor_of(serving.pid()), Signal::SIGKILL).unwrap();
    assert_eq!(serving.wait().await.code(), Some(1), "{}", serving.log());
    // Nobody started it again: it was dead before the verdict.
    let pid = &bench.noted("pid")[0];
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    assert!(
        stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z ")),
        "{pid} lives"
    );
    let verdict: Value = bench.verdict();
    assert_eq!(verdict["details"]["reason"], "JobLost", "{verdict}");
    assert_eq!(verdict["details"]["job"]["job"], "build", "{verdict}");
    assert_eq!(bench.noted("launches").len(), 1, "it is not begun again");
    assert!(bench.github.registered().is_empty());

    // One that had ended, and whose listener had not.
    let bench = Bench::new(&json!([{"job": "true", "keeps": true, "linger": "never"}])).await;
    let mut serving = bench.start();
    assert!(
        serving.line_with("job build ended").await.is_some(),
        "{}",
        serving.log()
    );
    kill(supervisor_of(serving.pid()), Signal::SIGKILL).unwrap();
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
    let verdict: Value = bench.verdict();
    assert_eq!(verdict["details"]["outcome"], "job", "{verdict}");
    assert_eq!(verdict["details"]["job"]["job"], "build", "{verdict}");
}

/// A job can write where the marks are. One that nobody can read means that there was a job, whoever reads it.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_cannot_be_read_after_a_crash_is_a_job_that_was_lost() {
    let turned = "for mark in \"$STATE\"/job*/started; do mv \"$mark\" \"$mark.was\"; ln -s nowhere \"$mark\"; done; \
                  echo $$ > pid; exec sleep 600";
    let bench = Bench::new(&json!([{"job": turned, "keeps": true}]))
        .await
        .with("RUNNER_API_PATIENCE", "1s")
        .with("RUNNER_ACTIONS_ENV", "STATE");
    let state = bench.path("state").display().to_string();
    let bench = bench.with("STATE", &state);
    let mut serving = bench.start();
    bench.noted_by(&serving, "pid").await;
    serving.kill().await;
    let (code, log) = tokio::time::timeout(NEVER, bench.once()).await.expect("it ends");
    assert_eq!(code, Some(1), "{log}");
    assert_eq!(bench.verdict()["details"]["reason"], "JobLost");
    assert!(bench.github.registered().is_empty());
}

async fn assert_gone(pid: &str) {
    let begun = Instant::now();
    while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(begun.elapsed() < NEVER, "{pid} lives");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
