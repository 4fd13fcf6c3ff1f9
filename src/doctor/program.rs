//! What a program says of its version: one bounded start, with an environment of nothing but `PATH`.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;

use crate::text::excerpt;

/// How long a program may take to say its version.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How much of what it says is read, in bytes.
const LIMIT: u64 = 4096;

/// Why a program's version is not known.
#[derive(Debug, Error)]
pub(super) enum Silent {
    /// It cannot be started, or its output not be read.
    #[error("it cannot be run: {0}")]
    NotRun(#[from] io::Error),
    /// It ended as a failure.
    #[error("--version ended with {0}")]
    Failed(ExitStatus),
    /// It did not answer.
    #[error("--version did not end within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// It said nothing.
    #[error("--version printed nothing")]
    Nothing,
}

/// The first line of what `PROGRAM --version` prints. Whatever it started is killed where it takes longer than
/// `patience`.
pub(super) fn version(program: &Path, path: Option<OsString>, patience: Duration) -> Result<String, Silent> {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .env_clear()
        .envs(path.map(|path| ("PATH", path)))
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn()?;
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let (tell, told) = mpsc::channel();
    let waiting = thread::spawn(move || {
        let mut said = Vec::new();
        let read = child
            .stdout
            .take()
            .map_or(Ok(0), |stdout| stdout.take(LIMIT).read_to_end(&mut said));
        let ended = read.and_then(|_| child.wait());
        // Nobody listens any more where it took too long.
        let _ = tell.send(ended.map(|status| (status, said)));
    });
    let Ok(answer) = told.recv_timeout(patience) else {
        // It may be gone by now. The thread is not waited for: what left the group may hold the output open for long.
        let _ = killpg(group, Signal::SIGKILL);
        return Err(Silent::TimedOut(patience));
    };
    // It has said all that it says.
    let _ = waiting.join();
    let (status, said) = answer?;
    if !status.success() {
        return Err(Silent::Failed(status));
    }
    let said = String::from_utf8_lossy(&said);
    match said.lines().next().map(excerpt) {
        Some(line) if !line.is_empty() => Ok(line),
        Some(_) | None => Err(Silent::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn says(script: &str, patience: Duration) -> Result<String, Silent> {
        let room = tempfile::tempdir().unwrap();
        let program = room.path().join("program");
        // By a process of its own: while this one had it open for writing, a child that another test forks would have it
        // too, and it could not be executed.
        let written = Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\n%s\n' \"$1\" > \"$0\" && chmod 755 \"$0\""])
            .arg(&program)
            .arg(script)
            .status();
        assert!(written.unwrap().success());
        version(&program, std::env::var_os("PATH"), patience)
    }

    #[test]
    fn the_first_line_of_what_it_prints_is_its_version_and_its_environment_is_path_alone() {
        assert_eq!(says("echo \"tool $1\"; echo more", PATIENCE).unwrap(), "tool --version");
        let names = says("env | cut -d= -f1 | sort | tr '\\n' ' '", PATIENCE).unwrap();
        assert!(names.contains("PATH"), "{names}");
        assert!(!names.contains("HOME") && !names.contains("CARGO"), "{names}");
    }

    #[test]
    fn one_that_fails_or_says_nothing_or_never_ends_is_told_apart() {
        assert!(matches!(says("exit 3", PATIENCE), Err(Silent::Failed(_))));
        assert!(matches!(says("", PATIENCE), Err(Silent::Nothing)));
        // What it leaves behind holds its output open, and is killed with it.
        let hanging = says("sleep 600 & wait", Duration::from_millis(100));
        assert!(matches!(hanging, Err(Silent::TimedOut(_))), "{hanging:?}");
        // What left its group is not killed, and is not waited for.
        let begun = Instant::now();
        let escaped = says("setsid sleep 30 & wait", Duration::from_millis(100));
        assert!(matches!(escaped, Err(Silent::TimedOut(_))), "{escaped:?}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        let missing = version(Path::new("/no/such/program"), None, PATIENCE);
        assert!(matches!(missing, Err(Silent::NotRun(_))), "{missing:?}");
    }
}
