//! A plugin's files, in the binary or in a directory: the same questions of both.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use super::{BuiltIn, Parts};

/// How long a file of JSON may be, in bytes.
const LIMIT: u64 = 1024 * 1024;

/// Where a plugin's files are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Files<'a> {
    InTheBinary(&'static BuiltIn),
    Below(&'a Path),
}

impl Files<'_> {
    /// What is in one; none where there is none.
    pub(super) fn text(self, path: &str) -> io::Result<Option<String>> {
        match self {
            Self::InTheBinary(plugin) => {
                let found = plugin.files.iter().find(|(name, _)| *name == path);
                Ok(found.map(|(_, text)| (*text).to_owned()))
            }
            Self::Below(root) => read(&root.join(path)),
        }
    }

    /// What there is beside servers, at the usual places.
    pub(super) fn parts(self) -> Parts {
        Parts {
            skills: self.named("skills", "/SKILL.md"),
            agents: self.named("agents", ".md"),
            commands: self.named("commands", ".md"),
        }
    }

    /// The names between `folder/` and `ending`.
    fn named(self, folder: &str, ending: &str) -> Vec<String> {
        let names: BTreeSet<String> = match self {
            Self::InTheBinary(plugin) => plugin
                .files
                .iter()
                .filter_map(|(path, _)| path.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(ending))
                .map(ToOwned::to_owned)
                .collect(),
            // What cannot be looked at is not there: this is for people, and Claude Code looks for itself.
            Self::Below(root) => fs::read_dir(root.join(folder))
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|entry| {
                    let name = entry.file_name().into_string().ok()?;
                    match ending.strip_prefix('/') {
                        Some(inner) => entry.path().join(inner).is_file().then_some(name),
                        None => Some(name.strip_suffix(ending)?.to_owned()),
                    }
                })
                .collect(),
        };
        names.into_iter().collect()
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::metadata(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(error),
        // A pipe would be waited for.
        Ok(data) if !data.is_file() => return Err(io::Error::other("it is no file")),
        Ok(_) => {}
    }
    let mut text = String::new();
    File::open(path)?.take(LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LIMIT {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    Ok(Some(text))
}
