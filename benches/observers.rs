//! What looking at a row costs, with and without a collector: `cargo bench --bench observers`. On the frozen journals of real
//! runs, beside what writing a row to disk costs here.

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use runner::driver::Observe;
use runner::machine::{Event, Run};
use runner::record;
use runner::redact::Redactor;
use runner::telemetry::spans::AgentIdentity;
use runner::telemetry::{Exports, Metrics, Status, Telemetry};
use runner_journal::{Entry, Hash, Head, Journal, Snapshot};
use tokio::sync::watch;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How often a journal is gone through.
const TIMES: usize = 2_000;
/// How many rows are synced.
const SYNCED: usize = 500;

fn main() -> Result<()> {
    let rows = rows("completed-after-two-crashes")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    // The sender runs beside it, before a port that refuses.
    let _inside = runtime.enter();
    let synced = synced()?;
    let before = Telemetry::new(watch::Sender::new(Status::starting()), Metrics::new());
    let telemetry = per_row(&rows, Some(Box::new(before)));
    let off = per_row(&rows, observer(None)?);
    let on = per_row(&rows, observer(Some("http://127.0.0.1:9"))?);
    println!("a row is written and synced:                 {:9.3} µs", micros(synced));
    println!(
        "status, metrics and the log's context of it: {:9.3} µs",
        micros(telemetry)
    );
    println!("its spans, no endpoint set:                  {:9.3} µs", micros(off));
    println!("its spans, before a collector that is away:  {:9.3} µs", micros(on));
    Ok(())
}

/// Who makes spans; nobody without an endpoint.
fn observer(endpoint: Option<&str>) -> Result<Option<Box<dyn Observe>>> {
    let dir = tempfile::tempdir()?;
    let env = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| endpoint.map(OsString::from))?;
    let agent = AgentIdentity {
        name: "command",
        provider: None,
        model: None,
    };
    let exports = Exports::start(env, None, dir.path(), agent, &Redactor::new(), &Metrics::new())?;
    let opened = Journal::open(&dir.path().join("journal.db"), &record::machine())?;
    let observer = exports.observer(&opened);
    opened.journal.close()?;
    Ok(observer)
}

fn per_row(rows: &[(Run, Event, Head)], observer: Option<Box<dyn Observe>>) -> Duration {
    // As the driver has them: a list.
    let mut observers: Vec<Box<dyn Observe>> = observer.into_iter().collect();
    let begun = Instant::now();
    for _ in 0..TIMES {
        for (run, event, head) in rows {
            for observer in &mut observers {
                observer.recorded(black_box(run), black_box(event), *head);
            }
        }
    }
    begun.elapsed() / u32::try_from(TIMES * rows.len()).unwrap_or(u32::MAX)
}

/// What a row costs that is on disk when it is there.
fn synced() -> Result<Duration> {
    let dir = tempfile::tempdir()?;
    let mut journal = Journal::open(&dir.path().join("journal.db"), &record::machine())?.journal;
    journal.append(0, &[Entry::Boot { body: None }], &[])?;
    let begun = Instant::now();
    for _ in 0..SYNCED {
        let body = "{\"note\":\"out_of_memory\",\"killed\":1}".to_owned();
        journal.append(0, &[Entry::Note { body }], &[])?;
    }
    let took = begun.elapsed() / u32::try_from(SYNCED)?;
    journal.close()?;
    Ok(took)
}

/// A frozen journal's events.
fn rows(name: &str) -> Result<Vec<(Run, Event, Head)>> {
    let frozen = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journals/v1");
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("journal.db");
    let packed = fs::read(frozen.join(name).join("journal.db.zst"))?;
    fs::write(&path, zstd::decode_all(packed.as_slice())?)?;
    let snapshot = Snapshot::take(&path)?;
    let mut rows = Vec::new();
    snapshot.read(|row| rows.push(row))?;
    let mut blob = |hash: &Hash| snapshot.blob(hash).ok().flatten();
    let mut run = Run::default();
    let mut events = Vec::new();
    for row in &rows {
        let event = record::step(&mut run, row, &mut blob)?;
        let head = Head {
            seq: row.seq,
            hash: row.hash,
        };
        events.extend(event.map(|event| (run.clone(), event, head)));
    }
    Ok(events)
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
