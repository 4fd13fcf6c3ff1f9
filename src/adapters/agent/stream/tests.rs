//! What may come through an agent's standard output, and what is made of it.

use super::*;

fn read(bytes: &[u8], piece: usize) -> (StreamEnd, Vec<Activity>, Vec<u8>) {
    let mut stream = Stream::new(Vec::new(), Redactor::new());
    let mut seen = Vec::new();
    for chunk in bytes.chunks(piece) {
        stream.feed(chunk, &mut |activity| seen.push(activity)).unwrap();
    }
    let (end, transcript) = stream.finish(&mut |activity| seen.push(activity));
    (end, seen, transcript)
}

const RESULT: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"done","num_turns":2}"#;

#[test]
fn every_byte_is_in_the_transcript_wherever_the_reads_were_cut() {
    let bytes = [b"plain \xff\xfe text\n\0\0{\n".as_slice(), RESULT.as_bytes()].concat();
    for piece in [1, 3, 1000] {
        let (end, _, transcript) = read(&bytes, piece);
        assert_eq!(transcript, bytes);
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
    let (end, ..) = read(bytes, 1000);
    assert!(end.result.is_none(), "a count that is no number spoils the whole");
    let bytes = b"{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"x\":\"\0\xff\"}\n";
    let (end, ..) = read(bytes, 1000);
    let result = end.result.unwrap();
    assert_eq!((result.subtype.as_str(), result.is_error), ("success", false));
}

#[test]
fn a_result_that_does_not_say_how_it_is_has_not_succeeded() {
    let (end, ..) = read(b"{\"type\":\"result\",\"subtype\":\"success\"}", 1000);
    assert!(end.result.unwrap().is_error);
}

#[test]
fn a_line_of_64_mib_is_read_in_bounded_memory_and_its_result_counts() {
    let mut stream = Stream::new(io::sink(), Redactor::new());
    let filler = vec![b'x'; 64 * 1024];
    let ignore = &mut |_| {};
    stream.feed(br#"{"usage":{"type":"none"},"result":""#, ignore).unwrap();
    for _ in 0..1024 {
        stream.feed(&filler, ignore).unwrap();
        match &stream.line {
            Line::Whole(line) => assert!(line.len() <= LINE_LIMIT),
            Line::Skimmed(skim) => assert!(size_of_val(skim) < 1024),
            Line::Dropped => panic!("an object is not dropped"),
        }
    }
    stream
        .feed(
            b"\",\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false}\n",
            ignore,
        )
        .unwrap();
    stream.feed(b"after\n", ignore).unwrap();
    let (end, _) = stream.finish(ignore);
    assert_eq!(end.report.summary.map(|text| text.len()), Some(SUMMARY_LIMIT));
    assert!(!end.result.unwrap().is_error);
    assert_eq!(end.plain_text, "after");
}

#[test]
fn a_long_line_of_plain_text_is_dropped_and_the_next_is_read() {
    let mut bytes = vec![b'y'; LINE_LIMIT + 1];
    bytes.extend_from_slice(b"\nnext\n");
    let (end, _, transcript) = read(&bytes, 64 * 1024);
    assert_eq!(end.plain_text, "next");
    assert_eq!(transcript.len(), bytes.len());
}

#[test]
fn plain_text_is_kept_from_its_end() {
    let text = "äöü\n".repeat(5_000);
    let (end, ..) = read(text.as_bytes(), 999);
    assert!(end.plain_text.len() <= PLAIN_LIMIT);
    assert!(end.plain_text.ends_with("äöü\näöü"));
}

#[test]
fn activities_are_short_and_cut_between_characters() {
    let line = format!(
        "{{\"type\":\"assistant\",\"message\":{{\"content\":[{{\"type\":\"text\",\"text\":\"{}\"}},{}]}}}}\n",
        "ä".repeat(500),
        r#"{"type":"tool_use","name":"Read","input":{"file_path":"/a"}},
           {"type":"tool_use","name":"Bash","input":{"command":"ls"}},
           {"type":"tool_use","name":"mcp__x__y","input":{"secret":"s"}}"#
            .replace('\n', " ")
    );
    let retry = r#"{"type":"system","subtype":"api_retry","attempt":2,"max_retries":10,"retry_delay_ms":587.5,"error_status":529}"#;
    let user = r#"{"type":"user","message":{"content":[{"type":"tool_result","is_error":true,"content":[]}]}}"#;
    let (_, seen, _) = read(format!("{line}{retry}\n{user}\n").as_bytes(), 100);
    let tool = |name: &str, summary: &str| Activity::Tool {
        name: name.to_owned(),
        summary: summary.to_owned(),
    };
    assert_eq!(
        seen,
        [
            Activity::Said("ä".repeat(200)),
            tool("Read", "Reading /a"),
            tool("Bash", "ls"),
            tool("mcp__x__y", "mcp__x__y"),
            Activity::Retry {
                attempt: 2,
                of: 10,
                status: Some(529)
            },
            Activity::ToolEnded(ToolResult::Failed)
        ]
    );
}

#[test]
fn a_result_while_background_tasks_run_is_waited_behind() {
    let running = r#"{"type":"system","subtype":"background_tasks_changed","tasks":[{"task_id":"b"}]}"#;
    let idle = r#"{"type":"system","subtype":"background_tasks_changed","tasks":[]}"#;
    let turn = r#"{"type":"assistant","message":{"content":[]},"parent_tool_use_id":null}"#;
    let mut stream = Stream::new(io::sink(), Redactor::new());
    let mut after = |line: &str| {
        stream.feed(format!("{line}\n").as_bytes(), &mut |_| {}).unwrap();
        stream.conclusion()
    };
    assert_eq!(after(running), Conclusion::Open);
    assert_eq!(after(RESULT), Conclusion::Waiting);
    assert_eq!(after(idle), Conclusion::Concluded);
    assert_eq!(after(turn), Conclusion::Open);
    assert_eq!(after(RESULT), Conclusion::Concluded);
    let (end, _) = stream.finish(&mut |_| {});
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
fn a_transcript_that_cannot_be_written_does_not_stop_the_reading() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut stream = Stream::new(Full, Redactor::new());
    let line = format!("{RESULT}\n");
    assert!(stream.feed(line.as_bytes(), &mut |_| {}).is_err());
    assert_eq!(stream.conclusion(), Conclusion::Concluded);
}
