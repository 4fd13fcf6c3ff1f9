//! What cannot be is refused, with exit 2 or 3, before anything is touched.

use std::process::Command;

use serde_json::json;

use super::{Bench, a_job};
use crate::harness::RUNNER;

/// What is wrong, the variables that make it so, and what is said.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_before_anything_is_touched() {
    let cases: [Case; 9] = [
        (
            "no credential",
            &[("RUNNER_ACTIONS_TOKEN", "")],
            "there is no credential",
        ),
        (
            "two",
            &[("RUNNER_ACTIONS_APP_KEY", "x"), ("RUNNER_ACTIONS_APP_ID", "1")],
            "more than one credential",
        ),
        (
            "an id without its key",
            &[("RUNNER_ACTIONS_APP_ID", "1")],
            "needs the App's key",
        ),
        (
            "no key",
            &[
                ("RUNNER_ACTIONS_TOKEN", ""),
                ("RUNNER_ACTIONS_APP_ID", "1"),
                ("RUNNER_ACTIONS_APP_KEY", "x"),
            ],
            "no private key",
        ),
        (
            "a group of a repository",
            &[("RUNNER_ACTIONS_GROUP", "Builders")],
            "which has no groups",
        ),
        (
            "no listener",
            &[("RUNNER_ACTIONS_DIR", "/nonexistent")],
            "no bin/Runner.Listener",
        ),
        (
            "no target",
            &[("RUNNER_ACTIONS_URL", "octo/hello")],
            "RUNNER_ACTIONS_URL",
        ),
        (
            "too many labels",
            &[("RUNNER_ACTIONS_LABELS", "a,,b")],
            "1 to 100 labels",
        ),
        ("a name", &[("RUNNER_ACTIONS_NAME", "two words")], "RUNNER_ACTIONS_NAME"),
    ];
    let mut bench = Bench::new(&a_job()).await;
    for (what, env, said) in cases {
        let before = bench.env.clone();
        for (name, value) in env {
            bench = bench.with(name, value);
        }
        let (code, log) = bench.once().await;
        assert_eq!(code, Some(2), "{what}: {log}");
        assert!(log.contains(said), "{what}: {log}");
        assert!(!bench.path("state").exists(), "{what}");
        bench.env = before;
    }
    assert!(bench.github.asked().is_empty());
}

/// The official listener reads that file over its environment: the marks of the job would never be made.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_listeners_that_takes_the_hooks_away_is_refused_before_anything_is_touched() {
    let bench = Bench::new(&json!([{"exit": 0}])).await;
    let file = bench.path("official/.env");
    for name in ["ACTIONS_RUNNER_HOOK_JOB_STARTED", "ACTIONS_RUNNER_HOOK_JOB_COMPLETED"] {
        for text in [format!("LANG=C\r\n{name}=/opt/hook.sh\n"), format!("\u{feff}{name}=")] {
            std::fs::write(&file, &text).unwrap();
            let (code, log) = bench.once().await;
            assert_eq!(code, Some(2), "{text:?}: {log}");
            for said in [file.to_str().unwrap(), name, "take the line out"] {
                assert!(log.contains(said), "{said}: {log}");
            }
            assert!(!bench.path("state").exists());
        }
    }
    assert!(bench.github.asked().is_empty());
    // Anything else in it is the operator's own affair.
    std::fs::write(
        &file,
        "LANG=C\n# ACTIONS_RUNNER_HOOK_JOB_STARTED=/opt/hook.sh\nno line of a variable\n",
    )
    .unwrap();
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(0), "{log}");
}

/// One that was begun anew, with a journal of its own, knows nothing of an earlier one's job.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_journal_in_an_old_state_directory_sees_no_old_marks() {
    let bench = Bench::new(&json!([{"job": "true"}, {"exit": 0}])).await;
    assert_eq!(bench.once().await.0, Some(0));
    assert_eq!(bench.verdict()["details"]["outcome"], "job");
    for file in std::fs::read_dir(bench.path("state")).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with("journal.db") {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(bench.verdict()["details"]["outcome"], "idle", "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_is_one_runners_for_life() {
    let bench = Bench::new(&a_job()).await;
    assert_eq!(bench.once().await.0, Some(0));
    let bench = bench.with("RUNNER_ACTIONS_URL", "https://github.com/octo");
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("holds a runner of https://github.com/octo/hello"), "{log}");
    // Nor is it a task's.
    let served = Command::new(RUNNER)
        .args(["serve", "--listen", "127.0.0.1:0", "--sandbox", "off", "--state-dir"])
        .arg(bench.path("state"))
        .args(["--agent", "command", "--agent-command", "true"])
        .env("RUNNER_SECRETS_DIR", bench.path("secrets"))
        .env("RUNNER_WORKSPACE", bench.path("workspace"))
        .output()
        .unwrap();
    assert_eq!(
        served.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&served.stderr)
    );
}
