//! Claude Code's stream-json events, as much of them as the runner reads. All else is passed over.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// One line. Which fields are there depends on its type.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) subtype: Option<String>,
    pub(super) session_id: Option<String>,
    /// Of `system/init`.
    pub(super) model: Option<String>,
    /// Of `system/background_tasks_changed`: those that still run.
    pub(super) tasks: Option<Vec<IgnoredAny>>,
    /// Of `system/api_retry`.
    pub(super) attempt: Option<u64>,
    pub(super) max_retries: Option<u64>,
    pub(super) retry_delay_ms: Option<f64>,
    pub(super) error_status: Option<u16>,
    /// Of `assistant` and `user`.
    pub(super) message: Option<Message>,
    /// Set where the message is a sub-agent's.
    pub(super) parent_tool_use_id: Option<String>,
    /// Of `result`.
    pub(super) is_error: Option<bool>,
    pub(super) terminal_reason: Option<String>,
    pub(super) api_error_status: Option<u16>,
    pub(super) num_turns: Option<u64>,
    pub(super) total_cost_usd: Option<f64>,
    pub(super) duration_ms: Option<u64>,
    pub(super) usage: Option<Usage>,
    pub(super) result: Option<String>,
    pub(super) errors: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Usage {
    pub(super) input_tokens: u64,
    pub(super) cache_creation_input_tokens: u64,
    pub(super) cache_read_input_tokens: u64,
    pub(super) output_tokens: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message {
    /// One answer of the model comes in several events, which have it in common.
    pub(super) id: Option<String>,
    pub(super) content: Content,
}

/// A user's message may be plain text; that is nothing that the runner reads.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Content {
    Blocks(Vec<Block>),
    Other(IgnoredAny),
}

impl Default for Content {
    fn default() -> Self {
        Self::Blocks(Vec::new())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Block {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) text: Option<String>,
    pub(super) name: Option<String>,
    pub(super) input: Value,
    pub(super) is_error: Option<bool>,
}
