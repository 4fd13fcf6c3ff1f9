//! What may come through an agent's standard output, and what is made of it.

use serde_json::json;

use super::super::activity::ToolResult;
use super::super::plain;
use super::*;
use crate::secret::Secret;

fn read(bytes: &[u8], piece: usize) -> (StreamEnd, Vec<Activity>) {
    read_with(Redactor::new(), bytes, piece)
}

fn read_with(redactor: Redactor, bytes: &[u8], piece: usize) -> (StreamEnd, Vec<Activity>) {
    let mut stream = Stream::new(redactor);
    let mut seen = Vec::new();
    for chunk in bytes.chunks(piece) {
        stream.feed(chunk, &mut |activity| seen.push(activity));
    }
    let end = stream.finish(&mut |activity| seen.push(activity));
    (end, seen)
}

const RESULT: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"done","num_turns":2}"#;

#[test]
fn what_is_read_does_not_depend_on_where_the_reads_were_cut() {
    let bytes = [b"plain \xff\xfe text\n\0\0{\n".as_slice(), RESULT.as_bytes()].concat();
    for piece in [1, 3, 1000] {
        let (end, _) = read(&bytes, piece);
        assert_eq!(
            end.report.summary.as_deref(),
            Some("done"),
            "no final newline is needed"
        );
        assert_eq!(end.conclusion, Conclusion::Concluded);
        assert!(
            end.plain_text.starts_with("plain \u{fffd}\u{fffd} text"),
            "{}",
            end.plain_text
        );
    }
}

#[test]
fn a_result_with_bytes_that_are_no_json_still_says_how_it_is() {
    let bytes =
        b"{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"num_turns\":\"many\",\"x\":\"\0\"}\n";
    let (end, _) = read(bytes, 1000);
    assert!(end.result.is_none(), "a count that is no number spoils the whole");
    let bytes = b"{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"x\":\"\0\xff\"}\n";
    let (end, _) = read(bytes, 1000);
    let result = end.result.unwrap();
    assert_eq!((result.subtype.as_str(), result.is_error), ("success", false));
}

#[test]
fn a_result_that_does_not_say_how_it_is_has_not_succeeded() {
    let (end, _) = read(b"{\"type\":\"result\",\"subtype\":\"success\"}", 1000);
    assert!(end.result.unwrap().is_error);
}

#[test]
fn a_line_of_64_mib_is_read_in_bounded_memory_and_its_result_counts() {
    let mut stream = Stream::new(Redactor::new());
    let filler = vec![b'x'; 64 * 1024];
    let ignore = &mut |_| {};
    stream.feed(br#"{"usage":{"type":"none"},"result":""#, ignore);
    for _ in 0..1024 {
        stream.feed(&filler, ignore);
        match &stream.line {
            Line::Whole(line) => assert!(line.len() <= LINE_LIMIT),
            Line::Skimmed(skim) => assert!(size_of_val(skim) < 1024),
            Line::Dropped => panic!("an object is not dropped"),
        }
    }
    stream.feed(
        b"\",\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false}\n",
        ignore,
    );
    stream.feed(b"after\n", ignore);
    let end = stream.finish(ignore);
    assert_eq!(end.report.summary.map(|text| text.len()), Some(SUMMARY_LIMIT));
    assert!(!end.result.unwrap().is_error);
    assert_eq!(end.plain_text, "after");
}

#[test]
fn a_long_string_is_cut_where_it_still_makes_sense() {
    for filler in ["x", "ä", "\\n", "\\u00e4", "\\ud83d\\ude00"] {
        for before in 0..13 {
            let text = format!(
                "{{\"result\":\"{}{}\",\"type\":\"result\"}}",
                "y".repeat(before),
                filler.repeat(80_000)
            );
            let mut skim = Skim::new(TOP_LEVEL);
            skim.feed(text.as_bytes());
            let top: Value = serde_json::from_str(&top_of(skim)).unwrap();
            assert_eq!(top["type"], "result", "{filler}");
            assert!(top["result"].as_str().unwrap().len() > 5_000, "{filler} after {before}");
        }
    }
}

#[test]
fn a_long_line_of_plain_text_is_dropped_and_the_next_is_read_wherever_the_reads_were_cut() {
    let mut bytes = b" \t ".to_vec();
    bytes.resize(plain::LINE_LIMIT + 5, b'y');
    bytes.extend_from_slice(b"\nnext\n");
    for piece in [64 * 1024, bytes.len()] {
        assert_eq!(read(&bytes, piece).0.plain_text, "next");
    }
}

#[test]
fn a_long_object_is_one_whatever_white_space_is_before_it() {
    let text = "x".repeat(2 * plain::LINE_LIMIT);
    let line = format!(" \t{{\"result\":\"{text}\",\"type\":\"result\",\"is_error\":false}}\r\n");
    for piece in [1000, line.len()] {
        assert!(read(line.as_bytes(), piece).0.result.is_some());
    }
}

#[test]
fn plain_text_is_kept_from_its_end() {
    let text = "äöü\n".repeat(5_000);
    let (end, _) = read(text.as_bytes(), 999);
    assert!(end.plain_text.len() <= plain::LIMIT);
    assert!(end.plain_text.ends_with("äöü\näöü"));
    assert!(end.plain_text.len() > plain::LIMIT - 8);
}

#[test]
fn a_secret_in_plain_text_is_taken_out_even_if_a_line_or_the_cut_divides_it() {
    let redactor = Redactor::new();
    redactor.add(&Secret::new("correct horse\nbattery staple"));
    for before in [0, 65_500, 65_530] {
        let text = format!("{}\ncorrect horse\nbattery staple\n", "x".repeat(before));
        let (end, _) = read_with(redactor.clone(), text.as_bytes(), 1000);
        assert!(
            end.plain_text.ends_with("[redacted]"),
            "{}",
            &end.plain_text[end.plain_text.len().saturating_sub(40)..]
        );
    }
}

fn assistant(blocks: &Value) -> String {
    format!("{}\n", json!({"type": "assistant", "message": {"content": blocks}}))
}

fn tool_use(name: &str, input: &Value) -> Activity {
    let line = assistant(&json!([{"type": "tool_use", "id": "t1", "name": name, "input": input}]));
    let (_, mut seen) = read(line.as_bytes(), 100);
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.remove(0)
}

fn tool(name: &str, summary: &str, input: &Value) -> Activity {
    Activity::Tool {
        name: name.to_owned(),
        summary: summary.to_owned(),
        input: input.as_object().unwrap().clone(),
    }
}

#[test]
fn a_tool_is_told_by_what_it_is_used_for_and_what_is_written_by_its_length() {
    for (name, input, summary, told) in [
        (
            "Read",
            json!({"file_path": "/a", "limit": 3}),
            "Reading /a",
            json!({"file_path": "/a"}),
        ),
        (
            "Write",
            json!({"file_path": "/a", "content": "äöü\n"}),
            "Writing /a",
            json!({"file_path": "/a", "length": 4}),
        ),
        (
            "Edit",
            json!({"file_path": "/a", "old_string": "x", "new_string": ""}),
            "Editing /a",
            json!({"file_path": "/a", "old_length": 1, "new_length": 0}),
        ),
        (
            "NotebookEdit",
            json!({"notebook_path": "/n"}),
            "Editing /n",
            json!({"notebook_path": "/n"}),
        ),
        (
            "Bash",
            json!({"command": "ls\n", "description": "d"}),
            "ls",
            json!({"command": "ls"}),
        ),
        (
            "Grep",
            json!({"pattern": "p.*"}),
            "Searching for p.*",
            json!({"pattern": "p.*"}),
        ),
        (
            "WebSearch",
            json!({"query": "q"}),
            "Searching for q",
            json!({"query": "q"}),
        ),
        ("WebFetch", json!({"url": "u"}), "Fetching u", json!({"url": "u"})),
        (
            "Task",
            json!({"description": "look", "prompt": "p"}),
            "look",
            json!({"description": "look"}),
        ),
        ("mcp__x__y", json!({"secret": "s"}), "mcp__x__y", json!({})),
        ("Bash", json!({"command": 7}), "Bash", json!({})),
        ("Read", json!({}), "Read", json!({})),
        ("Read", json!("text"), "Read", json!({})),
        ("", json!({}), "tool", json!({})),
    ] {
        let name_told = if name.is_empty() { "tool" } else { name };
        assert_eq!(tool_use(name, &input), tool(name_told, summary, &told));
    }
}

#[test]
fn activities_are_short_and_cut_between_characters() {
    let (path, command) = ("ä".repeat(300), "ö".repeat(3_000));
    assert_eq!(
        tool_use("Read", &json!({"file_path": path})),
        tool(
            "Read",
            &format!("Reading {}", "ä".repeat(192)),
            &json!({"file_path": "ä".repeat(200)})
        )
    );
    let cut = "ö".repeat(500);
    assert_eq!(
        tool_use("Bash", &json!({"command": command})),
        tool("Bash", &cut, &json!({"command": cut}))
    );
    let said = assistant(&json!([{"type": "text", "text": " "}, {"type": "text", "text": "😀".repeat(5_000)}]));
    assert_eq!(read(said.as_bytes(), 100).1, [Activity::Said("😀".repeat(200))]);
}

#[test]
fn what_is_told_is_redacted_before_it_is_cut() {
    let redactor = Redactor::new();
    let secret = "a-secret-of-some-length";
    redactor.add(&Secret::new(secret));
    for length in [190, 2_000, 100_000] {
        let text = format!("{}{secret}{}", "x".repeat(190), "y".repeat(length));
        let line = assistant(&json!([
            {"type": "text", "text": text},
            {"type": "tool_use", "name": "Bash", "input": {"command": text}},
            {"type": "tool_result", "content": text},
        ]));
        let (_, seen) = read_with(redactor.clone(), line.as_bytes(), 1000);
        assert_eq!(seen.len(), 3);
        for activity in seen {
            let told = format!("{activity:?}");
            assert!(told.contains("[redacted]") && !told.contains("a-secret"), "{told}");
        }
    }
}

#[test]
fn the_end_of_a_tool_has_its_name_and_the_beginning_of_what_it_gave_back() {
    let mut lines = String::new();
    for n in 0..65 {
        lines +=
            &assistant(&json!([{"type": "tool_use", "id": format!("t{n}"), "name": format!("N{n}"), "input": {}}]));
    }
    for (id, is_error, content) in [
        ("t64", json!(true), json!(" plain\ntext ")),
        (
            "t63",
            json!(false),
            json!([{"type": "image"}, {"type": "text", "text": "block"}]),
        ),
        ("t63", Value::Null, json!([])),
        ("t0", Value::Null, Value::Null),
    ] {
        let block = json!([{"type": "tool_result", "tool_use_id": id, "is_error": is_error, "content": content}]);
        let line = format!(
            "{}\n",
            json!({"type": "user", "parent_tool_use_id": "t1", "message": {"content": block}})
        );
        lines += &line;
    }
    let (_, seen) = read(lines.as_bytes(), 1000);
    let ended = |tool: Option<&str>, result, summary: Option<&str>| Activity::ToolEnded {
        tool: tool.map(str::to_owned),
        result,
        summary: summary.map(str::to_owned),
    };
    assert_eq!(
        seen[65..],
        [
            ended(Some("N64"), ToolResult::Failed, Some("plain\ntext")),
            ended(Some("N63"), ToolResult::Succeeded, Some("block")),
            ended(None, ToolResult::Succeeded, None),
            // Too many were begun since.
            ended(None, ToolResult::Succeeded, None),
        ]
    );
}

#[test]
fn retries_errors_of_the_api_and_refused_tools_are_told() {
    let lines = concat!(
        r#"{"type":"system","subtype":"api_retry","attempt":2,"max_retries":10,"retry_delay_ms":587.5,"error_status":529,"error":"overloaded"}"#,
        "\n",
        r#"{"type":"assistant","is_api_error_message":true,"error":"unknown","message":{"content":[{"type":"text","text":"API Error: 529"}]}}"#,
        "\n",
        r#"{"type":"system","subtype":"permission_denied","tool_name":"Bash","tool_use_id":"t","message":"not in this mode"}"#,
        "\n",
        r#"{"type":"user","message":{"role":"user","content":"the prompt"}}"#,
    );
    let (end, seen) = read(lines.as_bytes(), 100);
    assert_eq!(
        seen,
        [
            Activity::Retry {
                attempt: 2,
                of: 10,
                status: Some(529)
            },
            Activity::Error("API Error: 529".to_owned()),
            Activity::Error("Bash was refused: not in this mode".to_owned()),
        ]
    );
    assert_eq!((end.plain_text.as_str(), end.conclusion), ("", Conclusion::Open));
}

#[test]
fn a_result_while_background_tasks_run_is_waited_behind() {
    let running = r#"{"type":"system","subtype":"background_tasks_changed","tasks":[{"task_id":"b"}]}"#;
    let idle = r#"{"type":"system","subtype":"background_tasks_changed","tasks":[]}"#;
    let turn = r#"{"type":"assistant","message":{"content":[]},"parent_tool_use_id":null}"#;
    let mut stream = Stream::new(Redactor::new());
    let mut after = |line: &str| {
        stream.feed(format!("{line}\n").as_bytes(), &mut |_| {});
        stream.conclusion()
    };
    assert_eq!(after(running), Conclusion::Open);
    assert_eq!(after(RESULT), Conclusion::Waiting);
    assert_eq!(after(idle), Conclusion::Concluded);
    assert_eq!(after(turn), Conclusion::Open);
    assert_eq!(after(RESULT), Conclusion::Concluded);
    let end = stream.finish(&mut |_| {});
    assert_eq!(end.report.turns, Some(4), "turns are per result");
}

#[test]
fn the_models_answers_since_the_last_result_are_turns() {
    let said = |id: &str| format!("{{\"type\":\"assistant\",\"message\":{{\"id\":\"{id}\",\"content\":[]}}}}\n");
    let of_another = said("b").replace("\"message\"", "\"parent_tool_use_id\":\"toolu_1\",\"message\"");
    let turns = |lines: &[&str]| read(lines.concat().as_bytes(), 1000).0.report.turns;
    let (one, two) = (said("1"), said("2"));
    assert_eq!(turns(&[]), None);
    assert_eq!(turns(&[&one, &one, &two]), Some(2), "an answer comes in several events");
    assert_eq!(turns(&[&one, &of_another]), Some(1), "a sub-agent's are not counted");
    let result = format!("{RESULT}\n");
    assert_eq!(turns(&[&one, &two, &result]), Some(2));
    assert_eq!(turns(&[&one, &result, &two]), Some(3));
}

#[test]
fn servers_are_as_they_were_when_the_agent_began_bounded_and_without_secrets() {
    let seen = |lines: &str| {
        let servers = read(lines.as_bytes(), 1000).0.report.parts?.servers;
        Some(
            servers
                .into_iter()
                .map(|server| (server.name, server.status))
                .collect::<Vec<_>>(),
        )
    };
    let fixture = include_str!("../../../../tests/fixtures/claude/mcp-fail.jsonl");
    let expected = [("broken", "failed"), ("dies", "failed"), ("echo", "connected")];
    let expected = expected.map(|(name, status)| (name.to_owned(), status.to_owned()));
    assert_eq!(seen(fixture), Some(expected.to_vec()));
    assert_eq!(seen(RESULT), None, "one that never began has listed none");
    let init =
        |servers: &str| format!(r#"{{"type":"system","subtype":"init","plugins":[],"mcp_servers":[{servers}]}}"#);
    let server = |name: &str| format!(r#"{{"name":"{name}","status":"connected"}}"#);
    let twice = format!("{}\n{}\n", init(""), init(&server("later")));
    assert_eq!(seen(&twice), Some(Vec::new()), "a later turn is no beginning");
    let many = seen(&init(&vec![server(&"n".repeat(1000)); 1000].join(","))).unwrap();
    assert_eq!((many.len(), many[0].0.len()), (200, 200));
    let plugins = include_str!("../../../../tests/fixtures/claude/plugin-dir.jsonl");
    let plugins = read(plugins.as_bytes(), 1000).0.report.parts.unwrap().plugins;
    assert!(plugins.contains(&"myplug".to_owned()), "{plugins:?}");
    let secret = seen(&init(&server("ghp_0123456789abcdefghijABCDEFGHIJ012345"))).unwrap();
    assert_eq!(secret[0].0, "ghp_[redacted]");
}
