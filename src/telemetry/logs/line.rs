//! A line of the log: what was said, and where the task stood.

use std::error::Error;
use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::Context;
use crate::machine::Millis;
use crate::redact::Redactor;
use crate::telemetry::{rfc3339, system_clock};
use crate::text::cut;
use crate::trace::{SpanId, TraceId};

/// The longest message or field, in bytes: what is longer is a mistake, and a log is read by people.
const LENGTH: usize = 16 * 1024;

/// A line, redacted: what everybody gets who takes the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// When it was said.
    pub at: Millis,
    /// How much it matters.
    pub level: Level,
    /// Who said it: a module's path.
    pub target: String,
    /// The trace and the span that it belongs to, where there is a task.
    pub span: Option<(TraceId, SpanId)>,
    /// The whole of it as one JSON object, without an end of line.
    pub json: String,
}

/// What was said, not redacted yet.
pub(super) struct Draft {
    pub(super) at: Millis,
    pub(super) level: Level,
    pub(super) target: String,
    pub(super) message: String,
    pub(super) fields: Vec<(&'static str, Value)>,
}

impl Draft {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut draft = Self {
            at: system_clock(),
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut draft);
        draft
    }

    fn take(&mut self, field: &Field, value: Value) {
        let value = match value {
            Value::String(text) => Value::String(cut(&text, LENGTH)),
            short @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => short,
        };
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            // What other libraries say by the `log` crate: who said it is a field there, and where is of no use here.
            ("log.target", Value::String(target)) => self.target = target,
            ("log.module_path" | "log.file" | "log.line", _) => {}
            (name, value) => self.fields.push((name, value)),
        }
    }

    /// The line, with what is known of the task. What the event says itself counts.
    pub(super) fn finished(self, context: Option<&Context>, redactor: &Redactor) -> Line {
        let mut json = String::with_capacity(512);
        let mut field = |name: &str, value: &Value| {
            json.push(if json.is_empty() { '{' } else { ',' });
            json.push_str(&Value::from(name).to_string());
            json.push(':');
            json.push_str(&value.to_string());
        };
        field("timestamp", &rfc3339(self.at).into());
        field("level", &self.level.as_str().into());
        field("message", &self.message.into());
        for (name, value) in context.map(Context::fields).unwrap_or_default() {
            if !self.fields.iter().any(|(own, _)| *own == name) {
                field(name, &value);
            }
        }
        for (name, value) in &self.fields {
            field(name, value);
        }
        field("target", &self.target.as_str().into());
        json.push('}');
        Line {
            at: self.at,
            level: self.level,
            span: context.and_then(Context::span),
            target: self.target,
            json: escaped(redactor.clean(json)),
        }
    }
}

/// JSON's own escapes leave these out, and a terminal may act on them.
fn escaped(text: String) -> String {
    ('\u{7f}'..='\u{9f}').fold(text, |text, c| {
        if text.contains(c) {
            text.replace(c, &format!("\\u{:04x}", u32::from(c)))
        } else {
            text
        }
    })
}

impl Visit for Draft {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.take(field, value.to_string().into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::secret::Secret;

    fn draft(message: &str, fields: Vec<(&'static str, Value)>) -> Draft {
        Draft {
            at: 1_764_234_001_113,
            level: Level::WARN,
            target: "runner::steps".to_owned(),
            message: message.to_owned(),
            fields,
        }
    }

    #[test]
    fn a_line_is_one_json_object_whatever_is_in_it_and_an_events_own_field_counts() {
        let hostile = "a\nb\u{1b}[2J\u{9b}\"}";
        let context = Context::example();
        let line = draft(hostile, vec![("attempt", 2.into()), ("state", hostile.into())]);
        let line = line.finished(Some(&context), &Redactor::new());
        assert!(!line.json.contains(['\n', '\u{1b}', '\u{9b}']), "{}", line.json);
        let read: Value = serde_json::from_str(&line.json).unwrap();
        assert_eq!(read["message"], hostile);
        assert_eq!(
            (&read["level"], &read["timestamp"]),
            (&"WARN".into(), &"2025-11-27T09:00:01.113Z".into())
        );
        assert_eq!((&read["state"], &read["attempt"]), (&hostile.into(), &2.into()));
        assert_eq!(
            (&read["task"], &read["boot"], &read["seq"]),
            (&"t-1".into(), &2.into(), &7.into())
        );
        assert_eq!(read["head"], "ab".repeat(32));
        let (trace, span) = line.span.unwrap();
        assert_eq!(
            (&read["trace_id"], &read["span_id"]),
            (&trace.to_string().into(), &span.to_string().into())
        );
        assert_eq!(line.json.matches("\"state\"").count(), 1, "{}", line.json);
    }

    /// Keeps what is said.
    #[derive(Clone, Default)]
    struct Ear(Arc<Mutex<Vec<Draft>>>);

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Ear {
        fn on_event(&self, event: &Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            self.0.lock().unwrap().push(Draft::of(event));
        }
    }

    fn said(say: impl FnOnce()) -> Draft {
        let ear = Ear::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(ear.clone()), say);
        ear.0.lock().unwrap().remove(0)
    }

    #[test]
    fn what_is_said_is_taken_with_each_field_as_what_it_is() {
        let absent: Option<&str> = None;
        let line = said(|| tracing::warn!(count = 3, yes = true, text = "a", shown = %"b", absent, "said {}", 1));
        assert_eq!((line.level, line.message.as_str()), (Level::WARN, "said 1"));
        assert_eq!(line.target, "runner::telemetry::logs::line::tests");
        assert_eq!(
            line.fields,
            [
                ("count", 3.into()),
                ("yes", true.into()),
                ("text", "a".into()),
                ("shown", "b".into())
            ]
        );
    }

    #[test]
    fn a_line_is_redacted_as_a_whole_and_bounded() {
        let redactor = Redactor::new();
        redactor.add(&Secret::new("ghs_canary0123"));
        let long = "y".repeat(100_000);
        let line = said(|| tracing::warn!(url = "x?ghs_canary0123", long, "with ghs_canary0123, {long}"));
        let line = line.finished(None, &redactor);
        assert!(!line.json.contains("canary"), "{}", &line.json[..200]);
        assert!(line.json.len() < 2 * LENGTH + 1_000);
        assert_eq!(line.span, None);
    }
}
