//! How wide a terminal is, and how wide text is on it.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What fits a terminal that does not say how wide it is, and what a file is written for.
pub(super) const USUAL: usize = 80;
/// Narrower is not wrapped for: words would be cut everywhere.
const NARROWEST: usize = 40;

/// The columns that there are: `COLUMNS`, else the terminal's own, else 80.
pub(super) fn columns() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    said.or_else(of_the_terminal).unwrap_or(USUAL).max(NARROWEST)
}

fn of_the_terminal() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// The columns that a text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// At most so many columns of a text, and a mark where something is missing. No character is cut in two, and none
/// loses what combines with it.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(1);
    let mut taken = 0;
    let mut end = 0;
    for (at, c) in text.char_indices() {
        taken += c.width().unwrap_or(0);
        if taken > room {
            break;
        }
        end = at + c.len_utf8();
    }
    format!("{}…", &text[..end])
}

/// A text in lines of so many columns, broken between words. A longer word has a line of its own.
pub(super) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && width(&line) + 1 + width(word) > columns {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}
