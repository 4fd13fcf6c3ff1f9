//! Where a journal lies, looked at without SQLite: its directory, its file system, the head of its file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nix::fcntl::OFlag;
use nix::sys::statfs::{FsType, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs};

use crate::APPLICATION_ID;
use crate::error::Foreign;

/// A journal's files. The path is resolved, so that two names of one journal have one lock.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) database: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) lock: PathBuf,
    /// Where a new journal is made before it gets its name.
    pub(crate) fresh: PathBuf,
}

impl Place {
    /// The files of the journal at `path`, whose directory exists.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let database = match fs::canonicalize(path) {
            Ok(database) => database,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let name = path.file_name().ok_or(ErrorKind::InvalidFilename)?;
                fs::canonicalize(parent(path))?.join(name)
            }
            Err(error) => return Err(error),
        };
        let beside = |suffix: &str| {
            let mut name = database.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        Ok(Self {
            directory: parent(&database).to_owned(),
            log: beside("-wal"),
            lock: beside(".lock"),
            fresh: beside(".new"),
            database,
        })
    }
}

/// The directory that a path is in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// Makes a directory and what is missing above it, each 0700.
pub(crate) fn make_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Makes the names in a directory survive a loss of power, and the directory's own name with them.
///
/// Up to the root: whoever made the directories may have died before their names were synced.
pub(crate) fn sync_names(directory: &Path) -> io::Result<()> {
    let sync = |directory: &Path| File::open(directory)?.sync_all();
    sync(directory)?;
    directory
        .ancestors()
        .skip(1)
        .try_for_each(|above| where_we_can(sync(above)))
}

/// A sync that cannot be done is none that is missing: the directory is not ours to read, so not ours to have made,
/// or its file system has no such sync.
fn where_we_can(synced: io::Result<()>) -> io::Result<()> {
    match synced {
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidInput) => Ok(()),
        synced => synced,
    }
}

/// The name of the network file system that a path is on, or would be made on. Locks and syncs cannot be trusted there.
pub fn network_file_system(path: &Path) -> io::Result<Option<&'static str>> {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    Ok(network_name(statfs(existing)?.filesystem_type()))
}

fn network_name(kind: FsType) -> Option<&'static str> {
    // From statfs(2); nix has no names for the last two.
    const CIFS: FsType = FsType(0xFF53_4D42);
    const SMB2: FsType = FsType(0xFE53_4D42);
    match kind {
        NFS_SUPER_MAGIC => Some("NFS"),
        SMB_SUPER_MAGIC | CIFS | SMB2 => Some("SMB"),
        _ => None,
    }
}

/// What a file is, by its first hundred bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileHead {
    /// No file.
    Absent,
    /// No bytes.
    Empty,
    /// A journal of this schema version, known to us or not.
    Journal(u32),
    /// Something else.
    Foreign(Foreign),
}

impl FileHead {
    /// Reads it from an open file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Ok(Self::Foreign(Foreign::NotAFile));
        }
        if meta.len() == 0 {
            return Ok(Self::Empty);
        }
        // Offsets from SQLite's file format: "SQLite format 3\0", user_version at 60, application_id at 68.
        let mut head = [0; 100];
        match file.read_exact_at(&mut head, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Self::Foreign(Foreign::NotADatabase)),
            Err(error) => return Err(error),
        }
        let number = |at: usize| i32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        Ok(if !head.starts_with(b"SQLite format 3\0") {
            Self::Foreign(Foreign::NotADatabase)
        } else if number(68) != APPLICATION_ID {
            Self::Foreign(Foreign::OtherApplication(number(68)))
        } else {
            Self::Journal(number(60).cast_unsigned())
        })
    }
}

/// How a file is opened that could be anything: no symbolic link is followed, no FIFO is waited for. (The standard
/// library adds `O_CLOEXEC` to whatever it opens.)
pub(crate) const WITHOUT_SURPRISE: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK);

/// Opens a file for reading that could be anything.
pub(crate) fn open_unknown(path: &Path) -> io::Result<Option<File>> {
    let flags = WITHOUT_SURPRISE.bits();
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The database files that SQLite has open in this process, by device and inode.
///
/// Closing any descriptor of a file drops every POSIX lock that the process has on it, SQLite's too. So a
/// journal keeps one descriptor of its own, and whoever reads the file in this process reads through that one.
static HELD: Mutex<Vec<(FileId, Weak<File>)>> = Mutex::new(Vec::new());

type FileId = (u64, u64);

fn file_id(meta: &fs::Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt;
    (meta.dev(), meta.ino())
}

/// Keeps a database's descriptor for as long as its connection lives.
pub(crate) fn hold(file: File) -> io::Result<Arc<File>> {
    let id = file_id(&file.metadata()?);
    let file = Arc::new(file);
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    held.retain(|(_, file)| file.strong_count() > 0);
    held.push((id, Arc::downgrade(&file)));
    Ok(file)
}

/// Opens a database to be copied: through the journal's own descriptor, where this process has it open.
pub(crate) fn open_shared(path: &Path) -> io::Result<Option<Arc<File>>> {
    let id = match fs::metadata(path) {
        Ok(meta) => file_id(&meta),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let ours = held
        .iter()
        .find_map(|(held, file)| (*held == id).then(|| file.upgrade()).flatten());
    match ours {
        Some(file) => Ok(Some(file)),
        None => Ok(open_unknown(path)?.map(Arc::new)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_have_their_names_and_local_ones_none() {
        assert_eq!(network_name(FsType(0x6969)), Some("NFS"));
        for smb in [0x517B, 0xFF53_4D42, 0xFE53_4D42] {
            assert_eq!(network_name(FsType(smb)), Some("SMB"));
        }
        assert_eq!(network_name(FsType(0xEF53)), None);
        let here = tempfile::tempdir().unwrap();
        assert_eq!(network_file_system(&here.path().join("not/yet/there")).unwrap(), None);
    }

    #[test]
    fn a_new_directory_is_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let here = tempfile::tempdir().unwrap();
        let deep = here.path().join("a/b");
        make_directory(&deep).unwrap();
        for made in [here.path().join("a"), deep] {
            assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_fifo_is_no_journal_and_is_not_waited_for() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let file = open_unknown(&path).unwrap().unwrap();
        assert_eq!(FileHead::of(&file).unwrap(), FileHead::Foreign(Foreign::NotAFile));
    }

    #[test]
    fn what_cannot_be_looked_at_is_an_error_and_not_absent() {
        let here = tempfile::tempdir().unwrap();
        let file = here.path().join("file");
        fs::write(&file, [0; 200]).unwrap();
        let (absent, below) = (here.path().join("absent"), file.join("below"));
        assert!(open_unknown(&absent).unwrap().is_none());
        assert!(open_unknown(&below).is_err());
        assert!(open_shared(&absent).unwrap().is_none());
        assert!(open_shared(&below).is_err());
        assert_eq!(
            Place::of(&absent).unwrap().database,
            fs::canonicalize(here.path()).unwrap().join("absent")
        );
        assert!(Place::of(&below).is_err());
        let for_writing_alone = OpenOptions::new().write(true).open(&file).unwrap();
        assert!(FileHead::of(&for_writing_alone).is_err());
        let link = here.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(open_unknown(&link).is_err());
    }

    #[test]
    fn a_bare_name_is_in_the_current_directory() {
        assert_eq!(parent(Path::new("journal.db")), Path::new("."));
        assert_eq!(parent(Path::new("state/journal.db")), Path::new("state"));
    }

    #[test]
    fn only_a_directory_that_is_not_ours_goes_unsynced() {
        let here = tempfile::tempdir().unwrap();
        sync_names(&fs::canonicalize(here.path()).unwrap()).unwrap();
        assert!(sync_names(&here.path().join("absent")).is_err());
        // Its parent, by the letters of it, is a name of nothing.
        assert!(sync_names(Path::new("src")).is_err());
        for kind in [ErrorKind::PermissionDenied, ErrorKind::InvalidInput] {
            where_we_can(Err(kind.into())).unwrap();
        }
        let eio = io::Error::from_raw_os_error(nix::libc::EIO);
        assert!(where_we_can(Err(eio)).is_err());
    }

    #[test]
    fn a_database_is_held_no_longer_than_its_connection() {
        let here = tempfile::tempdir().unwrap();
        let made = |name| File::create(here.path().join(name)).unwrap();
        let first = hold(made("first")).unwrap();
        let id = file_id(&first.metadata().unwrap());
        let is_held = || HELD.lock().unwrap().iter().any(|(held, _)| *held == id);
        assert!(is_held());
        drop(first);
        hold(made("second")).unwrap();
        assert!(!is_held());
    }
}
