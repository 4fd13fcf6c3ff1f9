//! What an agent prints that is no event: its end is kept, without secrets.

use super::stream::last_bytes;
use crate::redact::{Redactor, Scrub};

/// A longer line is dropped, in bytes.
pub(super) const LINE_LIMIT: usize = 1024 * 1024;
/// How much of the end is kept, in bytes.
pub(super) const LIMIT: usize = 8 * 1024;
/// How much is redacted at once, in bytes: line by line it would take many times longer.
const BATCH: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Plain {
    waiting: String,
    scrub: Scrub,
    clean: Vec<u8>,
}

impl Plain {
    pub(super) fn new(redactor: &Redactor) -> Self {
        Self {
            waiting: String::new(),
            scrub: redactor.stream(),
            clean: Vec::new(),
        }
    }

    /// Takes in a line.
    pub(super) fn take(&mut self, line: &str) {
        self.waiting.push_str(line);
        self.waiting.push('\n');
        if self.waiting.len() >= BATCH {
            let clean = self.scrub.feed(self.waiting.as_bytes());
            self.waiting = String::new();
            self.keep(&clean);
        }
    }

    fn keep(&mut self, clean: &[u8]) {
        // One byte more than is needed, for the last line's end.
        let surplus = (self.clean.len() + clean.len()).saturating_sub(LIMIT + 1);
        self.clean.drain(..surplus.min(self.clean.len()));
        self.clean
            .extend_from_slice(&clean[clean.len().saturating_sub(LIMIT + 1)..]);
    }

    /// The end of it.
    pub(super) fn finish(mut self) -> String {
        let clean = self.scrub.feed(self.waiting.as_bytes());
        self.keep(&clean);
        let clean = self.scrub.finish();
        self.keep(&clean);
        // The cut may have gone through a character.
        let from = self.clean.iter().position(|byte| !(0x80..0xc0).contains(byte));
        let text = String::from_utf8_lossy(&self.clean[from.unwrap_or(0)..]).into_owned();
        last_bytes(text.trim_end_matches('\n'), LIMIT).to_owned()
    }
}
