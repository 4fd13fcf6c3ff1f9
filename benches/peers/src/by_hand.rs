//! The loops that a program without a library would have: rows in SQLite, a commit each.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::child::{BODY, Result, STEPS, act, begin, end};

/// The settings of the runner's journal.
pub const SETTINGS: &str = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; \
                            PRAGMA wal_autocheckpoint=0;";

/// What is written of a step.
#[derive(Clone, Copy)]
pub enum Rows {
    /// How it ended.
    Outcome,
    /// That it will be tried, and how it ended.
    IntentAndOutcome,
}

/// A task in a database of its own, whose log has begun before.
pub fn task(directory: &Path, rows: Rows) -> Result<Duration> {
    let directory = tempfile::tempdir_in(directory)?;
    let conn = Connection::open(directory.path().join("by-hand.db"))?;
    conn.execute_batch(SETTINGS)?;
    conn.execute_batch(
        "CREATE TABLE row (seq INTEGER PRIMARY KEY, at INTEGER, kind TEXT, effect TEXT, key TEXT, body TEXT) STRICT",
    )?;
    let insert = |kind: &str, step: u32| -> Result<()> {
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        conn.prepare_cached("INSERT INTO row (at, kind, effect, key, body) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute((1, kind, format!("effect{step}"), format!("task/{step}/1"), BODY))?;
        conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    };
    insert("boot", 0)?;
    let start = begin();
    for step in 0..STEPS {
        if matches!(rows, Rows::IntentAndOutcome) {
            insert("intent", step)?;
        }
        act(step);
        insert("outcome", step)?;
    }
    Ok(end(start))
}
