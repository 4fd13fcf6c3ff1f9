//! Journals as the command line meets them: not ours, held, finished, damaged, of the living and of the dead.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Bench, Outside, RUNNER, WAITING_AGENT, as_somebody, copy_of_the_program, until};

pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn run(mut command: Command) -> Said {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Said {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn bare(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command
}

/// `runner journal …`, without any setting from outside.
pub(crate) fn journal(arguments: &[&str]) -> Said {
    let mut command = bare(Path::new(RUNNER));
    command.arg("journal").args(arguments).env("HOME", "/nonexistent");
    run(command)
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A task that was completed by one start.
async fn completed() -> (Outside, Bench) {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside);
    assert_eq!(bench.until_over(&outside).await, 0);
    (outside, bench)
}

/// Every file of a directory with its bytes.
pub(crate) fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_not_ours_is_exit_3_and_is_left_as_it_was() {
    let (outside, bench) = completed().await;
    let whole = fs::read(bench.journal()).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = whole.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let other_machine = {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let machine = runner_journal::Machine {
            name: "somebody/else".to_owned(),
            edges: vec![(String::new(), "Begun".to_owned())],
        };
        let opened = runner_journal::Journal::open(&path, &machine).unwrap();
        opened.journal.close().unwrap();
        fs::read(path).unwrap()
    };
    // Where SQLite's header has the application's id (68) and the application's own version (60).
    let other_program = with(68, &0x4750_4b47_u32.to_be_bytes());
    let newer = with(60, &2_u32.to_be_bytes());
    // Everywhere: SQLite leaves old bytes about.
    let mut damaged = whole.clone();
    for at in 0..damaged.len() - 11 {
        if damaged[at..].starts_with(b"\"told\":true") {
            damaged[at + 7..at + 11].copy_from_slice(b"null");
        }
    }
    for (case, bytes, why) in [
        (
            "garbage",
            b"this is not a database, and never was".to_vec(),
            "not a journal",
        ),
        ("a short file", b"x".to_vec(), "not a journal"),
        ("another program's", other_program, "the database of another program"),
        ("another machine's", other_machine, "somebody/else"),
        ("a newer one", newer, "newer program"),
        ("a damaged one", damaged, "corrupt: row 4 is not what was written"),
        ("half of one", whole[..whole.len() / 2].to_vec(), ""),
    ] {
        let victim = Bench::new(&outside);
        fs::create_dir(victim.path("state")).unwrap();
        fs::write(victim.journal(), &bytes).unwrap();
        let before = contents(&victim.path("state"));
        let said = run(victim.command());
        assert_eq!(said.code, Some(3), "{case}: {}", said.stderr);
        let expected = format!("failed to open the journal {}: ", victim.journal().display());
        assert!(
            said.stderr.contains(&expected) && said.stderr.contains(why),
            "{case}: {}",
            said.stderr
        );
        assert_eq!(
            contents(&victim.path("state")),
            before,
            "{case}: nothing was touched, and nothing is beside it"
        );
        assert!(
            !said.stderr.contains("listening on"),
            "{case}: it does not listen for a task that it cannot keep"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_another_runner_holds_is_exit_3_with_its_process_and_what_to_do() {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside).with("RUNNER_AGENT_COMMAND", WAITING_AGENT);
    let mut holder = bench.start();
    holder.assign(&outside.assignment()).await;
    bench.agent_is_there(&holder).await;
    let before = contents(&bench.path("state"));
    let said = run(bench.command());
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    let locked = format!("{}: locked by process {}\n", bench.journal().display(), holder.pid());
    assert!(said.stderr.contains(&locked), "{}", said.stderr);
    assert!(
        said.stderr.contains("hint: another runner uses this state directory"),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains("--state-dir"), "{}", said.stderr);
    assert_eq!(contents(&bench.path("state")), before);

    // The living can be looked at meanwhile, and are not disturbed.
    let path = bench.journal();
    for verb in ["dump", "verify"] {
        let said = journal(&[verb, text(&path)]);
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{verb}");
    }
    let rows = bench.dump();
    assert_eq!(rows.last().unwrap()["effect"], "agent");
    assert_eq!(contents(&bench.path("state")), before);
    bench.let_the_agent_go();
    assert_eq!(holder.wait().await.code(), Some(0), "{}", holder.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_has_the_contracts_form_in_json_and_ndjson_and_a_table_for_people() {
    let (outside, bench) = completed().await;
    let path = bench.journal();
    let dumped = journal(&["dump", "--format", "json", text(&path)]);
    assert_eq!((dumped.code, dumped.stderr.as_str()), (Some(0), ""));
    let whole: Value = serde_json::from_str(&dumped.stdout).unwrap();
    let entries = whole["entries"].as_array().unwrap();
    let last = entries.last().unwrap();
    let mut expected = json!({
        "journal": {
            "path": text(&path), "schema": 1, "rows": 31, "journalHead": last["hash"], "whole": true, "problems": [],
        },
        "task": {"taskID": "t-1", "apiURL": outside.api.api_url().as_str()},
        "state": "Reported",
        "boots": 1,
        "verdict": {
            "event": "completed", "reason": null, "message": outside.verdict()["message"], "acknowledged": true,
        },
    });
    expected["entries"] = whole["entries"].clone();
    assert_eq!(whole, expected);
    assert_eq!(entries.len(), 31);
    for (index, entry) in entries.iter().enumerate() {
        has_the_contracts_form(index, entry);
    }
    let states: Vec<&str> = entries.iter().filter_map(|entry| entry["to"].as_str()).collect();
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
    let intents: Vec<&str> = entries
        .iter()
        .filter(|e| e["kind"] == "intent")
        .filter_map(|e| e["effect"].as_str())
        .collect();
    assert_eq!(
        intents,
        [
            "start",
            "data",
            "token",
            "clone",
            "agent",
            "handover",
            "push",
            "pull_request",
            "report"
        ]
    );
    let verdict = entries.iter().position(|entry| entry["kind"] == "verdict").unwrap();
    assert_eq!(entries[verdict]["body"], outside.verdict(), "the bytes that were sent");
    assert_eq!(
        entries[verdict]["body"]["details"]["journalHead"],
        entries[verdict - 1]["hash"]
    );

    let lines = journal(&["dump", "--format", "ndjson", text(&path)]);
    let lines: Vec<Value> = lines
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(&lines, entries);

    let table = journal(&["dump", text(&path)]).stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "task t-1 · Reported · 31 rows · 1 start");
    let message = outside.verdict()["message"].as_str().unwrap().to_owned();
    let said = lines[1..].iter().take_while(|line| !line.is_empty());
    let said = said.copied().collect::<Vec<_>>().join(" ");
    assert_eq!(said, format!("completed, acknowledged: {message}"));
    let head = lines.iter().position(|line| line.is_empty()).unwrap() + 1;
    assert_eq!(
        lines[head],
        " row     time  what               result        took  details"
    );
    assert_eq!(lines.len(), head + 1 + 31);
    assert!(lines[head + 1].contains("── start 1 · runner "), "{table}");
    assert!(
        lines[head + 2].contains("→ Assigned") && lines[head + 31].ends_with("→ Reported"),
        "{table}"
    );
    assert!(
        lines
            .iter()
            .all(|line| line.chars().count() <= 80 && !line.contains('\u{1b}')),
        "{table}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_rows_are_those_of_the_whole_and_it_is_said_that_the_rest_was_not_checked() {
    let (_outside, bench) = completed().await;
    let path = bench.journal();
    let all = bench.dump();
    let last = journal(&["dump", "--format", "ndjson", "--last", "5", text(&path)]);
    assert_eq!(last.code, Some(0), "{}", last.stderr);
    let rows: Vec<Value> = last
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows, all[26..]);
    assert!(
        last.stderr.contains("the 26 rows before them were not checked"),
        "{}",
        last.stderr
    );

    let whole: Value = serde_json::from_str(&journal(&["dump", "--format", "json", text(&path)]).stdout).unwrap();
    let last: Value =
        serde_json::from_str(&journal(&["dump", "--format", "json", "--last", "5", text(&path)]).stdout).unwrap();
    for name in ["task", "state", "boots", "verdict"] {
        assert_eq!(last[name], whole[name], "{name}");
    }
    assert_eq!(last["journal"]["journalHead"], whole["journal"]["journalHead"]);
    assert_eq!(
        (
            &last["journal"]["whole"],
            &last["journal"]["rows"],
            &last["journal"]["unchecked"]
        ),
        (&Value::Null, &json!(5), &json!(26)),
        "nobody can say whether it is whole"
    );
    assert_eq!(last["entries"], json!(all[26..]));
    // All of them are all of them.
    let all_of_them = journal(&["dump", "--format", "json", "--last", "99", text(&path)]).stdout;
    assert_eq!(serde_json::from_str::<Value>(&all_of_them).unwrap(), whole);

    let table = journal(&["dump", "--last", "3", text(&path)]).stdout;
    let flat = table.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        flat.starts_with("task t-1 · Reported · the last 3 of 31 rows · 1 start"),
        "{table}"
    );
    assert!(flat.contains("the 28 rows before them were not checked"), "{table}");
    assert!(
        table.contains("── start 1 ──") && table.trim_end().ends_with("→ Reported"),
        "{table}"
    );
}

/// The environment decides, since there is no terminal here.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_in_colour_and_as_wide_as_it_is_asked_to_be() {
    let (_outside, bench) = completed().await;
    let dumped = |settings: &[(&str, &str)]| {
        let mut command = bare(Path::new(RUNNER));
        command
            .args(["journal", "dump"])
            .arg(bench.journal())
            .envs(settings.iter().copied());
        run(command).stdout
    };
    let plain = dumped(&[]);
    assert!(!plain.contains('\u{1b}'));
    let coloured = dumped(&[("CLICOLOR_FORCE", "1")]);
    assert!(coloured.contains("\u{1b}[32m"), "{coloured}");
    assert_eq!(dumped(&[("NO_COLOR", "1")]), plain);
    let widest = |table: &str| table.lines().map(|line| line.chars().count()).max();
    assert_eq!(widest(&plain), Some(80));
    assert_eq!(widest(&dumped(&[("COLUMNS", "120")])), Some(120));
}

/// An entry has the fields that its kind has, and no other.
fn has_the_contracts_form(index: usize, entry: &Value) {
    assert_eq!(entry["seq"], index + 1);
    assert_eq!(entry["boot"], 1);
    let at = entry["at"].as_str().unwrap();
    assert!(
        at.len() == 24 && at.ends_with('Z') && at.parse::<jiff::Timestamp>().is_ok(),
        "{at}"
    );
    let hash = entry["hash"].as_str().unwrap();
    assert!(
        hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()),
        "{hash}"
    );
    let fields: Vec<&str> = entry.as_object().unwrap().keys().map(String::as_str).collect();
    let fields: Vec<&str> = fields
        .into_iter()
        .filter(|f| !["seq", "boot", "at", "kind", "hash"].contains(f))
        .collect();
    let expected: &[&str] = match (entry["kind"].as_str().unwrap(), index) {
        ("boot" | "ack" | "note", _) => &["body"],
        ("enter", 1) => &["body", "to"],
        ("enter", _) => &["from", "to"],
        ("intent", _) => &["attempt", "effect", "key"],
        ("outcome", _) => &["attempt", "body", "effect", "result"],
        ("verdict", _) => &["body", "key"],
        (kind, _) => panic!("{kind}"),
    };
    assert_eq!(fields, expected, "{entry}");
    if entry["kind"] == "intent" {
        assert_eq!(entry["key"], format!("t-1/{}/1", entry["effect"].as_str().unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_is_named_in_any_of_four_ways_and_else_the_newest_is_taken_and_said() {
    let (_outside, bench) = completed().await;
    let path = bench.journal();
    let expected = journal(&["dump", text(&path)]).stdout;
    assert!(expected.starts_with("task t-1"), "{expected}");
    for named in [
        &["--journal", text(&path), "dump"][..],
        &["dump", "--journal", text(&path)],
        &["dump", &format!("--journal={}", text(&path))],
    ] {
        let said = journal(named);
        assert_eq!(
            (said.code, said.stdout.as_str(), said.stderr.as_str()),
            (Some(0), expected.as_str(), ""),
            "{named:?}"
        );
    }
    let by_variable = |value: &Path, further: &[&str]| {
        let mut command = bare(Path::new(RUNNER));
        command
            .args(["journal", "dump"])
            .args(further)
            .env("RUNNER_JOURNAL", value);
        run(command)
    };
    assert_eq!(by_variable(&path, &[]).stdout, expected);
    assert_eq!(
        by_variable(Path::new("/nonexistent"), &[text(&path)]).stdout,
        expected,
        "the argument counts first"
    );

    let home = tempfile::tempdir().unwrap();
    let newest = |name: &str| {
        let mut command = bare(Path::new(RUNNER));
        command.args(["journal", "dump"]).env(name, home.path());
        run(command)
    };
    let none = newest("HOME");
    assert_eq!(none.code, Some(3), "{}", none.stderr);
    assert!(none.stderr.contains("none is in /var/lib/runner, "), "{}", none.stderr);
    assert!(
        none.stderr.contains("hint: name one with --journal PATH"),
        "{}",
        none.stderr
    );
    for (name, below) in [("HOME", ".local/state/runner"), ("XDG_STATE_HOME", "runner")] {
        let tasks = home.path().join(below);
        for task in ["old", "t-1"] {
            fs::create_dir_all(tasks.join(task)).unwrap();
            fs::copy(&path, tasks.join(task).join("journal.db")).unwrap();
        }
        let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(1);
        let old = fs::File::options()
            .write(true)
            .open(tasks.join("old/journal.db"))
            .unwrap();
        old.set_modified(hour_ago).unwrap();
        let said = newest(name);
        assert_eq!(
            (said.code, &said.stdout),
            (Some(0), &expected),
            "{name}: {}",
            said.stderr
        );
        assert_eq!(
            said.stderr,
            format!(
                "the newest journal here is {}\n",
                tasks.join("t-1/journal.db").display()
            )
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_is_0_where_it_is_whole_and_1_where_it_is_damaged_and_3_where_it_is_none() {
    let (_outside, bench) = completed().await;
    let path = bench.journal();
    let rows = bench.dump();
    let hash = |seq: usize| rows[seq - 1]["hash"].as_str().unwrap().to_owned();
    let said = journal(&["verify", text(&path)]);
    let expected = format!("{}: whole, 31 rows, head {}\n", path.display(), hash(31));
    assert_eq!((said.code, said.stdout, said.stderr.as_str()), (Some(0), expected, ""));

    // The head that was kept elsewhere: the last one, or one that it went through.
    for right in [hash(31), hash(27)] {
        assert_eq!(journal(&["verify", "--head", &right, text(&path)]).code, Some(0));
    }
    let wrong = journal(&["verify", "--head", &"1".repeat(64), text(&path)]);
    assert_eq!(wrong.code, Some(1), "{}", wrong.stderr);
    assert!(wrong.stderr.contains(&"1".repeat(64)), "{}", wrong.stderr);
    assert_eq!(
        journal(&["verify", "--head", "xyz", text(&path)]).code,
        Some(2),
        "no hash at all"
    );

    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in [("empty", &b""[..]), ("garbage", b"nothing of the kind")] {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    for name in ["absent", "empty", "garbage", "."] {
        for verb in ["verify", "dump"] {
            let said = journal(&[verb, text(&dir.path().join(name))]);
            assert_eq!(
                (said.code, said.stdout.as_str()),
                (Some(3), ""),
                "{verb} {name}: {}",
                said.stderr
            );
            assert!(said.stderr.contains(text(dir.path())), "{verb} {name}: {}", said.stderr);
        }
    }
    assert_eq!(contents(dir.path()).len(), 2, "nothing was made");
}

/// In each row's stored text in turn one letter is changed.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_damaged_journal_the_rows_that_verify_are_printed_and_no_other() {
    let (_outside, bench) = completed().await;
    let whole = fs::read(bench.journal()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    for (altered, needle) in [
        (2, "apiURL"),
        (4, "told"),
        (14, "base_branch"),
        (25, "\"number\""),
        (27, "journalHead"),
    ] {
        let stored: Vec<usize> = (0..whole.len() - needle.len())
            .filter(|&at| whole[at..].starts_with(needle.as_bytes()))
            .collect();
        assert!(!stored.is_empty(), "{needle}");
        let mut bytes = whole.clone();
        for at in stored {
            bytes[at] ^= 1;
        }
        fs::write(&path, &bytes).unwrap();
        let verified = journal(&["verify", text(&path)]);
        assert_eq!(
            (verified.code, verified.stdout.as_str()),
            (Some(1), ""),
            "{needle}: {}",
            verified.stderr
        );
        assert!(
            verified
                .stderr
                .contains(&format!("row {altered} is not what was written")),
            "{needle}: {}",
            verified.stderr
        );
        let dumped = journal(&["dump", "--format", "ndjson", text(&path)]);
        assert_eq!(dumped.code, Some(1), "{}", dumped.stderr);
        assert!(
            dumped.stderr.contains(&format!("row {altered} is not")),
            "{}",
            dumped.stderr
        );
        let rows: Vec<Value> = dumped
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let seqs: Vec<u64> = rows.iter().map(|row| row["seq"].as_u64().unwrap()).collect();
        assert!(
            seqs.iter().take_while(|seq| **seq < altered).count() == usize::try_from(altered).unwrap() - 1,
            "{seqs:?}"
        );
        assert!(!seqs.contains(&altered), "{needle}: {seqs:?}");
        let dumped = journal(&["dump", "--format", "json", text(&path)]);
        let dumped: Value = serde_json::from_str(&dumped.stdout).unwrap();
        assert_eq!(dumped["journal"]["whole"], false);
        assert!(!dumped["journal"]["problems"].as_array().unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_of_the_dead_is_read_with_its_log_from_where_nothing_can_be_written() {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside).with("RUNNER_AGENT_COMMAND", WAITING_AGENT);
    let mut serving = bench.start();
    serving.assign(&outside.assignment()).await;
    bench.agent_is_there(&serving).await;
    serving.kill().await;
    let rows = bench.dump();
    assert_eq!(rows.last().unwrap()["effect"], "agent", "the rows are in the log alone");

    let room = tempfile::tempdir().unwrap();
    let dir = room.path().join("read-only");
    fs::create_dir(&dir).unwrap();
    for name in ["journal.db", "journal.db-wal"] {
        fs::copy(bench.path("state").join(name), dir.join(name)).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o444)).unwrap();
    }
    assert!(!bench.path("state/journal.db-shm").exists());
    // Root may write anywhere, so it is read by somebody else, who has a copy of the program of their own.
    let program = room.path().join("runner");
    copy_of_the_program(&program);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let before = contents(&dir);
    let mut command = as_somebody(&program);
    command
        .args(["journal", "dump", "--format", "ndjson"])
        .arg(dir.join("journal.db"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .current_dir("/");
    let said = run(command);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    let read: Vec<Value> = said
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(read, rows);
    assert_eq!(contents(&dir), before, "nothing is beside it");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_seen_enough_is_no_error_and_a_file_that_is_there_is_not_written_over() {
    let (_outside, bench) = completed().await;
    let path = bench.journal();
    for format in ["table", "json", "ndjson"] {
        let mut command = bare(Path::new(RUNNER));
        command.args(["journal", "dump", "--format", format, text(&path)]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Nobody reads a single byte.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()),
            (Some(0), ""),
            "{format}"
        );
    }
    let kept = bench.path("kept.json");
    let written = journal(&["dump", "--format", "json", "--output", text(&kept), text(&path)]);
    assert_eq!(
        (written.code, written.stdout.as_str(), written.stderr.as_str()),
        (Some(0), "", "")
    );
    let first = fs::read(&kept).unwrap();
    assert!(serde_json::from_slice::<Value>(&first).unwrap()["journal"]["whole"] == true);
    let again = journal(&["dump", "--output", text(&kept), text(&path)]);
    assert_eq!(again.code, Some(2), "{}", again.stderr);
    assert!(
        again.stderr.contains(text(&kept)) && again.stderr.contains("hint: name a file that does not exist"),
        "{}",
        again.stderr
    );
    assert_eq!(fs::read(&kept).unwrap(), first);
    let full = journal(&["dump", "--output", "/nonexistent/x", text(&path)]);
    assert_eq!(full.code, Some(2), "{}", full.stderr);
}

/// A log line, `/status` and the report name the head: what a reader can hold a journal against.
#[tokio::test(flavor = "multi_thread")]
async fn the_heads_that_a_run_names_are_those_that_its_journal_went_through() {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside);
    let mut serving = bench.start();
    serving.assign(&outside.assignment()).await;
    assert_eq!(serving.wait().await.code(), Some(0));
    until("the log is whole", &serving, || {
        serving.log().contains("entered Reported")
    })
    .await;
    let path = bench.journal();
    let lines: Vec<Value> = serving
        .log()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let heads: Vec<&str> = lines.iter().filter_map(|line| line["head"].as_str()).collect();
    assert!(heads.len() > 10);
    let rows = bench.dump();
    for head in &heads {
        assert!(rows.iter().any(|row| row["hash"] == *head), "{head}");
    }
    let reported = outside.verdict()["details"]["journalHead"].as_str().unwrap().to_owned();
    assert_eq!(journal(&["verify", "--head", &reported, text(&path)]).code, Some(0));
    // The control: the journal of another task has none of them.
    let (_other_outside, other) = completed().await;
    assert_eq!(
        journal(&["verify", "--head", &reported, text(&other.journal())]).code,
        Some(1)
    );
}

#[test]
fn no_terminal_obeys_what_an_error_names() {
    let said = journal(&["dump", "no\u{1b}[2Jsuch.db"]);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(!said.stderr.contains('\u{1b}'), "{:?}", said.stderr);
    assert!(said.stderr.contains("no\\u{1b}[2Jsuch.db"), "{}", said.stderr);
}

/// Whoever may make a directory where tasks are looked for has named it.
#[tokio::test(flavor = "multi_thread")]
async fn no_terminal_obeys_the_name_of_a_journal_that_is_whole() {
    let (_outside, bench) = completed().await;
    let state = tempfile::tempdir().unwrap();
    let task = state.path().join("runner/a\u{1b}[2Jtask");
    fs::create_dir_all(&task).unwrap();
    let found = task.join("journal.db");
    fs::copy(bench.journal(), &found).unwrap();
    for verb in ["verify", "replay", "tail"] {
        let mut command = bare(Path::new(RUNNER));
        command
            .args(["journal", verb])
            .env("XDG_STATE_HOME", state.path())
            .env("HOME", "/nonexistent");
        let said = run(command);
        assert_eq!(said.code, Some(0), "{verb}: {}", said.stderr);
        assert!(said.stderr.contains("a\\u{1b}[2Jtask"), "{verb}: {}", said.stderr);
        assert!(!(said.stderr + &said.stdout).contains('\u{1b}'), "{verb}");
    }
}
