//! What is legal in which state, as a table that a person can read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use strum::IntoEnumIterator;

use super::super::super::event::{FindingKind, OutcomeKind};
use super::super::super::transition::RefusalKind;
use super::super::super::*;
use super::Op;

/// How often a kind of event was taken in the configurations of one state, and how often refused.
#[derive(Default, Clone, Copy)]
struct Count {
    taken: usize,
    refused: usize,
}

#[derive(Default)]
struct Row {
    states: BTreeMap<String, Count>,
    refusals: BTreeSet<String>,
}

/// Kinds of events by states. The rows are in the order in which they were met first.
#[derive(Default)]
pub(super) struct Table {
    order: Vec<String>,
    rows: BTreeMap<String, Row>,
}

impl Table {
    pub(super) fn add(&mut self, row: &str, state: Option<&str>, refusal: Option<Refusal>) {
        if !self.rows.contains_key(row) {
            self.order.push(row.to_owned());
        }
        let row = self.rows.entry(row.to_owned()).or_default();
        let count = row.states.entry(state.unwrap_or("none").to_owned()).or_default();
        match refusal {
            None => count.taken += 1,
            Some(refusal) => {
                count.refused += 1;
                row.refusals.insert(format!("{:?}", RefusalKind::from(refusal)));
            }
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Kinds of events by states. all, some: legal in all or some of the state's configurations."
        )?;
        writeln!(
            f,
            "-: in none. At the end: what it is refused as. Written by UPDATE_DOCS=1 cargo test --lib matrix.\n"
        )?;
        let states: Vec<String> = ["none".to_owned()]
            .into_iter()
            .chain(StateName::iter().map(|s| s.to_string()))
            .collect();
        let wide = self.order.iter().map(String::len).max().unwrap_or(0);
        write!(f, "{:wide$}", "")?;
        for state in &states {
            write!(f, "  {state}")?;
        }
        writeln!(f, "  refused as")?;
        for name in &self.order {
            let row = &self.rows[name];
            write!(f, "{name:wide$}")?;
            for state in &states {
                let count = row.states.get(state).copied().unwrap_or_default();
                let legal = match (count.taken, count.refused) {
                    (0, _) => "-",
                    (_, 0) => "all",
                    (_, _) => "some",
                };
                write!(f, "  {legal:len$}", len = state.len())?;
            }
            let refusals: Vec<&str> = row.refusals.iter().map(String::as_str).collect();
            let refusals = if refusals.is_empty() {
                "-".to_owned()
            } else {
                refusals.join(", ")
            };
            writeln!(f, "  {refusals}")?;
        }
        Ok(())
    }
}

/// The row that an event belongs to.
pub(super) fn row(op: &Op, event: &Event) -> String {
    let name = <&str>::from(event);
    match event {
        Event::Booted { .. } | Event::Assigned { .. } => name.to_owned(),
        Event::Intended { effect, .. } => match op {
            Op::Intend(_, 0) => format!("{name} {effect}"),
            _ => format!("{name} {effect}, a wrong attempt"),
        },
        Event::Probed { effect, finding, .. } => format!("{name} {effect}: {:?}", FindingKind::from(finding)),
        Event::Ended { effect, outcome, .. } => match op {
            Op::Done(_, of, _) if of != effect => format!("{name} {effect}: Done, a wrong fact"),
            _ => format!("{name} {effect}: {:?}", OutcomeKind::from(outcome)),
        },
        Event::Concluded { verdict, .. } => format!("{name} {}", verdict.kind),
        // What is noted is noted anywhere: one row stands for all.
        Event::Noted { .. } => name.to_owned(),
    }
}

/// The row of probes and ends of an attempt that is not open.
pub(super) fn misnumbered(event: &Event) -> String {
    let name = <&str>::from(event);
    match event {
        Event::Probed { effect, .. } | Event::Ended { effect, .. } => format!("{name} {effect}, another attempt"),
        _ => name.to_owned(),
    }
}
