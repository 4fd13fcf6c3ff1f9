//! What was measured, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::child::STEPS;
use crate::system::System;
use crate::trace::Seen;

/// A system's figures.
pub struct Row {
    /// Which.
    pub system: System,
    /// Each task's.
    pub times: Vec<Duration>,
    /// Under strace; none without one.
    pub seen: Option<Seen>,
}

/// In milliseconds.
fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort();
    let at = (times.len() * percent).div_ceil(100).max(1) - 1;
    times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

impl Row {
    fn percentile(&self, percent: usize) -> f64 {
        percentile(&self.times, percent)
    }

    /// The median against that of the loop by hand with intent and outcome.
    fn ratio(&self, rows: &[Self]) -> f64 {
        let by_hand = rows.iter().find(|row| row.system == System::ByHandIntent);
        self.percentile(50) / by_hand.map_or(f64::NAN, |row| row.percentile(50))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
fn a_task(seen: &Seen) -> f64 {
    seen.syncs as f64 / seen.tasks as f64
}

/// The table.
pub fn print(rows: &[Row], syncs: &[Duration]) {
    println!(
        "a task of {STEPS} durable steps; SQLite {} but for durare's\n",
        rusqlite::version()
    );
    let head = ["syncs a task", "p50 ms", "p99 ms", "of by hand", "steps exposed"];
    println!("{:42}{}", "system", head.map(|name| format!("{name:>15}")).concat());
    for row in rows {
        let (syncs, exposed) = row.seen.as_ref().map_or((String::new(), String::new()), |seen| {
            (format!("{:.2}", a_task(seen)), seen.exposed.to_string())
        });
        println!(
            "{:42}{syncs:>15}{:>15.3}{:>15.3}{:>15.2}{exposed:>15}",
            row.system.name(),
            row.percentile(50),
            row.percentile(99),
            row.ratio(rows),
        );
    }
    let tasks = rows.first().map_or(0, |row| row.times.len());
    println!("\n{tasks} tasks each, in turn; milliseconds belong to this disk: compare syncs first");
    let (p50, p99) = (percentile(syncs, 50), percentile(syncs, 99));
    println!("a page written and synced meanwhile: p50 {p50:.3} ms, p99 {p99:.3} ms");
    match rows.first().and_then(|row| row.seen.as_ref()) {
        Some(seen) => println!(
            "{} tasks each under strace; exposed: the most acknowledged steps that a loss of power would have taken",
            seen.tasks
        ),
        None => println!("strace is not installed: syncs and exposed steps are not counted"),
    }
}

/// The same as JSON; null where there was no strace.
pub fn json(rows: &[Row], syncs: &[Duration]) -> Value {
    let systems = rows.iter().map(|row| {
        json!({
            "system": row.system.name(),
            "syncsPerTask": row.seen.as_ref().map(a_task),
            "p50Ms": row.percentile(50),
            "p99Ms": row.percentile(99),
            "ratioToByHand": row.ratio(rows),
            "exposedSteps": row.seen.as_ref().map(|seen| seen.exposed),
            "tasks": row.times.len(),
            "tracedTasks": row.seen.as_ref().map(|seen| seen.tasks),
        })
    });
    json!({ "steps": STEPS, "syncP50Ms": percentile(syncs, 50), "syncP99Ms": percentile(syncs, 99), "sqlite": rusqlite::version(), "systems": systems.collect::<Vec<_>>() })
}
