//! docs/troubleshooting.md against the failures of the machine: each has its section, in the code's words, and one of ours.

use std::collections::BTreeSet;
use std::fs;

use runner::machine::{EffectName, Failure};
use strum::IntoEnumIterator;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/troubleshooting.md");
const REASONS: &str = "\n## By failure reason\n";
/// Kinds of rows (docs/journal.md).
const KINDS: [&str; 8] = ["boot", "enter", "intent", "probe", "outcome", "verdict", "ack", "note"];

/// What a section begins with.
fn quoted(failure: Failure) -> String {
    match failure.hint() {
        Some(hint) => format!("> {}\n> Hint: {hint}.\n", failure.sentence()),
        None => format!("> {}\n", failure.sentence()),
    }
}

/// Each section of a reason: its name, what it quotes, and the rest.
fn sections(page: &str) -> Vec<(String, String, String)> {
    let (_, reasons) = page.split_once(REASONS).unwrap();
    let sections = reasons.split("\n### ").skip(1);
    sections
        .map(|section| {
            let (name, rest) = section.split_once("\n\n").unwrap();
            let (quoted, own) = rest.split_once("\n\n").unwrap();
            (name.to_owned(), format!("{quoted}\n"), own.to_owned())
        })
        .collect()
}

#[test]
fn each_failure_has_its_section_in_the_codes_own_words() {
    let page = fs::read_to_string(PAGE).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let mut current = page.clone();
        for (name, is, _) in sections(&page) {
            let failure: Failure = name.parse().unwrap();
            let heading = format!("\n### {name}\n\n");
            current = current.replace(&format!("{heading}{is}"), &format!("{heading}{}", quoted(failure)));
        }
        fs::write(PAGE, current).unwrap();
    }
    let sections = sections(&fs::read_to_string(PAGE).unwrap());
    let named: Vec<&str> = sections.iter().map(|(name, _, _)| name.as_str()).collect();
    let failures: Vec<String> = Failure::iter().map(|failure| failure.to_string()).collect();
    assert_eq!(named, failures, "a section each, in the order of the code");
    for ((name, is, _), failure) in sections.iter().zip(Failure::iter()) {
        assert_eq!(
            *is,
            quoted(failure),
            "{name}: UPDATE_DOCS=1 cargo test --test it troubleshooting"
        );
    }
}

/// What one sees and does is by hand; that it is there, and names rows that a journal has, is not.
#[test]
fn each_section_says_what_is_seen_where_to_look_and_what_to_do() {
    let page = fs::read_to_string(PAGE).unwrap();
    let effects: BTreeSet<String> = EffectName::iter().map(|effect| effect.to_string()).collect();
    for (name, _, own) in sections(&page) {
        let paragraphs: Vec<&str> = own.trim().split("\n\n").collect();
        let begins: Vec<bool> = ["**You see.** ", "**In the journal.** ", "**Do.** "]
            .iter()
            .zip(&paragraphs)
            .map(|(begin, paragraph)| paragraph.starts_with(begin) && paragraph.len() > begin.len() + 20)
            .collect();
        assert_eq!((paragraphs.len(), begins), (3, vec![true; 3]), "{name}");
        let words: Vec<&str> = paragraphs[1].split('`').skip(1).step_by(2).collect();
        assert!(
            words.iter().any(|word| KINDS.contains(word)),
            "{name}: which row of the journal? {words:?}"
        );
        let lower = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        for word in words.iter().filter(lower) {
            let of_doctor = paragraphs[1].contains(&format!("check `{word}`"))
                || paragraphs[1].contains(&format!("checks `{word}`"))
                || paragraphs[1].contains(&format!("and `{word}`."));
            let of_a_row = ["ran_ms", "expires_at_ms", "cost_micro_usd", "turns", "zstdcat"].contains(word);
            assert!(
                KINDS.contains(word) || effects.contains(*word) || of_doctor || of_a_row,
                "{name}: {word} is in no journal"
            );
        }
    }
}
