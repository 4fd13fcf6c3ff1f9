//! Claude Code's stream-json events, as much of them as the runner reads. All else is passed over, and texts are borrowed from
//! the line where no escape is in them.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A text that is borrowed where it can be, also within an `Option`.
#[derive(Debug, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl Text<'_> {
    pub(super) fn into_string(self) -> String {
        self.0.into_owned()
    }
}

/// One line. Which fields are there depends on its type.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) subtype: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) session_id: Option<Text<'a>>,
    /// Of `system/init`.
    #[serde(borrow)]
    pub(super) model: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) mcp_servers: Option<Vec<McpServer<'a>>>,
    #[serde(borrow)]
    pub(super) plugins: Option<Vec<LoadedPlugin<'a>>>,
    /// Of `system/background_tasks_changed`: those that still run.
    pub(super) tasks: Option<Vec<IgnoredAny>>,
    /// Of `system/api_retry`.
    pub(super) attempt: Option<u64>,
    pub(super) max_retries: Option<u64>,
    pub(super) error_status: Option<u16>,
    /// Of `system/permission_denied`.
    #[serde(borrow)]
    pub(super) tool_name: Option<Text<'a>>,
    /// Of `assistant` and `user`, and of `system/permission_denied`, where it is plain text.
    #[serde(borrow)]
    pub(super) message: Option<Message<'a>>,
    /// Whether the message of an `assistant` is the program's own, because the model's API gave an error.
    pub(super) is_api_error_message: Option<bool>,
    /// Set where the message is a sub-agent's.
    #[serde(borrow)]
    pub(super) parent_tool_use_id: Option<Text<'a>>,
    /// Of `result`.
    pub(super) is_error: Option<bool>,
    #[serde(borrow)]
    pub(super) terminal_reason: Option<Text<'a>>,
    pub(super) api_error_status: Option<u16>,
    pub(super) num_turns: Option<u64>,
    pub(super) total_cost_usd: Option<f64>,
    pub(super) duration_ms: Option<u64>,
    pub(super) usage: Option<Usage>,
    #[serde(borrow)]
    pub(super) result: Option<Text<'a>>,
    pub(super) errors: Option<Vec<String>>,
}

/// A server as `system/init` lists it.
#[derive(Debug, Deserialize)]
pub(super) struct McpServer<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) status: Text<'a>,
}

/// A plugin as `system/init` lists it.
#[derive(Debug, Deserialize)]
pub(super) struct LoadedPlugin<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Usage {
    pub(super) input_tokens: u64,
    pub(super) cache_creation_input_tokens: u64,
    pub(super) cache_read_input_tokens: u64,
    pub(super) output_tokens: u64,
}

#[derive(Debug)]
pub(super) enum Message<'a> {
    Plain(Cow<'a, str>),
    Full(FullMessage<'a>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FullMessage<'a> {
    /// One answer of the model comes in several events, which have it in common.
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) content: Content<'a>,
}

/// What a message says, or what a tool gave back.
#[derive(Debug)]
pub(super) enum Content<'a> {
    Plain(Cow<'a, str>),
    Blocks(Vec<Block<'a>>),
}

impl Default for Content<'_> {
    fn default() -> Self {
        Self::Blocks(Vec::new())
    }
}

impl Content<'_> {
    /// The first text in it.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Plain(text) => Some(text),
            Self::Blocks(blocks) => blocks.iter().find_map(|block| block.text.as_ref()).map(|text| &*text.0),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Block<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    /// Of `text`.
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    /// Of `tool_use`.
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
    /// Of `tool_result`.
    #[serde(borrow)]
    pub(super) tool_use_id: Option<Text<'a>>,
    pub(super) is_error: Option<bool>,
    #[serde(borrow)]
    pub(super) content: Option<Content<'a>>,
}

// By hand: an untagged enum would build the whole value first.
impl<'de: 'a, 'a> Deserialize<'de> for Message<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Message<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message, or text")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Message::Plain(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Message::Plain(Cow::Owned(text.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                FullMessage::deserialize(MapAccessDeserializer::new(map)).map(Message::Full)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Content<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("blocks, or text")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Content::Plain(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Content::Plain(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut blocks = Vec::new();
                while let Some(block) = seq.next_element()? {
                    blocks.push(block);
                }
                Ok(Content::Blocks(blocks))
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Content::default())
            }
        }

        deserializer.deserialize_any(Reader)
    }
}
