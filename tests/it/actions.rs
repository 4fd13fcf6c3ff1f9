//! `runner actions` as a whole: the real binary against GitHub in miniature and a stand-in for the official listener.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use runner::embedded::faults::{Endpoint, Fault, Times};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{CANARY, RUNNER, Serving, files_with, until};
use github::{CONFIG_CANARY, GitHub};

mod app;
mod drain;
mod frozen;
mod github;
mod job;
mod named;
mod refused;
mod shown;
mod sweep;

/// One runner's directories, which outlive its processes, and the GitHub that it is registered at.
pub(crate) struct Bench {
    dir: TempDir,
    pub(crate) github: GitHub,
    env: Vec<(String, String)>,
}

impl Bench {
    /// With a listener that does these things, one launch after the other.
    pub(crate) async fn new(plans: &Value) -> Self {
        let bench = Self {
            dir: tempfile::tempdir().unwrap(),
            github: GitHub::start().await,
            env: Vec::new(),
        };
        let official = bench.path("official");
        std::fs::create_dir_all(official.join("bin")).unwrap();
        let program = official.join("bin/Runner.Listener");
        std::fs::write(&program, include_str!("actions/listener.py")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(official.join("plan.json"), plans.to_string()).unwrap();
        bench.with("RUNNER_ACTIONS_TOKEN", CANARY)
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(RUNNER);
        command
            .arg("actions")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("home"))
            .env("RUNNER_LISTEN", "127.0.0.1:0")
            .env("RUNNER_STATE_DIR", self.path("state"))
            .env("RUNNER_ACTIONS_URL", "https://github.com/octo/hello")
            .env("RUNNER_ACTIONS_NAME", "pod-7")
            .env("RUNNER_ACTIONS_DIR", self.path("official"))
            .env("RUNNER_GITHUB_API_URL", self.github.base())
            .env("RUNNER_LOG", "debug,hyper=warn,reqwest=warn,hyper_util=warn")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn start(&self) -> Serving {
        Serving::spawn(self.command())
    }

    /// One start to its end.
    pub(crate) async fn once(&self) -> (Option<i32>, String) {
        let mut serving = self.start();
        let status = serving.wait().await;
        (status.code(), serving.whole_log().await)
    }

    pub(crate) fn journal_command(&self, arguments: &[&str]) -> Output {
        let journal = self.path("state/journal.db");
        Command::new(RUNNER)
            .arg("journal")
            .args(arguments)
            .arg(journal)
            .output()
            .unwrap()
    }

    pub(crate) fn rows(&self) -> Vec<Value> {
        let dumped = self.journal_command(&["dump", "--format", "ndjson"]);
        let text = String::from_utf8(dumped.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn verdict(&self) -> Value {
        let rows = self.rows();
        let verdicts: Vec<&Value> = rows.iter().filter(|row| row["kind"] == "verdict").collect();
        assert_eq!(verdicts.len(), 1, "{rows:?}");
        verdicts[0]["body"].clone()
    }

    pub(crate) fn entered(&self) -> Vec<String> {
        let rows = self.rows();
        let entered = rows.iter().filter(|row| row["kind"] == "enter");
        entered.map(|row| row["to"].as_str().unwrap().to_owned()).collect()
    }

    /// Lines that the stand-in wrote into a file of its own.
    pub(crate) fn noted(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("official").join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) async fn noted_by(&self, serving: &Serving, name: &str) {
        until(name, serving, || self.path("official").join(name).exists()).await;
    }
}

/// A job that says nothing and does nothing.
pub(crate) fn a_job() -> Value {
    json!([{"job": "true"}])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_registered_runs_one_job_and_is_removed() {
    let bench = Bench::new(&json!([{"job": "true", "keeps": true}]))
        .await
        .with("RUNNER_ACTIONS_LABELS", "self-hosted,linux,claude");
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(bench.github.registered().is_empty());
    assert_eq!(bench.entered(), ["Assigned", "Registered", "JobRan", "Deregistered"]);
    let verdict = bench.verdict();
    assert_eq!(verdict["event"], "completed");
    assert_eq!(verdict["details"]["result"], "Succeeded", "{verdict}");
    assert_eq!(verdict["details"]["job"]["repository"], "octo/hello");
    assert_eq!(verdict["details"]["job"]["runID"], "4711");
    assert_eq!(bench.noted("jobs"), ["begun"]);
    let launched: Value = serde_json::from_str(&bench.noted("launches")[0]).unwrap();
    assert_eq!(launched["argv"], json!(["run"]), "nothing else is on its command line");
    assert_eq!(launched["update"], true, "self-update is off");
    let name = &bench.github.names()[0];
    assert!(
        name.starts_with("pod-7-") && name.ends_with("-1") && name.len() == 16,
        "{name}"
    );
    // A start on a finished journal has nothing to do, and asks nobody.
    let asked = bench.github.asked().len();
    let (code, log) = bench.once().await;
    assert_eq!((code, bench.github.asked().len()), (Some(0), asked), "{log}");
    // Which is whole, and legal by this machine's own edges.
    assert!(bench.journal_command(&["verify"]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_is_githubs_to_tell_and_no_failure_of_the_runner() {
    let bench = Bench::new(&json!([{"job": "exit 3"}])).await;
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(0), "{log}");
    let verdict = bench.verdict();
    assert_eq!(verdict["details"]["result"], "Failed", "{verdict}");
    // GitHub had removed it by itself: that is as good.
    assert_eq!(bench.github.asked_for("DELETE"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisations_runner_goes_into_the_group_of_that_name_with_its_labels() {
    let labels: Vec<String> = (0..100).map(|number| format!("label-{number}")).collect();
    let bench = Bench::new(&json!([{"idle": true}]))
        .await
        .with("RUNNER_ACTIONS_URL", "https://github.com/octo")
        .with("RUNNER_ACTIONS_GROUP", "builders")
        .with("RUNNER_ACTIONS_LABELS", &labels.join(","));
    let mut serving = bench.start();
    assert!(
        serving.line_with("waits for a job").await.is_some(),
        "{}",
        serving.log()
    );
    let registered = bench.github.registered();
    assert_eq!(registered.len(), 1);
    assert_eq!((registered[0].group, &registered[0].labels), (5, &labels));
    assert!(registered[0].online);
    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.wait().await.code(), Some(0));
}

/// What each exit code of the listener comes to: exit code, reason, how often it was launched.
#[tokio::test(flavor = "multi_thread")]
async fn each_exit_code_of_the_listener_means_what_the_official_one_means_by_it() {
    let expected: [(i32, i32, Option<&str>, usize); 8] = [
        (0, 0, None, 1),
        (1, 1, Some("ListenerFailed"), 1),
        (2, 0, None, 2),
        (3, 0, None, 2),
        (4, 0, None, 2),
        (5, 1, Some("SessionConflict"), 1),
        (6, 0, None, 2),
        (7, 1, Some("VersionDeprecated"), 1),
    ];
    let mut cases = tokio::task::JoinSet::new();
    for (listener, code, reason, launches) in expected {
        cases.spawn(async move {
            let bench = Bench::new(&json!([{"exit": listener}, {"job": "true"}])).await;
            let (exit, log) = bench.once().await;
            assert_eq!(exit, Some(code), "{listener}: {log}");
            let verdict = bench.verdict();
            assert_eq!(verdict["details"]["reason"].as_str(), reason, "{listener}");
            assert_eq!(bench.noted("launches").len(), launches, "{listener}");
            assert!(bench.github.registered().is_empty(), "{listener}");
        });
    }
    while let Some(case) = cases.join_next().await {
        case.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_never_comes_to_a_job_is_launched_five_times() {
    let bench = Bench::new(&json!([{"exit": 2}])).await;
    let (exit, log) = bench.once().await;
    assert_eq!(exit, Some(1), "{log}");
    assert_eq!(bench.noted("launches").len(), 5);
    assert_eq!(bench.verdict()["details"]["reason"], "ListenerFailed");
    // Each launch under the one registration.
    assert_eq!(bench.github.names().len(), 1);
}

/// Hooks that do not run, as where a job fails before its first step: the listener's words are enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_hooks_is_known_by_the_listeners_words() {
    let bench = Bench::new(&json!([{"job": "true", "mute": true}])).await;
    let (exit, log) = bench.once().await;
    assert_eq!(exit, Some(0), "{log}");
    assert_eq!(bench.verdict()["details"]["result"], "Succeeded");
    assert_eq!(bench.verdict()["details"]["job"]["job"], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_journal_the_log_an_argument_list_or_the_jobs_environment() {
    let bench = Bench::new(&json!([{"job": "env > seen; cat /proc/*/cmdline > lines 2>/dev/null; true"}]))
        .await
        .with("RUNNER_ACTIONS_ENV", "BUILD_CACHE")
        .with("BUILD_CACHE", "here")
        .with("GITHUB_TOKEN", "ghp_another0123456789")
        .with("OTEL_EXPORTER_OTLP_HEADERS", "authorization=otel_canary0123456789")
        .with("RUNNER_LOG", "trace");
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(0), "{log}");
    let seen = std::fs::read_to_string(bench.path("official/seen")).unwrap();
    assert!(seen.contains("BUILD_CACHE=here"), "{seen}");
    let lines = std::fs::read(bench.path("official/lines")).unwrap();
    let lines = String::from_utf8_lossy(&lines);
    assert!(
        lines.contains("Runner.Listener"),
        "the listener's arguments were looked at"
    );
    let given = bench.noted("launches").join("") + &bench.noted("environment").join("");
    let key = base64_of(CONFIG_CANARY);
    // What each whole configuration begins with, as it is encoded.
    let config = base64_of(r#"{".credentials":""#);
    let config = config.trim_end_matches('=');
    for secret in [
        CANARY,
        CONFIG_CANARY,
        &key,
        &config[..config.len() - 1],
        "ghp_another0123456789",
        "otel_canary0123456789",
    ] {
        for (what, text) in [
            ("log", &*log),
            ("job", &seen),
            ("arguments", &lines),
            ("listener", &given),
        ] {
            assert!(!text.contains(secret), "{secret} is in the {what}: {text}");
        }
        assert_eq!(
            files_with(&bench.path("state"), secret),
            Vec::<PathBuf>::new(),
            "{secret}"
        );
    }
    assert!(
        !seen.contains("RUNNER_STATE_DIR") && !seen.contains("RUNNER_ACTIONS"),
        "{seen}"
    );
}

fn base64_of(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A request that was not answered may have been carried out: it is looked for, and what is found is removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_registration_whose_answer_was_lost_is_found_removed_and_made_anew() {
    for (fault, names) in [(Fault::DropAfter, 2), (Fault::Refuse, 1), (Fault::Status(502), 1)] {
        let bench = Bench::new(&a_job()).await;
        bench
            .github
            .inject(Endpoint::RunnerRegister, fault.clone(), Times::Next(1));
        let (code, log) = bench.once().await;
        assert_eq!(code, Some(0), "{fault:?}: {log}");
        assert!(bench.github.registered().is_empty(), "{fault:?}");
        assert_eq!(bench.github.names().len(), names, "{fault:?}");
        assert_eq!(bench.noted("jobs"), ["begun"], "{fault:?}");
        let name = &bench.github.names()[names - 1];
        assert!(name.ends_with("-2"), "each attempt has a name of its own: {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_is_tried_until_it_is_done_and_else_left_to_the_next_start() {
    let bench = Bench::new(&json!([{"job": "true", "keeps": true}])).await;
    // GitHub counts a runner as busy for a moment after its job.
    bench.github.call_busy(1);
    bench
        .github
        .inject(Endpoint::RunnerRemove, Fault::DropAfter, Times::Next(1));
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(bench.github.registered().is_empty());

    let bench = Bench::new(&json!([{"job": "true", "keeps": true}]))
        .await
        .with("RUNNER_API_PATIENCE", "1s");
    bench
        .github
        .inject(Endpoint::RunnerRemove, Fault::Status(503), Times::Next(20));
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(75), "{log}");
    assert_eq!(bench.github.registered().len(), 1);
    assert_eq!(bench.entered(), ["Assigned", "Registered", "JobRan"]);
    let mut last = (None, String::new());
    for _ in 0..20 {
        last = bench.once().await;
        if last.0 != Some(75) {
            break;
        }
    }
    assert_eq!(last.0, Some(0), "{}", last.1);
    assert!(bench.github.registered().is_empty());
    assert_eq!(bench.noted("jobs"), ["begun"]);
}
