//! Text from anywhere as HTML: nothing in it is markup, and nothing in it turns the text around it.

use std::fmt::{self, Display, Write};

use url::Url;

use crate::cli::journal::words::is_obeyed;

/// Text as HTML, for an element or a quoted attribute.
pub(super) struct Text<'a>(pub(super) &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut from = 0;
        for (at, c) in self.0.char_indices() {
            let special = match c {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '"' => "&quot;",
                '\'' => "&#39;",
                '\n' | '\t' => continue,
                _ if !is_obeyed(c) => continue,
                _ => "",
            };
            f.write_str(&self.0[from..at])?;
            from = at + c.len_utf8();
            if special.is_empty() {
                write!(f, "⟨U+{:04X}⟩", u32::from(c))?;
            } else {
                f.write_str(special)?;
            }
        }
        f.write_str(&self.0[from..])
    }
}

/// Text as HTML in which each address of the web is a link. Nothing else is ever one.
pub(super) struct Linked<'a>(pub(super) &'a str);

impl Display for Linked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = begin_of_address(rest) {
            let (before, from) = rest.split_at(at);
            let address = &from[..end_of_address(from)];
            write!(f, "{}", Text(before))?;
            if is_plain_address(address) {
                write!(f, "<a href=\"{0}\" rel=\"noopener noreferrer\">{0}</a>", Text(address))?;
            } else {
                write!(f, "{}", Text(address))?;
            }
            rest = &from[address.len()..];
        }
        write!(f, "{}", Text(rest))
    }
}

fn begin_of_address(text: &str) -> Option<usize> {
    let found = ["https://", "http://"]
        .into_iter()
        .filter_map(|scheme| text.find(scheme));
    found.min()
}

/// At the first character that no address has, less what ends a sentence. At least one character is taken.
fn end_of_address(text: &str) -> usize {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#[]@!$&*+,;=%".contains(c);
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    text[..end]
        .trim_end_matches(['.', ',', ';', ':', '!', '?'])
        .len()
        .max(1)
}

/// Whether it leads where it says: no user's name before the host.
fn is_plain_address(address: &str) -> bool {
    Url::parse(address).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host().is_some()
            && url.username().is_empty()
            && url.password().is_none()
    })
}

/// What is written into an element or attribute.
pub(super) fn text(value: impl Display) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(out, "{}", Text(&value.to_string()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        let hostile = "</script><img src=x onerror='alert(1)'> \"&amp;\"";
        let shown = text(hostile);
        assert_eq!(
            shown,
            "&lt;/script&gt;&lt;img src=x onerror=&#39;alert(1)&#39;&gt; &quot;&amp;amp;&quot;"
        );
    }

    #[test]
    fn what_would_turn_or_hide_text_is_shown_by_its_number() {
        assert_eq!(
            text("a\u{202e}b\u{0}c\u{1b}[2Jd\u{2028}e\nf\tg"),
            "a⟨U+202E⟩b⟨U+0000⟩c⟨U+001B⟩[2Jd⟨U+2028⟩e\nf\tg"
        );
        assert_eq!(text("שלום, 世界 ✓"), "שלום, 世界 ✓");
    }

    #[test]
    fn an_address_of_the_web_is_a_link_and_nothing_else_is() {
        let linked = |text: &str| Linked(text).to_string();
        assert_eq!(
            linked("Opened https://h.example/o/r/pull/1."),
            "Opened <a href=\"https://h.example/o/r/pull/1\" rel=\"noopener noreferrer\">https://h.example/o/r/pull/1</a>."
        );
        for plain in [
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "http://",
            "https://github.com@evil.example/",
            "https://a:b@h.example/",
        ] {
            assert!(!linked(plain).contains("<a"), "{plain}: {}", linked(plain));
        }
        let hostile = linked("http://h.example/\"onmouseover=\"x<b>");
        assert!(hostile.starts_with("<a href=\"http://h.example/\" rel"), "{hostile}");
        assert!(hostile.ends_with("</a>&quot;onmouseover=&quot;x&lt;b&gt;"), "{hostile}");
        assert_eq!(
            linked("http://h.example/a http://h.example/b").matches("<a ").count(),
            2
        );
    }
}
