use runner_journal::{AppendError, Entry, Finding, Hash, Journal, Rule, Snapshot};

use crate::{boot, enter, intent, lived, machine, note, open, outcome, place, probe, verdict};

#[test]
fn what_was_appended_is_there_after_a_clean_end_and_after_none() {
    for clean in [true, false] {
        let (_directory, path) = place();
        let journal = lived(&path);
        let head = journal.head();
        assert_eq!((head.seq, journal.boot()), (15, 2));
        if clean {
            journal.close().unwrap();
            assert!(!path.with_file_name("journal.db-wal").exists());
        } else {
            drop(journal);
        }
        let opened = Journal::open(&path, &machine()).unwrap();
        assert_eq!(opened.journal.head(), head);
        assert_eq!(opened.journal.boot(), 2);
        let said: Vec<_> = opened.rows.iter().map(|row| row.entry.clone()).collect();
        assert_eq!(said, crate::life().concat());
        let times: Vec<_> = opened.rows.iter().map(|row| row.at_ms).collect();
        assert_eq!(times[..4], [1_000, 1_000, 1_001, 1_002]);
        assert_eq!(opened.rows[0].prev, Hash::ZERO);
        assert!(opened.rows.windows(2).all(|rows| rows[0].hash == rows[1].prev));
        let blob = opened.journal.blob(&Hash::of(b"a larger payload")).unwrap();
        assert_eq!(blob.as_deref(), Some(&b"a larger payload"[..]));
        assert_eq!(opened.journal.blob(&Hash::of(b"another")).unwrap(), None);
    }
}

#[test]
fn a_refused_append_writes_nothing_and_the_next_one_is_taken() {
    let (_directory, path) = place();
    let mut journal = open(&path);
    let head = journal.append(1, &[boot(), enter("", "A")], &[]).unwrap();
    let refused = journal.append(2, &[note("1"), intent("x", 1), enter("A", "C")], &[b"blob"]);
    assert!(matches!(
        refused,
        Err(AppendError::Refused {
            index: 2,
            rule: Rule::Edge
        })
    ));
    assert_eq!(journal.head(), head);
    assert_eq!(journal.blob(&Hash::of(b"blob")).unwrap(), None);
    assert!(matches!(journal.append(2, &[], &[b"blob"]), Err(AppendError::NoEntry)));
    journal.append(2, &[intent("x", 1)], &[b"blob"]).unwrap();
    journal.close().unwrap();
    assert_eq!(Snapshot::take(&path).unwrap().verify(None).unwrap().rows, 3);
}

#[test]
fn every_rule_is_refused_by_its_name() {
    let start = [boot(), enter("", "A")];
    let done = Finding::Done;
    let long = format!("\"{}\"", "x".repeat(64 * 1024 - 1));
    let keyless = Entry::Intent {
        effect: "x".into(),
        attempt: 1,
        key: String::new(),
        body: None,
    };
    let cases: &[(&[Entry], Rule)] = &[
        (&[enter("A", "C")], Rule::Edge),
        (&[enter("B", "C")], Rule::LeavesLastState),
        (&[enter("", "A")], Rule::LeavesLastState),
        (&[intent("x", 1), intent("y", 1)], Rule::OneOpenIntent),
        (
            &[intent("x", 1), probe("x", 1, done), intent("x", 2)],
            Rule::OneOpenIntent,
        ),
        (
            &[intent("x", 2), outcome("x", 2, done), intent("x", 2)],
            Rule::AttemptRises,
        ),
        (
            &[intent("x", 2), outcome("x", 2, done), intent("x", 1)],
            Rule::AttemptRises,
        ),
        (&[outcome("x", 1, done)], Rule::HasOpenIntent),
        (&[intent("x", 1), outcome("x", 2, done)], Rule::HasOpenIntent),
        (&[intent("x", 1), outcome("y", 1, done)], Rule::HasOpenIntent),
        (
            &[intent("x", 1), outcome("x", 1, done), outcome("x", 1, done)],
            Rule::HasOpenIntent,
        ),
        (
            &[intent("x", 1), probe("x", 1, Finding::NotDone), outcome("x", 1, done)],
            Rule::HasOpenIntent,
        ),
        (
            &[intent("x", 1), probe("x", 1, Finding::Unknown), probe("x", 1, done)],
            Rule::HasOpenIntent,
        ),
        (&[verdict(), verdict()], Rule::OneVerdict),
        (&[Entry::Ack { body: None }], Rule::AckHasVerdict),
        (
            &[verdict(), Entry::Ack { body: None }, Entry::Ack { body: None }],
            Rule::OneAck,
        ),
        (&[note("not json")], Rule::Body),
        (&[note("{}\0")], Rule::Body),
        (&[note("")], Rule::Body),
        (&[note(&long)], Rule::Body),
        (&[intent("", 1)], Rule::Columns),
        (&[intent("x", 0)], Rule::Columns),
        (&[keyless], Rule::Columns),
    ];
    for (entries, rule) in cases {
        let (_directory, path) = place();
        let mut journal = open(&path);
        journal.append(1, &start, &[]).unwrap();
        let (last, before) = entries.split_last().unwrap();
        if !before.is_empty() {
            journal.append(2, before, &[]).unwrap();
        }
        let refused = journal.append(3, std::slice::from_ref(last), &[]);
        assert!(
            matches!(refused, Err(AppendError::Refused { index: 0, rule: found }) if found == *rule),
            "{entries:?}: {refused:?}, not {rule:?}"
        );
    }
}

#[test]
fn a_journal_begins_with_a_boot() {
    let (_directory, path) = place();
    let mut journal = open(&path);
    let refused = journal.append(1, &[enter("", "A")], &[]);
    assert!(matches!(
        refused,
        Err(AppendError::Refused {
            rule: Rule::BootNumber | Rule::Columns,
            ..
        })
    ));
    assert_eq!(journal.boot(), 0);
    journal.append(1, &[boot()], &[]).unwrap();
    assert_eq!(journal.boot(), 1);
    journal.append(1, &[note("1")], &[]).unwrap();
    journal.append(1, &[boot()], &[]).unwrap();
    assert_eq!(journal.boot(), 2);
}

#[test]
fn a_probe_that_found_the_effect_goes_with_its_outcome() {
    let (_directory, path) = place();
    let mut journal = open(&path);
    journal
        .append(1, &[boot(), enter("", "A"), intent("x", 1)], &[])
        .unwrap();
    let found = [
        probe("x", 1, Finding::Done),
        outcome("x", 1, Finding::Done),
        enter("A", "B"),
    ];
    journal.append(2, &found, &[]).unwrap();
    journal.append(3, &[intent("x", 2)], &[]).unwrap();
}

#[test]
fn a_clock_that_goes_backwards_is_written_as_it_is() {
    let (_directory, path) = place();
    let mut journal = open(&path);
    for at_ms in [i64::MAX, 0, -1, i64::MIN] {
        journal.append(at_ms, &[boot()], &[]).unwrap();
    }
    journal.close().unwrap();
    let rows = Journal::open(&path, &machine()).unwrap().rows;
    assert_eq!(
        rows.iter().map(|row| row.at_ms).collect::<Vec<_>>(),
        [i64::MAX, 0, -1, i64::MIN]
    );
}

#[test]
fn the_same_blob_is_kept_once() {
    let (_directory, path) = place();
    let mut journal = open(&path);
    journal.append(1, &[boot()], &[b"same", b"same", b""]).unwrap();
    journal.append(2, &[note("1")], &[b"same"]).unwrap();
    assert_eq!(journal.blob(&Hash::of(b"")).unwrap().as_deref(), Some(&b""[..]));
    journal.close().unwrap();
    let database = rusqlite::Connection::open(&path).unwrap();
    let blobs: i64 = database
        .query_row("SELECT count(*) FROM blob", [], |row| row.get(0))
        .unwrap();
    assert_eq!(blobs, 2);
    drop(database);
    assert!(Snapshot::take(&path).unwrap().verify(None).unwrap().whole());
}

mod roundtrip {
    use proptest::prelude::*;
    use runner_journal::{Entry, Finding, Journal, Snapshot};

    use crate::place;

    fn finding() -> impl Strategy<Value = Finding> {
        prop_oneof![Just(Finding::Done), Just(Finding::NotDone), Just(Finding::Unknown)]
    }

    fn body() -> impl Strategy<Value = Option<String>> {
        proptest::option::of(".{0,40}".prop_map(|text| serde_json::to_string(&text).unwrap()))
    }

    fn name() -> impl Strategy<Value = String> {
        // Any text that is not empty is a name; a NUL in it too.
        prop_oneof!["[a-c]", ".{1,5}", Just("\0".to_owned())]
    }

    /// Anything that has the shape of a row; most of it is illegal where it comes.
    fn entry() -> impl Strategy<Value = Entry> {
        prop_oneof![
            body().prop_map(|body| Entry::Boot { body }),
            ("(A|B|C|)", "(A|B|C|End)", body()).prop_map(|(src, dst, body)| Entry::Enter { src, dst, body }),
            (name(), 1..5u32, name(), body()).prop_map(|(effect, attempt, key, body)| Entry::Intent {
                effect,
                attempt,
                key,
                body
            }),
            ("[a-c]", 1..5u32, finding(), body()).prop_map(|(effect, attempt, finding, body)| Entry::Probe {
                effect,
                attempt,
                finding,
                body
            }),
            ("[a-c]", 1..5u32, finding(), body()).prop_map(|(effect, attempt, finding, body)| Entry::Outcome {
                effect,
                attempt,
                finding,
                body
            }),
            (name(), body()).prop_map(|(key, body)| Entry::Verdict {
                key,
                body: body.unwrap_or("null".into())
            }),
            body().prop_map(|body| Entry::Ack { body }),
            body().prop_map(|body| Entry::Note {
                body: body.unwrap_or("null".into())
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// What the database accepts is exactly what a reader calls legal, and comes back as it was.
        #[test]
        fn accepted_rows_read_back_as_they_were(entries in proptest::collection::vec((any::<i64>(), entry()), 1..60)) {
            let (_directory, path) = place();
            let mut journal = crate::open(&path);
            let mut accepted = Vec::new();
            journal.append(0, &[crate::boot()], &[]).unwrap();
            accepted.push((0, crate::boot()));
            for (at_ms, entry) in entries {
                if journal.append(at_ms, std::slice::from_ref(&entry), &[]).is_ok() {
                    accepted.push((at_ms, entry));
                }
            }
            let head = journal.head();
            drop(journal);
            let mut read = Vec::new();
            let snapshot = Snapshot::take(&path).unwrap();
            let summary = snapshot.read(|row| read.push((row.at_ms, row.entry.clone()))).unwrap();
            prop_assert!(summary.whole(), "{:?}", summary.problems);
            prop_assert_eq!(summary.head, head);
            prop_assert_eq!(&read, &accepted);
            let opened = Journal::open(&path, &crate::machine()).unwrap();
            prop_assert_eq!(opened.rows.len(), accepted.len());
        }
    }
}
