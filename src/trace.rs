//! The trace that a task belongs to, as W3C Trace Context has it: taken up from the operator, and passed on with every request.

use serde::{Deserialize, Serialize};

/// The longest `tracestate` that is passed on, in bytes (the specification asks for at least this much).
const STATE_LIMIT: usize = 512;

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
    fn it_survives_the_journal() {
        let trace = Trace::parse(GOOD, None).unwrap();
        let json = serde_json::to_string(&trace).unwrap();
        assert_eq!(serde_json::from_str::<Trace>(&json).unwrap(), trace);
    }
}
