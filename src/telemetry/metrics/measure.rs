//! Counts what every row says, once it is on disk.

use runner_journal::Head;

use super::model::Seen;
use super::{Inner, Metrics, labels, seconds};
use crate::machine::{
    Attempt, EffectName, Effort, Event, Fact, Failure, Finding, Millis, Note, Outcome, Run, StateName, Verdict,
    VerdictKind,
};

/// Sees every row. What has to be compared with the row before is kept here.
pub(in crate::telemetry) struct Measure {
    metrics: Metrics,
    entered: Option<StateName>,
    /// The intent of this process whose outcome is not known.
    open: Option<Attempt>,
    shown: Option<EffectName>,
    /// What the agent's starts had taken until the row before.
    effort: Effort,
}

impl Measure {
    pub(in crate::telemetry) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            entered: None,
            open: None,
            shown: None,
            effort: Effort::default(),
        }
    }

    pub(in crate::telemetry) fn recorded(&mut self, run: &Run, event: &Event, head: Head) {
        let metrics = self.metrics.clone();
        let inner = &*metrics.0;
        inner.task.boots.set(run.boot.number.into());
        inner.task.stalled_boots.set(run.stalled_boots.into());
        inner.journal.rows.set(head.seq);
        self.state(inner, run);
        self.event(inner, run, event);
        self.under_way(inner, run);
        // Of a task that was ended elsewhere nobody is told.
        if let Some(verdict) = run.verdict.as_ref().filter(|v| v.kind != VerdictKind::Superseded) {
            let event = verdict.kind.into();
            let acknowledged = i64::from(run.acknowledged.is_some());
            let label = labels::VerdictEvent { event };
            inner.task.acknowledged.get_or_create(&label).set(acknowledged);
        }
    }

    fn state(&mut self, inner: &Inner, run: &Run) {
        let now = run.state_name();
        if now == self.entered {
            return;
        }
        if let Some(left) = std::mem::replace(&mut self.entered, now) {
            inner.task.state(left).set(0);
        }
        if let Some(state) = now {
            inner.task.state(state).set(1);
            let label = labels::State { state: state.into() };
            inner.task.state_entered.get_or_create(&label).set(seconds(run.since));
        }
    }

    fn event(&mut self, inner: &Inner, run: &Run, event: &Event) {
        match event {
            Event::Booted { .. } => {
                // What earlier processes did is theirs to count.
                self.effort = run.tally(EffectName::Agent).effort;
                inner.agent_spent(self.effort.spent_micro_usd());
                if let Some(verdict) = &run.verdict {
                    inner.verdict(verdict, verdict_at(run));
                }
            }
            Event::Intended { effect, .. } => {
                if *effect == EffectName::Agent {
                    inner.agent_starts();
                }
            }
            Event::Probed { effect, finding, .. } => match finding {
                Finding::NotDone(_) => {
                    inner.attempt(*effect, "lost");
                    if *effect == EffectName::Agent {
                        self.agent_ended(inner, run, Seen::Found, None);
                    }
                }
                Finding::Done => {}
            },
            Event::Ended {
                effect, outcome, at, ..
            } => {
                let result = result(outcome);
                inner.attempt(*effect, result);
                // Of an effect that an earlier process began, nobody knows how long it took.
                if let Some(open) = self.open.filter(|open| open.effect == *effect) {
                    let took = seconds((at - open.at).max(0));
                    inner
                        .task
                        .durations
                        .get_or_create(&attempt(*effect, result))
                        .observe(took);
                }
                if let Some(failure) = failure(outcome) {
                    let (effect, reason) = (effect.into(), failure.into());
                    let label = labels::EffectFailure { effect, reason };
                    inner.task.failures.get_or_create(&label).inc();
                }
                if *effect == EffectName::Agent {
                    let seen = if self.open.is_some() { Seen::Live } else { Seen::Found };
                    self.agent_ended(inner, run, seen, model(outcome));
                }
            }
            Event::Concluded { verdict, at } => inner.verdict(verdict, *at),
            Event::Noted { note, .. } => inner.note(note),
            Event::Assigned { .. } => {}
        }
    }

    fn agent_ended(&mut self, inner: &Inner, run: &Run, seen: Seen, model: Option<&str>) {
        let now = run.tally(EffectName::Agent).effort;
        let took = since(now, std::mem::replace(&mut self.effort, now));
        inner.agent_ended(seen, &took, model);
        inner.agent_spent(now.spent_micro_usd());
    }

    fn under_way(&mut self, inner: &Inner, run: &Run) {
        // When an earlier process began is in the journal, but not for how long nothing ran since.
        self.open = run.open.filter(|open| open.at >= run.boot.at);
        let now = run.open.map(|open| open.effect);
        if now == self.shown {
            return;
        }
        let show = |effect: EffectName, here: bool| {
            let label = labels::Effect { effect: effect.into() };
            inner.task.open.get_or_create(&label).set(here.into());
        };
        if let Some(over) = std::mem::replace(&mut self.shown, now) {
            show(over, false);
        }
        if let Some(effect) = now {
            show(effect, true);
        }
    }
}

impl Inner {
    fn attempt(&self, effect: EffectName, result: &'static str) {
        self.task.attempts.get_or_create(&attempt(effect, result)).inc();
    }

    fn verdict(&self, verdict: &Verdict, at: Millis) {
        let event = verdict.kind.into();
        let reason = verdict.reason.map_or("", <&'static str>::from);
        let label = labels::VerdictReason { event, reason };
        self.task.verdict.get_or_create(&label).set(1);
        let label = labels::VerdictEvent { event };
        self.task.verdict_at.get_or_create(&label).set(seconds(at));
    }

    fn note(&self, note: &Note) {
        match note {
            Note::OutOfMemory { killed } => {
                self.task.memory_kills.inc_by(*killed);
            }
            Note::AnswerLost { effect, .. } => {
                let label = labels::Effect { effect: effect.into() };
                self.task.lost_answers.get_or_create(&label).inc();
            }
            Note::Parked => self.departed("parked"),
            Note::Undelivered => self.departed("undelivered"),
            // Said of each start by who looks at it, and journaled of the first alone.
            Note::Sandbox { .. } | Note::PluginMissing(_) => {}
        }
    }

    fn departed(&self, why: &'static str) {
        self.task.departures.get_or_create(&labels::Departure { why }).inc();
    }
}

fn attempt(effect: EffectName, result: &'static str) -> labels::Attempt {
    labels::Attempt {
        effect: effect.into(),
        result,
    }
}

/// What came of an attempt, as a label.
/// When a verdict of an earlier process was reached, as near as its history tells: when it was first reported, else when
/// the task was over, else now.
fn verdict_at(run: &Run) -> Millis {
    let reports = run.tally(EffectName::Report);
    match run.state_name() {
        _ if reports.attempts > 0 => reports.first_at,
        Some(StateName::Reported) => run.since,
        _ => run.boot.at,
    }
}

fn result(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done { .. } => "done",
        Outcome::Retry { .. } => "retry",
        Outcome::Failed { .. } => "failed",
        Outcome::GivenUp { .. } => "given_up",
        Outcome::Missed { .. } => "missed",
        Outcome::Superseded => "superseded",
        Outcome::Parked { .. } => "parked",
    }
}

fn failure(outcome: &Outcome) -> Option<Failure> {
    match outcome {
        Outcome::Failed { failure, .. } | Outcome::GivenUp { failure, .. } => Some(*failure),
        Outcome::Done { .. }
        | Outcome::Retry { .. }
        | Outcome::Missed { .. }
        | Outcome::Superseded
        | Outcome::Parked { .. } => None,
    }
}

/// The model that an agent says it used.
fn model(outcome: &Outcome) -> Option<&str> {
    let report = match outcome {
        Outcome::Done {
            fact: Fact::AgentEnded(report),
        } => Some(report),
        Outcome::Failed { agent, .. } => agent.as_ref(),
        Outcome::Done { .. }
        | Outcome::Retry { .. }
        | Outcome::GivenUp { .. }
        | Outcome::Missed { .. }
        | Outcome::Superseded
        | Outcome::Parked { .. } => None,
    };
    report.and_then(|report| report.model.as_deref())
}

/// What was added.
fn since(now: Effort, before: Effort) -> Effort {
    let more = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before.unwrap_or_default()));
    Effort {
        ran_ms: now.ran_ms.saturating_sub(before.ran_ms),
        cost_micro_usd: more(now.cost_micro_usd, before.cost_micro_usd),
        turns: more(now.turns, before.turns),
        input_tokens: more(now.input_tokens, before.input_tokens),
        output_tokens: more(now.output_tokens, before.output_tokens),
    }
}
