//! The image that is an Actions runner: its tools, the plugins' servers, and one job from registration to removal.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::container::{Container, Plan, actions_image, hardened, podman, podman_prints};
use crate::github::{CONFIG_CANARY, GitHub};
use crate::outside::{CANARY, Outside, files_with};
use crate::tools::{ANY, each_answers, pinned};

/// The tools that have no stand-in where the registries cannot be reached, by `.ci/stand-ins`.
fn left_out(tool: &str) -> bool {
    let left_out = std::env::var("RUNNER_TEST_IMAGE_LEFT_OUT").unwrap_or_default();
    let is_left_out = left_out.split_whitespace().any(|name| name == tool);
    if is_left_out {
        eprintln!("left out: {tool} has no stand-in, and its own image cannot be reached");
    }
    is_left_out
}

#[test]
fn every_tool_of_an_actions_runner_answers_its_version_to_any_user_of_the_group_with_an_empty_home() {
    let mut tools = vec![
        // The stand-in is of version 1.
        ("aws --version", "aws-cli/", ANY),
        ("claude --version", "", pinned("ARG CLAUDE_CODE_VERSION=")),
        ("curl --version", "curl ", ANY),
        ("docker --version", "Docker version ", ANY),
        ("docker buildx version", "github.com/docker/buildx ", ANY),
        ("docker compose version", "Docker Compose version ", ANY),
        ("gh --version", "gh version 2.", ANY),
        ("go version", "go version go", pinned("FROM docker.io/library/golang:")),
        ("helm version --short", "v", pinned("FROM docker.io/alpine/helm:")),
        (
            "kubectl version --client",
            "Client Version: v",
            pinned("FROM registry.k8s.io/kubectl:v"),
        ),
        // The tag has the major version alone.
        ("node --version", "v22.", ANY),
        ("npm --version", "1", ANY),
        ("npx --version", "1", ANY),
        ("pip3 --version", "pip ", ANY),
        ("python3 --version", "Python 3.", ANY),
        (
            "python3 -m venv ~/venv && ~/venv/bin/python -m pip --version",
            "pip ",
            ANY,
        ),
        ("runner --version", "runner ", env!("CARGO_PKG_VERSION")),
        ("CHECKPOINT_DISABLE=1 terraform version", "Terraform v", ANY),
        ("unzip -v", "UnZip ", ANY),
        ("zstd --version", "*** Zstandard CLI", ANY),
    ];
    tools.retain(|(command, ..)| !command.contains("terraform") || !left_out("terraform"));
    for user in ["1001:1001", "1000:1001"] {
        each_answers(&actions_image(), user, &tools);
    }
}

#[test]
fn githubs_own_runner_is_where_the_setting_has_it_by_default() {
    let said = hardened(
        &actions_image(),
        "1001:1001",
        "/opt/actions-runner/bin/Runner.Listener --version",
    );
    let official = pinned("FROM ghcr.io/actions/actions-runner:");
    assert!([official, "a stand-in"].contains(&said.as_str()), "{said}");
}

#[test]
fn the_servers_of_both_built_in_plugins_list_their_tools_without_a_network() {
    let check = "RUNNER_PLUGINS=aws-docs,terraform runner plugins check --json";
    let report: Value = serde_json::from_str(&hardened(&actions_image(), "1001:1001", check)).unwrap();
    assert_eq!(report["ok"], true, "{report}");
    let servers = report["servers"].as_array().unwrap();
    let tools: Vec<(&str, &str, usize)> = servers
        .iter()
        .map(|server| {
            let text = |name: &str| server[name].as_str().unwrap();
            (
                text("plugin"),
                text("status"),
                server["tools"].as_array().unwrap().len(),
            )
        })
        .collect();
    assert_eq!(tools, [("aws-docs", "ok", 5), ("terraform", "ok", 10)], "{report}");
}

/// A listener that waits for a job that does not come.
pub(crate) static WAITS: LazyLock<Value> = LazyLock::new(|| json!([{"idle": true}]));

/// A container as docs/actions.md has it, with a listener that does these things in place of GitHub's.
pub(crate) struct Runner {
    pub(crate) container: Container,
    github: GitHub,
    /// Of podman's, filled from the image: where the listener writes.
    volume: String,
    _dir: TempDir,
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = podman(&["rm", "--force", "--time=0", &self.container.name]);
        let _ = podman(&["volume", "rm", "--force", &self.volume]);
    }
}

impl Runner {
    pub(crate) async fn new(name: &str, plans: &Value) -> Self {
        let outside = Outside::start().await;
        let github = GitHub::start().await;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let listener = dir.path().join("listener");
        fs::write(&listener, include_str!("../it/actions/listener.py")).unwrap();
        fs::set_permissions(&listener, Permissions::from_mode(0o755)).unwrap();
        let plan = dir.path().join("plan.json");
        fs::write(&plan, plans.to_string()).unwrap();
        let volume = format!("runner-test-{}-{name}", std::process::id());
        let container = Plan::hardened(&outside)
            .of(actions_image())
            .with("RUNNER_GITHUB_API_URL", &github.base())
            .with("RUNNER_ACTIONS_URL", "https://github.com/octo/hello")
            .with("RUNNER_ACTIONS_TOKEN", CANARY)
            .and(format!("--volume={volume}:/opt/actions-runner"))
            .and(format!(
                "--volume={}:/opt/actions-runner/bin/Runner.Listener:ro",
                listener.display()
            ))
            .and(format!("--volume={}:/opt/actions-runner/plan.json:ro", plan.display()))
            .create();
        Self {
            container,
            github,
            volume,
            _dir: dir,
        }
    }

    /// Waits until GitHub knows of it. Gives when it did.
    pub(crate) async fn is_registered(&self) -> Instant {
        let registered = |_: &Container| !self.github.registered().is_empty();
        self.container.until("it is registered", registered).await
    }

    /// Waits until its listener waits for a job.
    pub(crate) async fn is_online(&self) {
        let online = |_: &Container| self.github.registered().iter().any(|known| known.online);
        self.container.until("it waits for a job", online).await;
    }

    /// Lines that the listener wrote into a file of its own.
    fn noted(&self, name: &str) -> usize {
        let mounted = podman_prints(&["volume", "inspect", "--format={{.Mountpoint}}", &self.volume]);
        let text = fs::read_to_string(PathBuf::from(mounted).join(name)).unwrap_or_default();
        text.lines().count()
    }

    fn entered(&self) -> Vec<String> {
        let rows = self.container.dump();
        let entered = rows.iter().filter(|row| row["kind"] == "enter");
        entered.map(|row| row["to"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hardened_container_registers_runs_one_job_and_is_removed() {
    let job = "test \"$(id -u)\" = 1001 && ! touch /root-is-writable && ! printenv RUNNER_ACTIONS_TOKEN";
    let runner = Runner::new("once", &json!([{"job": job, "keeps": true}])).await;
    runner.container.start();
    assert_eq!(runner.container.wait(), 0, "{}", runner.container.logs());
    assert_eq!(
        (runner.github.names().len(), runner.github.asked_for("POST")),
        (1, 1),
        "{:?}",
        runner.github.asked()
    );
    assert!(runner.github.registered().is_empty());
    assert_eq!(runner.noted("jobs"), 1);
    assert_eq!(runner.entered(), ["Assigned", "Registered", "JobRan", "Deregistered"]);
    let rows = runner.container.dump();
    let verdict = rows.iter().find(|row| row["kind"] == "verdict").unwrap();
    assert_eq!(verdict["body"]["details"]["result"], "Succeeded", "{verdict}");
    for secret in [CANARY, CONFIG_CANARY] {
        assert!(!runner.container.logs().contains(secret));
        assert_eq!(files_with(runner.container.volumes(), secret), [] as [PathBuf; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_killed_while_it_waits_leaves_nothing_registered_and_runs_its_job_when_started_again() {
    let runner = Runner::new("killed", &json!([{"idle": true}, {"job": "true"}])).await;
    runner.container.start();
    runner.is_online().await;
    runner.container.kill();
    assert_eq!(runner.github.registered().len(), 1, "what nobody could remove");
    runner.container.start();
    assert_eq!(runner.container.wait(), 0, "{}", runner.container.logs());
    assert!(runner.github.registered().is_empty());
    assert_eq!((runner.github.names().len(), runner.noted("jobs")), (2, 1));
}
