//! The listener of the real binary, answer by answer.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use runner::embedded::faults::{Endpoint, Fault, Times};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::file::File;
use crate::harness::{Bench, NEVER, Outside, Serving, WAITING_AGENT, client};

/// What it takes more than a request to be answered, and where that is shown.
///
/// - 503: `a_journal_that_cannot_be_written_is_a_503_and_the_process_ends_to_be_started_again`,
///   `an_answer_has_thirty_seconds_and_then_it_is_a_503`.
/// - 500: nowhere, since metrics are written to memory.
const ELSEWHERE: [&str; 2] = ["POST /task 503", "GET /metrics 500"];

/// Who asks, and which answers were seen.
struct Asker {
    file: File,
    address: String,
    seen: BTreeSet<String>,
}

impl Asker {
    async fn at(serving: &Serving) -> Self {
        Self {
            file: File::read(),
            address: serving.address().await.unwrap(),
            seen: BTreeSet::new(),
        }
    }

    async fn get(&mut self, path: &str) -> Value {
        let request = client().get(format!("{}{path}", self.address));
        self.ask("GET", path, request, 200).await
    }

    async fn post(&mut self, body: impl Into<reqwest::Body>, status: u16) -> Value {
        let request = self.task().header("content-type", "application/json").body(body);
        self.ask("POST", "/task", request, status).await
    }

    fn task(&self) -> reqwest::RequestBuilder {
        client().post(format!("{}/task", self.address))
    }

    /// Sends it, and holds the answer against the file.
    async fn ask(&mut self, method: &str, path: &str, request: reqwest::RequestBuilder, status: u16) -> Value {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        let operations = self.file.operations("listener");
        let operation = operations
            .iter()
            .find(|operation| (operation.method.as_str(), operation.path.as_str()) == (method, path))
            .unwrap();
        let (key, shown) = operation.response(status);
        for name in shown["headers"].as_object().into_iter().flatten().map(|(name, _)| name) {
            assert!(response.headers().contains_key(name), "{path} {status}: {name}");
        }
        self.seen.insert(format!("{method} {path} {key}"));
        let media = response.headers().get("content-type").cloned();
        let text = response.text().await.unwrap();
        let Some((schema, shown)) = operation.answer(status) else {
            assert!(text.is_empty(), "{path} {status}: {text}");
            return Value::Null;
        };
        let media = media.expect("a body has a type").to_str().unwrap().to_owned();
        assert!(media.starts_with(&shown), "{path} {status}: {media}, and not {shown}");
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        self.file.holds(&schema, &body);
        body
    }
}

/// The answer to a request whose body is announced, and never comes.
async fn never_sends_its_body(address: String) -> (u16, Value) {
    let host = address.trim_start_matches("http://");
    let mut line = TcpStream::connect(host).await.unwrap();
    let head =
        format!("POST /task HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n");
    line.write_all(head.as_bytes()).await.unwrap();
    let mut answered = String::new();
    let read = tokio::time::timeout(NEVER, line.read_to_string(&mut answered));
    read.await.expect("an answer, and the end of the connection").unwrap();
    let (head, body) = answered.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_of_the_listener_is_as_the_file_has_it_and_each_of_the_file_was_seen() {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside)
        .with("RUNNER_TASK_TOKEN", "open-sesame")
        .with("RUNNER_AGENT_COMMAND", WAITING_AGENT);
    let guarded = bench.start();
    let mut asker = Asker::at(&guarded).await;
    let unauthorized = asker.task().body("{}");
    asker.ask("POST", "/task", unauthorized, 401).await;
    let mut seen = asker.seen;
    drop(guarded);

    let bench = Bench::new(&outside)
        .with("RUNNER_API_ALLOW", "127.0.0.1")
        .with("RUNNER_AGENT_COMMAND", &format!("{WAITING_AGENT}; exit 1"));
    let mut serving = bench.start();
    let mut asker = Asker::at(&serving).await;
    assert_eq!(asker.get("/healthz").await, json!("ok"));
    let idle = asker.get("/status").await;
    let slow = tokio::spawn(never_sends_its_body(asker.address.clone()));
    let long = asker.task().header("x-long", "x".repeat(20 * 1024)).body("{}");
    asker.ask("POST", "/task", long, 431).await;
    let plain = asker.task().header("content-type", "text/plain").body("{}");
    asker.ask("POST", "/task", plain, 415).await;
    asker.post("{}", 400).await;
    asker.post(" ".repeat(64 * 1024 + 1), 413).await;
    let elsewhere = json!({"taskID": "t-1", "apiURL": "http://elsewhere.example"});
    asker.post(elsewhere.to_string(), 403).await;
    asker
        .file
        .holds("Assignment", &serde_json::from_str(&outside.assignment()).unwrap());
    asker.post(outside.assignment(), 200).await;
    let other = outside.assignment().replace("t-1", "t-2");
    asker.post(other, 409).await;
    bench.agent_is_there(&serving).await;
    let at_work = asker.get("/status").await;
    asker.get("/metrics").await;
    assert_ne!(idle, at_work);

    // A verdict that nobody takes stays for all to see.
    outside
        .faults
        .inject(Endpoint::Verdict, Fault::Status(503), Times::Always);
    let (status, body) = slow.await.unwrap();
    asker.file.holds("Refused", &body);
    seen.insert(format!("POST /task {status}"));
    bench.let_the_agent_go();
    serving.line_with("\"message\":\"report\"").await.expect("it reports");
    let failed = asker.get("/status").await;
    assert_eq!(failed["verdict"]["event"], "failed", "{failed}");
    assert_eq!(failed["verdict"]["acknowledged"], false);
    serving.signal(Signal::SIGKILL);
    serving.wait().await;

    seen.append(&mut asker.seen);
    seen.extend(ELSEWHERE.map(str::to_owned));
    let shown: BTreeSet<String> = asker
        .file
        .operations("listener")
        .iter()
        .flat_map(|operation| {
            let of = |status| format!("{} {} {status}", operation.method, operation.path);
            operation.statuses.iter().map(of).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(seen, shown, "seen, then the file");
}
