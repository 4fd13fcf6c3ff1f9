//! Rows as programs read them: one JSON object each, written without a detour.
//!
//! A dump of a long journal is mostly this, so nothing is allocated for a row: it is put together in one buffer, bodies as
//! they are stored, and a moment of time is a second that is formatted once for all rows that were written in it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use runner_journal::Row;

use super::bodies::Bodies;
use crate::machine::Millis;
use crate::telemetry::rfc3339;

/// What stands between the parts of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// As it is stored.
    AsStored,
    /// None: a row is one line.
    One,
}

/// Writes rows.
pub(super) struct Rows<'a> {
    bodies: &'a Bodies,
    lines: Lines,
    clock: Clock,
    /// The row that is written, in one piece.
    line: Vec<u8>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(bodies: &'a Bodies, lines: Lines) -> Self {
        Self {
            bodies,
            lines,
            clock: Clock::default(),
            line: Vec::new(),
        }
    }

    /// A row, with what comes before it and after it. Fields that its kind does not have are absent.
    pub(super) fn write(&mut self, before: &str, row: &Row, after: &str, out: &mut dyn Write) -> io::Result<()> {
        let shown = row.entry.body().map(|body| self.bodies.show(body));
        // The hash covers the bytes that are stored.
        let redacted = matches!(shown, Some(Cow::Owned(_)));
        let line = &mut self.line;
        line.clear();
        line.extend(before.as_bytes());
        line.extend(b"{\"seq\":");
        number(line, row.seq);
        line.extend(b",\"boot\":");
        number(line, row.boot.into());
        word(line, "at", self.clock.at(row.at_ms));
        word(line, "kind", row.entry.kind().into());
        if let Some((from, to)) = row.entry.edge() {
            if !from.is_empty() {
                text(line, "from", from)?;
            }
            text(line, "to", to)?;
        }
        if let Some((effect, attempt)) = row.entry.effect() {
            text(line, "effect", effect)?;
            line.extend(b",\"attempt\":");
            number(line, attempt.into());
        }
        if let Some(finding) = row.entry.finding() {
            word(line, "result", finding.into());
        }
        if let Some(key) = row.entry.key() {
            text(line, "key", key)?;
        }
        if let Some(body) = &shown {
            line.extend(b",\"body\":");
            let at = line.len();
            line.extend(body.as_bytes());
            if self.lines == Lines::One {
                one_line(&mut line[at..]);
            }
        }
        if redacted {
            line.extend(b",\"redacted\":true");
        }
        let mut hash = [0; 64];
        hex::encode_to_slice(row.hash.as_bytes(), &mut hash).map_err(io::Error::other)?;
        line.extend(b",\"hash\":\"");
        line.extend(hash);
        line.extend(b"\"}");
        line.extend(after.as_bytes());
        out.write_all(line)
    }
}

/// In JSON an end of line can only stand between two parts, where a space means the same.
fn one_line(json: &mut [u8]) {
    let mut rest = json;
    while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
        rest[at] = b' ';
        rest = &mut rest[at + 1..];
    }
}

fn number(line: &mut Vec<u8>, number: u64) {
    // Writing to a vector does not fail.
    let _ = write!(line, "{number}");
}

/// A field whose value has nothing in it that JSON escapes.
fn word(line: &mut Vec<u8>, name: &str, value: &str) {
    for part in [",\"", name, "\":\"", value, "\""] {
        line.extend(part.as_bytes());
    }
}

/// A field with any text.
fn text(line: &mut Vec<u8>, name: &str, value: &str) -> io::Result<()> {
    for part in [",\"", name, "\":"] {
        line.extend(part.as_bytes());
    }
    serde_json::to_writer(line, value).map_err(io::Error::from)
}

/// Moments as RFC 3339 with milliseconds. The second of the last one is kept: rows come close together.
#[derive(Debug, Default)]
struct Clock {
    second: Option<i64>,
    /// `2026-01-02T03:04:05.678Z`, of which the milliseconds change.
    text: String,
}

impl Clock {
    fn at(&mut self, at_ms: Millis) -> &str {
        let (second, ms) = (at_ms.div_euclid(1000), at_ms.rem_euclid(1000));
        // A moment that no calendar has is told as a number, and never kept.
        if self.second == Some(second) && self.text.len() > 5 {
            self.text.truncate(self.text.len() - 4);
            let _ = write!(self.text, "{ms:03}Z");
        } else {
            self.text = rfc3339(at_ms);
            self.second = self.text.ends_with('Z').then_some(second);
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(body: &str, lines: Lines) -> String {
        let row = Row {
            seq: 1,
            boot: 1,
            at_ms: 0,
            entry: runner_journal::Entry::Enter {
                src: "a \"quoted\" state".to_owned(),
                dst: "B".to_owned(),
                body: Some(body.to_owned()),
            },
            prev: runner_journal::Hash::ZERO,
            hash: runner_journal::Hash::ZERO,
        };
        let mut out = Vec::new();
        Rows::new(&Bodies::AsStored, lines)
            .write("", &row, "", &mut out)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_body_that_was_stored_in_several_lines_is_one_line_where_a_row_has_to_be() {
        let body = "{\n \"a\":\r\n \"b\\nc\"}";
        let one = written(body, Lines::One);
        assert!(!one.contains(['\n', '\r']), "{one}");
        let stored = written(body, Lines::AsStored);
        assert!(stored.contains(body), "{stored}");
        let [one, stored] = [one, stored].map(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap());
        assert_eq!(one, stored);
        assert_eq!(one["body"]["a"], "b\nc");
        assert_eq!(one["from"], "a \"quoted\" state");
    }

    #[test]
    fn a_moment_is_the_same_whatever_was_written_before_it() {
        let mut clock = Clock::default();
        let year = 365 * 86_400_000;
        for at in [
            0,
            999,
            1_000,
            -1,
            -1_000,
            -1_001,
            56 * year,
            56 * year + 7,
            i64::MAX,
            5,
            i64::MIN,
            i64::MIN + 1,
        ] {
            assert_eq!(clock.at(at), rfc3339(at));
        }
    }
}
