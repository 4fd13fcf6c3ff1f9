//! What a task's rows cost, against the same rows by hand: `cargo bench -p runner-journal`.
//!
//! Syncs are the gate (count them with `strace -f -c -e trace=fsync,fdatasync`, `JOURNAL_BENCH_TASKS=1`);
//! milliseconds depend on the disk, so both loops run in turn on the same one.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use runner_journal::{Entry, Finding, Journal, Machine, Snapshot};
use rusqlite::Connection;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const STEPS: u32 = 9;
const BODY: &str = r#"{"commit":"0123456789abcdef0123456789abcdef01234567","branch":"runner/task"}"#;

fn main() -> Result<()> {
    let tasks = std::env::var("JOURNAL_BENCH_TASKS").map_or(Ok(60), |text| text.parse::<usize>())?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..tasks {
        ours.push(our_task()?);
        bare.push(bare_task()?);
    }
    let (ours, bare) = (median(ours), median(bare));
    println!("18 appends, intent and outcome: {ours:?} with this crate, {bare:?} by hand");
    println!("ratio: {:.2}", ours.as_secs_f64() / bare.as_secs_f64());
    if tasks > 1 {
        replay()?;
        many_rows()?;
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn machine() -> Machine {
    let states: Vec<_> = (0..=STEPS).map(state).collect();
    let edges = states.windows(2).map(|pair| (pair[0].clone(), pair[1].clone()));
    Machine::new("bench", edges.chain([(String::new(), state(0))]))
}

fn state(step: u32) -> String {
    format!("State{step}")
}

fn intent(effect: String, attempt: u32) -> Entry {
    Entry::Intent {
        key: format!("task/{effect}/1"),
        effect,
        attempt,
        body: Some(BODY.into()),
    }
}

fn outcome(effect: String, attempt: u32) -> Entry {
    Entry::Outcome {
        effect,
        attempt,
        finding: Finding::Done,
        body: Some(BODY.into()),
    }
}

/// A journal that has begun; its log's header is written.
fn begun(path: &Path) -> Result<Journal> {
    let mut journal = Journal::open(path, &machine())?.journal;
    let start = Entry::Enter {
        src: String::new(),
        dst: state(0),
        body: None,
    };
    journal.append(0, &[Entry::Boot { body: None }, start], &[])?;
    Ok(journal)
}

/// Each step an intent, and an outcome with the state it leads to: 27 rows in 18 appends.
fn steps(journal: &mut Journal) -> Result<()> {
    for step in 0..STEPS {
        let effect = format!("effect{step}");
        let enter = Entry::Enter {
            src: state(step),
            dst: state(step + 1),
            body: None,
        };
        journal.append(1, &[intent(effect.clone(), 1)], &[])?;
        journal.append(2, &[outcome(effect, 1), enter], &[])?;
    }
    Ok(())
}

fn our_task() -> Result<Duration> {
    let directory = tempfile::tempdir()?;
    let mut journal = begun(&directory.path().join("journal.db"))?;
    let start = Instant::now();
    steps(&mut journal)?;
    Ok(start.elapsed())
}

/// One row a commit by hand, with the same settings and none of the promises.
fn bare_task() -> Result<Duration> {
    let directory = tempfile::tempdir()?;
    let conn = Connection::open(directory.path().join("bare.db"))?;
    conn.execute_batch(
        "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;
         CREATE TABLE row (seq INTEGER PRIMARY KEY, at INTEGER, kind TEXT, effect TEXT, key TEXT, body TEXT) STRICT;",
    )?;
    let insert = |kind: &str, step: u32| -> Result<()> {
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        conn.prepare_cached("INSERT INTO row (at, kind, effect, key, body) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute((1, kind, format!("effect{step}"), format!("task/{step}/1"), BODY))?;
        conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    };
    insert("boot", 0)?;
    let start = Instant::now();
    for step in 0..STEPS {
        insert("intent", step)?;
        insert("outcome", step)?;
    }
    Ok(start.elapsed())
}

/// A task's journal, opened again.
fn replay() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("journal.db");
    let mut journal = begun(&path)?;
    steps(&mut journal)?;
    for _ in 0..11 {
        journal.append(3, &[Entry::Note { body: "{}".into() }], &[])?;
    }
    drop(journal);
    let snapshot = Snapshot::take(&path)?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        let summary = snapshot.read(|row| {
            black_box(row);
        })?;
        times.push(start.elapsed());
        assert_eq!((summary.rows, summary.problems.len()), (40, 0));
    }
    println!("40 rows read and verified: {:?}", median(times));
    let mut times = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        let opened = Journal::open(&path, &machine())?;
        times.push(start.elapsed());
        assert_eq!(opened.rows.len(), 40);
    }
    println!("40 rows opened, everything checked: {:?}", median(times));
    Ok(())
}

fn many_rows() -> Result<()> {
    const ROWS: u32 = 100_000;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("journal.db");
    let mut journal = begun(&path)?;
    let rows: Vec<_> = (1..=ROWS / 2)
        .flat_map(|attempt| [intent("effect".into(), attempt), outcome("effect".into(), attempt)])
        .collect();
    for rows in rows.chunks(1_000) {
        journal.append(1, rows, &[])?;
    }
    journal.close()?;
    let start = Instant::now();
    let snapshot = Snapshot::take(&path)?;
    println!("{ROWS} rows copied: {:?}", start.elapsed());
    let start = Instant::now();
    let summary = snapshot.read(|row| {
        black_box(row);
    })?;
    println!("{ROWS} rows read and verified: {:?}", start.elapsed());
    let start = Instant::now();
    let verified = snapshot.verify(None)?;
    println!("{ROWS} rows, pages, schema and blobs verified: {:?}", start.elapsed());
    assert!(summary.whole() && verified.whole());
    assert_eq!(summary.rows, u64::from(ROWS) + 2);
    Ok(())
}
