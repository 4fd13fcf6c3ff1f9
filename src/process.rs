//! Starts the agent so that all of it can be ended: a supervisor outside the sandbox is its parent and its reaper.
//!
//! ```text
//! runner ──lifeline──► runner __supervise ──► runner __sandbox ──exec──► the agent ──► whatever it starts
//!        ◄──stdout, stderr of the agent─────────────────────────────────────┘
//! ```
//!
//! The supervisor holds `agent.lock` for as long as one process of the agent lives, and some room on its disk, which it gives back
//! for what is written then. It is a subreaper, so that what the
//! agent leaves behind (daemons, sessions of their own) becomes its child and is found. When the lifeline ends, the
//! runner is gone, and the supervisor kills everything. Where both are killed at once, the next start finds what is left by
//! the mark that all of it has, and kills it before it touches anything. Both hidden commands are a re-exec of this binary, because what
//! they do between fork and exec could not be done there safely.

mod descendants;
pub(crate) mod init;
mod launch;
mod lock;
mod mark;
pub(crate) mod options;
mod report;
mod reserve;
mod supervise;

use std::ffi::OsString;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use thiserror::Error;

pub use init::InitError;
pub use launch::{Input, Launch, LaunchError, Running, Supervision};
pub use lock::{AgentLock, wait_until_free};
pub use report::{Ended, Exit, ReportError, StartFailure, Stopped, read_report};

/// The name of the hidden command that stays outside the sandbox.
pub const SUPERVISE: &str = "__supervise";
/// The name of the hidden command that restricts itself and becomes the agent.
pub const SANDBOX: &str = "__sandbox";

/// Runs `__supervise` or `__sandbox` if that is what the process was started as. `main` calls it before anything else:
/// before arguments are parsed, threads are started or files are opened. `arguments` begins with the program's name.
pub fn hidden_command(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    let name = arguments.next()?;
    if name == SUPERVISE {
        Some(supervise::main(arguments))
    } else if name == SANDBOX {
        Some(crate::sandbox::enter::main(arguments))
    } else {
        None
    }
}

/// The process could not be made unreadable for others of its own user.
#[derive(Debug, Error)]
#[error("make this process unreadable for other processes of its user: {0}")]
pub struct HardenError(#[from] Errno);

/// Makes this process unreadable for others of its user (`/proc/PID/environ`, `mem`, ptrace) and without core dumps.
/// An exec undoes the first, so it is the first thing that a process of ours does.
pub fn harden_self() -> Result<(), HardenError> {
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}
