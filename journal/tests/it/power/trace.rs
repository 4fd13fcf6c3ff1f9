//! What a process did to a directory, and what it said, in one order: from `strace`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runner_journal::Head;

/// One thing that happened. Paths are those of the moment.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Create(PathBuf),
    Write {
        path: PathBuf,
        at: usize,
        bytes: Vec<u8>,
    },
    Append {
        path: PathBuf,
        bytes: Vec<u8>,
    },
    Resize {
        path: PathBuf,
        length: usize,
    },
    /// Of a file's bytes, or of a directory's names.
    Sync(PathBuf),
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink(PathBuf),
    MakeDirectory(PathBuf),
    /// The process said that everything up to here is there for good.
    Acknowledge(Head),
}

/// Every call that changes a file or a name. One that [`event`] does not know fails the test: a model that overlooks
/// a write proves nothing.
const CALLS: &str = "trace=openat,open,creat,write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,fallocate,fsync,\
                     fdatasync,sync_file_range,syncfs,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,\
                     link,linkat,symlink,symlinkat,sendfile,copy_file_range";

/// Runs a test of this binary as a process of its own and records what it does below `root`.
pub(crate) fn record(child: &str, variables: &[(&str, &str)], root: &Path, out: &Path) -> Vec<Event> {
    let status = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-y",
            "-xx",
            "-s",
            "1000000",
            "-e",
            CALLS,
            "-e",
            "signal=none",
        ])
        .arg("-o")
        .arg(out)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", child, "--ignored", "--nocapture", "--test-threads=1"])
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap_or_else(|error| panic!("strace cannot be started ({error}): install it, `apt-get install strace`"));
    let events = parse(&fs::read_to_string(out).unwrap(), root);
    assert!(
        events.iter().any(|event| matches!(event, Event::Acknowledge(_))),
        "{child} acknowledged nothing:\n{}",
        String::from_utf8_lossy(&status.stderr)
    );
    events
}

fn parse(trace: &str, root: &Path) -> Vec<Event> {
    let mut begun: BTreeMap<&str, String> = BTreeMap::new();
    let mut events = Vec::new();
    for line in trace.lines() {
        let (pid, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        let whole = if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(pid, start.to_owned());
            continue;
        } else if let Some(rest) = call.strip_prefix("<... ") {
            let rest = rest.split_once(" resumed>").unwrap().1;
            format!("{}{rest}", begun.remove(pid).unwrap())
        } else {
            call.to_owned()
        };
        events.extend(event(&whole, root));
    }
    events
}

/// A call's effect below `root`; none where it failed or is about something else.
fn event(call: &str, root: &Path) -> Option<Event> {
    let (name, rest) = call.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let result = result.split(['<', ' ']).next()?;
    if result.starts_with('-') || result == "?" {
        return None;
    }
    let arguments = arguments.trim_end().strip_suffix(')').unwrap_or(arguments);
    let texts = texts(arguments);
    let ours = |index: usize| {
        texts
            .get(index)
            .map(|bytes| path(bytes))
            .filter(|path| path.starts_with(root))
    };
    let numbers: Vec<&str> = arguments.split(", ").collect();
    let last = || numbers.last().and_then(|number| number.parse::<usize>().ok());
    match name {
        // The first text is the directory that AT_FDCWD stands for.
        "openat" if arguments.contains("O_TRUNC") && ours(1).is_some() => panic!("not modelled: {call}"),
        "openat" if arguments.contains("O_CREAT") => ours(1).map(Event::Create),
        "openat" => None,
        "write" if arguments.starts_with("1<") => said(&texts[1]).map(Event::Acknowledge),
        "write" => {
            let path = ours(0)?;
            // The position of a descriptor is not modelled: only the lock's holder is written like this, at the start.
            assert!(
                path.extension().is_some_and(|end| end == "lock"),
                "not modelled: {call}"
            );
            let bytes = texts[1].clone();
            Some(Event::Append { path, bytes })
        }
        "pwrite64" => {
            let bytes = texts[1].clone();
            assert_eq!(result.parse(), Ok(bytes.len()), "a short write: {name}");
            Some(Event::Write {
                path: ours(0)?,
                at: last()?,
                bytes,
            })
        }
        "ftruncate" => Some(Event::Resize {
            path: ours(0)?,
            length: last()?,
        }),
        "fsync" | "fdatasync" => ours(0).map(Event::Sync),
        "rename" => Some(Event::Rename {
            from: ours(0)?,
            to: ours(1)?,
        }),
        "unlink" => ours(0).map(Event::Unlink),
        "mkdir" => ours(0).map(Event::MakeDirectory),
        _ if (0..texts.len()).any(|index| ours(index).is_some()) => panic!("not modelled: {call}"),
        _ => None,
    }
}

/// What stands between quotes, and between `<` and `>` after a descriptor: all of it in hexadecimal (`-xx`).
fn texts(arguments: &str) -> Vec<Vec<u8>> {
    arguments
        .split(['"', '<', '>'])
        .filter(|piece| piece.starts_with("\\x"))
        .map(|piece| {
            piece
                .split("\\x")
                .skip(1)
                .map(|hex| u8::from_str_radix(hex, 16).unwrap())
                .collect()
        })
        .collect()
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

/// The head in a line that a child says.
pub(crate) fn said(line: &[u8]) -> Option<Head> {
    let line = str::from_utf8(line).ok()?;
    let mut words = line.split_once("head ")?.1.split_whitespace();
    Some(Head {
        seq: words.next()?.parse().ok()?,
        hash: words.next()?.parse().ok()?,
    })
}
