//! A history of either machine, as `replay` drives it.

use std::path::Path;

use runner_journal::{Hash, Row, Snapshot};

use super::findings::Refused;
use super::post_mortem::is_ours;
use super::runner::Runner;
use crate::actions;
use crate::cli::CliError;
use crate::machine::Run;
use crate::record;

/// The history that a journal's rows are driven through.
pub(super) enum History {
    Task(Box<Run>),
    Runner(Box<Runner>),
}

impl History {
    /// The one of the machine that wrote the journal; another program's is refused.
    pub(super) fn of(path: &Path, snapshot: &Snapshot) -> Result<Self, CliError> {
        if snapshot.machine() == Some(actions::record::MACHINE) {
            return Ok(Self::Runner(Box::default()));
        }
        is_ours(path, snapshot)?;
        Ok(Self::Task(Box::default()))
    }

    /// Takes a row, or says why the machine does not.
    pub(super) fn take(
        &mut self,
        row: &Row,
        snapshot: &Snapshot,
        blob: &mut dyn FnMut(&Hash) -> Option<Vec<u8>>,
    ) -> Result<(), Refused> {
        match self {
            Self::Task(run) => record::step(run, row, blob)
                .map(drop)
                .map_err(|cause| Refused::of(row.seq, &cause, snapshot)),
            Self::Runner(runner) => runner.take(row).map_err(|cause| Refused::of_runner(row.seq, &cause)),
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
