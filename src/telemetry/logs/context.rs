//! What every line says of the task and its journal, also those of code that knows of neither.

use std::sync::{Arc, PoisonError, RwLock};

use runner_journal::Head;
use serde_json::{Value, json};

use crate::machine::{EffectName, Run, StateName};
use crate::trace::{SpanId, TaskTrace, TraceId};

/// As of the last row on disk. One for the process, which has one journal.
static CURRENT: RwLock<Option<Arc<Context>>> = RwLock::new(None);

/// Where the task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::telemetry) struct Context {
    boot: u32,
    seq: u64,
    head: String,
    task: Option<OfTask>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct OfTask {
    id: String,
    state: Option<StateName>,
    /// What is under way.
    effect: Option<EffectName>,
    trace: TraceId,
    /// Of the attempt that is under way, else of this start of the runner.
    span: SpanId,
}

impl Context {
    pub(super) fn current() -> Option<Arc<Self>> {
        CURRENT.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(context: Self) {
        *CURRENT.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(context));
    }

    pub(super) fn of(run: &Run, head: Head) -> Self {
        let task = run.assignment.as_ref().map(|assignment| {
            let trace = TaskTrace::of(assignment, run.assigned_at);
            OfTask {
                id: assignment.task_id.to_string(),
                state: run.state_name(),
                effect: run.open.map(|open| open.effect),
                trace: trace.id(),
                span: run.open.map_or_else(
                    || trace.boot(run.boot.number),
                    |open| trace.attempt(open.effect, open.number),
                ),
            }
        });
        Self {
            boot: run.boot.number,
            seq: head.seq,
            head: head.hash.to_string(),
            task,
        }
    }

    /// The trace and the span that a line belongs to.
    pub(super) fn span(&self) -> Option<(TraceId, SpanId)> {
        self.task.as_ref().map(|task| (task.trace, task.span))
    }

    /// As fields of a line, in order.
    pub(super) fn fields(&self) -> Vec<(&'static str, Value)> {
        let mut fields = Vec::with_capacity(8);
        if let Some(task) = &self.task {
            fields.push(("task", json!(task.id)));
            fields.extend(task.state.map(|state| ("state", json!(state))));
            fields.extend(task.effect.map(|effect| ("effect", json!(effect))));
        }
        fields.extend([
            ("boot", json!(self.boot)),
            ("seq", json!(self.seq)),
            ("head", json!(self.head)),
        ]);
        if let Some(task) = &self.task {
            fields.push(("trace_id", json!(task.trace.to_string())));
            fields.push(("span_id", json!(task.span.to_string())));
        }
        fields
    }
}
