//! The token's way into git: a FIFO that one program reads, a line for each question.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use super::askpass;
use super::error::GitError;
use crate::secret::Secret;

/// How many questions of one git process are answered, at most.
const ANSWERS: usize = 8;
/// What a pipe takes in one write, always (POSIX's `PIPE_BUF` on Linux).
const PIPE_BUF: usize = 4096;

/// The token, ready to be read as often as git asks. Gone with this value.
pub(super) struct Handover<'a> {
    secret: &'a Secret,
    origin: String,
    runner_exe: OsString,
    dir: TempDir,
    /// Held open for reading and writing, so that neither side ever waits for the other.
    _pipe: File,
}

impl<'a> Handover<'a> {
    /// Makes the FIFO and puts the answers into it. `origin` is the one address whose questions are answered.
    pub(super) fn new(
        secret: &'a Secret,
        secrets_dir: &Path,
        runner_exe: &Path,
        origin: &str,
    ) -> Result<Self, GitError> {
        let token = secret.expose();
        if token.is_empty() || token.len() >= PIPE_BUF || token.chars().any(char::is_control) {
            return Err(GitError::TokenUnusable);
        }
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(secrets_dir)
            .map_err(GitError::io("create a directory in", secrets_dir))?;
        let path = dir.path().join("token");
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|error| GitError::io("create the FIFO", &path)(error.into()))?;
        let mut pipe = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(&path)
            .map_err(GitError::io("open the FIFO", &path))?;
        let answers = (PIPE_BUF / (token.len() + 1)).clamp(1, ANSWERS);
        let lines = secrecy::zeroize::Zeroizing::new(format!("{token}\n").repeat(answers));
        pipe.write_all(lines.as_bytes())
            .map_err(GitError::io("write to the FIFO", &path))?;
        Ok(Self {
            secret,
            origin: origin.to_owned(),
            runner_exe: runner_exe.into(),
            dir,
            _pipe: pipe,
        })
    }

    pub(super) fn secret(&self) -> &Secret {
        self.secret
    }

    /// Names the program that answers and where it reads; never the token.
    pub(super) fn environment(&self) -> [(&'static str, OsString); 3] {
        [
            ("GIT_ASKPASS", self.runner_exe.clone()),
            (askpass::FIFO, self.dir.path().join("token").into()),
            (askpass::ORIGIN, self.origin.clone().into()),
        ]
    }
}

/// What the FIFO's directories are called, so that a dead runner's are found.
pub(super) const PREFIX: &str = "askpass-";
