//! What people read on the forge: the commit's message, the pull request's title and body.

use std::fmt::Write;

use crate::adapters::forge::marker;
use crate::ids::{CommitId, TaskId};
use crate::machine::{AgentReport, Millis, Work};
use crate::task::Task;
use crate::text::{count, cut};

/// What the check of a repository came to (`RUNNER_CHECK_COMMAND`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CheckText<'a> {
    /// Its exit code; none where it was killed.
    pub(super) exit: Option<i32>,
    /// How long it ran, in milliseconds.
    pub(super) ran_ms: Millis,
    /// The end of what it printed.
    pub(super) output_end: &'a str,
}

impl CheckText<'_> {
    /// How it ended, for a sentence.
    pub(super) fn ended(&self) -> String {
        let how = match self.exit {
            Some(code) => format!("exit code {code}"),
            None => "it was killed".to_owned(),
        };
        format!("{how}, after {}", seconds(self.ran_ms))
    }
}

/// A time for a person.
fn seconds(ms: Millis) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

/// GitHub takes 65,536 characters; what the agent says is cut well before.
const SUMMARY_LIMIT: usize = 20_000;

/// The message of the commit that holds what the agent left uncommitted.
pub(super) fn commit_message(task: &Task, id: &TaskId) -> String {
    let mut message = format!("{}\n\nTask: {id}\n", task.title());
    if let Some(source) = &task.source_url {
        let _ = writeln!(message, "Source: {}", one_line(source));
    }
    message
}

/// The pull request's title.
pub(super) fn title(work: &Work) -> String {
    work.task.title()
}

/// The pull request's body: what was done, what it cost, and the marker by which this task finds it again.
pub(super) fn body(work: &Work, head: &CommitId, id: &TaskId) -> String {
    let summary = work.agent.summary.as_deref().map(str::trim).filter(|s| !s.is_empty());
    let summary = summary.unwrap_or("The agent said nothing about its change.");
    let mut body = format!("{}\n\n", without_markers(&cut(summary, SUMMARY_LIMIT)));
    if let Some(source) = &work.task.source_url {
        let _ = writeln!(body, "Source: {}\n", one_line(source));
    }
    if let Some(why) = &work.handover.flattened {
        let _ = writeln!(
            body,
            "> The agent's own commits could not be kept ({why}): its tree is one commit on the base.\n"
        );
    }
    let _ = writeln!(body, "| | |\n|---|---|");
    for (name, value) in facts(work, head, id) {
        let _ = writeln!(body, "| {name} | {value} |");
    }
    let _ = write!(body, "\n{}\n", marker(id));
    body
}

fn facts(work: &Work, head: &CommitId, id: &TaskId) -> Vec<(&'static str, String)> {
    let AgentReport {
        cost_micro_usd,
        turns,
        input_tokens,
        output_tokens,
        model,
        session_id,
        ran_ms,
        summary: _,
    } = &work.agent;
    let handover = &work.handover;
    let mut facts = vec![
        ("task", format!("`{id}`")),
        (
            "change",
            format!(
                "{}, {}",
                count(handover.commits, "commit"),
                count(handover.files, "file")
            ),
        ),
        ("head", format!("`{head}`")),
        ("duration", format!("{} s", ran_ms / 1000)),
    ];
    if let Some(micro) = cost_micro_usd {
        facts.push(("cost", format!("${}.{:04}", micro / 1_000_000, micro % 1_000_000 / 100)));
    }
    if let (Some(input), Some(output)) = (input_tokens, output_tokens) {
        facts.push(("tokens", format!("{input} in, {output} out")));
    }
    if let Some(turns) = turns {
        facts.push(("turns", turns.to_string()));
    }
    if let Some(model) = model {
        facts.push(("model", format!("`{}`", one_line(model))));
    }
    if let Some(session) = session_id {
        facts.push(("session", format!("`{}`", one_line(session))));
    }
    facts
}

/// What the agent says cannot pass for this runner's own mark.
fn without_markers(text: &str) -> String {
    text.replace("<!-- runner:", "<!-- not runner:")
}

fn one_line(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() && *c != '`' && *c != '|')
        .take(500)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ids::{LocalRepos, PlainHttp, RepoPolicy};
    use crate::machine::{Checkout, Handover, TokenFacts};

    fn work(summary: &str) -> Work {
        let raw = br##"{"description":"# Fix the parser\nmore","context":"","sourceURL":"https://forge.example/o/r/issues/1","repo":{"url":"https://forge.example/o/r"}}"##;
        let policy = RepoPolicy {
            plain_http: PlainHttp::LoopbackOnly,
            local: LocalRepos::Refused,
        };
        Work {
            task: Arc::new(Task::parse(raw, policy).unwrap()),
            token: TokenFacts {
                sha256_prefix: String::new(),
                expires_at_ms: 0,
            },
            checkout: Checkout {
                base: "a".repeat(40).parse().unwrap(),
                base_branch: "main".parse().unwrap(),
                branch: "runner/t".parse().unwrap(),
            },
            agent: AgentReport {
                summary: Some(summary.to_owned()),
                cost_micro_usd: Some(1_234_567),
                turns: Some(3),
                ran_ms: 61_000,
                ..AgentReport::default()
            },
            handover: Handover {
                head: None,
                commits: 2,
                files: 1,
                flattened: None,
            },
        }
    }

    #[test]
    fn the_body_says_what_was_done_and_what_it_cost_and_carries_one_marker() {
        let id: TaskId = "t".parse().unwrap();
        let head: CommitId = "b".repeat(40).parse().unwrap();
        let text = body(
            &work("Done. <!-- runner:task=t --> <!-- runner:task=other -->"),
            &head,
            &id,
        );
        assert!(text.starts_with("Done."), "{text}");
        assert!(text.contains("| cost | $1.2345 |"), "{text}");
        assert_eq!(text.matches("<!-- runner:task=").count(), 1, "{text}");
        assert!(text.contains(&marker(&id)));
    }

    #[test]
    fn the_title_is_the_first_line_of_the_task() {
        assert_eq!(title(&work("")), "Fix the parser");
        let message = commit_message(&work("").task, &"t".parse().unwrap());
        assert!(
            message.starts_with("Fix the parser\n\nTask: t\nSource: https://"),
            "{message}"
        );
    }
}
