//! What an agent does, as it happens: for people who watch, and for the task API.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::event::{Block, Content, Text};
use super::money::MicroUsd;
use crate::redact::Redactor;

/// How many characters a text has at most.
const LIMIT: usize = 200;
/// How many a command has.
const COMMAND_LIMIT: usize = 500;
/// Of so many tools that were begun the names are kept. Sub-agents use some at once.
const TOOLS: usize = 64;
/// A longer identifier of a tool's use is not kept, in bytes.
const ID_LIMIT: usize = 100;
/// How much of a text is redacted at once, in bytes, where only its beginning is wanted.
const PIECE: usize = 4 * 1024;

/// One thing that the agent did. Texts have at most 200 characters, a command 500, and none is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activity {
    /// It said something.
    Said(String),
    /// It began to use a tool.
    Tool {
        /// The tool.
        name: String,
        /// What for, in a few words.
        summary: String,
        /// What for, as fields by the tool; of what it writes only the lengths, in characters. Empty for a tool that the
        /// runner does not know.
        input: Map<String, Value>,
    },
    /// A tool came to its end.
    ToolEnded {
        /// The tool, where its begin was seen.
        tool: Option<String>,
        /// How it ended.
        result: ToolResult,
        /// The beginning of what it gave back.
        summary: Option<String>,
    },
    /// Its request to the model is tried again.
    Retry {
        /// The number of the try.
        attempt: u64,
        /// How many there will be at most.
        of: u64,
        /// The HTTP status, where there was one.
        status: Option<u16>,
    },
    /// Its model's API gave an error in the end, or a tool was refused to it.
    Error(String),
}

/// What is seen of an agent while it is at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It did something.
    Does(Activity),
    /// So often its model has answered in this start: in its own conversation, not in those of its sub-agents.
    Turns(u64),
    /// So much its requests to the model have cost in this start, by the runner's own meter.
    Spent(MicroUsd),
}

/// How a tool came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolResult {
    /// It did its work.
    Succeeded,
    /// It failed, or was refused.
    Failed,
}

/// Makes activities of what a message says, and remembers which tools were begun.
#[derive(Debug)]
pub(super) struct Doings {
    redactor: Redactor,
    /// Identifiers and names, the oldest first.
    begun: VecDeque<(String, String)>,
}

impl Doings {
    pub(super) fn new(redactor: Redactor) -> Self {
        Self {
            redactor,
            begun: VecDeque::new(),
        }
    }

    /// Tells what a message says; `is_error`: it is the program's own, about an error.
    pub(super) fn tell(&mut self, content: &Content<'_>, is_error: bool, tell: &mut (dyn FnMut(Activity) + Send)) {
        // What a user says as plain text is the prompt.
        if let Content::Blocks(blocks) = content {
            let doings = blocks.iter().filter_map(|block| self.of(block, is_error));
            doings.for_each(tell);
        }
    }

    /// A tool that was refused.
    pub(super) fn refused(&self, tool: &str, why: &str) -> Activity {
        Activity::Error(self.shorten(&format!("{tool} was refused: {why}"), LIMIT))
    }

    fn of(&mut self, block: &Block<'_>, is_error: bool) -> Option<Activity> {
        match &*block.kind {
            "text" => {
                let text = self.some(block.text.as_ref()?.0.trim())?;
                Some(if is_error {
                    Activity::Error(text)
                } else {
                    Activity::Said(text)
                })
            }
            "tool_use" => Some(self.begin(block)),
            "tool_result" => Some(Activity::ToolEnded {
                tool: block.tool_use_id.as_ref().and_then(|id| self.end(&id.0)),
                result: if block.is_error == Some(true) {
                    ToolResult::Failed
                } else {
                    ToolResult::Succeeded
                },
                summary: block
                    .content
                    .as_ref()
                    .and_then(Content::text)
                    .and_then(|text| self.some(text.trim())),
            }),
            _ => None,
        }
    }

    fn begin(&mut self, block: &Block<'_>) -> Activity {
        let name = block.name.as_ref().map_or("", |name| &*name.0);
        let (summary, input) = self.used_for(name, block.input);
        let name = self.some(name).unwrap_or_else(|| "tool".to_owned());
        if let Some(id) = block.id.as_ref().filter(|id| id.0.len() <= ID_LIMIT) {
            if self.begun.len() == TOOLS {
                self.begun.pop_front();
            }
            self.begun.push_back((id.0.to_string(), name.clone()));
        }
        Activity::Tool {
            summary: summary.unwrap_or_else(|| name.clone()),
            name,
            input,
        }
    }

    fn end(&mut self, id: &str) -> Option<String> {
        let at = self.begun.iter().rposition(|(begun, _)| begun == id)?;
        self.begun.remove(at).map(|(_, name)| name)
    }

    /// What a tool is used for, in a few words and as fields.
    fn used_for(&self, name: &str, input: Option<&RawValue>) -> (Option<String>, Map<String, Value>) {
        let mut fields = Map::new();
        let input = input.map(|input| serde_json::from_str::<Input<'_>>(input.get()));
        let Some(Ok(input)) = input else {
            return (None, fields);
        };
        let (does, field, what, limit) = match name {
            "Read" => ("Reading ", "file_path", &input.file_path, LIMIT),
            "Write" => ("Writing ", "file_path", &input.file_path, LIMIT),
            "Edit" | "MultiEdit" => ("Editing ", "file_path", &input.file_path, LIMIT),
            "NotebookEdit" => ("Editing ", "notebook_path", &input.notebook_path, LIMIT),
            "Bash" => ("", "command", &input.command, COMMAND_LIMIT),
            "Grep" | "Glob" => ("Searching for ", "pattern", &input.pattern, LIMIT),
            "WebSearch" => ("Searching for ", "query", &input.query, LIMIT),
            "WebFetch" => ("Fetching ", "url", &input.url, LIMIT),
            "Agent" | "Task" => ("", "description", &input.description, LIMIT),
            _ => return (None, fields),
        };
        let what = what.as_ref().map(|what| self.shorten(what.0.trim(), limit));
        let Some(what) = what.filter(|what| !what.is_empty()) else {
            return (None, fields);
        };
        let summary = first_characters(&format!("{does}{what}"), limit);
        fields.insert(field.to_owned(), what.into());
        let written = match name {
            "Write" => [("length", &input.content), ("", &None)],
            "Edit" => [("old_length", &input.old_string), ("new_length", &input.new_string)],
            _ => [("", &None), ("", &None)],
        };
        for (field, text) in written {
            if let Some(text) = text {
                fields.insert(field.to_owned(), text.0.chars().count().into());
            }
        }
        (Some(summary), fields)
    }

    fn some(&self, text: &str) -> Option<String> {
        (!text.is_empty()).then(|| self.shorten(text, LIMIT))
    }

    /// The beginning of what is left of a text without its secrets. Of a long one no more is looked at than it takes.
    fn shorten(&self, text: &str, limit: usize) -> String {
        if text.len() <= PIECE {
            return first_characters(&self.redactor.redact(text), limit);
        }
        let mut scrub = self.redactor.stream();
        let mut clean = Vec::new();
        for piece in text.as_bytes().chunks(PIECE) {
            clean.extend(scrub.feed(piece));
            // A character has at most four bytes.
            if clean.len() >= 4 * limit {
                return first_characters(&String::from_utf8_lossy(&clean), limit);
            }
        }
        clean.extend(scrub.finish());
        first_characters(&String::from_utf8_lossy(&clean), limit)
    }
}

/// The fields of tools that are looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Input<'a> {
    file_path: Option<Text<'a>>,
    notebook_path: Option<Text<'a>>,
    command: Option<Text<'a>>,
    pattern: Option<Text<'a>>,
    query: Option<Text<'a>>,
    url: Option<Text<'a>>,
    description: Option<Text<'a>>,
    content: Option<Text<'a>>,
    old_string: Option<Text<'a>>,
    new_string: Option<Text<'a>>,
}

fn first_characters(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}
