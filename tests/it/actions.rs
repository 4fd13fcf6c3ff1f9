//! `runner actions` as a whole: the real binary against GitHub in miniature and a stand-in for the official listener.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use runner::embedded::faults::{Endpoint, Fault, Times};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{CANARY, RUNNER, Serving, client, files_with, until};
use github::{CONFIG_CANARY, GitHub};

mod app;
mod drain;
mod github;
mod job;
mod named;
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
    let config = base64_of(CONFIG_CANARY);
    for secret in [
        CANARY,
        CONFIG_CANARY,
        &config,
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

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_before_anything_is_touched() {
    let cases: [(&str, &[(&str, &str)], &str); 9] = [
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
