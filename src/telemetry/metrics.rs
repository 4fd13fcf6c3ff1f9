//! What `/metrics` serves, and the same by OTLP: every metric is declared once.
//!
//! Counters begin at 0 with the process. Gauges speak of the task: what the journal says of it survives a restart.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use runner_journal::Appended;
use strum::IntoEnumIterator;
use tokio::sync::watch;

use crate::adapters::model::Prices;
use crate::config::Settings;
use crate::machine::{Policy, StateName};
use crate::sandbox;

mod actions;
mod declare;
mod exposition;
mod labels;
mod measure;
mod model;
#[cfg(feature = "otlp")]
mod otlp;
mod process;
#[cfg(feature = "otlp")]
mod push;

pub(super) use actions::ActionsMeasure;
pub use exposition::{Exposition, Family as ExposedFamily, Kind, Sample, classic};
pub(super) use measure::Measure;
#[cfg(feature = "otlp")]
pub(super) use push::Push;

/// A gauge of seconds or dollars.
type Real = Gauge<f64, AtomicU64>;
/// A counter of seconds or dollars.
type RealCounter = Counter<f64, AtomicU64>;

/// Every metric of this process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    declared: Vec<Declared>,
    scrapes: watch::Sender<u64>,
    #[cfg(feature = "otlp")]
    since: crate::machine::Millis,
    task: Task,
    agent: Agent,
    events: Events,
    journal: Journal,
    exports: Exports,
}

/// A metric as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The family's name, as OpenMetrics has it: of a counter without `_total`, of an info without `_info`.
    pub family: String,
    /// Of which type.
    pub kind: Kind,
    /// What it is, for a person.
    pub help: String,
}

/// What became of the task.
struct Task {
    state: Family<labels::State, Gauge>,
    state_entered: Family<labels::State, Real>,
    boots: Gauge,
    stalled_boots: Gauge,
    stalled_boots_limit: Gauge,
    attempts: Family<labels::Attempt, Counter>,
    durations: Family<labels::Attempt, Histogram>,
    open: Family<labels::Effect, Gauge>,
    failures: Family<labels::EffectFailure, Counter>,
    lost_answers: Family<labels::Effect, Counter>,
    verdict: Family<labels::VerdictReason, Gauge>,
    verdict_at: Family<labels::VerdictEvent, Real>,
    acknowledged: Family<labels::VerdictEvent, Gauge>,
    departures: Family<labels::Departure, Counter>,
    sandbox_mode: Family<labels::SandboxMode, Gauge>,
    sandbox_rights: Family<labels::SandboxRight, Gauge>,
    memory_kills: Counter,
}

/// What the agent took.
struct Agent {
    starts: Counter,
    turns: Counter,
    ran: RealCounter,
    requests: Family<labels::ModelUsage, Counter>,
    tokens: Family<labels::ModelTokens, Counter>,
    cost: Family<labels::Model, RealCounter>,
    budget: Real,
    spent: Real,
    account: Mutex<model::Account>,
}

/// What the task API was told of the agent's doings.
struct Events {
    made: Family<labels::EventType, Counter>,
    settled: Family<labels::Came, Counter>,
    queued: Gauge,
}

/// What the journal keeps, and what it takes.
struct Journal {
    rows: Gauge<u64, AtomicU64>,
    appends: Family<labels::Came, Counter>,
    bytes: Counter,
    syncs: Histogram,
}

/// What came of telemetry that is sent.
struct Exports {
    requests: Family<labels::Export, Counter>,
    dropped: Family<labels::Signal, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Declares every metric, for a task without bounds and a model without an account.
    pub fn new() -> Self {
        Self::with(model::Account::default())
    }

    /// For an Actions runner: none of the states that a task has.
    pub fn of_actions() -> Self {
        let metrics = Self::new();
        metrics.0.task.state.clear();
        metrics
    }

    /// The same for a runner with these settings.
    pub fn of(settings: &Settings) -> Self {
        let options = &settings.options;
        let account = match &settings.model {
            Some(upstream) => model::Account::by_proxy(Arc::clone(&upstream.prices)),
            None => model::Account::by_hearsay(Prices::load(options.model_prices.as_deref()).ok().map(Arc::new)),
        };
        let metrics = Self::with(account);
        metrics.bound(&settings.policy());
        metrics
    }

    fn with(account: model::Account) -> Self {
        let mut declare = declare::Declare::new();
        let task = Task::declare(&mut declare);
        let agent = Agent::declare(&mut declare, account);
        let events = Events::declare(&mut declare);
        let journal = Journal::declare(&mut declare);
        let exports = Exports::declare(&mut declare);
        let (registry, declared) = declare.done();
        Self(Arc::new(Inner {
            registry,
            declared,
            scrapes: watch::Sender::new(0),
            #[cfg(feature = "otlp")]
            since: super::system_clock(),
            task,
            agent,
            events,
            journal,
            exports,
        }))
    }

    fn bound(&self, policy: &Policy) {
        self.0.agent.budget.set(dollars(policy.agent_budget_micro_usd));
        self.0.task.stalled_boots_limit.set(policy.max_boots.into());
    }

    /// Every metric that there is, also those that have no series yet.
    pub fn declared(&self) -> &[Declared] {
        &self.0.declared
    }

    /// The text that Prometheus scrapes, in OpenMetrics' form.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.0.registry)?;
        Ok(text)
    }

    /// When the counters began at 0.
    #[cfg(feature = "otlp")]
    fn since(&self) -> crate::machine::Millis {
        self.0.since
    }

    /// Somebody is about to read the text.
    pub(crate) fn scraped(&self) {
        self.0.scrapes.send_modify(|scrapes| *scrapes += 1);
    }

    /// Waits until somebody is about to read it once more.
    pub(crate) async fn next_scrape(&self) {
        let mut scrapes = self.0.scrapes.subscribe();
        scrapes.mark_unchanged();
        // The sender lives as long as this.
        drop(scrapes.changed().await);
    }

    /// Counts an event that the agent's doings made.
    pub(crate) fn event_made(&self, kind: &'static str) {
        self.0
            .events
            .made
            .get_or_create(&labels::EventType { r#type: kind })
            .inc();
    }

    /// Counts events that the task API was told, or was not; `queued` are those whose end is not known.
    pub(crate) fn events_settled(&self, result: &'static str, count: u64, queued: u64) {
        self.0
            .events
            .settled
            .get_or_create(&labels::Came { result })
            .inc_by(count);
        self.events_queued(queued);
    }

    /// How many events wait, or are under way.
    pub(crate) fn events_queued(&self, queued: u64) {
        self.0.events.queued.set(i64::try_from(queued).unwrap_or(i64::MAX));
    }

    /// What is to confine the agent, and what does; nothing, where there are no rights.
    pub(crate) fn sandboxed(&self, mode: sandbox::Mode, wanted: &sandbox::Rights, rights: Option<&sandbox::Rights>) {
        let task = &self.0.task;
        for known in sandbox::Mode::iter() {
            let label = labels::SandboxMode { mode: known.into() };
            task.sandbox_mode.get_or_create(&label).set((known == mode).into());
        }
        for right in wanted.iter() {
            let in_force = rights.is_some_and(|rights| rights.has(right));
            let label = labels::SandboxRight { right: right.into() };
            task.sandbox_rights.get_or_create(&label).set(in_force.into());
        }
    }

    /// Whom a journal tells of its appends.
    pub fn journal_watch(&self) -> impl FnMut(&Appended) + Send + use<> {
        let inner = Arc::clone(&self.0);
        move |appended| {
            let journal = &inner.journal;
            let result = appended.end.into();
            journal.appends.get_or_create(&labels::Came { result }).inc();
            if appended.end == runner_journal::AppendEnd::Kept {
                journal.bytes.inc_by(appended.bytes);
            }
            if let Some(took) = appended.synced_in {
                journal.syncs.observe(took.as_secs_f64());
            }
        }
    }

    /// Shows that nothing of a signal was sent yet, where it is to be sent at all.
    pub fn export_begins(&self, signal: &'static str) {
        for result in ["taken", "failed", "refused"] {
            let label = labels::Export { signal, result };
            drop(self.0.exports.requests.get_or_create(&label));
        }
        self.export_dropped(signal, 0);
    }

    /// Counts a request that was to deliver telemetry.
    pub fn export_ended(&self, signal: &'static str, result: &'static str) {
        let label = labels::Export { signal, result };
        self.0.exports.requests.get_or_create(&label).inc();
    }

    /// Counts telemetry that was given up: spans, log records or data points.
    pub fn export_dropped(&self, signal: &'static str, items: u64) {
        self.0
            .exports
            .dropped
            .get_or_create(&labels::Signal { signal })
            .inc_by(items);
    }
}

impl Task {
    fn state(&self, state: StateName) -> impl std::ops::Deref<Target = Gauge> + '_ {
        self.state.get_or_create(&labels::State { state: state.into() })
    }
}

/// Millionths of a dollar as dollars.
#[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 millionths of a dollar")]
fn dollars(micro_usd: u64) -> f64 {
    micro_usd as f64 / 1e6
}

/// Milliseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
fn seconds(ms: crate::machine::Millis) -> f64 {
    ms as f64 / 1e3
}

#[cfg(test)]
mod tests;
