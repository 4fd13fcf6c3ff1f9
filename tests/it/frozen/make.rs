//! Makes the frozen journals of the schema version that this program writes: once, when the version is new.

use std::fs;
use std::path::Path;

use runner::crash::{CrashPoint, Inside, Side};
use runner::embedded::faults::{Endpoint, Fault, Times};
use runner::machine::EffectName;
use runner_journal::{Entry, Finding, Journal, Machine, SCHEMA};

use super::frozen_journals;
use crate::harness::{AGENT, Bench, Outside, WAITING_AGENT};

/// Makes what is not there yet, and leaves alone what is.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "only a new schema version needs it: FREEZE_JOURNALS=1 cargo test --test it freeze -- --ignored"]
async fn freeze() {
    if std::env::var_os("FREEZE_JOURNALS").is_none() {
        return;
    }
    one_by_one(&[("completed", &[])], &[]).await;
    one_by_one(
        &[(
            "completed-after-two-crashes",
            &[
                ("RUNNER_SETUP_COMMAND", "touch ../tmp/set-up"),
                ("RUNNER_CHECK_COMMAND", "test -e ../tmp/set-up"),
            ],
        )],
        &[
            CrashPoint::Inside(Inside::CloneFetched),
            CrashPoint::Outcome(Side::Before, EffectName::Push),
        ],
    )
    .await;
    let endless = format!("{AGENT}; exec sleep 600");
    one_by_one(
        &[
            (
                "salvaged-after-a-time-out",
                &[("RUNNER_AGENT_COMMAND", &endless), ("RUNNER_AGENT_TIMEOUT", "2s")],
            ),
            ("red-check", &[("RUNNER_CHECK_COMMAND", "exit 1")]),
        ],
        &[],
    )
    .await;
    one_by_one(
        &[("token-ambiguous", &[])],
        &[CrashPoint::Inside(Inside::TokenReceived)],
    )
    .await;
    superseded().await;
    died_at_work().await;
    of_another_machine();
}

/// What a task is called, and the settings of its runner.
type Named<'a> = (&'a str, &'a [(&'a str, &'a str)]);

/// Tasks whose first starts die at these places, one start each, and which are gone on with until they are over.
async fn one_by_one(tasks: &[Named<'_>], places: &[CrashPoint]) {
    for (name, settings) in tasks {
        let outside = Outside::start().await;
        let bench = settings
            .iter()
            .fold(Bench::new(&outside), |bench, (name, value)| bench.with(name, value));
        for place in places {
            let mut dying = bench.start_to_crash_at(&place.to_string());
            dying.assign(&outside.assignment()).await;
            assert_eq!(dying.wait().await.code(), None, "{place}: {}", dying.log());
        }
        bench.until_over(&outside).await;
        keep(name, &bench.path("state"));
    }
}

async fn superseded() {
    let outside = Outside::start().await;
    let gone = Fault::Answer {
        status: 410,
        error: "task is already terminal".to_owned(),
        retry_after: None,
    };
    outside.faults.inject(Endpoint::Data, gone, Times::Next(1));
    let bench = Bench::new(&outside);
    bench.until_over(&outside).await;
    keep("superseded", &bench.path("state"));
}

/// Killed while the agent is at work: every row is in the log alone.
async fn died_at_work() {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside).with("RUNNER_AGENT_COMMAND", WAITING_AGENT);
    let mut serving = bench.start();
    serving.assign(&outside.assignment()).await;
    bench.agent_is_there(&serving).await;
    serving.kill().await;
    keep("died-at-work", &bench.path("state"));
    bench.let_the_agent_go();
}

/// Every kind of row, every finding and blobs, by the crate alone: nothing of it is the runner's.
fn of_another_machine() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    let machine = Machine::new("door", [("", "Shut"), ("Shut", "Ajar"), ("Ajar", "Open")]);
    let mut journal = Journal::open(&path, &machine).unwrap().journal;
    let enter = |src: &str, dst: &str| Entry::Enter {
        src: src.into(),
        dst: dst.into(),
        body: Some("\"ä\\u0000\"".into()),
    };
    let intent = |attempt| Entry::Intent {
        effect: "push".into(),
        attempt,
        key: "door/push/1".into(),
        body: None,
    };
    let probe = |attempt, finding| Entry::Probe {
        effect: "push".into(),
        attempt,
        finding,
        body: None,
    };
    let outcome = |attempt, finding| Entry::Outcome {
        effect: "push".into(),
        attempt,
        finding,
        body: Some("[]".into()),
    };
    let boot = || Entry::Boot { body: None };
    let note = || Entry::Note { body: "null".into() };
    let blobs: [&[u8]; 2] = [&[0; 5_000], b"a payload"];
    // The clock jumps back, and to before 1970.
    for (at_ms, entries, blobs) in [
        (1_700_000_000_000, vec![boot(), enter("", "Shut")], &blobs[..]),
        (1_700_000_000_900, vec![intent(1)], &[]),
        (1_600_000_000_000, vec![boot(), probe(1, Finding::NotDone), note()], &[]),
        (-5, vec![intent(2)], &[]),
        (0, vec![probe(2, Finding::Unknown)], &[]),
        (1, vec![intent(7)], &[]),
        (2, vec![outcome(7, Finding::NotDone)], &blobs[1..]),
        (3, vec![intent(8)], &[]),
        (
            4,
            vec![
                boot(),
                probe(8, Finding::Done),
                outcome(8, Finding::Done),
                enter("Shut", "Ajar"),
            ],
            &[],
        ),
        (5, vec![intent(9)], &[]),
        (6, vec![outcome(9, Finding::Unknown)], &[]),
        (
            7,
            vec![Entry::Verdict {
                key: "door/report/1".into(),
                body: "{\"said\":true}".into(),
            }],
            &[],
        ),
        (8, vec![Entry::Ack { body: None }, note()], &[]),
    ] {
        journal.append(at_ms, &entries, blobs).unwrap();
    }
    drop(journal);
    keep("another-machine", dir.path());
}

/// Keeps the journal in a state directory, compressed, with its log where there is one.
fn keep(name: &str, state: &Path) {
    let dir = frozen_journals().join(format!("v{SCHEMA}")).join(name);
    // What is frozen stays: its making is not part of it.
    if dir.exists() {
        return;
    }
    fs::create_dir_all(&dir).unwrap();
    for file in ["journal.db", "journal.db-wal"] {
        let Ok(bytes) = fs::read(state.join(file)) else {
            continue;
        };
        let packed = zstd::encode_all(bytes.as_slice(), 19).unwrap();
        fs::write(dir.join(format!("{file}.zst")), packed).unwrap();
    }
}
