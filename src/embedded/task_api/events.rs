//! The body of `POST /events`, held against the contract to the letter.

use axum::http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{StatusRefused, is_json};

/// What came in one request, in order. Each event stays as it came; its sequence stands beside it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) events: Vec<(u64, Value)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    events: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    sequence: u64,
    timestamp: String,
    #[serde(rename = "type")]
    _kind: Kind,
    summary: String,
    #[serde(default, rename = "tool")]
    _tool: Option<String>,
    #[serde(default, rename = "input")]
    _input: Option<Map<String, Value>>,
    #[serde(default, rename = "output")]
    _output: Option<Output>,
    #[serde(default, rename = "metadata")]
    _metadata: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Thinking,
    ToolCall,
    ToolResult,
    Error,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    #[serde(rename = "success")]
    _success: bool,
    #[serde(default, rename = "summary")]
    _summary: Option<String>,
}

impl Batch {
    pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, StatusRefused> {
        if !is_json(headers) {
            return Err(StatusRefused::NotJsonType);
        }
        let malformed = |error: serde_json::Error| StatusRefused::Malformed(error.to_string());
        let body: Body = serde_json::from_slice(body).map_err(malformed)?;
        if body.events.is_empty() {
            return Err(StatusRefused::Malformed("there is no event".to_owned()));
        }
        let mut events = Vec::with_capacity(body.events.len());
        let mut last = 0;
        for value in body.events {
            let event = Event::deserialize(&value).map_err(malformed)?;
            if let Some(why) = event.fault(last) {
                return Err(StatusRefused::Malformed(format!("event {}: {why}", event.sequence)));
            }
            last = event.sequence;
            events.push((event.sequence, value));
        }
        Ok(Self { events })
    }

    /// The first sequence; 0 for none.
    pub(super) fn first(&self) -> u64 {
        self.events.first().map_or(0, |(sequence, _)| *sequence)
    }

    /// The last sequence; 0 for none.
    pub(super) fn last(&self) -> u64 {
        self.events.last().map_or(0, |(sequence, _)| *sequence)
    }
}

impl Event {
    /// What is wrong with it, beside its shape.
    fn fault(&self, last: u64) -> Option<&'static str> {
        if self.sequence <= last {
            Some("the sequence is not above 0 and the one before")
        } else if self.summary.trim().is_empty() {
            Some("the summary is empty")
        } else if self.timestamp.parse::<Timestamp>().is_err() {
            Some("the timestamp is not RFC 3339")
        } else {
            None
        }
    }
}
