//! What a run leaves, says, sends and shows, as one list of traces, and the search for secrets in them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runner::redact::{Kind, Redactor};
use runner::secret::Secret;

use crate::harness::{Serving, everything_below};

/// A secret that is looked for, in every form that the runner's own redaction knows.
pub(crate) struct Canary {
    name: &'static str,
    forms: Redactor,
}

impl Canary {
    pub(crate) fn new(name: &'static str, text: &'static str) -> Self {
        let forms = Redactor::new();
        forms.add(&Secret::new(text));
        Self { name, forms }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        let found = self.forms.find(bytes);
        found.iter().any(|finding| finding.kind == Kind::Exact)
    }
}

/// Something of a run, and where it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Trace {
    pub(crate) place: String,
    bytes: Vec<u8>,
}

impl Trace {
    pub(crate) fn new(place: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            place: place.into(),
            bytes: bytes.into(),
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, String::from_utf8_lossy(&self.bytes))
    }
}

/// The secrets that are in the traces or in the names of their places, each with its place.
pub(crate) fn found_in(traces: &[Trace], canaries: &[Canary]) -> BTreeSet<(&'static str, String)> {
    let mut found = BTreeSet::new();
    for canary in canaries {
        let with_it = traces
            .iter()
            .filter(|trace| canary.is_in(&trace.bytes) || canary.is_in(trace.place.as_bytes()));
        found.extend(with_it.map(|trace| (canary.name, trace.place.clone())));
    }
    found
}

/// Every file below a directory, by its path from there.
pub(crate) fn files(dir: &Path) -> Vec<Trace> {
    let everything = everything_below(dir).into_iter();
    everything
        .map(|(path, bytes)| Trace::new(path.strip_prefix(dir).unwrap().to_string_lossy(), bytes))
        .collect()
}

/// What is compressed in a repository: every object of it, reachable or not.
pub(crate) fn objects(repository: &Path) -> Trace {
    let output = Command::new("git")
        .arg("--git-dir")
        .arg(repository)
        .args(["cat-file", "--batch", "--batch-all-objects", "--unordered"])
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !output.stdout.is_empty(), "{said}");
    Trace::new(format!("objects of {}", repository.display()), output.stdout)
}

/// What was seen of a runner and everything below it.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) pushing: bool,
    /// Argument lists and environments, by program.
    pub(crate) processes: Vec<Trace>,
}

/// Where the runner's own environment is, which the operator made.
pub(crate) const OPERATORS: &str = "environment of the runner itself";

pub(crate) struct Watching {
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Seen>,
}

impl Watching {
    pub(crate) async fn end(self) -> Seen {
        self.over.store(true, Ordering::SeqCst);
        tokio::task::spawn_blocking(move || self.thread.join().unwrap())
            .await
            .unwrap()
    }
}

/// Looks at the arguments and the environments of the runner and of everything that it starts, again and again.
pub(crate) fn watch_processes(serving: &Serving) -> Watching {
    let over = Arc::new(AtomicBool::new(false));
    let (until, root) = (Arc::clone(&over), serving.pid());
    let thread = std::thread::spawn(move || {
        let read = |pid: u32, name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let mut processes = BTreeSet::new();
        while !until.load(Ordering::SeqCst) {
            // None in the middle of its exec, and none when it has ended.
            let runner = read(root, "cmdline");
            let alive = if runner.is_empty() { Vec::new() } else { below(root) };
            for pid in alive {
                let (arguments, environment) = (read(pid, "cmdline"), read(pid, "environ"));
                if arguments != read(pid, "cmdline") {
                    // In its exec: one half is what it was before, the other what it is now. The next look has it.
                    continue;
                }
                let place = if arguments == runner {
                    OPERATORS.to_owned()
                } else {
                    format!("environment of {}", program(&arguments))
                };
                processes.insert(Trace::new(place, environment));
                processes.insert(Trace::new(format!("arguments of {}", program(&arguments)), arguments));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let push = |trace: &Trace| trace.place == "arguments of git" && has_word(&trace.bytes, b"push");
        Seen {
            pushing: processes.iter().any(push),
            processes: processes.into_iter().collect(),
        }
    });
    Watching { over, thread }
}

/// The name of the program in an argument list.
fn program(arguments: &[u8]) -> String {
    let first = arguments.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = first.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

fn has_word(arguments: &[u8], word: &[u8]) -> bool {
    arguments.split(|byte| *byte == 0).any(|one| one == word)
}

/// A process and its descendants.
fn below(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        let tasks = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        next += 1;
    }
    all
}
