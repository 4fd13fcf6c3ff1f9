//! A disk that fails under the real binary: each write and each sync of its journal in a whole task, one a run. It says
//! so, does nothing more, and the next start is whole.

pub(crate) mod strace;

use std::collections::BTreeSet;
use std::sync::Arc;

use runner::embedded::faults::Endpoint;
use strace::{Change, Errno};
use tokio::sync::Semaphore;

use crate::harness::{AGENT, Bench, Outside, whole};
use crate::sweep::{Expected, ended};

/// Where in a runner's life a call on its journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The journal is made.
    Opening,
    /// The start is written down.
    Boot,
    /// The assignment is.
    Assignment,
    /// The task, and the clean end.
    Task,
}

/// The calls of a start on an empty directory, each with its phase. The log is there from the first row on, and a
/// transaction ends with its sync; the first has two, because the log's header is new.
fn by_phase(changes: Vec<Change>) -> Vec<(Phase, Change)> {
    let mut syncs = 0;
    let mut begun = false;
    let mut phases = Vec::new();
    for change in changes {
        begun |= change.file == "journal.db-wal" && change.call == "pwrite64";
        let phase = match syncs {
            _ if !begun => Phase::Opening,
            0 | 1 => Phase::Boot,
            2 => Phase::Assignment,
            _ => Phase::Task,
        };
        syncs += usize::from(change.file == "journal.db-wal" && change.is_sync());
        // Once the journal is there, other things are made in the same directory.
        if phase == Phase::Opening || !change.file.is_empty() {
            phases.push((phase, change));
        }
    }
    phases
}

/// With every effect that there is.
pub(crate) fn bench(outside: &Outside) -> Bench {
    Bench::new(outside)
        .with("RUNNER_SETUP_COMMAND", "touch ../tmp/set-up")
        .with("RUNNER_AGENT_COMMAND", AGENT)
        .with(
            "RUNNER_CHECK_COMMAND",
            "touch ../tmp/checked && grep -q change change.txt",
        )
}

/// Each error at each call where the proof is whole; else EIO at each sync, ENOSPC where directories are made, since a full disk
/// is looked at twice there, and at every fifth other call the next error.
fn chosen(calls: Vec<(Phase, Change)>) -> Vec<(Phase, Change, Errno)> {
    // Those alone that begin so, to look into them: DISK_PLACE=journal.db-wal:fsync:7 cargo test --test it disk
    let only = std::env::var("DISK_PLACE").ok();
    let mut chosen = Vec::new();
    let mut others = 0;
    for (phase, change) in calls {
        let errors: Vec<Errno> = if let Some(only) = &only {
            Errno::all().filter(|_| change.to_string().starts_with(only)).collect()
        } else if whole() {
            Errno::all().collect()
        } else if change.is_sync() {
            vec![Errno::Eio]
        } else if change.file.is_empty() {
            vec![Errno::Enospc]
        } else {
            others += 1;
            Errno::all()
                .cycle()
                .skip(others / 5)
                .take(usize::from(others % 5 == 0))
                .collect()
        };
        chosen.extend(errors.into_iter().map(|errno| (phase, change.clone(), errno)));
    }
    assert!(!chosen.is_empty(), "{only:?} is no call");
    chosen
}

/// The calls of a whole task without a fault.
pub(crate) async fn calls_of_a_task(bench: impl Fn(&Outside) -> Bench) -> Vec<(Phase, Change)> {
    let outside = Outside::start().await;
    let bench = bench(&outside);
    let mut serving = strace::watched(&bench);
    serving.assign(&outside.assignment()).await;
    let status = serving.wait().await;
    assert_eq!(status.code(), Some(0), "{}", serving.log());
    by_phase(strace::changes(&bench))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_ends_the_process_before_anything_else_is_done_and_the_next_start_is_whole() {
    let calls = calls_of_a_task(bench).await;
    let count = |phase| calls.iter().filter(|(of, _)| *of == phase).count();
    let all = [Phase::Opening, Phase::Boot, Phase::Assignment, Phase::Task].map(count);
    assert!(all.iter().all(|count| *count > 0), "{all:?}");
    let cases = chosen(calls);
    let (runs, syncs) = (
        cases.len(),
        cases.iter().filter(|(_, change, _)| change.is_sync()).count(),
    );
    // As many as there are cores would do; the runners mostly wait.
    let room = Arc::new(Semaphore::new(4));
    let mut under_way = tokio::task::JoinSet::new();
    for (phase, change, errno) in cases {
        let room = Arc::clone(&room);
        under_way.spawn(async move {
            let _permit = room.acquire_owned().await.unwrap();
            fails_at(phase, &change, errno).await;
        });
    }
    let mut broken = Vec::new();
    while let Some(done) = under_way.join_next().await {
        broken.extend(done.err().map(|error| error.to_string()));
    }
    assert!(broken.is_empty(), "{} of {runs}:\n{}", broken.len(), broken.join("\n"));
    println!(
        "proof: failing disks: {} calls in a task, {runs} runs with a failed call, {syncs} failed syncs",
        all.iter().sum::<usize>()
    );
}

async fn fails_at(phase: Phase, change: &Change, errno: Errno) {
    let outside = Outside::start().await;
    let bench = bench(&outside);
    let place = format!("{change} {errno}");
    let mut serving = strace::failing(&bench, change, errno);
    let answer = serving.assign(&outside.assignment()).await;
    let code = serving.wait().await.code();
    let log = serving.whole_log().await;
    let after = strace::from_the_fault_on(&bench);
    assert!(!after.is_empty(), "{place} was not reached: {log}");
    let expected = match phase {
        // A directory that cannot be made is a setting to be changed; the journal makes sure of it once more.
        Phase::Opening if change.is_first("mkdir") => (Some(2), None),
        Phase::Opening => (Some(3), None),
        Phase::Boot => (Some(75), None),
        Phase::Assignment => (Some(75), Some(503)),
        Phase::Task => (Some(75), Some(200)),
    };
    assert_eq!((code, answer), expected, "{place}: {log}");
    // What opening made it may take away again.
    if phase != Phase::Opening {
        let more: Vec<_> = after[1..]
            .iter()
            .filter(|line| strace::parsed(line, &bench.path("state")).is_some())
            .collect();
        assert_eq!(more, Vec::<&String>::new(), "{place}: it went on writing");
    }
    let acknowledged = acknowledged(&log);
    let written = match phase {
        Phase::Opening | Phase::Boot => Vec::new(),
        Phase::Assignment | Phase::Task => bench.rows("intent", None),
    };
    for effect in seen(&outside, &bench) {
        let intended = acknowledged.contains(effect) && written.iter().any(|row| row["effect"] == effect);
        assert!(intended, "{place}: {effect} was begun without its intent: {log}");
    }
    if phase == Phase::Opening {
        let next = bench.start();
        assert!(
            next.address().await.is_some(),
            "{place}: the next start: {}",
            next.log()
        );
        return;
    }
    let code = bench.until_over(&outside).await;
    assert_eq!(code, 0, "{place}: the next start: {:?}", bench.once(&outside).await);
    ended(&outside, &bench, Expected::Completed, code, &place).await;
}

/// The effects whose intents are acknowledged, as the log has them: it speaks of rows on disk alone.
fn acknowledged(log: &str) -> BTreeSet<String> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|line| Some(line["message"].as_str()?.to_owned()))
        .collect()
}

/// The effects that left a trace outside of the journal.
fn seen(outside: &Outside, bench: &Bench) -> Vec<&'static str> {
    let asked = |endpoint| !outside.api.calls(endpoint).is_empty();
    let git = outside.git.counts();
    [
        ("start", asked(Endpoint::Started)),
        ("data", asked(Endpoint::Data)),
        ("token", asked(Endpoint::Token)),
        ("clone", git.lists + git.fetches > 0),
        ("setup", bench.path("workspace/tmp/set-up").exists()),
        ("agent", bench.runs() > 0),
        ("check", bench.path("workspace/tmp/checked").exists()),
        ("push", git.pushes > 0),
        ("pull_request", !outside.forge.calls(Endpoint::PullList).is_empty()),
        ("report", asked(Endpoint::Verdict)),
    ]
    .into_iter()
    .filter_map(|(effect, seen)| seen.then_some(effect))
    .collect()
}

/// SQLite syncs the name of its log with the first row, and goes on where that fails: so it is not left to it.
#[tokio::test(flavor = "multi_thread")]
async fn the_names_of_a_new_journals_files_are_on_disk_before_its_first_row() {
    let calls = calls_of_a_task(bench).await;
    let opening: Vec<_> = calls.iter().filter(|(phase, _)| *phase == Phase::Opening).collect();
    let last = |call: &str, file: &str| {
        opening
            .iter()
            .rposition(|(_, c)| c.call == call && c.file == file)
            .unwrap()
    };
    let synced = last("fsync", "");
    assert!(synced > last("rename", "journal.db.new"), "{opening:?}");
    assert!(synced > last("openat", "journal.db-wal"), "{opening:?}");
}
