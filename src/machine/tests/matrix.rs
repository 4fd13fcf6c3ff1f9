//! The whole matrix: in every configuration that the oracle can be in, every event, legal or not.
//!
//! A configuration is what legality depends on. How often something was tried is left out of it, except that the agent
//! was started never, once or more often, so that the walk comes to an end.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::LazyLock;

use strum::IntoEnumIterator;

use super::super::event::{EventKind, FactKind, FindingKind, NoteKind, OutcomeKind};
use super::super::transition::RefusalKind;
use super::super::work::CommandEndKind;
use super::super::*;
use super::oracle::{EDGES, Op, Oracle};
use alphabet::{alphabet, likes_of, misnumbered};
use table::Table;
use view::{Configuration, View, is_true};

mod alphabet;
mod table;
mod view;

static WALK: LazyLock<Walk> = LazyLock::new(Walk::whole);

#[test]
fn in_every_configuration_the_machine_takes_and_refuses_what_the_oracle_does() {
    let wrong = &WALK.disagreements;
    let first: Vec<_> = wrong.iter().take(5).collect();
    assert!(wrong.is_empty(), "{} disagreements, among them {first:#?}", wrong.len());
}

#[test]
fn every_edge_is_walked_and_none_beside_them() {
    let states = || StateName::iter().map(|s| s.to_string());
    let edge = |from: &str, by: &str, to: &str| (from.to_owned(), by.to_owned(), to.to_owned());
    let mut by_hand = BTreeSet::from([edge("", "assigned", "Assigned")]);
    for (from, by, to) in EDGES {
        let everywhere = states().filter(|s| s != to);
        by_hand.extend(
            everywhere
                .filter(|s| from == "*" || s == from)
                .map(|s| edge(&s, by, to)),
        );
    }
    // A task that was ended elsewhere has nobody to report to. With a pull request there is nothing more to be told it by.
    let told = states().filter(|s| !["PrOpened", "Reported"].contains(&s.as_str()));
    by_hand.extend(told.map(|s| edge(&s, "concluded", "Reported")));
    assert_same(&WALK.edges, &by_hand, "the edges of the oracle's list");

    let declared: BTreeSet<_> = StateName::iter()
        .flat_map(|from| {
            from.successors()
                .iter()
                .map(move |to| (from.to_string(), to.to_string()))
        })
        .chain([(String::new(), StateName::Assigned.to_string())])
        .collect();
    let walked: BTreeSet<_> = WALK
        .edges
        .iter()
        .map(|(from, _, to)| (from.clone(), to.clone()))
        .collect();
    assert_same(&walked, &declared, "the edges that are declared");
    assert!(WALK.disagreements.is_empty());
    println!(
        "proof: matrix: {} configurations, {} cells, {} legal, {} refused, {} of {} edges",
        WALK.configurations,
        WALK.legal + WALK.refused,
        WALK.legal,
        WALK.refused,
        walked.intersection(&declared).count(),
        declared.len()
    );
}

#[test]
fn every_variant_is_met() {
    let mut all: BTreeSet<String> = BTreeSet::new();
    all.extend(EventKind::iter().map(|kind| format!("Event::{kind:?}")));
    all.extend(EffectName::iter().map(|effect| format!("Effect::{effect:?}")));
    all.extend(FindingKind::iter().map(|kind| format!("Finding::{kind:?}")));
    all.extend(OutcomeKind::iter().map(|kind| format!("Outcome::{kind:?}")));
    all.extend(Trouble::iter().map(|trouble| format!("Trouble::{trouble:?}")));
    all.extend(FactKind::iter().map(|kind| format!("Fact::{kind:?}")));
    all.extend(CommandEndKind::iter().map(|kind| format!("CommandEnd::{kind:?}")));
    all.extend(Ack::iter().map(|ack| format!("Ack::{ack:?}")));
    all.extend(VerdictKind::iter().map(|kind| format!("Verdict::{kind:?}")));
    all.extend(NoteKind::iter().map(|kind| format!("Note::{kind:?}")));
    // No legal history comes to an edge that is not there; the next test does, by a history that cannot be.
    let refusals = RefusalKind::iter().filter(|kind| *kind != RefusalKind::NoSuchEdge);
    all.extend(refusals.map(|kind| format!("Refusal::{kind:?}")));
    assert_same(&WALK.met, &all, "the variants");
}

#[test]
fn an_edge_that_is_not_there_is_refused_even_in_a_history_that_cannot_be() {
    let assigned = Event::Assigned {
        assignment: super::assignment(),
        at: 0,
    };
    let (superseded, _) = Oracle::default().step(&Op::Conclude(VerdictKind::Superseded));
    for (event, to) in [(assigned, StateName::Assigned), (superseded, StateName::Reported)] {
        let over = Run {
            state: Some(State::Reported),
            ending: Some(Ending::Superseded),
            ..Run::default()
        };
        let refused = transition(&over, &event).unwrap_err();
        assert_eq!(refused.refusal, Refusal::NoSuchEdge { to });
        assert!(
            refused
                .to_string()
                .ends_with(&format!("{to} does not follow this state"))
        );
    }
}

/// What is legal where, for people to read and for a review to see it change. `UPDATE_DOCS=1 cargo test --lib matrix`
/// writes it anew.
#[test]
fn the_table_of_what_is_legal_is_the_committed_one() {
    let path = &format!("{}/src/machine/tests/matrix.txt", crate::ROOT);
    let table = WALK.table.to_string();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    for (old, new) in committed.lines().zip(table.lines()) {
        assert_eq!(old, new, "if it is meant: UPDATE_DOCS=1 cargo test --lib matrix");
    }
    assert!(
        committed == table,
        "if it is meant: UPDATE_DOCS=1 cargo test --lib matrix"
    );
}

fn assert_same<T: Ord + std::fmt::Debug>(met: &BTreeSet<T>, wanted: &BTreeSet<T>, what: &str) {
    let missing: Vec<_> = wanted.difference(met).collect();
    let unknown: Vec<_> = met.difference(wanted).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "{what}: never met {missing:?}, met beside them {unknown:?}"
    );
}

/// What a walk through all configurations came to.
#[derive(Default)]
struct Walk {
    configurations: usize,
    legal: usize,
    refused: usize,
    disagreements: Vec<String>,
    /// From, by what, to.
    edges: BTreeSet<(String, String, String)>,
    /// The variants in events that were taken, and the refusals.
    met: BTreeSet<String>,
    table: Table,
}

impl Walk {
    /// Breadth first, so that each configuration is come to by a shortest history.
    fn whole() -> Self {
        let mut walk = Self::default();
        let ops = alphabet();
        let start = Oracle::default();
        let mut known = HashSet::from([Configuration::of(&start)]);
        let mut ahead = VecDeque::from([(start, Run::default())]);
        while let Some((oracle, run)) = ahead.pop_front() {
            walk.configurations += 1;
            for op in &ops {
                for (after, next) in walk.attempt(&oracle, &run, op) {
                    if known.insert(Configuration::of(&after)) {
                        ahead.push_back((after, next));
                    }
                }
            }
        }
        walk
    }

    /// Tries an operation in all its variations, and gives where those lead that both take.
    fn attempt(&mut self, oracle: &Oracle, run: &Run, op: &Op) -> Vec<(Oracle, Run)> {
        let mut after = oracle.clone();
        let (event, legal) = after.step(op);
        for event in misnumbered(&event) {
            self.cell(&(oracle, run), &event, &table::misnumbered(&event), None);
        }
        let row = table::row(op, &event);
        let expected = legal.then_some(&after);
        let likes = likes_of(event).into_iter();
        let taken: Vec<Run> = likes
            .filter_map(|event| self.cell(&(oracle, run), &event, &row, expected))
            .collect();
        taken.into_iter().map(|next| (after.clone(), next)).collect()
    }

    /// One cell: an event in a configuration. `expected` is what the oracle is then, where it takes it.
    fn cell(&mut self, at: &(&Oracle, &Run), event: &Event, row: &str, expected: Option<&Oracle>) -> Option<Run> {
        let (oracle, run) = at;
        let taken = transition(run, event);
        let refusal = taken.as_ref().err().map(|refused| refused.refusal);
        self.table.add(row, oracle.state.as_deref(), refusal);
        match (taken, expected) {
            (Ok(next), Some(after)) => {
                self.legal += 1;
                self.met.extend(variants(event));
                if after.state != oracle.state {
                    let from = oracle.state.clone().unwrap_or_default();
                    let to = after.state.clone().unwrap_or_default();
                    self.edges.insert((from, cause(event), to));
                }
                let (seen, told) = (View::of_run(&next), View::of_oracle(after));
                if seen != told {
                    self.disagree(oracle, event, &format!("the machine is {seen:?}, the oracle {told:?}"));
                }
                Some(next)
            }
            (Err(refused), None) => {
                self.refused += 1;
                self.met
                    .insert(format!("Refusal::{:?}", RefusalKind::from(refused.refusal)));
                let state = run.state_name();
                if !is_true(refused.refusal, oracle, event) || refused.state != state {
                    self.disagree(oracle, event, &format!("what is said is not so: {refused}"));
                }
                None
            }
            (Ok(_), None) => {
                self.disagree(oracle, event, "the machine takes it, the oracle does not");
                None
            }
            (Err(refused), Some(_)) => {
                self.disagree(oracle, event, &format!("the oracle takes it: {refused}"));
                None
            }
        }
    }

    fn disagree(&mut self, oracle: &Oracle, event: &Event, how: &str) {
        let at = Configuration::of(oracle);
        self.disagreements.push(format!("{event:?} at {at:?}: {how}"));
    }
}

/// What leads along an edge: the effect that was done, or the event.
fn cause(event: &Event) -> String {
    match event {
        Event::Ended { effect, .. } => effect.to_string(),
        other => <&str>::from(other).to_owned(),
    }
}

/// The names of all variants in an event. An effect is met once it is done.
fn variants(event: &Event) -> Vec<String> {
    let mut met = vec![format!("Event::{:?}", EventKind::from(event))];
    match event {
        Event::Probed { finding, .. } => met.push(format!("Finding::{:?}", FindingKind::from(finding))),
        Event::Ended { effect, outcome, .. } => {
            met.push(format!("Outcome::{:?}", OutcomeKind::from(outcome)));
            match outcome {
                Outcome::Done { fact } => {
                    met.push(format!("Effect::{effect:?}"));
                    met.push(format!("Fact::{:?}", FactKind::from(fact)));
                    match fact {
                        Fact::Reported { ack } => met.push(format!("Ack::{ack:?}")),
                        Fact::Checked(check) => {
                            met.push(format!("CommandEnd::{:?}", CommandEndKind::from(&check.end)));
                        }
                        _ => {}
                    }
                }
                Outcome::Retry { trouble, .. } => met.push(format!("Trouble::{trouble:?}")),
                _ => {}
            }
        }
        Event::Concluded { verdict, .. } => met.push(format!("Verdict::{:?}", verdict.kind)),
        Event::Noted { note, .. } => met.push(format!("Note::{:?}", NoteKind::from(note))),
        Event::Booted { .. } | Event::Assigned { .. } | Event::Intended { .. } => {}
    }
    met
}
