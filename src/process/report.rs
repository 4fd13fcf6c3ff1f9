//! What the supervisor leaves behind when all of an agent's processes are dead, for the runner or for its next start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::disk::with_suffix;
use crate::sandbox::Rights;

/// How the agent's first process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Whether the supervisor was told to end the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Stopped {
    /// The agent ended by itself.
    No,
    /// By the runner, or by a signal to the supervisor: TERM, grace, KILL.
    Asked,
    /// The lifeline ended, so the runner was gone: KILL at once.
    Abandoned,
}

/// The agent's end. That it is known means that all of its processes are dead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// How its first process ended.
    pub exit: Exit,
    /// How many processes outlived the first and had to be ended.
    pub stragglers: u32,
    /// From its start to the end of its first process, in whole milliseconds.
    #[serde(rename = "ranMs", with = "milliseconds")]
    pub ran: Duration,
    /// Whether it was told to end.
    pub stopped: Stopped,
    /// Why the program was never started: then [`Ended::exit`] is the sandbox command's.
    #[serde(skip)]
    pub failure: Option<StartFailure>,
}

mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

/// Why `__sandbox` did not become the program. It says so in a file that the program never has open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum StartFailure {
    /// There is no such program.
    #[error("program {program} was not found: {detail}")]
    NotFound {
        /// The program.
        program: String,
        /// What the system said.
        detail: String,
    },
    /// The program is there and cannot be executed.
    #[error("program {program} cannot be executed: {detail}")]
    NotExecutable {
        /// The program.
        program: String,
        /// What the system said.
        detail: String,
    },
    /// The kernel did not give the whole sandbox, and it was required.
    #[error("the sandbox is not available here: in force would be {in_force}; {detail}")]
    Sandbox {
        /// What would have been in force.
        in_force: Rights,
        /// What was missing, or what the kernel said.
        detail: String,
    },
    /// A path that the agent has to write is not there.
    #[error("{path} cannot be opened to the sandbox: {detail}")]
    Path {
        /// The path.
        path: String,
        /// What the system said.
        detail: String,
    },
    /// Descriptors that the program would have inherited.
    #[error("descriptors {descriptors:?} would leak into the agent: they are open without close-on-exec")]
    Descriptors {
        /// Their numbers.
        descriptors: Vec<i32>,
    },
    /// The process could not be prepared (signal mask, limits, no-new-privileges).
    #[error("failed to {what}: {detail}")]
    Preparation {
        /// What was tried.
        what: String,
        /// What the system said.
        detail: String,
    },
}

/// The supervisor's report is there and cannot be used.
#[derive(Debug, Error)]
pub enum ReportError {
    /// It cannot be read.
    #[error("read the agent's report {path}: {source}")]
    Read {
        /// The report.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not a report.
    #[error("the agent's report {path} is not one: {source}")]
    Malformed {
        /// The report.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
}

/// Reads what the last supervisor left at `path`. `None`: it was killed itself, or never got to its end.
pub fn read_report(path: &Path) -> Result<Option<Ended>, ReportError> {
    let Some(mut ended) = read_json::<Ended>(path)? else {
        return Ok(None);
    };
    ended.failure = read_json(&failure_path(path))?;
    Ok(Some(ended))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, ReportError> {
    match fs::read(path) {
        // The failure file is created before the program is tried, and stays empty when that goes well.
        Ok(bytes) if bytes.is_empty() => Ok(None),
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| ReportError::Malformed {
                path: path.to_owned(),
                source,
            }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReportError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Where `__sandbox` says why it did not become the program: beside the report.
pub(super) fn failure_path(report: &Path) -> PathBuf {
    with_suffix(report, ".failure")
}

/// Removes what an earlier supervisor left, so that it cannot pass for this one's.
pub(super) fn forget(path: &Path) -> io::Result<()> {
    for old in [path.to_owned(), failure_path(path), with_suffix(path, ".tmp")] {
        match fs::remove_file(&old) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Writes the report whole or not at all, and so that it survives a power cut.
pub(super) fn write(path: &Path, ended: &Ended) -> io::Result<()> {
    let draft = with_suffix(path, ".tmp");
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&draft)?;
    serde_json::to_writer(&mut file, ended)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written_and_none_is_none() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("report.json");
        assert!(read_report(&path).unwrap().is_none());
        let ended = Ended {
            exit: Exit::Signal(9),
            stragglers: 3,
            ran: Duration::from_millis(1_234),
            stopped: Stopped::Abandoned,
            failure: None,
        };
        write(&path, &ended).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"exit\":{\"signal\":9},\"stragglers\":3,\"ranMs\":1234,\"stopped\":\"abandoned\"}\n"
        );
        assert_eq!(read_report(&path).unwrap(), Some(ended));
        forget(&path).unwrap();
        assert!(read_report(&path).unwrap().is_none());
    }

    #[test]
    fn a_torn_report_is_an_error_and_not_an_end() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("report.json");
        fs::write(&path, "{\"exit\":").unwrap();
        assert!(matches!(read_report(&path), Err(ReportError::Malformed { .. })));
    }
}
