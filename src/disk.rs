//! What the system says of a disk, and how files that belong together are named.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Whether it has no room, or this user's share of it is used up.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// A file beside another, named after it.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
