//! What the agent did, as `POST /events` says it (contract, section 2).

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use strum::IntoStaticStr;

use crate::adapters::agent::{Activity, ToolResult};
use crate::machine::Millis;
use crate::telemetry::rfc3339;

/// An event without its sequence, which it gets when it is sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Event {
    /// When it happened.
    #[serde(serialize_with = "as_rfc3339")]
    timestamp: Millis,
    #[serde(rename = "type")]
    pub(super) kind: Kind,
    /// Never empty.
    pub(super) summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub(super) enum Kind {
    Thinking,
    ToolCall,
    ToolResult,
    Error,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Output {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
}

impl Event {
    pub(super) fn of(activity: &Activity, at: Millis) -> Self {
        let plain = |kind, summary: String| Self {
            timestamp: at,
            kind,
            summary,
            tool: None,
            input: None,
            output: None,
        };
        match activity {
            Activity::Said(text) => plain(Kind::Thinking, or(text, "said nothing")),
            Activity::Tool { name, summary, input } => Self {
                tool: Some(or(name, "tool")),
                input: (!input.is_empty()).then(|| input.clone()),
                ..plain(Kind::ToolCall, or(summary, &or(name, "tool")))
            },
            Activity::ToolEnded { tool, result, summary } => {
                let tool = tool.as_ref().filter(|tool| !tool.trim().is_empty());
                let (success, ended) = match result {
                    ToolResult::Succeeded => (true, "succeeded"),
                    ToolResult::Failed => (false, "failed"),
                };
                Self {
                    tool: tool.cloned(),
                    output: Some(Output {
                        success,
                        summary: summary.clone(),
                    }),
                    ..plain(
                        Kind::ToolResult,
                        format!("{} {ended}", tool.map_or("tool", String::as_str)),
                    )
                }
            }
            Activity::Error(text) => plain(Kind::Error, or(text, "error")),
            Activity::Retry { attempt, of, status } => {
                let status = status.map(|status| format!(" after {status}")).unwrap_or_default();
                let summary = format!("asks its model again{status} ({attempt} of {of})");
                plain(Kind::Error, summary)
            }
        }
    }

    /// Whether it says what the agent is about, also to one who hears it alone.
    pub(super) fn is_news(&self) -> bool {
        self.kind != Kind::ToolResult
    }

    /// Its length as JSON, in bytes.
    pub(super) fn bytes(&self) -> usize {
        // Nothing in it can fail to be JSON.
        serde_json::to_vec(self).map_or(0, |json| json.len())
    }
}

/// The text, or where there is none in it, the other.
fn or(text: &str, other: &str) -> String {
    let text = if text.trim().is_empty() { other } else { text };
    text.to_owned()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn as_rfc3339<S: Serializer>(at: &Millis, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*at))
}

#[cfg(test)]
mod tests;
