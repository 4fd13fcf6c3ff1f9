//! The hash over a row's columns, and which columns are a row.

use super::*;
use crate::schema::V1;

fn note<'a>(body: &'a Entry, blobs: Option<&'a [u8]>) -> Columns<'a> {
    Columns::of(7, 2, -5, body, blobs, Hash::of(b"before"))
}

#[test]
fn the_hash_is_over_every_column_and_tells_absent_from_empty() {
    let entry = Entry::Note { body: "{}".into() };
    let columns = note(&entry, None);
    let hash = columns.hash(&V1, "m");
    let mut others = vec![columns.hash(&V1, "n"), columns.hash(&V1, "")];
    let changes: [fn(&mut Columns<'_>); 16] = [
        |c| c.seq = 8,
        |c| c.boot = 3,
        |c| c.at_ms = 5,
        |c| c.kind = "boot",
        |c| c.src = Some(""),
        |c| c.dst = Some(""),
        |c| c.effect = Some(""),
        |c| c.attempt = Some(0),
        |c| c.result = Some(""),
        |c| c.key = Some(""),
        |c| c.body = Some(""),
        |c| c.body = None,
        |c| c.blobs = Some(&[]),
        |c| c.prev = Hash::ZERO,
        |c| c.kind = "notes",
        |c| (c.src, c.dst) = (Some("a"), Some("b")),
    ];
    for change in changes {
        let mut other = columns;
        change(&mut other);
        others.push(other.hash(&V1, "m"));
    }
    others.push(hash);
    let all: std::collections::HashSet<_> = others.iter().collect();
    assert_eq!(all.len(), others.len());
}

/// Frozen: another value here means that journals of schema 1 no longer verify. Computed by another program,
/// from the description of [`Columns::hash`] alone.
#[test]
fn the_hash_of_schema_1_never_changes() {
    let entry = Entry::Intent {
        effect: "push".into(),
        attempt: 1,
        key: "t/push/1".into(),
        body: Some("{\"head\":\"ä\"}".into()),
    };
    let columns = Columns::of(3, 1, 1_700_000_000_000, &entry, None, Hash::ZERO);
    assert_eq!(columns.hash(&V1, "task").to_string(), FROZEN);
}

const FROZEN: &str = "34735841ba0e8f9e42746e8b166b438a835ed15d74aefd5014145b338fac5985";

/// A row of each kind, with the columns that it has.
fn one_of_each_kind() -> [Entry; 8] {
    let (effect, key, body) = (|| "push".to_owned(), || "key".to_owned(), || "{}".to_owned());
    let (attempt, finding) = (1, Finding::Done);
    [
        Entry::Boot { body: None },
        Entry::Enter {
            src: String::new(),
            dst: "A".to_owned(),
            body: None,
        },
        Entry::Intent {
            effect: effect(),
            attempt,
            key: key(),
            body: None,
        },
        Entry::Probe {
            effect: effect(),
            attempt,
            finding,
            body: None,
        },
        Entry::Outcome {
            effect: effect(),
            attempt,
            finding,
            body: None,
        },
        Entry::Verdict {
            key: key(),
            body: body(),
        },
        Entry::Ack { body: None },
        Entry::Note { body: body() },
    ]
}

/// A row that a forger hashed rightly is told by its columns: the tables cannot speak for a file that came from elsewhere.
#[test]
fn each_kind_has_its_columns_and_no_others() {
    type Column = (
        &'static str,
        fn(&Columns<'_>) -> bool,
        fn(&mut Columns<'_>),
        fn(&mut Columns<'_>),
    );
    let optional: [Column; 6] = [
        ("src", |c| c.src.is_some(), |c| c.src = Some(""), |c| c.src = None),
        ("dst", |c| c.dst.is_some(), |c| c.dst = Some("A"), |c| c.dst = None),
        (
            "effect",
            |c| c.effect.is_some(),
            |c| c.effect = Some("x"),
            |c| c.effect = None,
        ),
        (
            "attempt",
            |c| c.attempt.is_some(),
            |c| c.attempt = Some(1),
            |c| c.attempt = None,
        ),
        (
            "result",
            |c| c.result.is_some(),
            |c| c.result = Some("done"),
            |c| c.result = None,
        ),
        ("key", |c| c.key.is_some(), |c| c.key = Some("k"), |c| c.key = None),
    ];
    for entry in one_of_each_kind() {
        let right = note(&entry, None);
        assert_eq!(right.row(Hash::ZERO).unwrap().entry, entry);
        for (name, has, add, take) in optional {
            let mut wrong = right;
            let how = if has(&right) {
                take(&mut wrong);
                "without"
            } else {
                add(&mut wrong);
                "with"
            };
            assert_eq!(wrong.row(Hash::ZERO), Err(Rule::Columns), "{} {how} {name}", right.kind);
        }
    }
}

#[test]
fn boots_and_attempts_count_from_1() {
    let [boot, _, intent, ..] = one_of_each_kind();
    let with = |entry, boot, attempt| {
        let columns = Columns {
            boot,
            attempt,
            ..note(entry, None)
        };
        columns.row(Hash::ZERO).map(|row| row.boot)
    };
    let most = i64::from(u32::MAX);
    assert_eq!(with(&boot, 1, None), Ok(1));
    assert_eq!(with(&boot, most, None), Ok(u32::MAX));
    assert_eq!(with(&intent, 1, Some(most)), Ok(1));
    for beyond in [-1, 0, most + 1] {
        assert_eq!(with(&boot, beyond, None), Err(Rule::Columns), "boot {beyond}");
        assert_eq!(with(&intent, 1, Some(beyond)), Err(Rule::Columns), "attempt {beyond}");
    }
}

#[test]
fn the_names_of_blobs_are_32_bytes_each_and_one_at_least() {
    let entry = Entry::Boot { body: None };
    let with = |blobs| note(&entry, Some(blobs)).row(Hash::ZERO).map(drop);
    assert_eq!(with(&[7; 32]), Ok(()));
    assert_eq!(with(&[7; 64]), Ok(()));
    assert_eq!(with(&[]), Err(Rule::Columns));
    assert_eq!(with(&[7; 33]), Err(Rule::Columns));
}

#[test]
fn a_body_is_json_of_64_kib_and_no_byte_more() {
    let body = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    assert_eq!(check_body(&body(65_536)), Ok(()));
    assert_eq!(check_body(&body(65_537)), Err(Rule::Body));
    assert_eq!(check_body("{"), Err(Rule::Body));
}
