//! A journal that anything was done to, or any bytes in its place: reading and opening it ends, without a panic, and a row
//! that is called good is one that was written.
//!
//! Two kinds of input, by the first byte's lowest bit. **Edits** to a real journal: nothing but rows that were written can
//! verify then, because a new one would need a SHA-256 that no edit can compute; and where one of them is not told, something
//! is said against the head that was kept elsewhere. **Raw** bytes as the files: they could spell a history of their own, so
//! there the claim is only that what is told is in order and counted right.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use runner_journal::{Entry, Finding, Hash, Journal, Machine, Row, Snapshot, Summary};
use tempfile::TempDir;

#[path = "../../../journal/tests/it/damage/wal.rs"]
mod wal;

/// The files of a journal: the database, and its log where it has one.
#[derive(Clone)]
struct Files {
    database: Vec<u8>,
    log: Option<Vec<u8>>,
}

/// What was written, and the files as a closed and as a killed runner leaves them.
struct Written {
    rows: Vec<Row>,
    closed: Files,
    killed: Files,
}

static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
static WRITTEN: LazyLock<Written> = LazyLock::new(write);

fn machine() -> Machine {
    Machine::new("fuzz", [("", "A"), ("A", "B"), ("A", "End"), ("B", "End")])
}

/// Lives a short life of each kind of row. The rows are the same in every process, so that an input means the same.
fn write() -> Written {
    let boot = || Entry::Boot { body: None };
    let enter = |src: &str, dst: &str| Entry::Enter {
        src: src.into(),
        dst: dst.into(),
        body: None,
    };
    let intent = |attempt| Entry::Intent {
        effect: "push".into(),
        attempt,
        key: "fuzz/push/1".into(),
        body: Some("{}".into()),
    };
    let verdict = || Entry::Verdict {
        key: "fuzz/report/1".into(),
        body: r#"{"event":"completed"}"#.into(),
    };
    let (effect, body) = (|| "push".into(), || None);
    let life = [
        vec![boot(), enter("", "A")],
        vec![intent(1)],
        vec![
            boot(),
            Entry::Probe {
                effect: effect(),
                attempt: 1,
                finding: Finding::NotDone,
                body: body(),
            },
        ],
        vec![intent(2)],
        vec![
            Entry::Outcome {
                effect: effect(),
                attempt: 2,
                finding: Finding::Done,
                body: body(),
            },
            enter("A", "B"),
            // More than a page holds.
            Entry::Note {
                body: format!("\"{}\"", "n".repeat(9_000)),
            },
        ],
        vec![verdict()],
        vec![Entry::Ack { body: body() }, enter("B", "End")],
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/journal.db");
    let mut journal = Journal::open(&path, &machine()).unwrap().journal;
    for (time, entries) in (1_000..).zip(life) {
        journal.append(time, &entries, &[b"a larger payload"]).unwrap();
    }
    let files = || Files {
        database: fs::read(&path).unwrap(),
        log: fs::read(path.with_file_name("journal.db-wal")).ok(),
    };
    let killed = files();
    journal.close().unwrap();
    let mut rows = Vec::new();
    Snapshot::take(&path)
        .unwrap()
        .read(|row| rows.push(row))
        .unwrap();
    Written {
        rows,
        closed: files(),
        killed,
    }
}

/// One edit: eight bytes say what, in which file, where, and with what.
fn edit(files: &mut Files, edit: [u8; 8]) {
    let [what, at_0, at_1, at_2, other, times, value, value_2] = edit;
    let (bytes, header, block) = match (&mut files.log, what & 0x80 != 0) {
        (Some(log), true) => (log, wal::HEADER, wal::FRAME),
        (Some(_) | None, _) => (&mut files.database, 0, wal::PAGE),
    };
    if bytes.is_empty() {
        return;
    }
    let at = u32::from_le_bytes([at_0, at_1, at_2, 0]) as usize % bytes.len();
    let blocks = bytes.len().saturating_sub(header) / block;
    let start = |index: usize| header + index * block;
    let (here, there) = match blocks {
        0 => (None, None),
        _ => (
            Some(at.saturating_sub(header) / block % blocks),
            Some(usize::from(other) % blocks),
        ),
    };
    match (what & 0x7f) % 7 {
        0 => bytes[at] ^= value.max(1),
        1 => {
            let end = bytes.len().min(at + usize::from(times));
            bytes[at..end].fill(value);
        }
        2 => bytes.truncate(at),
        // A field of two bytes, as most of a page's are.
        3 if at + 1 < bytes.len() => bytes[at..at + 2].copy_from_slice(&[value, value_2]),
        4 => {
            if let Some(here) = here {
                bytes[start(here)..start(here) + block].fill(value);
            }
        }
        5 => {
            if let (Some(here), Some(there)) = (here, there) {
                bytes.copy_within(start(here)..start(here) + block, start(there));
            }
        }
        6 => {
            if let Some(here) = here {
                let copy = bytes[start(here)..start(here) + block].to_vec();
                bytes.extend(copy);
            }
        }
        _ => {}
    }
}

fn put_files(path: &Path, files: &Files) {
    let state = path.parent().unwrap();
    let _ = fs::remove_dir_all(state);
    fs::create_dir(state).unwrap();
    fs::write(path, &files.database).unwrap();
    if let Some(log) = &files.log {
        fs::write(path.with_file_name("journal.db-wal"), log).unwrap();
    }
}

/// The rows that are told as good, and what is said of the whole; none where it is refused.
fn told(path: &Path, head: Option<Hash>) -> Option<(Vec<Row>, Summary)> {
    let snapshot = Snapshot::take(path).ok()?;
    let mut rows = Vec::new();
    let read = snapshot.read(|row| rows.push(row)).ok()?;
    let said = snapshot.verify(head).ok()?;
    assert_eq!(read.rows, rows.len() as u64);
    assert!(rows.is_sorted_by(|row, next| row.seq < next.seq));
    if let Some(last) = rows.last() {
        assert_eq!((read.head.seq, read.head.hash), (last.seq, last.hash));
    }
    assert_eq!((read.rows, read.head), (said.rows, said.head), "{read:?} {said:?}");
    if read.whole() {
        assert!(
            rows.iter().map(|row| row.seq).eq(1..=read.rows),
            "a gap and nothing said"
        );
    }
    Some((rows, said))
}

fn raw(path: &Path, bytes: &[u8]) {
    let (size, bytes) = match bytes {
        [low, middle, high, bytes @ ..] => (u32::from_le_bytes([*low, *middle, *high, 0]) as usize, bytes),
        _ => (bytes.len(), bytes),
    };
    let (database, log) = bytes.split_at(size.min(bytes.len()));
    let files = Files {
        database: database.to_vec(),
        log: (!log.is_empty()).then(|| log.to_vec()),
    };
    put_files(path, &files);
    told(path, None);
    drop(Journal::open(path, &machine()));
}

fn edited(path: &Path, how: u8, edits: &[u8]) {
    let written = &*WRITTEN;
    let mut files = if how & 2 == 0 {
        written.killed.clone()
    } else {
        written.closed.clone()
    };
    for bytes in edits.as_chunks::<8>().0.iter().take(32) {
        edit(&mut files, *bytes);
    }
    if let (Some(log), true) = (&mut files.log, how & 4 == 0) {
        wal::seal(log);
    }
    if how & 8 != 0 {
        files.log = None;
    }
    put_files(path, &files);
    let head = written.rows.last().unwrap().hash;
    if let Some((rows, said)) = told(path, Some(head)) {
        for row in &rows {
            assert!(written.rows.contains(row), "never written: {row:?}");
        }
        assert!(
            !said.whole() || rows == written.rows,
            "rows are missing, and nothing is said"
        );
    }
    if let Ok(opened) = Journal::open(path, &machine()) {
        assert!(
            written.rows.starts_with(&opened.rows),
            "it went on from what was never written"
        );
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((how, rest)) = input.split_first() else { return };
    let path = DIRECTORY.path().join("state/journal.db");
    if how & 1 == 0 {
        edited(&path, *how, rest);
    } else {
        raw(&path, rest);
    }
});
