//! `/metrics` of the real binary: every metric that is declared moves, and says what happened.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use runner::embedded::faults::{Endpoint, Fault, Times};
use runner::telemetry::{Exposition, Kind, Metrics, classic};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::harness::{Bench, NEVER, Outside, RUNNER, Serving, client};
use crate::messages_api::{Answer, RawApi};

mod alerts;

/// What is the same for ever, for a given binary.
const CONSTANT: [&str; 1] = ["runner_build"];
/// What no test of a whole runner can bring about everywhere, with the test that moves it.
const MOVED_ELSEWHERE: [(&str, &str); 1] = [(
    "runner_out_of_memory_kills",
    "processes_that_the_kernel_killed_are_counted (src/telemetry/metrics/tests.rs)",
)];

/// Plays Claude Code: asks the model, says something, waits until it may go on, asks once more and leaves a change.
const CLAUDE: &str = r#"#!/bin/bash
cat > /dev/null
ask() {
  authority=${ANTHROPIC_BASE_URL#http://}
  exec 3<> "/dev/tcp/${authority%:*}/${authority#*:}"
  printf 'POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: %s\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}' "$ANTHROPIC_API_KEY" >&3
  cat <&3 > /dev/null
}
echo '{"type":"system","subtype":"init","model":"claude-opus-4-5"}'
ask
echo '{"type":"assistant","message":{"content":[{"type":"text","text":"I look."},{"type":"tool_use","id":"1","name":"Bash","input":{"command":"ls"}}]}}'
: > "$HOME/there"
until [ -e "$HOME/go" ]; do sleep 0.02; done
ask
echo change >> change.txt
echo '{"type":"result","subtype":"success","is_error":false,"result":"done","num_turns":3,"total_cost_usd":99}'
"#;

/// What the model says a request took: of a known model $0.00775 at the list price.
fn answer(model: &str) -> Answer {
    let usage = json!({"input_tokens": 1000, "output_tokens": 100, "cache_read_input_tokens": 500});
    let body = json!({"model": model, "usage": usage}).to_string();
    Answer::Whole(200, vec![("content-type", "application/json")], body.into_bytes())
}

/// A runner that stays until its end is scraped.
pub(crate) fn staying(outside: &Outside) -> Bench {
    Bench::new(outside).with("RUNNER_METRICS_LINGER", "1m")
}

/// The same, whose claude is a script that asks this model.
fn with_claude(outside: &Outside, model: &RawApi) -> Bench {
    let bench = staying(outside);
    let bin = bench.path("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("claude"), CLAUDE).unwrap();
    std::fs::set_permissions(bin.join("claude"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    bench
        .with("PATH", &path)
        .with("RUNNER_AGENT", "claude")
        .with("ANTHROPIC_BASE_URL", &format!("http://{}", model.address))
        .with("ANTHROPIC_API_KEY", "sk-ant-of-this-test")
}

pub(crate) async fn scrape(address: &str, accept: &str) -> Option<String> {
    let request = client().get(format!("{address}/metrics")).header("accept", accept);
    request.send().await.ok()?.text().await.ok()
}

/// A collector that takes nothing.
async fn collector_that_refuses() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let routes = axum::Router::new().fallback(|| async { axum::http::StatusCode::BAD_REQUEST });
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

/// The first text with this line in it.
pub(crate) async fn scrape_until(address: &str, line: &str) -> String {
    let begun = Instant::now();
    loop {
        let text = scrape(address, "*/*").await.unwrap();
        if text.lines().any(|shown| shown == line) {
            return text;
        }
        assert!(begun.elapsed() < NEVER, "never: {line} in {text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Scrapes again and again until the process has ended, which it does once its end is scraped.
pub(crate) async fn scrape_to_the_end(serving: &mut Serving) -> (Vec<String>, Option<i32>) {
    let address = serving.address().await.unwrap();
    let mut scrapes = Vec::new();
    let begun = Instant::now();
    while let Some(text) = scrape(&address, "*/*").await {
        assert!(begun.elapsed() < NEVER, "it does not end: {}", serving.log());
        scrapes.push(text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (scrapes, serving.wait().await.code())
}

/// The sum of a metric's samples that have all of these labels.
#[track_caller]
fn value(text: &str, sample: &str, labels: &[(&str, &str)]) -> f64 {
    let read = Exposition::read(text).unwrap();
    let has = |own: &[(String, String)]| {
        labels
            .iter()
            .all(|(n, v)| own.iter().any(|(name, value)| name == n && value == v))
    };
    let mut found = read.families.iter().flat_map(|family| {
        let named = family
            .samples
            .iter()
            .filter(|s| format!("{}{}", family.name, s.suffix) == sample);
        named.filter(|s| has(&s.labels)).map(|s| s.value)
    });
    let first = found
        .next()
        .unwrap_or_else(|| panic!("no {sample} {labels:?} in {text}"));
    first + found.sum::<f64>()
}

#[track_caller]
fn is(text: &str, sample: &str, labels: &[(&str, &str)], expected: f64) {
    let found = value(text, sample, labels);
    assert!(
        (found - expected).abs() < 1e-9,
        "{sample} {labels:?} is {found}, not {expected}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_is_declared_moves_in_the_lives_of_two_runners() {
    let (crashed, told) = a_task_that_is_done_after_two_crashes().await;
    let undelivered = a_task_that_fails_and_whose_verdict_nobody_takes().await;
    let scrapes: Vec<Exposition> = crashed
        .iter()
        .chain(&undelivered)
        .map(|text| Exposition::read(text).unwrap())
        .collect();
    let moves = |family: &str| {
        let states = scrapes
            .iter()
            .map(|scrape| scrape.family(family).map(|f| f.samples.clone()));
        let states: Vec<_> = states.collect();
        states.iter().any(Option::is_some) && states.iter().any(|state| *state != states[0])
    };
    let declared = Metrics::new().declared().to_vec();
    let known: BTreeSet<&str> = declared.iter().map(|d| d.family.as_str()).collect();
    let still: Vec<&str> = known.iter().copied().filter(|family| !moves(family)).collect();
    let excused = MOVED_ELSEWHERE.map(|(family, _)| family);
    let expected: BTreeSet<&str> = CONSTANT.into_iter().chain(excused).collect();
    assert_eq!(still.into_iter().collect::<BTreeSet<_>>(), expected, "what never moved");
    for scrape in &scrapes {
        for family in &scrape.families {
            assert!(known.contains(family.name.as_str()), "{} is not declared", family.name);
        }
    }
    labels_are_those_of_the_docs(&scrapes);
    // What is constant is right.
    let version = std::process::Command::new(RUNNER).arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let build = &scrapes[0].family("runner_build").unwrap().samples[0];
    let labels = build.labels.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>();
    assert_eq!(version.trim(), format!("runner {} ({})", labels[0], labels[1]));
    assert!(told.contains("# HELP runner_effect_attempts_total "), "{told}");
    check_by_promtool(&told).await;
}

/// The docs' table says which labels a metric has.
fn labels_are_those_of_the_docs(scrapes: &[Exposition]) {
    let docs = include_str!("../../docs/observability.md");
    for family in scrapes.iter().flat_map(|scrape| &scrape.families) {
        for sample in &family.samples {
            let suffix = match family.kind {
                Kind::Counter | Kind::Info => sample.suffix.as_str(),
                Kind::Gauge | Kind::Histogram => "",
            };
            let row = format!("\n| `{}{suffix}` |", family.name);
            let row = docs
                .split(&row)
                .nth(1)
                .unwrap_or_else(|| panic!("no {row}"))
                .lines()
                .next()
                .unwrap();
            let named: BTreeSet<&str> = row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect();
            let own = sample
                .labels
                .iter()
                .map(|(name, _)| name.as_str())
                .filter(|name| *name != "le");
            assert_eq!(
                own.collect::<BTreeSet<_>>(),
                named,
                "{} shows, the docs say",
                family.name
            );
        }
    }
}

/// Every scrape, and the last one as older scrapers get it.
async fn a_task_that_is_done_after_two_crashes() -> (Vec<String>, String) {
    let outside = Outside::start().await;
    outside.faults.inject(Endpoint::Data, Fault::Status(503), Times::Always);
    outside
        .faults
        .inject(Endpoint::PullCreate, Fault::DropAfter, Times::Next(1));
    let model = RawApi::start().await;
    for name in ["claude-opus-4-5", "claude-opus-4-5-20251101", "somebody's own"] {
        model.will(answer(name));
    }
    let bench = with_claude(&outside, &model)
        .with("RUNNER_AGENT_MAX_BUDGET_USD", "2.5")
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", &collector_that_refuses().await)
        .with("OTEL_BSP_SCHEDULE_DELAY", "50");

    let mut first = bench.start_to_crash_at("after-intent-data");
    let mut scrapes = vec![scrape(&first.address().await.unwrap(), "*/*").await.unwrap()];
    is(&scrapes[0], "runner_agent_budget_usd", &[], 2.5);
    first.assign(&outside.assignment()).await;
    first.wait().await;
    let mut second = bench.start_to_crash_at("after-intent-data");
    second.wait().await;

    let mut third = bench.start();
    let address = third.address().await.unwrap();
    scrapes.push(
        scrape_until(
            &address,
            "runner_effect_attempts_total{effect=\"data\",result=\"retry\"} 1",
        )
        .await,
    );
    is(scrapes.last().unwrap(), "runner_stalled_boots", &[], 2.0);
    outside.faults.clear(Endpoint::Data);
    bench.agent_is_there(&third).await;
    let at_work = scrape_until(&address, "runner_events_made_total{type=\"tool_call\"} 1").await;
    is(&at_work, "runner_boots", &[], 3.0);
    is(&at_work, "runner_effect_open", &[("effect", "agent")], 1.0);
    is(&at_work, "runner_state", &[("state", "Cloned")], 1.0);
    is(&at_work, "runner_state", &[], 1.0);
    is(&at_work, "runner_agent_spent_usd", &[], 0.007_75);
    let settled = value(&at_work, "runner_events_total", &[]);
    is(
        &at_work,
        "runner_events_queued",
        &[],
        value(&at_work, "runner_events_made_total", &[]) - settled,
    );
    scrapes.push(at_work);
    bench.let_the_agent_go();
    let (to_the_end, code) = scrape_to_the_end(&mut third).await;
    assert_eq!(code, Some(0), "{}", third.log());
    scrapes.extend(to_the_end);

    let end = scrapes.last().unwrap();
    is(end, "runner_state", &[("state", "Reported")], 1.0);
    is(end, "runner_effect_open", &[], 0.0);
    is(end, "runner_verdict", &[("event", "completed"), ("reason", "")], 1.0);
    is(end, "runner_verdict_acknowledged", &[("event", "completed")], 1.0);
    for result in ["lost", "done"] {
        is(
            end,
            "runner_effect_attempts_total",
            &[("effect", "data"), ("result", result)],
            1.0,
        );
    }
    is(
        end,
        "runner_effect_lost_answers_total",
        &[("effect", "pull_request")],
        1.0,
    );
    is(end, "runner_agent_starts_total", &[], 1.0);
    is(end, "runner_agent_turns_total", &[], 3.0);
    let opus = ("model", "claude-opus-4-5");
    is(
        end,
        "runner_agent_model_requests_total",
        &[opus, ("usage", "known")],
        2.0,
    );
    is(end, "runner_agent_tokens_total", &[opus, ("type", "input")], 2000.0);
    is(
        end,
        "runner_agent_tokens_total",
        &[opus, ("type", "cache_read")],
        1000.0,
    );
    is(end, "runner_agent_cost_usd_total", &[opus], 0.0155);
    is(end, "runner_agent_spent_usd", &[], 0.0155);
    is(
        end,
        "runner_events_total",
        &[("result", "sent")],
        value(end, "runner_events_made_total", &[]),
    );
    is(end, "runner_events_queued", &[], 0.0);
    is(end, "runner_sandbox_mode", &[("mode", "require")], 1.0);
    is(end, "runner_sandbox_right", &[("right", "files")], 1.0);
    let rows = bench.dump();
    is(
        end,
        "runner_journal_rows",
        &[],
        f64::from(u32::try_from(rows.len()).unwrap()),
    );
    let intents = rows.iter().filter(|row| row["boot"] == 3).count();
    assert!(intents > 10, "{rows:?}");
    let kept = value(end, "runner_journal_appends_total", &[("result", "kept")]);
    is(end, "runner_journal_sync_duration_seconds_count", &[], kept);
    let told = classic(end);
    (scrapes, told)
}

async fn a_task_that_fails_and_whose_verdict_nobody_takes() -> Vec<String> {
    let outside = Outside::start().await;
    outside
        .faults
        .inject(Endpoint::Verdict, Fault::Status(503), Times::Always);
    outside
        .faults
        .inject(Endpoint::Events, Fault::Status(400), Times::Always);
    let said = r#"{"type":"assistant","message":{"content":[{"type":"text","text":"I cannot."}]}}"#;
    let result =
        r#"{"type":"result","subtype":"error_during_execution","is_error":true,"num_turns":2,"total_cost_usd":0.5}"#;
    let bench = staying(&outside)
        .with(
            "RUNNER_AGENT_COMMAND",
            &format!("cat > /dev/null; echo '{said}'; echo '{result}'; exit 1"),
        )
        .with("RUNNER_API_PATIENCE", "1s")
        .with("RUNNER_MAX_BOOTS", "7")
        .with("RUNNER_SANDBOX", "off");
    let mut serving = bench.start();
    serving.assign(&outside.assignment()).await;
    let (scrapes, code) = scrape_to_the_end(&mut serving).await;
    assert_eq!(code, Some(75), "{}", serving.log());
    let end = scrapes.last().unwrap();
    is(
        end,
        "runner_verdict",
        &[("event", "failed"), ("reason", "AgentFailed")],
        1.0,
    );
    is(end, "runner_verdict_acknowledged", &[("event", "failed")], 0.0);
    is(end, "runner_departures_total", &[("why", "undelivered")], 1.0);
    is(
        end,
        "runner_effect_failures_total",
        &[("effect", "agent"), ("reason", "AgentFailed")],
        1.0,
    );
    is(end, "runner_stalled_boots_limit", &[], 7.0);
    is(end, "runner_agent_spent_usd", &[], 0.5);
    is(end, "runner_agent_cost_usd_total", &[("model", "other")], 0.5);
    is(end, "runner_events_total", &[("result", "dropped")], 1.0);
    is(end, "runner_sandbox_right", &[], 0.0);
    is(end, "runner_sandbox_mode", &[("mode", "off")], 1.0);
    assert!(
        value(
            end,
            "runner_effect_attempts_total",
            &[("effect", "report"), ("result", "retry")]
        ) >= 1.0
    );
    scrapes
}

/// The `prometheus` that `.ci/run` installs, with promtool beside it.
pub(crate) fn prometheus() -> Option<PathBuf> {
    let named = std::env::var_os("RUNNER_TEST_PROMETHEUS").map(PathBuf::from);
    if named.is_none() {
        eprintln!("left out: RUNNER_TEST_PROMETHEUS does not name a prometheus");
    }
    named
}

/// promtool's own judgement of names, types, units and help.
async fn check_by_promtool(text: &str) {
    let Some(prometheus) = prometheus() else {
        return;
    };
    let mut checking = tokio::process::Command::new(prometheus.with_file_name("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    checking.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
    let output = checking.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_gets_openmetrics_or_plain_text_as_it_asks() {
    let outside = Outside::start().await;
    let serving = Bench::new(&outside).start();
    let address = serving.address().await.unwrap();
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let plain = "text/plain; version=0.0.4; charset=utf-8";
    for (accept, kind) in [
        ("*/*", openmetrics),
        // What Prometheus 2 and 3 send, and what vmagent does.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            openmetrics,
        ),
        ("text/plain;version=0.0.4;q=1,*/*;q=0.1", plain),
    ] {
        let request = client().get(format!("{address}/metrics")).header("accept", accept);
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], kind, "{accept}");
        let text = response.text().await.unwrap();
        assert_eq!(text.ends_with("# EOF\n"), kind == openmetrics, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_waits_for_its_last_scrape_ends_when_it_is_told_to_stop() {
    let outside = Outside::start().await;
    let bench = staying(&outside);
    let mut serving = bench.start();
    serving.assign(&outside.assignment()).await;
    let address = serving.address().await.unwrap();
    let begun = Instant::now();
    loop {
        let status = client().get(format!("{address}/status")).send().await.unwrap();
        let status: serde_json::Value = status.json().await.unwrap();
        if status["verdict"]["acknowledged"] == true {
            break;
        }
        assert!(begun.elapsed() < NEVER, "{}", serving.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    serving.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
    assert!(begun.elapsed() < Duration::from_secs(30), "not after its minute");
}
