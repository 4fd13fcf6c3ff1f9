//! Reads what an agent prints, line by line and in bounded memory: every byte goes to the transcript, and what the lines
//! say is kept as a report.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{Block, Content, Event};
use super::money::MicroUsd;
use super::skim::Skim;
use crate::redact::Redactor;

/// A longer line is not parsed as a whole: only its top level is looked at.
const LINE_LIMIT: usize = 8 * 1024 * 1024;
/// How much of the last result's text is kept, in bytes.
const SUMMARY_LIMIT: usize = 16 * 1024;
/// How much of the end of the plain text is kept, in bytes.
const PLAIN_LIMIT: usize = 8 * 1024;
/// How many characters an [`Activity`] has at most.
const ACTIVITY_LIMIT: usize = 200;

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
}

/// One thing that the agent did, for people who watch. Texts have at most 200 characters.
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
    },
    /// A tool came to its end.
    ToolEnded(ToolResult),
    /// Its request to the model is tried again.
    Retry {
        /// The number of the try.
        attempt: u64,
        /// How many there will be at most.
        of: u64,
        /// The HTTP status, where there was one.
        status: Option<u16>,
    },
}

/// How a tool came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolResult {
    /// It did its work.
    Succeeded,
    /// It failed, or was refused.
    Failed,
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

/// The reader. `W` is the transcript.
#[derive(Debug)]
pub struct Stream<W> {
    transcript: W,
    redactor: Redactor,
    line: Line,
    end: StreamEnd,
    background_tasks: usize,
    /// The model's last answer, and how many there were since the last result: what cut them off left no result to count them.
    answer: Option<String>,
    answers: u64,
}

impl<W: Write> Stream<W> {
    /// Begins to read into `transcript`, which gets the bytes as they are. What is made of them is redacted before it is
    /// cut: half a secret is not known any more.
    pub fn new(transcript: W, redactor: Redactor) -> Self {
        Self {
            transcript,
            redactor,
            line: Line::Whole(Vec::new()),
            end: StreamEnd::default(),
            background_tasks: 0,
            answer: None,
            answers: 0,
        }
    }

    /// Takes in what was read, cut anywhere. An error is the transcript's; the lines are read nevertheless.
    pub fn feed(&mut self, bytes: &[u8], on_activity: &mut (dyn FnMut(Activity) + Send)) -> io::Result<()> {
        let written = self.transcript.write_all(bytes);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', rest)) => {
                    self.extend(rest);
                    self.end_line(on_activity);
                }
                Some(_) | None => self.extend(piece),
            }
        }
        written
    }

    /// Whether the agent has said all that it will say.
    pub fn conclusion(&self) -> Conclusion {
        if self.end.conclusion == Conclusion::Concluded && self.background_tasks > 0 {
            Conclusion::Waiting
        } else {
            self.end.conclusion
        }
    }

    /// Takes in a last line without an end, and gives back the transcript.
    pub fn finish(mut self, on_activity: &mut (dyn FnMut(Activity) + Send)) -> (StreamEnd, W) {
        self.end_line(on_activity);
        add(
            &mut self.end.report.turns,
            Some(self.answers).filter(|answers| *answers > 0),
        );
        self.end.conclusion = self.conclusion();
        (self.end, self.transcript)
    }

    fn extend(&mut self, bytes: &[u8]) {
        match &mut self.line {
            Line::Whole(line) if line.len() + bytes.len() <= LINE_LIMIT => line.extend_from_slice(bytes),
            Line::Whole(line) => {
                let is_object = line.iter().chain(bytes).find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
                self.line = if is_object {
                    let mut skim = Skim::default();
                    skim.feed(line);
                    skim.feed(bytes);
                    Line::Skimmed(skim)
                } else {
                    Line::Dropped
                };
            }
            Line::Skimmed(skim) => skim.feed(bytes),
            Line::Dropped => {}
        }
    }

    fn end_line(&mut self, on_activity: &mut (dyn FnMut(Activity) + Send)) {
        match std::mem::replace(&mut self.line, Line::Whole(Vec::new())) {
            Line::Whole(line) => self.whole(&line, on_activity),
            Line::Skimmed(skim) => {
                if let Ok(event) = serde_json::from_value(skim.finish()) {
                    self.take(event, on_activity);
                }
            }
            Line::Dropped => {}
        }
    }

    fn whole(&mut self, line: &[u8], on_activity: &mut (dyn FnMut(Activity) + Send)) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if !text.starts_with('{') {
            self.plain(text);
            return;
        }
        let event = serde_json::from_str::<Event>(text).or_else(|_| {
            // Not quite JSON, or a field of an unexpected kind: what its top level says still counts.
            let mut skim = Skim::default();
            skim.feed(text.as_bytes());
            serde_json::from_value(skim.finish())
        });
        match event {
            Ok(event) if !event.kind.is_empty() => self.take(event, on_activity),
            Ok(_) | Err(_) => self.plain(text),
        }
    }

    fn plain(&mut self, text: &str) {
        let text = &*self.redactor.redact(text);
        let kept = &mut self.end.plain_text;
        if !kept.is_empty() {
            kept.push('\n');
        }
        kept.push_str(last_bytes(text, PLAIN_LIMIT));
        if kept.len() > PLAIN_LIMIT {
            *kept = last_bytes(kept, PLAIN_LIMIT).to_owned();
        }
    }

    fn take(&mut self, event: Event, on_activity: &mut (dyn FnMut(Activity) + Send)) {
        match (event.kind.as_str(), event.subtype.as_deref()) {
            ("system", Some("init")) => {
                self.end.conclusion = Conclusion::Open;
                let report = &mut self.end.report;
                let clean = |text| self.redactor.clean(text);
                report.model = report.model.take().or(event.model.map(clean));
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
            ("assistant" | "user", _) => {
                // What a sub-agent says does not open the conversation again: it is a background task.
                if event.parent_tool_use_id.is_none() {
                    self.end.conclusion = Conclusion::Open;
                    let id = event.message.as_ref().and_then(|message| message.id.clone());
                    if event.kind == "assistant" && id.is_some() && id != self.answer {
                        self.answer = id;
                        self.answers += 1;
                    }
                }
                if let Some(Content::Blocks(blocks)) = event.message.map(|message| message.content) {
                    let doings = blocks.into_iter().filter_map(|block| activity(block, &self.redactor));
                    doings.for_each(on_activity);
                }
            }
            ("result", _) => self.take_result(event),
            _ => {}
        }
    }

    fn take_result(&mut self, event: Event) {
        let text = event.result.or_else(|| event.errors.map(|errors| errors.join("; ")));
        let text = text.map(|text| first_bytes(&self.redactor.redact(&text), SUMMARY_LIMIT).to_owned());
        let report = &mut self.end.report;
        report.summary.clone_from(&text);
        let session_id = event.session_id.map(|id| self.redactor.clean(id));
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
            subtype: event.subtype.unwrap_or_default(),
            // A result that does not say how it is has not succeeded.
            is_error: event.is_error.unwrap_or(true),
            terminal_reason: event.terminal_reason,
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

fn activity(block: Block, redactor: &Redactor) -> Option<Activity> {
    match block.kind.as_str() {
        "text" => {
            let text = block.text.unwrap_or_default();
            let text = text.trim();
            (!text.is_empty()).then(|| Activity::Said(first_characters(&redactor.redact(text))))
        }
        "tool_use" => {
            let name = block.name.unwrap_or_default();
            Some(Activity::Tool {
                summary: first_characters(&redactor.clean(tool_summary(&name, &block.input))),
                name: first_characters(&redactor.redact(&name)),
            })
        }
        "tool_result" => Some(Activity::ToolEnded(if block.is_error == Some(true) {
            ToolResult::Failed
        } else {
            ToolResult::Succeeded
        })),
        _ => None,
    }
}

/// What a tool is used for. Of an edit only the file: the text may be anything.
fn tool_summary(name: &str, input: &Value) -> String {
    let field = |field: &str| input.get(field).and_then(Value::as_str).unwrap_or_default();
    match name {
        "Read" => format!("Reading {}", field("file_path")),
        "Write" => format!("Writing {}", field("file_path")),
        "Edit" | "MultiEdit" => format!("Editing {}", field("file_path")),
        "NotebookEdit" => format!("Editing {}", field("notebook_path")),
        "Bash" => field("command").to_owned(),
        "Grep" | "Glob" => format!("Searching for {}", field("pattern")),
        "WebSearch" => format!("Searching for {}", field("query")),
        "WebFetch" => format!("Fetching {}", field("url")),
        "Agent" | "Task" => field("description").to_owned(),
        _ => name.to_owned(),
    }
}

fn first_characters(text: &str) -> String {
    text.chars().take(ACTIVITY_LIMIT).collect()
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
