//! A real Prometheus: `RUNNER_TEST_PROMETHEUS` names it.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Child;

use super::RULES;
use crate::harness::{NEVER, client};

/// A real Prometheus that scrapes and evaluates five times a second. Killed when dropped.
pub(super) struct Watching {
    url: String,
    process: Child,
    _room: TempDir,
}

impl Watching {
    /// `targets` are jobs with an address each.
    pub(super) async fn start(prometheus: &Path, targets: &[(&str, &str)]) -> Self {
        // What is free now may be taken in a moment: then another one is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some(watching) = Self::at(prometheus, targets, port).await {
                return watching;
            }
        }
        panic!("prometheus does not start");
    }

    async fn at(prometheus: &Path, targets: &[(&str, &str)], port: u16) -> Option<Self> {
        let room = tempfile::tempdir().unwrap();
        let path = |name: &str| room.path().join(name);
        // What has to last is not waited for here: promtool's tests have the durations.
        let rules = RULES.lines().filter(|line| !line.trim_start().starts_with("for: "));
        std::fs::write(path("rules.yaml"), rules.collect::<Vec<_>>().join("\n")).unwrap();
        let scrapes = targets.iter().map(|(job, address)| {
            let address = address.trim_start_matches("http://");
            json!({"job_name": job, "static_configs": [{"targets": [address]}]})
        });
        let config = json!({
            "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": scrapes.collect::<Vec<_>>(),
        });
        std::fs::write(path("prometheus.yaml"), config.to_string()).unwrap();
        let flag = |name: &str, value: PathBuf| format!("--{name}={}", value.display());
        let process = tokio::process::Command::new(prometheus)
            .arg(flag("config.file", path("prometheus.yaml")))
            .arg(flag("storage.tsdb.path", path("data")))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut watching = Self {
            url: format!("http://127.0.0.1:{port}/api/v1"),
            process,
            _room: room,
        };
        let begun = Instant::now();
        while watching.get("/status/runtimeinfo").await.is_none() {
            if watching.process.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(begun.elapsed() < NEVER, "prometheus does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(watching)
    }

    pub(super) async fn get(&self, path: &str) -> Option<Value> {
        let answer = client().get(format!("{}{path}", self.url)).send().await.ok()?;
        let answer: Value = answer.json().await.ok()?;
        (answer["status"] == "success").then(|| answer["data"].clone())
    }

    pub(super) async fn query(&self, query: &str) -> Value {
        let encoded: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let data = self.get(&format!("/query?query={encoded}")).await;
        data.unwrap_or_else(|| panic!("{query} is refused"))["result"].clone()
    }

    /// The alerts of a job that fire, with their annotations.
    pub(super) async fn firing(&self, job: &str) -> BTreeMap<String, Value> {
        let data = self.get("/alerts").await.unwrap();
        let all = data["alerts"].as_array().unwrap().iter();
        let of_it = all.filter(|alert| alert["state"] == "firing" && alert["labels"]["job"] == job);
        let named = of_it.map(|alert| {
            (
                alert["labels"]["alertname"].as_str().unwrap().to_owned(),
                alert["annotations"].clone(),
            )
        });
        named.collect()
    }

    /// Waits until a question has an answer.
    pub(super) async fn until(&self, what: &str, query: &str) {
        let begun = Instant::now();
        while self.query(query).await.as_array().unwrap().is_empty() {
            assert!(begun.elapsed() < NEVER, "never: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
