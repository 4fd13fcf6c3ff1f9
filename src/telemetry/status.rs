//! `GET /status`: the task in a few words, of rows that are on disk.

use runner_journal::Head;
use serde::Serialize;

use super::rfc3339;
use crate::machine::{Failure, Run, StateName, VerdictKind};

/// `GET /status` (contract, section 1).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The task, once one is assigned.
    #[serde(rename = "taskID")]
    pub task_id: Option<String>,
    /// The last state entered.
    pub state: Option<StateName>,
    /// This start's number.
    pub boot: u32,
    /// The last row's number.
    pub seq: u64,
    /// The last row's hash.
    pub journal_head: String,
    /// The verdict, once there is one.
    pub verdict: Option<VerdictStatus>,
    /// When the state was entered.
    pub since: Option<String>,
    /// This program's version.
    pub version: &'static str,
}

/// The verdict as `/status` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerdictStatus {
    /// Which.
    pub event: VerdictKind,
    /// Why, where the task failed.
    pub reason: Option<Failure>,
    /// One sentence.
    pub message: String,
    /// Whether the API has taken it.
    pub acknowledged: bool,
}

impl Status {
    /// Before the first row is read.
    pub fn starting() -> Self {
        Self {
            task_id: None,
            state: None,
            boot: 0,
            seq: 0,
            journal_head: String::new(),
            verdict: None,
            since: None,
            version: crate::VERSION,
        }
    }

    pub(super) fn of(run: &Run, head: Head) -> Self {
        Self {
            task_id: run.assignment.as_ref().map(|a| a.task_id.to_string()),
            state: run.state_name(),
            boot: run.boot.number,
            seq: head.seq,
            journal_head: head.hash.to_string(),
            verdict: run.verdict.as_ref().map(|verdict| VerdictStatus {
                event: verdict.kind,
                reason: verdict.reason,
                message: verdict.message.clone(),
                acknowledged: run.acknowledged.is_some(),
            }),
            since: run.state.as_ref().map(|_| rfc3339(run.since)),
            version: crate::VERSION,
        }
    }
}
