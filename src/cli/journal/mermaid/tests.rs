use super::super::bodies::Bodies;
use super::super::chronicle::Telling;
use super::super::lived::Lived;
use super::*;
use crate::machine::{Ack, EffectName, Trouble};
use crate::redact::Redactor;

fn drawn(lived: &Lived) -> String {
    let (_directory, post_mortem) = lived.post_mortem();
    let bodies = Bodies::Redacted(Redactor::new());
    let mut telling = Telling::new(&bodies);
    post_mortem
        .each(|row| {
            telling.take(row);
            Ok(())
        })
        .unwrap();
    let mut out = Vec::new();
    write(&post_mortem, &telling.end(&post_mortem.summary), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The diagram in docs/post-mortem.md is one that was made. `UPDATE_DOCS=1 cargo test --lib mermaid` writes it anew.
#[test]
fn the_path_has_its_times_attempts_and_crashes() {
    let lived = Lived::up_to(EffectName::Clone)
        .crashes_in(EffectName::Clone)
        .clones()
        .runs_the_agent()
        .hands_over()
        .tries_again(EffectName::Push, Trouble::Unreachable, "HTTP 503")
        .pushes()
        .opens_it()
        .concludes()
        .reports(Ack::Accepted);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/post-mortem.md");
    let docs = std::fs::read_to_string(path).unwrap();
    let (before, rest) = docs.split_once("```mermaid\n").unwrap();
    let (diagram, after) = rest.split_once("```\n").unwrap();
    let drawn = drawn(&lived);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}```mermaid\n{drawn}```\n{after}")).unwrap();
        return;
    }
    assert_eq!(diagram, drawn, "if it is meant: UPDATE_DOCS=1 cargo test --lib mermaid");
}

#[test]
fn a_task_that_is_not_over_ends_where_the_journal_does() {
    let text = drawn(&Lived::up_to(EffectName::Agent).intends(EffectName::Agent));
    assert!(
        text.contains("    Cloned --> [*]: not over#58; the journal ends here\n"),
        "{text}"
    );
    assert!(text.contains("        agent #35;1 in start 1#58; open\n"), "{text}");
    let text = drawn(&Lived::booted());
    assert_eq!(text, "stateDiagram-v2\n    [*] --> Nothing: no task was assigned\n");
}

#[test]
fn nothing_in_a_text_is_mermaid() {
    let hostile = "a\nend note\n%%{init: {}}%% #quot; \"x\" --> B: <script> ; ` \u{202e}";
    let label = Label(hostile).to_string();
    assert!(
        !label.contains(['\n', '%', '{', '"', '<', '>', ':', '`', '\u{202e}']),
        "{label}"
    );
    // What is left of # and ; are numbers of characters.
    for entity in label.split('#').skip(1) {
        let (number, _) = entity.split_once(';').unwrap();
        assert!(number.parse::<u32>().is_ok(), "{label}");
    }
    let mut out = String::new();
    assert_eq!(identifier("x\"]\nend", 3, &mut out), "State3");
    assert_eq!(out, "    state \"x#34;#93; end\" as State3\n");
}
