//! The lock beside a journal: who has it writes, and its text says who that is.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::place::WITHOUT_SURPRISE;

/// A child that was forked and not yet executed shares its parent's lock. Where the parent is killed in that moment, the lock
/// is held by nobody who writes until the child executes: at once, or somewhat later on a machine that is busy.
const LEFT_BEHIND: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// An exclusive lock (flock) on a file of its own: the database's own locks go with any descriptor of it that is
/// closed, this one only with its holder.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
    made: Made,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Now,
    Before,
}

/// Why there is no lock.
#[derive(Debug)]
pub(crate) enum NoLock {
    /// Somebody has it; the process id where it can be read.
    Held(Option<u32>),
    Io(io::Error),
}

impl From<io::Error> for NoLock {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Lock {
    /// Takes the lock, or says who has it. Does not wait, but for what a killed holder left behind.
    pub(crate) fn take(path: &Path) -> Result<Self, NoLock> {
        let patience = Instant::now() + LEFT_BEHIND;
        loop {
            let made = if fs::symlink_metadata(path).is_ok() {
                Made::Before
            } else {
                Made::Now
            };
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(WITHOUT_SURPRISE.bits())
                .open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let holder = holder(&file);
                    if holder.is_none_or(is_alive) || Instant::now() >= patience {
                        return Err(NoLock::Held(holder));
                    }
                    thread::sleep(LOOK_AGAIN);
                    continue;
                }
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            // A holder that refused the journal removes the lock it made: then this one locks a file without a name.
            if still_named(&file, path)? {
                file.set_len(0)?;
                file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
                return Ok(Self {
                    file,
                    path: path.to_owned(),
                    made,
                });
            }
        }
    }

    /// Gives the lock up and leaves no trace where there was none.
    pub(crate) fn withdraw(self) -> io::Result<()> {
        if self.made == Made::Now {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A child forked but not yet executed shares this lock; unlocking, unlike closing, ends it for both.
        // Where that fails the descriptor is closed next, which ends it too.
        drop(self.file.unlock());
    }
}

fn holder(file: &File) -> Option<u32> {
    let mut text = [0; 16];
    let length = file.read_at(&mut text, 0).ok()?;
    str::from_utf8(&text[..length]).ok()?.trim().parse().ok()
}

/// Whether there is a process of this number. In another container it cannot be seen from here, and is waited for in vain.
fn is_alive(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

fn still_named(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_the_other_is_told_who() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("lock");
        let lock = Lock::take(&path).unwrap();
        let asked = Instant::now();
        assert!(matches!(Lock::take(&path), Err(NoLock::Held(Some(pid))) if pid == std::process::id()));
        assert!(asked.elapsed() < LEFT_BEHIND / 2, "nobody waits for the living");
        drop(lock);
        assert!(path.exists());
        Lock::take(&path).unwrap().withdraw().unwrap();
        assert!(path.exists(), "it was there before");
        fs::remove_file(&path).unwrap();
        Lock::take(&path).unwrap().withdraw().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_holder_forked_and_left_behind_is_waited_for() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("lock");
        let mut killed = std::process::Command::new("true").spawn().unwrap();
        killed.wait().unwrap();
        fs::write(&path, format!("{}\n", killed.id())).unwrap();
        let file = File::open(&path).unwrap();
        file.try_lock().unwrap();
        // Its standard input is the same lock.
        let child = std::process::Command::new("sleep").arg("0.3").stdin(file).spawn();
        let taken = Lock::take(&path);
        child.unwrap().wait().unwrap();
        taken.unwrap();
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("lock");
        std::os::unix::fs::symlink(here.path().join("elsewhere"), &path).unwrap();
        assert!(matches!(Lock::take(&path), Err(NoLock::Io(_))));
        assert!(!here.path().join("elsewhere").exists());
    }

    #[test]
    fn a_lock_ends_with_its_holder_even_where_a_child_still_shares_it() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("lock");
        let lock = Lock::take(&path).unwrap();
        // As a child has it between fork and exec: another descriptor of the same open file.
        let childs = lock.file.try_clone().unwrap();
        drop(lock);
        Lock::take(&path).unwrap();
        drop(childs);
    }

    #[test]
    fn a_lock_counts_only_while_its_file_has_the_name() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("lock");
        let file = File::create(&path).unwrap();
        assert!(still_named(&file, &path).unwrap());
        fs::rename(&path, here.path().join("old")).unwrap();
        assert!(!still_named(&file, &path).unwrap(), "nothing has the name");
        fs::write(&path, b"").unwrap();
        assert!(!still_named(&file, &path).unwrap(), "another file has the name");
        assert!(still_named(&file, &path.join("below")).is_err(), "nobody can tell");
    }
}
