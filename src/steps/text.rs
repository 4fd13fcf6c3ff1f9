//! What people read on the forge: the commit's message, the pull request's title and body.

use std::fmt::Write;

use crate::ids::TaskId;
use crate::machine::{CommandEnd, CommandRun, Millis};
use crate::task::Task;

mod others;
mod pull_request;
mod template;

use others::{closes_nothing, without_controls};
pub(super) use pull_request::PullRequestText;
pub(super) use template::template;

/// How long a line of a commit's message is, in characters.
const WIDTH: usize = 72;
/// How much of an agent's words a commit's message has, in bytes: the pull request has all of them.
const MESSAGE_LIMIT: usize = 2_000;

/// How a check ended, for a sentence.
pub(super) fn ended(check: &CommandRun) -> String {
    match check.end {
        CommandEnd::NotStarted => check.end.to_string(),
        CommandEnd::Exit(_) | CommandEnd::Signal(_) | CommandEnd::TimedOut | CommandEnd::Interrupted => {
            format!("{}, after {}", check.end, time(check.ran_ms))
        }
    }
}

/// The message of the commit that holds what the agent left uncommitted: the task's first line, what the agent said, and
/// where it comes from. The trailers are a paragraph of their own at the end, so that nothing said before is one.
pub(super) fn commit_message(task: &Task, id: &TaskId, summary: Option<&str>) -> String {
    let mut parts = vec![subject(task, id, WIDTH)];
    let said = summary.map(|text| said(&crate::text::cut(text, MESSAGE_LIMIT)));
    parts.extend(said.filter(|text| !text.is_empty()));
    let mut trailers = format!("Task: {id}\n");
    if let Some(source) = &task.source_url {
        let source: String = without_controls(source).split_whitespace().collect();
        let _ = writeln!(trailers, "Source: {}", crate::text::cut(&source, 500));
    }
    parts.push(trailers);
    parts.join("\n\n")
}

/// An agent's words for a commit's message, wrapped; it calls nobody and closes nothing. Lines that are indented, or in a list or a block of
/// code, keep their beginning; none is joined with the next.
fn said(text: &str) -> String {
    let text = without_controls(text);
    let mut lines = Vec::new();
    for line in text.trim().lines() {
        let line = closes_nothing(line.trim_end()).replace('@', "@\u{200b}");
        let indent = line.len() - line.trim_start().len();
        let mut wrapped = line[..indent].to_owned();
        for word in line.split_whitespace() {
            let length = wrapped.chars().count();
            if length > indent && length + 1 + word.chars().count() > WIDTH {
                lines.push(std::mem::replace(&mut wrapped, line[..indent].to_owned()));
            } else if length > indent {
                wrapped.push(' ');
            }
            wrapped.push_str(word);
        }
        lines.push(wrapped);
    }
    // Git takes a line with a hash for a comment where a person edits the message.
    let lines = lines.iter().map(|line| line.trim_start_matches('#').trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

/// The task's first line, without what makes it a heading, cut at a word.
fn subject(task: &Task, id: &TaskId, limit: usize) -> String {
    let lines = || task.description.lines().map(without_controls);
    let line = lines()
        .map(|line| line.trim().trim_start_matches('#').trim().to_owned())
        .find(|line| !line.is_empty())
        .unwrap_or_else(|| format!("Task {id}"));
    if line.chars().count() <= limit {
        return line;
    }
    let kept: String = line.chars().take(limit - 1).collect();
    // A word that goes on is left out, but for one that is most of the line.
    let next_ends = line.chars().nth(limit - 1).is_some_and(char::is_whitespace);
    let at_a_word = kept.rsplit_once(char::is_whitespace).map(|(front, _)| front);
    let kept = match at_a_word {
        Some(front) if !next_ends && front.chars().count() > limit / 2 => front,
        Some(_) | None => &kept,
    };
    format!("{}…", kept.trim_end())
}

/// A time for a person.
fn time(ms: Millis) -> String {
    let (minutes, seconds) = (ms / 60_000, ms % 60_000 / 1000);
    match minutes {
        0 => format!("{seconds}.{} s", ms % 1000 / 100),
        _ => format!("{minutes} min {seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LocalRepos, PlainHttp, RepoPolicy};

    fn task(description: &str) -> Task {
        let raw = serde_json::json!({
            "description": description, "sourceURL": "https://forge.example/o/r/issues/1\nTask: other",
            "repo": {"url": "https://forge.example/o/r"},
        });
        let policy = RepoPolicy {
            plain_http: PlainHttp::LoopbackOnly,
            local: LocalRepos::Refused,
        };
        Task::parse(raw.to_string().as_bytes(), policy).unwrap()
    }

    fn id() -> TaskId {
        "t".parse().unwrap()
    }

    #[test]
    fn the_message_has_the_tasks_first_line_the_agents_words_and_trailers_of_ours_alone() {
        let words = "I mended it, and this line of the agent's words is longer than the seventy-two characters that a line \
                     may have.\n\n- ask @team\n\nTask: another\nSigned-off-by: nobody";
        let message = commit_message(&task("# Fix the parser\nmore"), &id(), Some(words));
        assert_eq!(
            message,
            "Fix the parser\n\n\
             I mended it, and this line of the agent's words is longer than the\n\
             seventy-two characters that a line may have.\n\n\
             - ask @\u{200b}team\n\n\
             Task: another\nSigned-off-by: nobody\n\n\
             Task: t\nSource: https://forge.example/o/r/issues/1Task:other\n"
        );
        assert!(message.lines().all(|line| line.chars().count() <= WIDTH));
        let bare = commit_message(&task("Fix"), &id(), Some(" \n"));
        assert!(bare.starts_with("Fix\n\nTask: t\nSource: "), "{bare}");
    }

    #[test]
    fn a_subject_is_cut_at_a_word_and_is_never_empty() {
        let long = "word ".repeat(30);
        let cut = subject(&task(&long), &id(), 72);
        assert_eq!(cut, format!("{}…", "word ".repeat(14).trim_end()));
        let one = subject(&task(&"x".repeat(100)), &id(), 72);
        assert_eq!(one, format!("{}…", "x".repeat(71)));
        let exact = "ä".repeat(72);
        assert_eq!(subject(&task(&exact), &id(), 72), exact);
        assert_eq!(subject(&task("\n## \u{1b}[1m Fix\tit\n"), &id(), 72), "Fix\tit");
        assert_eq!(subject(&task("###"), &id(), 72), "Task t");
    }
}
