//! A history of either machine, as `replay` drives it.

use runner_journal::{Hash, Row, Snapshot};

use super::place::Place;
use super::post_mortem::is_ours;
use super::runner::Runner;
use crate::actions;
use crate::cli::CliError;
use crate::machine::{Run, StateName};
use crate::record;

/// Why a machine does not take a row.
#[derive(Debug)]
pub(super) enum Cause {
    Task(record::RowError),
    Runner(actions::record::RowError),
}

/// The history that a journal's rows are driven through.
pub(super) enum History {
    Task(Box<Run>),
    Runner(Box<Runner>),
}

impl History {
    /// The one of the machine that wrote the journal; another program's is refused.
    pub(super) fn of(place: &Place, snapshot: &Snapshot) -> Result<Self, CliError> {
        let history = Self::in_which(snapshot);
        if let Self::Task(_) = history {
            is_ours(place, snapshot)?;
        }
        Ok(history)
    }

    /// The same; another program's rows are held against the task's machine, which refuses them.
    pub(super) fn in_which(snapshot: &Snapshot) -> Self {
        if snapshot.machine() == Some(actions::record::MACHINE) {
            Self::Runner(Box::default())
        } else {
            Self::Task(Box::default())
        }
    }

    /// Takes a row, or says why the machine does not.
    pub(super) fn take(&mut self, row: &Row, blob: &mut dyn FnMut(&Hash) -> Option<Vec<u8>>) -> Result<(), Cause> {
        match self {
            Self::Task(run) => record::step(run, row, blob).map(drop).map_err(Cause::Task),
            Self::Runner(runner) => runner.take(row).map_err(Cause::Runner),
        }
    }

    /// The task's, where it is one.
    pub(super) fn task(&self) -> Option<&Run> {
        match self {
            Self::Task(run) => Some(run),
            Self::Runner(_) => None,
        }
    }

    /// The present state's name.
    pub(super) fn state(&self) -> Option<&'static str> {
        match self {
            Self::Task(run) => run.state_name().map(Into::into),
            Self::Runner(runner) => runner.run.state.map(Into::into),
        }
    }

    /// The intent whose outcome is not known.
    pub(super) fn open(&self) -> Option<(&'static str, u32)> {
        match self {
            Self::Task(run) => run.open.map(|open| (open.effect.into(), open.number)),
            Self::Runner(runner) => runner.run.open.map(|open| (open.effect.into(), open.number)),
        }
    }

    /// The verdict, in a line.
    pub(super) fn verdict(&self) -> Option<String> {
        let in_brackets = |reason: Option<&str>| reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        match self {
            Self::Task(run) => run.verdict.as_ref().map(|verdict| {
                let told = match run.acknowledged {
                    Some(_) => "acknowledged",
                    None => "not acknowledged",
                };
                format!(
                    "{}{}, {told}",
                    verdict.kind,
                    in_brackets(verdict.reason.map(Into::into))
                )
            }),
            Self::Runner(runner) => runner
                .verdict()
                .map(|verdict| format!("{}{}", verdict.event, in_brackets(verdict.reason.map(Into::into)))),
        }
    }
}

/// Whether a row enters the machine's last state.
pub(super) fn is_over(row: &Row) -> bool {
    row.entry.edge().is_some_and(|(_, dst)| {
        let of_a_task = dst.parse::<StateName>();
        of_a_task.is_ok_and(|state| state.successors().is_empty()) || Runner::is_last(dst)
    })
}
