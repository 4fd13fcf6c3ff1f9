//! Reads what a request to the model used from its answer as it passes: in any pieces, in bounded memory, at no delay.

use memchr::{memchr, memmem};
use serde::Deserialize;

use crate::adapters::skim::Skim;

/// A longer line is a piece of what the model says: usage is short.
const LINE_LIMIT: usize = 256 * 1024;
/// What is read of a plain answer.
const WANTED: &[&str] = &["model", "usage"];
/// How the text of nearly all events begins, and which of them have text.
const TYPE: &[u8] = b"{\"type\":\"";
const DELTA: &[u8] = b"content_block_delta\"";
/// What an event with a piece of text has around it, in bytes, and how many bytes a token has at least: for a stream that was
/// cut off before it said what it used.
const DELTA_FRAME: usize = 80;
const TOKEN_BYTES: usize = 3;

/// What one request used. Counts only rise: the API's are cumulative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Input tokens that no cache answered or took.
    pub(super) input: u64,
    /// Output tokens.
    pub(super) output: u64,
    /// Input tokens written to a cache.
    pub(super) cache_write: u64,
    /// Those of them that are kept for an hour.
    pub(super) cache_write_1h: u64,
    /// Input tokens that a cache answered.
    pub(super) cache_read: u64,
    /// Searches that the API made.
    pub(super) web_searches: u64,
}

impl Usage {
    /// All of the input.
    pub(super) fn prompt(&self) -> u64 {
        self.input
            .saturating_add(self.cache_write)
            .saturating_add(self.cache_read)
    }

    fn take(&mut self, said: &Said) {
        let raise = |count: &mut u64, to: Option<u64>| *count = (*count).max(to.unwrap_or(0));
        raise(&mut self.input, said.input_tokens);
        raise(&mut self.output, said.output_tokens);
        raise(&mut self.cache_write, said.cache_creation_input_tokens);
        raise(&mut self.cache_read, said.cache_read_input_tokens);
        let hour = said.cache_creation.as_ref().and_then(|c| c.ephemeral_1h_input_tokens);
        raise(&mut self.cache_write_1h, hour);
        let searches = said.server_tool_use.as_ref().and_then(|s| s.web_search_requests);
        raise(&mut self.web_searches, searches);
    }
}

/// `usage` as the API has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
    server_tool_use: Option<ServerToolUse>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CacheCreation {
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServerToolUse {
    web_search_requests: Option<u64>,
}

/// `message_start` and `message_delta`; what is neither has no usage.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamEvent {
    #[serde(rename = "type")]
    kind: String,
    message: Option<StartedMessage>,
    usage: Option<Said>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StartedMessage {
    model: Option<String>,
    usage: Option<Said>,
}

/// How far the answer's own account of itself has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing was said.
    #[default]
    Nothing,
    /// The beginning: what was read, and not what was written.
    Begun,
    /// What was written, too.
    Whole,
}

/// The reader of one answer.
#[derive(Debug, Default)]
pub(super) struct Reader {
    form: Form,
    pub(super) model: Option<String>,
    pub(super) usage: Usage,
    pub(super) known: Known,
    /// Tokens of the text that passed, as far as bytes show: a guess.
    guessed_output: u64,
}

#[derive(Debug, Default)]
enum Form {
    /// Something else: nothing is read.
    #[default]
    Other,
    Stream(Line),
    Plain(Skim),
}

impl Reader {
    /// For an answer of this content type.
    pub(super) fn of(content_type: &str) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let form = match kind.to_ascii_lowercase().as_str() {
            "text/event-stream" => Form::Stream(Line::default()),
            "application/json" => Form::Plain(Skim::new(WANTED)),
            _ => Form::Other,
        };
        Self {
            form,
            ..Self::default()
        }
    }

    /// Takes in what has come, cut anywhere.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let mut form = std::mem::take(&mut self.form);
        match &mut form {
            Form::Other => {}
            Form::Stream(line) => {
                let mut rest = bytes;
                while let Some(end) = memchr(b'\n', rest) {
                    if line.length == 0 {
                        self.line(&rest[..end], end);
                    } else {
                        line.extend(&rest[..end]);
                        self.line(&line.kept, line.length);
                        line.clear();
                    }
                    rest = &rest[end + 1..];
                }
                line.extend(rest);
            }
            Form::Plain(skim) => skim.feed(bytes),
        }
        self.form = form;
    }

    /// Takes in the end, or that there will be none: what was cut off is guessed, so that cutting off is not free.
    pub(super) fn finish(&mut self) {
        match std::mem::take(&mut self.form) {
            Form::Stream(line) => self.line(&line.kept, line.length),
            Form::Plain(skim) => {
                for (name, text) in skim.finish() {
                    if name == "model" {
                        self.model = serde_json::from_slice(&text).ok();
                    } else if let Ok(said) = serde_json::from_slice::<Said>(&text) {
                        self.usage.take(&said);
                        self.known = Known::Whole;
                    }
                }
            }
            Form::Other => {}
        }
        if self.known == Known::Begun {
            self.usage.output = self.usage.output.max(self.guessed_output);
        }
    }

    /// Takes in a line, or the beginning of one of this length.
    fn line(&mut self, line: &[u8], length: usize) {
        let Some(text) = line.strip_prefix(b"data:") else {
            return;
        };
        let text = text.trim_ascii();
        if length > LINE_LIMIT || is_delta(text) {
            let tokens = length.saturating_sub(DELTA_FRAME).div_ceil(TOKEN_BYTES).max(1);
            self.guessed_output = self
                .guessed_output
                .saturating_add(u64::try_from(tokens).unwrap_or(u64::MAX));
            return;
        }
        if memmem::find(text, b"\"usage\"").is_none() {
            return;
        }
        let Ok(event) = serde_json::from_slice::<StreamEvent>(text) else {
            return;
        };
        match (event.kind.as_str(), event.message, event.usage) {
            ("message_start", Some(message), _) => {
                self.model = message.model.or(self.model.take());
                if let Some(said) = message.usage {
                    self.usage.take(&said);
                    self.known = self.known.max(Known::Begun);
                }
            }
            ("message_delta", _, Some(said)) => {
                self.usage.take(&said);
                self.known = Known::Whole;
            }
            _ => {}
        }
    }
}

impl Known {
    fn max(self, other: Self) -> Self {
        if self == Self::Nothing { other } else { self }
    }
}

/// Whether this is a piece of what the model says. Most lines are, so it has to be cheap.
fn is_delta(text: &[u8]) -> bool {
    match text.strip_prefix(TYPE) {
        Some(kind) => kind.starts_with(DELTA),
        None => memmem::find(&text[..text.len().min(64)], DELTA).is_some(),
    }
}

/// A line as it comes in. Of one that is too long the beginning is kept, and its length.
#[derive(Debug, Default)]
struct Line {
    kept: Vec<u8>,
    length: usize,
}

impl Line {
    fn extend(&mut self, piece: &[u8]) {
        self.length = self.length.saturating_add(piece.len());
        let room = LINE_LIMIT.saturating_sub(self.kept.len()).min(piece.len());
        self.kept.extend_from_slice(&piece[..room]);
    }

    fn clear(&mut self) {
        self.kept.clear();
        self.length = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = concat!(
        "event: message_start\n",
        r#"data: {"type":"message_start","message":{"id":"m","model":"claude-opus-4-5","content":[],"usage":{"input_tokens":10,"cache_creation_input_tokens":7,"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":3},"cache_read_input_tokens":5,"output_tokens":1}}}"#,
        "\n\nevent: content_block_delta\r\n",
        r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a \"usage\":{\"output_tokens\":999} of it"}}"#,
        "\r\n\r\nevent: ping\ndata: {\"type\": \"ping\"}\n\nevent: message_delta\n",
        r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":42,"server_tool_use":{"web_search_requests":2},"cache_read_input_tokens":null}}"#,
        "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
    );

    const WHOLE: Usage = Usage {
        input: 10,
        output: 42,
        cache_write: 7,
        cache_write_1h: 3,
        cache_read: 5,
        web_searches: 2,
    };

    fn read(content_type: &str, pieces: &[&[u8]]) -> Reader {
        let mut reader = Reader::of(content_type);
        for piece in pieces {
            reader.feed(piece);
        }
        reader.finish();
        reader
    }

    #[test]
    fn a_stream_is_read_alike_wherever_it_is_cut() {
        let bytes = STREAM.as_bytes();
        for cut in 0..=bytes.len() {
            let (one, other) = bytes.split_at(cut);
            let reader = read("text/event-stream; charset=utf-8", &[one, other]);
            assert_eq!((reader.usage, reader.known), (WHOLE, Known::Whole), "cut at {cut}");
            assert_eq!(reader.model.as_deref(), Some("claude-opus-4-5"));
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read("text/event-stream", &single).usage, WHOLE);
    }

    #[test]
    fn a_stream_that_is_cut_off_is_charged_for_what_passed() {
        let until_delta = STREAM.find("event: message_delta").unwrap();
        let reader = read("text/event-stream", &[&STREAM.as_bytes()[..until_delta]]);
        assert_eq!(reader.known, Known::Begun);
        assert!(
            reader.usage.output > 10 && reader.usage.output < 42,
            "{:?}",
            reader.usage
        );
        let nothing = read("text/event-stream", &[b"event: mess"]);
        assert_eq!((nothing.known, nothing.usage), (Known::Nothing, Usage::default()));
    }

    #[test]
    fn a_plain_answer_is_read_alike_wherever_it_is_cut_and_however_long_it_is() {
        let said = r#"{"id":"m","content":[{"type":"text","text":"\"model\":\"x\",}\\"}], "usage" : {"input_tokens":10,"output_tokens":42,"cache_read_input_tokens":5}, "model":"claude-opus-4-5"}"#;
        let bytes = said.as_bytes();
        for cut in 0..=bytes.len() {
            let (one, other) = bytes.split_at(cut);
            let reader = read("application/json", &[one, other]);
            assert_eq!(
                (reader.usage.input, reader.usage.output, reader.usage.cache_read),
                (10, 42, 5)
            );
            assert_eq!(reader.model.as_deref(), Some("claude-opus-4-5"));
        }
        let filler = vec![b'x'; 1024 * 1024];
        let reader = read(
            "application/json",
            &[
                br#"{"content":""#,
                &filler,
                &filler,
                br#"","model":"m","usage":{"output_tokens":3}}"#,
            ],
        );
        assert_eq!((reader.usage.output, reader.known), (3, Known::Whole));
        let Form::Other = reader.form else {
            panic!("{:?}", reader.form);
        };
    }

    #[test]
    fn a_line_without_an_end_is_held_in_bounded_memory_and_the_next_one_is_read() {
        let mut reader = Reader::of("text/event-stream");
        let filler = vec![b'x'; 64 * 1024];
        reader.feed(b"data: ");
        for _ in 0..64 {
            reader.feed(&filler);
            let Form::Stream(line) = &reader.form else {
                panic!("no stream");
            };
            assert!(line.kept.len() <= LINE_LIMIT);
        }
        reader.feed(b"\n");
        reader.feed(STREAM.as_bytes());
        reader.finish();
        assert_eq!(reader.usage, WHOLE);
    }

    #[test]
    fn what_is_no_account_is_none() {
        for (kind, text) in [
            ("text/html", "<html>"),
            ("application/json", "[1,2]"),
            ("application/json", "{\"usage\":7,\"model\":{}}"),
            ("text/event-stream", "data: {\"usage\": nonsense\n\n"),
            (
                "text/event-stream",
                "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":-1}}\n\n",
            ),
        ] {
            assert_eq!(read(kind, &[text.as_bytes()]).known, Known::Nothing, "{text}");
        }
    }
}
