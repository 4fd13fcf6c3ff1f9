//! What is compared, and how each is run.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::by_hand::{self, Rows};
use crate::child::{self, Result, STEPS, TELL};
use crate::ours::{self, Appends};
use crate::saga;
use crate::trace::{self, CALLS, Seen};

/// A system under its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// One row a step.
    ByHandOutcome,
    /// Two rows a step, a commit each: what the others are held against.
    ByHandIntent,
    /// The journal as the runner's driver uses it.
    OursPaired,
    /// The journal, each row of a step alone.
    OursSingle,
    /// steno over the journal's settings.
    Steno,
    /// durare as it ships.
    DurareShipped,
    /// durare with `synchronous=FULL`.
    DurareFull,
}

impl System {
    pub const ALL: [Self; 7] = [
        Self::ByHandOutcome,
        Self::ByHandIntent,
        Self::OursPaired,
        Self::OursSingle,
        Self::Steno,
        Self::DurareShipped,
        Self::DurareFull,
    ];

    /// Its name, for people and for its process.
    pub fn name(self) -> &'static str {
        match self {
            Self::ByHandOutcome => "rusqlite by hand, outcome",
            Self::ByHandIntent => "rusqlite by hand, intent and outcome",
            Self::OursPaired => "runner-journal, outcome with next intent",
            Self::OursSingle => "runner-journal, each alone",
            Self::Steno => "steno 0.5.0",
            Self::DurareShipped => "durare 0.5.0, as shipped (NORMAL)",
            Self::DurareFull => "durare 0.5.0, set to FULL",
        }
    }

    fn command(self, directory: &Path) -> Result<Vec<PathBuf>> {
        let settings = match self {
            Self::DurareShipped => "shipped",
            Self::DurareFull => "full",
            _ => {
                let this = std::env::current_exe()?;
                return Ok(vec![this, "child".into(), self.name().into(), directory.into()]);
            }
        };
        Ok(vec![
            durare_target().join("release/peers-durare"),
            settings.into(),
            directory.into(),
        ])
    }
}

fn durare() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("durare")
}

fn durare_target() -> PathBuf {
    durare().join("target")
}

/// The other crate, which links another SQLite.
pub fn build_durare() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(durare().join("Cargo.toml"))
        .arg("--target-dir")
        .arg(durare_target())
        .status()?;
    if built.success() {
        Ok(())
    } else {
        Err(format!("cargo build of durare: {built}").into())
    }
}

/// The process of a system that is in this program.
pub fn serve(name: &str, directory: &Path) -> Result<()> {
    let system = System::ALL.into_iter().find(|system| system.name() == name);
    match system.ok_or("no system of that name")? {
        System::ByHandOutcome => child::serve(|| by_hand::task(directory, Rows::Outcome)),
        System::ByHandIntent => child::serve(|| by_hand::task(directory, Rows::IntentAndOutcome)),
        System::OursPaired => child::serve(|| ours::task(directory, Appends::Paired)),
        System::OursSingle => child::serve(|| ours::task(directory, Appends::Single)),
        System::Steno => {
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            child::serve(|| saga::task(directory, &runtime))
        }
        System::DurareShipped | System::DurareFull => Err("durare is another program".into()),
    }
}

/// A system's process, and the directory that it has for itself.
struct Running {
    process: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    _directory: TempDir,
}

impl Running {
    fn start(mut command: Command, directory: TempDir) -> Result<Self> {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(ask), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("a process without its pipes".into());
        };
        Ok(Self {
            process,
            ask,
            answers: BufReader::new(answers),
            _directory: directory,
        })
    }

    fn task(&mut self) -> Result<Duration> {
        self.ask.write_all(b"task\n")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let nanos = answer
            .trim()
            .parse()
            .map_err(|_| "a system's process ended in the middle")?;
        Ok(Duration::from_nanos(nanos))
    }

    /// The end of its standard input is the end of its work.
    fn end(mut self) -> Result<()> {
        drop(self.ask);
        let status = self.process.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("a system's process: {status}").into())
        }
    }
}

fn directory(around: &Path) -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("peers-").tempdir_in(around)?)
}

/// What was timed in turn.
pub struct Times {
    /// Each system's tasks, in the order of [`System::ALL`]. The first of each is not counted.
    pub tasks: Vec<Vec<Duration>>,
    /// A page appended to a file and synced, once a round: what the disk asked of everybody meanwhile.
    pub syncs: Vec<Duration>,
}

/// All systems, task by task in turn.
pub fn times(tasks: u32, around: &Path) -> Result<Times> {
    let beside = directory(around)?;
    let mut file = fs::File::create(beside.path().join("page"))?;
    let mut syncs = Vec::new();
    let mut running = Vec::new();
    for system in System::ALL {
        let directory = directory(around)?;
        let words = system.command(directory.path())?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        running.push(Running::start(command, directory)?);
    }
    let mut times = vec![Vec::new(); running.len()];
    for round in 0..=tasks {
        file.write_all(&[1; 4096])?;
        let start = Instant::now();
        file.sync_all()?;
        syncs.push(start.elapsed());
        // Each begins a round in its turn: whoever comes after one that does not sync finds the disk rested.
        for turn in 0..running.len() {
            let which = (turn + round as usize) % running.len();
            let took = running[which].task()?;
            if round > 0 {
                times[which].push(took);
            }
        }
    }
    running.into_iter().try_for_each(Running::end)?;
    Ok(Times { tasks: times, syncs })
}

/// A system alone, under strace; none where there is no strace.
pub fn traced(system: System, tasks: u32, around: &Path) -> Result<Option<Seen>> {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        return Ok(None);
    }
    let (own, beside) = (directory(around)?, directory(around)?);
    let (inside, trace) = (own.path().to_owned(), beside.path().join("trace"));
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-y",
        "-qq",
        "--seccomp-bpf",
        "-e",
        CALLS,
        "-e",
        "signal=none",
        "-o",
    ]);
    command.arg(&trace).args(system.command(&inside)?);
    command.env(TELL, "1").stderr(Stdio::null());
    let mut running = Running::start(command, own)?;
    for _ in 0..=tasks {
        running.task()?;
    }
    running.end()?;
    let seen = trace::read(&String::from_utf8_lossy(&fs::read(&trace)?), &inside.to_string_lossy());
    let expected = (tasks as usize, (tasks * STEPS) as usize);
    if (seen.tasks, seen.acknowledged) != expected {
        return Err(format!(
            "{}: the trace has {seen:?}, and should have {expected:?}",
            system.name()
        )
        .into());
    }
    Ok(Some(seen))
}
