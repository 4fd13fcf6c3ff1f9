//! A replay on a thread of its own, beside the one that reads and checks the rows: it takes half as long, and so no time of its own.

use std::mem;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use runner_journal::Row;

use super::history::{Cause, History};
use super::story::Story;

/// Rows are handed over so many at a time, or with so many bytes in their bodies: what waits is bounded whatever they hold.
const ROWS: usize = 1024;
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
    fn of(history: History, handed: Receiver<Vec<Handed>>, used: &Sender<Vec<Handed>>) -> Self {
        let mut replay = Self {
            history,
            story: Story::default(),
            refused: None,
        };
        for mut rows in handed {
            for (row, blob) in &mut rows {
                if replay.refused.is_none() {
                    replay.refused = replay.take(row, blob.take()).err().map(|cause| (row.seq, cause));
                }
            }
            // Nobody takes them back once the last row is handed over.
            let _ = used.send(rows);
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
    /// Rows that were replayed. Who made them frees them: a thread that frees what another one allocated waits for it.
    used: Receiver<Vec<Handed>>,
    next: Vec<Handed>,
    /// How long the bodies in it are.
    bytes: usize,
    replaying: ScopedJoinHandle<'scope, Replay>,
}

impl<'scope> Beside<'scope> {
    /// `history` is the one that the first row begins.
    pub(super) fn start<'env>(scope: &'scope Scope<'scope, 'env>, history: History) -> Self {
        let (hand, handed) = sync_channel(WAITING);
        let (give_back, used) = channel();
        Self {
            hand,
            used,
            next: Vec::with_capacity(ROWS),
            bytes: 0,
            replaying: scope.spawn(move || Replay::of(history, handed, &give_back)),
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
        let mut empty = self.used.try_recv().unwrap_or_else(|_| Vec::with_capacity(ROWS));
        empty.clear();
        let next = mem::replace(&mut self.next, empty);
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
