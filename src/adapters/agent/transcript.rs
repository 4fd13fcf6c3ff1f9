//! What an agent printed, kept in a file: without secrets, compressed, and there for a reader a moment after it was printed.
//!
//! A thread of its own redacts and compresses, so that neither that nor a slow disk holds the reading of the pipe up. It takes
//! what waits in batches; when more waits than there is room for, the agent waits too, and nothing else does.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::libc;
use tokio::sync::Notify;
use zstd::stream::{read::Decoder, write::Encoder};

use crate::redact::{Redacted, Redactor};

/// Of zstd, whose fastest levels take a third of the time of gzip's fastest, and leave less.
const LEVEL: i32 = 1;
/// How much may wait for the thread, in bytes.
const ROOM: usize = 1024 * 1024;
/// So much is taken at once, unless time presses.
const BATCH: usize = 128 * 1024;
/// When what came is in the file at the latest, unless the disk is slow. It costs a few bytes each time.
const FLUSH: Duration = Duration::from_millis(250);

/// A transcript that is being written. Dropped before its end, it writes what it was given nevertheless, in its own time.
#[derive(Debug)]
pub struct Transcript {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// For the thread: there is something to do.
    work: Condvar,
    /// For the one who writes.
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// It is to be in the file at once.
    urgent: bool,
    /// Nothing more comes.
    ended: bool,
    /// The thread takes no more.
    left: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transcript {
    /// Makes the file, which must not be there yet: each attempt has its own.
    pub fn create(path: &Path, redactor: &Redactor) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        Self::start(file, redactor, |file| file.sync_all())
    }

    /// `settle` is what is done with the file at its end.
    fn start<W>(file: W, redactor: &Redactor, settle: fn(W) -> io::Result<()>) -> io::Result<Self>
    where
        W: Write + Send + 'static,
    {
        let out = Redacted::new(Encoder::new(file, LEVEL)?, redactor);
        let shared = Arc::new(Shared::default());
        let theirs = Leaving(Arc::clone(&shared));
        let thread = thread::Builder::new().name("transcript".to_owned()).spawn(move || {
            let theirs = theirs;
            keep(&theirs.0, out).and_then(settle)
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Waits until there is room for some more. Whoever does not wait is not refused: memory is what it costs.
    pub async fn room(&self) {
        loop {
            // Registered before it is looked, lest the room be made in between.
            let made = self.shared.room.notified();
            {
                let state = self.shared.lock();
                if state.waiting.len() < ROOM || state.left {
                    return;
                }
            }
            made.await;
        }
    }

    /// Takes these bytes in, and does not wait for anything. Says whether they will be written: when they will not,
    /// [`Self::finish`] says why.
    #[must_use]
    pub fn write(&self, bytes: &[u8]) -> bool {
        let mut state = self.shared.lock();
        if state.left {
            return false;
        }
        let before = state.waiting.len();
        state.waiting.extend_from_slice(bytes);
        // The thread wants to know of the first byte, because its time runs from then, and of a batch.
        if before == 0 || (before < BATCH && state.waiting.len() >= BATCH) {
            self.shared.work.notify_one();
        }
        true
    }

    /// Has what was taken in written to the file now.
    pub fn hurry(&self) {
        self.shared.lock().urgent = true;
        self.shared.work.notify_one();
    }

    /// Comes back when all of it is on the disk.
    pub async fn finish(mut self) -> io::Result<()> {
        self.end();
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let joined = tokio::task::spawn_blocking(move || {
            let died = |_| Err(io::Error::other("its thread died"));
            thread.join().unwrap_or_else(died)
        });
        joined.await.map_err(io::Error::other)?
    }

    fn end(&self) {
        self.shared.lock().ended = true;
        self.shared.work.notify_one();
    }
}

impl Drop for Transcript {
    fn drop(&mut self) {
        self.end();
    }
}

/// Says that the thread takes no more, however it came to that.
struct Leaving(Arc<Shared>);

impl Drop for Leaving {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.left = true;
        state.waiting = Vec::new();
        drop(state);
        self.0.room.notify_one();
    }
}

/// The thread's work.
fn keep<W: Write>(shared: &Shared, mut out: Redacted<Encoder<'static, W>>) -> io::Result<W> {
    let mut batch = Vec::new();
    // Since when something is not in the file.
    let mut since = None;
    loop {
        let (ended, due) = take_batch(shared, &mut batch, &mut since);
        shared.room.notify_one();
        out.write_all(&batch)?;
        batch.clear();
        if ended {
            return out.finish()?.finish();
        }
        if due {
            out.flush()?;
            since = None;
        }
    }
}

/// Waits until there is enough to do, and takes what waits. Says whether that is all, and whether the file is due.
fn take_batch(shared: &Shared, batch: &mut Vec<u8>, since: &mut Option<Instant>) -> (bool, bool) {
    let mut state = shared.lock();
    loop {
        if since.is_none() && !state.waiting.is_empty() {
            *since = Some(Instant::now());
        }
        let left = since.map(|since| FLUSH.saturating_sub(since.elapsed()));
        let due = left == Some(Duration::ZERO) || state.urgent;
        if due || state.ended || state.waiting.len() >= BATCH {
            state.urgent = false;
            std::mem::swap(&mut state.waiting, batch);
            return (state.ended, due);
        }
        state = match left {
            Some(left) => {
                let waited = shared.work.wait_timeout(state, left);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => shared.work.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
    }
}

/// Reads a transcript as far as it goes: one that a killed runner left has no end, and is whole up to what was last flushed.
pub fn read_transcript(path: &Path) -> io::Result<impl Read> {
    let file = File::open(path)?;
    Ok(Tolerant(Decoder::new(file)?))
}

struct Tolerant<R>(R);

impl<R: Read> Read for Tolerant<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into) {
            // What the system says of the file is no matter of where it ends.
            Err(error) if error.raw_os_error().is_none() && error.kind() != io::ErrorKind::Interrupted => Ok(0),
            read => read,
        }
    }
}

#[cfg(test)]
mod tests;
