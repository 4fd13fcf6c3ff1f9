//! Room on a disk that is set aside while a program runs, so that its end can be written down also where the disk is full by
//! then: the supervisor's report, the rest of the transcript, the rows of the journal. What was paid for is lost otherwise.

use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc;

use crate::disk::with_suffix;

/// Room that is set aside. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Reserve(PathBuf);

impl Reserve {
    /// So many bytes on the disk of the lock, which the caller holds: what a killed holder set aside is taken in its place.
    pub(super) fn set_aside(lock: &Path, bytes: u64) -> io::Result<Self> {
        give_up(lock)?;
        let path = path(lock);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)?;
        // From here on it goes, whatever comes.
        let reserve = Self(path);
        fill(file, bytes)?;
        Ok(reserve)
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        let _ = remove_file(&self.0);
    }
}

/// Frees what an earlier holder of the lock had set aside, if it was killed. The caller holds the lock.
pub(super) fn give_up(lock: &Path) -> io::Result<()> {
    match remove_file(path(lock)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn path(lock: &Path) -> PathBuf {
    with_suffix(lock, ".reserve")
}

fn fill(mut file: File, bytes: u64) -> io::Result<()> {
    let length = i64::try_from(bytes).map_err(io::Error::other)?;
    match fallocate(&file, FallocateFlags::empty(), 0, length) {
        // NFS before 4.2, for one. A file system that compresses keeps no room so, and none is to be had there.
        Err(Errno::EOPNOTSUPP) => io::copy(&mut io::repeat(0).take(bytes), &mut file).map(drop),
        other => other.map_err(io::Error::from),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::disk;

    #[test]
    fn it_is_there_until_it_is_dropped_and_what_a_killed_holder_left_is_taken_in_its_place() {
        let room = tempfile::tempdir().unwrap();
        let lock = room.path().join("agent.lock");
        fs::write(path(&lock), "left").unwrap();
        let reserve = Reserve::set_aside(&lock, 1_000_000).unwrap();
        let kept = fs::metadata(path(&lock)).unwrap();
        // In units of 512 bytes, whatever the blocks are (stat(2)).
        assert!(kept.blocks() * 512 >= 1_000_000, "{kept:?}");
        drop(reserve);
        assert!(!path(&lock).exists());
        give_up(&lock).unwrap();
        fs::write(path(&lock), "left").unwrap();
        give_up(&lock).unwrap();
        assert!(!path(&lock).exists());
    }

    #[test]
    fn where_there_is_no_room_nothing_is_left() {
        let room = tempfile::tempdir().unwrap();
        let lock = room.path().join("agent.lock");
        // More than any disk has, and less than any file may be.
        let full = Reserve::set_aside(&lock, 1 << 43).unwrap_err();
        assert!(disk::is_full(&full) || full.kind() == ErrorKind::FileTooLarge, "{full}");
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 0);
    }
}
