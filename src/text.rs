//! Text from elsewhere, cut and escaped before it is shown or kept.

/// How many characters of a peer's text an error of ours shows.
const EXCERPT_CHARS: usize = 200;

/// `1 file`, `2 files`.
pub fn count(number: u32, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Text from elsewhere for a terminal: no control character in it but the end of a line.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let kept = c == '\n' || !c.is_control();
            let escaped = (!kept).then(|| c.escape_default());
            kept.then_some(c).into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

/// The same in one line.
pub fn escape_controls(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

/// At most `limit` bytes of the text, and a mark where something is missing.
pub fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// At most `limit` bytes of its end, and a mark where something is missing.
pub fn cut_front(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    format!("…{}", &text[text.ceil_char_boundary(text.len() - limit)..])
}

/// A peer's text as an error may show it: control and formatting characters escaped, at most 200 characters.
pub fn excerpt(text: &str) -> String {
    let mut shown = String::new();
    let mut count = 0;
    for c in text.trim().chars() {
        let escaped: String = if matches!(c, '"' | '\'') {
            c.to_string()
        } else {
            c.escape_debug().collect()
        };
        count += escaped.chars().count();
        if count > EXCERPT_CHARS {
            shown.push('…');
            break;
        }
        shown.push_str(&escaped);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(printable("a\u{1b}[31mb\u{7}\nc"), "a\\u{1b}[31mb\\u{7}\nc");
    }

    #[test]
    fn text_is_cut_on_a_character() {
        assert_eq!(cut("äb", 3), "äb");
        assert_eq!(cut("ääb", 3), "ä…");
        assert_eq!(cut_front("bä", 3), "bä");
        assert_eq!(cut_front("bää", 3), "…ä");
    }
}
