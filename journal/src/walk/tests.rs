//! The rules between rows, against rows that are rightly hashed and chained: what a forger without the tables writes.

use super::*;
use crate::schema::V1;

fn walk() -> Walk {
    let mut edges = Edges::default();
    edges.insert(String::new(), "A".to_owned());
    Walk::new(&V1, "test".to_owned(), edges)
}

/// What is wrong with a journal of these entries, all of the first boot.
fn judged(entries: &[Entry]) -> Vec<Problem> {
    judged_after(Hash::ZERO, entries)
}

/// The same, where the first of them says that it follows this one.
fn judged_after(mut prev: Hash, entries: &[Entry]) -> Vec<Problem> {
    let mut walk = walk();
    for (seq, entry) in (1..).zip(entries) {
        let columns = Columns::of(seq, 1, 0, entry, None, prev);
        let hash = columns.hash(&V1, "test");
        let read = Read::Columns {
            columns,
            hash,
            right: hash,
        };
        assert_eq!(walk.step(&read, &mut |_| {}), Next::Row);
        prev = hash;
    }
    walk.end(&mut |_| {});
    walk.problems.into_list()
}

fn boot() -> Entry {
    Entry::Boot { body: None }
}

fn intent(effect: &str, attempt: u32) -> Entry {
    Entry::Intent {
        effect: effect.to_owned(),
        attempt,
        key: "key".to_owned(),
        body: None,
    }
}

fn outcome(effect: &str, attempt: u32) -> Entry {
    Entry::Outcome {
        effect: effect.to_owned(),
        attempt,
        finding: Finding::NotDone,
        body: None,
    }
}

fn illegal(seq: u64, rule: Rule) -> Vec<Problem> {
    vec![Problem::Illegal { seq, rule }]
}

#[test]
fn the_first_row_follows_none() {
    assert_eq!(judged(&[boot()]), []);
    let after_another = judged_after(Hash::of(b"another row"), &[boot()]);
    assert_eq!(after_another, [Problem::Unlinked { from: 1, to: 1 }]);
}

#[test]
fn an_attempt_is_higher_than_the_one_before_and_not_the_same() {
    let twice = |next| judged(&[boot(), intent("x", 3), outcome("x", 3), intent("x", next)]);
    assert_eq!(twice(4), []);
    assert_eq!(twice(3), illegal(4, Rule::AttemptRises));
    assert_eq!(twice(2), illegal(4, Rule::AttemptRises));
}

#[test]
fn an_outcome_belongs_to_the_open_intent_by_its_effect_and_its_attempt() {
    let ended = |outcome| judged(&[boot(), intent("x", 1), outcome]);
    assert_eq!(ended(outcome("x", 1)), []);
    assert_eq!(ended(outcome("y", 1)), illegal(3, Rule::HasOpenIntent));
    assert_eq!(ended(outcome("x", 2)), illegal(3, Rule::HasOpenIntent));
}

#[test]
fn a_row_that_comes_a_second_time_ends_the_read() {
    let mut walk = walk();
    let row = |seq| Read::Mistyped(seq, None);
    assert_eq!(walk.step(&row(1), &mut |_| {}), Next::Row);
    assert_eq!(walk.step(&row(1), &mut |_| {}), Next::Stop);
    assert_eq!(walk.step(&row(-1), &mut |_| {}), Next::Stop);
    assert_eq!(walk.next_seq(), 2);
    let problems = walk.problems.into_list();
    assert!(
        matches!(problems[1], Problem::Unreadable { from: 2, .. }),
        "{problems:?}"
    );
}
