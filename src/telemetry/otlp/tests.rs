use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceRequest};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::delivery::{Delivery, Tally};
use super::sent::Sent;
use super::*;
use crate::adapters::hostile::{RawServer, Script, nobody_there};
use crate::telemetry::logs::Line;
use crate::telemetry::spans::{Parent, Span, Status, Value};
use crate::trace::{SpanId, TraceId};

fn otlp(env: &[(&str, &str)]) -> Arc<Otlp> {
    let lookup = |name: &str| {
        let found = env.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| OsString::from(value))
    };
    Arc::new(Otlp::from_env(lookup, None, &Redactor::new()).unwrap().unwrap())
}

fn at(base: &str) -> Arc<Otlp> {
    otlp(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", base),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
    ])
}

fn span(seq: u64) -> Span {
    Span {
        trace: TraceId([1; 16]),
        id: SpanId(seq.to_be_bytes()),
        task: SpanId([9; 8]),
        parent: Parent::Remote(SpanId([2; 8])),
        state: Some("vendor=1".to_owned()),
        name: "clone".to_owned(),
        start: 1_000,
        end: 2_000,
        attributes: vec![("runner.attempt", Value::Int(3))],
        occurrences: Vec::new(),
        more_occurrences: 0,
        links: vec![SpanId([3; 8])],
        status: Status::Error("it failed".to_owned()),
        seq,
    }
}

fn request(spans: &[Span]) -> ExportTraceServiceRequest {
    messages::spans(&Resource::default(), spans)
}

/// A collector that keeps what it gets: path, headers, body.
async fn collector() -> (String, mpsc::UnboundedReceiver<(HeaderMap, Bytes)>) {
    let (tell, told) = mpsc::unbounded_channel();
    let take = post(move |headers: HeaderMap, body: Bytes| async move { drop(tell.send((headers, body))) });
    let routes = Router::new().route("/v1/traces", take.clone()).route("/v1/logs", take);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (base, told)
}

#[tokio::test]
async fn what_is_sent_is_what_the_protocol_has_in_each_encoding() {
    for (protocol, compression) in [
        ("http/protobuf", "none"),
        ("http/protobuf", "gzip"),
        ("http/json", "none"),
        ("http/json", "gzip"),
    ] {
        let (base, mut told) = collector().await;
        let otlp = otlp(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &base),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", compression),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b"),
        ]);
        let sent = request(&[span(1)]);
        otlp.post(Signal::Traces, &sent).await.unwrap();
        let (headers, body) = told.recv().await.unwrap();
        assert_eq!(headers["x-tenant"], "a b");
        assert_eq!(headers["user-agent"], http::USER_AGENT);
        let mut plain = Vec::new();
        if headers
            .get("content-encoding")
            .is_some_and(|encoding| encoding == "gzip")
        {
            GzDecoder::new(body.as_ref()).read_to_end(&mut plain).unwrap();
        } else {
            plain = body.to_vec();
        }
        assert_eq!(headers.contains_key("content-encoding"), compression == "gzip");
        let got: ExportTraceServiceRequest = if protocol == "http/json" {
            assert_eq!(headers["content-type"], "application/json");
            let text = String::from_utf8(plain.clone()).unwrap();
            assert!(text.contains(&format!("\"traceId\":\"{}\"", "01".repeat(16))), "{text}");
            serde_json::from_slice(&plain).unwrap()
        } else {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            ExportTraceServiceRequest::decode(plain.as_slice()).unwrap()
        };
        assert_eq!(got, sent);
    }
}

#[test]
fn a_span_says_who_its_parent_is_what_it_goes_on_from_and_that_it_failed() {
    let message = request(&[span(7)])
        .resource_spans
        .remove(0)
        .scope_spans
        .remove(0)
        .spans
        .remove(0);
    assert_eq!(message.parent_span_id, [2; 8]);
    assert_eq!(message.flags, 0x301, "sampled, and the parent is known to be another's");
    assert_eq!(message.kind, 2, "a server's: somebody asked for it");
    assert_eq!(message.links[0].span_id, [3; 8]);
    assert_eq!(
        (message.start_time_unix_nano, message.end_time_unix_nano),
        (1_000_000_000, 2_000_000_000)
    );
    assert_eq!(message.status.unwrap().code, 2);
    assert_eq!(message.trace_state, "vendor=1");
}

fn again(error: &PostError) -> bool {
    matches!(error, PostError::Again { .. })
}

#[tokio::test]
async fn what_an_answer_means_is_what_the_protocol_says() {
    for (status, may_be_sent_again) in [
        ("400 Bad Request", false),
        ("401 Unauthorized", false),
        ("404 Not Found", false),
        ("429 Too Many Requests", true),
        ("500 Internal Server Error", false),
        ("502 Bad Gateway", true),
        ("503 Service Unavailable", true),
        ("504 Gateway Timeout", true),
    ] {
        let server = RawServer::answering(status, "", "\u{1b}[2Jwords").await;
        let error = at(&server.base)
            .post(Signal::Traces, &request(&[span(1)]))
            .await
            .unwrap_err();
        assert_eq!(again(&error), may_be_sent_again, "{status}: {error}");
        let text = error.to_string();
        assert!(
            text.contains(&status[..3]) && text.contains("words") && !text.contains('\u{1b}'),
            "{text}"
        );
    }
    let error = at(&nobody_there().await)
        .post(Signal::Traces, &request(&[span(1)]))
        .await
        .unwrap_err();
    assert!(again(&error), "{error}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_error_says_so() {
    let elsewhere = RawServer::answering("200 OK", "", "").await;
    let headers = format!("Location: {}/v1/traces\r\n", elsewhere.base);
    let server = RawServer::answering("307 Temporary Redirect", &headers, "").await;
    let error = at(&server.base)
        .post(Signal::Traces, &request(&[span(1)]))
        .await
        .unwrap_err();
    assert!(
        !again(&error) && error.to_string().contains("redirects are not followed"),
        "{error}"
    );
    assert_eq!(elsewhere.requests().len(), 0);
}

#[tokio::test]
async fn a_huge_retry_after_is_cut_and_an_endless_or_absent_answer_is_waited_for_no_longer_than_the_time_out() {
    let server = RawServer::answering("503 Service Unavailable", "Retry-After: 99999999\r\n", "").await;
    let error = at(&server.base)
        .post(Signal::Traces, &request(&[span(1)]))
        .await
        .unwrap_err();
    let PostError::Again { after: Some(after), .. } = error else {
        panic!("{error}")
    };
    assert_eq!(after, http::RETRY_AFTER_LIMIT);
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let endless = RawServer::start(Script::Endless(
        head,
        b"1000\r\n"
            .iter()
            .copied()
            .chain([b'x'; 0x1000])
            .chain(*b"\r\n")
            .collect(),
    ))
    .await;
    let begun = Instant::now();
    let taken = at(&endless.base).post(Signal::Traces, &request(&[span(1)])).await;
    assert_eq!(
        taken,
        Ok(Taken { rejected: 0 }),
        "it said that it has taken it, and more is not read"
    );
    let silent = RawServer::start(Script::Silence).await;
    let error = at(&silent.base)
        .post(Signal::Traces, &request(&[span(1)]))
        .await
        .unwrap_err();
    assert!(again(&error), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn what_was_not_wanted_is_counted_in_both_encodings() {
    let answer = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans: 3,
            error_message: "no".to_owned(),
        }),
    };
    assert_eq!(rejected(Encoding::Protobuf, &answer.encode_to_vec()), 3);
    assert_eq!(
        rejected(Encoding::Json, br#"{"partialSuccess":{"rejectedLogRecords":"4"}}"#),
        4
    );
    assert_eq!(rejected(Encoding::Json, b"{}"), 0);
    for garbage in [&b"\xff\xff\xff"[..], b"<html>"] {
        assert_eq!(rejected(Encoding::Protobuf, garbage), 0);
        assert_eq!(rejected(Encoding::Json, garbage), 0);
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[tokio::test]
async fn what_is_handed_in_arrives_in_order_and_the_mark_moves_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (base, mut told) = collector().await;
    let delivery = Delivery::start(at(&base), Some(Sent::in_dir(dir.path())));
    (1..=3).for_each(|seq| delivery.intake().push(span(seq)));
    let tally = delivery.close(soon()).await;
    assert_eq!(tally, Tally { sent: 3, dropped: 0 });
    let mut ids = Vec::new();
    while let Ok((_, body)) = told.try_recv() {
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        ids.extend(
            request.resource_spans[0].scope_spans[0]
                .spans
                .iter()
                .map(|span| span.span_id[7]),
        );
    }
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(Sent::in_dir(dir.path()).read(SpanId([9; 8])), 3);
}

#[tokio::test]
async fn what_a_collector_was_away_for_is_the_next_starts_and_the_end_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    for base in [
        nobody_there().await,
        RawServer::start(Script::Silence).await.base.clone(),
    ] {
        let otlp = otlp(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &base), ("OTEL_BSP_SCHEDULE_DELAY", "1")]);
        let delivery = Delivery::start(otlp, Some(Sent::in_dir(dir.path())));
        (1..=5).for_each(|seq| delivery.intake().push(span(seq)));
        let begun = Instant::now();
        let tally = delivery.close(begun + Duration::from_secs(1)).await;
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        assert_eq!(tally.sent, 0);
        assert_eq!(
            Sent::in_dir(dir.path()).read(SpanId([9; 8])),
            0,
            "they are still to be sent"
        );
    }
}

#[tokio::test]
async fn what_is_refused_is_not_sent_again_and_counts_as_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let server = RawServer::answering("400 Bad Request", "", "").await;
    let delivery = Delivery::start(at(&server.base), Some(Sent::in_dir(dir.path())));
    (1..=2).for_each(|seq| delivery.intake().push(span(seq)));
    assert_eq!(delivery.close(soon()).await, Tally { sent: 0, dropped: 2 });
    assert_eq!(server.requests().len(), 1);
    assert_eq!(
        Sent::in_dir(dir.path()).read(SpanId([9; 8])),
        2,
        "nor by the next start"
    );
}

#[tokio::test]
async fn a_flood_before_a_silent_collector_stays_within_the_queue_and_pushing_never_waits() {
    let server = RawServer::start(Script::Silence).await;
    let otlp = otlp(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &server.base),
        ("OTEL_BLRP_SCHEDULE_DELAY", "1"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "10"),
    ]);
    let delivery = Delivery::start(otlp, None);
    let intake = delivery.intake();
    let begun = Instant::now();
    for _ in 0..50_000 {
        intake.push(Line {
            at: 0,
            level: tracing::Level::INFO,
            target: "runner".to_owned(),
            span: None,
            json: "{}".to_owned(),
        });
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let tally = delivery.close(Instant::now()).await;
    assert_eq!(tally.sent, 0);
    assert_eq!(
        tally.dropped, 50_000,
        "what waits at the end, and what is under way, counts with the rest"
    );
}

#[tokio::test]
async fn a_collector_that_comes_back_gets_what_was_kept() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let busy = Arc::new(AtomicBool::new(true));
    let take = post(move |body: Bytes| async move {
        drop(tell.send(body));
        if busy.swap(false, Ordering::SeqCst) {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().route("/v1/traces", take);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let delivery = Delivery::start(at(&base), None);
    delivery.intake().push(span(1));
    let mut next = async || {
        let told = tokio::time::timeout(Duration::from_secs(20), told.recv()).await;
        told.unwrap().unwrap()
    };
    let first = next().await;
    // What came in the meantime waits its turn.
    delivery.intake().push(span(2));
    assert_eq!(next().await, first);
    assert_eq!(delivery.close(soon()).await, Tally { sent: 2, dropped: 0 });
}

#[test]
fn a_line_is_a_record_with_its_severity_its_span_and_its_fields() {
    let line = Line {
        at: 5,
        level: tracing::Level::WARN,
        target: "runner::steps".to_owned(),
        span: Some((TraceId([1; 16]), SpanId([2; 8]))),
        json: r#"{"timestamp":"x","level":"WARN","message":"said","task":"t-1","boot":2,"trace_id":"x","target":"runner::steps"}"#
            .to_owned(),
    };
    let request: ExportLogsServiceRequest = messages::records(&Resource::default(), &[line]);
    let record = &request.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!((record.severity_number, record.severity_text.as_str()), (13, "WARN"));
    assert_eq!(
        (record.trace_id.as_slice(), record.span_id.as_slice()),
        (&[1; 16][..], &[2; 8][..])
    );
    assert!(format!("{:?}", record.body).contains("\"said\""));
    let names: Vec<&str> = record.attributes.iter().map(|a| a.key.as_str()).collect();
    assert_eq!(names, ["runner.boot", "code.namespace", "cicd.pipeline.run.id"]);
}

#[test]
fn no_endpoint_is_no_otlp_at_all() {
    let none = Otlp::from_env(|_| None, None, &Redactor::new()).unwrap();
    assert!(none.is_none());
}
