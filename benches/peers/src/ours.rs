//! The runner's journal: the rows of a whole task, from its acceptance to its verdict.

use std::path::Path;
use std::time::Duration;

use runner_journal::{Entry, Finding, Journal, Machine};

use crate::child::{BODY, Result, STEPS, act, begin, end};

/// How rows share transactions.
#[derive(Clone, Copy)]
pub enum Appends {
    /// An outcome goes with the next step's intent, as the runner's driver writes them.
    Paired,
    /// Each intent and each outcome alone.
    Single,
}

/// A task in a journal of its own, which has its start's row before. A verdict ends it.
pub fn task(directory: &Path, appends: Appends) -> Result<Duration> {
    let directory = tempfile::tempdir_in(directory)?;
    let mut journal = Journal::open(&directory.path().join("journal.db"), &machine())?.journal;
    journal.append(0, &[Entry::Boot { body: None }], &[])?;
    let start = begin();
    journal.append(1, &[enter(String::new(), state(0))], &[])?;
    let mut known = Vec::new();
    for step in 0..STEPS {
        known.push(intent(step));
        journal.append(1, &known, &[])?;
        act(step);
        known = vec![outcome(step), enter(state(step), state(step + 1))];
        if matches!(appends, Appends::Single) || step + 1 == STEPS {
            journal.append(2, &known, &[])?;
            known.clear();
        }
    }
    let verdict = Entry::Verdict {
        key: "task/verdict".into(),
        body: BODY.into(),
    };
    journal.append(3, &[verdict], &[])?;
    Ok(end(start))
}

fn machine() -> Machine {
    let first = (String::new(), state(0));
    let steps = (0..STEPS).map(|step| (state(step), state(step + 1)));
    Machine::new("peers", std::iter::once(first).chain(steps))
}

fn state(step: u32) -> String {
    format!("State{step}")
}

fn enter(src: String, dst: String) -> Entry {
    Entry::Enter { src, dst, body: None }
}

fn intent(step: u32) -> Entry {
    Entry::Intent {
        effect: format!("effect{step}"),
        attempt: 1,
        key: format!("task/{step}/1"),
        body: Some(BODY.into()),
    }
}

fn outcome(step: u32) -> Entry {
    Entry::Outcome {
        effect: format!("effect{step}"),
        attempt: 1,
        finding: Finding::Done,
        body: Some(BODY.into()),
    }
}
