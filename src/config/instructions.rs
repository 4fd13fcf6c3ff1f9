//! The operator's instructions: read once, at the start.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::ConfigError;

/// How long they may be, in bytes: all of it is part of every request to the model.
const LIMIT: usize = 256 * 1024;

pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let refuse = |why: String| ConfigError::UnusableInstructions {
        path: path.to_owned(),
        why,
    };
    let unreadable = |error: std::io::Error| refuse(format!("which cannot be read: {error}"));
    // A pipe would be waited for.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(refuse("which is no file".to_owned()));
    }
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(unreadable)?.take(LIMIT as u64 + 1);
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > LIMIT {
        return Err(refuse("which is longer than 256 KiB".to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| refuse("which is not UTF-8".to_owned()))
}
