//! Reads what an agent prints, line by line and in bounded memory. What the lines say is kept as a report, and told as it
//! happens; what is told is redacted before it is cut: half a secret is not known any more.

use std::borrow::Cow;

use memchr::memchr;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::activity::{Activity, Doings};
use super::event::{Event, FullMessage, McpServer, Message, Text};
use super::money::MicroUsd;
use super::plain::{LINE_LIMIT as PLAIN_LINE_LIMIT, Plain};
use crate::adapters::skim::Skim;
use crate::redact::Redactor;

/// A longer line is not parsed as a whole: only its top level is looked at.
const LINE_LIMIT: usize = 8 * 1024 * 1024;
/// What is looked at there.
const TOP_LEVEL: &[&str] = &[
    "type",
    "subtype",
    "is_error",
    "terminal_reason",
    "api_error_status",
    "num_turns",
    "total_cost_usd",
    "duration_ms",
    "session_id",
    "parent_tool_use_id",
    "result",
];
/// How much room for a line is kept from one to the next, in bytes.
const KEPT_ROOM: usize = 256 * 1024;
/// How much of the last result's text is kept, in bytes.
const SUMMARY_LIMIT: usize = 16 * 1024;
/// How many plugins and MCP servers are kept, and how much of a name or a status, in bytes.
const PARTS_LIMIT: usize = 200;
const PART_NAME_LIMIT: usize = 200;

/// What an agent said of its run. What it did not say is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentReport {
    /// The last result's text, cut at 16 KiB.
    pub summary: Option<String>,
    /// Turns over all results, and the model's answers since the last one.
    pub turns: Option<u64>,
    /// What it cost: the last result's figure, which is cumulative.
    pub cost_usd: Option<MicroUsd>,
    /// Input tokens over all results, without those that a cache answered or took.
    pub input_tokens: Option<u64>,
    /// Input tokens that were written to a cache.
    pub cache_write_tokens: Option<u64>,
    /// Input tokens that a cache answered.
    pub cache_read_tokens: Option<u64>,
    /// Output tokens over all results.
    pub output_tokens: Option<u64>,
    /// The agent's own name for the conversation.
    pub session_id: Option<String>,
    /// The model it began with.
    pub model: Option<String>,
    /// Running time over all results, in milliseconds.
    pub duration_ms: Option<u64>,
    /// What it had beside its own tools when it began.
    pub parts: Option<SeenParts>,
}

/// What an agent has beside its own tools, as it lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenParts {
    /// The names of plugins.
    pub plugins: Vec<String>,
    /// MCP servers.
    pub servers: Vec<SeenServer>,
}

/// An MCP server as the agent lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenServer {
    /// Its name.
    pub name: String,
    /// What became of it: `connected`, or why not in a word.
    pub status: String,
}

/// What a result event says of the run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResultEvent {
    /// `success` or an error's name. `success` alone says nothing.
    pub subtype: String,
    /// Whether it failed after all.
    pub is_error: bool,
    /// `completed`, or why it ended.
    pub terminal_reason: Option<String>,
    /// The HTTP status of the model's API, where that was the end.
    pub api_error_status: Option<u16>,
    /// What it says, or its errors.
    pub text: Option<String>,
}

/// What is known when the stream has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamEnd {
    /// What the agent said of its run.
    pub report: AgentReport,
    /// The last result event.
    pub result: Option<ResultEvent>,
    /// Whether the last result was the end of the conversation.
    pub conclusion: Conclusion,
    /// The end of what was no event, at most 8 KiB.
    pub plain_text: String,
}

/// Where in its conversation an agent is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Conclusion {
    /// Before a result, or in a turn that began after one.
    #[default]
    Open,
    /// A result was printed, but tasks in the background run, and another turn will follow them.
    Waiting,
    /// A result was printed, and nothing is left to do.
    Concluded,
}

/// What is kept of the line that is being read.
#[derive(Debug)]
enum Line {
    Whole(Vec<u8>),
    /// Too long: an object of which only the top level is looked at.
    Skimmed(Skim),
    /// Too long, and no object.
    Dropped,
}

impl Line {
    const fn new() -> Self {
        Self::Whole(Vec::new())
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Whole(line) if line.is_empty())
    }

    fn extend(&mut self, bytes: &[u8]) {
        let bytes = if self.is_empty() {
            bytes.trim_ascii_start()
        } else {
            bytes
        };
        match self {
            Self::Whole(line) => {
                let length = line.len() + bytes.len();
                let is_object = line.first().or(bytes.first()) == Some(&b'{');
                if length <= if is_object { LINE_LIMIT } else { PLAIN_LINE_LIMIT } {
                    line.extend_from_slice(bytes);
                } else if is_object {
                    let mut skim = Skim::new(TOP_LEVEL);
                    skim.feed(line);
                    skim.feed(bytes);
                    *self = Self::Skimmed(skim);
                } else {
                    *self = Self::Dropped;
                }
            }
            Self::Skimmed(skim) => skim.feed(bytes),
            Self::Dropped => {}
        }
    }
}

/// The reader.
#[derive(Debug)]
pub struct Stream {
    redactor: Redactor,
    line: Line,
    doings: Doings,
    plain: Plain,
    end: StreamEnd,
    background_tasks: usize,
    /// The model's last answer, and how many there were since the last result: what cut them off left no result to count them.
    answer: Option<String>,
    answers: u64,
}

impl Stream {
    /// Begins to read. No secret that `redactor` knows is in what is made of it.
    pub fn new(redactor: Redactor) -> Self {
        Self {
            doings: Doings::new(redactor.clone()),
            plain: Plain::new(&redactor),
            redactor,
            line: Line::new(),
            end: StreamEnd::default(),
            background_tasks: 0,
            answer: None,
            answers: 0,
        }
    }

    /// Takes in what was read, cut anywhere.
    pub fn feed(&mut self, bytes: &[u8], on_activity: &mut (dyn FnMut(Activity) + Send)) {
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            let line = &rest[..end];
            if self.line.is_empty() && line.len() <= PLAIN_LINE_LIMIT {
                self.whole(line, on_activity);
            } else {
                self.line.extend(line);
                self.end_line(on_activity);
            }
            rest = &rest[end + 1..];
        }
        self.line.extend(rest);
    }

    /// Whether the agent has said all that it will say.
    pub fn conclusion(&self) -> Conclusion {
        if self.end.conclusion == Conclusion::Concluded && self.background_tasks > 0 {
            Conclusion::Waiting
        } else {
            self.end.conclusion
        }
    }

    /// How often its model has answered until now, in its own conversation. A result counts them once more, itself.
    pub fn turns(&self) -> u64 {
        self.end.report.turns.unwrap_or_default() + self.answers
    }

    /// Takes in a last line without an end.
    pub fn finish(mut self, on_activity: &mut (dyn FnMut(Activity) + Send)) -> StreamEnd {
        self.end_line(on_activity);
        add(
            &mut self.end.report.turns,
            Some(self.answers).filter(|answers| *answers > 0),
        );
        self.end.conclusion = self.conclusion();
        self.end.plain_text = self.plain.finish();
        self.end
    }

    fn end_line(&mut self, on_activity: &mut (dyn FnMut(Activity) + Send)) {
        match std::mem::replace(&mut self.line, Line::new()) {
            Line::Whole(mut line) => {
                self.whole(&line, on_activity);
                if line.capacity() <= KEPT_ROOM {
                    line.clear();
                    self.line = Line::Whole(line);
                }
            }
            Line::Skimmed(skim) => {
                if let Ok(event) = serde_json::from_str(&top_of(skim)) {
                    self.take(event, on_activity);
                }
            }
            Line::Dropped => {}
        }
    }

    fn whole(&mut self, line: &[u8], on_activity: &mut (dyn FnMut(Activity) + Send)) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        let text = str::from_utf8(line).map_or_else(|_| String::from_utf8_lossy(line), Cow::Borrowed);
        if !text.starts_with('{') {
            self.plain.take(&text);
            return;
        }
        let top;
        let event = if let Ok(event) = serde_json::from_str::<Event<'_>>(&text) {
            Ok(event)
        } else {
            // Not quite JSON, or a field of an unexpected kind: what its top level says still counts.
            let mut skim = Skim::new(TOP_LEVEL);
            skim.feed(text.as_bytes());
            top = top_of(skim);
            serde_json::from_str(&top)
        };
        match event {
            Ok(event) if !event.kind.is_empty() => self.take(event, on_activity),
            Ok(_) | Err(_) => self.plain.take(&text),
        }
    }

    fn take(&mut self, event: Event<'_>, on_activity: &mut (dyn FnMut(Activity) + Send)) {
        match (&*event.kind, event.subtype.as_ref().map(|subtype| &*subtype.0)) {
            ("system", Some("init")) => {
                self.end.conclusion = Conclusion::Open;
                let report = &mut self.end.report;
                let clean = |text: Text<'_>| self.redactor.clean(text.into_string());
                report.model = report.model.take().or(event.model.map(clean));
                let kept = |text: Text<'_>| first_bytes(&clean(text), PART_NAME_LIMIT).to_owned();
                let server = |server: McpServer<'_>| SeenServer {
                    name: kept(server.name),
                    status: kept(server.status),
                };
                if let (None, Some(plugins), Some(servers)) = (&report.parts, event.plugins, event.mcp_servers) {
                    let plugins = plugins.into_iter().take(PARTS_LIMIT);
                    report.parts = Some(SeenParts {
                        plugins: plugins.map(|plugin| kept(plugin.name)).collect(),
                        servers: servers.into_iter().take(PARTS_LIMIT).map(server).collect(),
                    });
                }
                report.session_id = event.session_id.map(clean).or(report.session_id.take());
            }
            ("system", Some("background_tasks_changed")) => {
                self.background_tasks = event.tasks.map_or(0, |tasks| tasks.len());
            }
            ("system", Some("api_retry")) => on_activity(Activity::Retry {
                attempt: event.attempt.unwrap_or_default(),
                of: event.max_retries.unwrap_or_default(),
                status: event.error_status,
            }),
            ("system", Some("permission_denied")) => {
                let tool = event.tool_name.as_ref().map_or("a tool", |name| &*name.0);
                let why = match &event.message {
                    Some(Message::Plain(text)) => text,
                    Some(Message::Full(_)) | None => "",
                };
                on_activity(self.doings.refused(tool, why));
            }
            ("assistant" | "user", _) => {
                // What a sub-agent says does not open the conversation again: it is a background task.
                if event.parent_tool_use_id.is_none() {
                    self.end.conclusion = Conclusion::Open;
                    if event.kind == "assistant"
                        && let Some(Message::Full(FullMessage { id: Some(id), .. })) = &event.message
                        && self.answer.as_deref() != Some(&*id.0)
                    {
                        self.answer = Some(id.0.clone().into_owned());
                        self.answers += 1;
                    }
                }
                let is_error = event.is_api_error_message == Some(true);
                if let Some(Message::Full(message)) = event.message {
                    self.doings.tell(&message.content, is_error, on_activity);
                }
            }
            ("result", _) => self.take_result(event),
            _ => {}
        }
    }

    fn take_result(&mut self, event: Event<'_>) {
        let text = event.result.map(Text::into_string);
        let text = text.or_else(|| event.errors.map(|errors| errors.join("; ")));
        let text = text.map(|text| first_bytes(&self.redactor.redact(&text), SUMMARY_LIMIT).to_owned());
        let report = &mut self.end.report;
        report.summary.clone_from(&text);
        let session_id = event.session_id.map(|id| self.redactor.clean(id.into_string()));
        report.session_id = session_id.or(report.session_id.take());
        let cost = event.total_cost_usd.and_then(MicroUsd::from_dollars);
        report.cost_usd = cost.or(report.cost_usd);
        add(&mut report.turns, event.num_turns);
        self.answers = 0;
        add(&mut report.duration_ms, event.duration_ms);
        if let Some(usage) = event.usage {
            add(&mut report.input_tokens, Some(usage.input_tokens));
            add(&mut report.cache_write_tokens, Some(usage.cache_creation_input_tokens));
            add(&mut report.cache_read_tokens, Some(usage.cache_read_input_tokens));
            add(&mut report.output_tokens, Some(usage.output_tokens));
        }
        self.end.conclusion = Conclusion::Concluded;
        self.end.result = Some(ResultEvent {
            subtype: event.subtype.map(Text::into_string).unwrap_or_default(),
            // A result that does not say how it is has not succeeded.
            is_error: event.is_error.unwrap_or(true),
            terminal_reason: event.terminal_reason.map(Text::into_string),
            api_error_status: event.api_error_status,
            text,
        });
    }
}

fn add(sum: &mut Option<u64>, more: Option<u64>) {
    if let Some(more) = more {
        *sum = Some(sum.unwrap_or_default().saturating_add(more));
    }
}

/// The scalars at the top of an object, as an object.
fn top_of(skim: Skim) -> String {
    let found = skim.finish().into_iter();
    let scalars = found.filter_map(|(name, text)| Some((name.to_owned(), scalar(&text)?)));
    Value::Object(scalars.collect::<Map<_, _>>()).to_string()
}

/// A string that was cut is closed where it still makes sense.
fn scalar(text: &[u8]) -> Option<Value> {
    let text = String::from_utf8_lossy(text);
    if let Ok(value) = serde_json::from_str::<Value>(&text) {
        return Some(value).filter(|value| !value.is_object() && !value.is_array());
    }
    // The cut may have gone through a character.
    let cut = text.strip_prefix('"')?.trim_end_matches('\u{fffd}');
    // An escape is at most 12 characters (a pair of surrogates).
    let mut ends = (0..=12)
        .filter_map(|back| cut.len().checked_sub(back))
        .filter(|end| cut.is_char_boundary(*end));
    ends.find_map(|end| serde_json::from_str(&format!("\"{}\"", &cut[..end])).ok())
}

/// At most `limit` bytes from the beginning, cut between characters.
fn first_bytes(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// At most `limit` bytes from the end, cut between characters.
pub(super) fn last_bytes(text: &str, limit: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(limit))..]
}

#[cfg(test)]
mod tests;
