//! A real OTLP receiver, the Python package `oteltap`, which prints what it gets, an item a line.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::harness::{Bench, NEVER, Outside};

/// Names the directory that it was installed to (`pip install --target`).
const VARIABLE: &str = "RUNNER_TEST_OTELTAP";

pub(super) struct Tap {
    base: String,
    lines: Lines<BufReader<ChildStdout>>,
    received: Received,
    // Killed when dropped.
    _child: Child,
}

/// Everything that came so far, in order.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) spans: Vec<Span>,
    pub(super) logs: Vec<Record>,
    /// As OTLP's JSON has them.
    pub(super) metrics: Vec<Value>,
}

#[derive(Debug)]
pub(super) struct Span {
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) state: String,
    pub(super) name: String,
    pub(super) links: Vec<String>,
    pub(super) attributes: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) trace: String,
    pub(super) span: String,
    pub(super) severity: String,
    pub(super) body: String,
    pub(super) attributes: BTreeMap<String, String>,
}

impl Tap {
    /// None where no receiver is named, which is said.
    pub(super) async fn start() -> Option<Self> {
        let Some(root) = std::env::var_os(VARIABLE) else {
            eprintln!("not run: {VARIABLE} names no directory with an OTLP receiver in it (PyPI: oteltap)");
            return None;
        };
        // It takes no port 0. One that was free a moment ago may be another's by now.
        for _ in 0..5 {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let mut command = Command::new("python3");
            command
                .args(["-m", "oteltap", "--port", &port.to_string()])
                .env("PYTHONPATH", &root)
                .env("PYTHONUNBUFFERED", "1")
                .stdin(Stdio::null())
                .stdout(Stdio::piped());
            let mut child = tokio::process::Command::from(command)
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let first = tokio::time::timeout(NEVER, lines.next_line()).await.unwrap().unwrap();
            if first.is_some_and(|line| line.starts_with("Listening")) {
                return Some(Self {
                    base: format!("http://127.0.0.1:{port}"),
                    lines,
                    received: Received::default(),
                    _child: child,
                });
            }
        }
        panic!("the receiver does not start");
    }

    /// A runner that sends to it, and does not wait for more before it does.
    pub(super) fn bench(&self, outside: &Outside) -> Bench {
        Bench::new(outside)
            .with("OTEL_EXPORTER_OTLP_ENDPOINT", &self.base)
            .with("OTEL_METRICS_EXPORTER", "none")
            .with("OTEL_BSP_SCHEDULE_DELAY", "20")
            .with("OTEL_BLRP_SCHEDULE_DELAY", "20")
    }

    /// Reads on until this is there. What else a runner sent that has ended is in the pipe then, and is read as well.
    pub(super) async fn until(&mut self, there: impl Fn(&Received) -> bool) -> &Received {
        let reading = async {
            while !there(&self.received) {
                let line = self.lines.next_line().await.unwrap().expect("it prints on");
                self.received.take(&line);
            }
        };
        let came = tokio::time::timeout(NEVER, reading).await;
        assert!(came.is_ok(), "it never came: {:#?}", self.received);
        while let Ok(line) = tokio::time::timeout(Duration::from_millis(500), self.lines.next_line()).await {
            self.received.take(&line.unwrap().unwrap_or_default());
        }
        &self.received
    }
}

impl Received {
    /// The one span of this name whose attribute says this; none where there is none yet.
    pub(super) fn span(&self, name: &str, attribute: &str, value: &str) -> Option<&Span> {
        let has = |span: &&Span| span.attributes.get(attribute).is_some_and(|found| found == value);
        let found: Vec<&Span> = self.spans.iter().filter(|span| span.name == name).filter(has).collect();
        assert!(found.len() < 2, "{found:#?}");
        found.first().copied()
    }

    fn take(&mut self, line: &str) {
        let Ok(item) = serde_json::from_str::<Value>(line) else {
            return;
        };
        if ["gauge", "sum", "histogram"]
            .iter()
            .any(|data| item.get(data).is_some())
        {
            self.metrics.push(item);
            return;
        }
        let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        let attributes = item["attributes"].as_array().into_iter().flatten();
        let attributes = attributes
            .map(|attribute| {
                (
                    attribute["key"].as_str().unwrap().to_owned(),
                    plain(&attribute["value"]),
                )
            })
            .collect();
        if item.get("severityNumber").is_some() {
            self.logs.push(Record {
                trace: text("traceId"),
                span: text("spanId"),
                severity: text("severityText"),
                body: plain(&item["body"]),
                attributes,
            });
        } else if item.get("startTimeUnixNano").is_some() {
            let links = item["links"].as_array().into_iter().flatten();
            self.spans.push(Span {
                trace: text("traceId"),
                id: text("spanId"),
                parent: text("parentSpanId"),
                state: text("traceState"),
                name: text("name"),
                links: links.map(|link| link["spanId"].as_str().unwrap().to_owned()).collect(),
                attributes,
            });
        }
    }
}

/// `{"intValue": "3"}` is 3, and so on.
fn plain(value: &Value) -> String {
    let held = value.as_object().and_then(|object| object.values().next());
    match held {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}
