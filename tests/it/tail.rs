//! `runner journal tail --follow`: next to a runner that lives, dies, comes back and ends.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use runner::record;
use runner_journal::{Entry, Journal};
use serde_json::Value;

use crate::frozen::thaw;
use crate::harness::{Bench, NEVER, Outside, RUNNER, Serving, WAITING_AGENT, until};
use crate::journal_cli::{bare, contents, journal, text};

/// `runner journal tail --follow …`, with a place of its own for what is temporary.
fn tail(temporary: &Path, arguments: &[&str]) -> Command {
    let mut command = bare(Path::new(RUNNER));
    command
        .args(["journal", "tail", "--follow"])
        .args(arguments)
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The rows that were printed, among what else was said.
fn rows(log: &str) -> Vec<Value> {
    let lines = log.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn printed(tail: &Serving, number: usize) -> impl Fn() -> bool {
    let log = tail.follow_log();
    move || rows(&log.borrow()).len() >= number
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_is_followed_from_before_it_is_there_over_a_death_and_a_restart_to_its_end() {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside).with("RUNNER_AGENT_COMMAND", WAITING_AGENT);
    let temporary = tempfile::tempdir().unwrap();
    let path = bench.journal();
    let mut tail = Serving::spawn(tail(
        temporary.path(),
        &["-n", "1000", "--wait", "1h", "--format", "ndjson", text(&path)],
    ));
    assert!(
        tail.line_with("which is not there yet").await.is_some(),
        "{}",
        tail.log()
    );

    let mut first = bench.start();
    first.assign(&outside.assignment()).await;
    bench.agent_is_there(&first).await;
    let before = bench.dump().len();
    until("the rows of the living", &tail, printed(&tail, before)).await;
    first.kill().await;
    let mut second = bench.start();
    second.assign(&outside.assignment()).await;
    bench.let_the_agent_go();
    assert_eq!(second.wait().await.code(), Some(0), "{}", second.log());

    assert_eq!(tail.wait().await.code(), Some(0), "{}", tail.log());
    let log = tail.whole_log().await;
    assert_eq!(rows(&log), bench.dump(), "each row once, in order");
    assert!(log.contains("the task is over: nothing more comes"), "{log}");
    assert_eq!(contents(temporary.path()).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_takes_no_lock_so_a_runner_starts_whenever_it_likes() {
    let (_room, path) = thaw("v1/died-at-work");
    let temporary = tempfile::tempdir().unwrap();
    let mut tail = Serving::spawn(tail(
        temporary.path(),
        &["-n", "1", "--wait", "1h", "--format", "ndjson", text(&path)],
    ));
    until("the last row", &tail, printed(&tail, 1)).await;
    for round in 2..20 {
        let mut journal = Journal::open(&path, &record::machine()).unwrap().journal;
        journal.append(round, &[Entry::Boot { body: None }], &[]).unwrap();
        // Which moves the log into the database, and begins it anew.
        journal.close().unwrap();
    }
    until("all of them", &tail, printed(&tail, 19)).await;
    let seqs: Vec<u64> = rows(&tail.log())
        .iter()
        .map(|row| row["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (16..=34).collect::<Vec<_>>());
    tail.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_journal_in_its_place_is_begun_anew_and_it_is_said() {
    let (_room, path) = thaw("v1/died-at-work");
    let (_other, other) = thaw("v1/completed");
    let temporary = tempfile::tempdir().unwrap();
    let mut tail = Serving::spawn(tail(
        temporary.path(),
        &["-n", "2", "--wait", "1h", "--format", "ndjson", text(&path)],
    ));
    until("the last rows", &tail, printed(&tail, 2)).await;
    std::fs::remove_file(path.with_file_name("journal.db-wal")).unwrap();
    std::fs::rename(&other, &path).unwrap();
    assert_eq!(tail.wait().await.code(), Some(0), "{}", tail.log());
    let log = tail.whole_log().await;
    assert!(log.contains("is another journal now"), "{log}");
    let seqs: Vec<u64> = rows(&log).iter().map(|row| row["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [15, 16, 30, 31], "{log}");
}

#[test]
fn where_no_runner_comes_it_ends_and_says_so() {
    let (_room, path) = thaw("v1/died-at-work");
    let said = journal(&["tail", "--follow", "--wait", "0s", text(&path)]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stderr.contains("no runner that can be seen from here"),
        "{}",
        said.stderr
    );
    assert!(said.stdout.contains("agent #1"), "{}", said.stdout);
    // Without --follow nothing is waited for, and nothing is said.
    let said = journal(&["tail", "-n", "1", text(&path)]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_ctrl_c_and_when_it_is_ended_it_ends_well_and_leaves_nothing_behind() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (_room, path) = thaw("v1/died-at-work");
        let temporary = tempfile::tempdir().unwrap();
        let mut tail = Serving::spawn(tail(
            temporary.path(),
            &["-n", "3", "--wait", "1h", "--format", "ndjson", text(&path)],
        ));
        until("the last rows", &tail, printed(&tail, 3)).await;
        tail.signal(signal);
        assert_eq!(tail.wait().await.code(), Some(0), "{signal}: {}", tail.log());
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "{signal}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_although_nothing_comes() {
    let (_room, path) = thaw("v1/died-at-work");
    let temporary = tempfile::tempdir().unwrap();
    let mut child = tail(temporary.path(), &["--wait", "1h", text(&path)]).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("what"), "{line}");
    drop(reader);
    let begun = std::time::Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > NEVER {
            child.kill().unwrap();
            panic!("it waits for ever");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
