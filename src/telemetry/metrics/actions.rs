//! Counts what every row of an Actions runner says, in the families that a task's rows are counted in.

use runner_journal::Head;
use strum::IntoEnumIterator;

use super::{Metrics, labels, seconds};
use crate::actions::machine::{Attempt, EffectName, Event, Finding, Note, Outcome, Run, State};

/// Sees every row. What has to be compared with the row before is kept here.
pub(in crate::telemetry) struct ActionsMeasure {
    metrics: Metrics,
    /// The intent of this process whose outcome is not known.
    open: Option<Attempt>,
}

impl ActionsMeasure {
    pub(in crate::telemetry) fn new(metrics: Metrics) -> Self {
        Self { metrics, open: None }
    }

    pub(in crate::telemetry) fn recorded(&mut self, run: &Run, event: &Event, head: Head) {
        let task = &self.metrics.0.task;
        task.boots.set(run.boot.number.into());
        self.metrics.0.journal.rows.set(head.seq);
        for state in State::iter() {
            let label = labels::State { state: state.into() };
            let is_in = run.state == Some(state);
            task.state.get_or_create(&label).set(is_in.into());
            if is_in {
                task.state_entered.get_or_create(&label).set(seconds(run.since));
            }
        }
        self.event(event);
        for effect in EffectName::iter() {
            let label = labels::Effect { effect: effect.into() };
            let under_way = run.open.is_some_and(|open| open.effect == effect);
            task.open.get_or_create(&label).set(under_way.into());
        }
        // When an earlier process began is in the journal, but not for how long nothing ran since.
        self.open = run.open.filter(|open| open.at >= run.boot.at);
        if let Some((verdict, _)) = &run.verdict {
            let event = verdict.kind.into();
            let reason = verdict.reason.map_or("", Into::into);
            task.verdict
                .get_or_create(&labels::VerdictReason { event, reason })
                .set(1);
            let at = seconds(run.since);
            task.verdict_at.get_or_create(&labels::VerdictEvent { event }).set(at);
        }
    }

    fn event(&self, event: &Event) {
        let task = &self.metrics.0.task;
        let attempt = |effect: EffectName, result| labels::Attempt {
            effect: effect.into(),
            result,
        };
        match event {
            Event::Probed {
                effect,
                finding: Finding::NotDone,
                ..
            } => {
                task.attempts.get_or_create(&attempt(*effect, "lost")).inc();
            }
            Event::Ended {
                effect, outcome, at, ..
            } => {
                let result = match outcome {
                    Outcome::Done { .. } => "done",
                    Outcome::Taken { .. } | Outcome::Retry { .. } => "retry",
                    Outcome::Failed { failure, .. } => {
                        let (effect, reason) = (effect.into(), failure.into());
                        task.failures
                            .get_or_create(&labels::EffectFailure { effect, reason })
                            .inc();
                        "failed"
                    }
                };
                let label = attempt(*effect, result);
                task.attempts.get_or_create(&label).inc();
                if let Some(open) = self.open.filter(|open| open.effect == *effect) {
                    let took = seconds((at - open.at).max(0));
                    task.durations.get_or_create(&label).observe(took);
                }
            }
            Event::Noted { note, .. } => match note {
                Note::AnswerLost { effect, .. } => {
                    let label = labels::Effect { effect: effect.into() };
                    task.lost_answers.get_or_create(&label).inc();
                }
                Note::Left { why } => {
                    task.departures
                        .get_or_create(&labels::Departure { why: why.into() })
                        .inc();
                }
            },
            Event::Booted { .. }
            | Event::Assigned { .. }
            | Event::Intended { .. }
            | Event::Probed {
                finding: Finding::Done, ..
            }
            | Event::Concluded { .. } => {}
        }
    }
}
