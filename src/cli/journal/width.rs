//! How wide a terminal is, and how wide text is on it.

use std::os::fd::AsFd;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What fits a terminal that does not say how wide it is, and what a file is written for.
pub(in crate::cli) const USUAL: usize = 80;
/// Narrower is not wrapped for: words would be cut everywhere.
const NARROWEST: usize = 40;

/// The columns that there are: `COLUMNS`, else the terminal's own, else 80.
pub(in crate::cli) fn columns() -> usize {
    columns_of(&std::io::stdout()).max(NARROWEST)
}

/// The same of another output.
pub(in crate::cli) fn columns_of(output: &impl AsFd) -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    said.or_else(|| of_the_terminal(output)).unwrap_or(USUAL)
}

fn of_the_terminal(output: &impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(output).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// The columns that a text takes.
pub(in crate::cli) fn width(text: &str) -> usize {
    text.width()
}

/// At most so many columns of a text, and a mark where something is missing. No character is cut in two, and none
/// loses what combines with it.
pub(in crate::cli) fn cut(text: &str, columns: usize) -> String {
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
pub(in crate::cli) fn wrapped(text: &str, columns: usize) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_by_the_columns_that_it_takes_and_never_within_a_character() {
        for (text, columns, shown) in [
            ("short", 5, "short"),
            ("longer", 5, "long…"),
            // Two columns each.
            ("界界界", 6, "界界界"),
            ("界界界", 5, "界界…"),
            ("界界界", 4, "界…"),
            // What combines with a letter takes none, and stays with it.
            ("e\u{301}e\u{301}e\u{301}", 3, "e\u{301}e\u{301}e\u{301}"),
            ("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…"),
            ("anything", 0, "…"),
        ] {
            assert_eq!(cut(text, columns), shown, "{text} in {columns}");
            assert!(width(&cut(text, columns)) <= columns.max(1));
        }
    }

    #[test]
    fn lines_break_between_words_by_the_columns_that_these_take() {
        assert_eq!(wrapped("a bb  ccc dddd", 6), ["a bb", "ccc", "dddd"]);
        assert_eq!(wrapped("界界 界", 5), ["界界", "界"]);
        assert_eq!(
            wrapped("https://a-long-word.example b", 10),
            ["https://a-long-word.example", "b"]
        );
        assert_eq!(wrapped("", 10), [""]);
    }
}
