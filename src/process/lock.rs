//! `agent.lock`: held by the supervisor for as long as one process of the agent lives. In it is the mark of its processes, so
//! that whoever has the lock next finds those that outlived a killed supervisor.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::Signal;

use super::LaunchError;
use super::descendants;
use super::mark::Mark;
use super::reserve;

/// How often a held lock is looked at again. A blocking flock could not be given a bound.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How often what is left is killed: it may fork meanwhile.
const KILL_AGAIN: Duration = Duration::from_millis(5);
/// How long that may take. What a KILL does not end by then hangs in the kernel.
const TIME_TO_KILL: Duration = Duration::from_secs(10);
/// How much of the lock is read: a mark is shorter.
const CONTENT: u64 = 64;

/// `agent.lock` held. Released when dropped.
#[derive(Debug)]
pub struct AgentLock(File);

/// Processes of an earlier agent that a SIGKILL does not end: they hang in the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hanging(pub(super) Vec<i32>);

impl AgentLock {
    /// Marks this process and all that it starts from now on, and writes down how. Where there can be no mark, a supervisor
    /// that is killed leaves what nobody finds.
    pub(super) fn mark(&mut self) -> io::Result<()> {
        let mark = Mark::new()?;
        self.write(&mark.text())?;
        if mark.put_on().is_err() {
            self.write("")?;
        }
        Ok(())
    }

    /// Every process that was marked is dead.
    pub(super) fn unmark(&mut self) -> io::Result<()> {
        self.write("")
    }

    /// Kills what an earlier supervisor left, if it was killed itself, until none of it lives.
    pub(super) fn end_left_behind(&mut self, until: Instant) -> io::Result<Result<(), Hanging>> {
        let mut content = String::new();
        self.0.rewind()?;
        (&self.0).take(CONTENT).read_to_string(&mut content)?;
        let Some(mark) = Mark::parse(&content) else {
            return Ok(Ok(()));
        };
        loop {
            let left = descendants::marked(mark)?;
            if left.is_empty() {
                self.unmark()?;
                return Ok(Ok(()));
            }
            if Instant::now() >= until {
                return Ok(Err(Hanging(left.iter().map(|process| process.pid).collect())));
            }
            for process in left {
                descendants::signal(&process, Signal::SIGKILL);
            }
            thread::sleep(KILL_AGAIN);
        }
    }

    fn write(&mut self, content: &str) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.rewind()?;
        self.0.write_all(content.as_bytes())
    }
}

impl Drop for AgentLock {
    fn drop(&mut self) {
        // Closing alone would leave it held by a child that has forked and not yet executed.
        let _ = self.0.unlock();
    }
}

/// Takes the lock, or says that another has it (`None`). Never waits.
pub(super) fn try_take(path: &Path) -> io::Result<Option<AgentLock>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(AgentLock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Waits until no supervisor holds `lock`, and kills what a killed one left: the agent of a runner that was killed is dead
/// then, all of it. A start of the runner does this before it touches the workspace, and drops the guard before a
/// [`super::Launch`]. Blocks the thread for at most `bound` and the time that killing takes.
pub fn wait_until_free(lock: &Path, bound: Duration) -> Result<AgentLock, LaunchError> {
    let begun = Instant::now();
    let unusable = |source| LaunchError::Lock {
        lock: lock.to_owned(),
        source,
    };
    loop {
        match try_take(lock) {
            Ok(Some(mut held)) => {
                reserve::give_up(lock).map_err(unusable)?;
                return match held.end_left_behind(Instant::now() + TIME_TO_KILL).map_err(unusable)? {
                    Ok(()) => Ok(held),
                    Err(Hanging(pids)) => Err(LaunchError::LeftBehind { pids }),
                };
            }
            Ok(None) if begun.elapsed() >= bound => {
                return Err(LaunchError::LockHeld { lock: lock.to_owned() });
            }
            Ok(None) => thread::sleep(LOOK_AGAIN.min(bound)),
            Err(source) => return Err(unusable(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_waited_for_and_no_longer_than_the_bound() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("agent.lock");
        let held = try_take(&path).unwrap().unwrap();
        let refused = wait_until_free(&path, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(refused, LaunchError::LockHeld { .. }), "{refused}");
        let waiting = {
            let path = path.clone();
            thread::spawn(move || wait_until_free(&path, Duration::from_secs(30)))
        };
        drop(held);
        drop(waiting.join().unwrap().unwrap());
        assert!(try_take(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_that_is_a_link_is_refused() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("agent.lock");
        std::os::unix::fs::symlink(room.path().join("elsewhere"), &path).unwrap();
        assert!(try_take(&path).is_err());
        assert!(!room.path().join("elsewhere").exists());
    }
}
