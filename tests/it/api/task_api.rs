//! What runs ask a task API, what the embedded one answers, and what a runner takes each answer for.

use std::collections::{BTreeMap, BTreeSet};

use runner::adapters::api::{ApiError, TaskApi};
use runner::embedded::calls::Call;
use runner::embedded::faults::{Endpoint, Fault, Times};
use runner::machine::EffectName;
use runner::secret::Secret;
use serde_json::{Value, json};

use super::file::{File, Operation, fields};
use crate::harness::{Bench, Outside, client};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// What an agent says that uses all there is to say, and leaves a change.
const TALKS: &str = r#"cat > /dev/null
echo '{"type":"system","subtype":"init","session_id":"s-1","model":"m"}'
echo '{"type":"assistant","message":{"content":[{"type":"text","text":"Looking."}]}}'
echo '{"type":"assistant","message":{"content":[{"type":"tool_use","id":"u-1","name":"Bash","input":{"command":"ls"}}]}}'
echo '{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"u-1","content":"README.md"}]}}'
echo '{"type":"system","subtype":"api_retry","attempt":1,"max_retries":3,"error_status":500}'
echo change >> change.txt
echo '{"type":"result","subtype":"success","is_error":false,"terminal_reason":"completed","num_turns":2,"total_cost_usd":0.5,"usage":{"input_tokens":3,"output_tokens":4},"session_id":"s-1","result":"done"}'"#;
/// An agent that is cut short: its work is saved.
const CUT: &str = r#"cat > /dev/null
echo change >> change.txt
echo '{"type":"result","subtype":"error_max_turns","is_error":true,"num_turns":3,"total_cost_usd":0.5,"usage":{"input_tokens":3,"output_tokens":4},"session_id":"s-1"}'
exit 1"#;
/// Only after more events than wait at once: src/forwarder/tests.rs has that.
const ELSEWHERE: [&str; 2] = ["events[].metadata", "events[].metadata.dropped"];

fn operation(file: &File, endpoint: Endpoint) -> Operation {
    let call = match endpoint {
        Endpoint::Data => "data",
        Endpoint::Token => "token",
        Endpoint::Started | Endpoint::Progress | Endpoint::Verdict => "status",
        Endpoint::Events => "events",
        other => panic!("{other:?} is not of a task API"),
    };
    let mut all = file.operations("task API").into_iter();
    all.find(|operation| operation.path.ends_with(&format!("/{call}")))
        .unwrap()
}

/// Everything that one task's runner asked for, from its assignment to its verdict.
async fn calls_of_a_run(agent: &str) -> (Outside, Vec<Call>) {
    let outside = Outside::start().await;
    let bearer = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(bearer.path(), "api-bearer-0123\n").unwrap();
    outside.api.require_bearer(Secret::new("api-bearer-0123"));
    let bench = Bench::new(&outside)
        .with("RUNNER_API_TOKEN_FILE", bearer.path().to_str().unwrap())
        .with("RUNNER_AGENT_COMMAND", agent)
        .with("RUNNER_AGENT_ATTEMPTS", "1");
    let mut serving = bench.start();
    let answer = client()
        .post(format!("{}/task", serving.address().await.unwrap()))
        .header("content-type", "application/json")
        .header("traceparent", TRACEPARENT)
        .header("tracestate", "vendor=1")
        .body(outside.assignment())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    serving.wait().await;
    let calls = outside.api.call_log().all();
    (outside, calls)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_real_runs_ask_is_as_the_file_has_it_and_nothing_of_the_file_is_never_asked() {
    let file = File::read();
    let mut sent: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut headers = BTreeSet::new();
    for (agent, verdict) in [(TALKS, "completed"), (CUT, "failed")] {
        let (outside, calls) = calls_of_a_run(agent).await;
        assert_eq!(outside.verdict()["event"], verdict, "{}", outside.verdict());
        for call in calls {
            let operation = operation(&file, call.endpoint);
            operation.holds_headers(&call.headers);
            assert_eq!(call.header("authorization"), Some("Bearer api-bearer-0123"));
            headers.extend(call.headers.keys().map(|name| name.as_str().to_owned()));
            let Some(schema) = operation.body() else {
                assert!(call.body.is_empty(), "{:?}", call.endpoint);
                continue;
            };
            let body: Value = serde_json::from_slice(&call.body).unwrap();
            file.holds(&schema, &body);
            let schema = match body["event"].as_str() {
                Some("started") => "Started",
                Some("progress") => "Progress",
                Some("completed") => "Completed",
                Some("failed") => "Failed",
                _ => "Events",
            };
            sent.entry(schema).or_default().extend(fields(&body, "events[].input"));
        }
    }
    for (schema, sent) in sent {
        let mut shown = file.declared(schema);
        shown.retain(|field| !ELSEWHERE.contains(&field.as_str()));
        assert_eq!(sent, shown, "{schema}: sent, then the file");
    }
    for operation in file.operations("task API") {
        for header in operation.headers() {
            assert!(headers.contains(&header), "{}: {header} is never sent", operation.path);
        }
    }
}

/// The control: a field more, or one less, and the file does not hold.
#[test]
fn a_verdict_with_another_field_or_without_one_is_not_as_the_file_has_it() {
    let details =
        json!({"outcome": "branch", "state": "Pushed", "attempts": 1, "boots": 1, "journalHead": "0".repeat(64)});
    let report = |details: Value| json!({"event": "completed", "message": "Pushed", "details": details});
    let holds = |body: Value| std::panic::catch_unwind(|| File::read().holds("Report", &body)).is_ok();
    assert!(holds(report(details.clone())));
    let mut more = details.clone();
    more["token"] = json!("x");
    assert!(!holds(report(more)));
    let mut less = details;
    less.as_object_mut().unwrap().remove("outcome");
    assert!(!holds(report(less)));
}

/// `METHOD PATH` of an operation, asked of the embedded task API.
async fn asked(outside: &Outside, operation: &Operation, body: Option<&str>) -> (u16, Value) {
    let path = operation.path.replace("{taskID}", outside.task.as_str());
    let url = format!("{}{path}", outside.api.api_url().as_str().trim_end_matches('/'));
    let method = operation.method.parse().unwrap();
    let mut request = client().request(method, url).header("idempotency-key", "t-1/report/1");
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_owned());
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_embedded_task_api_answers_is_as_the_file_has_it() {
    let file = File::read();
    let outside = Outside::start().await;
    let verdict = r#"{"event":"completed","message":"done","details":{}}"#;
    let events = r#"{"events":[{"sequence":1,"timestamp":"2026-11-22T00:29:33Z","type":"thinking","summary":"x"}]}"#;
    for (endpoint, body, status) in [
        (Endpoint::Data, None, 200),
        (Endpoint::Token, None, 200),
        (Endpoint::Token, None, 409),
        (Endpoint::Events, Some(events), 200),
        (Endpoint::Events, Some("{}"), 400),
        (Endpoint::Verdict, Some(verdict), 200),
        (Endpoint::Verdict, Some(verdict), 200),
        (Endpoint::Data, None, 410),
        (Endpoint::Events, Some(events), 410),
    ] {
        let operation = operation(&file, endpoint);
        let (answered, body) = asked(&outside, &operation, body).await;
        assert_eq!(answered, status, "{endpoint:?}: {body}");
        let schema = operation
            .answer(status)
            .map_or("Failure".to_owned(), |(schema, _)| schema);
        file.holds(&schema, &body);
    }
    outside.api.require_bearer(Secret::new("other"));
    let operation = operation(&file, Endpoint::Data);
    let (answered, body) = asked(&outside, &operation, None).await;
    assert_eq!(answered, 401);
    file.holds("Failure", &body);
}

/// Each status that an API may answer with is taken for what the file says, also those that it has no line for.
#[tokio::test(flavor = "multi_thread")]
async fn each_status_is_taken_for_what_the_file_says() {
    let file = File::read();
    let outside = Outside::start().await;
    let api = TaskApi::new(client(), outside.api.api_url().clone(), outside.task.clone(), None);
    let statuses = [
        201, 202, 204, 301, 302, 307, 400, 401, 402, 403, 404, 405, 408, 409, 410, 411, 413, 415, 418, 422, 425, 429,
        451, 499, 500, 501, 502, 503, 504, 505, 599,
    ];
    let endpoints = [Endpoint::Data, Endpoint::Token, Endpoint::Verdict, Endpoint::Events];
    for (endpoint, status) in endpoints.into_iter().flat_map(|e| statuses.map(|status| (e, status))) {
        outside.faults.inject(endpoint, Fault::Status(status), Times::Next(1));
        let verdict = br#"{"event":"failed","message":"m","details":{}}"#;
        let error: ApiError = match endpoint {
            Endpoint::Data => api.data().await.err(),
            Endpoint::Token => api.token("k").await.err(),
            Endpoint::Verdict => api.status(verdict, "k").await.err(),
            _ => api.events(b"{}", "k").await.err(),
        }
        .unwrap_or_else(|| panic!("{endpoint:?}: {status} was taken"));
        let operation = operation(&file, endpoint);
        let (key, response) = operation.response(status);
        let taken: &str = (&error).into();
        assert_eq!(
            response["x-taken-as"], taken,
            "{endpoint:?} {status}, which the file has under {key}"
        );
    }
}

#[test]
fn the_keys_of_the_file_are_effects_or_what_is_told_beside_them() {
    let file = File::read();
    let keys = file.key_effects();
    let effects: BTreeSet<String> = <EffectName as strum::IntoEnumIterator>::iter()
        .map(|e| e.to_string())
        .collect();
    for key in &keys {
        assert!(
            effects.contains(key) || matches!(key.as_str(), "progress" | "events"),
            "{key}"
        );
    }
    assert!(keys.len() > 3, "{keys:?}");
}
