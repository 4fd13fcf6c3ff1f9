//! `agent.lock`: held by the supervisor for as long as one process of the agent lives.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;

use super::LaunchError;

/// How often a held lock is looked at again. A blocking flock could not be given a bound.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// `agent.lock` held: no process of an agent lives. Released when dropped.
#[derive(Debug)]
pub struct AgentLock(File);

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

/// Waits until no supervisor holds `lock`: the agent of a runner that was killed is dead then, all of it. A start of the
/// runner does this before it touches the workspace, and drops the guard before a [`super::Launch`]. Blocks the thread
/// for at most `bound`.
pub fn wait_until_free(lock: &Path, bound: Duration) -> Result<AgentLock, LaunchError> {
    let begun = Instant::now();
    loop {
        match try_take(lock) {
            Ok(Some(held)) => return Ok(held),
            Ok(None) if begun.elapsed() >= bound => {
                return Err(LaunchError::LockHeld { lock: lock.to_owned() });
            }
            Ok(None) => thread::sleep(LOOK_AGAIN.min(bound)),
            Err(source) => {
                return Err(LaunchError::Lock {
                    lock: lock.to_owned(),
                    source,
                });
            }
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
