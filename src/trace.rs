//! The trace that a task belongs to, as W3C Trace Context has it: taken up from the operator, and passed on with every request.

use std::fmt;

use serde::{Deserialize, Serialize};

mod sampler;
mod task;

pub use sampler::{Root, Sampler, Sampling};
pub use task::TaskTrace;

/// The longest `tracestate` that is passed on, in bytes (the specification asks for at least this much).
const STATE_LIMIT: usize = 512;

/// The name of a trace: 16 bytes, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// The name of a span within its trace: 8 bytes, written as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(pub [u8; 8]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A trace context. Only one that is well formed exists: anything else is as if there were none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Trace {
    parent: String,
    state: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    traceparent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracestate: Option<String>,
}

impl Trace {
    /// Takes the two headers' values; none where the first is not a `traceparent`.
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        let printable = |text: &&str| text.len() <= STATE_LIMIT && text.bytes().all(|b| (b' '..=b'~').contains(&b));
        is_traceparent(parent).then(|| Self {
            parent: parent.to_owned(),
            state: state
                .filter(printable)
                .filter(|text| !text.is_empty())
                .map(str::to_owned),
        })
    }

    /// A span of a trace, as what it starts is to be told of it.
    pub fn of_span(trace: TraceId, span: SpanId, flags: u8, state: Option<&str>) -> Self {
        Self {
            parent: format!("00-{trace}-{span}-{flags:02x}"),
            state: state.map(str::to_owned),
        }
    }

    /// Which trace.
    pub fn trace_id(&self) -> TraceId {
        TraceId(self.digits(3))
    }

    /// Which of its spans.
    pub fn span_id(&self) -> SpanId {
        SpanId(self.digits(36))
    }

    /// Bit 0: it is recorded. Bit 1: its id is random. The others are for later versions.
    pub fn flags(&self) -> u8 {
        let [flags] = self.digits(53);
        flags
    }

    /// The bytes whose digits begin here: a `traceparent` has its fields at fixed places.
    fn digits<const N: usize>(&self, from: usize) -> [u8; N] {
        let mut bytes = [0; N];
        let digits = self.parent.get(from..from + 2 * N).unwrap_or_default();
        // It was parsed as one.
        let _ = hex::decode_to_slice(digits, &mut bytes);
        bytes
    }

    /// The environment of a program that works in this span: what OpenTelemetry's tools look for.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let state = self.state().map(|state| ("TRACESTATE", state));
        std::iter::once(("TRACEPARENT", self.parent())).chain(state)
    }

    /// The value of `traceparent`.
    pub fn parent(&self) -> &str {
        &self.parent
    }

    /// The value of `tracestate`.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

impl TryFrom<Wire> for Trace {
    type Error = &'static str;
    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        Self::parse(&wire.traceparent, wire.tracestate.as_deref()).ok_or("not a traceparent")
    }
}

impl From<Trace> for Wire {
    fn from(trace: Trace) -> Self {
        Self {
            traceparent: trace.parent,
            tracestate: trace.state,
        }
    }
}

/// `VERSION-TRACE-PARENT-FLAGS`: 2, 32, 16 and 2 lower-case hexadecimal digits; version `ff` and ids of zeros are not allowed.
fn is_traceparent(text: &str) -> bool {
    let fields: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags, more @ ..] = fields.as_slice() else {
        return false;
    };
    let hex = |field: &str, length: usize| {
        field.len() == length && field.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zeros = |field: &str| field.bytes().all(|b| b == b'0');
    // A later version may have more fields; version 00 has none.
    let fits = more.is_empty() || *version != "00";
    hex(version, 2)
        && *version != "ff"
        && hex(trace, 32)
        && hex(parent, 16)
        && hex(flags, 2)
        && fits
        && !zeros(trace)
        && !zeros(parent)
        && text.len() <= STATE_LIMIT
        && text.is_ascii()
        && more.iter().all(|field| field.bytes().all(|b| b.is_ascii_graphic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_a_well_formed_context_is_passed_on() {
        let trace = Trace::parse(GOOD, Some("a=b")).unwrap();
        assert_eq!((trace.parent(), trace.state()), (GOOD, Some("a=b")));
        assert!(Trace::parse(&GOOD.replacen("00", "01", 1), None).is_some());
        assert_eq!(Trace::parse(GOOD, Some("a=\nb")).unwrap().state(), None);
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-\r\n",
        ] {
            assert_eq!(Trace::parse(bad, None), None, "{bad:?}");
        }
    }

    #[test]
    fn its_fields_are_read_where_they_stand_and_what_is_made_of_them_is_well_formed() {
        let trace = Trace::parse(GOOD, Some("a=b")).unwrap();
        assert_eq!(trace.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.span_id().to_string(), "00f067aa0ba902b7");
        assert_eq!(trace.flags(), 1);
        let child = Trace::of_span(trace.trace_id(), SpanId([0xab; 8]), 3, trace.state());
        assert_eq!(
            child.parent(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-abababababababab-03"
        );
        assert_eq!(Trace::parse(child.parent(), child.state()), Some(child.clone()));
        let variables: Vec<_> = child.variables().collect();
        assert_eq!(variables, [("TRACEPARENT", child.parent()), ("TRACESTATE", "a=b")]);
    }

    #[test]
    fn it_survives_the_journal() {
        let trace = Trace::parse(GOOD, None).unwrap();
        let json = serde_json::to_string(&trace).unwrap();
        assert_eq!(serde_json::from_str::<Trace>(&json).unwrap(), trace);
    }
}
