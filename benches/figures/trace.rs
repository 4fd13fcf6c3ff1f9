//! What strace saw of one task: whose syncs, of which files, and for how long a git process was alive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::Result;

/// What is traced: syncs, and what tells one program's processes from another's. `listen` parts opening from the task.
pub(crate) const CALLS: &str = "fsync,fdatasync,syncfs,sync,listen,execve,clone,clone3,fork,vfork";

/// Syncs by whose they are, and of what.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    /// By the runner's process, of the journal's files.
    pub(crate) journal: usize,
    /// All others: the program, and the place below the runner's directories.
    pub(crate) others: BTreeMap<(Program, String), usize>,
}

/// Whose a system call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Program {
    Runner,
    /// git, and what it starts.
    Git,
    /// The supervisor, the sandbox, the agent.
    Other,
}

#[derive(Debug, Default)]
pub(crate) struct Git {
    /// How long at least one git process was there.
    pub(crate) alive: Duration,
    /// From the assignment to the last process' end.
    pub(crate) whole: Duration,
    pub(crate) processes: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Traced {
    /// Until the listener is there: the journal is made.
    pub(crate) opening: Syncs,
    /// Until the assignment: the start is written down.
    pub(crate) boot: Syncs,
    /// From the assignment to the end of the process.
    pub(crate) task: Syncs,
    pub(crate) git: Git,
}

/// One line: who, when (seconds), what.
struct Line<'a> {
    thread: u32,
    at: f64,
    call: &'a str,
}

impl<'a> Line<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (thread, rest) = text.split_once(' ')?;
        let (at, call) = rest.trim_start().split_once(' ')?;
        Some(Self {
            thread: thread.parse().ok()?,
            at: at.parse().ok()?,
            call,
        })
    }

    /// The thread or process that this line says was made.
    fn made(&self) -> Option<u32> {
        let makes = ["clone(", "clone3(", "fork(", "vfork("];
        let resumed = ["<... clone", "<... fork", "<... vfork"];
        let about = makes.iter().chain(&resumed).any(|start| self.call.starts_with(start));
        let (_, result) = self.call.rsplit_once(" = ")?;
        about.then(|| result.split(' ').next()?.parse().ok()).flatten()
    }

    /// The program that this line says is executed from here on.
    fn executed(&self) -> Option<&'a str> {
        // A failed look along PATH is no start; a call that did not return is one, because it cannot.
        let rest = self
            .call
            .strip_prefix("execve(\"")
            .filter(|_| !self.call.contains(" = -1 "))?;
        rest.split('"').next()?.rsplit('/').next()
    }

    /// The file that this line begins to sync.
    fn synced(&self) -> Option<&'a str> {
        let (call, rest) = self.call.split_once('(')?;
        let sync = ["fsync", "fdatasync", "syncfs", "sync"].contains(&call);
        sync.then(|| {
            rest.split_once('<')
                .and_then(|(_, path)| path.split('>').next())
                .unwrap_or("")
        })
    }
}

/// Reads what strace wrote. `assigned` is when the task was sent, in seconds since 1970; `room` is around all directories.
pub(crate) fn read(trace: &Path, room: &Path, assigned: f64) -> Result<Traced> {
    let text = fs::read_to_string(trace)?;
    let lines: Vec<Line<'_>> = text.lines().filter_map(Line::of).collect();
    let made: BTreeMap<u32, (u32, f64)> = lines
        .iter()
        .filter_map(|line| Some((line.made()?, (line.thread, line.at))))
        .collect();
    let mut executed: BTreeMap<u32, Vec<(f64, &str)>> = BTreeMap::new();
    for line in &lines {
        if let Some(program) = line.executed() {
            executed.entry(line.thread).or_default().push((line.at, program));
        }
    }
    let listening = lines.iter().find(|line| line.call.starts_with("listen("));
    let listening = listening.ok_or("the runner did not listen")?.at;

    let mut traced = Traced::default();
    for line in &lines {
        let Some(file) = line.synced() else { continue };
        let syncs = match line.at {
            at if at < listening => &mut traced.opening,
            at if at < assigned => &mut traced.boot,
            _ => &mut traced.task,
        };
        let programs = programs(&made, &executed, line.thread, line.at);
        let program = match programs.as_slice() {
            all if all.iter().any(|name| name.starts_with("git")) => Program::Git,
            [_, _, ..] => Program::Other,
            [_] | [] => Program::Runner,
        };
        if program == Program::Runner && file.contains("/journal.db") {
            syncs.journal += 1;
        } else {
            *syncs.others.entry((program, place(Path::new(file), room))).or_default() += 1;
        }
    }

    let mut spans: Vec<(f64, f64)> = Vec::new();
    let mut processes = BTreeSet::new();
    let last = lines.last().map_or(assigned, |line| line.at);
    for (thread, programs) in &executed {
        for (at, program) in programs
            .iter()
            .filter(|(at, program)| *at > assigned && program.starts_with("git"))
        {
            let ended = |line: &&Line<'_>| line.thread == *thread && line.at > *at && line.call.starts_with("+++");
            spans.push((*at, lines.iter().find(ended).map_or(last, |line| line.at)));
            processes.insert((*thread, *program));
        }
    }
    traced.git = Git {
        alive: Duration::from_secs_f64(union(spans)),
        whole: Duration::from_secs_f64(last - assigned),
        processes: processes.len(),
    };
    Ok(traced)
}

/// The first two names below the runner's directories, without what is there only while a thing is made.
fn place(file: &Path, room: &Path) -> String {
    let below = file.strip_prefix(room).unwrap_or(file);
    let names = below.iter().take(2).map(|name| name.to_string_lossy());
    let names: Vec<_> = names
        .map(|name| name.split(".partial").next().unwrap_or_default().to_owned())
        .collect();
    names.join("/")
}

/// The programs that a thread has come through, the latest last; the runner alone is one.
fn programs<'a>(
    made: &BTreeMap<u32, (u32, f64)>,
    executed: &BTreeMap<u32, Vec<(f64, &'a str)>>,
    thread: u32,
    at: f64,
) -> Vec<&'a str> {
    let mut all = match made.get(&thread) {
        Some((parent, made_at)) if *parent != thread => programs(made, executed, *parent, made_at.min(at)),
        Some(_) | None => Vec::new(),
    };
    let own = executed.get(&thread).into_iter().flatten();
    all.extend(own.filter(|(when, _)| *when <= at).map(|(_, program)| *program));
    all
}

/// How long at least one of these spans lasts.
fn union(mut spans: Vec<(f64, f64)>) -> f64 {
    spans.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut sum, mut until) = (0.0, f64::MIN);
    for (from, to) in spans {
        sum += (to - from.max(until)).max(0.0);
        until = until.max(to);
    }
    sum
}
