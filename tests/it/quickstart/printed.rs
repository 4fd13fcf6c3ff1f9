//! What is printed differs from run to run: the comparison of what is left.

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use super::shell::Desk;

/// What differs from run to run, and what stands for it. In this order.
const DIFFERS: [(&str, &str); 12] = [
    // A table's cells are cut where they end, which moves with the width of a number before them.
    (r"[^ ]*\xe2\x80\xa6$", "(cut)"),
    (r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "(time)"),
    (r"(run|demo)-[0-9]{8}-[0-9]{6}-[0-9]{3}", "$1-(time)"),
    (r"\brunner [0-9]+\.[0-9]+\.[0-9]+(-[0-9a-z.]+)?", "runner (version)"),
    // Of a version: a build without git does not know it.
    (r"\((commit unknown|[0-9a-f]{12})\)", "(commit)"),
    (r"\b[0-9a-f]{7,64}\b", "(hash)"),
    (r"127\.0\.0\.1:[0-9]+", "127.0.0.1:(port)"),
    (r"\b[0-9]+(\.[0-9]+)? (ms|s|min)\b", "(duration)"),
    (r"_ms=[0-9]+", "_ms=(n)"),
    (r"\bprocess [0-9]+", "process (n)"),
    (r"[ \t]+$", ""),
    (r" {2,}", " "),
];

/// The text with what differs taken out.
pub(super) fn forget_what_differs(text: &str, desk: &Desk) -> String {
    let text = desk.for_people(text);
    let lines: Vec<String> = text.lines().map(forget_in_a_line).collect();
    lines.join("\n").trim_end().to_owned()
}

fn forget_in_a_line(line: &str) -> String {
    // Stands for any lines, and stays.
    if line.trim() == "…" {
        return line.trim().to_owned();
    }
    DIFFERS.iter().fold(line.to_owned(), |line, (pattern, with)| {
        replace_all(&line, pattern, with)
    })
}

fn replace_all(text: &str, pattern: &str, with: &str) -> String {
    let bytes = syntax::Config::new().unicode(false).utf8(false);
    let regex = Regex::builder().syntax(bytes).build(pattern).unwrap();
    let mut replaced = String::new();
    let mut from = 0;
    for found in regex.captures_iter(text.as_bytes()) {
        let whole = found.get_match().unwrap();
        replaced.push_str(&text[from..whole.start()]);
        let first = found.get_group(1).map_or("", |span| &text[span.range()]);
        replaced.push_str(&with.replace("$1", first));
        from = whole.end();
    }
    replaced.push_str(&text[from..]);
    replaced
}

/// Whether lines were printed as they are shown, where `…` alone stands for any number of them.
pub(super) fn is_shown_by(printed: &str, shown: &str) -> bool {
    let (printed, shown): (Vec<&str>, Vec<&str>) = (printed.lines().collect(), shown.lines().collect());
    lines_match(&printed, &shown)
}

fn lines_match(printed: &[&str], shown: &[&str]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((&"…", rest)) => (0..=printed.len()).any(|skipped| lines_match(&printed[skipped..], rest)),
        Some((line, rest)) => printed
            .split_first()
            .is_some_and(|(first, others)| first == line && lines_match(others, rest)),
    }
}

#[test]
fn what_is_left_of_two_runs_is_the_same_and_of_two_outcomes_is_not() {
    let desk = Desk::new();
    let same = [
        ("  ok  pushed (0.0 s)", "  ok  pushed (12.3 s)"),
        ("  17      280 ms  cut at sha25…", "  17       1.3 s  cut at s…"),
        ("runner 0.1.0 (9067ccba6d6d)", "runner 0.1.0 (commit unknown)"),
        ("runner/run-20261122-010358-820", "runner/run-20261127-090540-040"),
    ];
    for (one, other) in same {
        assert_eq!(forget_what_differs(one, &desk), forget_what_differs(other, &desk));
    }
    let (pushed, failed) = ("  ok  pushed (0.0 s)", "  !!  PushRejected (0.0 s)");
    assert_ne!(forget_what_differs(pushed, &desk), forget_what_differs(failed, &desk));
    assert!(is_shown_by("a\nb\nc\nd", "a\n…\nd"));
    assert!(!is_shown_by("a\nb\nc\nd", "a\n…\nc"));
    assert!(!is_shown_by("a\nb", "a"));
}
