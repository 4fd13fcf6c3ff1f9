//! A row in words, one line of a terminal wide.

use runner_journal::{Entry, Row};
use serde_json::Value;

use super::dump::Bodies;
use super::width::cut;
use crate::machine::Millis;

/// A line is 80 columns wide, and 24 of them are the row's number, time and boot.
const WORDS: usize = 56;

/// A row in words; `intended` is when the open intent was written.
pub(super) fn describe(row: &Row, bodies: &Bodies, intended: &mut Option<Millis>) -> String {
    let body = row.entry.body().map(|body| bodies.show(body));
    let said = body.as_deref().map(words).unwrap_or_default();
    let text = match &row.entry {
        Entry::Boot { .. } => format!("started {said}"),
        Entry::Enter { dst, .. } => format!("=> {dst} {said}"),
        Entry::Intent { effect, attempt, .. } => {
            *intended = Some(row.at_ms);
            format!("{effect} #{attempt} … {said}")
        }
        Entry::Probe { effect, finding, .. } => format!("{effect} looked for: {finding} {said}"),
        Entry::Outcome {
            effect,
            attempt,
            finding,
            ..
        } => {
            let took = intended.take().map(|at| format!(" in {}", span(row.at_ms - at)));
            format!("{effect} #{attempt} {finding}{} {said}", took.unwrap_or_default())
        }
        Entry::Verdict { .. } => format!("verdict {said}"),
        Entry::Ack { .. } => format!("acknowledged {said}"),
        Entry::Note { .. } => format!("note {said}"),
    };
    one_line(text.trim_end(), WORDS)
}

/// A body in words: its text first, then `name=value`. The tags say what the row says already.
pub(super) fn words(body: &str) -> String {
    fn collect(name: &str, value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| collect(name, value, out)),
            Value::String(text) if matches!(name, "message" | "cause" | "failure") => {
                out.insert(0, text.clone());
            }
            Value::String(tag) if matches!(name, "outcome" | "fact" | "found") && *tag != "retry" => {}
            Value::String(text) => out.push(format!("{name}={text}")),
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) | Value::Array(_) => out.push(format!("{name}={value}")),
        }
    }
    let mut out = Vec::new();
    match serde_json::from_str(body) {
        Ok(value) => collect("", &value, &mut out),
        Err(_) => out.push(body.to_owned()),
    }
    out.join(" ")
}

/// Without anything that a terminal obeys, and cut to so many columns.
pub(super) fn one_line(text: &str, columns: usize) -> String {
    let escaped: String = text
        .chars()
        .flat_map(|c| {
            if is_obeyed(c) {
                c.escape_debug().collect()
            } else {
                vec![c]
            }
        })
        .collect();
    cut(&escaped, columns)
}

/// Whether a character does something to the text around it instead of being seen: control characters, ends of lines,
/// and what turns the direction of writing around. What joins letters and emoji is let be.
pub(super) fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        )
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A span of time for a person: `12 ms`, `3.4 s`, `2m05s`, `1h02m`.
pub(super) fn span(ms: Millis) -> String {
    let seconds = ms / 1000;
    match ms {
        ..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{seconds}.{} s", ms % 1000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}
