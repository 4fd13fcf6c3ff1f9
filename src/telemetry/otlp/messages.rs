//! Spans and log lines as OTLP's messages.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValueKind;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as Message, Status as SpanStatus};
use tracing::Level;

use crate::machine::Millis;
use crate::telemetry::logs::Line;
use crate::telemetry::spans::{Parent, Span, Status, Value};

/// The version of the names that the attributes have.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";
/// `SpanFlags`: the low 8 bits are the trace's; these two say that it is known whether the parent is in another process.
const SAMPLED: u32 = 0x001;
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// An attribute, as OTLP has it.
pub(in crate::telemetry) fn attribute(name: impl Into<String>, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => AnyValueKind::StringValue(text),
        Value::Int(number) => AnyValueKind::IntValue(number),
        Value::Double(number) => AnyValueKind::DoubleValue(number),
        Value::Bool(yes) => AnyValueKind::BoolValue(yes),
    };
    KeyValue {
        key: name.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// Whose code tells: this program.
pub fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "runner".to_owned(),
        version: crate::VERSION.to_owned(),
        ..InstrumentationScope::default()
    }
}

/// A request that tells of spans.
pub(super) fn spans(resource: &Resource, spans: &[Span]) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope()),
                spans: spans.iter().map(span).collect(),
                schema_url: SCHEMA.to_owned(),
            }],
            schema_url: SCHEMA.to_owned(),
        }],
    }
}

fn span(span: &Span) -> Message {
    let (parent, remote) = match span.parent {
        Parent::None => (Vec::new(), 0),
        Parent::Own(id) => (id.0.to_vec(), 0),
        Parent::Remote(id) => (id.0.to_vec(), IS_REMOTE),
    };
    let kind = match span.parent {
        // Somebody asked for the task; within it there is nobody to ask.
        Parent::Remote(_) => SpanKind::Server,
        Parent::None | Parent::Own(_) => SpanKind::Internal,
    };
    Message {
        trace_id: span.trace.0.to_vec(),
        span_id: span.id.0.to_vec(),
        trace_state: span.state.clone().unwrap_or_default(),
        parent_span_id: parent,
        flags: SAMPLED | HAS_IS_REMOTE | remote,
        name: span.name.clone(),
        kind: kind.into(),
        start_time_unix_nano: nanos(span.start),
        end_time_unix_nano: nanos(span.end),
        attributes: attributes(&span.attributes),
        dropped_attributes_count: 0,
        events: span
            .occurrences
            .iter()
            .map(|occurrence| Event {
                time_unix_nano: nanos(occurrence.at),
                name: occurrence.name.to_owned(),
                attributes: attributes(&occurrence.attributes),
                dropped_attributes_count: 0,
            })
            .collect(),
        dropped_events_count: span.more_occurrences,
        links: span
            .links
            .iter()
            .map(|id| Link {
                trace_id: span.trace.0.to_vec(),
                span_id: id.0.to_vec(),
                flags: SAMPLED | HAS_IS_REMOTE,
                ..Link::default()
            })
            .collect(),
        dropped_links_count: 0,
        status: match &span.status {
            Status::Unset => None,
            Status::Error(cause) => Some(SpanStatus {
                message: cause.clone(),
                code: StatusCode::Error.into(),
            }),
        },
    }
}

fn attributes(all: &[(&'static str, Value)]) -> Vec<KeyValue> {
    all.iter()
        .map(|(name, value)| attribute(*name, value.clone()))
        .collect()
}

/// Nanoseconds since the Unix epoch; nothing was before it.
pub(in crate::telemetry) fn nanos(at: Millis) -> u64 {
    u64::try_from(at).unwrap_or_default().saturating_mul(1_000_000)
}

/// A request that tells of lines of the log.
pub(super) fn records(resource: &Resource, lines: &[Line]) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource.clone()),
            scope_logs: vec![ScopeLogs {
                scope: Some(scope()),
                log_records: lines.iter().map(record).collect(),
                schema_url: SCHEMA.to_owned(),
            }],
            schema_url: SCHEMA.to_owned(),
        }],
    }
}

/// What a line of standard error says, taken apart again: nothing gets here that was not redacted there.
fn record(line: &Line) -> LogRecord {
    let severity = match line.level {
        Level::TRACE => SeverityNumber::Trace,
        Level::DEBUG => SeverityNumber::Debug,
        Level::INFO => SeverityNumber::Info,
        Level::WARN => SeverityNumber::Warn,
        Level::ERROR => SeverityNumber::Error,
    };
    let (mut body, mut fields) = (line.json.clone(), Vec::new());
    // One that redaction left as no JSON goes as it is.
    if let Ok(serde_json::Value::Object(said)) = serde_json::from_str(&line.json) {
        for (name, value) in said {
            match (name.as_str(), value) {
                ("message", serde_json::Value::String(text)) => body = text,
                // These have a place of their own.
                ("timestamp" | "level" | "trace_id" | "span_id", _) => {}
                (_, value) => fields.push(attribute(field_name(name), scalar(value))),
            }
        }
    }
    let (trace, span) = line
        .span
        .map(|(trace, span)| (trace.0.to_vec(), span.0.to_vec()))
        .unwrap_or_default();
    LogRecord {
        time_unix_nano: nanos(line.at),
        observed_time_unix_nano: nanos(line.at),
        severity_number: severity.into(),
        severity_text: line.level.to_string(),
        body: attribute("", Value::Text(body)).value,
        attributes: fields,
        flags: u32::from(line.span.is_some()) * SAMPLED,
        trace_id: trace,
        span_id: span,
        ..LogRecord::default()
    }
}

/// Our own fields have our name before them, as on spans.
fn field_name(name: String) -> String {
    match name.as_str() {
        "target" => "code.namespace".to_owned(),
        "task" => "cicd.pipeline.run.id".to_owned(),
        "effect" => "cicd.pipeline.task.name".to_owned(),
        _ if name.contains('.') => name,
        _ => format!("runner.{name}"),
    }
}

fn scalar(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Bool(yes) => Value::Bool(yes),
        serde_json::Value::String(text) => Value::Text(text),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Double(number.as_f64().unwrap_or_default()),
        },
        other @ (serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_)) => {
            Value::Text(other.to_string())
        }
    }
}
