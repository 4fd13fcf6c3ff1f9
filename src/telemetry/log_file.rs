//! The end of the log, kept beside the journal for a post-mortem: JSON lines, whatever form standard error gets.
//!
//! Two files of a bounded size. Whatever the disk does, the runner goes on: a line that cannot be kept is lost here, and
//! that is said once, on standard error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::libc;

/// The file that is written, in the state directory.
pub const NAME: &str = "runner.log";
/// The one before it.
pub const OLDER: &str = "runner.log.1";

/// Each of them has this many bytes at most, but for one line that is longer by itself.
const LIMIT: u64 = 4 * 1024 * 1024;
/// What is logged before it is known where to keep it: the settings' own warnings.
const EARLY_LIMIT: usize = 64 * 1024;

static KEPT: Mutex<Kept> = Mutex::new(Kept::Nowhere(String::new()));

/// Keeps the log in this directory from now on, and what was logged before. For one who holds the journal there.
pub fn keep_in(directory: &Path) {
    tell(lock(&KEPT).keep_in(directory, LIMIT));
}

/// Takes in a line, redacted and without its end.
pub(super) fn line(text: &str) {
    // Given back before anything is logged of it: that comes here, too.
    let kept = lock(&KEPT).write(&format!("{text}\n"));
    tell(kept);
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(kept: Result<(), NotKept>) {
    if let Err(NotKept { path, source }) = kept {
        tracing::warn!("the log is not kept in {}: {source}", path.display());
    }
}

/// A line that is not kept: given once, however many follow.
#[derive(Debug)]
struct NotKept {
    path: PathBuf,
    source: io::Error,
}

enum Kept {
    /// It is not known yet where.
    Nowhere(String),
    In(LogFile),
}

struct LogFile {
    directory: PathBuf,
    limit: u64,
    file: Option<File>,
    bytes: u64,
    /// Whether it was said that a line was lost.
    told: bool,
    /// Whether the last line may have come to half of itself.
    torn: bool,
}

impl Kept {
    fn keep_in(&mut self, directory: &Path, limit: u64) -> Result<(), NotKept> {
        let file = LogFile {
            directory: directory.to_owned(),
            limit,
            file: None,
            bytes: 0,
            told: false,
            torn: false,
        };
        match mem::replace(self, Self::In(file)) {
            Self::Nowhere(early) if !early.is_empty() => self.write(&early),
            Self::Nowhere(_) | Self::In(_) => Ok(()),
        }
    }

    fn write(&mut self, text: &str) -> Result<(), NotKept> {
        match self {
            Self::Nowhere(early) => {
                if early.len() + text.len() <= EARLY_LIMIT {
                    early.push_str(text);
                }
                Ok(())
            }
            Self::In(file) => file.write(text),
        }
    }
}

impl LogFile {
    fn write(&mut self, text: &str) -> Result<(), NotKept> {
        let written = self.append(text);
        self.torn = written.is_err();
        match written {
            Err(source) if !self.told => {
                self.told = true;
                Err(NotKept {
                    path: self.directory.join(NAME),
                    source,
                })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        let length = text.len() as u64;
        if self.file.is_some() && self.bytes > 0 && self.bytes + length > self.limit {
            self.file = None;
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open(length)?,
        };
        if self.torn && self.bytes > 0 {
            file.write_all(b"\n")?;
        }
        file.write_all(text.as_bytes())?;
        self.bytes += length;
        self.file = Some(file);
        Ok(())
    }

    /// Opens the file, after what is full was put aside.
    fn open(&mut self, more: u64) -> io::Result<File> {
        let path = self.directory.join(NAME);
        let found = fs::symlink_metadata(&path).map_or(0, |found| found.len());
        if found > 0 && found + more > self.limit {
            fs::rename(&path, self.directory.join(OLDER))?;
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)?;
        self.bytes = file.metadata()?.len();
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept_in(directory: &Path, limit: u64) -> Kept {
        let mut kept = Kept::Nowhere(String::new());
        kept.keep_in(directory, limit).unwrap();
        kept
    }

    fn read(directory: &Path, name: &str) -> String {
        fs::read_to_string(directory.join(name)).unwrap_or_default()
    }

    #[test]
    fn what_was_logged_before_is_kept_too_and_a_later_start_goes_on() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::Nowhere(String::new());
        kept.write("early\n").unwrap();
        kept.keep_in(dir.path(), 100).unwrap();
        kept.write("late\n").unwrap();
        kept_in(dir.path(), 100).write("again\n").unwrap();
        assert_eq!(read(dir.path(), NAME), "early\nlate\nagain\n");
        let mode = fs::metadata(dir.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn two_files_are_kept_and_neither_is_longer_than_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = kept_in(dir.path(), 10);
        for line in ["aaaa\n", "bbbb\n", "cccc\n", "dddd\n", "eeee\n"] {
            kept.write(line).unwrap();
        }
        assert_eq!(
            (read(dir.path(), OLDER), read(dir.path(), NAME)),
            ("cccc\ndddd\n".to_owned(), "eeee\n".to_owned())
        );
        let mut kept = kept_in(dir.path(), 10);
        kept.write("ffff\n").unwrap();
        kept.write("gggg\n").unwrap();
        assert_eq!(
            (read(dir.path(), OLDER), read(dir.path(), NAME)),
            ("eeee\nffff\n".to_owned(), "gggg\n".to_owned())
        );
    }

    #[test]
    fn a_line_that_cannot_be_kept_is_told_once_and_the_next_that_can_is_a_line_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let mut kept = kept_in(&state, 100);
        assert!(kept.write("lost\n").is_err());
        assert!(kept.write("lost too\n").is_ok());
        fs::create_dir(&state).unwrap();
        fs::write(state.join(NAME), "half of a").unwrap();
        kept.write("kept\n").unwrap();
        assert_eq!(read(&state, NAME), "half of a\nkept\n");
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "").unwrap();
        std::os::unix::fs::symlink(&elsewhere, dir.path().join(NAME)).unwrap();
        assert!(kept_in(dir.path(), 100).write("line\n").is_err());
        assert_eq!(fs::read_to_string(elsewhere).unwrap(), "");
    }
}
