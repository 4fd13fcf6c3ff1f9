//! What leaves the process for a collector, where the environment names one: spans, the log and metrics.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runner_journal::{Head, Opened};
use tokio::time::Instant;
use tracing::Level;

use super::logs;
use super::metrics::{Metrics, Push};
use super::otlp::delivery::{Delivery, Intake, Tally};
use super::otlp::sent::Sent;
use super::otlp::{Otlp, Signal};
use super::spans::{AgentIdentity, Span, Spans};
use crate::adapters::http::HttpSetupError;
use crate::driver::Observe;
use crate::machine::{Event, Run};
use crate::record;
use crate::redact::Redactor;
use crate::trace::Sampling;

/// How long the end of the process may wait for a collector. The verdict has been acknowledged by then.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The collector's part of telemetry; nothing where the environment names no endpoint.
pub struct Exports(Option<On>);

struct On {
    otlp: Arc<Otlp>,
    sent: Sent,
    spans: Option<(Arc<Mutex<Spans>>, Delivery<Span>)>,
    lines: Option<Delivery<logs::Line>>,
    metrics: Option<Push>,
}

impl Exports {
    /// Begins to gather what the environment asks for; has to be called on a runtime. `state_dir` keeps how far spans were sent.
    pub fn start(
        env: impl Fn(&str) -> Option<OsString>,
        ca_file: Option<PathBuf>,
        state_dir: &Path,
        agent: AgentIdentity,
        redactor: &Redactor,
        metrics: &Metrics,
    ) -> Result<Self, HttpSetupError> {
        let Some(otlp) = Otlp::from_env(env, ca_file, redactor)? else {
            return Ok(Self(None));
        };
        let otlp = Arc::new(otlp.counted_by(metrics.clone()));
        let sent = Sent::in_dir(state_dir);
        let spans = otlp.sends(Signal::Traces).then(|| {
            let delivery = Delivery::start(Arc::clone(&otlp), Some(sent.clone()));
            (Arc::new(Mutex::new(Spans::new(agent))), delivery)
        });
        let lines = otlp.sends(Signal::Logs).then(|| {
            let delivery = Delivery::start(Arc::clone(&otlp), None);
            let intake: Intake<logs::Line> = delivery.intake();
            logs::also_to(move |line| {
                if is_told(line) {
                    intake.push(line.clone());
                }
            });
            delivery
        });
        let metrics = otlp.sends(Signal::Metrics);
        let metrics = metrics.then(|| Push::start(Arc::clone(&otlp), otlp.metrics().clone()));
        Ok(Self(Some(On {
            otlp,
            sent,
            spans,
            lines,
            metrics,
        })))
    }

    /// The collector, for what is sent beside spans and lines.
    pub fn otlp(&self) -> Option<&Arc<Otlp>> {
        self.0.as_ref().map(|on| &on.otlp)
    }

    /// What requests and the agent are told of the trace.
    pub fn sampling(&self) -> Sampling {
        match &self.0 {
            Some(on) if on.spans.is_some() => Sampling::Record(on.otlp.sampler()),
            Some(_) | None => Sampling::PassOn,
        }
    }

    /// Who makes spans of events from now on. What the journal has already is gone through first: spans that an earlier start
    /// finished, or left unfinished, and did not send are sent now.
    pub fn observer(&self, opened: &Opened) -> Option<Box<dyn Observe>> {
        let on = self.0.as_ref()?;
        let (spans, delivery) = on.spans.as_ref()?;
        let mut tracer = Tracer {
            spans: Arc::clone(spans),
            intake: delivery.intake(),
            sampling: self.sampling(),
        };
        tracer.catch_up(opened, &on.sent);
        Some(Box::new(tracer))
    }

    /// Finishes what is open, and sends what is there for two seconds at most. What is left of the spans is the next start's.
    pub async fn close(self) {
        let Some(on) = self.0 else { return };
        let deadline = Instant::now() + LAST_WORDS;
        let spans = async {
            let (spans, delivery) = on.spans?;
            let sampling = Sampling::Record(on.otlp.sampler());
            {
                let mut spans = lock(&spans);
                let last = spans.finish();
                hand_over(&delivery.intake(), sampling, &spans, last);
            }
            Some(delivery.close(deadline).await)
        };
        let lines = async { Some(on.lines?.close(deadline).await) };
        let (spans, lines) = tokio::join!(spans, lines);
        // Last, so that they count what became of the others.
        if let Some(metrics) = on.metrics {
            metrics.close(deadline).await;
        }
        for (what, tally) in [(Signal::Traces, spans), (Signal::Logs, lines)] {
            if let Some(Tally { sent, dropped }) = tally.filter(|tally| tally.dropped > 0) {
                tracing::warn!(sent, dropped, "the collector did not get all {what}");
            }
        }
    }
}

/// Makes spans of events.
struct Tracer {
    spans: Arc<Mutex<Spans>>,
    intake: Intake<Span>,
    sampling: Sampling,
}

impl Tracer {
    fn catch_up(&mut self, opened: &Opened, sent: &Sent) {
        let mut spans = lock(&self.spans);
        let mut run = Run::default();
        let mut finished = Vec::new();
        for row in &opened.rows {
            let mut blob = |hash: &_| opened.journal.blob(hash).ok().flatten();
            // A journal that cannot be replayed is refused by whoever drives it.
            let Ok(event) = record::step(&mut run, row, &mut blob) else {
                return;
            };
            if let Some(event) = event {
                finished.extend(spans.take(&run, &event, row.seq));
            }
        }
        let Some(trace) = spans.trace() else { return };
        let mark = sent.read(trace.task());
        finished.retain(|span| span.seq > mark);
        hand_over(&self.intake, self.sampling, &spans, finished);
    }
}

impl Observe for Tracer {
    fn recorded(&mut self, run: &Run, event: &Event, head: Head) {
        let mut spans = lock(&self.spans);
        let finished = spans.take(run, event, head.seq);
        hand_over(&self.intake, self.sampling, &spans, finished);
    }
}

fn hand_over(intake: &Intake<Span>, sampling: Sampling, spans: &Spans, finished: Vec<Span>) {
    if !finished.is_empty() && spans.trace().is_some_and(|trace| sampling.records(trace)) {
        for span in finished {
            intake.push(span);
        }
    }
}

fn lock(spans: &Mutex<Spans>) -> MutexGuard<'_, Spans> {
    spans.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a line goes to the collector. What is said of sending would never come to an end, and neither would what libraries
/// say, on a closer look, of the requests that send it.
fn is_told(line: &logs::Line) -> bool {
    let own = line.target.starts_with("runner");
    let of_sending = line.target.starts_with("runner::telemetry::otlp");
    !of_sending && (own || line.level <= Level::INFO)
}
