//! What the system says of a disk.

use std::io::{self, ErrorKind};

/// Whether it has no room, or this user's share of it is used up.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
