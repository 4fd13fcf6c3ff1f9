//! Every transcript of the real CLI, and how it is to be judged.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::super::{MicroUsd, Stream};
use super::*;
use crate::process::Stopped;

#[derive(Debug, PartialEq)]
enum Expected {
    Success {
        turns: u64,
        micros: u64,
        summary: &'static str,
    },
    Trouble(AgentTrouble),
    Nothing,
}
use Expected::{Nothing, Success, Trouble};

const fn success(turns: u64, micros: u64, summary: &'static str) -> Expected {
    Success { turns, micros, summary }
}

const HELLO: &str = "Created hello.txt and committed it.";

/// File, exit, expectation.
const TABLE: [(&str, Exit, Expected); 20] = [
    ("bg-bash", Exit::Code(0), success(3, 60_404, "after bg")),
    ("budget", Exit::Code(1), Trouble(AgentTrouble::BudgetExceeded)),
    ("drop-midstream", Exit::Code(0), success(3, 80_960, HELLO)),
    (
        "err401-retries0",
        Exit::Code(1),
        Trouble(AgentTrouble::Api { status: Some(401) }),
    ),
    ("err500-then-ok", Exit::Code(0), success(3, 60_760, HELLO)),
    (
        "err529-forever",
        Exit::Code(1),
        Trouble(AgentTrouble::Api { status: Some(529) }),
    ),
    (
        "jsonschema",
        Exit::Code(0),
        success(2, 19_432, "{\"name\":\"bob\",\"n\":3}"),
    ),
    ("max-turns", Exit::Code(1), Trouble(AgentTrouble::TurnsExceeded)),
    ("mcp-fail", Exit::Code(0), success(2, 40_196, "ok")),
    ("mcp-ok", Exit::Code(0), success(2, 38_800, "ok")),
    (
        "no-changes",
        Exit::Code(0),
        success(
            1,
            19_312,
            "Nothing to do: the repository already satisfies the request.",
        ),
    ),
    ("partial", Exit::Code(0), success(1, 19_464, "hello world")),
    ("plugin-dir", Exit::Code(0), success(4, 59_920, "ok")),
    ("session-kill9", Exit::Signal(9), Nothing),
    ("session-resume", Exit::Code(0), success(1, 20_300, "resumed ok")),
    ("sigint-in-bash", Exit::Code(0), Trouble(AgentTrouble::Interrupted)),
    ("sigterm-in-bash", Exit::Code(143), Nothing),
    ("subagent", Exit::Code(0), success(3, 91_140, "all done 2")),
    ("success", Exit::Code(0), success(3, 60_744, HELLO)),
    ("tool-error", Exit::Code(0), success(4, 79_612, "ok")),
];

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/claude")
}

fn ended(exit: Exit) -> Ended {
    Ended {
        exit,
        stragglers: 0,
        ran: Duration::from_secs(1),
        stopped: Stopped::No,
        failure: None,
    }
}

fn read(bytes: &[u8]) -> StreamEnd {
    let mut stream = Stream::new(crate::redact::Redactor::new());
    stream.feed(bytes, &mut |_| {});
    stream.finish(&mut |_| {})
}

fn found(kind: AgentKind, exit: Exit, bytes: &[u8]) -> Judgement {
    judge(kind, &ended(exit), &read(bytes), "oh no")
}

#[test]
fn every_transcript_of_the_real_cli_is_judged_as_it_ended() {
    for (name, exit, expected) in &TABLE {
        let bytes = fs::read(fixtures().join(format!("{name}.jsonl"))).unwrap();
        let judgement = found(AgentKind::Claude, *exit, &bytes);
        match (&judgement, expected) {
            (Judgement::Succeeded(report), Success { turns, micros, summary }) => {
                assert_eq!(report.turns, Some(*turns), "{name}");
                assert_eq!(report.cost_usd, Some(MicroUsd::from_micros(*micros)), "{name}");
                assert_eq!(report.summary.as_deref(), Some(*summary), "{name}");
                assert!(report.output_tokens > Some(0), "{name}");
            }
            (Judgement::Failed { trouble, message, .. }, Trouble(expected)) => {
                assert_eq!(trouble, expected, "{name}");
                assert!(!message.is_empty(), "{name}");
            }
            (Judgement::NoResult { exit: seen, stderr, .. }, Nothing) => {
                assert_eq!((seen, stderr.as_str()), (exit, "oh no"), "{name}");
            }
            _ => panic!("{name}: {judgement:?}, expected {expected:?}"),
        }
        let report = judgement.report();
        assert!(report.session_id.is_some(), "{name}");
        assert_eq!(report.model.as_deref(), Some("claude-opus-5-5"), "{name}");
    }
}

#[test]
fn no_transcript_is_left_out_of_the_table() {
    let there: BTreeSet<String> = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let listed = TABLE.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(there, listed);
}

#[test]
fn a_result_counts_although_the_process_had_to_be_killed_after_it() {
    let bytes = fs::read(fixtures().join("success.jsonl")).unwrap();
    let judgement = found(AgentKind::Claude, Exit::Signal(9), &bytes);
    assert!(matches!(judgement, Judgement::Succeeded(_)), "{judgement:?}");
}

#[test]
fn a_result_before_a_turn_that_was_cut_off_is_no_end() {
    let bytes = fs::read_to_string(fixtures().join("bg-bash.jsonl")).unwrap();
    let cut: Vec<_> = bytes.lines().collect();
    let cut = cut[..cut.len() - 1].join("\n");
    let judgement = found(AgentKind::Claude, Exit::Signal(9), cut.as_bytes());
    assert!(matches!(judgement, Judgement::NoResult { .. }), "{judgement:?}");
}

#[test]
fn an_agent_without_a_key_is_not_logged_in() {
    let line =
        br#"{"type":"result","subtype":"success","is_error":true,"result":"Not logged in \u00b7 Please run /login"}"#;
    let judgement = found(AgentKind::Claude, Exit::Code(1), line);
    let Judgement::Failed { trouble, .. } = judgement else {
        panic!("{judgement:?}");
    };
    assert_eq!(trouble, AgentTrouble::NotLoggedIn);
}

#[test]
fn a_command_succeeds_by_its_exit_code_and_its_last_words_are_its_summary() {
    let judgement = found(AgentKind::Command, Exit::Code(0), b"one\ntwo\n");
    assert_eq!(judgement.report().summary.as_deref(), Some("one\ntwo"));
    assert!(matches!(judgement, Judgement::Succeeded(_)));
    let judgement = found(AgentKind::Command, Exit::Code(3), b"one\n");
    let Judgement::Failed { trouble, message, .. } = judgement else {
        panic!("{judgement:?}");
    };
    assert_eq!(
        (trouble, message.as_str()),
        (AgentTrouble::Failed, "exit code 3: oh no")
    );
}

#[test]
fn a_command_that_somebody_killed_has_not_said_that_it_failed() {
    let judged = |stopped| {
        let ended = Ended {
            exit: Exit::Signal(9),
            stragglers: 0,
            ran: Duration::from_secs(1),
            stopped,
            failure: None,
        };
        judge(AgentKind::Command, &ended, &StreamEnd::default(), "")
    };
    assert!(matches!(judged(Stopped::No), Judgement::NoResult { .. }));
    assert!(matches!(judged(Stopped::Asked), Judgement::Failed { .. }));
}

#[test]
fn a_command_that_speaks_in_events_is_understood() {
    let bytes = fs::read(fixtures().join("max-turns.jsonl")).unwrap();
    let judgement = found(AgentKind::Command, Exit::Code(1), &bytes);
    let Judgement::Failed { trouble, report, .. } = judgement else {
        panic!("{judgement:?}");
    };
    assert_eq!((trouble, report.turns), (AgentTrouble::TurnsExceeded, Some(3)));
}

#[test]
fn a_program_that_was_never_started_is_missing_or_not_started() {
    for (failure, expected) in [
        (
            StartFailure::NotFound {
                program: "claude".to_owned(),
                detail: String::new(),
            },
            AgentTrouble::Missing,
        ),
        (
            StartFailure::Descriptors { descriptors: vec![7] },
            AgentTrouble::NotStarted,
        ),
    ] {
        let mut ended = ended(Exit::Code(127));
        ended.failure = Some(failure);
        let judgement = judge(AgentKind::Command, &ended, &StreamEnd::default(), "");
        let Judgement::Failed { trouble, .. } = judgement else {
            panic!("{judgement:?}");
        };
        assert_eq!(trouble, expected);
    }
}
