//! What `/metrics` serves, counted as rows are written.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use runner_journal::Head;
use strum::IntoEnumIterator;

use crate::machine::{EffectName, Event, Finding, Millis, Outcome, Run, StateName};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EffectLabels {
    effect: String,
    result: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EffectLabel {
    effect: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: String,
}

/// What `/metrics` serves. Every label comes from an enum: their number is bounded.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    state: Family<StateLabel, Gauge>,
    boots: Gauge,
    rows: Gauge<u64, AtomicU64>,
    attempts: Family<EffectLabels, Counter>,
    durations: Family<EffectLabel, Histogram>,
    events: Family<ResultLabel, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers every metric.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("runner");
        let state = Family::<StateLabel, Gauge>::default();
        let boots = Gauge::default();
        let rows = Gauge::default();
        let attempts = Family::<EffectLabels, Counter>::default();
        // From a local write to an agent's half hour.
        let durations = Family::<EffectLabel, Histogram>::new_with_constructor(|| {
            Histogram::new([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0])
        });
        let events = Family::<ResultLabel, Counter>::default();
        let build = Info::new([("version", crate::VERSION)]);
        registry.register("build", "The program that runs", build);
        registry.register("state", "1 for the state that the task is in, else 0", state.clone());
        registry.register("boots", "Starts of the runner on this journal", boots.clone());
        registry.register("journal_rows", "Rows in the journal", rows.clone());
        registry.register(
            "effect_attempts",
            "Attempts of an effect that came to an end, by what came of them",
            attempts.clone(),
        );
        registry.register_with_unit(
            "effect_duration",
            "From an effect's intent to its outcome",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register(
            "events",
            "What the agent did, by whether the task API was told",
            events.clone(),
        );
        for name in StateName::iter() {
            state
                .get_or_create(&StateLabel {
                    state: name.to_string(),
                })
                .set(0);
        }
        Self {
            registry: Arc::new(registry),
            state,
            boots,
            rows,
            attempts,
            durations,
            events,
        }
    }

    /// Counts events of the agent that the task API was told, or was not.
    pub(crate) fn count_events(&self, result: &'static str, count: u64) {
        self.events.get_or_create(&ResultLabel { result }).inc_by(count);
    }

    /// The text that Prometheus scrapes.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    fn count(&self, effect: EffectName, result: &str) {
        let labels = EffectLabels {
            effect: effect.to_string(),
            result: result.to_owned(),
        };
        self.attempts.get_or_create(&labels).inc();
    }
}

/// Counts what every row says.
pub(super) struct Measure {
    metrics: Metrics,
    intended_at: Option<Millis>,
}

impl Measure {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            intended_at: None,
        }
    }

    pub(super) fn recorded(&mut self, run: &Run, event: &Event, head: Head) {
        self.metrics.boots.set(i64::from(run.boot.number));
        self.metrics.rows.set(head.seq);
        for name in StateName::iter() {
            let here = i64::from(run.state_name() == Some(name));
            self.metrics
                .state
                .get_or_create(&StateLabel {
                    state: name.to_string(),
                })
                .set(here);
        }
        match event {
            Event::Intended { at, .. } => self.intended_at = Some(*at),
            Event::Ended {
                effect, outcome, at, ..
            } => {
                self.metrics.count(*effect, outcome_name(outcome));
                if let Some(intended_at) = self.intended_at.take() {
                    let label = EffectLabel {
                        effect: effect.to_string(),
                    };
                    #[expect(clippy::cast_precision_loss, reason = "a duration of 2^53 ms is not one")]
                    let seconds = (at - intended_at).max(0) as f64 / 1000.0;
                    self.metrics.durations.get_or_create(&label).observe(seconds);
                }
            }
            Event::Probed {
                effect,
                finding: Finding::NotDone { .. },
                ..
            } => self.metrics.count(*effect, "lost"),
            Event::Probed { .. }
            | Event::Booted { .. }
            | Event::Assigned { .. }
            | Event::Concluded { .. }
            | Event::Noted { .. } => {}
        }
    }
}

/// What came of an attempt, as a metric's label.
fn outcome_name(outcome: &Outcome) -> &'static str {
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
