//! Whatever a bit flips or a cut takes away: no row that was not written is ever called good, nothing panics, and each row
//! that is lost is named.

mod blocks;
mod cuts;
mod flips;
mod subject;
mod wal;

use std::fs;

use runner_journal::Snapshot;

use crate::place;

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
