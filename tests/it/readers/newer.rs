//! A journal as a later program would write it: made by hand, since no program does.

use std::path::PathBuf;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use sha2::{Digest, Sha256};

use crate::frozen::thaw;

/// What is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// Rows that this program could have written, with a column more.
    OnlyKnown,
    /// And one of a kind that it does not have.
    AndANewKind,
}

const COLUMNS: &str = "seq, boot, at_ms, kind, src, dst, effect, attempt, result, key, body, blobs, program";

/// The frozen journal of a completed task, as version 2 would have it: a further column that the hashes cover.
pub(super) fn journal(rows: Rows) -> (tempfile::TempDir, PathBuf) {
    let (room, path) = thaw("v1/completed");
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(
        "PRAGMA user_version = 2; PRAGMA ignore_check_constraints = ON;
         DROP TRIGGER journal_rows_stay; DROP TRIGGER follows_the_last_row;
         ALTER TABLE journal ADD COLUMN program TEXT;
         UPDATE journal SET program = 'tomorrow''s' WHERE kind = 'boot';",
    )
    .unwrap();
    if rows == Rows::AndANewKind {
        conn.execute_batch(
            "INSERT INTO journal (seq, boot, at_ms, kind, body, prev, hash)
             SELECT seq + 1, boot, at_ms, 'lease', '{}', hash, hash FROM journal ORDER BY seq DESC LIMIT 1;",
        )
        .unwrap();
    }
    hash_anew(&conn, 2);
    conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    (room, path)
}

/// A journal of this version whose machine has gained an effect.
pub(super) fn of_a_newer_machine() -> (tempfile::TempDir, PathBuf) {
    use runner_journal::{Entry, Journal};
    let (room, path) = thaw("v1/died-at-work");
    let mut journal = Journal::open(&path, &runner::record::machine()).unwrap().journal;
    let probe = Entry::Probe {
        effect: "agent".to_owned(),
        attempt: 1,
        finding: runner_journal::Finding::NotDone,
        body: Some(r#"{"found":"not_done"}"#.to_owned()),
    };
    let intent = Entry::Intent {
        effect: "rehearse".to_owned(),
        attempt: 1,
        key: "t-1/rehearse/1".to_owned(),
        body: None,
    };
    let boot = Entry::Boot {
        body: Some(r#"{"version":"9.0.0"}"#.to_owned()),
    };
    journal.append(1_800_000_000_000, &[boot, probe, intent], &[]).unwrap();
    journal.close().unwrap();
    (room, path)
}

/// Hashes as docs and `journal/src/schema.rs` say: a tag, numbers big-endian, bytes with their length.
fn hash_anew(conn: &Connection, version: i64) {
    let mut statement = conn
        .prepare(&format!("SELECT {COLUMNS} FROM journal ORDER BY seq"))
        .unwrap();
    let rows: Vec<Vec<Value>> = statement
        .query_map([], |row| (0..13).map(|column| row.get(column)).collect())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut prev = vec![0; 32];
    for row in rows {
        let mut fields = vec![
            Value::Text("runner-journal/row".to_owned()),
            Value::Text("runner/task".to_owned()),
            Value::Integer(version),
            Value::Blob(prev.clone()),
        ];
        fields.extend(row.iter().cloned());
        let mut hash = Sha256::new();
        for field in fields {
            match field {
                Value::Null => hash.update([0]),
                Value::Integer(number) => {
                    hash.update([1]);
                    hash.update(number.to_be_bytes());
                }
                Value::Text(text) => bytes(&mut hash, text.as_bytes()),
                Value::Blob(blob) => bytes(&mut hash, &blob),
                Value::Real(_) => unreachable!(),
            }
        }
        let hash = hash.finalize().to_vec();
        let values = [Value::Blob(prev), Value::Blob(hash.clone()), row[0].clone()];
        conn.execute(
            "UPDATE journal SET prev = ?1, hash = ?2 WHERE seq = ?3",
            params_from_iter(values),
        )
        .unwrap();
        prev = hash;
    }
}

fn bytes(hash: &mut Sha256, bytes: &[u8]) {
    hash.update([2]);
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}
