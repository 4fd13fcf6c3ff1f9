//! What a timeline looks like, in columns and colour.

use runner_journal::{Hash, Kind};

use super::super::lived::Lived;
use super::*;
use crate::machine::{Ack, EffectName, Fact, Failure, Outcome, Trouble};
use crate::redact::Redactor;

fn printed(lived: &Lived, columns: usize, paint: Paint) -> String {
    let (_directory, post_mortem) = lived.post_mortem();
    let bodies = Bodies::Redacted(Redactor::new());
    let mut out = Vec::new();
    let mut table = Table::new(&bodies, Layout { columns, paint }, None, post_mortem.summary.rows);
    table.head(&mut out).unwrap();
    post_mortem.each(|row| table.row(row, &mut out)).unwrap();
    String::from_utf8(out).unwrap()
}

/// A life with a crash, a retry, a park and others' words.
fn eventful() -> Lived {
    Lived::up_to(EffectName::Clone)
        .tries_again(EffectName::Clone, Trouble::Unreachable, "connection refused")
        .crashes_in(EffectName::Clone)
        .clones()
        .parks_and_boots()
        .runs_the_agent_that_says("界界界界界界界界界界界界界界界界界界界界 e\u{301}e\u{301} \u{1b}[31m\u{202e}")
        .hands_over()
        .pushes()
        .opens_it()
        .concludes()
        .reports(Ack::Accepted)
}

#[test]
fn a_timeline_fits_its_columns_whatever_is_in_it_and_uses_what_there_is() {
    let widest = |columns| {
        let text = printed(&eventful(), columns, Paint::Plain);
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
        let widths: Vec<usize> = text.lines().map(width).collect();
        assert!(widths.iter().all(|width| *width <= columns), "{columns}: {text}");
        widths.into_iter().max().unwrap()
    };
    assert_eq!(widest(80), 80);
    assert_eq!(widest(132), 132);
    // The columns themselves need this much.
    widest(64);
}

#[test]
fn starts_are_set_apart_and_crashes_and_retries_are_there_to_see() {
    let text = printed(&eventful(), 80, Paint::Plain);
    let starts: Vec<&str> = text.lines().filter(|line| line.contains("── start")).collect();
    assert_eq!(starts.len(), 3, "{text}");
    assert!(starts[0].contains("── start 1 · runner "), "{text}");
    assert!(starts[1].contains("the one before ended in clone #2"), "{text}");
    assert!(!starts[2].contains("the one before"), "it was parked: {text}");
    let line = |needle: &str| {
        text.lines()
            .find(|line| line.contains(needle))
            .unwrap_or_else(|| panic!("{needle}: {text}"))
    };
    assert!(
        line("connection refused").contains("clone #1           not_done     2.0 s"),
        "{text}"
    );
    assert!(line("was not").contains("clone #2 "), "{text}");
    assert!(line("verdict").contains("completed"), "{text}");
    assert!(line("→ Cloned").ends_with("→ Cloned"), "{text}");
}

#[test]
fn what_was_found_to_have_failed_is_not_said_to_be_done() {
    let outcome = Outcome::Failed {
        failure: Failure::PolicyViolation,
        cause: "ci.yml is protected".to_owned(),
        agent: None,
    };
    let lived = Lived::up_to(EffectName::Handover).crashes_and_finds(EffectName::Handover, outcome);
    let text = printed(&lived, 100, Paint::Plain);
    let found = text.lines().rev().find(|line| line.contains("handover #1")).unwrap();
    assert!(found.contains("not_done"), "{text}");
    assert!(text.contains("handover #1        had ended"), "{text}");
}

#[test]
fn a_start_that_came_to_its_end_is_not_said_to_have_ended_without_a_word() {
    let reported = Lived::up_to(EffectName::PullRequest).opens_it().concludes();
    let reported = reported.reports(Ack::Accepted).boots().boots();
    let superseded = Lived::up_to(EffectName::Agent).ends_elsewhere().boots().boots();
    for lived in [reported, superseded] {
        let text = printed(&lived, 100, Paint::Plain);
        assert!(!text.contains("the one before"), "{text}");
    }
    let archiving = Lived::up_to(EffectName::PullRequest).opens_it().concludes();
    let archiving = archiving.reports(Ack::Accepted).intends(EffectName::Archive).boots();
    let text = printed(&archiving, 100, Paint::Plain);
    assert!(text.contains("the one before ended in archive #1"), "{text}");
    // The end is before the rows that are shown, and is known.
    let mut table = Table::new(&Bodies::AsStored, layout(), None, 9).over_since(Some(7));
    let mut out = Vec::new();
    for (seq, boot) in [(8, 2), (9, 3)] {
        let row = Row {
            seq,
            boot,
            at_ms: 1_000,
            entry: Entry::Boot { body: None },
            prev: Hash::ZERO,
            hash: Hash::ZERO,
        };
        table.row(&row, &mut out).unwrap();
    }
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains("the one before"), "{text}");
}

/// A timeline of rows that are not all there.
fn of_rows(lived: &Lived, missing: impl Fn(&Row) -> bool) -> String {
    let (_directory, post_mortem) = lived.post_mortem();
    let bodies = Bodies::AsStored;
    let mut table = Table::new(&bodies, layout(), None, 99);
    let mut out = Vec::new();
    let row = |row: &Row| if missing(row) { Ok(()) } else { table.row(row, &mut out) };
    post_mortem.each(row).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn rows_on_either_side_of_missing_ones_are_no_pair() {
    let lived = Lived::up_to(EffectName::Clone);
    // The token's outcome and the state that follows, and the clone's intent.
    let text = of_rows(&lived.clones(), |row| [10, 11, 12].contains(&row.seq));
    let line = text.lines().find(|line| line.contains("clone #1")).unwrap();
    assert!(line.contains("clone #1           done                base="), "{text}");

    // Of a start whose last rows are missing nobody knows how it ended.
    let lived = Lived::up_to(EffectName::Agent).parks_and_boots();
    let parked = |row: &Row| matches!(row.entry, Entry::Note { .. });
    let text = of_rows(&lived, parked);
    assert!(!text.contains("the one before"), "{text}");
}

#[test]
fn how_long_it_took_is_not_known_of_what_a_later_start_looked_for() {
    let lived = Lived::up_to(EffectName::Push);
    let lived = lived.crashes_and_finds(EffectName::Push, Outcome::Done { fact: Fact::Pushed });
    let text = printed(&lived, 100, Paint::Plain);
    let line = text.lines().rev().find(|line| line.contains("push #1")).unwrap();
    assert_eq!(
        line.trim_end(),
        line.split("done").next().unwrap().to_owned() + "done",
        "{text}"
    );
}

fn layout() -> Layout {
    Layout {
        columns: 80,
        paint: Paint::Plain,
    }
}

#[test]
fn colour_is_said_in_words_too_and_takes_no_columns() {
    let plain = printed(&eventful(), 100, Paint::Plain);
    let coloured = printed(&eventful(), 100, Paint::Coloured);
    assert!(
        coloured.contains("\u{1b}[32m") && coloured.contains("\u{1b}[31m"),
        "{coloured}"
    );
    let stripped = anstream::adapter::strip_str(&coloured).to_string();
    let ends = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    assert_eq!(ends(&stripped), ends(&plain));
}

#[test]
fn rows_from_the_middle_say_which_start_they_are_of_and_keep_the_time_since_the_first() {
    let bodies = Bodies::AsStored;
    let mut table = Table::new(&bodies, layout(), Some(1_000), 123_456);
    let row = Row {
        seq: 123_456,
        boot: 7,
        at_ms: 3_000,
        entry: Entry::Note { body: "{}".to_owned() },
        prev: Hash::ZERO,
        hash: Hash::ZERO,
    };
    assert_eq!(row.entry.kind(), Kind::Note);
    let mut out = Vec::new();
    table.row(&row, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("── start 7 ──"), "{text}");
    assert_eq!(lines[1], "123456    2.0 s  note");
}
