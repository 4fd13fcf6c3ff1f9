//! What every line says of the task and its journal, also those of code that knows of neither.

use std::sync::{Arc, PoisonError, RwLock};

use runner_journal::Head;
use serde_json::{Value, json};

use crate::machine::{EffectName, Event, Run, StateName};
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
    runner: Option<OfRunner>,
}

/// Where an Actions runner stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OfRunner {
    name: Option<String>,
    state: Option<&'static str>,
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

    /// What is under way in a history.
    pub(super) fn of(run: &Run, head: Head) -> Self {
        Self::of_attempt(run, run.open.map(|open| (open.effect, open.number)), head)
    }

    /// What an event speaks of: an outcome belongs to the attempt that it ends.
    pub(super) fn of_event(run: &Run, event: &Event, head: Head) -> Self {
        match event {
            Event::Ended { effect, attempt, .. } | Event::Probed { effect, attempt, .. } => {
                Self::of_attempt(run, Some((*effect, *attempt)), head)
            }
            Event::Booted { .. }
            | Event::Assigned { .. }
            | Event::Intended { .. }
            | Event::Concluded { .. }
            | Event::Noted { .. } => Self::of(run, head),
        }
    }

    fn of_attempt(run: &Run, attempt: Option<(EffectName, u32)>, head: Head) -> Self {
        let task = run.assignment.as_ref().map(|assignment| {
            let trace = TaskTrace::of(assignment, run.assigned_at);
            OfTask {
                id: assignment.task_id.to_string(),
                state: run.state_name(),
                effect: attempt.map(|(effect, _)| effect),
                trace: trace.id(),
                span: attempt.map_or_else(
                    || trace.boot(run.boot.number),
                    |(effect, number)| trace.attempt(effect, number),
                ),
            }
        });
        Self {
            boot: run.boot.number,
            seq: head.seq,
            head: head.hash.to_string(),
            task,
            runner: None,
        }
    }

    /// Of an Actions runner.
    pub(super) fn of_runner(boot: u32, head: Head, name: Option<String>, state: Option<&'static str>) -> Self {
        Self {
            boot,
            seq: head.seq,
            head: head.hash.to_string(),
            task: None,
            runner: Some(OfRunner { name, state }),
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
        if let Some(runner) = &self.runner {
            fields.extend(runner.name.as_ref().map(|name| ("runner", json!(name))));
            fields.extend(runner.state.map(|state| ("state", json!(state))));
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

#[cfg(test)]
impl Context {
    /// One of a task that is at its second boot.
    pub(super) fn example() -> Self {
        Self {
            boot: 2,
            seq: 7,
            head: "ab".repeat(32),
            task: Some(OfTask {
                id: "t-1".to_owned(),
                state: Some(StateName::Cloned),
                effect: Some(EffectName::Agent),
                trace: TraceId([1; 16]),
                span: SpanId([2; 8]),
            }),
            runner: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use runner_journal::Hash;

    use super::*;
    use crate::machine::{Assignment, Outcome, transition};

    #[test]
    fn a_line_belongs_to_the_attempt_that_is_under_way_and_else_to_the_boot() {
        let head = Head {
            seq: 1,
            hash: Hash::of(b"x"),
        };
        let after = |run: &Run, event| transition(run, &event).unwrap();
        let run = after(&Run::default(), Event::Booted { at: 1 });
        assert_eq!(Context::of(&run, head).span(), None);
        let assignment = Assignment {
            task_id: "t-1".parse().unwrap(),
            api_url: "http://api:8081".parse().unwrap(),
            trace: None,
        };
        let trace = TaskTrace::of(&assignment, 2);
        let run = after(&run, Event::Assigned { assignment, at: 2 });
        assert_eq!(Context::of(&run, head).span(), Some((trace.id(), trace.boot(1))));
        let intended = Event::Intended {
            effect: EffectName::Start,
            attempt: 1,
            session: None,
            at: 3,
        };
        let run = after(&run, intended);
        let context = Context::of(&run, head);
        assert_eq!(context.span(), Some((trace.id(), trace.attempt(EffectName::Start, 1))));
        let ended = Event::Ended {
            effect: EffectName::Start,
            attempt: 1,
            outcome: Outcome::Superseded,
            at: 4,
        };
        let after = after(&run, ended.clone());
        let own = Context::of_event(&after, &ended, head).span();
        assert_eq!(
            own,
            Some((trace.id(), trace.attempt(EffectName::Start, 1))),
            "an end is the attempt's"
        );
        assert_eq!(Context::of(&after, head).span(), Some((trace.id(), trace.boot(1))));
        let names: Vec<&str> = context.fields().into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["task", "state", "effect", "boot", "seq", "head", "trace_id", "span_id"]
        );
    }
}
