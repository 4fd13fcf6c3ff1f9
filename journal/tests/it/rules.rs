//! The rules against whoever writes without this crate: a second connection, after the journal was closed.

use runner_journal::Snapshot;
use rusqlite::{Connection, params_from_iter};

use crate::{lived, place};

/// A journal that was lived to its verdict, and a stranger's connection to it.
fn stranger(recursive_triggers: bool) -> (tempfile::TempDir, std::path::PathBuf, Connection) {
    let (directory, path) = place();
    lived(&path).close().unwrap();
    let conn = Connection::open(&path).unwrap();
    conn.pragma_update(None, "recursive_triggers", recursive_triggers)
        .unwrap();
    (directory, path, conn)
}

const COLUMNS: [&str; 13] = [
    "seq", "boot", "at_ms", "kind", "src", "dst", "effect", "attempt", "result", "key", "body", "prev", "hash",
];

/// A column and the SQL that goes into it.
type Given = (&'static str, &'static str);

/// Inserts a note in the next place, with some columns given as SQL instead.
fn insert(conn: &Connection, verb: &str, given: &[(&str, &str)]) -> rusqlite::Result<usize> {
    let value = |column: &str| {
        if let Some((_, sql)) = given.iter().find(|(name, _)| *name == column) {
            return (*sql).to_owned();
        }
        match column {
            "seq" => "(SELECT max(seq) + 1 FROM journal)",
            "boot" => "(SELECT max(boot) FROM journal)",
            "at_ms" => "0",
            "kind" => "'note'",
            "body" => "'{}'",
            "prev" => "(SELECT hash FROM journal ORDER BY seq DESC LIMIT 1)",
            "hash" => "randomblob(32)",
            _ => "NULL",
        }
        .to_owned()
    };
    let values: Vec<_> = COLUMNS.iter().map(|column| value(column)).collect();
    let sql = format!(
        "{verb} INTO journal ({}) VALUES ({})",
        COLUMNS.join(", "),
        values.join(", ")
    );
    conn.execute(&sql, params_from_iter::<[i64; 0]>([]))
}

#[test]
fn a_row_that_breaks_no_rule_is_taken() {
    let (_directory, _path, conn) = stranger(true);
    for _ in 0..3 {
        insert(&conn, "INSERT", &[]).unwrap();
    }
}

/// Columns that break a rule, each with what names it.
fn broken() -> Vec<(Vec<Given>, &'static str)> {
    let effect = [
        ("effect", "'z'"),
        ("attempt", "1"),
        ("key", "'k'"),
        ("kind", "'intent'"),
    ];
    let with = |column, sql| {
        let mut given = effect.to_vec();
        given.retain(|(name, _)| *name != column);
        given.push((column, sql));
        given
    };
    vec![
        (vec![("seq", "17")], "no_gap"),
        (vec![("seq", "15")], "no_gap"),
        (vec![("seq", "1")], "no_gap"),
        (vec![("seq", "NULL")], "no_gap"),
        (vec![("seq", "-1")], "no_gap"),
        (vec![("prev", "zeroblob(32)")], "chain"),
        (vec![("prev", "NULL")], "chain"),
        (vec![("hash", "zeroblob(31)")], "CHECK"),
        (vec![("hash", "NULL")], "NOT NULL"),
        (vec![("hash", "'text'")], "cannot store TEXT value in BLOB column"),
        (vec![("boot", "1")], "boot_number"),
        (vec![("boot", "3")], "boot_number"),
        (vec![("boot", "NULL")], "boot_number"),
        (vec![("kind", "'boot'")], "boot_number"),
        (vec![("kind", "'other'")], "columns"),
        (vec![("kind", "NULL")], "NOT NULL"),
        (vec![("at_ms", "NULL")], "NOT NULL"),
        (vec![("at_ms", "'noon'")], "cannot store TEXT value in INTEGER column"),
        (vec![("body", "NULL")], "columns"),
        (vec![("body", "'{'")], "body"),
        (vec![("body", "'\"' || hex(zeroblob(32768)) || '\"'")], "body"),
        (vec![("src", "''")], "columns"),
        (vec![("src", "'A'"), ("dst", "'B'")], "columns"),
        (vec![("effect", "'x'")], "columns"),
        (vec![("attempt", "1")], "columns"),
        (vec![("result", "'done'")], "columns"),
        (vec![("key", "'k'")], "columns"),
        (with("key", "NULL"), "columns"),
        (with("key", "''"), "columns"),
        (with("effect", "''"), "columns"),
        (with("effect", "NULL"), "columns"),
        (with("attempt", "0"), "columns"),
        (with("attempt", "4294967296"), "columns"),
        (with("result", "'done'"), "columns"),
        (
            vec![
                ("kind", "'intent'"),
                ("effect", "'y'"),
                ("attempt", "2"),
                ("key", "'k'"),
            ],
            "attempt_rises",
        ),
        (
            vec![
                ("kind", "'outcome'"),
                ("effect", "'y'"),
                ("attempt", "2"),
                ("result", "'done'"),
            ],
            "has_open_intent",
        ),
        (
            vec![
                ("kind", "'probe'"),
                ("effect", "'y'"),
                ("attempt", "3"),
                ("result", "'done'"),
            ],
            "has_open_intent",
        ),
        (
            vec![("kind", "'enter'"), ("src", "'C'"), ("dst", "'End'")],
            "leaves_last_state",
        ),
        (vec![("kind", "'enter'"), ("src", "'End'"), ("dst", "'A'")], "edge"),
        (
            vec![("kind", "'enter'"), ("src", "'End'"), ("dst", "'Nowhere'")],
            "edge",
        ),
        (vec![("kind", "'verdict'"), ("key", "'k'")], "one_verdict"),
        (vec![("kind", "'ack'")], "one_ack"),
    ]
}

#[test]
fn every_broken_rule_is_refused_whatever_the_verb_and_the_settings() {
    let cases = broken();
    for recursive_triggers in [true, false] {
        let (_directory, path, conn) = stranger(recursive_triggers);
        for verb in [
            "INSERT",
            "INSERT OR REPLACE",
            "REPLACE",
            "INSERT OR FAIL",
            "INSERT OR ROLLBACK",
        ] {
            for (given, rule) in &cases {
                let error = insert(&conn, verb, given).unwrap_err().to_string();
                assert!(error.contains(rule), "{verb} {given:?}: {error}, not {rule}");
            }
        }
        for verb in ["INSERT OR IGNORE", "INSERT OR REPLACE"] {
            for (given, _) in &cases {
                // IGNORE may say nothing about it, and writes nothing either.
                let _ = insert(&conn, verb, given);
            }
        }
        drop(conn);
        let summary = Snapshot::take(&path).unwrap().verify(None).unwrap();
        assert_eq!((summary.rows, summary.problems), (15, vec![]));
    }
}

#[test]
fn a_state_is_not_entered_twice_even_where_an_edge_leads_back() {
    let (_directory, path) = place();
    let machine = runner_journal::Machine::new("test", [("", "A"), ("A", "B"), ("B", "A")]);
    let mut journal = runner_journal::Journal::open(&path, &machine).unwrap().journal;
    journal
        .append(1, &[crate::boot(), crate::enter("", "A"), crate::enter("A", "B")], &[])
        .unwrap();
    let error = journal.append(2, &[crate::enter("B", "A")], &[]).unwrap_err();
    assert!(error.to_string().contains("entered before"), "{error}");
    journal.close().unwrap();
    for recursive_triggers in [true, false] {
        let conn = Connection::open(&path).unwrap();
        conn.pragma_update(None, "recursive_triggers", recursive_triggers)
            .unwrap();
        for verb in ["INSERT", "REPLACE"] {
            let given = [("kind", "'enter'"), ("src", "'B'"), ("dst", "'A'")];
            let error = insert(&conn, verb, &given).unwrap_err().to_string();
            assert!(error.contains("one_enter_per_state"), "{error}");
        }
    }
}

#[test]
fn nothing_is_changed_replaced_or_removed() {
    let statements = [
        "UPDATE journal SET body = '{}' WHERE seq = 1",
        "UPDATE OR REPLACE journal SET seq = 2 WHERE seq = 1",
        "DELETE FROM journal WHERE seq = 15",
        "DELETE FROM journal",
        "UPDATE blob SET bytes = x'00'",
        "DELETE FROM blob",
        "REPLACE INTO blob (sha256, bytes) SELECT sha256, x'00' FROM blob",
        "REPLACE INTO blob (rowid, sha256, bytes) SELECT rowid, zeroblob(32), x'00' FROM blob",
        "INSERT INTO blob (sha256, bytes) SELECT sha256, x'00' FROM blob WHERE true
             ON CONFLICT DO UPDATE SET bytes = x'00'",
        "UPDATE edge SET dst = 'Z'",
        "DELETE FROM edge",
        "REPLACE INTO edge (src, dst) VALUES ('A', 'B')",
        "UPDATE meta SET machine = 'other'",
        "DELETE FROM meta",
        "REPLACE INTO meta (one, machine) VALUES (1, 'other')",
        "INSERT INTO meta (one, machine) VALUES (2, 'other')",
    ];
    for recursive_triggers in [true, false] {
        let (_directory, path, conn) = stranger(recursive_triggers);
        for sql in statements {
            let error = conn.execute(sql, []).unwrap_err().to_string();
            assert!(error.contains("append_only"), "{sql}: {error}");
        }
        for sql in [
            "INSERT INTO blob (sha256, bytes) VALUES (zeroblob(31), x'00')",
            "INSERT INTO blob (sha256, bytes) VALUES (zeroblob(32), NULL)",
            "INSERT INTO edge (src, dst) VALUES ('A', '')",
        ] {
            assert!(conn.execute(sql, []).is_err(), "{sql}");
        }
        drop(conn);
        assert!(Snapshot::take(&path).unwrap().verify(None).unwrap().whole());
    }
}
