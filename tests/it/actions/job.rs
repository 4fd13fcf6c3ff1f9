//! The workflow of docs/actions as it stands there: its script run as a step is, with `runner run` against an embedded world.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{AGENT, CANARY, Outside, RUNNER, files_with};

const WORKFLOW: &str = "docs/actions/task-on-label.yml";

/// The step's script, and the names in its environment.
fn step() -> (String, Vec<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(WORKFLOW);
    let workflow: Value = yaml_serde::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let step = &workflow["jobs"]["task"]["steps"][0];
    assert_eq!(step["id"], "task");
    let names = step["env"].as_object().unwrap().keys().cloned().collect();
    (step["run"].as_str().unwrap().to_owned(), names)
}

/// GitHub keeps one pending run of a group, and cancels the others: a run for another label may not take the place of ours.
#[test]
fn a_run_for_another_label_is_in_a_group_of_its_own() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(WORKFLOW);
    let workflow: Value = yaml_serde::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let group = workflow["concurrency"]["group"].as_str().unwrap();
    for part in ["${{ github.event.issue.number }}", "${{ github.event.label.name }}"] {
        assert!(group.contains(part), "{group}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workflow_to_copy_does_its_task_and_tells_the_job() {
    let outside = Outside::start().await;
    let room = tempfile::tempdir().unwrap();
    let path = |name: &str| room.path().join(name);
    for name in ["home", "temp", "around", "bin"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    std::os::unix::fs::symlink(RUNNER, path("bin/runner")).unwrap();
    let (script, names) = step();
    let value = |name: &str| match name {
        "GITHUB_TOKEN" => CANARY,
        "ANTHROPIC_API_KEY" => "",
        "ISSUE" => "12",
        "TITLE" => "Do it; $(touch \"$HOME/injected\") `touch $HOME/injected`",
        "BODY" => "'\"; touch $HOME/injected #",
        "SOURCE" => "https://github.com/o/r/issues/12",
        other => panic!("nobody gives {other} a value"),
    };
    let url = outside.git.url("o", "r");
    let server = url
        .strip_suffix("/o/r")
        .or_else(|| url.strip_suffix("/o/r.git"))
        .unwrap();
    let places = std::env::var("PATH").unwrap();
    let mut command = Command::new("bash");
    command
        .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", &script])
        .current_dir(path("around"))
        .env_clear()
        .env("PATH", format!("{}:{places}", path("bin").display()))
        .env("HOME", path("home"))
        .envs(names.iter().map(|name| (name, value(name))))
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_SERVER_URL", server)
        .env("GITHUB_REPOSITORY", "o/r")
        .env("GITHUB_RUN_ID", "4711")
        .env("GITHUB_RUN_ATTEMPT", "1")
        .env("GITHUB_OUTPUT", path("output"))
        .env("GITHUB_STEP_SUMMARY", path("summary"))
        // The Actions runner's own, which are no settings of ours.
        .env("RUNNER_TEMP", path("temp"))
        .env("RUNNER_WORKSPACE", path("around"))
        .env("RUNNER_OS", "Linux")
        .env("RUNNER_NAME", "pod-7-1a2b3c4d-1")
        // For this test alone: an agent, and a forge that is not GitHub.
        .env("RUNNER_AGENT", "command")
        .env("RUNNER_AGENT_COMMAND", AGENT)
        .env("RUNNER_GITHUB_API_URL", outside.forge.listening().base());
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(0), "{said}");
    assert!(!said.contains("is not a setting"), "{said}");
    let outputs = std::fs::read_to_string(path("output")).unwrap();
    let pull = &outside.forge.pulls()[0];
    for line in [
        "result=completed",
        "exit-code=0",
        "outcome=pull_request",
        &format!("pull-request-url={}", pull.html_url),
    ] {
        assert!(outputs.lines().any(|known| known == line), "{line}: {outputs}");
    }
    let summary = std::fs::read_to_string(path("summary")).unwrap();
    assert!(summary.contains(&pull.html_url), "{summary}");
    assert!(pull.body.as_ref().unwrap().contains("https://github.com/o/r/issues/12"));
    assert!(!path("home/injected").exists());
    // What the artifact step takes is there; what the Actions runner calls its workspace was not touched.
    assert!(path("temp/task/journal.db").exists());
    assert_eq!(std::fs::read_dir(path("around")).unwrap().count(), 0);
    assert_eq!(files_with(room.path(), CANARY), Vec::<std::path::PathBuf>::new());
}
