//! A state directory whose disk is full before, while or after the agent works: nothing that was paid for is lost.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

use serde_json::Value;

use crate::harness::{Bench, Outside, Serving, WAITING_AGENT};
use crate::processes::Supervisor;
use crate::small_disk::SmallDisk;

struct Room {
    outside: Outside,
    /// Unmounted before the directory that it is in is removed.
    disk: SmallDisk,
    bench: Bench,
}

impl Room {
    /// None where nobody may mount.
    async fn new(size: &str, agent: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("not run: to mount a small file system takes root");
            return None;
        }
        let outside = Outside::start().await;
        let bench = Bench::new(&outside).with("RUNNER_AGENT_COMMAND", agent);
        let state = bench.path("state");
        DirBuilder::new().recursive(true).mode(0o700).create(&state).unwrap();
        let disk = SmallDisk::at(&state, &format!("size={size},mode=0700"));
        Some(Self { outside, disk, bench })
    }

    /// A start whose agent is at work when the disk fills up.
    async fn full_in_mid_agent(&self) -> Serving {
        let serving = self.bench.start();
        serving.assign(&self.outside.assignment()).await;
        self.bench.agent_is_there(&serving).await;
        self.disk.fill();
        serving
    }

    fn verdict(&self) -> Value {
        assert_eq!(self.outside.counts().verdicts_received.len(), 1);
        self.outside.verdict()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_when_the_agent_ends_has_room_for_the_end_of_the_task() {
    let Some(room) = Room::new("8m", WAITING_AGENT).await else {
        return;
    };
    let mut serving = room.full_in_mid_agent().await;
    room.bench.let_the_agent_go();
    assert_eq!(serving.ended().await.code(), Some(0), "{}", serving.log());
    assert_eq!(room.verdict()["event"], "completed");
    assert_eq!((room.bench.runs(), room.outside.forge.pulls().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_after_a_kill_on_a_full_disk_waits_until_the_supervisor_has_given_the_room_back() {
    let Some(room) = Room::new("8m", WAITING_AGENT).await else {
        return;
    };
    let mut serving = room.full_in_mid_agent().await;
    let supervisor = Supervisor::of(&room.bench);
    supervisor.stop();
    serving.kill().await;
    room.bench.let_the_agent_go();
    let mut next = room.bench.start();
    assert!(next.line_with("the start waits").await.is_some(), "{}", next.log());
    supervisor.goes_on();
    assert_eq!(next.ended().await.code(), Some(0), "{}", next.log());
    assert_eq!(room.verdict()["event"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_full_disk_takes_the_room_that_a_killed_supervisor_had_set_aside() {
    let Some(room) = Room::new("8m", WAITING_AGENT).await else {
        return;
    };
    let mut serving = room.full_in_mid_agent().await;
    Supervisor::of(&room.bench).dies_with(&mut serving).await;
    room.bench.let_the_agent_go();
    assert_eq!(room.bench.until_over(&room.outside).await, 0);
    assert_eq!(room.verdict()["event"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_had_done_when_its_transcript_could_not_be_kept_any_more_is_saved() {
    let agent = "cat > /dev/null; echo run >> \"$HOME/runs\"; echo change >> change.txt; base64 /dev/urandom";
    let Some(room) = Room::new("8m", agent).await else {
        return;
    };
    let (code, log) = room.bench.once(&room.outside).await;
    assert_eq!(code, Some(1), "{log}");
    let verdict = room.verdict();
    let details = &verdict["details"];
    assert_eq!(
        (&details["reason"], &details["outcome"]),
        (&"DiskFull".into(), &"salvaged".into()),
        "{verdict}"
    );
    let message = verdict["message"].as_str().unwrap();
    assert!(
        message.contains("could not be kept") && message.contains("transcript-1"),
        "{message}"
    );
    assert_eq!((room.bench.runs(), room.outside.forge.pulls().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_its_end_no_agent_is_started() {
    let Some(room) = Room::new("4m", WAITING_AGENT).await else {
        return;
    };
    let (code, log) = room.bench.once(&room.outside).await;
    assert_eq!(code, Some(1), "{log}");
    let verdict = room.verdict();
    assert_eq!(verdict["details"]["reason"], "DiskFull", "{verdict}");
    let message = verdict["message"].as_str().unwrap();
    assert!(message.contains("no room for 4194304 bytes"), "{message}");
    assert_eq!(room.bench.runs(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_cannot_be_written_down_is_not_taken_and_with_room_again_it_is_done() {
    let Some(room) = Room::new("8m", "cat > /dev/null; echo change >> change.txt").await else {
        return;
    };
    let mut serving = room.bench.start();
    serving.address().await;
    let filler = room.disk.fill();
    serving.assign(&room.outside.assignment()).await;
    assert_eq!(serving.ended().await.code(), Some(75), "{}", serving.log());
    assert!(serving.log().contains("full"), "{}", serving.log());
    assert_eq!(room.outside.counts().verdicts_received.len(), 0);
    std::fs::remove_file(filler).unwrap();
    assert_eq!(room.bench.until_over(&room.outside).await, 0);
    assert_eq!(room.verdict()["event"], "completed");
}

/// What is set aside is on the state directory's disk. The agent's end is there, so that the journal's can wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_on_a_disk_of_its_own_that_is_full_when_the_agent_ends_is_gone_on_with_once_there_is_room() {
    if !nix::unistd::geteuid().is_root() {
        println!("not run: to mount a small file system takes root");
        return;
    }
    let outside = Outside::start().await;
    let place = tempfile::tempdir().unwrap();
    let disk = SmallDisk::at(place.path(), "size=8m,mode=0700");
    let journal = place.path().join("journal.db");
    let bench = Bench::new(&outside)
        .with("RUNNER_AGENT_COMMAND", WAITING_AGENT)
        .with("RUNNER_JOURNAL", journal.to_str().unwrap());
    let mut serving = bench.start();
    serving.assign(&outside.assignment()).await;
    bench.agent_is_there(&serving).await;
    let filler = disk.fill();
    bench.let_the_agent_go();
    assert_eq!(serving.ended().await.code(), Some(75), "{}", serving.log());
    let (code, log) = bench.once(&outside).await;
    assert!([Some(3), Some(75)].contains(&code), "{code:?}: {log}");
    assert!(log.contains("full"), "{log}");
    std::fs::remove_file(filler).unwrap();
    assert_eq!(bench.until_over(&outside).await, 0);
    assert_eq!(outside.verdict()["event"], "completed");
    assert_eq!((bench.runs(), outside.forge.pulls().len()), (1, 1));
}
