//! What `runner run` tells the GitHub Actions job that it is a step of: a summary for people, and outputs for later steps.
//!
//! In a job the environment has variables of the Actions runner's own that begin with `RUNNER_`, too: they are no settings of
//! this program, and [`is_of_the_job`] knows them.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;
use url::Url;

use super::journal::in_words;
use crate::machine::Verdict;
use crate::text::{cut, escape_controls};

/// A summary may have a mebibyte, with what other steps say; this is ours, in bytes.
const SUMMARY_LIMIT: usize = 32 * 1024;
/// An output's value, in bytes.
const OUTPUT_LIMIT: usize = 4096;

/// What the Actions runner sets in every job beside its `GITHUB_*`.
const OF_THE_JOB: [&str; 12] = [
    "RUNNER_ARCH",
    "RUNNER_DEBUG",
    "RUNNER_ENVIRONMENT",
    "RUNNER_IMAGE",
    "RUNNER_MANUALLY_TRAP_SIG",
    "RUNNER_NAME",
    "RUNNER_OS",
    "RUNNER_PERFLOG",
    "RUNNER_TEMP",
    "RUNNER_TOOL_CACHE",
    "RUNNER_TRACKING_ID",
    "RUNNER_WORKSPACE",
];

/// Whether this process is part of a GitHub Actions job. `env` looks up a variable.
pub(super) fn is_in_one(env: impl Fn(&str) -> Option<OsString>) -> bool {
    env("GITHUB_ACTIONS").is_some_and(|value| value == "true")
}

/// Whether a variable of a job is the Actions runner's: above all `RUNNER_WORKSPACE`, which names the directory around the
/// checkout there, and the agent's workspace here.
pub(super) fn is_of_the_job(variable: &str) -> bool {
    OF_THE_JOB.contains(&variable)
}

/// How a run ended, for the job around it.
pub(super) struct Told<'a> {
    /// The process's exit code.
    pub(super) code: u8,
    /// The verdict, where there is one.
    pub(super) verdict: Option<&'a Verdict>,
    /// The journal.
    pub(super) journal: &'a Path,
}

impl Told<'_> {
    /// Writes the summary and the outputs into the files that the job names. What cannot be written is said, and changes
    /// nothing of how the run ended.
    pub(super) fn tell(&self, env: impl Fn(&str) -> Option<OsString>) {
        if !is_in_one(&env) {
            return;
        }
        let mut outputs = String::new();
        for (name, value) in self.outputs() {
            let _ = writeln!(outputs, "{name}={value}");
        }
        let explained = in_words(self.journal);
        for (variable, text) in [
            ("GITHUB_OUTPUT", outputs),
            ("GITHUB_STEP_SUMMARY", self.summary(explained.as_deref())),
        ] {
            let Some(path) = env(variable).filter(|path| !path.is_empty()) else {
                continue;
            };
            if let Err(error) = append(&PathBuf::from(path), &text) {
                tracing::warn!("{variable} cannot be written: {error}");
            }
        }
    }

    /// Name and value, each value in one line: the file's form has no other way of telling where one ends.
    fn outputs(&self) -> Vec<(&'static str, String)> {
        let mut outputs = vec![
            ("exit-code", self.code.to_string()),
            ("journal", self.journal.display().to_string()),
        ];
        let body: Value = self.verdict.map_or(Value::Null, |verdict| {
            serde_json::from_str(&verdict.body).unwrap_or_default()
        });
        let detail = |name: &str| match &body["details"][name] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let event = self
            .verdict
            .map_or("unfinished".to_owned(), |verdict| verdict.kind.to_string());
        outputs.push(("result", event));
        outputs.extend(self.verdict.map(|verdict| ("message", verdict.message.clone())));
        for (output, name) in [
            ("outcome", "outcome"),
            ("reason", "reason"),
            ("pull-request-url", "prURL"),
            ("branch", "branch"),
            ("commit", "commit"),
            ("cost-usd", "costUSD"),
            ("turns", "turns"),
        ] {
            outputs.extend(detail(name).map(|value| (output, value)));
        }
        for (_, value) in &mut outputs {
            *value = cut(&escape_controls(value), OUTPUT_LIMIT);
        }
        outputs
    }

    /// Markdown. Others' words stand in a block that they cannot close.
    fn summary(&self, explained: Option<&str>) -> String {
        let outputs = self.outputs();
        let output = |wanted: &str| {
            outputs
                .iter()
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| value.as_str())
        };
        let title = match output("result") {
            Some("completed") => "✅ The task is done",
            Some("failed") => "❌ The task failed",
            Some("superseded") => "⏹️ The task was ended elsewhere",
            _ => "⏸️ The task is not finished",
        };
        let mut text = format!("### {title}\n\n");
        let link = output("pull-request-url").and_then(|url| Url::parse(url).ok());
        if let Some(url) = link.filter(|url| matches!(url.scheme(), "http" | "https")) {
            // As a URL is written, it has no space and no angle bracket in it.
            let _ = writeln!(text, "<{url}>\n");
        }
        text.push_str("| | |\n|---|---|\n");
        for name in [
            "outcome",
            "reason",
            "branch",
            "commit",
            "turns",
            "cost-usd",
            "exit-code",
        ] {
            if let Some(value) = output(name) {
                let _ = writeln!(
                    text,
                    "| {} | `{}` |",
                    name.replace('-', " "),
                    value.replace(['`', '|'], "'")
                );
            }
        }
        let words = explained.or(output("message")).unwrap_or_default();
        let words = cut(words.trim_end(), SUMMARY_LIMIT);
        let fence = "`".repeat(longest_run(&words).max(2) + 1);
        let _ = writeln!(text, "\n{fence}text\n{words}\n{fence}\n");
        text
    }
}

/// How many backticks stand together in a text, at most.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::VerdictKind;

    fn verdict(message: &str) -> Verdict {
        let details = serde_json::json!({
            "prURL": "https://github.com/octo/hello/pull/7",
            "outcome": "pull_request",
            "branch": "runner/t-1",
            "costUSD": 0.25,
            "turns": 3,
        });
        Verdict {
            kind: VerdictKind::Completed,
            reason: None,
            message: message.to_owned(),
            body: serde_json::json!({"event": "completed", "message": message, "details": details}).to_string(),
            key: String::new(),
        }
    }

    fn told(verdict: Option<&Verdict>) -> Told<'_> {
        Told {
            code: 0,
            verdict,
            journal: Path::new("/state/journal.db"),
        }
    }

    #[test]
    fn a_job_gets_outputs_of_one_line_each_and_a_summary_beside_what_others_wrote() {
        let room = tempfile::tempdir().unwrap();
        let (output, summary) = (room.path().join("output"), room.path().join("summary"));
        std::fs::write(&output, "earlier=1\n").unwrap();
        std::fs::write(&summary, "# Earlier\n").unwrap();
        let env = |name: &str| match name {
            "GITHUB_ACTIONS" => Some("true".into()),
            "GITHUB_OUTPUT" => Some(output.clone().into_os_string()),
            "GITHUB_STEP_SUMMARY" => Some(summary.clone().into_os_string()),
            _ => None,
        };
        let verdict = verdict("Done\npull-request-url=https://evil.example/");
        told(Some(&verdict)).tell(env);
        let written = std::fs::read_to_string(&output).unwrap();
        assert!(
            written.starts_with("earlier=1\nexit-code=0\njournal=/state/journal.db\nresult=completed\n"),
            "{written}"
        );
        let urls: Vec<&str> = written
            .lines()
            .filter(|line| line.starts_with("pull-request-url="))
            .collect();
        assert_eq!(urls, ["pull-request-url=https://github.com/octo/hello/pull/7"]);
        assert!(
            written.contains("cost-usd=0.25\n") && written.contains("turns=3\n"),
            "{written}"
        );
        let shown = std::fs::read_to_string(&summary).unwrap();
        assert!(
            shown.starts_with("# Earlier\n### ✅ The task is done\n\n<https://github.com/octo/hello/pull/7>\n"),
            "{shown}"
        );
    }

    #[test]
    fn outside_of_a_job_nothing_is_written() {
        let room = tempfile::tempdir().unwrap();
        let output = room.path().join("output");
        told(None).tell(|name| (name == "GITHUB_OUTPUT").then(|| output.clone().into_os_string()));
        assert!(!output.exists());
    }

    #[test]
    fn others_words_cannot_leave_their_block() {
        let verdict = verdict("x");
        let summary = told(Some(&verdict)).summary(Some("a\n````\n# Not a heading\n````\nb"));
        let fences: Vec<&str> = summary.lines().filter(|line| line.starts_with("`````")).collect();
        assert_eq!(fences, ["`````text", "`````"], "{summary}");
    }

    #[test]
    fn a_run_that_is_not_finished_says_so() {
        let told = told(None);
        assert!(told.outputs().contains(&("result", "unfinished".to_owned())));
        assert!(told.summary(None).contains("is not finished"));
    }
}
