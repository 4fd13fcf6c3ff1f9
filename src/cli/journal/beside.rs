//! A replay on a thread of its own, beside the one that reads and checks the rows: both take about as long.

use std::mem;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use runner_journal::Row;

use super::history::{Cause, History};
use super::story::Story;

/// Rows are handed over so many at a time, or with so many bytes in their bodies: what waits is bounded whatever they hold.
const ROWS: usize = 256;
const BYTES: usize = 256 * 1024;
/// So many of these may wait.
const WAITING: usize = 4;

/// A row, and the payload that its replay asks for.
type Handed = (Row, Option<Vec<u8>>);

/// What the machine makes of the rows.
pub(super) struct Replay {
    pub(super) history: History,
    /// What the rows of a task told on the way there.
    pub(super) story: Story,
    /// The first row that the machine refuses, and why. Nothing after it was replayed.
    pub(super) refused: Option<(u64, Cause)>,
}

impl Replay {
    fn of(history: History, handed: &Receiver<Vec<Handed>>) -> Self {
        let mut replay = Self {
            history,
            story: Story::default(),
            refused: None,
        };
        for (row, blob) in handed.iter().flatten() {
            if replay.refused.is_none() {
                replay.refused = replay.take(&row, blob).err().map(|cause| (row.seq, cause));
            }
        }
        replay
    }

    fn take(&mut self, row: &Row, mut blob: Option<Vec<u8>>) -> Result<(), Cause> {
        if let Some(run) = self.history.task() {
            self.story.before(row, run);
        }
        self.history.take(row, &mut |_| blob.take())?;
        if let Some(run) = self.history.task() {
            self.story.after(row, run);
        }
        Ok(())
    }
}

/// The replay, as the thread that reads has it.
pub(super) struct Beside<'scope> {
    hand: SyncSender<Vec<Handed>>,
    next: Vec<Handed>,
    /// How long the bodies in it are.
    bytes: usize,
    replaying: ScopedJoinHandle<'scope, Replay>,
}

impl<'scope> Beside<'scope> {
    /// `history` is the one that the first row begins.
    pub(super) fn start<'env>(scope: &'scope Scope<'scope, 'env>, history: History) -> Self {
        let (hand, handed) = sync_channel(WAITING);
        Self {
            hand,
            next: Vec::with_capacity(ROWS),
            bytes: 0,
            replaying: scope.spawn(move || Replay::of(history, &handed)),
        }
    }

    pub(super) fn hand(&mut self, row: Row, blob: Option<Vec<u8>>) {
        self.bytes += row.entry.body().map_or(0, str::len) + blob.as_ref().map_or(0, Vec::len);
        self.next.push((row, blob));
        if self.next.len() == ROWS || self.bytes >= BYTES {
            self.send();
        }
    }

    fn send(&mut self) {
        self.bytes = 0;
        let next = mem::replace(&mut self.next, Vec::with_capacity(ROWS));
        // It takes rows until there are no more; if it panicked, the end says so.
        let _ = self.hand.send(next);
    }

    /// The replay, once there are no more rows.
    pub(super) fn end(mut self) -> Replay {
        self.send();
        let Self { hand, replaying, .. } = self;
        drop(hand);
        replaying
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
