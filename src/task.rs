//! What a task is: the words of the task API, and the same held against what is allowed here.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use thiserror::Error;

use crate::ids::{GitRef, InvalidName, RepoPolicy, RepoUrl};
use crate::text::excerpt;

/// The longest context a task may bring, in bytes.
pub const CONTEXT_LIMIT: usize = 10 * 1024 * 1024;
/// What a task is about, as the API says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskData {
    /// What is to be done.
    pub description: String,
    /// What else is known about it; empty where the API has none.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub context: String,
    /// Where the task came from, for people.
    #[serde(
        rename = "sourceURL",
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub source_url: Option<String>,
    /// Where the work is done.
    pub repo: TaskRepo,
}

/// The repository of a task: words of the API, not yet held against any policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRepo {
    /// Its address.
    pub url: String,
    /// The branch, tag or commit to start from; the remote's default branch where absent.
    #[serde(
        rename = "ref",
        default,
        deserialize_with = "empty_is_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub git_ref: Option<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn empty_is_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// Why bytes are not task data.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TaskDataError {
    /// Not JSON at all.
    #[error("the task data is not JSON (line {line}, column {column})")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// JSON without a field that has to be there, or with one of another type.
    #[error("the task data is not as the contract has it: {why}")]
    Shape {
        /// Which field, for a person; at most 200 characters, escaped.
        why: String,
    },
    /// More context than [`CONTEXT_LIMIT`].
    #[error("the task's context has {bytes} bytes; {CONTEXT_LIMIT} are allowed")]
    ContextTooLarge {
        /// How many there are.
        bytes: usize,
    },
}

impl TaskData {
    /// Parses the body of `GET /data`, fresh from the API or from the journal; fields it does not know are let pass.
    pub fn parse(body: &[u8]) -> Result<Self, TaskDataError> {
        let data: Self = serde_json::from_slice(body).map_err(|error| match error.classify() {
            Category::Data => TaskDataError::Shape {
                why: excerpt(&error.to_string()),
            },
            Category::Syntax | Category::Eof | Category::Io => TaskDataError::NotJson {
                line: error.line(),
                column: error.column(),
            },
        })?;
        if data.context.len() > CONTEXT_LIMIT {
            return Err(TaskDataError::ContextTooLarge {
                bytes: data.context.len(),
            });
        }
        Ok(data)
    }
}

/// What is to be done: the task API's answer to `GET /data`, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The answer as it came, which is what the journal keeps.
    pub raw: Arc<[u8]>,
    /// What the agent is asked for.
    pub description: String,
    /// What it should know besides.
    pub context: String,
    /// The issue or ticket that the task comes from.
    pub source_url: Option<String>,
    /// Where the repository is.
    pub repo: RepoUrl,
    /// What to start from; none is the remote's default branch.
    pub git_ref: Option<GitRef>,
}

/// Why a task's data cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TaskError {
    /// Not the JSON object that the contract has.
    #[error(transparent)]
    Wire(#[from] TaskDataError),
    /// There is nothing to ask the agent for.
    #[error("the task's description is empty")]
    EmptyDescription,
    /// The repository or its ref has a form that is not allowed.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl Task {
    /// Parses the answer to `GET /data` and holds its repository against the policy.
    pub fn parse(raw: &[u8], policy: RepoPolicy) -> Result<Self, TaskError> {
        let data = TaskData::parse(raw)?;
        if data.description.trim().is_empty() {
            return Err(TaskError::EmptyDescription);
        }
        Ok(Self {
            raw: raw.into(),
            description: data.description,
            context: data.context,
            source_url: data.source_url,
            repo: RepoUrl::parse(&data.repo.url, policy)?,
            git_ref: data.repo.git_ref.map(|name| name.parse()).transpose()?,
        })
    }

    /// The description's first line, cut to 72 characters: a title.
    pub fn title(&self) -> String {
        let line = self
            .description
            .lines()
            .map(str::trim)
            .find(|l| !l.is_empty())
            .unwrap_or_default();
        let line = line.trim_start_matches('#').trim();
        if line.chars().count() <= 72 {
            line.to_owned()
        } else {
            let cut: String = line.chars().take(71).collect();
            format!("{}…", cut.trim_end())
        }
    }
}

/// A task for tests that are about something else.
#[cfg(test)]
pub(crate) fn sample() -> Arc<Task> {
    use crate::ids::{LocalRepos, PlainHttp};
    let raw = br#"{"description":"do it","context":"","repo":{"url":"http://127.0.0.1:1/o/r"}}"#;
    let policy = RepoPolicy {
        plain_http: PlainHttp::LoopbackOnly,
        local: LocalRepos::Refused,
    };
    Arc::new(Task::parse(raw, policy).unwrap())
}
