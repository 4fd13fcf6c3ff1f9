//! Where a journal command writes: standard output, whose reader may have seen enough at any time.

use std::io::{self, BufWriter, Write};

use crate::cli::CliError;

/// What is gathered before it is written: large enough that a long dump is not made of system calls.
pub(super) const BUFFER: usize = 64 * 1024;

/// Writes to standard output. That nobody reads on is no error.
pub(super) fn to_stdout(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    let mut out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
    let written = write(&mut out).and_then(|()| out.flush());
    // What could not be written is not tried again when the buffer goes.
    drop(out.into_parts());
    ended(written, || "to standard output".to_owned())
}

/// What a write came to, where the reader may have seen enough.
pub(super) fn ended(written: io::Result<()>, what: impl FnOnce() -> String) -> Result<(), CliError> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|source| CliError::Output { what: what(), source }),
    }
}
