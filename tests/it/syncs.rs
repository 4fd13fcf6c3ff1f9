//! The sync gate: how often a whole task syncs its journal. On a slow disk that is its cost, and no machine changes the count.

use crate::disk::{Phase, calls_of_a_task};
use crate::harness::{Bench, Outside};

/// So many at most. The goal is 20.
const MOST: usize = 22;

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_task_syncs_its_journal_at_most_22_times() {
    let bare = syncs(Bench::new).await;
    let full = syncs(crate::disk::bench).await;
    // Each of its two further effects is one transaction more: its outcome goes with the next one's intent.
    assert_eq!(full, bare + 2, "set-up and check");
    assert!(full <= MOST, "{full} syncs");
    println!("proof: syncs: {bare} from the assignment to the end, {full} with a set-up and a check");
}

async fn syncs(bench: impl Fn(&Outside) -> Bench) -> usize {
    let calls = calls_of_a_task(bench).await;
    let counts = calls.iter().filter(|(phase, change)| {
        matches!(phase, Phase::Assignment | Phase::Task) && change.is_sync() && change.file.starts_with("journal.db")
    });
    counts.count()
}
