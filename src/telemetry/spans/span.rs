//! A finished span, as it is sent.

use crate::machine::Millis;
use crate::trace::{SpanId, TraceId};

/// A span that has come to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Which trace.
    pub trace: TraceId,
    /// Its name in that.
    pub id: SpanId,
    /// The span of the task that it belongs to: a trace may have several tasks.
    pub task: SpanId,
    /// What it is a part of.
    pub parent: Parent,
    /// The trace's `tracestate`, as it came.
    pub state: Option<String>,
    /// What it is called: one of a few.
    pub name: String,
    /// When it began.
    pub start: Millis,
    /// When it ended; not before it began.
    pub end: Millis,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// What happened in it, in order.
    pub occurrences: Vec<Occurrence>,
    /// What happened besides, and is not in it.
    pub more_occurrences: u32,
    /// Spans of the same trace that it goes on from.
    pub links: Vec<SpanId>,
    /// How it ended.
    pub status: Status,
    /// The journal's row that finished it.
    pub seq: u64,
}

/// What a span is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// Nothing: the trace begins here.
    None,
    /// A span of this runner's.
    Own(SpanId),
    /// A span of somebody else.
    Remote(SpanId),
}

/// How a span ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// As it should, or there is nobody to say.
    Unset,
    /// Not as it should: why, for a person. Bounded.
    Error(String),
}

/// Something that happened within a span.
#[derive(Debug, Clone, PartialEq)]
pub struct Occurrence {
    /// What: one of a few.
    pub name: &'static str,
    /// When.
    pub at: Millis,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
}

/// What an attribute says.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Double(f64),
    /// Yes or no.
    Bool(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Int(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Int(number.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Double(number)
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Self::Bool(yes)
    }
}
