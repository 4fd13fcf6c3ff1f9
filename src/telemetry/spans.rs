//! A journal's events as spans: one trace a task, whatever happened to the runner on the way.
//!
//! ```text
//! the operator's span
//! └─ RUN runner/task                 from the assignment to the acknowledged verdict
//!    ├─ boot                         a start of the runner; one that was killed ends with its last sign of life
//!    │  ├─ start, data, token, …     an attempt at an effect, from its intent to its outcome
//!    │  └─ invoke_agent claude
//!    └─ boot ⇢ the boot before
//!       └─ invoke_agent claude ⇢ the attempt before
//! ```
//!
//! A fold, and pure: rows in, finished spans out, without a clock or chance in it. So every start of the runner makes the same
//! spans of the same rows, under the same names, and only has to know which of them were sent.

use std::collections::BTreeMap;

use crate::machine::{EffectName, Event, Finding, Millis, Note, Outcome, Run, StateName, VerdictKind};
use crate::text::cut;
use crate::trace::{SpanId, TaskTrace};

mod attributes;
mod span;

use attributes::Attributes;
pub use span::{Occurrence, Parent, Span, Status, Value};

/// How many things that happened a span keeps; more are counted.
const OCCURRENCES: usize = 64;
/// How much of a cause a span has, in bytes.
const CAUSE_LIMIT: usize = 300;

/// What is known of the agent before it has said anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentIdentity {
    /// As the setting calls it.
    pub name: &'static str,
    /// Whose model it uses, by OpenTelemetry's names, where that is known.
    pub provider: Option<&'static str>,
    /// The model that it is told to use.
    pub model: Option<String>,
}

/// The spans of one journal so far.
pub struct Spans {
    agent: AgentIdentity,
    task: Option<Task>,
    boot: Option<Boot>,
    /// Earlier boots that ended without a word, for as long as it is not known what their last attempt came to.
    killed: Vec<Boot>,
    open: Option<Attempt>,
    last: Last,
}

/// The row before.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    at: Millis,
    seq: u64,
}

/// What is gathered until a span is finished.
#[derive(Debug, Clone, Default)]
struct Draft {
    start: Millis,
    attributes: Attributes,
    occurrences: Vec<Occurrence>,
    more_occurrences: u32,
}

struct Task {
    trace: TaskTrace,
    draft: Draft,
    state: Option<StateName>,
    verdict: Status,
    reported: bool,
    /// The last attempt at each effect: the next one is linked to it.
    attempts: BTreeMap<EffectName, u32>,
}

struct Boot {
    number: u32,
    draft: Draft,
    before: Option<u32>,
    /// Its last sign of life, once it is known to have ended.
    end: Millis,
    /// What a start after the verdict has to show for itself.
    attempts: u32,
    after_the_verdict: bool,
}

struct Attempt {
    effect: EffectName,
    number: u32,
    boot: u32,
    draft: Draft,
    before: Option<u32>,
    /// When it is last known to have been under way.
    seen: Millis,
}

/// How a boot came to its end.
#[derive(Clone, Copy)]
enum Farewell {
    Done,
    Parked,
    Undelivered,
    None,
}

impl Farewell {
    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Parked => "parked",
            Self::Undelivered => "undelivered",
            Self::None => "none",
        }
    }
}

impl Spans {
    /// Before the first row.
    pub fn new(agent: AgentIdentity) -> Self {
        Self {
            agent,
            task: None,
            boot: None,
            killed: Vec::new(),
            open: None,
            last: Last::default(),
        }
    }

    /// The trace, once a task is assigned.
    pub fn trace(&self) -> Option<&TaskTrace> {
        self.task.as_ref().map(|task| &task.trace)
    }

    /// Takes in an event, and gives the spans that are finished by it. `run` is the history with the event in it, `seq` its row
    /// or a later one of its transaction.
    pub fn take(&mut self, run: &Run, event: &Event, seq: u64) -> Vec<Span> {
        let at = event.at();
        let mut finished = match event {
            Event::Booted { at } => self.booted(run, *at, seq),
            Event::Assigned { .. } => self.assigned(run, at),
            Event::Intended {
                effect,
                attempt,
                session,
                ..
            } => {
                self.intended(run, *effect, *attempt, at);
                if let (Some(open), Some(session)) = (&mut self.open, session) {
                    open.draft.attributes.set("gen_ai.conversation.id", session.to_string());
                }
                Vec::new()
            }
            Event::Probed { finding, .. } => self.probed(*finding, at, seq),
            Event::Ended { outcome, .. } => self.ended(outcome, at, seq),
            Event::Concluded { verdict, .. } => {
                if let Some(task) = &mut self.task {
                    let mut said = Attributes::default();
                    said.set("runner.verdict", verdict.kind.to_string());
                    if let Some(reason) = verdict.reason {
                        said.set("error.type", reason.to_string());
                    }
                    task.verdict = match (verdict.kind, verdict.reason) {
                        (VerdictKind::Failed, Some(reason)) => Status::Error(reason.sentence().to_owned()),
                        (VerdictKind::Failed, None) => Status::Error(String::new()),
                        (VerdictKind::Completed | VerdictKind::Superseded, _) => Status::Unset,
                    };
                    task.draft.attributes.verdict(verdict);
                    task.draft.happened("verdict", at, said);
                }
                Vec::new()
            }
            Event::Noted { note, .. } => self.noted(note, at, seq),
        };
        finished.extend(self.entered(run, at, seq));
        self.last = Last { at, seq };
        finished
    }

    /// Takes in that this start of the runner is about to end. A task that it leaves to the next one has said so in a row; what
    /// ends without a word is finished by that next start.
    pub fn finish(&mut self) -> Vec<Span> {
        let Last { at, seq } = self.last;
        match &self.task {
            Some(task) if task.reported => self.end_boot(Farewell::Done, at, seq),
            Some(_) | None => Vec::new(),
        }
    }

    fn booted(&mut self, run: &Run, at: Millis, seq: u64) -> Vec<Span> {
        let mut finished = Vec::new();
        let reported = self.task.as_ref().is_some_and(|task| task.reported);
        let before = self.boot.as_ref().map(|boot| boot.number);
        let Last { at: seen, seq: last } = self.last;
        if let Some(open) = self.open.as_mut().filter(|open| Some(open.boot) == before) {
            open.seen = seen;
        }
        if reported {
            // The task was over, and no row says how its start ended: what that told of itself at its end, if it came to one.
            finished = self.end_boot(Farewell::Done, seen, last);
        } else if let Some(mut boot) = self.boot.take() {
            boot.end = seen;
            self.killed.push(boot);
        }
        let number = run.boot.number;
        self.boot = Some(Boot {
            number,
            draft: Draft::new(at),
            before: before.or(number.checked_sub(1).filter(|number| *number > 0)),
            end: at,
            attempts: 0,
            after_the_verdict: reported,
        });
        if self.open.is_none() {
            finished.extend(self.end_killed(seq));
        }
        finished
    }

    fn assigned(&mut self, run: &Run, at: Millis) -> Vec<Span> {
        let Some(assignment) = &run.assignment else {
            return Vec::new();
        };
        let mut draft = Draft::new(at);
        draft.attributes.assignment(assignment);
        self.task = Some(Task {
            trace: TaskTrace::of(assignment, at),
            draft,
            state: None,
            verdict: Status::Unset,
            reported: false,
            attempts: BTreeMap::new(),
        });
        if let Some(boot) = &mut self.boot {
            // A runner may wait for its task for days, and that is no part of the task.
            boot.draft.start = at;
        }
        // Those that ended before there was a task have no part in it.
        self.killed.clear();
        Vec::new()
    }

    fn intended(&mut self, run: &Run, effect: EffectName, number: u32, at: Millis) {
        let (Some(task), Some(boot)) = (&mut self.task, &mut self.boot) else {
            return;
        };
        boot.attempts += 1;
        let mut draft = Draft::new(at);
        draft.attributes.attempt(run, effect, number);
        if effect == EffectName::Agent {
            draft.attributes.agent(&self.agent);
        }
        self.open = Some(Attempt {
            effect,
            number,
            boot: boot.number,
            draft,
            before: task.attempts.insert(effect, number),
            seen: at,
        });
    }

    fn probed(&mut self, finding: Finding, at: Millis, seq: u64) -> Vec<Span> {
        let Some(open) = &mut self.open else {
            return Vec::new();
        };
        let mut found = Attributes::default();
        match finding {
            Finding::Done => {
                found.set("runner.found", "done");
                open.draft.happened("probe", at, found);
                Vec::new()
            }
            Finding::NotDone(left) => {
                found.set("runner.found", "not_done");
                open.draft.happened("probe", at, found);
                open.draft.attributes.effort(&left.effort);
                open.draft.attributes.lost();
                let status = Status::Error("its outcome was never seen, and it had not been done".to_owned());
                self.end_attempt(status, left.effort.ran_ms, at, seq)
            }
        }
    }

    fn ended(&mut self, outcome: &Outcome, at: Millis, seq: u64) -> Vec<Span> {
        let Some(open) = &mut self.open else {
            return Vec::new();
        };
        let status = match outcome {
            Outcome::Done { .. } | Outcome::Superseded | Outcome::Parked(_) => Status::Unset,
            Outcome::Retry { cause, .. }
            | Outcome::Failed { cause, .. }
            | Outcome::GivenUp { cause, .. }
            | Outcome::Missed { cause } => Status::Error(cut(cause, CAUSE_LIMIT)),
        };
        let ran = open.draft.attributes.outcome(open.effect, outcome);
        if let (Some(task), Outcome::Done { fact }) = (&mut self.task, outcome) {
            task.draft.attributes.fact(fact);
        }
        self.end_attempt(status, ran, at, seq)
    }

    fn noted(&mut self, note: &Note, at: Millis, seq: u64) -> Vec<Span> {
        let (name, said, farewell) = attributes::note(note);
        if let Note::AnswerLost { effect, .. } = note
            && let Some(open) = self.open.as_mut().filter(|open| open.effect == *effect)
        {
            open.draft.happened(name, at, said);
            open.seen = at;
            return Vec::new();
        }
        if let Some(boot) = &mut self.boot {
            boot.draft.happened(name, at, said);
        }
        farewell.map_or_else(Vec::new, |farewell| self.end_boot(farewell, at, seq))
    }

    /// What follows from having entered a state, and from having come to the end.
    fn entered(&mut self, run: &Run, at: Millis, seq: u64) -> Option<Span> {
        let task = self.task.as_mut()?;
        let state = run.state_name()?;
        if task.state.replace(state) != Some(state) {
            let mut said = Attributes::default();
            said.set("runner.state", state.to_string());
            task.draft.happened("entered", at, said);
        }
        if task.reported || state != StateName::Reported {
            return None;
        }
        task.reported = true;
        task.draft.attributes.total(run);
        let trace = &task.trace;
        Some(Span {
            parent: match trace.operators() {
                Some(operators) => Parent::Remote(operators.span_id()),
                None => Parent::None,
            },
            ..task.draft.clone().finished(
                trace,
                trace.task(),
                "RUN runner/task".to_owned(),
                at,
                task.verdict.clone(),
                seq,
            )
        })
    }

    /// Finishes the open attempt. One that a later start of the runner found ended when it was last seen, or as much later as
    /// it is known to have run.
    fn end_attempt(&mut self, status: Status, ran: Millis, at: Millis, seq: u64) -> Vec<Span> {
        let (Some(open), Some(task)) = (self.open.take(), &self.task) else {
            return Vec::new();
        };
        let start = open.draft.start;
        let own = self.boot.as_ref().is_some_and(|boot| boot.number == open.boot);
        let lost = open.draft.attributes.is_lost();
        let end = if own && !lost {
            at
        } else {
            open.seen.max(start.saturating_add(ran.max(0))).min(at)
        };
        let mut draft = open.draft;
        if !own {
            draft
                .attributes
                .set("runner.found_by_boot", self.boot.as_ref().map_or(0, |boot| boot.number));
        }
        if let Some(boot) = self.killed.iter_mut().find(|boot| boot.number == open.boot) {
            boot.end = boot.end.max(end);
        }
        let trace = &task.trace;
        let name = if open.effect == EffectName::Agent {
            format!("invoke_agent {}", self.agent.name)
        } else {
            open.effect.to_string()
        };
        let span = Span {
            parent: Parent::Own(trace.boot(open.boot)),
            links: open
                .before
                .map(|number| trace.attempt(open.effect, number))
                .into_iter()
                .collect(),
            ..draft.finished(trace, trace.attempt(open.effect, open.number), name, end, status, seq)
        };
        let mut finished = vec![span];
        finished.extend(self.end_killed(seq));
        finished
    }

    /// Finishes those that ended without a word: what they were at is known now.
    fn end_killed(&mut self, seq: u64) -> Vec<Span> {
        let Some(task) = &self.task else {
            return Vec::new();
        };
        let killed = std::mem::take(&mut self.killed);
        killed
            .into_iter()
            .map(|boot| {
                let end = boot.end;
                boot.finished(&task.trace, Farewell::None, end, seq)
            })
            .collect()
    }

    fn end_boot(&mut self, farewell: Farewell, at: Millis, seq: u64) -> Vec<Span> {
        let (Some(boot), Some(task)) = (self.boot.take(), &self.task) else {
            return Vec::new();
        };
        if boot.after_the_verdict && boot.attempts == 0 {
            return Vec::new();
        }
        vec![boot.finished(&task.trace, farewell, at, seq)]
    }
}

impl Boot {
    fn finished(self, trace: &TaskTrace, farewell: Farewell, end: Millis, seq: u64) -> Span {
        let mut draft = self.draft;
        draft.attributes.set("runner.boot", self.number);
        draft.attributes.set("runner.farewell", farewell.name());
        let status = match farewell {
            Farewell::Done | Farewell::Parked | Farewell::Undelivered => Status::Unset,
            Farewell::None => {
                draft.attributes.set("error.type", "killed");
                Status::Error("it ended without a word: the runner was killed, or its machine was lost".to_owned())
            }
        };
        Span {
            parent: Parent::Own(trace.task()),
            links: self.before.map(|number| trace.boot(number)).into_iter().collect(),
            ..draft.finished(trace, trace.boot(self.number), "boot".to_owned(), end, status, seq)
        }
    }
}

impl Draft {
    fn new(start: Millis) -> Self {
        Self {
            start,
            ..Self::default()
        }
    }

    fn happened(&mut self, name: &'static str, at: Millis, attributes: Attributes) {
        if self.occurrences.len() == OCCURRENCES {
            self.more_occurrences = self.more_occurrences.saturating_add(1);
        } else {
            self.occurrences.push(Occurrence {
                name,
                at,
                attributes: attributes.into_list(),
            });
        }
    }

    /// A root; the caller says where it hangs.
    fn finished(self, trace: &TaskTrace, id: SpanId, name: String, end: Millis, status: Status, seq: u64) -> Span {
        Span {
            trace: trace.id(),
            id,
            task: trace.task(),
            parent: Parent::None,
            state: trace.operators().and_then(|trace| trace.state()).map(str::to_owned),
            name,
            start: self.start,
            // Clocks jump back.
            end: end.max(self.start),
            attributes: self.attributes.into_list(),
            occurrences: self.occurrences,
            more_occurrences: self.more_occurrences,
            links: Vec::new(),
            status,
            seq,
        }
    }
}

#[cfg(test)]
mod tests;
