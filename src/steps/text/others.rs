//! What others say, so that it stays in its place: an agent's words as Markdown, a program's output as it is, a reason as
//! one plain line. Nothing of it opens a tag or a comment, hides what comes after it, or calls people by name.

use std::borrow::Cow;
use std::fmt::Write;

/// Invisible, and enough to make a name no mention and a bracket no tag.
const NOTHING: char = '\u{200b}';

/// Words that close an issue whose number follows, as GitHub documents them.
const CLOSING: [&str; 9] = [
    "close", "closes", "closed", "fix", "fixes", "fixed", "resolve", "resolves", "resolved",
];

/// A link with more bytes is not looked at to its end.
const LONGEST_LINK: usize = 500;

/// A fenced block of code that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fence {
    with: char,
    length: usize,
    /// Whether every reader of Markdown sees this block begin and end where this one does.
    sure: bool,
}

/// An agent's words: they stay Markdown, with lists, links and code, but for raw HTML and mentions.
///
/// Code is left as it is only in a fenced block that is one beyond doubt: at the line's beginning, and before any fence
/// that is indented. An indented fence may be part of a list or not, which would take a whole parser to tell; from there
/// on code is defused as well, by a character that is not seen, and the text is quoted, so that what is left open ends
/// with it.
pub(super) fn markdown(text: &str) -> String {
    let text = without_controls(text);
    let mut lines = Vec::new();
    let mut open: Option<Fence> = None;
    let mut sure = true;
    for line in text.trim_end().lines() {
        match open {
            Some(fence) => {
                lines.push(if fence.sure { line.to_owned() } else { in_doubt(line) });
                if closes(line, fence) {
                    open = None;
                }
            }
            None => match opens(line) {
                Some(fence) => {
                    sure &= fence.sure;
                    let fence = Fence { sure, ..fence };
                    lines.push(if sure { line.to_owned() } else { in_doubt(line) });
                    open = Some(fence);
                }
                None => lines.push(in_text(line)),
            },
        }
    }
    if let Some(fence) = open {
        lines.push(fence.with.to_string().repeat(fence.length));
    }
    if !sure {
        for line in &mut lines {
            line.insert_str(0, "> ");
        }
    }
    lines.join("\n")
}

/// The end of what a program printed, as a block of code that it cannot end.
pub(super) fn output(text: &str, limit: usize) -> String {
    let text = without_controls(text);
    let text = text.trim_end();
    let mut from = text.len().saturating_sub(limit);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let kept = &text[from..];
    // Half a line says little, unless there is nothing else.
    let kept = match kept.split_once('\n') {
        Some((_, rest)) if from > 0 => rest,
        Some(_) | None => kept,
    };
    let longest = kept.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest.max(2) + 1);
    let cut = if from > 0 { "…\n" } else { "" };
    format!("{fence}text\n{cut}{kept}\n{fence}")
}

/// Words that are no Markdown, in one line.
pub(super) fn plain(text: &str) -> String {
    let text = without_controls(text);
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut shown = String::new();
    for c in words.join(" ").chars() {
        match c {
            '@' => shown.extend(['@', NOTHING]),
            c if c.is_ascii_punctuation()
                && !matches!(c, '.' | ',' | ';' | ':' | '/' | '-' | '\'' | '"' | '(' | ')') =>
            {
                shown.extend(['\\', c]);
            }
            c => shown.push(c),
        }
    }
    shown
}

/// Text without control characters, colours of a terminal among them.
pub(super) fn without_controls(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' | '\t' => shown.push(c),
            '\u{1b}' if rest.next_if_eq(&'[').is_some() => {
                // To the letter that ends the sequence.
                while rest
                    .next_if(|c| !('\u{40}'..='\u{7e}').contains(c) && *c != '\n')
                    .is_some()
                {}
                rest.next_if(|c| *c != '\n');
            }
            c if c.is_control() => {}
            c => shown.push(c),
        }
    }
    shown
}

fn opens(line: &str) -> Option<Fence> {
    let text = line.trim_start();
    let with = text.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = text.chars().take_while(|c| *c == with).count();
    let info = &text[length..];
    let is_one = length >= 3 && !(with == '`' && info.contains('`'));
    is_one.then_some(Fence {
        with,
        length,
        sure: text.len() == line.len(),
    })
}

fn closes(line: &str, fence: Fence) -> bool {
    let text = line.trim_start_matches(' ');
    let length = text.chars().take_while(|c| *c == fence.with).count();
    let indented = line.len() - text.len();
    // One that is in doubt may stand in a list, and end as deep in it.
    (indented <= 3 || !fence.sure) && length >= fence.length && text[length..].trim().is_empty()
}

/// A line that may be code and may be text.
fn in_doubt(line: &str) -> String {
    let mut shown = String::new();
    for (at, c) in line.char_indices() {
        shown.push(c);
        let rest = &line[at + c.len_utf8()..];
        if (c == '<' && begins_a_tag(rest)) || (c == '@' && begins_a_name(rest)) || (c == '&' && is_an_at_sign(rest)) {
            shown.push(NOTHING);
        }
    }
    shown
}

/// A line in which no word closes an issue when it is merged: what is closed, the task says, and nobody else.
pub(super) fn closes_nothing(line: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(line);
    // From the end, so that what was found stays where it is.
    for (at, c) in line.char_indices().rev() {
        let word = &line[at..];
        let begins = !line[..at].ends_with(char::is_alphanumeric);
        if begins && c.is_ascii_alphabetic() && CLOSING.iter().any(|keyword| names_an_issue_after(word, keyword)) {
            shown.to_mut().insert(at + 1, NOTHING);
        }
    }
    shown
}

fn names_an_issue_after(text: &str, keyword: &str) -> bool {
    let Some((word, rest)) = text.split_at_checked(keyword.len()) else {
        return false;
    };
    let rest = start(rest.strip_prefix(':').unwrap_or(rest));
    if !word.eq_ignore_ascii_case(keyword) || !rest.starts_with(char::is_whitespace) {
        return false;
    }
    let issue = rest.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    ["#", "gh-", "/issues/"].into_iter().any(|before| {
        let mut found = issue.match_indices(before);
        found.any(|(at, _)| issue[at + before.len()..].starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// A line of text.
fn in_text(line: &str) -> String {
    let line = &*closes_nothing(line);
    let mut shown = String::new();
    let mut at = 0;
    while let Some(c) = line[at..].chars().next() {
        let rest = &line[at + c.len_utf8()..];
        let mut length = c.len_utf8();
        match c {
            '`' if !line[..at].ends_with('\\') => {
                let (span, bytes) = code(&line[at..]);
                shown.push_str(&span);
                length = bytes;
            }
            '<' if begins_a_tag(rest) => match link(rest) {
                Some(address) => {
                    let _ = write!(shown, "<{address}>");
                    length = address.len() + 2;
                }
                None => shown.push_str("&lt;"),
            },
            '@' if begins_a_name(rest)
                && !line[..at].ends_with(char::is_alphanumeric)
                && !is_in_a_link(&line[..at]) =>
            {
                shown.extend(['@', NOTHING]);
            }
            '&' if is_an_at_sign(rest) => shown.push_str("&amp;"),
            c => shown.push(c),
        }
        at += length;
    }
    shown
}

/// What begins with backticks, and how many bytes of it are dealt with. Code with a bracket or an at sign in it is written
/// as HTML: whether these backticks are a pair, the rest of the paragraph has a say in.
fn code(text: &str) -> (String, usize) {
    let length = text.len() - text.trim_start_matches('`').len();
    let mut from = length;
    while let Some(found) = text[from..].find('`') {
        let begin = from + found;
        let run = text[begin..].len() - text[begin..].trim_start_matches('`').len();
        if run == length {
            let (inside, whole) = (&text[length..begin], begin + run);
            if !inside.contains(['<', '@', '&']) {
                return (text[..whole].to_owned(), whole);
            }
            let spaced = inside.strip_prefix(' ').and_then(|rest| rest.strip_suffix(' '));
            let inside = spaced.filter(|rest| !rest.trim().is_empty()).unwrap_or(inside);
            return (format!("<code>{}</code>", as_html(inside)), whole);
        }
        from = begin + run;
    }
    // Alone, many of them may begin a block once what follows them has changed.
    let mark = if length < 3 { "`" } else { "\\`" };
    (mark.repeat(length), length)
}

fn as_html(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        match c {
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '&' => shown.push_str("&amp;"),
            // They would still mean something to Markdown. An at sign calls nobody in code.
            '*' | '_' | '`' | '[' | ']' | '\\' | '~' | '|' | '$' => {
                let _ = write!(shown, "&#{};", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    shown
}

/// Whether a bracket before this would open a tag, a comment or the like.
fn begins_a_tag(rest: &str) -> bool {
    rest.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?'))
}

fn begins_a_name(rest: &str) -> bool {
    rest.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// Whether an ampersand before this may write an at sign.
fn is_an_at_sign(rest: &str) -> bool {
    rest.starts_with('#') || rest.starts_with("commat")
}

fn start(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_LINK);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The address of a link in brackets, without them.
fn link(rest: &str) -> Option<&str> {
    let (address, _) = start(rest).split_once('>')?;
    let plain = !address.contains(|c: char| c.is_whitespace() || matches!(c, '<' | '`' | '@'));
    let begins = address.starts_with("https://") || address.starts_with("http://");
    (begins && plain).then_some(address)
}

/// Whether an address that began before this goes on: there, an at sign calls nobody, and a character more would spoil it.
fn is_in_a_link(before: &str) -> bool {
    let mut from = before.len().saturating_sub(LONGEST_LINK);
    while !before.is_char_boundary(from) {
        from += 1;
    }
    let before = &before[from..];
    let Some(begin) = before.rfind("https://").or_else(|| before.rfind("http://")) else {
        return false;
    };
    let (front, address) = before.split_at(begin);
    let Some((_, rest)) = address.split_once("://") else {
        return false;
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let is_host = host.starts_with(|c: char| c.is_ascii_alphanumeric())
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
        && rest.len() > host.len();
    let goes_on = path
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '/' | '@' | '%' | '+' | '=' | '?'));
    !front.ends_with(char::is_alphanumeric) && is_host && goes_on
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markdown_stays_what_it_is() {
        let text = "# Done\n\n- one, `two` and **three**: [here](https://e.org/@a/b), <https://e.org/x>\n- a < b && c > d, me@e.org\n\n```rust\nlet x: Vec<String> = @y;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |";
        assert_eq!(markdown(text), text);
    }

    #[test]
    fn a_tag_is_shown_and_a_name_calls_nobody() {
        for (said, shown) in [
            ("<details>", "&lt;details>"),
            ("</details> <!-- x", "&lt;/details> &lt;!-- x"),
            (
                "ask @team, (@a/b) _@c_",
                "ask @\u{200b}team, (@\u{200b}a/b) _@\u{200b}c_",
            ),
            ("&#64;team &commat;team", "&amp;#64;team &amp;commat;team"),
            ("a `Vec<String>` b", "a <code>Vec&lt;String&gt;</code> b"),
            ("`` `<a>` ``", "<code>&#96;&lt;a&gt;&#96;</code>"),
            ("`@types/node`", "<code>@types/node</code>"),
            ("\\`@team`", "\\`@\u{200b}team`"),
            ("` <b>", "` &lt;b>"),
            ("```a `<b>`", "\\`\\`\\`a <code>&lt;b&gt;</code>"),
            (
                "https://@team xhttps://a/@team",
                "https://@\u{200b}team xhttps://a/@\u{200b}team",
            ),
            ("[x](https://a.b)/@team", "[x](https://a.b)/@\u{200b}team"),
            ("<https://`>", "&lt;https://`>"),
            ("a\u{1b}[31mb\u{7}\r\nc", "ab\nc"),
        ] {
            assert_eq!(markdown(said), shown, "{said:?}");
        }
    }

    #[test]
    fn nothing_said_closes_an_issue() {
        for (said, shown) in [
            ("Fixes #1, closed: o/r#2", "F\u{200b}ixes #1, c\u{200b}losed: o/r#2"),
            (
                "RESOLVES https://e.org/o/r/issues/3",
                "R\u{200b}ESOLVES https://e.org/o/r/issues/3",
            ),
            ("fix GH-4", "f\u{200b}ix GH-4"),
        ] {
            assert_eq!(markdown(said), shown);
        }
        for said in ["fix the #1 problem", "prefix #1", "fixes#1", "see #1", "fix #x", "fix"] {
            assert_eq!(markdown(said), said);
        }
    }

    #[test]
    fn a_block_that_is_left_open_is_closed() {
        assert_eq!(markdown("~~~~\n<details>\n~~~"), "~~~~\n<details>\n~~~\n~~~~");
        assert_eq!(
            markdown("```\n    ```"),
            "```\n    ```\n```",
            "indented too far to close it"
        );
    }

    #[test]
    fn where_a_block_begins_is_in_doubt_the_words_are_defused_and_quoted() {
        assert_eq!(
            markdown("- x\n  ```\n  <b> @a\n  ```\n<i>"),
            "> - x\n>   ```\n>   <\u{200b}b> @\u{200b}a\n>   ```\n> &lt;i>"
        );
        // The first is closed by the second for who reads it as a block.
        assert_eq!(markdown(" ```\n```\n<details>"), ">  ```\n> ```\n> &lt;details>");
        let open = markdown(" ```\n <details>");
        assert!(open.lines().all(|line| line.starts_with("> ")), "{open}");
    }

    #[test]
    fn output_cannot_end_its_block_and_its_end_is_kept_by_whole_lines() {
        assert_eq!(output("a\n```\n<b> @c\n", 100), "````text\na\n```\n<b> @c\n````");
        assert_eq!(output("", 10), "```text\n\n```");
        assert_eq!(output("first\nsecond\nthird", 9), "```text\n…\nthird\n```");
        assert_eq!(output("ääääää", 5), "```text\n…\nää\n```");
        assert_eq!(output("\u{1b}[1;31mred\u{1b}[0m\rover", 100), "```text\nred\nover\n```");
    }

    #[test]
    fn a_reason_is_one_line_without_meaning() {
        assert_eq!(plain("a\n# *b* <c> @d `e`"), "a \\# \\*b\\* \\<c\\> @\u{200b}d \\`e\\`");
    }

    /// Outside of blocks that begin at a line's beginning, for a reader that knows nothing else.
    fn outside(text: &str) -> Vec<&str> {
        let mut open: Option<Fence> = None;
        let mut lines = Vec::new();
        // What is quoted as a whole ends with the quotation.
        let quoted = text.lines().all(|line| line.starts_with("> "));
        for line in text
            .lines()
            .map(|line| line.strip_prefix("> ").filter(|_| quoted).unwrap_or(line))
        {
            match open {
                Some(fence) if closes(line, Fence { sure: true, ..fence }) => open = None,
                Some(_) => {}
                None => match opens(line).filter(|fence| fence.sure) {
                    Some(fence) => open = Some(fence),
                    None => lines.push(line),
                },
            }
        }
        assert!(open.is_none() || quoted, "{text}");
        lines
    }

    proptest! {
        #[test]
        fn no_tag_but_our_own_and_no_mention_gets_out(
            parts in proptest::collection::vec(prop_oneof![
                Just("```"), Just("~~~"), Just("\n"), Just(" "), Just("  "), Just("`"), Just("<details>"), Just("</details>"),
                Just("<!--"), Just("@team"), Just("- "), Just("> "), Just("\\"), Just("a"), Just("https://"), Just("|"),
            ], 0..24)
        ) {
            let shown = markdown(&parts.concat());
            for line in outside(&shown) {
                let mut rest = line.to_owned();
                while let Some((before, after)) = rest.split_once("<code>") {
                    prop_assert!(!before.ends_with('\\'), "{shown}");
                    let (code, after) = after.split_once("</code>").unwrap();
                    prop_assert!(!code.contains(['<', '`']), "{shown}");
                    rest = format!("{before}.{after}");
                }
                prop_assert!(!rest.contains("<d") && !rest.contains("</") && !rest.contains("<!"), "{shown}");
                prop_assert!(!rest.contains(" @team") && !rest.starts_with("@team"), "{shown}");
            }
        }
    }
}
