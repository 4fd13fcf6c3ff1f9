//! Reading an archive that anybody may have made: into a private directory, by the names that an archive has and no others.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};
use tempfile::TempDir;
use thiserror::Error;
use zstd::stream::read::Decoder;

use super::manifest::{FORMAT, Manifest};
use super::{FILES_LIMIT, JOURNAL, JOURNAL_LOG, MANIFEST, TOTAL_LIMIT};

/// How a frame of zstd begins.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A frame may ask for a window of 2^27 bytes at most: 128 MiB of memory.
const WINDOW_LOG: u32 = 27;
/// The manifest may have so many bytes.
const MANIFEST_LIMIT: u64 = 1024 * 1024;

/// Why a file is no archive that can be read, or none that is safe to.
#[derive(Debug, Error)]
pub enum UnreadableBundle {
    /// It cannot be read, or there is no room for what is in it.
    #[error("failed to read it: {0}")]
    Io(#[from] io::Error),
    /// It is compressed, and has no journal in it.
    #[error("it has no journal.db in it")]
    NoJournal {
        /// What else is wrong with it, in the order found.
        problems: Vec<String>,
    },
    /// An entry that no archive of a runner has.
    #[error("it has an entry {name:?}, {why}: that is no archive of a runner")]
    Hostile {
        /// The entry's name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More than an archive may be.
    #[error("what is in it is more than {0}: that is no archive of a runner")]
    TooLarge(String),
}

/// An archive that was unpacked, laid out as a state directory is.
#[derive(Debug)]
pub struct Opened {
    directory: TempDir,
    /// What it says of itself; none where that cannot be read.
    pub manifest: Option<Manifest>,
    /// What is wrong with it: cut, changed, or not as its manifest says.
    pub problems: Vec<String>,
}

/// Whether a file begins as a compressed archive does, and a journal does not.
pub fn is_bundle(path: &Path) -> bool {
    let mut head = [0; 4];
    // A FIFO would be waited for.
    let plain = fs::metadata(path).is_ok_and(|found| found.is_file());
    plain && File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == MAGIC
}

impl Opened {
    /// Unpacks an archive. What is cut or damaged is read as far as it goes, and said.
    pub fn unpack(path: &Path) -> Result<Self, UnreadableBundle> {
        Self::unpack_within(path, TOTAL_LIMIT)
    }

    /// The same with another bound on the sum of its files, in bytes.
    pub(super) fn unpack_within(path: &Path, limit: u64) -> Result<Self, UnreadableBundle> {
        let directory = tempfile::Builder::new().prefix("bundle-").tempdir()?;
        let mut decoder = Decoder::new(File::open(path)?)?;
        decoder.window_log_max(WINDOW_LOG)?;
        let bounded = Bounded {
            from: decoder,
            // Each entry has a header and a last block, and the end two blocks.
            left: limit + MANIFEST_LIMIT + (FILES_LIMIT as u64 + 1) * 1024 + 64 * 1024,
            over: false,
        };
        let mut tar = Archive::new(bounded);
        let mut unpacked = Unpacked {
            root: directory.path(),
            seen: Vec::new(),
            problems: Vec::new(),
        };
        let walked = unpacked.walk(&mut tar);
        let bounded = tar.into_inner();
        if bounded.over {
            return Err(UnreadableBundle::TooLarge(format!("{} MiB", limit / (1024 * 1024))));
        }
        walked?;
        let Unpacked { seen, mut problems, .. } = unpacked;
        let manifest = read_manifest(directory.path(), &seen, &mut problems);
        if let Some(manifest) = &manifest {
            held_against(manifest, &seen, &mut problems);
        }
        if !seen.iter().any(|file| file.path == JOURNAL) {
            return Err(UnreadableBundle::NoJournal { problems });
        }
        Ok(Self {
            directory,
            manifest,
            problems,
        })
    }

    /// The journal in it.
    pub fn journal(&self) -> PathBuf {
        self.directory.path().join(JOURNAL)
    }

    /// The directory that it was unpacked into: gone when this value is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// A file that came out of an archive.
struct Seen {
    path: String,
    bytes: u64,
    sha256: String,
}

struct Unpacked<'a> {
    root: &'a Path,
    seen: Vec<Seen>,
    problems: Vec<String>,
}

impl Unpacked<'_> {
    fn walk<R: Read>(&mut self, tar: &mut Archive<R>) -> Result<(), UnreadableBundle> {
        let entries = match tar.entries() {
            Ok(entries) => entries,
            Err(error) => {
                self.ends_here(None, &error);
                return Ok(());
            }
        };
        let mut names = BTreeSet::new();
        // Raw: a long name of the format's own would be read into memory, however long it says that it is.
        for (number, entry) in entries.raw(true).enumerate() {
            let mut entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.ends_here(None, &error);
                    return Ok(());
                }
            };
            if number >= FILES_LIMIT {
                return Err(UnreadableBundle::TooLarge(format!("{FILES_LIMIT} files")));
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let hostile = |why| UnreadableBundle::Hostile {
                name: name.clone(),
                why,
            };
            if entry.header().entry_type() != EntryType::Regular {
                return Err(hostile("which is no plain file"));
            }
            if !is_expected(&name) {
                return Err(hostile("a name that none has"));
            }
            if !names.insert(name.clone()) {
                return Err(hostile("twice"));
            }
            if name == MANIFEST && entry.size() > MANIFEST_LIMIT {
                return Err(UnreadableBundle::TooLarge(format!(
                    "{MANIFEST_LIMIT} bytes of {MANIFEST}"
                )));
            }
            if let Err(error) = self.keep(&name, &mut entry)? {
                self.ends_here(Some(&name), &error);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes an entry's bytes as far as they come. What ended them is the inner result, what kept them from the disk the outer.
    fn keep(&mut self, name: &str, from: &mut impl Read) -> Result<io::Result<()>, UnreadableBundle> {
        let path = self.root.join(name);
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        let mut chunk = vec![0; 64 * 1024];
        let came = loop {
            match from.read(&mut chunk) {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    let part = chunk.get(..count).unwrap_or_default();
                    hash.update(part);
                    bytes += count as u64;
                    file.write_all(part)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.seen.push(Seen {
            path: name.to_owned(),
            bytes,
            sha256: hex::encode(hash.finalize()),
        });
        Ok(came)
    }

    fn ends_here(&mut self, within: Option<&str>, error: &io::Error) {
        let place = within.or(self.seen.last().map(|last| last.path.as_str()));
        let place = match (within, place) {
            (Some(name), _) => format!("within {name}"),
            (None, Some(name)) => format!("after {name}"),
            (None, None) => "at its beginning".to_owned(),
        };
        self.problems
            .push(format!("the archive is cut short or damaged {place}: {error}"));
    }
}

/// The names that an archive has. Nothing in them leads out of the directory that it is unpacked into.
fn is_expected(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && part.len() <= 255
            && !part.starts_with('.')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    let path = Path::new(name);
    let ours = path.components().all(|part| matches!(part, Component::Normal(_)));
    let known = match name.split_once('/') {
        None => plain(name),
        Some((directory, file)) => directory == "agent" && plain(file),
    };
    // What would be taken for the journal's own bookkeeping is none of an archive's.
    ours && known && !(name.starts_with(JOURNAL) && name != JOURNAL && name != JOURNAL_LOG)
}

fn read_manifest(root: &Path, seen: &[Seen], problems: &mut Vec<String>) -> Option<Manifest> {
    if !seen.iter().any(|file| file.path == MANIFEST) {
        problems.push(format!("it has no {MANIFEST}: nothing says what should be in it"));
        return None;
    }
    let read = fs::read(root.join(MANIFEST)).map_err(|error| error.to_string());
    let parsed = read.and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).map_err(|error| error.to_string()));
    match parsed {
        Ok(manifest) => {
            if manifest.format > FORMAT {
                problems.push(format!(
                    "it is of format {}, and this runner knows {FORMAT}: what can be read is read",
                    manifest.format
                ));
            }
            Some(manifest)
        }
        Err(error) => {
            problems.push(format!("its {MANIFEST} cannot be read: {error}"));
            None
        }
    }
}

/// What was to be there, against what came.
fn held_against(manifest: &Manifest, seen: &[Seen], problems: &mut Vec<String>) {
    for listed in &manifest.files {
        match seen.iter().find(|file| file.path == listed.path) {
            None => problems.push(format!("{} is missing", listed.path)),
            Some(file) if file.bytes < listed.bytes => problems.push(format!(
                "{} is cut: {} of {} bytes",
                listed.path, file.bytes, listed.bytes
            )),
            Some(file) if file.sha256 != listed.sha256 => {
                problems.push(format!(
                    "{} is not what was archived: its SHA-256 is another",
                    listed.path
                ));
            }
            Some(_) => {}
        }
    }
    for file in seen {
        let known = file.path == MANIFEST || manifest.files.iter().any(|listed| listed.path == file.path);
        if !known {
            problems.push(format!("{} is not in its {MANIFEST}", file.path));
        }
    }
}

/// Reads so much, and says when more would come.
struct Bounded<R> {
    from: R,
    left: u64,
    over: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            let mut one = [0];
            self.over = self.from.read(&mut one)? > 0;
            if self.over {
                return Err(io::Error::other("it goes on for longer than an archive may"));
            }
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let count = self.from.read(into.get_mut(..most).unwrap_or_default())?;
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}
