//! The journals that the pages are made of: of real runs, and two that are written by hand, a long and a hostile one.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use runner::machine::{Assignment, EffectName, Event, Left, Outcome, Run, Trouble, transition};
use runner::record;
use runner_journal::Journal;

use crate::harness::{Bench, Outside, transcript, until};

/// What the scripted agent prints at its first start, before it is cut off or runs out of time.
const BEGUN: &[&str] = &[
    r#"{"type":"system","subtype":"init","session_id":"s-1","model":"claude-test-1"}"#,
    r#"{"type":"assistant","message":{"id":"m1","content":[{"type":"text","text":"I will look at how the counter is tested first."}]}}"#,
    r#"{"type":"assistant","message":{"id":"m1","content":[{"type":"tool_use","id":"t1","name":"Read","input":{"file_path":"README.md"}}]}}"#,
    r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t1","content":"two"}]}}"#,
    r#"{"type":"assistant","message":{"id":"m2","content":[{"type":"tool_use","id":"t2","name":"Bash","input":{"command":"make test"}}]}}"#,
];
/// And what it prints when it comes to its end.
const DONE: &[&str] = &[
    r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t2","is_error":true,"content":"1 of 12 failed: counts twice"}]}}"#,
    r#"{"type":"assistant","message":{"id":"m3","content":[{"type":"text","text":"The counter counts a retry twice. I will count by key."}]}}"#,
    r#"{"type":"assistant","message":{"id":"m3","content":[{"type":"tool_use","id":"t3","name":"Edit","input":{"file_path":"src/counter.rs","old_string":"n += 1","new_string":"seen.insert(key)"}}]}}"#,
    r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t3","content":"ok"}]}}"#,
    r#"{"type":"assistant","message":{"id":"m4","content":[{"type":"tool_use","id":"t4","name":"Bash","input":{"command":"make test"}}]}}"#,
    r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t4","content":"12 of 12 passed"}]}}"#,
    r#"{"type":"result","subtype":"success","is_error":false,"terminal_reason":"completed","num_turns":4,"total_cost_usd":0.3142,"usage":{"input_tokens":18230,"output_tokens":2117},"result":"The counter counted a retry twice. It counts each key once now; all 12 tests pass."}"#,
];

/// A shell command that prints these lines.
fn prints(lines: &[&str]) -> String {
    let quoted: Vec<String> = lines.iter().map(|line| format!("'{line}'")).collect();
    format!("printf '%s\\n' {}", quoted.join(" "))
}

/// A run, and the world that it was in.
pub(crate) struct Made {
    pub(crate) outside: Outside,
    pub(crate) bench: Bench,
}

impl Made {
    pub(crate) fn journal(&self) -> PathBuf {
        self.bench.journal()
    }
}

/// Completed after two crashes: one while the agent worked, one after the push and before its outcome was written.
pub(crate) async fn crashed_twice() -> Made {
    let outside = Outside::start().await;
    let agent = format!(
        "cat > /dev/null; echo run >> \"$HOME/runs\"; {}; [ $(wc -l < \"$HOME/runs\") -gt 1 ] || sleep 600; {}; echo change >> change.txt",
        prints(BEGUN),
        prints(DONE)
    );
    let bench = Bench::new(&outside)
        .with("RUNNER_AGENT_COMMAND", &agent)
        .with("RUNNER_CHECK_COMMAND", "grep -q change change.txt");
    let mut first = bench.start();
    first.assign(&outside.assignment()).await;
    let path = bench.path("state/agent/transcript-1.jsonl.zst");
    until("what it printed is kept", &first, || {
        path.exists() && transcript(&path).contains("\"t2\"")
    })
    .await;
    first.kill().await;
    let mut second = bench.start_to_crash_at("before-outcome-push");
    assert_eq!(second.wait().await.signal(), Some(9), "{}", second.log());
    assert_eq!(bench.until_over(&outside).await, 0);
    Made { outside, bench }
}

/// Timed out in mid-work, and what it had done was saved.
pub(crate) async fn timed_out() -> Made {
    let outside = Outside::start().await;
    let agent = format!(
        "cat > /dev/null; {}; echo change >> change.txt; sleep 600",
        prints(BEGUN)
    );
    let bench = Bench::new(&outside)
        .with("RUNNER_AGENT_COMMAND", &agent)
        .with("RUNNER_AGENT_TIMEOUT", "2s");
    assert_eq!(bench.until_over(&outside).await, 1);
    Made { outside, bench }
}

/// A copy of a journal, in which two rows were changed.
pub(crate) fn damaged(journal: &Path, to: &Path) -> PathBuf {
    let mut bytes = fs::read(journal).unwrap();
    for needle in ["base_branch", "\"number\""] {
        let stored: Vec<usize> = (0..bytes.len() - needle.len())
            .filter(|at| bytes[*at..].starts_with(needle.as_bytes()))
            .collect();
        assert!(!stored.is_empty(), "{needle}");
        for at in stored {
            bytes[at] ^= 1;
        }
    }
    let path = to.join("journal.db");
    fs::write(&path, bytes).unwrap();
    path
}

/// A task whose API is away for so many rows, each of which says `cause`.
pub(crate) fn unreachable(to: &Path, rows: u64, cause: impl Fn(u32) -> String) -> PathBuf {
    let path = to.join("journal.db");
    let mut journal = Journal::open(&path, &record::machine()).unwrap().journal;
    let assignment = Assignment {
        task_id: "long".parse().unwrap(),
        api_url: "http://127.0.0.1:8081".parse().unwrap(),
        trace: None,
    };
    let mut run = Run::default();
    let at = |attempt: u32| 1_767_225_600_000 + i64::from(attempt) * 250;
    let mut events = vec![Event::Booted { at: at(0) }, Event::Assigned { assignment, at: at(0) }];
    let mut attempt = 0;
    while journal.head().seq < rows {
        let mut entries = Vec::new();
        for event in events.drain(..) {
            let after = transition(&run, &event).unwrap();
            entries.extend(record::write(&run, &event, &after).unwrap().entries);
            run = after;
        }
        journal.append(at(attempt), &entries, &[]).unwrap();
        for _ in 0..(rows / 2).clamp(1, 500) {
            attempt += 1;
            events.push(Event::Intended {
                effect: EffectName::Start,
                attempt,
                session: None,
                at: at(attempt),
            });
            events.push(Event::Ended {
                effect: EffectName::Start,
                attempt,
                outcome: Outcome::Retry {
                    trouble: Trouble::Unreachable,
                    cause: cause(attempt),
                    after_ms: None,
                    left: Left::default(),
                },
                at: at(attempt),
            });
        }
    }
    journal.close().unwrap();
    path
}
