//! Text from elsewhere, cut and escaped before it is shown or kept.

/// How many characters of a peer's text an error of ours shows.
const EXCERPT_CHARS: usize = 200;

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
    fn text_is_cut_on_a_character() {
        assert_eq!(cut("äb", 3), "äb");
        assert_eq!(cut("ääb", 3), "ä…");
    }
}
