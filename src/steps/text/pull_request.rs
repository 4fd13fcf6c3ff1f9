//! A pull request's title and body, as one function of what is known: nothing is asked or read here.
//!
//! The body, in this order: what a reader has to know first (unfinished, red check); the repository's template with the
//! agent's words and the issue in it, or these alone; the check; the figures, folded; the marker, last and once.

use std::fmt::Write;

use super::others::{markdown, output, plain, without_controls};
use super::{ended, subject, template, time};
use crate::adapters::forge::marker;
use crate::ids::{CommitId, RepoUrl, TaskId};
use crate::machine::{AgentReport, Checkout, CommandRun, Effort, Handover};
use crate::task::Task;
use crate::text::{count, cut};
use url::Url;

/// GitHub takes 65,536 characters. Each part has a bound of its own in bytes, of which there are never fewer, and together
/// they leave room for what a redactor may add: this for the agent's words,
const WORDS_LIMIT: usize = 20_000;
/// this for the end of what the check printed,
const OUTPUT_LIMIT: usize = 8_000;
/// this for why the work is not finished, before it is made plain,
const REASON_LIMIT: usize = 2_000;
/// and this for a title, in characters. GitHub takes 256.
const TITLE_LIMIT: usize = 72;

/// All that a pull request says. What others said in it has gone through the redactor already: what defuses their words
/// may break a secret in two, which is not found any more then.
pub(in crate::steps) struct PullRequestText<'a> {
    /// What was to be done.
    pub(in crate::steps) task: &'a Task,
    /// Its id.
    pub(in crate::steps) id: &'a TaskId,
    /// What the agent said and used.
    pub(in crate::steps) agent: &'a AgentReport,
    /// What was taken from it.
    pub(in crate::steps) handover: &'a Handover,
    /// Where the work started from.
    pub(in crate::steps) checkout: &'a Checkout,
    /// The commit that was pushed.
    pub(in crate::steps) head: &'a CommitId,
    /// What the check came to, where one was run.
    pub(in crate::steps) check: Option<&'a CommandRun>,
    /// Why the work is not finished, where it is not.
    pub(in crate::steps) incomplete: Option<&'a str>,
    /// How often the agent was started.
    pub(in crate::steps) attempts: Option<u32>,
    /// The hash of the journal's last row.
    pub(in crate::steps) journal_head: Option<&'a str>,
    /// The repository's template for pull requests.
    pub(in crate::steps) template: Option<&'a str>,
}

impl PullRequestText<'_> {
    /// Whether it must not be merged as it is, whatever the settings say.
    pub(in crate::steps) fn is_draft(&self) -> bool {
        self.incomplete.is_some() || self.red().is_some()
    }

    /// One line.
    pub(in crate::steps) fn title(&self) -> String {
        let subject = subject(self.task, self.id, TITLE_LIMIT);
        match self.incomplete {
            Some(_) => format!("[incomplete] {subject}"),
            None => subject,
        }
    }

    /// Markdown.
    pub(in crate::steps) fn body(&self) -> String {
        let words = self.words();
        let mut parts = self.notices();
        parts.push(match self.template {
            Some(template) => template::filled(template, &words).trim_end().to_owned(),
            None => words,
        });
        parts.extend(self.check.map(checked));
        parts.push(self.figures());
        // Nothing but the last line may pass for it: not what others said, and not the template.
        let body = parts.join("\n\n").replace("<!-- runner:", "<!-- not runner:");
        format!("{body}\n\n{}\n", marker(self.id))
    }

    fn red(&self) -> Option<&CommandRun> {
        self.check.filter(|check| !check.passed())
    }

    fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if let Some(why) = self.incomplete {
            let why = plain(&cut(why, REASON_LIMIT));
            notices.push(format!(
                "> [!WARNING]\n> **This work is not finished.** {why}\n>\n> What was done by then is here, so that it is not lost."
            ));
        }
        if let Some(check) = self.red() {
            let what = if check.was_run() {
                "The check fails"
            } else {
                "The change is not checked"
            };
            notices.push(format!(
                "> [!CAUTION]\n> **{what}** ({}). What was printed is below.",
                ended(check)
            ));
        }
        notices
    }

    /// What the agent said, and where the task comes from.
    fn words(&self) -> String {
        let summary = self
            .agent
            .summary
            .as_deref()
            .map(str::trim)
            .filter(|text| !text.is_empty());
        let mut words = match summary {
            Some(text) => bounded(text, WORDS_LIMIT),
            None => "The agent said nothing about its change.".to_owned(),
        };
        if let Some(source) = &self.task.source_url {
            let _ = write!(words, "\n\n{}", self.origin(source));
        }
        if let Some(why) = &self.handover.flattened {
            let _ = write!(
                words,
                "\n\n> The agent's own commits could not be kept ({}): its tree is one commit on the base.",
                plain(&cut(why, REASON_LIMIT))
            );
        }
        let missing = self.agent.missing_parts.iter();
        let missing: Vec<String> = missing
            .map(|part| part.named(|text| format!("`{}`", cell(text))))
            .collect();
        if !missing.is_empty() {
            let _ = write!(words, "\n\n> The agent worked without {}.", missing.join(", "));
        }
        words
    }

    /// An issue of this very repository is closed by the merge, unless the work is not finished. All else is a link.
    fn origin(&self, source: &str) -> String {
        match (issue(source, &self.task.repo), self.incomplete) {
            (Some(number), None) => format!("Closes #{number}"),
            (Some(number), Some(_)) => format!("For #{number}"),
            (None, _) => match Url::parse(source) {
                Ok(url) if matches!(url.scheme(), "http" | "https") => format!("Source: <{}>", without_brackets(&url)),
                Ok(_) | Err(_) => format!("Source: {}", plain(&cut(source, 500))),
            },
        }
    }

    fn figures(&self) -> String {
        let mut figures = "<details>\n<summary>How it was made</summary>\n\n| | |\n|---|---|".to_owned();
        for (name, value) in self.facts() {
            let _ = write!(figures, "\n| {name} | {value} |");
        }
        figures.push_str("\n\n</details>");
        figures
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let AgentReport {
            model,
            session_id,
            effort,
            summary: _,
            missing_parts: _,
        } = self.agent;
        let Effort {
            ran_ms,
            cost_micro_usd,
            turns,
            input_tokens,
            output_tokens,
        } = effort;
        let change = format!(
            "{}, {}",
            count(self.handover.commits, "commit"),
            count(self.handover.files, "file")
        );
        let code = |text: &str| format!("`{}`", cell(text));
        let cost = cost_micro_usd.map(|micro| format!("${}.{:04}", micro / 1_000_000, micro % 1_000_000 / 100));
        let tokens = input_tokens
            .zip(*output_tokens)
            .map(|(input, output)| format!("{input} in, {output} out"));
        [
            ("task", Some(code(self.id.as_str()))),
            ("change", Some(change)),
            (
                "base",
                Some(format!(
                    "`{}` on {}",
                    self.checkout.base,
                    code(self.checkout.base_branch.as_str())
                )),
            ),
            ("head", Some(format!("`{}`", self.head))),
            ("duration", Some(time(*ran_ms))),
            ("attempts", self.attempts.map(|attempts| attempts.to_string())),
            ("turns", turns.map(|turns| turns.to_string())),
            ("tokens", tokens),
            ("cost", cost),
            ("model", model.as_deref().map(code)),
            ("session", session_id.as_deref().map(code)),
            ("journal", self.journal_head.map(code)),
            ("runner", Some(code(crate::VERSION))),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

fn checked(check: &CommandRun) -> String {
    if check.passed() {
        format!("### Check\n\nPassed: {}.", ended(check))
    } else {
        format!(
            "### Check\n\n{}: {}. The end of what was printed:\n\n{}",
            if check.was_run() { "Failed" } else { "Not done" },
            ended(check),
            output(&check.output, OUTPUT_LIMIT)
        )
    }
}

/// An agent's words, of which there may be more once they are defused.
fn bounded(text: &str, limit: usize) -> String {
    let mut length = limit;
    loop {
        let shown = markdown(&cut(text, length));
        if shown.len() <= limit {
            return shown;
        }
        length = length / 4 * 3;
    }
}

/// The number of an issue, where an address is one of this repository's.
fn issue(source: &str, repo: &RepoUrl) -> Option<u64> {
    let RepoUrl::Http(repo) = repo else { return None };
    let source = Url::parse(source).ok()?;
    let plain = source.username().is_empty()
        && source.password().is_none()
        && source.query().is_none()
        && source.fragment().is_none()
        && matches!(source.scheme(), "http" | "https");
    // The port that a scheme has by itself is none.
    let same_host = source.host_str() == repo.host_str() && source.port() == repo.port();
    let path = repo.path().trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let (front, number) = source.path().strip_prefix('/')?.rsplit_once("/issues/")?;
    let digits = number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0') && number.len() <= 10;
    (plain && same_host && front.eq_ignore_ascii_case(path) && digits)
        .then(|| number.parse().ok())
        .flatten()
}

/// An address as it may stand between brackets: what could end it there is encoded, as it may be anywhere in one.
fn without_brackets(url: &Url) -> String {
    let text = cut(url.as_str(), 2_000);
    text.replace('<', "%3C").replace('>', "%3E").replace('`', "%60")
}

/// A name for a cell of a table, between backticks.
fn cell(text: &str) -> String {
    let kept = |c: &char| !matches!(c, '`' | '|' | '\n' | '\t');
    without_controls(text).chars().filter(kept).take(500).collect()
}

#[cfg(test)]
mod tests;
