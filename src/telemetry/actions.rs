//! What an Actions runner shows of itself: the same log, `/status` and families of metrics as a task's, of rows on disk.

use runner_journal::Head;
use tokio::sync::watch;

use super::logs;
use super::metrics::{ActionsMeasure, Metrics};
use crate::actions::machine::{Event, Finding, Note, Outcome, Run, State};
use crate::actions::record::ActionsMachine;
use crate::actions::server::Status;
use crate::ledger::Observe;

/// Sees every row, and shows it.
pub struct ActionsTelemetry {
    status: watch::Sender<Status>,
    measure: ActionsMeasure,
    entered: Option<State>,
}

impl ActionsTelemetry {
    /// Shows rows on these.
    pub fn new(status: watch::Sender<Status>, metrics: Metrics) -> Self {
        Self {
            status,
            measure: ActionsMeasure::new(metrics),
            entered: None,
        }
    }
}

impl Observe<ActionsMachine> for ActionsTelemetry {
    fn recorded(&mut self, run: &Run, event: &Event, head: Head) {
        self.measure.recorded(run, event, head);
        let status = Status::of(run, head);
        logs::of_runner(run.boot.number, head, status.runner.clone(), run.state.map(Into::into));
        say(event);
        if self.entered != run.state {
            self.entered = run.state;
            if let Some(state) = run.state {
                tracing::info!("entered {state}");
            }
        }
        self.status.send_replace(status);
    }
}

/// One line an event.
fn say(event: &Event) {
    match event {
        Event::Booted { .. } => tracing::info!("runner {} started", crate::VERSION),
        Event::Assigned { assignment, .. } => {
            tracing::info!(target_url = %assignment.target, labels = assignment.labels.as_slice().join(","), "assigned");
        }
        Event::Intended { effect, attempt, .. } => tracing::info!(attempt, "{effect}"),
        Event::Probed { effect, finding, .. } => match finding {
            Finding::Done => tracing::info!("{effect} had ended"),
            Finding::NotDone => tracing::info!("{effect} had not been done"),
        },
        Event::Ended { effect, outcome, .. } => match outcome {
            Outcome::Done { .. } => tracing::debug!("{effect} is done"),
            Outcome::Taken { cause } => tracing::warn!("the name is taken, and another one is tried: {cause}"),
            Outcome::Retry { cause, .. } => tracing::warn!("{effect} will be tried again: {cause}"),
            Outcome::Failed { failure, cause } => tracing::error!(reason = %failure, "{effect} failed: {cause}"),
        },
        Event::Concluded { verdict, .. } => {
            let reason = verdict.reason.map(|reason| reason.to_string());
            tracing::info!(verdict = %verdict.kind, reason, "{}", verdict.message);
        }
        Event::Noted { note, .. } => match note {
            Note::AnswerLost { effect, cause, .. } => tracing::warn!("the answer to {effect} was lost: {cause}"),
            Note::Left { why } => tracing::warn!(%why, "not finished: the next start goes on"),
        },
    }
}
