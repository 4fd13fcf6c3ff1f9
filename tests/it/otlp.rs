//! What a collector gets: from a real OTLP receiver where `RUNNER_TEST_OTELTAP` names one, and what a bad one can do to a task.

mod collector;
mod metrics;
mod tap;

use std::collections::BTreeSet;
use std::time::Duration;

use collector::{Collector, Manner};
use nix::sys::signal::Signal;
use runner::embedded::faults::Endpoint;
use serde_json::Value;
use tap::{Span, Tap};

use crate::harness::{Bench, Outside, Serving, WAITING_AGENT, client, files_with};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OPERATORS_SPAN: &str = "00f067aa0ba902b7";
/// An agent that leaves its trace context where the test finds it, outside of what is handed over.
const TELLING_AGENT: &str = "cat > /dev/null; echo \"$TRACEPARENT $TRACESTATE\" >> \"$HOME/traces\"; env > \"$HOME/env\"; \
     echo change >> change.txt";

/// Assigns the task as an operator does that traces what it does.
async fn assign(serving: &Serving, outside: &Outside) {
    let address = serving.address().await.expect("it listens");
    let answer = client()
        .post(format!("{address}/task"))
        .header("content-type", "application/json")
        .header("traceparent", format!("00-{TRACE}-{OPERATORS_SPAN}-01"))
        .header("tracestate", "operator=7")
        .body(outside.assignment())
        .send()
        .await;
    assert_eq!(answer.unwrap().status().as_u16(), 200);
}

/// The spans as a tree under the operator's: every one of them hangs in it, and there is one root.
fn tree(spans: &[Span]) -> Vec<(String, String)> {
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    assert_eq!(ids.len(), spans.len(), "one of them came twice: {spans:#?}");
    let name_of = |id: &str| {
        if id == OPERATORS_SPAN {
            return "operator".to_owned();
        }
        let parent = spans.iter().find(|span| span.id == id);
        let parent = parent.unwrap_or_else(|| panic!("no span {id} in {spans:#?}"));
        format!(
            "{}{}",
            parent.name,
            parent
                .attributes
                .get("runner.boot")
                .filter(|_| parent.name == "boot")
                .map_or(String::new(), |boot| format!(" {boot}"))
        )
    };
    for span in spans {
        assert_eq!(span.trace, TRACE, "{span:?}");
    }
    let mut tree: Vec<(String, String)> = spans
        .iter()
        .map(|span| (name_of(&span.id), name_of(&span.parent)))
        .collect();
    tree.sort();
    tree
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut expected: Vec<(String, String)> = expected
        .iter()
        .map(|(child, parent)| ((*child).to_owned(), (*parent).to_owned()))
        .collect();
    expected.sort();
    expected
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_one_trace_of_a_task_with_the_right_parents_over_a_sigkill_and_a_restart() {
    let Some(mut tap) = Tap::start().await else { return };
    let outside = Outside::start().await;
    let bench = tap.bench(&outside).with("RUNNER_AGENT_COMMAND", WAITING_AGENT);
    // It gathers for so long that it has sent nothing when it is killed: all that it had finished is the next start's to send.
    let mut patient = bench.command();
    patient.env("OTEL_BSP_SCHEDULE_DELAY", "600000");
    let mut first = Serving::spawn(patient);
    assign(&first, &outside).await;
    bench.agent_is_there(&first).await;
    first.kill().await;
    bench.let_the_agent_go();
    let mut second = bench.start();
    assert_eq!(second.wait().await.code(), Some(0), "{}", second.log());
    let received = tap.until(|seen| seen.span("boot", "runner.boot", "2").is_some()).await;
    assert_eq!(
        tree(&received.spans),
        pairs(&[
            ("RUN runner/task", "operator"),
            ("boot 1", "RUN runner/task"),
            ("start", "boot 1"),
            ("data", "boot 1"),
            ("token", "boot 1"),
            ("clone", "boot 1"),
            ("invoke_agent command", "boot 1"),
            ("boot 2", "RUN runner/task"),
            ("invoke_agent command", "boot 2"),
            ("handover", "boot 2"),
            ("push", "boot 2"),
            ("pull_request", "boot 2"),
            ("report", "boot 2"),
        ])
    );
    let boots = [1, 2].map(|boot| received.span("boot", "runner.boot", &boot.to_string()).unwrap());
    assert_eq!(boots[1].links, [boots[0].id.clone()]);
    assert_eq!(boots[0].attributes["error.type"], "killed");
    let agents = [1, 2].map(|n| {
        received
            .span("invoke_agent command", "runner.attempt", &n.to_string())
            .unwrap()
    });
    assert_eq!(agents[0].attributes["runner.outcome"], "lost");
    assert_eq!(agents[1].attributes["runner.outcome"], "done");
    assert_eq!(agents[1].links, [agents[0].id.clone()]);
    let root = received.span("RUN runner/task", "cicd.pipeline.run.id", "t-1").unwrap();
    assert_eq!(root.attributes["cicd.pipeline.result"], "success");
    assert_eq!(root.attributes["vcs.change.id"], "1");
    assert_eq!(root.state, "operator=7");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_and_the_apis_requests_are_told_of_the_span_that_they_are_in() {
    let Some(mut tap) = Tap::start().await else { return };
    let outside = Outside::start().await;
    let bench = tap
        .bench(&outside)
        .with("RUNNER_AGENT_COMMAND", TELLING_AGENT)
        .with("RUNNER_SETUP_COMMAND", "echo \"$TRACEPARENT\" > \"$HOME/setup\"")
        .with("RUNNER_CHECK_COMMAND", "echo \"$TRACEPARENT\" > \"$HOME/check\"")
        .with("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a-key-of-the-collector")
        .with("TRACEPARENT", "00-11111111111111111111111111111111-2222222222222222-01")
        .with("RUNNER_AGENT_ENV", "TRACEPARENT");
    let mut serving = bench.start();
    assign(&serving, &outside).await;
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
    let received = tap.until(|seen| seen.span("boot", "runner.boot", "1").is_some()).await;
    let id = |name: &str| &received.spans.iter().find(|span| span.name == name).unwrap().id;
    let said = |file: &str| std::fs::read_to_string(bench.path("workspace/home").join(file)).unwrap();
    let context = |name: &str| format!("00-{TRACE}-{}-01", id(name));
    assert_eq!(
        said("traces"),
        format!("{} operator=7\n", context("invoke_agent command"))
    );
    assert_eq!(said("setup"), format!("{}\n", context("setup")));
    assert_eq!(said("check"), format!("{}\n", context("check")));
    assert!(!said("env").contains("OTEL_"), "{}", said("env"));
    for (endpoint, span) in [
        (Endpoint::Started, "start"),
        (Endpoint::Data, "data"),
        (Endpoint::Token, "token"),
        (Endpoint::Verdict, "report"),
        (Endpoint::Progress, "boot"),
    ] {
        for call in outside.api.calls(endpoint) {
            assert_eq!(call.header("traceparent"), Some(context(span).as_str()), "{endpoint}");
            assert_eq!(call.header("tracestate"), Some("operator=7"));
        }
    }
    for endpoint in [Endpoint::PullList, Endpoint::PullCreate] {
        for call in outside.forge.calls(endpoint) {
            assert_eq!(call.header("traceparent"), None, "the forge is not the operator's");
        }
    }
    // Lines belong to the span of what was under way, also by OTLP.
    let line = received.logs.iter().find(|line| line.body == "entered Cloned").unwrap();
    assert_eq!((line.trace.as_str(), line.severity.as_str()), (TRACE, "INFO"));
    assert_eq!(&line.span, id("boot"), "it is between two effects");
    assert_eq!(line.attributes["cicd.pipeline.run.id"], "t-1");
    let line = received.logs.iter().find(|line| line.body == "clone").unwrap();
    assert_eq!(&line.span, id("clone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_task_goes_on_in_its_trace() {
    let Some(mut tap) = Tap::start().await else { return };
    let outside = Outside::start().await;
    let bench = tap
        .bench(&outside)
        .with("RUNNER_AGENT_COMMAND", WAITING_AGENT)
        .with("RUNNER_ON_TERM", "park");
    let mut first = bench.start();
    assign(&first, &outside).await;
    bench.agent_is_there(&first).await;
    first.signal(Signal::SIGTERM);
    assert_eq!(first.wait().await.code(), Some(75), "{}", first.log());
    let parked = tap.until(|seen| seen.span("boot", "runner.boot", "1").is_some()).await;
    let boot = parked.span("boot", "runner.boot", "1").unwrap();
    assert_eq!(boot.attributes["runner.farewell"], "parked");
    let parked = boot.id.clone();
    bench.let_the_agent_go();
    // What the first had sent comes no second time: `tree` would see it.
    let mut second = bench.start();
    assert_eq!(second.wait().await.code(), Some(0), "{}", second.log());
    let received = tap.until(|seen| seen.span("boot", "runner.boot", "2").is_some()).await;
    let edges = tree(&received.spans);
    assert!(
        edges.contains(&("RUN runner/task".to_owned(), "operator".to_owned())),
        "{edges:?}"
    );
    assert!(
        edges.contains(&("invoke_agent command".to_owned(), "boot 2".to_owned())),
        "{edges:?}"
    );
    assert_eq!(received.span("boot", "runner.boot", "2").unwrap().links, [parked]);
}

/// How long the effects of a run took together, in milliseconds, by its journal.
fn effects_took(bench: &Bench) -> i64 {
    let at = |row: &Value| {
        let at: jiff::Timestamp = row["at"].as_str().unwrap().parse().unwrap();
        at.as_millisecond()
    };
    let rows = bench.dump();
    let first = rows.iter().find(|row| row["to"] == "Assigned").unwrap();
    let last = rows.iter().rfind(|row| row["kind"] == "ack").unwrap();
    at(last) - at(first)
}

/// One run with a collector like this; the time from the assignment to the acknowledgement, and from then to the end.
async fn run_with(endpoint: Option<&str>) -> (i64, Duration, String) {
    let outside = Outside::start().await;
    let mut bench = Bench::new(&outside);
    if let Some(endpoint) = endpoint {
        bench = bench
            .with("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            // Longer than anybody waits here.
            .with("OTEL_EXPORTER_OTLP_TIMEOUT", "60000")
            .with("OTEL_BSP_SCHEDULE_DELAY", "1")
            .with("OTEL_BLRP_SCHEDULE_DELAY", "1");
    }
    let mut serving = bench.start();
    assign(&serving, &outside).await;
    let acknowledged = serving.line_with("entered Reported").await;
    let begun = std::time::Instant::now();
    assert!(acknowledged.is_some(), "{}", serving.log());
    let status = serving.wait().await;
    assert_eq!(status.code(), Some(0), "{}", serving.log());
    (effects_took(&bench), begun.elapsed(), serving.whole_log().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_slow_or_hostile_neither_delays_nor_fails_a_task() {
    let (without, ..) = run_with(None).await;
    let away = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let mut collectors = vec![("away", away, None)];
    for (name, manner) in [
        ("silent", Manner::Silent),
        ("500", Manner::Answer("500 Internal Server Error", "")),
        (
            "503",
            Manner::Answer("503 Service Unavailable", "Retry-After: 86400\r\n"),
        ),
        ("endless", Manner::Endless),
        (
            "redirecting",
            Manner::Answer("307 Temporary Redirect", "Location: /v1/traces\r\n"),
        ),
    ] {
        let collector = Collector::start(manner).await;
        collectors.push((name, collector.base.clone(), Some(collector)));
    }
    for (name, base, collector) in collectors {
        let (took, ending, log) = run_with(Some(&base)).await;
        println!("{name}: {took} ms where {without} ms without, then {ending:?} to its end");
        // The machine that tests share is slower at times than a collector could make it.
        assert!(took < without + 5_000, "{name}: {took} ms, {without} ms without");
        assert!(ending < Duration::from_secs(10), "{name}: {ending:?}");
        if name != "endless" {
            let told = log.contains("not taken by the collector") || log.contains("the collector did not get all");
            assert!(told, "{name}: {log}");
        }
        if let Some(collector) = collector {
            let asked = collector.requests();
            assert!((1..200).contains(&asked), "{name}: {asked} requests");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_the_collector_is_in_no_line_and_no_file_and_not_with_the_agent() {
    const KEY: &str = "a-key-of-the-collector";
    let outside = Outside::start().await;
    let collector = Collector::start(Manner::Echo).await;
    let bench = Bench::new(&outside)
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.base)
        .with("OTEL_EXPORTER_OTLP_HEADERS", &format!("x={KEY}"))
        .with("OTEL_BLRP_SCHEDULE_DELAY", "1")
        .with("RUNNER_LOG", "trace")
        .with("RUNNER_AGENT_COMMAND", TELLING_AGENT);
    let mut serving = bench.start();
    assign(&serving, &outside).await;
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
    let log = serving.whole_log().await;
    assert!(
        log.contains("not taken by the collector") && log.contains("x: [redacted]"),
        "{log}"
    );
    assert!(!log.contains(KEY), "{log}");
    assert_eq!(files_with(bench.dir.path(), KEY), [""; 0].map(std::path::PathBuf::from));
    assert!(
        bench.path("workspace/home/env").exists(),
        "the control: the agent wrote its environment down"
    );
}
