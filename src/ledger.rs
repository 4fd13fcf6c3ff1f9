//! The journal with the history that it adds up to: rows are written in one transaction, then believed, then shown.
//!
//! Both machines stand on it, the task's and the Actions runner's.

use std::error::Error;

use runner_journal::{AppendError, Head, Journal};
use thiserror::Error as ThisError;

use crate::crash::Side;
use crate::driver::TaskMachine;
use crate::machine::Millis;
use crate::record::Written;

/// A pure machine, as the ledger has to know it.
pub trait Machine: Send + Sync + 'static {
    /// What a history adds up to.
    type Run: Clone + Default + Send + Sync;
    /// A fact that can come in.
    type Event: Clone + Send + Sync;
    /// An event that cannot have happened here.
    type Illegal: Error + Send + Sync + 'static;

    /// What an event makes of a history.
    fn transition(run: &Self::Run, event: &Self::Event) -> Result<Self::Run, Self::Illegal>;

    /// The rows that an event stands in. `before` and `after` are the histories around it.
    fn write(before: &Self::Run, event: &Self::Event, after: &Self::Run) -> Result<Written, serde_json::Error>;

    /// Where a test kills the process, around the write of an event.
    fn crash_around(event: &Self::Event, side: Side);
}

/// Sees every event once it is on disk: the task's machine's, where no other is named.
pub trait Observe<M: Machine = TaskMachine>: Send {
    /// `run` is the history with the event in it.
    fn recorded(&mut self, run: &M::Run, event: &M::Event, head: Head);
}

/// Why events are not in the journal.
#[derive(Debug, ThisError)]
pub enum LedgerError<I: Error> {
    /// It could not be written. Nothing in memory can be trusted after that.
    #[error(transparent)]
    Journal(AppendError),
    /// The machine refuses the event: a bug.
    #[error(transparent)]
    Illegal(I),
    /// The event cannot be written down: a bug.
    #[error(transparent)]
    Unwritable(serde_json::Error),
}

/// The journal and its history. Nobody else writes to either.
pub struct Ledger<M: Machine> {
    journal: Journal,
    run: M::Run,
    observers: Vec<Box<dyn Observe<M>>>,
}

impl<M: Machine> Ledger<M> {
    /// A journal with the history that its rows were replayed to.
    pub fn new(journal: Journal, run: M::Run, observers: Vec<Box<dyn Observe<M>>>) -> Self {
        Self {
            journal,
            run,
            observers,
        }
    }

    /// The history so far.
    pub fn run(&self) -> &M::Run {
        &self.run
    }

    /// Where the journal ends.
    pub fn head(&self) -> Head {
        self.journal.head()
    }

    /// The history with facts in it that are not written yet: for a plan, and for nothing else.
    pub fn run_after(&self, facts: &[M::Event]) -> Result<M::Run, M::Illegal> {
        facts
            .iter()
            .try_fold(self.run.clone(), |run, fact| M::transition(&run, fact))
    }

    /// Writes events down in one transaction; only then are they believed, and shown.
    pub fn record(&mut self, at: Millis, events: &[M::Event]) -> Result<(), LedgerError<M::Illegal>> {
        if events.is_empty() {
            return Ok(());
        }
        let mut entries = Vec::new();
        let mut blobs = Vec::new();
        let mut runs = Vec::with_capacity(events.len());
        let mut run = self.run.clone();
        for event in events {
            let after = M::transition(&run, event).map_err(LedgerError::Illegal)?;
            let written = M::write(&run, event, &after).map_err(LedgerError::Unwritable)?;
            entries.extend(written.entries);
            blobs.extend(written.blobs);
            run = after;
            runs.push(run.clone());
        }
        let blobs: Vec<&[u8]> = blobs.iter().map(AsRef::as_ref).collect();
        for event in events {
            M::crash_around(event, Side::Before);
        }
        let head = self
            .journal
            .append(at, &entries, &blobs)
            .map_err(LedgerError::Journal)?;
        for event in events {
            M::crash_around(event, Side::After);
        }
        self.run = run;
        for (event, run) in events.iter().zip(&runs) {
            for observer in &mut self.observers {
                observer.recorded(run, event, head);
            }
        }
        Ok(())
    }

    /// The clean end, see [`Journal::close`].
    pub fn close(self) -> Result<(), AppendError> {
        self.journal.close()
    }
}
