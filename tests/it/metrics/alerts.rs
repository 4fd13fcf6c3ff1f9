//! The alert rules of docs/alerts: each fires for what it is for, and none for a healthy run; by a real Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use runner::embedded::faults::{Endpoint, Fault, Times};
use runner::telemetry::{ExposedFamily, Exposition, Kind, Metrics};
use serde_json::{Value, json};

mod cases;
mod watching;

use cases::{CASES, Case};
use watching::Watching;

use super::{collector_that_refuses, prometheus, scrape_to_the_end, staying};
use crate::harness::{Bench, NEVER, Outside, WAITING_AGENT};

static RULES: LazyLock<String> = LazyLock::new(|| read("docs/alerts/runner.rules.yaml"));
static DOCS: LazyLock<String> = LazyLock::new(|| read("docs/observability.md"));
/// What promtool's series are labelled with.
const TARGET: &str = r#"job="runner",instance="a""#;

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The rules' names, in their order.
fn names() -> Vec<&'static str> {
    let lines = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    lines.collect()
}

/// Every word of the rules that is a metric's name.
fn metrics_named() -> BTreeSet<String> {
    let code = RULES
        .lines()
        .filter(|line| !line.trim_start().starts_with('#') && !line.contains("runbook:"));
    let code = code.collect::<Vec<_>>().join("\n");
    let words = code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("runner_"))
        .map(str::to_owned)
        .collect()
}

/// The names of a family's samples.
fn samples_of(family: &str, kind: Kind) -> Vec<String> {
    let suffixes: &[&str] = match kind {
        Kind::Counter => &["_total"],
        Kind::Gauge => &[""],
        Kind::Histogram => &["_bucket", "_sum", "_count"],
        Kind::Info => &["_info"],
    };
    suffixes.iter().map(|suffix| format!("{family}{suffix}")).collect()
}

#[test]
fn every_metric_that_a_rule_names_is_declared_and_every_rule_says_what_to_do() {
    let declared: BTreeSet<String> = Metrics::new()
        .declared()
        .iter()
        .flat_map(|declared| samples_of(&declared.family, declared.kind))
        .collect();
    let named = metrics_named();
    assert!(named.len() > 10, "{named:?}");
    assert_eq!(named.difference(&declared).collect::<Vec<_>>(), [] as [&String; 0]);
    let rules: Vec<&str> = RULES.split("- alert: ").skip(1).collect();
    for (name, rule) in names().into_iter().zip(rules) {
        for key in ["severity: ", "summary: ", "description: "] {
            assert!(rule.contains(key), "{name} has no {key}");
        }
        let runbook = format!("runbook: docs/observability.md#{}", name.to_lowercase());
        assert!(rule.contains(&runbook), "{name} leads to nothing");
        assert!(DOCS.contains(&format!("\n### {name}\n")), "{name} is not in the docs");
    }
    let headings = DOCS.lines().filter_map(|line| line.strip_prefix("### Runner"));
    let headings: BTreeSet<String> = headings.map(|rest| format!("Runner{rest}")).collect();
    let known: BTreeSet<String> = names().into_iter().map(str::to_owned).collect();
    assert_eq!(headings, known, "the docs, then the rules");
}

/// What a healthy run shows at its end, as promtool's series; its clock begins at 0.
async fn healthy() -> BTreeMap<String, String> {
    let outside = Outside::start().await;
    let bench = staying(&outside);
    let mut serving = bench.start();
    serving.assign(&outside.assignment()).await;
    let (scrapes, code) = scrape_to_the_end(&mut serving).await;
    assert_eq!(code, Some(0), "{}", serving.log());
    let read = Exposition::read(scrapes.last().unwrap()).unwrap();
    let started = read.family("process_start_time_seconds").unwrap().samples[0].value;
    let mut series = BTreeMap::from([(format!("up{{{TARGET}}}"), "1x120".to_owned())]);
    for family in &read.families {
        for sample in &family.samples {
            let value = if family.name.ends_with("_timestamp_seconds") {
                sample.value - started
            } else {
                sample.value
            };
            series.insert(key(family, sample), format!("{value}x120"));
        }
    }
    series
}

fn key(family: &ExposedFamily, sample: &runner::telemetry::Sample) -> String {
    let mut labels = String::new();
    for (name, value) in &sample.labels {
        let _ = write!(labels, "{name}={},", json!(value));
    }
    format!("{}{}{{{labels}{TARGET}}}", family.name, sample.suffix)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_fires_for_its_situation_and_none_for_a_healthy_run() {
    let fired: BTreeSet<&str> = CASES.iter().flat_map(|case| case.fire).copied().collect();
    assert_eq!(fired, names().into_iter().collect(), "the cases, then the rules");
    let Some(prometheus) = prometheus() else {
        return;
    };
    let healthy = healthy().await;
    let tests: Vec<Value> = CASES.iter().map(|case| test_of(case, &healthy)).collect();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.yaml"), &*RULES).unwrap();
    let file = dir.path().join("tests.yaml");
    // JSON is YAML.
    let all = json!({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests});
    std::fs::write(&file, all.to_string()).unwrap();
    let promtool = prometheus.with_file_name("promtool");
    for arguments in [["check", "rules"], ["test", "rules"]] {
        let on = if arguments[0] == "check" {
            dir.path().join("rules.yaml")
        } else {
            file.clone()
        };
        let output = Command::new(&promtool).args(arguments).arg(on).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}

fn test_of(case: &Case, healthy: &BTreeMap<String, String>) -> Value {
    let mut series = healthy.clone();
    for (name, values) in case.series {
        let name = name.replace('X', TARGET);
        let base = name.split('{').next().unwrap();
        // A metric that no healthy run has is one that there is nevertheless.
        assert!(base == "up" || metrics_named().contains(base), "{base} is in no rule");
        // Of the same labels in another order.
        let parts = |name: &str| -> BTreeSet<String> { name.split(['{', ',', '}']).map(str::to_owned).collect() };
        series.retain(|known, _| parts(known) != parts(&name));
        series.insert(name, (*values).to_owned());
    }
    let firing = case
        .fire
        .iter()
        .map(|name| json!({"labels": format!("{{alertname=\"{name}\"}}"), "value": 1}));
    json!({
        "interval": "1m",
        "name": format!("{:?} at {}", case.series, case.minute),
        "input_series": series.iter().map(|(name, values)| json!({"series": name, "values": values})).collect::<Vec<_>>(),
        "promql_expr_test": [{
            "expr": "count by (alertname) (ALERTS{alertstate=\"firing\"})",
            "eval_time": format!("{}m", case.minute),
            "exp_samples": firing.collect::<Vec<_>>(),
        }],
    })
}

/// A task that fails of its agent, whose verdict, events and telemetry nobody takes, without a sandbox.
fn ill(outside: &Outside) -> Bench {
    outside
        .faults
        .inject(Endpoint::Verdict, Fault::Status(503), Times::Always);
    outside
        .faults
        .inject(Endpoint::Events, Fault::Status(400), Times::Always);
    let said = r#"{"type":"assistant","message":{"content":[{"type":"text","text":"I cannot."}]}}"#;
    let result = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"total_cost_usd":9.5}"#;
    staying(outside)
        .with(
            "RUNNER_AGENT_COMMAND",
            &format!("cat > /dev/null; echo '{said}'; echo '{result}'; exit 1"),
        )
        .with("RUNNER_API_PATIENCE", "1s")
        .with("RUNNER_SANDBOX", "off")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_evaluates_every_rule_on_what_it_scrapes_of_two_runners() {
    let Some(prometheus) = prometheus() else {
        return;
    };
    let (well_outside, ill_outside) = (Outside::start().await, Outside::start().await);
    let collector = collector_that_refuses().await;
    let well = staying(&well_outside).with("RUNNER_AGENT_COMMAND", WAITING_AGENT);
    let ill = ill(&ill_outside)
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", &collector)
        .with("OTEL_BSP_SCHEDULE_DELAY", "50");
    let (mut well_serving, mut ill_serving) = (well.start(), ill.start());
    let (well_at, ill_at) = (
        well_serving.address().await.unwrap(),
        ill_serving.address().await.unwrap(),
    );
    let watching = Watching::start(&prometheus, &[("runner-well", &well_at), ("runner-ill", &ill_at)]).await;
    watching.until("both are scraped", "count(up == 1) == 2").await;

    ill_serving.assign(&ill_outside.assignment()).await;
    well_serving.assign(&well_outside.assignment()).await;
    assert_eq!(ill_serving.wait().await.code(), Some(75), "{}", ill_serving.log());
    well.agent_is_there(&well_serving).await;
    let expected = [
        "RunnerBudgetNearlyUsed",
        "RunnerDown",
        "RunnerEventsDropped",
        "RunnerSandboxNotInForce",
        "RunnerTaskFailed",
        "RunnerTelemetryDropped",
        "RunnerVerdictUndelivered",
    ];
    let begun = Instant::now();
    let firing = loop {
        let firing = watching.firing("runner-ill").await;
        if firing.keys().eq(expected.iter()) {
            break firing;
        }
        assert!(
            begun.elapsed() < NEVER,
            "{:?} fire, and not {expected:?}",
            firing.keys()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    for (name, annotations) in &firing {
        let said = annotations.to_string();
        assert!(
            !said.contains("<error") && !said.contains("<no value>"),
            "{name}: {said}"
        );
    }
    assert_eq!(firing["RunnerTaskFailed"]["summary"], "A task failed: AgentFailed");
    assert_eq!(
        firing["RunnerBudgetNearlyUsed"]["summary"],
        "An agent has used 95% of its budget"
    );

    watching
        .until(
            "the agent at work is scraped",
            r#"runner_effect_open{effect="agent",job="runner-well"} == 1"#,
        )
        .await;
    assert_eq!(
        watching.firing("runner-well").await.keys().collect::<Vec<_>>(),
        [] as [&String; 0]
    );
    well.let_the_agent_go();
    assert_eq!(well_serving.wait().await.code(), Some(0), "{}", well_serving.log());
    watching
        .until(
            "the end was scraped",
            r#"last_over_time(runner_verdict_acknowledged{event="completed"}[15m]) == 1"#,
        )
        .await;

    // Every rule was evaluated without an error, and so is its question by itself.
    let rules = watching.get("/rules").await.unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap().clone();
    assert_eq!(
        rules
            .iter()
            .map(|rule| rule["name"].as_str().unwrap())
            .collect::<Vec<_>>(),
        names()
    );
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert!(rule["lastError"].is_null(), "{rule}");
        watching.query(rule["query"].as_str().unwrap()).await;
    }
    // What a rule names was there to be looked at, but for what neither run had.
    let known = watching.get("/label/__name__/values").await.unwrap();
    let known: BTreeSet<String> = serde_json::from_value(known).unwrap();
    let missing: Vec<String> = metrics_named().difference(&known).cloned().collect();
    assert_eq!(missing, ["runner_agent_model_requests_total"], "no model was asked");
}
