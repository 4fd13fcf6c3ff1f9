//! Every transcript of the real CLI, and what it was not seen to do, and how that is to be judged.

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

fn assert_judged(name: &str, judgement: &Judgement, exit: Exit, expected: &Expected) {
    match (judgement, expected) {
        (Judgement::Succeeded(report), Success { turns, micros, summary }) => {
            assert_eq!(report.turns, Some(*turns), "{name}");
            assert_eq!(report.cost_usd, Some(MicroUsd::from_micros(*micros)), "{name}");
            assert_eq!(report.summary.as_deref(), Some(*summary), "{name}");
        }
        (Judgement::Failed { trouble, message, .. }, Trouble(expected)) => {
            assert_eq!(trouble, expected, "{name}, {exit}");
            assert!(!message.is_empty(), "{name}");
        }
        (Judgement::NoResult { exit: seen, stderr, .. }, Nothing) => {
            assert_eq!((*seen, stderr.as_str()), (exit, "oh no"), "{name}");
        }
        _ => panic!("{name}, {exit}: {judgement:?}, expected {expected:?}"),
    }
}

#[test]
fn every_transcript_of_the_real_cli_is_judged_as_it_ended() {
    for (name, exit, expected) in &TABLE {
        let bytes = fs::read(fixtures().join(format!("{name}.jsonl"))).unwrap();
        let judgement = found(AgentKind::Claude, *exit, &bytes);
        assert_judged(name, &judgement, *exit, expected);
        if let Success { .. } = expected {
            assert!(judgement.report().output_tokens > Some(0), "{name}");
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

const DONE: &str = r#"{"type":"result","subtype":"success","is_error":false,"terminal_reason":"completed","num_turns":2,"total_cost_usd":0.5,"result":"done"}"#;
const TURN: &str =
    r#"{"type":"assistant","message":{"content":[{"type":"text","text":"on it"}]},"parent_tool_use_id":null}"#;
const API_MESSAGE: &str = r#"{"type":"assistant","is_api_error_message":true,"error":"server_error","message":{"model":"<synthetic>","content":[{"type":"text","text":"API Error: 500"}]}}"#;

fn api_error(status: Option<u16>) -> String {
    serde_json::json!({
        "type": "result", "subtype": "success", "is_error": true, "terminal_reason": "api_error",
        "api_error_status": status, "result": "API Error", "num_turns": 1, "total_cost_usd": 0.75
    })
    .to_string()
}

fn error(subtype: &str, reason: &str) -> String {
    serde_json::json!({
        "type": "result", "subtype": subtype, "is_error": true, "terminal_reason": reason, "errors": ["it broke"]
    })
    .to_string()
}

#[test]
fn what_was_never_seen_to_happen_is_judged_by_the_same_rules() {
    let done = || success(2, 500_000, "done");
    let api = |status| Trouble(AgentTrouble::Api { status });
    let mut table = vec![
        ("a result", vec![DONE.to_owned()], Exit::Code(0), done()),
        ("nothing", vec![], Exit::Code(1), Nothing),
        ("nothing, and well", vec![], Exit::Code(0), Nothing),
        ("no network", vec![api_error(None)], Exit::Code(1), api(None)),
        (
            "the last result counts, an error",
            vec![DONE.to_owned(), api_error(Some(500))],
            Exit::Code(1),
            api(Some(500)),
        ),
        (
            "the last result counts, a success",
            vec![api_error(Some(500)), TURN.to_owned(), DONE.to_owned()],
            Exit::Code(0),
            success(3, 500_000, "done"),
        ),
        (
            "an error of the API in mid-run",
            vec![API_MESSAGE.to_owned(), TURN.to_owned(), DONE.to_owned()],
            Exit::Code(0),
            done(),
        ),
        ("an error of the API, then killed", vec![API_MESSAGE.to_owned()], Exit::Signal(9), Nothing),
        (
            "tools were refused",
            vec![
                r#"{"type":"system","subtype":"permission_denied","tool_name":"Bash","message":"no"}"#.to_owned(),
                DONE.replace("\"num_turns\"", "\"permission_denials\":[{\"tool_name\":\"Bash\"}],\"num_turns\""),
            ],
            Exit::Code(0),
            done(),
        ),
        ("killed after its result", vec![DONE.to_owned()], Exit::Signal(9), done()),
        (
            "killed in a turn after its result",
            vec![DONE.to_owned(), TURN.to_owned()],
            Exit::Signal(9),
            Nothing,
        ),
        (
            "gone by itself in a turn after its result",
            vec![DONE.to_owned(), TURN.to_owned()],
            Exit::Code(0),
            done(),
        ),
        (
            "no key",
            vec![
                r#"{"type":"result","subtype":"success","is_error":true,"result":"Not logged in \u00b7 Please run /login"}"#
                    .to_owned(),
            ],
            Exit::Code(1),
            Trouble(AgentTrouble::NotLoggedIn),
        ),
        (
            "a result that does not say how it is",
            vec![r#"{"type":"result","subtype":"success","result":"done"}"#.to_owned()],
            Exit::Code(0),
            Trouble(AgentTrouble::Failed),
        ),
    ];
    for status in [401, 403, 404, 429, 500, 529] {
        table.push((
            "the API's status",
            vec![api_error(Some(status))],
            Exit::Code(1),
            api(Some(status)),
        ));
    }
    for (subtype, reason, trouble) in [
        ("error_max_budget_usd", "", AgentTrouble::BudgetExceeded),
        ("error_max_turns", "max_turns", AgentTrouble::TurnsExceeded),
        ("error_max_structured_output_retries", "", AgentTrouble::Failed),
        ("error_during_execution", "", AgentTrouble::Failed),
        ("error_during_execution", "aborted_streaming", AgentTrouble::Interrupted),
        ("error_during_execution", "aborted_tools", AgentTrouble::Interrupted),
        ("error_of_tomorrow", "", AgentTrouble::Failed),
    ] {
        // The exit code is no witness: SIGINT's is 0.
        for exit in [Exit::Code(0), Exit::Code(1)] {
            table.push((subtype, vec![error(subtype, reason)], exit, Trouble(trouble)));
        }
    }
    // SIGHUP, SIGINT, SIGKILL, SIGTERM, as the program answers them and as they are where it does not.
    for exit in [129, 130, 137, 143]
        .map(Exit::Code)
        .into_iter()
        .chain([1, 2, 9, 15].map(Exit::Signal))
    {
        table.push(("told to go in mid-run", vec![TURN.to_owned()], exit, Nothing));
    }
    for (what, lines, exit, expected) in &table {
        let judgement = found(AgentKind::Claude, *exit, lines.join("\n").as_bytes());
        assert_judged(what, &judgement, *exit, expected);
    }
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
