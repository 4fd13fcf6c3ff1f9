//! The runner under strace: what it did to its journal's files, and a start at which one of those calls fails.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use strum::{Display, EnumIter, IntoEnumIterator};

use crate::harness::{Bench, Serving};

/// Every call that changes a file or makes a name, or makes a change last. What is removed has been emptied before.
const CALLS: &str = "openat,write,pwrite64,fsync,fdatasync,ftruncate,mkdir,rename";

/// The files of a journal, by their names in the state directory; the directory itself is the empty name.
const FILES: [&str; 7] = [
    "",
    "journal.db",
    "journal.db-wal",
    "journal.db.lock",
    "journal.db.new",
    "journal.db.new-wal",
    "journal.db.new-journal",
];

/// What a disk says when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumIter)]
#[strum(serialize_all = "UPPERCASE")]
pub(super) enum Errno {
    /// The disk does not do it.
    Eio,
    /// It is full.
    Enospc,
    /// The file system was set read-only, as the kernel does after errors.
    Erofs,
}

impl Errno {
    pub(super) fn all() -> impl Iterator<Item = Self> + Clone {
        Self::iter()
    }
}

/// One call on one of the journal's files, the nth of its kind on that file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) call: String,
    pub(crate) file: &'static str,
    nth: usize,
}

impl Change {
    pub(crate) fn is_sync(&self) -> bool {
        matches!(self.call.as_str(), "fsync" | "fdatasync")
    }

    pub(super) fn is_first(&self, call: &str) -> bool {
        self.call == call && self.nth == 1
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = if self.file.is_empty() { "directory" } else { self.file };
        write!(f, "{file}:{}:{}", self.call, self.nth)
    }
}

/// A start that is traced, all of its journal's files.
pub(crate) fn watched(bench: &Bench) -> Serving {
    start(bench, &FILES, None)
}

/// A start at which this call fails, once.
pub(super) fn failing(bench: &Bench, change: &Change, errno: Errno) -> Serving {
    let fault = format!("inject={}:error={errno}:when={}", change.call, change.nth);
    start(bench, &[change.file], Some(fault))
}

/// strace counts the calls that it injects into by thread. One thread of the runner's writes its journal, which
/// [`changes`] makes sure of, and the paths leave all other calls alone.
fn start(bench: &Bench, files: &[&str], fault: Option<String>) -> Serving {
    let plain = bench.command();
    let strace = which::which("strace").expect("strace, from the package of that name");
    let root = nix::unistd::geteuid().is_root();
    let mut command = if root {
        Command::new(strace)
    } else {
        // The runner cannot be looked into by its own user's processes: whose descriptors are whose, only root sees.
        let mut sudo = Command::new("sudo");
        sudo.arg("-n").arg(strace);
        sudo.args([
            "-u",
            &nix::unistd::User::from_uid(nix::unistd::geteuid())
                .unwrap()
                .unwrap()
                .name,
        ]);
        sudo
    };
    command.args(["-f", "--seccomp-bpf", "-y", "-s", "0", "-e", "signal=none", "-e"]);
    command.arg(format!("trace={CALLS}")).arg("-o").arg(output(bench));
    for file in files {
        command
            .arg("-P")
            .arg(bench.path("state").join(file).components().collect::<PathBuf>());
    }
    if let Some(fault) = fault {
        command.arg("-e").arg(fault);
    }
    for (name, value) in plain.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        let mut pair = name.to_owned();
        pair.push("=");
        pair.push(value);
        command.arg("-E").arg(pair);
    }
    command.arg(plain.get_program()).args(plain.get_args());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Serving::spawn(command)
}

fn output(bench: &Bench) -> PathBuf {
    bench.path("strace")
}

/// What the last traced start did to the journal's files, in order.
pub(crate) fn changes(bench: &Bench) -> Vec<Change> {
    let text = std::fs::read_to_string(output(bench)).unwrap();
    let state = bench.path("state");
    let main = text.split(' ').next().unwrap();
    let mut counts = HashMap::new();
    let mut changes = Vec::new();
    for line in text.lines() {
        let Some((call, file)) = parsed(line, &state) else {
            continue;
        };
        let thread = line.split(' ').next().unwrap();
        if thread != main {
            assert_eq!(file, "", "the journal is written by two threads: {line}");
            continue;
        }
        let nth: &mut usize = counts.entry((call.to_owned(), file)).or_default();
        *nth += 1;
        if call == "openat" && !line.contains("O_CREAT") {
            continue;
        }
        changes.push(Change {
            call: call.to_owned(),
            file,
            nth: *nth,
        });
    }
    changes
}

/// The lines of a failing start from the injected call on, the first of them with that call.
pub(super) fn from_the_fault_on(bench: &Bench) -> Vec<String> {
    let text = std::fs::read_to_string(output(bench)).unwrap();
    text.lines()
        .skip_while(|line| !line.contains("(INJECTED)"))
        .map(str::to_owned)
        .collect()
}

/// The call and the file of a line that begins a call; the first file of the journal where it names several.
pub(super) fn parsed<'a>(line: &'a str, state: &Path) -> Option<(&'a str, &'static str)> {
    let (call, rest) = line.split_once(' ')?.1.trim_start().split_once('(')?;
    let named = rest.split_once(state.to_str().unwrap())?.1;
    let end = named.find(['>', '"'])?;
    let name = named[..end].trim_start_matches('/');
    let file = FILES.into_iter().find(|file| *file == name)?;
    CALLS.split(',').any(|one| one == call).then_some((call, file))
}
