//! Each write, each sync and each change of a name fails in turn: nothing acknowledged is lost, nothing more is
//! acknowledged, and the next start is whole.
//!
//! `strace` makes the calls of a process of its own fail; a limit of the shell's cuts writes short. With `PROOF=whole`,
//! every place fails in every way.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;

use runner_journal::{AppendError, Entry, Journal, Snapshot};

use crate::power::{directory, said};
use crate::{boot, life, machine, note, whole_proof};

const PATH: &str = "JOURNAL_FAULT_PATH";
const CALLS: [&str; 10] = [
    "pwrite64",
    "write",
    "fsync",
    "fdatasync",
    "openat",
    "ftruncate",
    "rename",
    "unlink",
    "mkdir",
    "fallocate",
];

/// What a call answers. A write of no bytes is a short one: the disk took nothing.
const FAULTS: [&str; 4] = ["error=ENOSPC", "error=EIO", "error=EROFS", "retval=0"];

fn appends() -> Vec<Vec<Entry>> {
    let large = note(&format!("\"{}\"", "x".repeat(9_000)));
    [&life()[..], &[vec![large], vec![boot(), note("1")]]].concat()
}

/// The child: lives a life with a clean end and a second start, and says what is acknowledged and what fails.
#[test]
#[ignore = "a child of the tests of faults, which start it with a path"]
fn child() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let appends = appends();
    let (last, first) = appends.split_last().unwrap();
    for (part, closes) in [(first, true), (std::slice::from_ref(last), false)] {
        let mut journal = match Journal::open(Path::new(&path), &machine()) {
            Ok(opened) => opened.journal,
            Err(error) => return println!("failed open {error:?}"),
        };
        for entries in part {
            match journal.append(1, entries, &[b"a blob"]) {
                Ok(head) => println!("head {} {}", head.seq, head.hash),
                Err(error) => {
                    assert!(
                        matches!(error, AppendError::Full(_) | AppendError::Commit(_)),
                        "{error:?}"
                    );
                    println!("failed append {} {error:?}", entries.len());
                    let again = journal.append(1, entries, &[]).unwrap_err();
                    assert!(matches!(again, AppendError::Poisoned), "{again:?}");
                    assert!(matches!(journal.close(), Err(AppendError::Poisoned)));
                    return;
                }
            }
        }
        if closes && let Err(error) = journal.close() {
            return println!("failed close {error:?}");
        }
    }
    println!("lived");
}

fn child_arguments() -> [&'static str; 5] {
    [
        "--exact",
        "faults::child",
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]
}

/// Runs the child under strace, limited to the journal's files. What it said, and the trace.
fn traced(root: &Path, inject: Option<&str>) -> (Output, String) {
    let state = root.join("state");
    let names = [
        "",
        "-wal",
        "-journal",
        "-shm",
        ".lock",
        ".new",
        ".new-wal",
        ".new-journal",
        ".new-shm",
    ];
    let files = names.map(|suffix| state.join(format!("journal.db{suffix}")));
    let out = root.join("trace");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-o"])
        .arg(&out)
        .arg("-e")
        .arg(format!("trace={}", CALLS.join(",")));
    for path in files.iter().chain([&state]) {
        strace.arg("-P").arg(path);
    }
    if let Some(inject) = inject {
        strace.arg("-e").arg(format!("inject={inject}"));
    }
    let output = strace
        .arg(std::env::current_exe().unwrap())
        .args(child_arguments())
        .env(PATH, state.join("journal.db"))
        .output()
        .unwrap_or_else(|error| panic!("strace cannot be started ({error}): install it, `apt-get install strace`"));
    (output, std::fs::read_to_string(out).unwrap())
}

/// What a child's life came to.
#[derive(Debug, Default)]
struct Counts {
    faults: u64,
    opens: u64,
    appends: u64,
    closes: u64,
    harmless: u64,
}

impl Counts {
    /// Holds what the child said against what a start without faults finds, and goes on from there.
    fn judge(&mut self, path: &Path, output: &Output, what: &str) {
        let text = String::from_utf8_lossy(&output.stdout);
        let what = format!("{what}: {text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{what}");
        let heads: Vec<_> = text.lines().filter_map(|line| said(line.as_bytes())).collect();
        let mut allowed = vec![heads.last().map_or(0, |head| head.seq)];
        self.faults += 1;
        if let Some((_, failed)) = text.split_once("failed append ") {
            let in_flight: u64 = failed.split(' ').next().unwrap().parse().unwrap();
            allowed.push(allowed[0] + in_flight);
            self.appends += 1;
        } else if text.contains("failed open ") {
            self.opens += 1;
        } else if text.contains("failed close ") {
            self.closes += 1;
        } else {
            assert!(text.contains("lived"), "{what}");
            self.harmless += 1;
        }
        let opened = match Journal::open(path, &machine()) {
            Ok(opened) => opened,
            Err(error) => panic!("the next start: {error:?}; {what}"),
        };
        assert!(
            allowed.contains(&(opened.rows.len() as u64)),
            "{} rows: {what}",
            opened.rows.len()
        );
        for head in heads {
            let row = &opened.rows[usize::try_from(head.seq).unwrap() - 1];
            assert_eq!(row.hash, head.hash, "{what}");
        }
        let written = appends().concat();
        assert!(
            opened
                .rows
                .iter()
                .map(|row| &row.entry)
                .eq(&written[..opened.rows.len()]),
            "{what}"
        );
        let mut journal = opened.journal;
        let head = journal.append(2, &[boot(), note("2")], &[]).unwrap();
        drop(journal);
        let summary = Snapshot::take(path).unwrap().verify(Some(head.hash)).unwrap();
        assert_eq!((summary.head, summary.problems), (head, vec![]), "{what}");
    }
}

/// Every place at which a life of the journal calls, and how it fails there.
fn cases(trace: &str) -> Vec<String> {
    let mut cases = Vec::new();
    for call in CALLS {
        let calls = trace
            .lines()
            .filter(|line| line.split(' ').any(|word| word.starts_with(&format!("{call}("))));
        for when in 1..=calls.count() {
            let fits = |fault: &&&str| call == "pwrite64" || **fault != "retval=0";
            let faults: Vec<_> = FAULTS.iter().filter(fits).collect();
            let some = if whole_proof() {
                &faults[..]
            } else {
                std::slice::from_ref(&faults[when % faults.len()])
            };
            cases.extend(some.iter().map(|fault| format!("{call}:{fault}:when={when}")));
        }
    }
    cases
}

#[test]
fn whatever_call_fails_nothing_acknowledged_is_lost_and_the_next_start_is_whole() {
    let sound = directory();
    let (output, trace) = traced(sound.path(), None);
    assert!(String::from_utf8_lossy(&output.stdout).contains("lived"), "{output:?}");
    let cases = Mutex::new(cases(&trace));
    let counts = Mutex::new(Counts::default());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(case) = cases.lock().unwrap().pop() else {
                        return;
                    };
                    let root = directory();
                    let (output, trace) = traced(root.path(), Some(&case));
                    assert!(trace.contains("(INJECTED)"), "{case} was not reached");
                    let path = root.path().join("state").join("journal.db");
                    counts.lock().unwrap().judge(&path, &output, &case);
                }
            });
        }
    });
    let Counts {
        faults,
        opens,
        appends,
        closes,
        harmless,
    } = counts.into_inner().unwrap();
    assert!(opens > 0 && appends > 0 && closes > 0);
    println!(
        "proof: failing calls: {faults} faults, {opens} failed an open, {appends} an append, {closes} a close, {harmless} \
         nothing, 0 acknowledged rows lost"
    );
}

/// The shell's limit on the size of a file: the write that crosses it is cut short, the next one fails.
#[test]
fn a_file_that_may_not_grow_loses_nothing_acknowledged_and_the_next_start_is_whole() {
    let mut counts = Counts::default();
    for blocks in (0..1_000).step_by(if whole_proof() { 1 } else { 6 }) {
        let root = directory();
        let path = root.path().join("state").join("journal.db");
        let output = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"", &blocks.to_string()])
            .arg(std::env::current_exe().unwrap())
            .args(child_arguments())
            .env(PATH, &path)
            .output()
            .unwrap();
        let lived = String::from_utf8_lossy(&output.stdout).contains("lived");
        counts.judge(&path, &output, &format!("{blocks} blocks"));
        if lived {
            break;
        }
    }
    let Counts {
        faults,
        opens,
        appends,
        closes,
        harmless,
    } = counts;
    assert_eq!(harmless, 1, "a life fits at last");
    assert!(opens > 0 && appends > 0);
    println!(
        "proof: short writes: {faults} limits, {opens} failed an open, {appends} an append, {closes} a close, 0 \
         acknowledged rows lost"
    );
}
