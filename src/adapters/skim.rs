//! Picks top-level values out of a JSON object of any length, in bounded memory: out of a line too long to be parsed, or not
//! quite JSON, and out of an answer that only passes. What such a text says of itself must not be lost because of its size.

use std::borrow::Cow;

use memchr::memchr2;

/// How much of one value is kept, in bytes.
pub(super) const VALUE_LIMIT: usize = 64 * 1024;
/// A longer key is no wanted one, even if each of its letters is an escape.
const KEY_LIMIT: usize = 256;

/// A walk over one object, fed in pieces.
#[derive(Debug)]
pub(super) struct Skim {
    wanted: &'static [&'static str],
    depth: usize,
    in_string: bool,
    escaped: bool,
    at: At,
    key: Vec<u8>,
    found: Vec<(&'static str, Vec<u8>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Key,
    /// It is the last one that was found.
    Wanted,
    Unwanted,
}

impl Skim {
    /// Looks for the values of these keys.
    pub(super) fn new(wanted: &'static [&'static str]) -> Self {
        Self {
            wanted,
            depth: 0,
            in_string: false,
            escaped: false,
            at: At::Key,
            key: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Takes in what has come, cut anywhere.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.escaped {
                self.escaped = false;
                self.keep(&[byte]);
                bytes = rest;
            } else if self.in_string {
                let end = memchr2(b'"', b'\\', bytes).map_or(bytes.len(), |at| at + 1);
                let (piece, rest) = bytes.split_at(end);
                self.keep(piece);
                self.in_string = !piece.ends_with(b"\"");
                self.escaped = piece.ends_with(b"\\");
                bytes = rest;
            } else {
                self.outside(byte);
                bytes = rest;
            }
        }
    }

    /// A byte that is in no string.
    fn outside(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.in_string = true;
                self.keep(b"\"");
            }
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth > 1 {
                    self.keep(&[byte]);
                }
            }
            b'}' | b']' => {
                if self.depth > 1 {
                    self.keep(&[byte]);
                } else {
                    self.end_value();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if self.depth == 1 && self.at == At::Key => self.begin_value(),
            b',' if self.depth == 1 => self.end_value(),
            _ if byte.is_ascii_whitespace() => {}
            _ => self.keep(&[byte]),
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let (kept, limit) = match (self.at, self.found.last_mut()) {
            (At::Key, _) if self.depth == 1 => (&mut self.key, KEY_LIMIT),
            (At::Wanted, Some((_, value))) => (value, VALUE_LIMIT),
            (At::Key | At::Wanted | At::Unwanted, _) => return,
        };
        let room = limit.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
    }

    fn begin_value(&mut self) {
        let key = std::mem::take(&mut self.key);
        let key = serde_json::from_slice::<Cow<'_, str>>(&key).unwrap_or_default();
        match self.wanted.iter().find(|wanted| **wanted == key) {
            Some(wanted) => {
                // Where a key is there twice, the last one counts.
                self.found.retain(|(name, _)| name != wanted);
                self.found.push((wanted, Vec::new()));
                self.at = At::Wanted;
            }
            None => self.at = At::Unwanted,
        }
    }

    fn end_value(&mut self) {
        self.key.clear();
        self.at = At::Key;
    }

    /// The text of what was found, without the white space between its tokens. What was longer than [`VALUE_LIMIT`], or than
    /// all that came, is cut.
    pub(super) fn finish(self) -> Vec<(&'static str, Vec<u8>)> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skim(text: &str, piece: usize) -> Vec<(&'static str, String)> {
        let mut skim = Skim::new(&["type", "usage", "is_error", "result"]);
        for chunk in text.as_bytes().chunks(piece) {
            skim.feed(chunk);
        }
        let found = skim.finish().into_iter();
        found
            .map(|(name, text)| (name, String::from_utf8(text).unwrap()))
            .collect()
    }

    #[test]
    fn wanted_values_are_found_at_the_top_wherever_the_text_is_cut_and_others_are_not() {
        let text = r#" {"other":{"type":"no","deep":[{"type":"no"},1]},"errors":["type"],"a":"\"type\":\"no\"{","is_error" : true,
            "usage": { "in" : [ 1, {"type": "in" } ] },"\u0074ype":"re\\\"sult","b":null} "#;
        for piece in [1, 7, 10_000] {
            assert_eq!(
                skim(text, piece),
                [
                    ("is_error", "true".to_owned()),
                    ("usage", r#"{"in":[1,{"type":"in"}]}"#.to_owned()),
                    ("type", r#""re\\\"sult""#.to_owned())
                ]
            );
        }
    }

    #[test]
    fn of_a_key_that_is_there_twice_the_last_one_counts() {
        assert_eq!(skim(r#"{"type":1,"type":2}"#, 3), [("type", "2".to_owned())]);
    }

    #[test]
    fn what_is_kept_of_a_value_and_of_a_key_is_bounded() {
        let long = "x".repeat(1024 * 1024);
        let mut skim = Skim::new(&["result"]);
        skim.feed(format!("{{\"{long}").as_bytes());
        assert!(skim.key.len() <= KEY_LIMIT);
        skim.feed(format!("\":\"{long}\",\"result\":\"{long}").as_bytes());
        assert_eq!(skim.finish()[0].1.len(), VALUE_LIMIT);
    }
}
