//! What goes into a bundle is brought together, and the bundle made: where it is to be, or in a file without a name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::libc;
use runner_journal::ReadError;
use thiserror::Error;

use crate::adapters::archive::{Bundle, Contents, JOURNAL, JOURNAL_LOG, LeftOut, Manifest, rename_into_place};
use crate::adapters::git::Diff;
use crate::crash::{self, CrashPoint, Inside};
use crate::disk;
use crate::redact::{Redacted, Redactor};
use crate::telemetry::log_file;

/// What a bundle is made from.
pub(super) struct Sources {
    pub(super) state: PathBuf,
    pub(super) journal: PathBuf,
    pub(super) agent: PathBuf,
    pub(super) diffs: Vec<(&'static str, Diff)>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) redactor: Redactor,
    pub(super) given_up: Arc<AtomicBool>,
    pub(super) about: Manifest,
    pub(super) at_s: u64,
    /// Where it is to be, where that is a file.
    pub(super) folder: Option<PathBuf>,
    /// Which attempt it is: each makes its own file.
    pub(super) attempt: u32,
}

/// A bundle that was made.
pub(super) struct Staged {
    pub(super) bundle: Bundle,
    pub(super) left_out: Vec<LeftOut>,
    /// The file, where it is to be sent.
    pub(super) file: Option<File>,
}

/// Why there is no bundle.
#[derive(Debug, Error)]
pub(super) enum Refusal {
    /// The journal cannot be copied.
    #[error("the journal could not be copied: {0}")]
    Journal(#[from] ReadError),
    /// It cannot be made or named where it is to be.
    #[error("{} could not be written: {source}", path.display())]
    Folder {
        /// What was to be written.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What it is made of cannot be read, or there is no room to make it in.
    #[error("it could not be made: {0}")]
    Scratch(#[from] io::Error),
}

impl Refusal {
    /// Whether it would be the same a moment later.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Folder { source, .. } => is_lack_of_room(source) || is_no_place(source),
            Self::Journal(_) | Self::Scratch(_) => false,
        }
    }
}

fn is_lack_of_room(error: &io::Error) -> bool {
    disk::is_full(error) || error.kind() == io::ErrorKind::FileTooLarge
}

fn is_no_place(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::NotFound | Kind::PermissionDenied | Kind::ReadOnlyFilesystem | Kind::NotADirectory | Kind::IsADirectory
    )
}

/// Makes the bundle. The state directory is where it is made; where that has no room, the system's temporary directory.
pub(super) fn stage(sources: &Sources) -> Result<Staged, Refusal> {
    match stage_in(&sources.state, sources) {
        Err(Refusal::Scratch(error) | Refusal::Journal(ReadError::Io { source: error, .. }))
            if is_lack_of_room(&error) || is_no_place(&error) =>
        {
            stage_in(&std::env::temp_dir(), sources)
        }
        staged => staged,
    }
}

fn stage_in(scratch: &Path, sources: &Sources) -> Result<Staged, Refusal> {
    let contents = gather(scratch, sources)?;
    let left_out = contents.left_out().to_vec();
    let Some(to) = &sources.folder else {
        let mut file = tempfile::tempfile_in(scratch)?;
        let bundle = contents.write(sources.about.clone(), sources.at_s, &mut file)?;
        io::Seek::rewind(&mut file)?;
        return Ok(Staged {
            bundle,
            left_out,
            file: Some(file),
        });
    };
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| Refusal::Folder { path, source }
    };
    let part = part(to, sources.attempt);
    let mut file = create(to, sources.attempt).map_err(at(&part))?;
    let made = contents.write(sources.about.clone(), sources.at_s, &mut file);
    let named = made.map_err(at(&part)).and_then(|bundle| {
        crash::at(CrashPoint::Inside(Inside::ArchiveMade));
        rename_into_place(&file, &part, to).map_err(at(to))?;
        Ok(bundle)
    });
    if named.is_err() {
        // Half of one is of no use to anybody, and may be what filled the disk.
        let _ = fs::remove_file(&part);
    }
    Ok(Staged {
        bundle: named?,
        left_out,
        file: None,
    })
}

/// The path that a bundle has while an attempt makes it.
fn part(to: &Path, attempt: u32) -> PathBuf {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    to.with_file_name(format!(".{name}.{attempt}.part"))
}

/// A new file in a folder that others may write to. What earlier attempts left there is taken away first: those of a killed
/// runner, and of a thread that nobody waited for any more, which then cannot give it the name.
fn create(to: &Path, attempt: u32) -> io::Result<File> {
    for attempt in 1..=attempt {
        match fs::remove_file(part(to, attempt)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(part(to, attempt))
}

/// What matters most comes first: what is over the limit is left out, and said.
fn gather(scratch: &Path, sources: &Sources) -> Result<Contents, Refusal> {
    let mut contents = Contents::new(Arc::clone(&sources.given_up));
    for LeftOut { path, why } in &sources.left_out {
        contents.leave_out(path, &sources.redactor.redact(why));
    }
    let (database, log) = (tempfile::tempfile_in(scratch)?, tempfile::tempfile_in(scratch)?);
    runner_journal::copy(&sources.journal, &database, &log)?;
    contents.take_file(JOURNAL, database)?;
    if log.metadata()?.len() > 0 {
        contents.take_file(JOURNAL_LOG, log)?;
    }
    for (name, diff) in &sources.diffs {
        // What was refused may have been refused for the secrets in it.
        let mut clean = Redacted::new(tempfile::tempfile_in(scratch)?, &sources.redactor);
        clean.write_all(&diff.text)?;
        contents.take_file(name, clean.finish()?)?;
        if diff.cut {
            let mib = diff.text.len() / (1024 * 1024);
            contents.leave_out(name, &format!("it is cut: only its first {mib} MiB are here"));
        }
    }
    for name in [log_file::OLDER, log_file::NAME] {
        contents.take(name, &sources.state.join(name))?;
    }
    for name in transcripts(&sources.agent)? {
        contents.take(&format!("agent/{name}"), &sources.agent.join(&name))?;
    }
    Ok(contents)
}

/// The transcripts in a directory, the last one first.
fn transcripts(agent: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(agent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let number = name
            .strip_prefix("transcript-")
            .and_then(|rest| rest.strip_suffix(".jsonl.zst"))
            .and_then(|number| number.parse::<u32>().ok());
        found.extend(number.map(|number| (number, name)));
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found.into_iter().map(|(_, name)| name).collect())
}
