//! `runner journal replay`: whole, illegal, damaged, foreign, of the dead.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use runner::record;
use runner_journal::{Entry, Journal};
use serde_json::{Value, json};

use crate::frozen::thaw;
use crate::harness::{RUNNER, as_somebody, copy_of_the_program};
use crate::journal_cli::{bare, contents, journal, run, text};

fn objects(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_row_of_a_whole_run_is_printed_with_the_transition_that_it_makes() {
    let (_dir, path) = thaw("v1/completed");
    let said = journal(&["replay", text(&path)]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines[0], format!(" row  boot  {:<36}  state", "event"));
    assert_eq!(lines[1], format!("   1     1  {:<36}  not assigned", "boot"));
    assert_eq!(
        lines[2],
        format!("   2     1  {:<36}  not assigned → Assigned", "enter Assigned")
    );
    assert_eq!(lines[3], format!("   3     1  {:<36}  Assigned", "intent start #1"));
    assert_eq!(
        lines[4],
        format!("   4     1  {:<36}  Assigned → Started", "outcome start #1 done")
    );
    assert_eq!(
        lines[32..],
        [
            "",
            "Reported, after 31 of 31 rows that verify",
            "completed, acknowledged"
        ]
    );
}

#[test]
fn in_json_a_row_is_an_object_with_the_names_of_a_dump_and_the_states_around_it() {
    let (_dir, path) = thaw("v1/completed-after-two-crashes");
    let said = journal(&["replay", "--json", text(&path)]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    let replayed = objects(&said.stdout);
    let dumped = objects(&journal(&["dump", "--format", "ndjson", text(&path)]).stdout);
    assert_eq!(replayed.len(), dumped.len());
    for (replayed, dumped) in replayed.iter().zip(&dumped) {
        let mut expected = json!({"before": replayed["before"], "after": replayed["after"]});
        for name in ["seq", "boot", "at", "kind", "to", "effect", "attempt", "result"] {
            if let Some(value) = dumped.get(name) {
                expected[name] = value.clone();
            }
        }
        assert_eq!(*replayed, expected);
    }
    let moved = replayed.iter().filter(|row| row["before"] != row["after"]);
    let states: Vec<&Value> = moved.map(|row| &row["after"]).collect();
    assert_eq!(
        states,
        [
            "Assigned",
            "Started",
            "DataFetched",
            "TokenIssued",
            "Cloned",
            "AgentRan",
            "Pushed",
            "PrOpened",
            "Reported"
        ]
    );
    // Each begins where the one before ended.
    assert_eq!(replayed[0]["before"], Value::Null);
    assert!(replayed.windows(2).all(|pair| pair[0]["after"] == pair[1]["before"]));
}

/// Rows that every rule of the journal allows, and not the machine: a push where nothing was done yet.
fn illegal() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    let mut journal = Journal::open(&path, &record::machine()).unwrap().journal;
    let assigned = Entry::Enter {
        src: String::new(),
        dst: "Assigned".to_owned(),
        body: Some(r#"{"taskID":"t-1","apiURL":"http://127.0.0.1:1"}"#.to_owned()),
    };
    let push = Entry::Intent {
        effect: "push".to_owned(),
        attempt: 1,
        key: "t-1/push/1".to_owned(),
        body: None,
    };
    let boot = || Entry::Boot {
        body: Some(r#"{"version":"0"}"#.to_owned()),
    };
    journal.append(1, &[boot(), assigned, push, boot()], &[]).unwrap();
    journal.close().unwrap();
    (dir, path)
}

/// Where the last rows are all rows, they are held against the machine as all rows are.
#[test]
fn a_dump_of_more_rows_than_there_are_says_what_a_dump_of_all_says() {
    let (_dir, path) = illegal();
    for format in ["table", "json", "ndjson"] {
        let dump = |last: &[&str]| {
            let said = journal(&[&["dump", "--format", format], last, &[text(&path)]].concat());
            (said.code, said.stdout, said.stderr)
        };
        let all = dump(&[]);
        assert_eq!(all.0, Some(1));
        assert_eq!(dump(&["--last", "999"]), all);
    }
}

#[test]
fn the_first_illegal_transition_is_named_and_nothing_after_it_is_replayed() {
    let (_dir, path) = illegal();
    let refusal = "intended is illegal in state Assigned: push is not an effect of this state";
    let said = journal(&["replay", text(&path)]);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let lines: Vec<&str> = said.stdout.lines().collect();
    let refused = format!("   3     1  {:<36}  Assigned: refused: {refusal}", "intent push #1");
    assert_eq!(
        lines[3..],
        [refused.as_str(), "", "Assigned, after 2 of 4 rows that verify"]
    );
    assert!(said.stderr.contains("holds an illegal transition"), "{}", said.stderr);
    assert!(said.stderr.contains(&format!("row 3: {refusal}")), "{}", said.stderr);

    let said = journal(&["replay", "--json", text(&path)]);
    assert_eq!(said.code, Some(1));
    let rows = objects(&said.stdout);
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[2]["refused"], refusal);
    assert!(rows[..2].iter().all(|row| row.get("refused").is_none()));
    // The journal itself holds nothing against those rows.
    assert!(
        runner_journal::Snapshot::take(&path)
            .unwrap()
            .verify(None)
            .unwrap()
            .whole()
    );
}

#[test]
fn a_damaged_journal_is_replayed_up_to_the_damage_which_is_named() {
    let (_dir, path) = thaw("v1/completed");
    let mut bytes = fs::read(&path).unwrap();
    // Everywhere: SQLite leaves old bytes about.
    for at in 0..bytes.len() - 6 {
        if bytes[at..].starts_with(b"\"told\"") {
            bytes[at + 1] ^= 1;
        }
    }
    fs::write(&path, bytes).unwrap();
    let said = journal(&["replay", "--json", text(&path)]);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("row 4 is not what was written"), "{}", said.stderr);
    let seqs: Vec<u64> = objects(&said.stdout)
        .iter()
        .map(|row| row["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(
        seqs,
        [1, 2, 3],
        "the rows after it verify, and follow what is not known"
    );
    let said = journal(&["replay", text(&path)]).stdout;
    assert!(said.contains("Assigned, after 3 of 30 rows that verify"), "{said}");
}

#[test]
fn what_is_no_journal_of_a_task_is_exit_3_and_nothing_is_printed_of_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("empty"), b"").unwrap();
    fs::write(dir.path().join("garbage"), b"nothing of the kind").unwrap();
    let (_other, another) = thaw("v1/another-machine");
    let (_newer, newer) = thaw("v1/completed");
    let mut bytes = fs::read(&newer).unwrap();
    bytes[60..64].copy_from_slice(&2_u32.to_be_bytes());
    fs::write(&newer, bytes).unwrap();
    let below = |name: &str| dir.path().join(name);
    for (path, why) in [
        (below("absent"), "no such file"),
        (below("empty"), "is empty"),
        (below("garbage"), "not a journal"),
        (another, "it belongs to the machine \"door\", not to \"runner/task\""),
        (newer, "its schema is version 2"),
    ] {
        let said = journal(&["replay", text(&path)]);
        assert_eq!((said.code, said.stdout.as_str()), (Some(3), ""), "{}", said.stderr);
        assert!(
            said.stderr.contains(text(&path)) && said.stderr.contains(why),
            "{}",
            said.stderr
        );
    }
}

#[test]
fn a_journal_of_the_dead_is_replayed_with_its_log_from_where_nothing_can_be_written() {
    let (dir, path) = thaw("v1/died-at-work");
    let rooms = tempfile::tempdir().unwrap();
    let program = rooms.path().join("runner");
    copy_of_the_program(&program);
    for name in ["journal.db", "journal.db-wal"] {
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o444)).unwrap();
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(rooms.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let before = contents(dir.path());
    // Root may write anywhere, so it is read by somebody else, who has a copy of the program of their own.
    let mut command = as_somebody(&program);
    command.args(["journal", "replay"]).arg(&path);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .current_dir("/");
    let said = run(command);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    let end = "\nCloned, after 16 of 16 rows that verify\nagent #1 is open: the next start looks what came of it\n";
    assert!(said.stdout.ends_with(end), "{}", said.stdout);
    assert_eq!(contents(dir.path()), before, "nothing is beside it");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_journal_to_replay_is_named_like_any_other_and_a_reader_that_has_seen_enough_is_no_error() {
    let (_dir, path) = thaw("v1/completed");
    let expected = journal(&["replay", text(&path)]).stdout;
    for named in [
        &["--journal", text(&path), "replay"][..],
        &["replay", "--journal", text(&path)],
    ] {
        let said = journal(named);
        assert_eq!(
            (said.code, &said.stdout),
            (Some(0), &expected),
            "{named:?}: {}",
            said.stderr
        );
    }
    let home = tempfile::tempdir().unwrap();
    let newest = home.path().join(".local/state/runner/t-1/journal.db");
    fs::create_dir_all(newest.parent().unwrap()).unwrap();
    fs::copy(&path, &newest).unwrap();
    let mut command = bare(Path::new(RUNNER));
    command.args(["journal", "replay"]).env("HOME", home.path());
    let said = run(command);
    assert_eq!((said.code, &said.stdout), (Some(0), &expected));
    assert_eq!(
        said.stderr,
        format!("the newest journal here is {}\n", newest.display())
    );

    for further in [&[][..], &["--json"]] {
        let mut command = bare(Path::new(RUNNER));
        command.args(["journal", "replay", text(&path)]).args(further);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Nobody reads a single byte.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{further:?}");
    }
}
