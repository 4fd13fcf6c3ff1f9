//! The names of a task's spans: derived, so that a restart names the same ones, and a span can be named before it has ended.

use sha2::{Digest, Sha256};

use super::{SpanId, Trace, TraceId};
use crate::machine::{Assignment, EffectName, Millis};

/// The trace of one task, and what its spans are called.
///
/// Every name follows from the assignment's row in the journal. Two tasks of one operator's trace have different ones,
/// and so has a task that was given to another runner later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskTrace {
    trace_id: TraceId,
    seed: [u8; 32],
    operators: Option<Trace>,
}

impl TaskTrace {
    /// The trace of an assignment that was journaled at this time: the operator's, or one of its own.
    pub fn of(assignment: &Assignment, assigned_at: Millis) -> Self {
        let seed = digest(&[
            b"runner/trace/1",
            assignment.task_id.as_str().as_bytes(),
            assignment.api_url.as_str().as_bytes(),
            &assigned_at.to_be_bytes(),
        ]);
        let operators = assignment.trace.clone();
        Self {
            trace_id: operators
                .as_ref()
                .map_or_else(|| TraceId(first(&seed)), Trace::trace_id),
            seed,
            operators,
        }
    }

    /// The trace's name.
    pub fn id(&self) -> TraceId {
        self.trace_id
    }

    /// What the operator sent, if it did.
    pub fn operators(&self) -> Option<&Trace> {
        self.operators.as_ref()
    }

    /// The span of the whole task.
    pub fn task(&self) -> SpanId {
        self.span(&[b"task"])
    }

    /// The span of a start of the runner.
    pub fn boot(&self, number: u32) -> SpanId {
        self.span(&[b"boot", &number.to_be_bytes()])
    }

    /// The span of an attempt at an effect. A journal has each attempt once.
    pub fn attempt(&self, effect: EffectName, number: u32) -> SpanId {
        let name: &'static str = effect.into();
        self.span(&[b"attempt", name.as_bytes(), &number.to_be_bytes()])
    }

    /// What is started in one of its spans is told of it so. `flags` are the trace's, with what was decided of it here.
    pub(super) fn context(&self, span: SpanId, sampled: bool) -> Trace {
        // Of the operator's flags, those that are known to hold for its whole trace.
        const RANDOM: u8 = 2;
        let operators = self.operators.as_ref();
        let random = operators.map_or(RANDOM, |trace| trace.flags() & RANDOM);
        let state = operators.and_then(Trace::state);
        Trace::of_span(self.trace_id, span, random | u8::from(sampled), state)
    }

    fn span(&self, parts: &[&[u8]]) -> SpanId {
        let mut all: Vec<&[u8]> = vec![b"runner/span/1", &self.seed];
        all.extend(parts);
        SpanId(first(&digest(&all)))
    }
}

/// Each part with its length before it: what is joined otherwise is another digest.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn first<const N: usize>(bytes: &[u8; 32]) -> [u8; N] {
    let mut taken = [0; N];
    taken.copy_from_slice(&bytes[..N]);
    taken
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use strum::IntoEnumIterator;

    use super::*;

    const OPERATORS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn assignment(task: &str, trace: Option<&str>) -> Assignment {
        Assignment {
            task_id: task.parse().unwrap(),
            api_url: "http://api:8081".parse().unwrap(),
            trace: trace.map(|parent| Trace::parse(parent, Some("vendor=1")).unwrap()),
        }
    }

    #[test]
    fn a_restart_names_the_same_spans_and_no_two_of_them_have_one_name() {
        let names = |task: &str, at| {
            let trace = TaskTrace::of(&assignment(task, Some(OPERATORS)), at);
            let attempts = EffectName::iter().flat_map(|effect| [(effect, 1), (effect, 2)]);
            let mut names = vec![trace.task(), trace.boot(1), trace.boot(2)];
            names.extend(attempts.map(|(effect, number)| trace.attempt(effect, number)));
            names
        };
        assert_eq!(names("t-1", 5), names("t-1", 5));
        let mut all = names("t-1", 5);
        all.extend(names("t-2", 5));
        all.extend(names("t-1", 6));
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn the_operators_trace_is_gone_on_with_and_without_one_there_is_one_of_the_tasks_own() {
        let given = TaskTrace::of(&assignment("t-1", Some(OPERATORS)), 5);
        assert_eq!(given.id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let context = given.context(given.boot(1), true);
        assert_eq!(context.trace_id(), given.id());
        assert_eq!((context.span_id(), context.state()), (given.boot(1), Some("vendor=1")));
        let own = TaskTrace::of(&assignment("t-1", None), 5);
        assert_eq!(own.id(), TaskTrace::of(&assignment("t-1", None), 5).id());
        assert_ne!(own.id(), TaskTrace::of(&assignment("t-2", None), 5).id());
        assert_eq!(own.operators(), None);
    }
}
