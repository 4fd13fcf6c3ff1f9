//! A journal read once: what it adds up to, and what is wrong with it.

use std::io;
use std::thread;

use runner_journal::{Hash, OpenError, Row, Snapshot, Summary};

use super::beside::Beside;
use super::bodies::Bodies;
use super::findings::{Findings, Refused};
use super::head::{Head, Standing};
use super::history::History;
use super::place::Place;
use super::runner::Runner;
use super::story::Story;
use crate::actions;
use crate::cli::CliError;
use crate::machine::{Run, VerdictKind};
use crate::record::{self, MACHINE};

/// A journal read once: what it adds up to, and what is wrong with it.
pub(super) struct PostMortem {
    pub(super) place: Place,
    pub(super) snapshot: Snapshot,
    pub(super) summary: Summary,
    pub(super) run: Run,
    /// The same of a journal of `runner actions`, of which no task can be known.
    pub(super) runner: Option<Runner>,
    /// What the rows told on the way there.
    pub(super) story: Story,
    /// What the machine refuses of rows that are whole.
    refused: Option<Refused>,
}

impl PostMortem {
    pub(super) fn open(place: &Place) -> Result<Self, CliError> {
        Self::open_with(place, |_| {})
    }

    /// The same, and calls back with each row that verifies.
    pub(super) fn open_with(place: &Place, each: impl FnMut(&Row)) -> Result<Self, CliError> {
        Self::of(place, place.snapshot()?, each)
    }

    /// The same of a copy that was taken of it.
    pub(super) fn of(place: &Place, snapshot: Snapshot, mut each: impl FnMut(&Row)) -> Result<Self, CliError> {
        let (replay, summary) = thread::scope(|scope| {
            let mut beside = Beside::start(scope, History::in_which(&snapshot));
            let summary = snapshot.read(|row| {
                each(&row);
                // The thread cannot ask for it: the copy is read here.
                let blob = record::blob_of(&row.entry).and_then(|hash| snapshot.blob(&hash).ok().flatten());
                beside.hand(row, blob);
            });
            (beside.end(), summary)
        });
        let summary = summary.map_err(|source| place.unread(source))?;
        let refused = replay.refused.map(|(seq, cause)| Refused::of(seq, &cause, &snapshot));
        let (run, runner) = match replay.history {
            History::Task(run) => (*run, None),
            History::Runner(runner) => (Run::default(), Some(*runner)),
        };
        Ok(Self {
            place: place.clone(),
            snapshot,
            summary,
            run,
            runner,
            story: replay.story,
            refused,
        })
    }

    pub(super) fn verify(&mut self, head: Option<Hash>) -> Result<(), CliError> {
        let verified = self.snapshot.verify(head);
        self.summary = verified.map_err(|source| self.place.unread(source))?;
        Ok(())
    }

    /// Refuses a journal of another machine, of which every row can be shown and none can be explained.
    pub(super) fn is_ours(&self) -> Result<(), CliError> {
        is_ours(&self.place, &self.snapshot)
    }

    /// The last state's name, of either machine.
    pub(super) fn state(&self) -> Option<&'static str> {
        let of_runner = || self.runner.as_ref().and_then(|runner| runner.run.state).map(Into::into);
        self.run.state_name().map(Into::into).or_else(of_runner)
    }

    /// How it ended, of either machine.
    pub(super) fn verdict_kind(&self) -> Option<VerdictKind> {
        let of_runner = self.runner.as_ref().and_then(Runner::verdict);
        let of_runner = of_runner.map(|verdict| match verdict.event {
            actions::machine::VerdictKind::Completed => VerdictKind::Completed,
            actions::machine::VerdictKind::Failed => VerdictKind::Failed,
        });
        self.run.verdict.as_ref().map(|verdict| verdict.kind).or(of_runner)
    }

    pub(super) fn findings(&self) -> Findings {
        Findings::of(&self.snapshot, &self.summary, self.refused.as_ref())
    }

    /// What a dump begins with.
    pub(super) fn head(&self, bodies: &Bodies) -> Head {
        Head::of(
            &self.place.name,
            &self.snapshot,
            &self.summary,
            self.findings(),
            match &self.runner {
                Some(runner) => Standing::of_runner(runner),
                None => Standing::of(&self.run),
            },
            bodies,
        )
    }

    /// Says what is wrong, and what that makes of the exit code.
    pub(super) fn complain(&self) -> u8 {
        self.findings().complain(&self.place.name)
    }

    /// Streams the rows that verify: a journal of any length in constant memory.
    pub(super) fn each(&self, mut write: impl FnMut(&Row) -> io::Result<()>) -> io::Result<()> {
        let mut result = Ok(());
        let read = self.snapshot.read(|row| {
            if result.is_ok() {
                result = write(&row);
            }
        });
        read.map_err(io::Error::other)?;
        result
    }
}

/// Whether a journal is of this machine, or its machine cannot be read.
pub(super) fn is_ours(place: &Place, snapshot: &Snapshot) -> Result<(), CliError> {
    match snapshot.machine().filter(|found| *found != MACHINE) {
        Some(found) => Err(CliError::Open {
            path: place.name.clone(),
            source: OpenError::OtherMachine {
                found: found.to_owned(),
                expected: MACHINE.to_owned(),
            },
        }),
        None => Ok(()),
    }
}
