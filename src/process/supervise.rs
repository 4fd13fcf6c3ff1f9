//! `runner __supervise`: the agent's parent outside the sandbox. It ends when every process of the agent has.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, BufRead};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::unistd::{Pid, setsid};
use thiserror::Error;

use super::descendants::{self, Left};
use super::lock;
use super::options::{Argument, Options, OptionsError};
use super::report::{self, Ended, Exit, Stopped};
use super::reserve::Reserve;
use crate::disk;

/// What the runner writes to the lifeline to end the agent in order.
pub(super) const STOP: &[u8] = b"stop\n";
/// And to end it without a grace.
pub(super) const KILL: &[u8] = b"kill\n";
/// And to have its first process alone told by SIGINT, whatever that makes of it.
pub(super) const INTERRUPT: &[u8] = b"interrupt\n";
/// The exit code when another supervisor holds the lock.
pub(super) const LOCK_HELD: u8 = 3;
const USAGE: u8 = 2;
const NOT_STARTED: u8 = 4;
const NOT_REPORTED: u8 = 5;
/// The exit code when there is too little room on the disk.
pub(super) const NO_ROOM: u8 = 6;

/// How often adopted processes that have ended are reaped while the agent runs.
const REAP_EVERY: Duration = Duration::from_secs(2);
/// How often the descendants are looked at while they are ended.
const SWEEP_EVERY: Duration = Duration::from_millis(10);

#[derive(Debug, Error)]
enum SuperviseError {
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error("{lock} is held: an agent of this runner still lives")]
    LockHeld { lock: PathBuf },
    #[error("no room for {bytes} bytes beside {lock}: {source}")]
    NoRoom {
        lock: PathBuf,
        bytes: u64,
        source: io::Error,
    },
    #[error("failed to {what}: {source}")]
    Start { what: &'static str, source: io::Error },
    #[error("failed to write the report {path}: {source}")]
    Report { path: PathBuf, source: io::Error },
}

impl SuperviseError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Options(_) => USAGE,
            Self::LockHeld { .. } => LOCK_HELD,
            Self::NoRoom { .. } => NO_ROOM,
            Self::Start { .. } => NOT_STARTED,
            Self::Report { .. } => NOT_REPORTED,
        }
    }
}

pub(super) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("runner supervisor: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

struct Orders {
    lock: PathBuf,
    report: PathBuf,
    grace: Duration,
    set_aside: u64,
    stdin: Option<PathBuf>,
    program: OsString,
    arguments: Vec<OsString>,
}

impl Orders {
    fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, OptionsError> {
        let mut options = Options::new(arguments);
        let (mut lock, mut report, mut grace, mut set_aside, mut stdin) = (None, None, None, None, None);
        loop {
            match options.next()? {
                Argument::Option(name) => match name.as_str() {
                    "--lock" => lock = Some(options.value(&name)?),
                    "--report" => report = Some(options.value(&name)?),
                    "--grace-ms" => grace = Some(options.value(&name)?),
                    "--set-aside" => set_aside = Some(options.value(&name)?),
                    "--stdin" => stdin = Some(options.value(&name)?),
                    _ => return Err(OptionsError::Unknown(name.into())),
                },
                Argument::Program(program, arguments) => {
                    let number = |name, value: OsString| -> Result<u64, OptionsError> {
                        let number = value.to_str().and_then(|text| text.parse().ok());
                        number.ok_or(OptionsError::NotANumber(name))
                    };
                    let grace = grace.ok_or(OptionsError::Missing("--grace-ms"))?;
                    let set_aside = set_aside.map(|bytes| number("--set-aside", bytes));
                    return Ok(Self {
                        lock: lock.ok_or(OptionsError::Missing("--lock"))?.into(),
                        report: report.ok_or(OptionsError::Missing("--report"))?.into(),
                        grace: Duration::from_millis(number("--grace-ms", grace)?),
                        set_aside: set_aside.transpose()?.unwrap_or(0),
                        stdin: stdin.map(Into::into),
                        program,
                        arguments,
                    });
                }
                Argument::End => return Err(OptionsError::NoProgram),
            }
        }
    }
}

enum Event {
    /// The agent's first process has ended.
    Ended(io::Result<ExitStatus>),
    /// The runner, or a signal, wants it to end.
    Stop,
    /// The runner wants it to end at once.
    Kill,
    /// The runner wants its first process to be told.
    Interrupt,
    /// The runner is gone.
    LifelineEnded,
}

fn run(arguments: impl Iterator<Item = OsString>) -> Result<(), SuperviseError> {
    let failed = |what| move |source: io::Error| SuperviseError::Start { what, source };
    super::harden_self().map_err(|error| failed("make itself unreadable")(io::Error::other(error)))?;
    let orders = Orders::parse(arguments)?;
    close_inherited_descriptors();
    prctl::set_child_subreaper(true).map_err(|error| failed("become a subreaper")(error.into()))?;
    // A session of its own: nothing of the agent can join a process group of the runner's, and a terminal's signals
    // reach the runner alone. It fails only where it leads a group already, and then nobody else is in it.
    let _ = setsid();
    // Before any thread is started, so that all have them blocked; `__sandbox` takes the mask off again.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals
        .thread_block()
        .map_err(|error| failed("block signals")(error.into()))?;

    let held = lock::try_take(&orders.lock).map_err(failed("take the agent's lock"))?;
    let mut held = held.ok_or_else(|| SuperviseError::LockHeld {
        lock: orders.lock.clone(),
    })?;
    held.mark()
        .map_err(failed("write down the mark of the agent's processes"))?;
    report::forget(&orders.report).map_err(failed("remove an earlier report"))?;
    let reserve = set_aside(&orders)?;
    // Without it nothing that the agent leaves behind could be found.
    descendants::living().map_err(failed("list processes in /proc"))?;

    let child = start(&orders).map_err(failed("start the sandbox command"))?;
    let started = Instant::now();
    let pid = child.id().cast_signed();
    let (sender, events) = mpsc::channel();
    listen(child, signals, &sender);
    let ended = watch(pid, started, &events, orders.grace)?;
    drop(reserve);
    // Where it fails, the next start looks for processes that are not there.
    let _ = held.unmark();
    report::write(&orders.report, &ended).map_err(|source| SuperviseError::Report {
        path: orders.report,
        source,
    })
}

/// Room for what is written at the end.
fn set_aside(orders: &Orders) -> Result<Option<Reserve>, SuperviseError> {
    let Orders {
        lock, set_aside: bytes, ..
    } = orders;
    if *bytes == 0 {
        return Ok(None);
    }
    Reserve::set_aside(lock, *bytes).map(Some).map_err(|source| {
        if disk::is_full(&source) {
            SuperviseError::NoRoom {
                lock: lock.clone(),
                bytes: *bytes,
                source,
            }
        } else {
            SuperviseError::Start {
                what: "set room aside",
                source,
            }
        }
    })
}

/// What is above standard error now was leaked by whoever started the runner (a shell, an editor's terminal): the runner
/// opens everything with close-on-exec. `__sandbox` refuses to hand such a thing on, so here it ends.
fn close_inherited_descriptors() {
    for descriptor in crate::sandbox::descriptors::inheritable() {
        // An error means that it is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

fn start(orders: &Orders) -> io::Result<Child> {
    let stdin = match &orders.stdin {
        Some(path) => Stdio::from(
            OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NOFOLLOW)
                .open(path)?,
        ),
        None => Stdio::null(),
    };
    Command::new(&orders.program)
        .args(&orders.arguments)
        .stdin(stdin)
        .process_group(0)
        .spawn()
}

/// One thread a source, each ending with the process.
fn listen(mut child: Child, signals: SigSet, sender: &Sender<Event>) {
    let events = sender.clone();
    thread::spawn(move || {
        let _ = events.send(Event::Ended(child.wait()));
    });
    let events = sender.clone();
    thread::spawn(move || {
        while signals.wait().is_ok() {
            let _ = events.send(Event::Stop);
        }
    });
    let events = sender.clone();
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            match line {
                Ok(line) if line == "stop" => {
                    let _ = events.send(Event::Stop);
                }
                Ok(line) if line == "kill" => {
                    let _ = events.send(Event::Kill);
                }
                Ok(line) if line == "interrupt" => {
                    let _ = events.send(Event::Interrupt);
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        let _ = events.send(Event::LifelineEnded);
    });
}

/// How long what is left may still live.
struct Mercy {
    stopped: Stopped,
    /// From then on it is KILL. `None` while nobody wants an end.
    until: Option<Instant>,
}

impl Mercy {
    fn note(&mut self, event: &Event, grace: Duration) {
        match event {
            Event::Ended(_) | Event::Interrupt => {}
            Event::Stop | Event::Kill => {
                if self.stopped == Stopped::No {
                    self.stopped = Stopped::Asked;
                }
                let grace = if matches!(event, Event::Kill) {
                    Duration::ZERO
                } else {
                    grace
                };
                let until = Instant::now() + grace;
                self.until = Some(self.until.map_or(until, |earlier| earlier.min(until)));
            }
            Event::LifelineEnded => {
                self.stopped = Stopped::Abandoned;
                self.until = Some(Instant::now());
            }
        }
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// From the start of the agent's first process to the end of its last.
fn watch(pid: i32, started: Instant, events: &Receiver<Event>, grace: Duration) -> Result<Ended, SuperviseError> {
    let mut mercy = Mercy {
        stopped: Stopped::No,
        until: None,
    };
    let mut killed = false;
    let status = loop {
        if mercy.is_over() && !killed {
            // Its first process alone: what is left is swept up below, where it is counted.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            killed = true;
        }
        let left = match mercy.until {
            Some(until) if !killed => until.saturating_duration_since(Instant::now()).min(REAP_EVERY),
            Some(_) | None => REAP_EVERY,
        };
        match events.recv_timeout(left) {
            Ok(Event::Ended(status)) => break status,
            Ok(Event::Interrupt) => {
                // It is our child and not waited for yet, so the number is its own. What is below it, it tells itself.
                let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
            }
            Ok(event @ (Event::Stop | Event::Kill | Event::LifelineEnded)) => {
                let first = mercy.until.is_none();
                mercy.note(&event, grace);
                if first && !mercy.is_over() {
                    let group = Pid::from_raw(pid);
                    let _ = killpg(group, Signal::SIGTERM);
                    let _ = killpg(group, Signal::SIGCONT);
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                let _ = descendants::reap_adopted(pid);
            }
            // The waiting thread sends before it ends, so this is not reached while it lives.
            Err(RecvTimeoutError::Disconnected) => {
                break Err(io::Error::other("nobody waits for the agent any more"));
            }
        }
    };
    let ran = started.elapsed();
    let stopped_before = mercy.stopped;
    let stragglers = sweep(&mut mercy, events, grace);
    let status = status.map_err(|source| SuperviseError::Start {
        what: "wait for the agent",
        source,
    })?;
    let exit = match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    };
    Ok(Ended {
        exit,
        stragglers,
        ran,
        stopped: stopped_before,
        failure: None,
    })
}

/// Ends what outlived the first process: TERM to each once, KILL when its time is over, until no child is left.
fn sweep(mercy: &mut Mercy, events: &Receiver<Event>, grace: Duration) -> u32 {
    mercy.until.get_or_insert_with(|| Instant::now() + grace);
    let mut seen = HashSet::new();
    loop {
        if descendants::reap_all() == Left::None {
            return u32::try_from(seen.len()).unwrap_or(u32::MAX);
        }
        while let Ok(event) = events.try_recv() {
            mercy.note(&event, grace);
        }
        let over = mercy.is_over();
        // An error is passing (no descriptors, no memory): there is a child, so there is a next round.
        for process in descendants::living().unwrap_or_default() {
            let new = seen.insert((process.pid, process.started));
            if over {
                descendants::signal(&process, Signal::SIGKILL);
            } else if new {
                descendants::signal(&process, Signal::SIGTERM);
                descendants::signal(&process, Signal::SIGCONT);
            }
        }
        thread::sleep(SWEEP_EVERY);
    }
}
