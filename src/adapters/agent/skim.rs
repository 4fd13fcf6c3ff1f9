//! Reads the top-level scalars of a JSON object of any length in bounded memory: for a line too long to be parsed, or not
//! quite JSON. What a result says of itself must not be lost because of its size.

use serde_json::{Map, Value};

/// The fields that are worth keeping.
const WANTED: [&str; 10] = [
    "type",
    "subtype",
    "is_error",
    "terminal_reason",
    "api_error_status",
    "num_turns",
    "total_cost_usd",
    "duration_ms",
    "session_id",
    "result",
];
/// How much of one value is kept, in bytes.
const VALUE_LIMIT: usize = 20 * 1024;

#[derive(Debug, Default)]
enum At {
    #[default]
    BeforeKey,
    BeforeValue(String),
}

/// The state of a walk over one object, fed in pieces.
#[derive(Debug, Default)]
pub(super) struct Skim {
    depth: usize,
    in_string: bool,
    escaped: bool,
    at: At,
    token: Vec<u8>,
    found: Map<String, Value>,
}

impl Skim {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.step(byte);
        }
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            self.keep(byte);
            if self.escaped {
                self.escaped = false;
            } else if byte == b'\\' {
                self.escaped = true;
            } else if byte == b'"' {
                self.in_string = false;
            }
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.keep(byte);
            }
            b'{' | b'[' => {
                self.depth += 1;
                self.token.clear();
            }
            b'}' | b']' => {
                self.end_value();
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if self.depth == 1 => {
                let token = std::mem::take(&mut self.token);
                self.at = At::BeforeValue(serde_json::from_slice(&token).unwrap_or_default());
            }
            b',' => self.end_value(),
            _ if byte.is_ascii_whitespace() => {}
            _ => self.keep(byte),
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.depth == 1 && self.token.len() < VALUE_LIMIT {
            self.token.push(byte);
        }
    }

    fn end_value(&mut self) {
        if self.depth != 1 {
            return;
        }
        let token = std::mem::take(&mut self.token);
        if let At::BeforeValue(key) = std::mem::take(&mut self.at)
            && WANTED.contains(&key.as_str())
            && let Some(value) = value_of(&token)
        {
            self.found.insert(key, value);
        }
    }

    /// What was found, as an object.
    pub(super) fn finish(mut self) -> Value {
        self.end_value();
        Value::Object(self.found)
    }
}

/// A scalar as JSON has it. A string that was cut is closed where it still makes sense.
fn value_of(token: &[u8]) -> Option<Value> {
    let text = String::from_utf8_lossy(token);
    if let Ok(value) = serde_json::from_str(&text) {
        return Some(value);
    }
    // The cut may have gone through a character.
    let cut = text.strip_prefix('"')?.trim_end_matches('\u{fffd}');
    // An escape is at most 12 characters (a pair of surrogates).
    let mut ends = (0..=12)
        .filter_map(|back| cut.len().checked_sub(back))
        .filter(|end| cut.is_char_boundary(*end));
    ends.find_map(|end| serde_json::from_str(&format!("\"{}\"", &cut[..end])).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn skim(text: &str, piece: usize) -> Value {
        let mut skim = Skim::default();
        for chunk in text.as_bytes().chunks(piece) {
            skim.feed(chunk);
        }
        skim.finish()
    }

    #[test]
    fn top_level_scalars_are_found_wherever_they_are_and_nested_ones_are_not() {
        let text = r#" {"usage":{"type":"no","deep":[{"type":"no"},1]},"errors":["type"],"a":"\"type\":\"no\"{","is_error" : true,
            "api_error_status":null,"total_cost_usd":1.26,"type":"result","subtype":"success"} "#;
        for piece in [1, 7, 10_000] {
            assert_eq!(
                skim(text, piece),
                json!({"type": "result", "subtype": "success", "is_error": true, "api_error_status": null, "total_cost_usd": 1.26})
            );
        }
    }

    #[test]
    fn a_long_string_is_cut_where_it_still_makes_sense() {
        for filler in ["x", "ä", "\\n", "\\u00e4", "\\ud83d\\ude00"] {
            let text = format!("{{\"result\":\"{}\",\"type\":\"result\"}}", filler.repeat(30_000));
            let found = skim(&text, 4096);
            assert_eq!(found["type"], "result", "{filler}");
            let kept = found["result"].as_str().unwrap().len();
            assert!(kept > 1_000 && kept <= VALUE_LIMIT, "{filler}: {kept}");
        }
    }
}
