//! Watching a journal that another process holds, without touching it: whether it moved, and whether it is held.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::ReadError;
use crate::place::Place;

/// What the files of a journal look like from outside: another one whenever rows may have come.
///
/// Taken before a [`Snapshot`](crate::Snapshot), it says later whether there may be more than that one has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    database: Option<Face>,
    log: Option<Face>,
}

/// Device, inode, length, and when it was written last.
type Face = (u64, u64, u64, i64, i64);

impl Stamp {
    /// Of the journal at `path`, which need not be there.
    pub fn of(path: &Path) -> Result<Self, ReadError> {
        let nothing = Self {
            database: None,
            log: None,
        };
        match Place::of(path) {
            Ok(place) => Ok(Self {
                database: face(&place.database)?,
                log: face(&place.log)?,
            }),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(nothing),
            Err(source) => Err(ReadError::Io {
                path: path.to_owned(),
                source,
            }),
        }
    }
}

fn face(path: &Path) -> Result<Option<Face>, ReadError> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some((
            meta.dev(),
            meta.ino(),
            meta.len(),
            meta.mtime(),
            meta.mtime_nsec(),
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReadError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Whether a process holds a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// This one does, where its number can be seen from here.
    Process(u32),
    /// None that can be seen from here. Locks of processes in other containers cannot.
    Nobody,
    /// The kernel's list of locks cannot be read.
    Unknown,
}

impl Holder {
    /// Of the journal at `path`: from the kernel's list, since whoever tried the lock would hold it for a moment, and a
    /// runner that starts in that moment would be refused.
    pub fn of(path: &Path) -> Self {
        let Ok(lock) = Place::of(path).and_then(|place| fs::metadata(place.lock)) else {
            return Self::Nobody;
        };
        match fs::read_to_string("/proc/locks") {
            Ok(locks) => locks
                .lines()
                .find_map(|line| holder_in(line, lock.ino()))
                .map_or(Self::Nobody, Self::Process),
            Err(_) => Self::Unknown,
        }
    }
}

/// The process that a line of `/proc/locks` says holds the file of this inode, as proc(5) has it:
/// `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`. Devices are not compared: on an overlay they are not those of stat(2).
fn holder_in(line: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    let (kind, _, access, pid, file) = (
        words.next()?,
        words.next()?,
        words.next()?,
        words.next()?,
        words.next()?,
    );
    let held: u64 = file.rsplit(':').next()?.parse().ok()?;
    (kind == "FLOCK" && access == "WRITE" && held == inode)
        .then(|| pid.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Lock;

    #[test]
    fn a_holder_is_seen_and_gone_with_its_lock_which_nobody_else_took() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("j.db");
        assert_eq!(Holder::of(&path), Holder::Nobody);
        let lock = Lock::take(&here.path().join("j.db.lock")).unwrap();
        assert_eq!(Holder::of(&path), Holder::Process(std::process::id()));
        drop(lock);
        assert_eq!(Holder::of(&path), Holder::Nobody, "its file is still there");
        assert_eq!(Holder::of(&here.path().join("nowhere/j.db")), Holder::Nobody);
    }

    #[test]
    fn a_line_of_the_list_is_of_one_file_and_of_writers_alone() {
        let line = |kind, access, file| format!("12: {kind}  ADVISORY  {access} 1234 {file} 0 EOF");
        assert_eq!(holder_in(&line("FLOCK", "WRITE", "fe:00:77"), 77), Some(1234));
        assert_eq!(holder_in(&line("FLOCK", "WRITE", "fe:00:770"), 77), None);
        assert_eq!(holder_in(&line("FLOCK", "READ", "fe:00:77"), 77), None);
        assert_eq!(holder_in(&line("POSIX", "WRITE", "fe:00:77"), 77), None);
        assert_eq!(
            holder_in("12: -> FLOCK  ADVISORY  WRITE 5 fe:00:77 0 EOF", 77),
            None,
            "it waits"
        );
        assert_eq!(holder_in("", 77), None);
    }

    #[test]
    fn a_stamp_changes_with_either_file() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("j.db");
        let mut stamps = vec![Stamp::of(&path).unwrap()];
        let log = here.path().join("j.db-wal");
        for (file, bytes) in [(&path, "a"), (&log, "b"), (&log, "bc"), (&path, "ab")] {
            fs::write(file, bytes).unwrap();
            stamps.push(Stamp::of(&path).unwrap());
        }
        fs::remove_file(&log).unwrap();
        stamps.push(Stamp::of(&path).unwrap());
        assert!(stamps.windows(2).all(|pair| pair[0] != pair[1]), "{stamps:?}");
        assert_eq!(Stamp::of(&path).unwrap(), Stamp::of(&path).unwrap());
        assert_eq!(Stamp::of(&path.join("below a file")).unwrap(), stamps[0]);
    }

    #[test]
    fn what_cannot_be_looked_at_is_an_error_and_not_absent() {
        let here = tempfile::tempdir().unwrap();
        let round = here.path().join("round");
        std::os::unix::fs::symlink(&round, &round).unwrap();
        assert!(matches!(Stamp::of(&round.join("j.db")), Err(ReadError::Io { .. })));
        // A name may have 255 bytes, and that of the log has four more.
        let long = here.path().join("n".repeat(252));
        fs::write(&long, "").unwrap();
        assert!(matches!(Stamp::of(&long), Err(ReadError::Io { .. })));
    }
}
