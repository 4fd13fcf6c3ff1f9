//! What replaying a task costs: `cargo bench --bench replay`. On the frozen journals of real runs.

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use runner::record;
use runner_journal::{Hash, Snapshot};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TIMES: usize = 1_000;
const AIM: Duration = Duration::from_micros(100);

fn main() -> Result<()> {
    for name in ["completed", "completed-after-two-crashes", "red-check"] {
        replay(name)?;
    }
    Ok(())
}

/// The rows read and verified once, then folded through the machine again and again.
fn replay(name: &str) -> Result<()> {
    let frozen = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journals/v1");
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("journal.db");
    let packed = fs::read(frozen.join(name).join("journal.db.zst"))?;
    fs::write(&path, zstd::decode_all(packed.as_slice())?)?;
    let snapshot = Snapshot::take(&path)?;
    let mut rows = Vec::new();
    let summary = snapshot.read(|row| rows.push(row))?;
    assert!(summary.whole());
    let blob = |hash: &Hash| snapshot.blob(hash).ok().flatten();
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let begun = Instant::now();
        black_box(record::replay(black_box(&rows), blob)?);
        times.push(begun.elapsed());
    }
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    let (median, p99) = (at(50), at(99));
    println!(
        "{} rows of a task ({name}) replayed: {:.3} ms, p99 {:.3} ms; aim {:.1} ms: {}",
        rows.len(),
        millis(median),
        millis(p99),
        millis(AIM),
        if median < AIM { "met" } else { "missed" }
    );
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
