//! What a journal adds up to, above its rows: for a program and for a person.

use std::io::{self, Write};
use std::path::Path;

use runner_journal::{Snapshot, Summary};
use serde::Serialize;

use super::bodies::Bodies;
use super::findings::Findings;
use super::paint::Look;
use super::runner::{Registered, Runner};
use super::table::Layout;
use super::width::wrapped;
use super::words::one_line;
use crate::actions::machine::VerdictKind as RunnerVerdictKind;
use crate::actions::server::VerdictStatus as RunnerVerdict;
use crate::machine::{Assignment, Run, VerdictKind};
use crate::telemetry::VerdictStatus;

/// What a dump begins with (contract, section 5).
#[derive(Debug, Serialize)]
pub(super) struct Head {
    pub(super) journal: Journal,
    #[serde(flatten)]
    pub(super) standing: Standing,
}

/// The file, and what was found of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Journal {
    path: String,
    schema: u32,
    /// How many rows verify.
    rows: u64,
    /// The last one's number.
    #[serde(skip)]
    last: u64,
    /// The hash of the last one that does.
    journal_head: String,
    /// Whether nothing is wrong; null where nobody can say: not every row was looked at, or it is of a newer program.
    whole: Option<bool>,
    problems: Vec<String>,
    /// What of it is beyond this program, where something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    newer: Option<String>,
    /// How many rows before them were not looked at.
    #[serde(skip_serializing_if = "is_zero")]
    unchecked: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Where a task is.
#[derive(Debug, Default, Serialize)]
pub(super) struct Standing {
    pub(super) task: Option<Task>,
    /// Of `runner actions`, which has no task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) runner: Option<Registered>,
    pub(super) state: Option<String>,
    /// How often the runner was started.
    pub(super) boots: u32,
    pub(super) verdict: Option<Concluded>,
}

/// A verdict of either machine.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(super) enum Concluded {
    Task(VerdictStatus),
    Runner(RunnerVerdict),
}

impl Concluded {
    fn message(&mut self) -> &mut String {
        match self {
            Self::Task(verdict) => &mut verdict.message,
            Self::Runner(verdict) => &mut verdict.message,
        }
    }

    /// How it looks, and in a line.
    fn told(&self) -> (Look, String) {
        let in_brackets = |reason: Option<&str>| reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        match self {
            Self::Task(verdict) => {
                let reason = in_brackets(verdict.reason.map(Into::into));
                let told = if verdict.acknowledged {
                    "acknowledged"
                } else {
                    "not acknowledged"
                };
                let look = match verdict.event {
                    VerdictKind::Completed => Look::Good,
                    VerdictKind::Failed => Look::Bad,
                    VerdictKind::Superseded => Look::Odd,
                };
                (
                    look,
                    format!("{}{reason}, {told}: {}", verdict.event, one_line(&verdict.message, 400)),
                )
            }
            Self::Runner(verdict) => {
                let reason = in_brackets(verdict.reason.map(Into::into));
                let look = match verdict.event {
                    RunnerVerdictKind::Completed => Look::Good,
                    RunnerVerdictKind::Failed => Look::Bad,
                };
                (
                    look,
                    format!("{}{reason}: {}", verdict.event, one_line(&verdict.message, 400)),
                )
            }
        }
    }
}

/// The task that a journal is of.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Task {
    #[serde(rename = "taskID")]
    pub(super) task_id: String,
    #[serde(rename = "apiURL")]
    pub(super) api_url: String,
}

impl Task {
    pub(super) fn of(assignment: &Assignment) -> Self {
        Self {
            task_id: assignment.task_id.to_string(),
            api_url: assignment.api_url.as_str().to_owned(),
        }
    }
}

impl Standing {
    /// Of a whole history.
    pub(super) fn of(run: &Run) -> Self {
        Self {
            task: run.assignment.as_ref().map(Task::of),
            runner: None,
            state: run.state_name().map(|state| state.to_string()),
            boots: run.boot.number,
            verdict: run.verdict.as_ref().map(|verdict| {
                Concluded::Task(VerdictStatus {
                    event: verdict.kind,
                    reason: verdict.reason,
                    message: verdict.message.clone(),
                    acknowledged: run.acknowledged.is_some(),
                })
            }),
        }
    }

    /// Of a whole history of `runner actions`.
    pub(super) fn of_runner(runner: &Runner) -> Self {
        Self {
            task: None,
            runner: runner.registered(),
            state: runner.run.state.map(|state| state.to_string()),
            boots: runner.run.boot.number,
            verdict: runner.verdict().map(Concluded::Runner),
        }
    }

    fn shown(self, bodies: &Bodies) -> Self {
        Self {
            task: self.task.map(|task| Task {
                api_url: bodies.show(&task.api_url).into_owned(),
                ..task
            }),
            verdict: self.verdict.map(|mut verdict| {
                let message = verdict.message();
                *message = bodies.show(message).into_owned();
                verdict
            }),
            ..self
        }
    }
}

impl Head {
    /// The last row that verifies, by its number.
    pub(super) fn last(&self) -> u64 {
        self.journal.last
    }

    /// How many rows before the first that was read were not looked at.
    pub(super) fn unchecked(&self) -> u64 {
        self.journal.unchecked
    }

    /// The file alone, and what was found of it.
    pub(super) fn into_journal(self) -> Journal {
        self.journal
    }

    /// Of a journal that was read.
    pub(super) fn of(
        path: &Path,
        snapshot: &Snapshot,
        summary: &Summary,
        findings: Findings,
        standing: Standing,
        bodies: &Bodies,
    ) -> Self {
        let journal = Journal {
            path: path.display().to_string(),
            schema: snapshot.schema(),
            rows: summary.rows,
            last: summary.head.seq,
            journal_head: summary.head.hash.to_string(),
            whole: match (findings.problems.len(), &findings.newer, summary.unchecked) {
                (0, None, 0) => Some(true),
                (0, _, _) | (_, Some(_), _) => None,
                (_, None, _) => Some(false),
            },
            problems: findings.problems,
            newer: findings.newer,
            unchecked: summary.unchecked,
            note: None,
        };
        Self {
            journal,
            standing: standing.shown(bodies),
        }
    }

    /// With what has to be said of so many rows that are not shown as they are stored.
    pub(super) fn with_redacted(mut self, rows: u64) -> Self {
        self.journal.note = (rows > 0).then(|| not_shown(rows));
        self
    }

    /// For a terminal.
    pub(super) fn print(&self, layout: Layout, out: &mut dyn Write) -> io::Result<()> {
        let Standing {
            task,
            runner,
            state,
            boots,
            verdict,
        } = &self.standing;
        let task = match (task, runner) {
            (Some(task), _) => format!("task {}", task.task_id),
            (None, Some(runner)) => format!("Actions runner of {}", runner.target),
            (None, None) => "no task".to_owned(),
        };
        let strong = layout.paint.style(Look::Strong);
        let rows = match self.journal.unchecked {
            0 => format!("{} rows", self.journal.rows),
            before => format!("the last {} of {} rows", self.journal.rows, self.journal.rows + before),
        };
        writeln!(
            out,
            "{strong}{}{strong:#} · {} · {rows} · {boots} start{}",
            one_line(&task, 220),
            one_line(state.as_deref().unwrap_or("not assigned"), 60),
            if *boots == 1 { "" } else { "s" }
        )?;
        if let Some(verdict) = verdict {
            let (look, text) = verdict.told();
            let style = layout.paint.style(look);
            for line in wrapped(&text, layout.columns) {
                writeln!(out, "{style}{line}{style:#}")?;
            }
        }
        let faint = layout.paint.style(Look::Faint);
        let unchecked = (self.journal.unchecked > 0).then(|| unchecked(self.journal.unchecked));
        for text in self.journal.note.iter().chain(&unchecked) {
            for line in wrapped(text, layout.columns) {
                writeln!(out, "{faint}{line}{faint:#}")?;
            }
        }
        Ok(())
    }
}

/// What is said where so many rows are not shown as they are stored.
pub(super) fn not_shown(rows: u64) -> String {
    let many = if rows == 1 { "" } else { "s" };
    format!("what looks like a secret is not shown ({rows} row{many}); --raw shows bodies as they are stored")
}

/// What is said where not every row was looked at.
pub(super) fn unchecked(rows: u64) -> String {
    let (are, were) = if rows == 1 { ("row", "was") } else { ("rows", "were") };
    format!(
        "each row shown is whole and follows the one before it, to the last; the {rows} {are} before them {were} not \
         checked: `runner journal verify` does that"
    )
}
