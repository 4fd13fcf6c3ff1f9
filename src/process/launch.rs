//! The runner's side: start an agent under a supervisor, read what it prints, stop it, and learn how all of it ended.

use std::ffi::OsString;
use std::io::{self, PipeWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::report::{self, Ended, ReportError, read_report};
use super::supervise::{INTERRUPT, KILL, LOCK_HELD, NO_ROOM, STOP};
use super::{SANDBOX, SUPERVISE};
use crate::sandbox::{Confinement, Demand};

/// What the program reads on standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Nothing.
    Null,
    /// A file, opened outside the sandbox, so that it need not be in the program's reach otherwise.
    File(PathBuf),
}

/// One start of a program with everything that it may see.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Our own binary, for the supervisor and the sandbox command.
    pub runner: PathBuf,
    /// The program, by its absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Exactly its environment: nothing is inherited.
    pub env: Vec<(String, OsString)>,
    /// Its standard input.
    pub stdin: Input,
    /// What it may reach, or everything.
    pub confinement: Option<Confinement>,
    /// Whether a kernel that cannot give the whole sandbox is refused. Of no weight without a confinement.
    pub require: Demand,
    /// `agent.lock`.
    pub lock: PathBuf,
    /// Where the supervisor leaves its report. One that is there already is removed.
    pub report: PathBuf,
    /// Between TERM and KILL.
    pub grace: Duration,
    /// So many bytes on the lock's disk are set aside, and free again once all of it is dead. It is not started where there is
    /// less.
    pub set_aside: u64,
}

/// Why an agent could not be started, or how its end could not be learnt.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// Another supervisor has the lock: processes of an earlier agent live.
    #[error("{lock} is held: processes of an earlier agent still live")]
    LockHeld {
        /// The lock.
        lock: PathBuf,
    },
    /// The lock cannot be opened.
    #[error("take the lock {lock}: {source}")]
    Lock {
        /// The lock.
        lock: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What an earlier supervisor left when it was killed does not die.
    #[error("processes of an earlier agent outlive SIGKILL: {pids:?}")]
    LeftBehind {
        /// Their numbers.
        pids: Vec<i32>,
    },
    /// There is less room on the disk than has to be set aside.
    #[error("there is no room for {bytes} bytes beside {lock}, and how it ends could not be written down")]
    NoRoom {
        /// The lock.
        lock: PathBuf,
        /// What was to be set aside.
        bytes: u64,
    },
    /// The working directory is not there.
    #[error("the working directory {cwd} is not a directory")]
    WorkingDirectory {
        /// It.
        cwd: PathBuf,
    },
    /// The supervisor could not be started.
    #[error("start the supervisor {runner}: {source}")]
    Start {
        /// Our binary.
        runner: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The supervisor ended without a report. Where it was killed, processes of the agent live until the next wait for the lock.
    #[error("the agent's supervisor ended without a report ({status}): processes of the agent may still live")]
    SupervisorLost {
        /// How it ended.
        status: String,
    },
    /// The report is there and cannot be used.
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// A started program: its output, and the hold on its supervisor. Dropped, it kills the program and all of its descendants.
#[derive(Debug)]
pub struct Running {
    /// What it prints. To be drained all along, else the program stops when the pipe is full.
    pub stdout: ChildStdout,
    /// What it, and the supervisor, complain about. To be drained as well.
    pub stderr: ChildStderr,
    /// The hold on its supervisor.
    pub supervision: Supervision,
}

/// The hold on a supervisor: dropped, it ends the lifeline, and everything below the supervisor is killed.
#[derive(Debug)]
pub struct Supervision {
    supervisor: Child,
    lifeline: PipeWriter,
    lock: PathBuf,
    report: PathBuf,
    set_aside: u64,
}

impl Launch {
    /// Starts the supervisor, which starts the program. Needs a tokio runtime around it.
    pub fn start(&self) -> Result<Running, LaunchError> {
        if !self.cwd.is_dir() {
            return Err(LaunchError::WorkingDirectory { cwd: self.cwd.clone() });
        }
        let failed = |source| LaunchError::Start {
            runner: self.runner.clone(),
            source,
        };
        let (reader, lifeline) = io::pipe().map_err(failed)?;
        let lock = std::path::absolute(&self.lock).map_err(failed)?;
        let report = std::path::absolute(&self.report).map_err(failed)?;
        // What an earlier supervisor left must not pass for this one's, not even when this one does not get that far.
        report::forget(&report).map_err(failed)?;
        let mut supervisor = Command::new(&self.runner)
            .args(self.arguments(&lock, &report).map_err(failed)?)
            .current_dir(&self.cwd)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(reader))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (Some(stdout), Some(stderr)) = (supervisor.stdout.take(), supervisor.stderr.take()) else {
            return Err(failed(io::Error::other("no pipes to it")));
        };
        Ok(Running {
            stdout,
            stderr,
            supervision: Supervision {
                supervisor,
                lifeline,
                lock,
                report,
                set_aside: self.set_aside,
            },
        })
    }

    fn arguments(&self, lock: &Path, report: &Path) -> io::Result<Vec<OsString>> {
        let mut all: Vec<OsString> = vec![SUPERVISE.into(), "--lock".into(), lock.into(), "--report".into()];
        all.extend([report.into(), "--grace-ms".into()]);
        all.push(self.grace.as_millis().to_string().into());
        if self.set_aside > 0 {
            all.extend(["--set-aside".into(), self.set_aside.to_string().into()]);
        }
        if let Input::File(path) = &self.stdin {
            all.extend(["--stdin".into(), std::path::absolute(path)?.into()]);
        }
        all.extend(["--".into(), self.runner.clone().into(), SANDBOX.into()]);
        all.extend(["--failure".into(), report::failure_path(report).into()]);
        match &self.confinement {
            Some(confinement) => {
                all.extend(confinement.arguments());
                if self.require == Demand::Whole {
                    all.push("--require".into());
                }
            }
            None => all.push("--unconfined".into()),
        }
        all.extend(["--".into(), self.program.clone().into()]);
        all.extend(self.args.iter().cloned());
        Ok(all)
    }
}

impl Running {
    /// See [`Supervision::stop`].
    pub fn stop(&mut self) {
        self.supervision.stop();
    }

    /// Waits until every process of the program is dead, and discards what it still prints.
    pub async fn ended(self) -> Result<Ended, LaunchError> {
        let Self {
            mut stdout,
            mut stderr,
            mut supervision,
        } = self;
        let (mut nowhere, mut nowhere_else) = (tokio::io::sink(), tokio::io::sink());
        let drain = async {
            // Whether the pipes end well is of no interest: the supervisor says how it ended.
            let _ = tokio::join!(
                tokio::io::copy(&mut stdout, &mut nowhere),
                tokio::io::copy(&mut stderr, &mut nowhere_else)
            );
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = supervision.ended() => ended,
            () = drain => supervision.ended().await,
        }
    }
}

impl Supervision {
    /// Asks for an orderly end: TERM to the program's group, the grace, then KILL to all that is left. Returns at once.
    pub fn stop(&mut self) {
        // A supervisor that has ended is what was wanted.
        let _ = self.lifeline.write_all(STOP);
    }

    /// Asks for an end at once: KILL to all of it, without a grace. Returns at once.
    pub fn kill(&mut self) {
        let _ = self.lifeline.write_all(KILL);
    }

    /// Tells the program's first process by SIGINT, and nobody else: what it makes of that is its own affair. Returns at once.
    pub fn interrupt(&mut self) {
        let _ = self.lifeline.write_all(INTERRUPT);
    }

    /// Waits until every process of the program is dead. Somebody has to drain the pipes meanwhile. May be dropped
    /// half way and called again.
    pub async fn ended(&mut self) -> Result<Ended, LaunchError> {
        let status = self.supervisor.wait().await;
        let lost = |status: String| LaunchError::SupervisorLost { status };
        let status = status.map_err(|error| lost(error.to_string()))?;
        if status.code() == Some(i32::from(LOCK_HELD)) {
            return Err(LaunchError::LockHeld {
                lock: self.lock.clone(),
            });
        }
        if status.code() == Some(i32::from(NO_ROOM)) {
            return Err(LaunchError::NoRoom {
                lock: self.lock.clone(),
                bytes: self.set_aside,
            });
        }
        if !status.success() {
            return Err(lost(status.to_string()));
        }
        read_report(&self.report)?.ok_or_else(|| lost("no report".to_owned()))
    }

    /// The supervisor's process number, while it lives.
    pub fn id(&self) -> Option<u32> {
        self.supervisor.id()
    }
}
