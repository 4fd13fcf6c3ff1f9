//! What is said of each end, as snapshots: `UPDATE_DOCS=1 cargo test --lib explain` writes them anew.

use std::fmt::Write as _;
use std::path::Path;

use runner_journal::Problem;
use strum::IntoEnumIterator;

use super::super::lived::Lived;
use super::*;
use crate::machine::{Ack, CommandEnd, EffectName, Fact, Failure, Outcome, Trouble};

mod failures;

fn explained(lived: &Lived) -> String {
    let (_directory, post_mortem) = lived.post_mortem();
    printed(&post_mortem)
}

fn printed(post_mortem: &PostMortem) -> String {
    let explanation = Explanation::of(post_mortem, &Bodies::Redacted(Redactor::new()));
    let mut text = Vec::new();
    explanation.print(&mut text, 80).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    text
}

/// Every end that is no failure, and what is no end.
fn others() -> Vec<(&'static str, Lived)> {
    let opened = || Lived::up_to(EffectName::PullRequest).opens_it();
    vec![
        ("nothing assigned", Lived::booted()),
        (
            "not finished, the agent at work",
            Lived::up_to(EffectName::Agent).intends(EffectName::Agent),
        ),
        (
            "not finished, the push begun when the runner died",
            Lived::up_to(EffectName::Push).intends(EffectName::Push).boots(),
        ),
        ("parked", Lived::up_to(EffectName::Agent).parks()),
        ("undelivered", opened().concludes().does_not_reach_the_api()),
        ("concluded, not acknowledged", opened().concludes()),
        (
            "failed, what came of the push is unknown",
            Lived::up_to(EffectName::Push)
                .gives_up(EffectName::Push, Failure::ApiUnreachable, "git ls-remote: timed out")
                .concludes()
                .reports(Ack::Accepted),
        ),
        (
            "failed, what came of the pull request is unknown",
            Lived::up_to(EffectName::PullRequest)
                .gives_up(EffectName::PullRequest, Failure::ApiUnreachable, "HTTP 503")
                .concludes()
                .reports(Ack::Accepted),
        ),
        ("superseded", Lived::up_to(EffectName::Agent).ends_elsewhere()),
        ("completed, pull request", opened().concludes().reports(Ack::Accepted)),
        (
            "completed, after two crashes and a stop",
            Lived::up_to(EffectName::Clone)
                .crashes_in(EffectName::Clone)
                .clones()
                .parks_and_boots()
                .runs_the_agent()
                .hands_over()
                .crashes_in(EffectName::Push)
                .pushes()
                .opens_it()
                .concludes()
                .reports(Ack::AlreadyNotified),
        ),
        (
            "completed, a draft since the check is red",
            Lived::up_to(EffectName::Check)
                .checks(CommandEnd::Exit(2))
                .runs_the_agent()
                .checks(CommandEnd::Exit(1))
                .hands_over()
                .pushes()
                .opens_it()
                .concludes()
                .reports(Ack::CallbackPending),
        ),
        (
            "completed, without parts of two plugins",
            Lived::up_to(EffectName::Agent)
                .misses("aws-docs", Some("aws-docs"), "failed")
                .misses("ours", None, "not loaded")
                .runs_the_agent()
                .hands_over()
                .pushes()
                .opens_it()
                .concludes()
                .reports(Ack::Accepted),
        ),
        (
            "completed, a branch alone",
            Lived::locally_up_to(EffectName::Push)
                .pushes()
                .concludes()
                .reports(Ack::Accepted),
        ),
        (
            "completed, without changes",
            Lived::up_to(EffectName::Handover)
                .changes_nothing()
                .accepts_no_changes()
                .concludes()
                .reports(Ack::NobodyLeft),
        ),
        (
            "completed, taken as claimed",
            opened().concludes().reports(Ack::TakenAsClaimed),
        ),
        (
            "completed, with hostile words",
            Lived::up_to(EffectName::Agent)
                .runs_the_agent_that_says("\u{1b}[2J\u{202e}done\r\nghp_0123456789abcdefghijABCDEFGHIJ012345 **bold**")
                .hands_over()
                .pushes()
                .opens_it()
                .concludes()
                .reports(Ack::Accepted),
        ),
    ]
}

#[test]
fn what_is_said_of_each_failure_and_of_each_other_end_is_as_it_was_read_by_a_person() {
    let mut told = String::new();
    let mut tell = |name: &str, lived: &Lived| {
        let text = explained(lived);
        let _ = write!(told, "===== {name} =====\n\n{text}\n");
    };
    for failure in Failure::iter() {
        let lived = failures::life_that_ends_in(failure);
        let verdict = lived.run.verdict.as_ref().and_then(|verdict| verdict.reason);
        assert_eq!(verdict, Some(failure), "the life is the one of this failure");
        tell(failure.into(), &lived);
    }
    for (name, lived) in others() {
        tell(name, &lived);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/journal/explain/explained.txt");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &told).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let parts = |text: &str| text.split("===== ").map(str::to_owned).collect::<Vec<_>>();
    for (now, then) in parts(&told).iter().zip(parts(&kept)) {
        assert_eq!(*now, then, "UPDATE_DOCS=1 writes it anew, if it is meant");
    }
    assert_eq!(told.len(), kept.len(), "each has its snapshot, and no other is there");
}

#[test]
fn of_a_damaged_journal_nothing_is_said_about_what_came_after_the_damage() {
    let (_directory, mut post_mortem) = Lived::up_to(EffectName::Clone).post_mortem();
    assert!(printed(&post_mortem).contains("The journal shows no push"));
    post_mortem.summary.problems.push(Problem::Missing { from: 14, to: 14 });
    let text = printed(&post_mortem).replace('\n', " ");
    assert!(!text.contains("The journal shows no push"), "{text}");
    assert!(text.contains("the rows before the damage"), "{text}");
}

#[test]
fn what_nobody_could_find_out_is_not_denied() {
    let given_up = |effect| {
        let lived = Lived::up_to(effect).gives_up(effect, Failure::ApiUnreachable, "HTTP 503");
        let text = explained(&lived.concludes().reports(Ack::Accepted));
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let text = given_up(EffectName::Push);
    assert!(!text.contains("shows no push"), "{text}");
    assert!(text.contains("The branch runner/t-1 may have been pushed to"), "{text}");
    assert!(text.contains("Next: Look at the forge first:"), "{text}");
    let text = given_up(EffectName::PullRequest);
    assert!(!text.contains("No pull request"), "{text}");
    assert!(text.contains("A pull request may have been opened"), "{text}");
    assert!(text.contains("Next: Look at the forge first:"), "{text}");
    let text = given_up(EffectName::Token);
    assert!(text.contains("one-time token may have been issued"), "{text}");
}

#[test]
fn what_it_took_ends_with_the_task_and_not_with_a_later_start() {
    let told = |lived: Lived| {
        let text = explained(&lived.after(3 * 86_400_000).boots());
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let opened = Lived::up_to(EffectName::PullRequest).opens_it().concludes();
    let text = told(opened.reports(Ack::Accepted));
    assert!(text.contains("Cost: 2m15s from the assignment to the end,"), "{text}");
    let text = told(Lived::up_to(EffectName::Agent).ends_elsewhere());
    assert!(text.contains("Cost: 42.5 s from the assignment to the end;"), "{text}");
}

#[test]
fn the_agents_end_is_told_where_a_row_has_it() {
    let told = |lived: Lived| {
        let text = explained(&lived);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (lived, end) in [
        (
            Lived::up_to(EffectName::Agent).ends_elsewhere(),
            "The agent was started once, and was stopped, since the task had been ended elsewhere.",
        ),
        (
            Lived::up_to(EffectName::Agent).parks(),
            "The agent was started once, and was stopped, for a later start of the runner to go on.",
        ),
        (
            failures::life_that_ends_in(Failure::AgentMissing),
            "The agent could not be started.",
        ),
        (
            Lived::up_to(EffectName::Agent).tries_again(EffectName::Agent, Trouble::NoResult, "signal 9"),
            "The agent was started once, and ended without a result.",
        ),
        // Of the one that is under way now there is no end.
        (
            Lived::up_to(EffectName::Agent)
                .parks_and_boots()
                .intends(EffectName::Agent),
            "The agent was started twice, and came to no end that was written down.",
        ),
    ] {
        let text = told(lived);
        assert!(text.contains(end), "{end}: {text}");
    }
}

#[test]
fn an_api_that_was_not_told_is_not_said_to_have_been() {
    let untold = Outcome::Done {
        fact: Fact::Started { told: false },
    };
    let lived = Lived::booted().gets_assigned();
    let text = explained(&lived.comes_to(EffectName::Start, 30, untold));
    let text = text.replace('\n', " ");
    assert!(
        text.starts_with("Task t-1 is not finished: it has begun, and the task API was not told so."),
        "{text}"
    );
    let text = explained(&Lived::up_to(EffectName::Data)).replace('\n', " ");
    assert!(text.contains("the task API was told that it has begun"), "{text}");
}

#[test]
fn a_clock_that_somebody_made_up_is_no_trouble() {
    let (_directory, mut post_mortem) = Lived::up_to(EffectName::Agent).post_mortem();
    post_mortem.run.assigned_at = i64::MIN;
    post_mortem.story.last_at = i64::MAX;
    assert!(printed(&post_mortem).contains("from the assignment to the last row"));
}

#[test]
fn others_words_neither_move_the_terminal_nor_show_a_secret() {
    let (_, lived) = others().pop().unwrap();
    let text = explained(&lived);
    assert!(text.contains("ghp_[redacted]"), "{text}");
    assert!(text.contains("\\u{1b}[2J\\u{202e}done"), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{202e}', '\r']), "{text}");
}

#[test]
fn a_sum_is_told_in_cents_or_more_exactly_where_it_is_small() {
    for (micro, text) in [
        (0, "$0.00"),
        (1_200, "$0.0012"),
        (100_000, "$0.10"),
        (1_239_999, "$1.23"),
        (12_000_000, "$12.00"),
    ] {
        assert_eq!(usd(micro), text);
    }
    for (tokens, text) in [
        (1, "1 turn"),
        (999, "999 turns"),
        (1_000, "1,000 turns"),
        (1_234_567, "1,234,567 turns"),
    ] {
        assert_eq!(number(tokens, "turn"), text);
    }
}
