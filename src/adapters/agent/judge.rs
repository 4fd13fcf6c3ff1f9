//! What an agent's end means. Claude Code by its last result event, because its exit code and the result's name lie: an
//! API error is a `success`, and SIGINT an exit 0.

use serde::{Deserialize, Serialize};

use super::AgentKind;
use super::stream::{AgentReport, Conclusion, ResultEvent, StreamEnd};
use crate::process::{Ended, Exit, StartFailure, Stopped};

/// How much of a message is kept, in characters.
const MESSAGE_LIMIT: usize = 2_000;

/// What was wrong with an agent that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AgentTrouble {
    /// It failed, in a way that has no name of its own.
    Failed,
    /// All of its turns were used up.
    TurnsExceeded,
    /// Its budget was used up.
    BudgetExceeded,
    /// It has no credential for its model.
    NotLoggedIn,
    /// Its model's API did not answer as it should, for longer than it was patient.
    Api {
        /// The HTTP status, where there was one.
        status: Option<u16>,
    },
    /// A signal interrupted it.
    Interrupted,
    /// Its program is not there or cannot be executed.
    Missing,
    /// It was not started, because the sandbox could not be had or something else about the start was refused.
    NotStarted,
}

/// How an agent's run is judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// It did its work, whether or not that changed anything.
    Succeeded(AgentReport),
    /// It says, or it is plain, that it did not.
    Failed {
        /// What was wrong.
        trouble: AgentTrouble,
        /// For a person.
        message: String,
        /// What it said of its run.
        report: AgentReport,
    },
    /// It ended without saying how.
    NoResult {
        /// How its first process ended.
        exit: Exit,
        /// The end of its standard error.
        stderr: String,
        /// What it said of its run until then.
        report: AgentReport,
    },
}

impl Judgement {
    /// What the agent said of its run.
    pub fn report(&self) -> &AgentReport {
        match self {
            Self::Succeeded(report) | Self::Failed { report, .. } | Self::NoResult { report, .. } => report,
        }
    }
}

/// Judges an end. `stderr` is the end of the agent's standard error.
pub fn judge(kind: AgentKind, ended: &Ended, stream: &StreamEnd, stderr: &str) -> Judgement {
    let failed = |trouble, message: &str| Judgement::Failed {
        trouble,
        message: message.chars().take(MESSAGE_LIMIT).collect(),
        report: stream.report.clone(),
    };
    if let Some(failure) = &ended.failure {
        let trouble = match failure {
            StartFailure::NotFound { .. } | StartFailure::NotExecutable { .. } => AgentTrouble::Missing,
            StartFailure::Sandbox { .. }
            | StartFailure::Path { .. }
            | StartFailure::Descriptors { .. }
            | StartFailure::Preparation { .. } => AgentTrouble::NotStarted,
        };
        return failed(trouble, &failure.to_string());
    }
    let succeeded = ended.exit == Exit::Code(0);
    // A turn that began after the last result and was cut off makes that result no end; a clean exit does.
    let result = stream
        .result
        .as_ref()
        .filter(|_| succeeded || stream.conclusion != Conclusion::Open);
    match (kind, result) {
        (AgentKind::Command, _) if succeeded => Judgement::Succeeded(with_plain_summary(stream)),
        (AgentKind::Command, Some(result)) if trouble_of(result).is_some() => {
            failed(trouble_of(result).unwrap_or(AgentTrouble::Failed), &message_of(result))
        }
        // Killed by somebody else, it has not said that it failed.
        (AgentKind::Command, _) if matches!(ended.exit, Exit::Signal(_)) && ended.stopped == Stopped::No => {
            Judgement::NoResult {
                exit: ended.exit,
                stderr: stderr.to_owned(),
                report: stream.report.clone(),
            }
        }
        (AgentKind::Command, _) => failed(
            AgentTrouble::Failed,
            &format!("{}: {}", ended.exit, last_words(stream, stderr)),
        ),
        (AgentKind::Claude, Some(result)) => match trouble_of(result) {
            None => Judgement::Succeeded(stream.report.clone()),
            Some(trouble) => failed(trouble, &message_of(result)),
        },
        (AgentKind::Claude, None) => Judgement::NoResult {
            exit: ended.exit,
            stderr: stderr.to_owned(),
            report: stream.report.clone(),
        },
    }
}

/// A command that prints no events has its last words as its summary.
fn with_plain_summary(stream: &StreamEnd) -> AgentReport {
    let mut report = stream.report.clone();
    if report.summary.is_none() && !stream.plain_text.is_empty() {
        report.summary = Some(stream.plain_text.clone());
    }
    report
}

fn last_words<'a>(stream: &'a StreamEnd, stderr: &'a str) -> &'a str {
    let words = if stderr.trim().is_empty() {
        &stream.plain_text
    } else {
        stderr
    };
    match words.trim() {
        "" => "it said nothing",
        words => super::stream::last_bytes(words, MESSAGE_LIMIT / 2),
    }
}

fn message_of(result: &ResultEvent) -> String {
    match &result.text {
        Some(text) if !text.is_empty() => text.clone(),
        Some(_) | None => result.terminal_reason.clone().unwrap_or_else(|| result.subtype.clone()),
    }
}

fn trouble_of(result: &ResultEvent) -> Option<AgentTrouble> {
    let reason = result.terminal_reason.as_deref().unwrap_or_default();
    match result.subtype.as_str() {
        "success" if !result.is_error => None,
        "error_max_turns" => Some(AgentTrouble::TurnsExceeded),
        "error_max_budget_usd" => Some(AgentTrouble::BudgetExceeded),
        _ if reason.starts_with("aborted") => Some(AgentTrouble::Interrupted),
        // It says so in words alone, and asks nobody.
        _ if result
            .text
            .as_deref()
            .is_some_and(|text| text.starts_with("Not logged in")) =>
        {
            Some(AgentTrouble::NotLoggedIn)
        }
        _ if reason == "api_error" || result.api_error_status.is_some() => Some(AgentTrouble::Api {
            status: result.api_error_status,
        }),
        _ => Some(AgentTrouble::Failed),
    }
}

#[cfg(test)]
mod tests;
