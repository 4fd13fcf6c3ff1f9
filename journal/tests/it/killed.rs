//! Processes of their own: this test binary, started again as a child that a parent kills.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use runner_journal::{Head, Journal, OpenError, Snapshot};

use crate::{boot, machine, note, open, place};

const PATH: &str = "JOURNAL_CHILD_PATH";

/// The child: appends for as long as it lives, and says each head once it is acknowledged.
#[test]
#[ignore = "a child of the other tests, which start it with a path"]
fn child() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let mut journal = open(Path::new(&path));
    journal.append(0, &[boot()], &[]).unwrap();
    for at_ms in 0..1_000_000 {
        let blob = format!("blob {at_ms}");
        let head = journal
            .append(at_ms, &[note("1"), note("{\"two\":2}")], &[blob.as_bytes()])
            .unwrap();
        println!("head {} {}", head.seq, head.hash);
    }
}

/// Starts a child on a path; the lines in which it says its heads.
fn start(path: &Path) -> (Child, impl Iterator<Item = Head> + use<>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::child", "--ignored", "--nocapture"])
        .env(PATH, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let heads = lines.map_while(Result::ok).filter_map(|line| {
        let mut words = line.split(' ').skip_while(|word| !word.ends_with("head")).skip(1);
        Some(Head {
            seq: words.next()?.parse().ok()?,
            hash: words.next()?.parse().ok()?,
        })
    });
    (child, heads)
}

#[test]
fn a_killed_process_keeps_every_row_that_it_was_told_is_there() {
    let (_directory, path) = place();
    let mut last_boot = 0;
    for round in 1..=8 {
        let (mut child, mut heads) = start(&path);
        let mut acknowledged = heads.nth(round * 7).unwrap();
        child.kill().unwrap();
        // What it still said before it died was acknowledged as well.
        if let Some(head) = heads.last() {
            acknowledged = head;
        }
        child.wait().unwrap();
        let summary = Snapshot::take(&path).unwrap().verify(Some(acknowledged.hash)).unwrap();
        assert_eq!(summary.problems, vec![]);
        assert!(summary.rows >= acknowledged.seq);
        let opened = Journal::open(&path, &machine()).unwrap();
        assert_eq!(opened.journal.head(), summary.head);
        assert_eq!(opened.journal.boot(), last_boot + 1);
        last_boot = opened.journal.boot();
    }
}

#[test]
fn another_process_is_refused_and_told_who_holds_the_journal() {
    let (_directory, path) = place();
    let (mut child, mut heads) = start(&path);
    heads.next().unwrap();
    let error = Journal::open(&path, &machine()).map(drop).unwrap_err();
    assert!(
        matches!(error, OpenError::Locked { pid: Some(pid) } if pid == child.id()),
        "{error}"
    );
    // It goes on, and can be read.
    heads.nth(3).unwrap();
    assert!(Snapshot::take(&path).unwrap().verify(None).unwrap().whole());
    child.kill().unwrap();
    child.wait().unwrap();
    open(&path);
}
