//! A journal of this machine as it was written on the day that it was new: verified, dumped and replayed as then, for ever.
//!
//! `FREEZE_JOURNALS=1 UPDATE_DOCS=1 cargo test --test it actions::frozen` makes one for a new version, and leaves alone what is
//! there; `UPDATE_DOCS=1` alone writes what the commands print.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use runner::actions::machine::{State, VerdictKind};
use runner::actions::record;
use runner::embedded::faults::{Endpoint, Fault, Times};
use runner_journal::{Journal, Snapshot};
use serde_json::json;

use super::Bench;
use crate::harness::{RUNNER, Serving};

/// An answer that was lost, a crash, a listener that is launched again, and a job that fails.
const FROZEN: &str = "v1/failed-job-after-a-crash";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/actions-journals")
        .join(FROZEN)
}

async fn freeze(to: &Path) {
    let bench = Bench::new(&json!([{"exit": 2}, {"job": "exit 1", "keeps": true}])).await;
    bench
        .github
        .inject(Endpoint::RunnerRegister, Fault::DropAfter, Times::Next(1));
    let mut command = bench.command();
    command.env("RUNNER_CRASH_AT", "actions-after-intent-remove");
    Serving::spawn(command).wait().await;
    assert_eq!(bench.once().await.0, Some(0));
    fs::create_dir_all(to).unwrap();
    let bytes = fs::read(bench.path("state/journal.db")).unwrap();
    fs::write(
        to.join("journal.db.zst"),
        zstd::encode_all(bytes.as_slice(), 19).unwrap(),
    )
    .unwrap();
    let head = Snapshot::take(&bench.path("state/journal.db"))
        .unwrap()
        .verify(None)
        .unwrap()
        .head;
    fs::write(to.join("head"), format!("{}\n", head.hash)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_journal_of_a_runner_is_verified_dumped_and_replayed_as_on_the_day_it_was_made() {
    let kept = directory();
    if std::env::var_os("FREEZE_JOURNALS").is_some() && !kept.exists() {
        freeze(&kept).await;
    }
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("journal.db");
    let packed = fs::read(kept.join("journal.db.zst")).unwrap();
    fs::write(&path, zstd::decode_all(packed.as_slice()).unwrap()).unwrap();
    let head = fs::read_to_string(kept.join("head")).unwrap();
    let printed = |arguments: &[&str]| {
        let output = Command::new(RUNNER)
            .arg("journal")
            .args(arguments)
            .arg(&path)
            .env("COLUMNS", "120")
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    printed(&["verify", "--head", head.trim_end()]);
    for (file, arguments) in [
        ("dump.ndjson", &["dump", "--format", "ndjson"][..]),
        ("replay.txt", &["replay"]),
        ("explain.txt", &["explain"]),
    ] {
        let (file, now) = (kept.join(file), printed(arguments));
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&file, &now).unwrap();
        }
        assert_eq!(now, fs::read_to_string(&file).unwrap(), "{}", file.display());
    }
    // And taken up by the machine of today, which finds nothing to do.
    let opened = Journal::open(&path, &record::machine()).unwrap();
    let run = record::replay(&opened.rows).unwrap();
    assert_eq!(run.state, Some(State::Deregistered));
    assert_eq!(run.verdict.unwrap().0.kind, VerdictKind::Completed);
}
