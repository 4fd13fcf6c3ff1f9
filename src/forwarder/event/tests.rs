use serde_json::json;

use super::*;

/// 2026-11-22T00:29:33.747Z.
const AT: Millis = 1_795_307_373_747;

fn told(activity: &Activity) -> Value {
    serde_json::to_value(Event::of(activity, AT)).unwrap()
}

#[test]
fn each_activity_is_the_event_that_the_contract_has_for_it() {
    let input = |input: Value| input.as_object().unwrap().clone();
    let tool = |name: &str, summary: &str| Activity::Tool {
        name: name.to_owned(),
        summary: summary.to_owned(),
        input: Map::new(),
    };
    let ended = |tool: Option<&str>, result, summary: Option<&str>| Activity::ToolEnded {
        tool: tool.map(str::to_owned),
        result,
        summary: summary.map(str::to_owned),
    };
    let retry = |status| Activity::Retry {
        attempt: 2,
        of: 10,
        status,
    };
    for (activity, expected) in [
        (
            Activity::Said("Let me look.".to_owned()),
            json!({"type": "thinking", "summary": "Let me look."}),
        ),
        (
            Activity::Tool {
                name: "Bash".to_owned(),
                summary: "cargo test".to_owned(),
                input: input(json!({"command": "cargo test"})),
            },
            json!({"type": "tool_call", "summary": "cargo test", "tool": "Bash", "input": {"command": "cargo test"}}),
        ),
        (
            tool("mcp__x__y", "mcp__x__y"),
            json!({"type": "tool_call", "summary": "mcp__x__y", "tool": "mcp__x__y"}),
        ),
        (
            ended(Some("Read"), ToolResult::Succeeded, Some("fn main() {}")),
            json!({"type": "tool_result", "summary": "Read succeeded", "tool": "Read",
                   "output": {"success": true, "summary": "fn main() {}"}}),
        ),
        (
            ended(None, ToolResult::Failed, None),
            json!({"type": "tool_result", "summary": "tool failed", "output": {"success": false}}),
        ),
        (
            Activity::Error("529 overloaded".to_owned()),
            json!({"type": "error", "summary": "529 overloaded"}),
        ),
        (
            retry(Some(529)),
            json!({"type": "error", "summary": "asks its model again after 529 (2 of 10)"}),
        ),
        (
            retry(None),
            json!({"type": "error", "summary": "asks its model again (2 of 10)"}),
        ),
        // A summary is never empty, whatever came.
        (
            Activity::Said(" \n".to_owned()),
            json!({"type": "thinking", "summary": "said nothing"}),
        ),
        (
            tool("Bash", ""),
            json!({"type": "tool_call", "summary": "Bash", "tool": "Bash"}),
        ),
        (
            tool("", " "),
            json!({"type": "tool_call", "summary": "tool", "tool": "tool"}),
        ),
        (
            ended(Some(""), ToolResult::Succeeded, None),
            json!({"type": "tool_result", "summary": "tool succeeded", "output": {"success": true}}),
        ),
        (
            Activity::Error(String::new()),
            json!({"type": "error", "summary": "error"}),
        ),
    ] {
        let mut expected = expected;
        expected["timestamp"] = json!("2026-11-22T00:29:33.747Z");
        assert_eq!(told(&activity), expected, "{activity:?}");
    }
}

#[test]
fn an_event_counts_with_the_bytes_of_its_json() {
    let event = Event::of(&Activity::Said("\u{1}\"ü".to_owned()), AT);
    assert_eq!(event.bytes(), serde_json::to_string(&event).unwrap().len());
}
