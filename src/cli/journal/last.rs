//! The last rows of a journal, without reading all those before them.

use std::io;
use std::num::NonZeroU64;

use runner_journal::{Entry, ReadError, Row, Snapshot, Summary};

use super::bodies::Bodies;
use super::findings::Findings;
use super::head::{Concluded, Head, Standing, Task};
use super::history::is_over;
use super::place::Place;
use super::post_mortem::PostMortem;
use super::runner::Registered;
use crate::actions;
use crate::actions::server::VerdictStatus as RunnerVerdict;
use crate::cli::CliError;
use crate::machine::{Assignment, Millis, Verdict};
use crate::telemetry::VerdictStatus;

/// The last rows of a journal, and where the task is by those that enter a state or end it.
///
/// Each row that is shown is held against its hash and the row before it. Those that say where the task is are held
/// against their own hash alone: that the rows between lead there is not checked.
pub(super) struct LastRows {
    place: Place,
    snapshot: Snapshot,
    number: NonZeroU64,
    summary: Summary,
    task: Option<Task>,
    runner: Option<Registered>,
    state: Option<String>,
    boots: u32,
    verdict: Option<Concluded>,
    begun: Option<Millis>,
    over: Option<u64>,
}

impl LastRows {
    /// Reads them once; calls back with each.
    pub(super) fn open(place: &Place, number: NonZeroU64, mut each: impl FnMut(&Row)) -> Result<Self, CliError> {
        let failed = |source| place.unread(source);
        let snapshot = place.snapshot()?;
        let mut boots = 0;
        let summary = snapshot
            .read_last(number, |row| {
                boots = row.boot;
                each(&row);
            })
            .map_err(failed)?;
        let mut last = Self {
            place: place.clone(),
            snapshot,
            number,
            summary,
            task: None,
            runner: None,
            state: None,
            boots,
            verdict: None,
            begun: None,
            over: None,
        };
        last.look_at_landmarks().map_err(failed)?;
        Ok(last)
    }

    fn look_at_landmarks(&mut self) -> Result<(), ReadError> {
        let Self {
            task,
            runner,
            state,
            verdict,
            begun,
            over,
            ..
        } = self;
        self.snapshot.landmarks(|row| {
            if row.seq == 1 {
                *begun = Some(row.at_ms);
            }
            if is_over(&row) {
                *over = Some(row.seq);
            }
            match &row.entry {
                Entry::Enter { dst, body, .. } => {
                    *state = Some(dst.clone());
                    let Some(body) = body.as_deref() else { return };
                    if let Ok(assignment) = serde_json::from_str::<Assignment>(body) {
                        *task = Some(Task::of(&assignment));
                    } else if let Ok(assignment) = serde_json::from_str(body) {
                        *runner = Some(Registered::of(&assignment, None));
                    }
                }
                Entry::Verdict { key, body } => {
                    *verdict = match (Verdict::read(body, key), actions::machine::Verdict::read(body)) {
                        (Ok(verdict), _) => Some(Concluded::Task(VerdictStatus {
                            event: verdict.kind,
                            reason: verdict.reason,
                            message: verdict.message,
                            acknowledged: false,
                        })),
                        (Err(_), Ok(verdict)) => Some(Concluded::Runner(RunnerVerdict {
                            event: verdict.kind,
                            reason: verdict.reason,
                            message: verdict.message,
                        })),
                        (Err(_), Err(_)) => None,
                    };
                }
                Entry::Ack { .. } => {
                    if let Some(Concluded::Task(verdict)) = verdict {
                        verdict.acknowledged = true;
                    }
                }
                Entry::Boot { .. }
                | Entry::Intent { .. }
                | Entry::Probe { .. }
                | Entry::Outcome { .. }
                | Entry::Note { .. } => {}
            }
        })
    }

    /// The journal, where these are all of its rows: then they are held against the machine too.
    pub(super) fn all(self) -> Result<Result<PostMortem, Self>, CliError> {
        if self.summary.unchecked > 0 {
            return Ok(Err(self));
        }
        PostMortem::of(&self.place, self.snapshot, |_| {}).map(Ok)
    }

    /// When the first row of the journal was written, where that can be read.
    pub(super) fn begun(&self) -> Option<Millis> {
        self.begun
    }

    /// The row that enters the machine's last state, where there is one.
    pub(super) fn over(&self) -> Option<u64> {
        self.over
    }

    /// What a dump begins with.
    pub(super) fn head(&self, bodies: &Bodies) -> Head {
        let standing = Standing {
            task: self.task.clone(),
            runner: self.runner.clone(),
            state: self.state.clone(),
            boots: self.boots,
            verdict: self.verdict.clone(),
        };
        Head::of(
            &self.place.name,
            &self.snapshot,
            &self.summary,
            self.findings(),
            standing,
            bodies,
        )
    }

    fn findings(&self) -> Findings {
        Findings::of(&self.snapshot, &self.summary, None)
    }

    /// Says what is wrong, and what that makes of the exit code.
    pub(super) fn complain(&self) -> u8 {
        self.findings().complain(&self.place.name)
    }

    /// Gives each of them again.
    pub(super) fn each(&self, mut write: impl FnMut(&Row) -> io::Result<()>) -> io::Result<()> {
        let mut result = Ok(());
        let read = self.snapshot.read_last(self.number, |row| {
            if result.is_ok() {
                result = write(&row);
            }
        });
        read.map_err(io::Error::other)?;
        result
    }
}
