//! `runner init`: starts one command, passes signals on to it, reaps what is orphaned, and starts the command again when a
//! signal killed it.
//!
//! ```text
//! runner init, with the environment ──exec──► runner init, without ──► the command, with the environment
//!            └────────────── memfd ─────────────────┘
//! ```
//!
//! As a container's first process it is there for as long as the container is, so what is in its `environ` could be read
//! all that time, by root even of a process that is not dumpable. Hence the exec: what `environ` shows is what the kernel
//! was given, and nothing that is done later takes it away.

mod environment;
mod leftovers;
mod patience;
mod signals;

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use thiserror::Error;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::{HardenError, descendants, harden_self};
use patience::{Next, Patience};
use signals::{Heard, Signals};

/// Why init ended without an exit code of the command's.
#[derive(Debug, Error)]
pub enum InitError {
    /// The command cannot be started.
    #[error("start {program}: {source}")]
    Start {
        /// Its name, as it was given.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// Init cannot protect itself.
    #[error(transparent)]
    Harden(#[from] HardenError),
    /// The system refused something that init cannot do without.
    #[error("{what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn failed<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> InitError {
    move |source| InitError::System {
        what,
        source: source.into(),
    }
}

/// The first life: becomes this program again, with no environment. The new life's arguments are those that `arguments`
/// makes of the descriptor which has the environment. Comes back only if that failed.
pub(crate) fn move_out(arguments: impl FnOnce(RawFd) -> Vec<OsString>) -> Result<Infallible, InitError> {
    harden_self()?;
    // A stop that comes before there are handlers would kill this process, and is dropped by the kernel where it is PID 1.
    // Blocked, it waits, also over the exec.
    signals::block().map_err(failed("block signals"))?;
    let environment =
        environment::hand_over(std::env::vars_os()).map_err(failed("put the environment into a memfd"))?;
    let program = std::env::current_exe().map_err(failed("find this program in /proc"))?;
    let error = std::process::Command::new(program)
        .arg0("runner")
        .args(arguments(environment.as_raw_fd()))
        .env_clear()
        .exec();
    Err(failed("start this program anew without an environment")(error))
}

/// What is started, with exactly which environment.
#[derive(Debug)]
pub(crate) struct Order {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Order {
    /// The second life: takes the environment over and closes its descriptor.
    pub(crate) fn take_over(
        program: OsString,
        arguments: Vec<OsString>,
        environment: RawFd,
    ) -> Result<Self, InitError> {
        let environment = environment::take_over(environment).map_err(failed("read the environment"))?;
        Ok(Self {
            program,
            arguments,
            environment,
        })
    }

    fn name(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }

    /// Its mask is ours, which is empty, and our handlers are gone with the exec.
    fn start(&self) -> Result<Child, InitError> {
        Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .spawn()
            .map_err(|source| InitError::Start {
                program: self.name(),
                source,
            })
    }
}

/// Starts it, and again for at most `max_boots` times in a row, until it has an exit code; gives that. 128 and the
/// signal's number where it was a signal for good.
pub(crate) fn run(order: &Order, max_boots: u32) -> Result<u8, InitError> {
    // One thread: nothing else may fork, wait or take a signal.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .map_err(failed("start the runtime"))?
        .block_on(lives(order, Patience::new(max_boots)))
}

async fn lives(order: &Order, mut patience: Patience) -> Result<u8, InitError> {
    let mut signals = Signals::watch().map_err(failed("watch signals"))?;
    prctl::set_child_subreaper(true).map_err(failed("become a subreaper"))?;
    loop {
        let began = Instant::now();
        let status = live(order, &mut signals).await?;
        let lived = began.elapsed();
        let Some(signal) = status.signal() else {
            let code = status.code().unwrap_or_default();
            tracing::info!(code, "the command ended by itself after {}", seconds(lived));
            return Ok(u8::try_from(code).unwrap_or(u8::MAX));
        };
        let killed = name_of(signal);
        let code = 128_u8.saturating_add(u8::try_from(signal).unwrap_or_default());
        tracing::warn!("the command was killed by {killed} after {}", seconds(lived));
        if signals.stop().await.is_none() {
            leftovers::end().await;
        }
        // One that was sent to the whole group has killed the command perhaps before it was read here.
        if let Some(stop) = signals.stop().await {
            tracing::info!("not starting it again: {stop} asked for an end");
            return Ok(code);
        }
        match patience.after(lived) {
            Next::StartAgain { nth } => tracing::warn!("starting it again: {nth} of {max}", max = patience.most()),
            Next::GiveUp { kills } => {
                tracing::error!(
                    "giving up: the command was killed by {killed} {kills} times in a row; look for what kills it (SIGKILL: \
                     mostly a memory limit), then start this container again on the same directories, or allow more \
                     with RUNNER_MAX_BOOTS"
                );
                return Ok(code);
            }
        }
    }
}

/// One start of the command, to its end.
async fn live(order: &Order, signals: &mut Signals) -> Result<ExitStatus, InitError> {
    let mut child = order.start()?;
    let ended = failed("wait for the command");
    // There is one until the status was taken.
    let Some(pid) = child.id().map(u32::cast_signed) else {
        return child.wait().await.map_err(ended);
    };
    tracing::info!(pid, command = order.name(), "started the command");
    loop {
        tokio::select! {
            heard = signals.next() => match heard {
                // Not reaped, as its status was not taken: the number is its own still.
                Heard::PassOn(signal) => drop(kill(Pid::from_raw(pid), signal)),
                Heard::ChildEnded => {
                    if let Err(error) = descendants::reap_adopted(pid) {
                        tracing::warn!("zombies stay: failed to list processes in /proc: {error}");
                    }
                }
            },
            status = child.wait() => return status.map_err(ended),
        }
    }
}

fn name_of(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string())
}

fn seconds(lived: Duration) -> String {
    format!("{:.1} s", lived.as_secs_f64())
}
