//! Every command that reads a journal, on every condition that a journal may be in: exit code, and what is said first.

mod newer;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use runner::record;
use runner_journal::Journal;
use serde_json::Value;

use crate::frozen::thaw;
use crate::harness::{RUNNER, as_somebody, copy_of_the_program};
use crate::journal_cli::{Said, contents, journal, run, text};

const COMMANDS: [&[&str]; 12] = [
    &["explain"],
    &["explain", "--json"],
    &["dump"],
    &["dump", "--format", "json"],
    &["dump", "--format", "ndjson"],
    &["dump", "--last", "3"],
    &["dump", "--format", "ndjson", "--last", "3"],
    &["verify"],
    &["verify", "--json"],
    &["replay"],
    &["replay", "--json"],
    &["tail", "-n", "2"],
];

/// A journal in some condition, and what keeps it so.
struct Subject {
    name: &'static str,
    path: PathBuf,
    _room: tempfile::TempDir,
    holder: Option<Journal>,
}

impl Subject {
    fn new(name: &'static str, (room, path): (tempfile::TempDir, PathBuf)) -> Self {
        Self {
            name,
            path,
            _room: room,
            holder: None,
        }
    }

    /// With other bytes.
    fn of(name: &'static str, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let subject = Self::new(name, thaw("v1/completed"));
        let mut bytes = fs::read(&subject.path).unwrap();
        change(&mut bytes);
        fs::write(&subject.path, bytes).unwrap();
        subject
    }
}

fn subjects() -> Vec<Subject> {
    let living = {
        let mut subject = Subject::new("still being written", thaw("v1/died-at-work"));
        let mut journal = Journal::open(&subject.path, &record::machine()).unwrap().journal;
        let note = runner_journal::Entry::Note {
            body: r#"{"note":"parked"}"#.to_owned(),
        };
        journal.append(1_800_000_000_000, &[note], &[]).unwrap();
        subject.holder = Some(journal);
        subject
    };
    let absent = Subject::new("absent", thaw("v1/completed"));
    fs::remove_file(&absent.path).unwrap();
    vec![
        Subject::new("whole", thaw("v1/completed")),
        Subject::new("dead, with a log and without -shm", thaw("v1/died-at-work")),
        living,
        Subject::of("a row changed", |bytes| {
            let told: Vec<usize> = (0..bytes.len() - 11)
                .filter(|at| bytes[*at..].starts_with(b"\"told\":true"))
                .collect();
            for at in told {
                bytes[at + 7..at + 11].copy_from_slice(b"null");
            }
        }),
        Subject::of("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
        Subject::new("of a newer schema", newer::journal(newer::Rows::OnlyKnown)),
        Subject::new(
            "of a newer schema, with a row of a new kind",
            newer::journal(newer::Rows::AndANewKind),
        ),
        Subject::of("of a schema that hashes otherwise", |bytes| {
            bytes[60..64].copy_from_slice(&7_u32.to_be_bytes());
        }),
        Subject::new("of a newer machine", newer::of_a_newer_machine()),
        Subject::new("of another machine", thaw("v1/another-machine")),
        Subject::of("empty", Vec::clear),
        Subject::of("another file", |bytes| {
            *bytes = b"this is not a database, and never was".to_vec();
        }),
        absent,
    ]
}

/// What a command came to, in a line.
fn line(said: &Said, path: &Path) -> String {
    let first = |text: &str| {
        let text = text.replace(text_of_directory(path), "DIR");
        let first = text.lines().next().unwrap_or("-");
        // Figures of the build.
        let first = first.replace(env!("CARGO_PKG_VERSION"), "VERSION");
        first.chars().take(110).collect::<String>()
    };
    format!(
        "{} | {} | {}",
        said.code.unwrap(),
        first(&said.stdout),
        first(&said.stderr)
    )
}

fn text_of_directory(path: &Path) -> &str {
    path.parent().unwrap().to_str().unwrap()
}

#[test]
fn each_command_does_the_sensible_thing_with_each_journal() {
    let mut table = String::from(
        "What each command that reads a journal comes to: exit code | first line of standard output | of standard error.\n",
    );
    for subject in subjects() {
        let directory = subject.path.parent().unwrap();
        let before = contents(directory);
        let _ = writeln!(table, "\n{}:", subject.name);
        for command in COMMANDS {
            let mut arguments = command.to_vec();
            arguments.push(text(&subject.path));
            let said = journal(&arguments);
            assert!(
                !said.stderr.contains("panicked"),
                "{}: {command:?}: {}",
                subject.name,
                said.stderr
            );
            if command.contains(&"--json") || command.contains(&"json") {
                is_json_where_it_is_something(&said.stdout);
            }
            let _ = writeln!(table, "  {:<32} {}", command.join(" "), line(&said, &subject.path));
        }
        assert_eq!(contents(directory), before, "{}: something was touched", subject.name);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/readers/table.txt");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &table).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    for (now, then) in table.lines().zip(kept.lines()) {
        assert_eq!(now, then, "UPDATE_DOCS=1 writes it anew, if it is meant");
    }
    assert_eq!(table.lines().count(), kept.lines().count());
}

fn is_json_where_it_is_something(stdout: &str) {
    if serde_json::from_str::<Value>(stdout).is_err() {
        for line in stdout.lines() {
            serde_json::from_str::<Value>(line).unwrap();
        }
    }
}

#[test]
fn of_a_newer_journal_what_is_understood_is_read_and_it_is_said_that_there_may_be_more() {
    let (_room, path) = newer::journal(newer::Rows::AndANewKind);
    let (_old, old) = thaw("v1/completed");
    let count = |path: &Path| {
        journal(&["dump", "--format", "ndjson", text(path)])
            .stdout
            .lines()
            .count()
    };
    assert_eq!(count(&path), count(&old), "all but the row that nobody knows");
    let said = journal(&["explain", text(&path)]);
    assert_eq!(said.code, Some(3));
    assert!(said.stdout.contains("is done"), "{}", said.stdout);
    assert!(said.stderr.contains("its schema is version 2"), "{}", said.stderr);
    assert!(said.stderr.contains("row 32 is of a newer program"), "{}", said.stderr);
    assert!(
        said.stderr.contains("read it with the newer program"),
        "{}",
        said.stderr
    );
}

/// Root may write anywhere, so it is read by somebody else, who has a copy of the program of their own.
#[test]
fn where_nothing_can_be_written_a_journal_is_read_by_each_command_as_elsewhere() {
    let (_dead, dead) = thaw("v1/died-at-work");
    let room = tempfile::tempdir().unwrap();
    let program = room.path().join("runner");
    copy_of_the_program(&program);
    let directory = room.path().join("read-only");
    fs::create_dir(&directory).unwrap();
    for name in ["journal.db", "journal.db-wal"] {
        fs::copy(dead.with_file_name(name), directory.join(name)).unwrap();
        fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o444)).unwrap();
    }
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let before = contents(&directory);
    for command in COMMANDS {
        let read = |mut program: Command, path: &Path| {
            program
                .arg("journal")
                .args(command)
                .arg(path)
                .env_clear()
                .current_dir("/");
            program.env("PATH", std::env::var_os("PATH").unwrap());
            let said = run(program);
            let stdout = said.stdout.replace(text_of_directory(path), "DIR");
            (said.code, stdout, said.stderr)
        };
        let there = read(as_somebody(&program), &directory.join("journal.db"));
        assert_eq!(there, read(Command::new(RUNNER), &dead), "{command:?}");
    }
    assert_eq!(contents(&directory), before, "nothing is beside it");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
}
