use std::fmt::Write;

use runner_journal::{Hash, Head, Problem};
use strum::IntoEnumIterator;

use super::super::lived::Lived;
use super::*;
use crate::machine::{Ack, EffectName, Failure, Note, Outcome, Trouble};
use crate::redact::Redactor;

fn bodies() -> Bodies {
    Bodies::Redacted(Redactor::new())
}

/// The rows of a life, but for those that are missing.
fn rows(lived: &Lived, missing: &[u64]) -> Vec<Row> {
    let (_directory, post_mortem) = lived.post_mortem();
    let mut rows = Vec::new();
    post_mortem
        .each(|row| {
            rows.push(row.clone());
            Ok(())
        })
        .unwrap();
    rows.retain(|row| !missing.contains(&row.seq));
    rows
}

fn told(rows: &[Row], problems: Vec<Problem>) -> Chronicle {
    let bodies = bodies();
    let mut telling = Telling::new(&bodies);
    for row in rows {
        telling.take(row);
    }
    telling.end(&Summary {
        rows: rows.len() as u64,
        unchecked: 0,
        head: Head::EMPTY,
        problems,
    })
}

/// A chronicle in lines.
fn drawn(chronicle: &Chronicle) -> String {
    let mut out = String::new();
    for boot in &chronicle.boots {
        writeln!(out, "start {} at {}: {}", boot.number, boot.began, boot.end.words()).unwrap();
        for bar in &boot.bars {
            let led_to = bar.led_to.as_deref().map(|to| format!(" -> {to}")).unwrap_or_default();
            let said = bar.said.as_deref().map(|said| format!(" ({said})")).unwrap_or_default();
            let end: &str = bar.end.into();
            let (effect, attempts, took) = (&bar.effect, bar.attempts(), bar.until - bar.began);
            writeln!(out, "  {effect} {attempts} {end} {took}{said}{led_to}").unwrap();
        }
    }
    for gap in &chronicle.gaps {
        writeln!(out, "missing: {}, because {:?}", gap.rows(), gap.why).unwrap();
    }
    out
}

#[test]
fn each_start_is_told_with_what_it_tried_and_how_it_ended() {
    let lived = Lived::up_to(EffectName::Clone)
        .crashes_in(EffectName::Clone)
        .clones()
        .parks_and_boots()
        .runs_the_agent()
        .hands_over()
        .tries_again(EffectName::Push, Trouble::Unreachable, "HTTP 503")
        .pushes()
        .opens_it()
        .concludes()
        .does_not_reach_the_api()
        .boots()
        .reports(Ack::Accepted);
    let chronicle = told(&rows(&lived, &[]), Vec::new());
    assert_eq!(
        drawn(&chronicle),
        "\
start 1 at 0: died: killed or crashed
  start #1 done 30 -> Started
  data #1 done 12 -> DataFetched
  token #1 done 80 -> TokenIssued
  clone #1 cut-off 705
start 2 at 2027: told to stop, and left the task to the next start
  clone #1 found-not-done 0
  clone #2 done 2400 -> Cloned
  agent #1 parked 60000
start 3 at 154432: left the verdict to the next start: the API could not be reached
  agent #2 done 131000 (14 turns, $0.3124)
  handover #1 done 300 (1 commit, 2 files) -> AgentRan
  push #1 retry 2000 (HTTP 503)
  push #2 done 900 -> Pushed
  pull_request #1 done 600 (https://github.com/octo/hello/pull/7) -> PrOpened
  report #1 retry 2000 (failed to connect to api:8081: connection refused)
start 4 at 293237: ended when the task was over
  report #2 done 15 -> Reported
"
    );
    let states: Vec<&str> = chronicle.states.iter().map(|entered| &*entered.state).collect();
    assert_eq!(states.first(), Some(&"Assigned"));
    assert_eq!(states.last(), Some(&"Reported"));
    assert_eq!(chronicle.length, 293_252);
}

#[test]
fn what_failed_is_named_and_what_is_under_way_is_open() {
    let failed = Lived::up_to(EffectName::Clone).fails(EffectName::Clone, Failure::CloneFailed, "no such repository");
    let told_of = |lived: &Lived| drawn(&told(&rows(lived, &[]), Vec::new()));
    assert!(told_of(&failed).ends_with("  clone #1 failed 500 (CloneFailed: no such repository)\n"));
    let given_up = Lived::up_to(EffectName::Push).gives_up(EffectName::Push, Failure::ApiUnreachable, "time is over");
    assert!(told_of(&given_up).ends_with("  push #1 given-up 600000 (ApiUnreachable: time is over)\n"));
    let open = Lived::up_to(EffectName::Agent).intends(EffectName::Agent);
    let text = told_of(&open);
    assert!(
        text.starts_with("start 1 at 0: the journal ends here\n") && text.ends_with("  agent #1 open 0\n"),
        "{text}"
    );
    let waits = told_of(&Lived::booted().boots());
    assert!(
        waits.starts_with("start 1 at 0: ended before there was a task\n"),
        "{waits}"
    );
}

#[test]
fn what_was_found_to_have_failed_is_no_success() {
    let outcome = Outcome::Failed {
        failure: Failure::PolicyViolation,
        cause: "ci.yml is protected".to_owned(),
        agent: None,
    };
    let lived = Lived::up_to(EffectName::Handover).crashes_and_finds(EffectName::Handover, outcome);
    let chronicle = told(&rows(&lived, &[]), Vec::new());
    let text = drawn(&chronicle);
    assert!(
        text.ends_with("  handover #1 failed 0 (PolicyViolation: ci.yml is protected)\n"),
        "{text}"
    );
    let (_, bar) = chronicle.bars().last().unwrap();
    assert_eq!(bar.took(), None, "when it ended nobody saw");
}

/// A row that is not read from a journal.
fn row(seq: u64, boot: u32, entry: Entry) -> Row {
    Row {
        seq,
        boot,
        at_ms: 1_000 * i64::try_from(seq).unwrap(),
        entry,
        prev: Hash::ZERO,
        hash: Hash::ZERO,
    }
}

#[test]
fn a_start_that_said_why_it_ended_did_not_die() {
    let ends = |lived: &Lived| {
        let text = drawn(&told(&rows(lived, &[]), Vec::new()));
        assert!(!text.contains("died") && !text.contains("cut-off"), "{text}");
        text
    };
    let stopped = Lived::up_to(EffectName::Push).intends(EffectName::Push).after(40);
    let text = ends(&stopped.notes(Note::Parked).after(90_000).boots());
    assert!(
        text.starts_with("start 1 at 0: told to stop, and left the task to the next start\n"),
        "{text}"
    );
    assert!(text.contains("  push #1 parked 40\n"), "{text}");
    let unheard = Lived::up_to(EffectName::PullRequest).opens_it().concludes();
    let text = ends(&unheard.intends(EffectName::Report).notes(Note::Undelivered).boots());
    assert!(
        text.starts_with("start 1 at 0: left the verdict to the next start"),
        "{text}"
    );
    let left = |why: &str| Entry::Note {
        body: format!(r#"{{"note":"left","why":"{why}"}}"#),
    };
    let of_a_runner = [
        row(1, 1, Entry::Boot { body: None }),
        row(2, 1, enters("Assigned")),
        row(3, 1, left("unreachable")),
        row(4, 2, Entry::Boot { body: None }),
    ];
    let text = drawn(&told(&of_a_runner, Vec::new()));
    assert!(
        text.starts_with("start 1 at 0: left the rest to the next start\n"),
        "{text}"
    );
}

fn enters(state: &str) -> Entry {
    Entry::Enter {
        src: String::new(),
        dst: state.to_owned(),
        body: None,
    }
}

#[test]
fn a_start_of_what_is_over_did_not_die() {
    let superseded = Lived::up_to(EffectName::Agent).ends_elsewhere().boots().boots();
    let reported = Lived::up_to(EffectName::PullRequest).opens_it().concludes();
    let reported = reported.reports(Ack::Accepted).boots().boots();
    for lived in [superseded, reported] {
        let chronicle = told(&rows(&lived, &[]), Vec::new());
        let ends: Vec<BootEnd> = chronicle.boots.iter().map(|boot| boot.end).collect();
        assert_eq!(ends, [BootEnd::Over; 3]);
    }
    let of_a_runner = [
        row(1, 1, Entry::Boot { body: None }),
        row(2, 1, enters("Assigned")),
        row(3, 1, enters("Deregistered")),
        row(4, 2, Entry::Boot { body: None }),
        row(5, 3, Entry::Boot { body: None }),
    ];
    let chronicle = told(&of_a_runner, Vec::new());
    let ends: Vec<BootEnd> = chronicle.boots.iter().map(|boot| boot.end).collect();
    assert_eq!(ends, [BootEnd::Over; 3]);
    // One that is killed while it archives did die.
    let archiving = Lived::up_to(EffectName::PullRequest).opens_it().concludes();
    let archiving = archiving.reports(Ack::Accepted).intends(EffectName::Archive).boots();
    let chronicle = told(&rows(&archiving, &[]), Vec::new());
    assert_eq!(chronicle.boots[0].end, BootEnd::Unclean);
}

#[test]
fn an_archive_that_could_not_be_brought_away_is_not_said_to_be_tried_again() {
    let lived = Lived::up_to(EffectName::PullRequest).opens_it().concludes();
    let missed = Outcome::Missed {
        cause: "HTTP 403".to_owned(),
    };
    let lived = lived.reports(Ack::Accepted).comes_to(EffectName::Archive, 30, missed);
    let chronicle = told(&rows(&lived, &[]), Vec::new());
    let text = drawn(&chronicle);
    assert!(text.ends_with("  archive #1 missed 30 (HTTP 403)\n"), "{text}");
    let (_, bar) = chronicle.bars().last().unwrap();
    assert!(!bar.end.meaning().1.contains("again"), "{:?}", bar.end.meaning());
}

#[test]
fn attempts_that_are_alike_are_few_bars_and_none_is_forgotten() {
    let mut lived = Lived::booted().gets_assigned();
    for _ in 0..40 {
        lived = lived.tries_again(EffectName::Start, Trouble::Unreachable, "away");
    }
    let chronicle = told(&rows(&lived.tells_the_api(), &[]), Vec::new());
    assert_eq!(
        drawn(&chronicle),
        "\
start 1 at 0: the journal ends here
  start #1 retry 2000 (away)
  start #2 retry 2000 (away)
  start #3 retry 2000 (away)
  start #4 to #40 retry 110000 (away)
  start #41 done 30 -> Started
"
    );
}

#[test]
fn a_chronicle_is_bounded_whatever_the_journal() {
    let mut lived = Lived::up_to(EffectName::Agent);
    for _ in 0..100 {
        lived = lived.parks_and_boots();
    }
    let chronicle = told(&rows(&lived, &[]), Vec::new());
    assert_eq!(chronicle.boots.len(), BOOTS);
    assert_eq!(chronicle.boots_left_out, 101 - 60);
    let ends = [chronicle.boots[0].number, chronicle.boots[BOOTS - 1].number];
    assert_eq!(ends, [1, 101], "the first and the last are there");
}

/// A row that is missing is a gap, and nothing that depends on it is made up.
#[test]
fn how_something_ended_of_which_the_rows_are_missing_is_not_known() {
    let lived = Lived::up_to(EffectName::Token).gets_the_token().clones();
    let all = rows(&lived, &[]);
    let outcome = all
        .iter()
        .find(|row| matches!(&row.entry, Entry::Outcome { effect, .. } if effect == "token"));
    let seq = outcome.unwrap().seq;
    let problem = Problem::Altered { from: seq, to: seq };
    let text = drawn(&told(&rows(&lived, &[seq]), vec![problem.clone()]));
    assert!(text.contains("  token #1 lost 80\n"), "{text}");
    assert!(text.contains("  clone #1 done 2400 -> Cloned\n"), "{text}");
    assert!(
        text.ends_with(&format!("missing: row {seq}, because [\"{problem}\"]\n")),
        "{text}"
    );

    // Its intent is missing: what it came to is told, and not when it began.
    let text = drawn(&told(&rows(&lived, &[seq - 1]), Vec::new()));
    assert!(text.contains("  token #1 done 0 -> TokenIssued\n"), "{text}");

    // The boot's own row is missing, and the one before it died no known death.
    let two = Lived::up_to(EffectName::Clone).crashes_in(EffectName::Clone);
    let all = rows(&two, &[]);
    let boot = all.iter().rev().find(|row| row.entry.kind() == Kind::Boot).unwrap().seq;
    let text = drawn(&told(&rows(&two, &[boot]), Vec::new()));
    assert!(
        text.starts_with("start 1 at 0: how it ended is among the missing rows\n"),
        "{text}"
    );
    assert!(text.contains("  clone #1 lost "), "{text}");
}

#[test]
fn what_is_missing_at_the_end_is_a_gap_too() {
    let lived = Lived::up_to(EffectName::Push);
    let all = rows(&lived, &[]);
    let kept = all.len() as u64 - 3;
    let missing: Vec<u64> = (kept + 1..=all.len() as u64).collect();
    let at_end = |problem: Problem| {
        let chronicle = told(&rows(&lived, &missing), vec![problem]);
        chronicle.gaps.iter().map(Gap::rows).collect::<Vec<_>>()
    };
    let unlinked = Problem::Unlinked {
        from: kept + 1,
        to: kept + 3,
    };
    assert_eq!(at_end(unlinked), [format!("rows {} to {}", kept + 1, kept + 3)]);
    let unreadable = Problem::Unreadable {
        from: kept + 1,
        cause: "disk image is malformed".to_owned(),
    };
    assert_eq!(
        at_end(unreadable),
        [format!("row {} and whatever came after it", kept + 1)]
    );
    let elsewhere = Problem::BlobAltered { sha256: Hash::ZERO };
    assert_eq!(at_end(elsewhere), [""; 0]);
}

#[test]
fn a_clock_that_goes_back_takes_no_time() {
    let mut clock = Clock::default();
    let seen = [1_000, 1_500, 200, 300, i64::MAX, i64::MIN].map(|at| clock.at(at));
    assert_eq!(seen[..4], [0, 500, 500, 600]);
    assert!(seen.is_sorted(), "{seen:?}");
}

#[test]
fn what_the_agent_took_is_told_by_start_and_what_was_cut_off_by_the_look_at_it() {
    let lived = Lived::up_to(EffectName::Agent)
        .crashes_in(EffectName::Agent)
        .runs_the_agent();
    let chronicle = told(&rows(&lived, &[]), Vec::new());
    let starts = chronicle.agent_starts();
    let of = |at: usize| (starts[at].boot, starts[at].bar.end, starts[at].looked);
    assert_eq!(starts.len(), 2);
    assert_eq!(of(0), (1, End::CutOff, Some(End::FoundNotDone)));
    assert_eq!(of(1), (2, End::Done, None));
    assert_eq!(starts[1].report.unwrap().effort.cost_micro_usd, Some(312_400));
}

#[test]
fn every_end_has_its_own_word_and_class() {
    let words: std::collections::BTreeSet<&str> = End::iter().map(|end| end.meaning().0).collect();
    assert_eq!(words.len(), End::iter().count());
}
