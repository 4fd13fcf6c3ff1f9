//! What the runner costs, as a table: `cargo bench --bench figures`. It prints and never fails on a figure.
//!
//! What is measured is the binary as it is released. The one that `cargo bench` makes has the tests' crash points, so
//! this builds another with `cargo build --release`, into the same target directory, where the dependencies are warm;
//! or it takes the one that `RUNNER_BENCH_BIN` names. docs/benchmarks.md says what each figure means.

mod machine;
mod process;
mod trace;
mod world;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use process::{Room, Serving, memory};
use trace::{Program, Traced};
use world::World;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const STARTS: usize = 50;
const RESTARTS: usize = 20;
const TASKS: usize = 10;
/// Leaves one change and is gone.
const TRIVIAL: &str = "cat > /dev/null; echo change >> change.txt";
/// Says that it runs, and does not end.
const ENDLESS: &str = "cat > /dev/null; echo run >> \"$HOME/runs\"; exec sleep 600";

fn main() -> Result<()> {
    let runner = binary()?;
    println!("{}", machine::described(&std::env::temp_dir()));
    println!("{}\n", described(&runner)?);
    let mut table = Table::default();
    starts(&runner, &mut table)?;
    restarts(&runner, &mut table)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    tasks(&runner, &runtime, &mut table)?;
    traced_task(&runner, &runtime, &mut table)?;
    table.print();
    Ok(())
}

/// The binary to measure.
fn binary() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("RUNNER_BENCH_BIN") {
        return Ok(std::path::absolute(named)?);
    }
    let bench = PathBuf::from(env!("CARGO_BIN_EXE_runner"));
    let target = bench
        .parent()
        .and_then(Path::parent)
        .ok_or("the binary has no target directory")?;
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--bin", "runner", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    if !built.success() {
        return Err(format!("cargo build --release: {built}").into());
    }
    Ok(target.join("release/runner"))
}

/// Its size, and whether a test could kill it at a named place: then it is not what is released.
fn described(runner: &Path) -> Result<String> {
    let room = Room::new(runner, TRIVIAL)?;
    let mut command = room.command();
    command.env("RUNNER_CRASH_AT", "before-boot");
    let mut child = command.stderr(Stdio::null()).spawn()?;
    // With crash points it is gone in a moment; without it would serve for ever.
    let begun = std::time::Instant::now();
    let mut gone = None;
    while gone.is_none() && begun.elapsed() < Duration::from_millis(500) {
        gone = child.try_wait()?;
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill()?;
    child.wait()?;
    let mib = std::fs::metadata(runner)?.len() / 1024 / 1024;
    Ok(match gone {
        Some(_) => format!("binary: {mib} MiB, WITH crash points: not the one that is released"),
        None => format!("binary: {mib} MiB, without crash points"),
    })
}

/// Starts on an empty state directory, and on one with a journal that has no task yet.
fn starts(runner: &Path, table: &mut Table) -> Result<()> {
    let (mut first, mut again, mut rss, mut pss) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let room = Room::new(runner, TRIVIAL)?;
        let mut serving = room.start()?;
        first.push(serving.healthy()?);
        let used = memory(serving.pid())?;
        rss.push(used.rss_kib);
        pss.extend(used.pss_kib);
        drop(serving);
        again.push(room.start()?.healthy()?);
    }
    let ms = Some(Aim::Millis(20.0));
    table.times("first start to 200 of /healthz", ms, &mut first);
    table.times("second start to 200 of /healthz", ms, &mut again);
    table.kib("idle memory, VmRSS", Some(15), &mut rss);
    table.kib("idle memory, PSS", Some(15), &mut pss);
    Ok(())
}

/// The runner killed while the agent runs, and started again: each time it finds one start more in its journal.
fn restarts(runner: &Path, table: &mut Table) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let world = runtime.block_on(World::start())?;
    let mut room = Room::new(runner, ENDLESS)?;
    room.set("RUNNER_GITHUB_API_URL", world.forge());
    room.set("RUNNER_AGENT_ATTEMPTS", "100");
    room.set("RUNNER_MAX_BOOTS", "1000");
    let mut times = Vec::new();
    for run in 0..=RESTARTS {
        let mut serving = room.start()?;
        let healthy = serving.healthy()?;
        if run == 0 {
            serving.assign(&world.assignment())?;
        } else {
            times.push(healthy);
        }
        room.wait_for_run(run + 1)?;
        // Dropping it is SIGKILL.
    }
    table.times(
        "start after SIGKILL in mid-task to 200 of /healthz",
        Some(Aim::Millis(50.0)),
        &mut times,
    );
    Ok(())
}

/// Whole tasks, from the answer to `POST /task` to the end of the process.
fn tasks(runner: &Path, runtime: &tokio::runtime::Runtime, table: &mut Table) -> Result<()> {
    let mut whole = Vec::new();
    let mut steps: Vec<(String, Vec<Duration>)> = Vec::new();
    for _ in 0..TASKS {
        let world = runtime.block_on(World::start())?;
        let room = world.room(runner, TRIVIAL)?;
        let mut serving = room.start()?;
        serving.healthy()?;
        whole.push(run_task(&mut serving, &world)?);
        for (effect, took) in room.effects()? {
            match steps.iter_mut().find(|(name, _)| *name == effect) {
                Some((_, all)) => all.push(took),
                None => steps.push((effect, vec![took])),
            }
        }
    }
    table.times(
        "whole task, trivial agent, all servers on this machine",
        None,
        &mut whole,
    );
    for (effect, mut took) in steps {
        table.times(&format!("  of it: {effect}"), None, &mut took);
    }
    Ok(())
}

fn run_task(serving: &mut Serving, world: &World) -> Result<Duration> {
    serving.assign(&world.assignment())?;
    let begun = std::time::Instant::now();
    serving.ends_with(0)?;
    Ok(begun.elapsed())
}

/// One task under strace: what is synced, and for how long a git process is alive.
fn traced_task(runner: &Path, runtime: &tokio::runtime::Runtime, table: &mut Table) -> Result<()> {
    let Ok(strace) = which::which("strace") else {
        table.say(
            "journal syncs, assignment to the end",
            Some("at most 22"),
            "strace is not installed: not counted",
        );
        return Ok(());
    };
    let world = runtime.block_on(World::start())?;
    let room = world.room(runner, TRIVIAL)?;
    let mut serving = room.start_under(&strace)?;
    serving.healthy()?;
    let assigned = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
    run_task(&mut serving, &world)?;
    let traced = trace::read(&room.trace(), room.directory(), assigned)?;
    let Traced {
        opening,
        boot,
        task,
        git,
    } = traced;
    table.say(
        "journal syncs, making and opening it",
        None,
        &opening.journal.to_string(),
    );
    table.say("journal syncs, writing the start down", None, &boot.journal.to_string());
    table.rows.push([
        "journal syncs, assignment to the end".to_owned(),
        "at most 22".to_owned(),
        task.journal.to_string(),
        verdict(task.journal <= 22).to_owned(),
    ]);
    let others: usize = task.others.values().sum();
    table.say("other syncs, assignment to the end", None, &others.to_string());
    for ((program, place), count) in &task.others {
        let whose = match program {
            Program::Runner => "runner",
            Program::Git => "git",
            Program::Other => "supervisor, sandbox",
        };
        table.say(&format!("  of it: {whose} in {place}"), None, &count.to_string());
    }
    let share = 100 * git.alive.as_micros() / git.whole.as_micros().max(1);
    table.say(
        "a git process is alive, of a whole task (traced)",
        None,
        &format!(
            "{:.0} of {:.0} ms: {share} %, {} processes",
            millis(git.alive),
            millis(git.whole),
            git.processes
        ),
    );
    Ok(())
}

/// What a median is held against.
#[derive(Debug, Clone, Copy)]
enum Aim {
    Millis(f64),
}

/// What, aim, measured, met or missed.
#[derive(Default)]
struct Table {
    rows: Vec<[String; 4]>,
}

impl Table {
    fn times(&mut self, what: &str, aim: Option<Aim>, times: &mut [Duration]) {
        times.sort();
        let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).max(1) - 1).copied();
        let (Some(median), Some(p99)) = (at(50), at(99)) else {
            return self.say(what, None, "not measured");
        };
        let measured = format!("{:.1} ms, p99 {:.1} ms ({})", millis(median), millis(p99), times.len());
        let (aim, met) = match aim {
            Some(Aim::Millis(aim)) => (format!("{aim} ms"), verdict(millis(median) <= aim)),
            None => (String::new(), ""),
        };
        self.rows.push([what.to_owned(), aim, measured, met.to_owned()]);
    }

    fn kib(&mut self, what: &str, aim_mib: Option<u64>, values: &mut [u64]) {
        values.sort_unstable();
        let Some(median) = values.get(values.len() / 2).copied() else {
            return self.say(what, None, "not readable for this user");
        };
        let aim = aim_mib.map_or(String::new(), |aim| format!("{aim} MiB"));
        let met = aim_mib.map_or("", |aim| verdict(median <= aim * 1024));
        let measured = format!("{}.{} MiB", median / 1024, median % 1024 * 10 / 1024);
        self.rows.push([what.to_owned(), aim, measured, met.to_owned()]);
    }

    fn say(&mut self, what: &str, aim: Option<&str>, measured: &str) {
        self.rows.push([
            what.to_owned(),
            aim.unwrap_or_default().to_owned(),
            measured.to_owned(),
            String::new(),
        ]);
    }

    fn print(&self) {
        let head = ["what", "aim", "measured (median)", ""].map(str::to_owned);
        let rows = || std::iter::once(&head).chain(&self.rows);
        let width = |column: usize| rows().map(|row| row[column].len()).max().unwrap_or(0);
        let (what, aim, measured) = (width(0), width(1), width(2));
        for row in rows() {
            println!("{:what$}  {:aim$}  {:measured$}  {}", row[0], row[1], row[2], row[3]);
        }
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
