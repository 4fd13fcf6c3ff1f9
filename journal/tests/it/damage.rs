//! Whatever a bit flips or a cut takes away: no row that was not written is ever called good, and nothing panics.

use std::fs;
use std::path::Path;

use runner_journal::{Journal, Row, Snapshot};

use crate::{lived, machine, place};

/// Every 64th byte and each file's headers; every byte where a nightly run asks for it.
fn places(length: usize) -> impl Iterator<Item = usize> {
    let every = std::env::var_os("JOURNAL_FLIP_EVERY_BYTE").is_some();
    (0..length).filter(move |at| every || *at < 128 || at % 64 == 17)
}

/// Reads what is there and holds it against what was written. Gives back how many rows were called good.
fn read_against(path: &Path, written: &[Row], what: &str) -> u64 {
    let Ok(snapshot) = Snapshot::take(path) else {
        return 0;
    };
    let mut good = 0;
    let each = |row: &Row| {
        let index = usize::try_from(row.seq).unwrap() - 1;
        assert_eq!(Some(row), written.get(index), "{what}");
        good += 1;
    };
    let read = snapshot.read(each).unwrap();
    let head = written.last().unwrap().hash;
    let summary = snapshot.verify(Some(head)).unwrap();
    assert_eq!((read.rows, summary.rows), (good, good), "{what}");
    if usize::try_from(good).unwrap() < written.len() {
        assert!(!summary.whole(), "{what}: rows are missing and nothing was said");
    }
    good
}

/// Opens it as a runner would: all rows that were written, or a refusal. Never fewer without a word,
/// unless they are the end of the log, which a torn write would look like.
fn open_against(path: &Path, written: &[Row], what: &str) {
    if let Ok(opened) = Journal::open(path, &machine()) {
        assert_eq!(opened.rows, written[..opened.rows.len()], "{what}");
    }
}

fn flips(clean: bool, damaged: &str) {
    let (directory, path) = place();
    let journal = lived(&path);
    if clean {
        journal.close().unwrap();
    } else {
        drop(journal);
    }
    let mut written = Vec::new();
    Snapshot::take(&path)
        .unwrap()
        .read(|row| written.push(row.clone()))
        .unwrap();
    assert_eq!(written.len(), 15);

    let copy = directory.path().join("copy").join("journal.db");
    let restore = || {
        let _ = fs::remove_dir_all(copy.parent().unwrap());
        fs::create_dir(copy.parent().unwrap()).unwrap();
        for name in ["journal.db", "journal.db-wal"] {
            let from = path.with_file_name(name);
            if from.exists() {
                fs::copy(from, copy.with_file_name(name)).unwrap();
            }
        }
    };
    let target = copy.with_file_name(damaged);
    restore();
    let bytes = fs::read(&target).unwrap();
    let mut some_good = 0;
    for at in places(bytes.len()) {
        restore();
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&target, &flipped).unwrap();
        let what = format!("{damaged}, byte {at} of {}", bytes.len());
        some_good += u64::from(read_against(&copy, &written, &what) > 0);
        if at % 3 == 0 {
            open_against(&copy, &written, &what);
        }
    }
    assert!(some_good > 0);
    for cut in (0..bytes.len()).step_by(509) {
        restore();
        fs::write(&target, &bytes[..cut]).unwrap();
        let what = format!("{damaged}, cut at {cut} of {}", bytes.len());
        read_against(&copy, &written, &what);
        open_against(&copy, &written, &what);
    }
}

#[test]
fn a_flipped_byte_or_a_cut_in_the_database_never_makes_a_wrong_row_good() {
    flips(true, "journal.db");
}

#[test]
fn a_flipped_byte_or_a_cut_in_the_log_never_makes_a_wrong_row_good() {
    flips(false, "journal.db-wal");
}

#[test]
fn a_torn_page_leaves_the_rows_before_it() {
    let (_directory, path) = place();
    let mut journal = crate::open(&path);
    journal.append(0, &[crate::boot()], &[]).unwrap();
    let body = format!("\"{}\"", "x".repeat(900));
    for at_ms in 0..200 {
        journal.append(at_ms, &[crate::note(&body)], &[]).unwrap();
    }
    journal.close().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0);
    fs::write(&path, bytes).unwrap();
    let mut seqs = Vec::new();
    let summary = Snapshot::take(&path).unwrap().read(|row| seqs.push(row.seq)).unwrap();
    assert!(seqs.len() > 50, "{}", seqs.len());
    assert_eq!(seqs, (1..=summary.rows).collect::<Vec<_>>());
    let said = summary.problems[0].to_string();
    assert!(
        said.contains(&format!("row {}", summary.rows + 1)) || said.contains(&format!("rows {}", summary.rows + 1)),
        "{said}"
    );
}
