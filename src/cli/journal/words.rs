//! Bodies, spans of time and others' words, for a person.

use serde_json::Value;

use super::width::cut;
use crate::machine::Millis;

/// A body in words: its text first, then `name=value`. The tags say what the row says already.
pub(in crate::cli) fn words(body: &str) -> String {
    fn collect(name: &str, value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| collect(name, value, out)),
            Value::String(text) if matches!(name, "message" | "cause" | "failure" | "note") => {
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

/// A text field at the top of a body.
pub(in crate::cli) fn field(body: &str, name: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    body.get(name)?.as_str().map(str::to_owned)
}

/// Without anything that a terminal obeys, and cut to so many columns.
pub(in crate::cli) fn one_line(text: &str, columns: usize) -> String {
    cut(&escaped(text), columns)
}

/// In one line, without anything that a terminal obeys.
pub(super) fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if is_obeyed(c) {
                c.escape_debug().collect()
            } else {
                vec![c]
            }
        })
        .collect()
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

/// A span of time for a person: `12 ms`, `3.4 s`, `2m05s`, `1h02m`, `3d04h`; with a minus where a clock went back.
pub(in crate::cli) fn span(ms: Millis) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    let (seconds, minutes, hours) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    match ms {
        ..1000 => format!("{sign}{ms} ms"),
        1000..60_000 => format!("{sign}{seconds}.{} s", ms % 1000 / 100),
        60_000..3_600_000 => format!("{sign}{minutes}m{:02}s", seconds % 60),
        3_600_000..86_400_000 => format!("{sign}{hours}h{:02}m", minutes % 60),
        _ => format!("{sign}{}d{:02}h", hours / 24, hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_its_own_units_also_where_a_clock_went_back() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (3_450, "3.4 s"),
            (-3_450, "-3.4 s"),
            (125_000, "2m05s"),
            (3_720_000, "1h02m"),
            (86_400_000 * 3 + 3_600_000 * 4, "3d04h"),
            (-1_700_000_000_005, "-19675d22h"),
        ] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn others_words_are_one_line_that_no_terminal_obeys() {
        assert_eq!(one_line("a\r\n\u{1b}[31m\u{202e}b", 80), "a\\r\\n\\u{1b}[31m\\u{202e}b");
        assert_eq!(
            one_line("👩‍💻 and é", 80),
            "👩‍💻 and é",
            "what belongs together stays together"
        );
    }
}
