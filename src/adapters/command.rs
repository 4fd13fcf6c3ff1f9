//! Runs a command of the operator's under a supervisor to its end, and keeps the end of what it printed.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::machine::CommandEnd;
use crate::process::{Ended, Exit, Launch, LaunchError, Running, Stopped};
use crate::redact::{Redactor, Scrub};

/// How long the pipes may stay open after the supervisor has ended. Only a lost supervisor leaves somebody who has them.
const DRAIN: Duration = Duration::from_secs(2);
const CHUNK: usize = 16 * 1024;

/// How a command came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandEnded {
    /// How.
    pub end: CommandEnd,
    /// How long it ran.
    pub ran: Duration,
    /// The last bytes of what it printed on both outputs, in the order in which they were read, without secrets.
    pub output: String,
}

/// Why it is stopped.
#[derive(Clone, Copy)]
enum Halt {
    Time,
    Told,
}

/// The end of what is printed.
struct Tail {
    scrub: Scrub,
    kept: Vec<u8>,
    limit: usize,
}

impl Tail {
    /// Before it is cut: half a secret is not known any more.
    fn take(&mut self, bytes: &[u8]) {
        self.kept.extend(self.scrub.feed(bytes));
        let surplus = self.kept.len().saturating_sub(self.limit);
        self.kept.drain(..surplus);
    }
}

/// Runs what `launch` names until it ends, `within` is over, or `stop` comes; then all of its processes are dead. Keeps
/// `limit` bytes of each output. Dropped half way, it kills them.
pub async fn run(
    launch: &Launch,
    within: Duration,
    stop: impl Future<Output = ()>,
    limit: usize,
    redactor: &Redactor,
) -> Result<CommandEnded, LaunchError> {
    let Running {
        mut stdout,
        mut stderr,
        mut supervision,
    } = launch.start()?;
    let tail = || Tail {
        scrub: redactor.stream(),
        kept: Vec::new(),
        limit,
    };
    // Where the command has both in one, as a shell's `exec 2>&1` does, the order is the command's own.
    let (mut said, mut complained) = (tail(), tail());
    let (mut out, mut err) = (vec![0; CHUNK], vec![0; CHUNK]);
    let (mut out_open, mut err_open) = (true, true);
    let mut halted = None;
    let mut stop = pin!(stop);
    let deadline = Instant::now() + within;
    let ended: Ended = loop {
        tokio::select! {
            read = stdout.read(&mut out), if out_open => {
                let read = read.unwrap_or(0);
                out_open = read > 0;
                said.take(&out[..read]);
            }
            read = stderr.read(&mut err), if err_open => {
                let read = read.unwrap_or(0);
                err_open = read > 0;
                complained.take(&err[..read]);
            }
            ended = supervision.ended() => break ended?,
            () = &mut stop, if halted.is_none() => {
                halted = Some(Halt::Told);
                supervision.stop();
            }
            () = sleep_until(deadline), if halted.is_none() => {
                halted = Some(Halt::Time);
                supervision.stop();
            }
        }
    };
    let until = Instant::now() + DRAIN;
    while out_open && let Ok(Ok(read @ 1..)) = timeout_at(until, stdout.read(&mut out)).await {
        said.take(&out[..read]);
    }
    while err_open && let Ok(Ok(read @ 1..)) = timeout_at(until, stderr.read(&mut err)).await {
        complained.take(&err[..read]);
    }
    let end = match (halted, &ended.failure, ended.exit) {
        // What had ended by itself when it was to be stopped has ended by itself.
        (_, None, Exit::Code(0)) => CommandEnd::Exit(0),
        (Some(Halt::Time), _, _) => CommandEnd::TimedOut,
        (Some(Halt::Told), _, _) => CommandEnd::Interrupted,
        // A terminal's Ctrl-C reaches the supervisor as well as the runner, and may reach it first.
        (None, None, _) if ended.stopped == Stopped::Asked => CommandEnd::Interrupted,
        (None, Some(failure), _) => {
            complained.take(failure.to_string().as_bytes());
            CommandEnd::NotStarted
        }
        (None, None, Exit::Code(code)) => CommandEnd::Exit(code),
        (None, None, Exit::Signal(signal)) => CommandEnd::Signal(signal),
    };
    let mut output = Vec::new();
    for tail in [&mut complained, &mut said] {
        let rest = std::mem::replace(&mut tail.scrub, redactor.stream()).finish();
        tail.kept.extend(rest);
        output.append(&mut tail.kept);
    }
    let surplus = output.len().saturating_sub(limit);
    Ok(CommandEnded {
        end,
        ran: ended.ran,
        output: String::from_utf8_lossy(&output[surplus..]).into_owned(),
    })
}
