//! Each metric's name, unit and help: the one place where they are said.

use std::sync::Mutex;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};
use strum::IntoEnumIterator;

use super::{Agent, Declared, Events, Exports, Journal, Real, RealCounter, Task, labels, model, process};
use crate::machine::StateName;

/// From a local write to an agent's half hour, in seconds.
const EFFECT_BUCKETS: [f64; 12] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0];
/// From a disk that lies to one that is lost, in seconds.
const SYNC_BUCKETS: [f64; 12] = [
    0.0001, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0,
];

/// Registers metrics, and keeps what was registered.
pub(super) struct Declare {
    registry: Registry,
    declared: Vec<Declared>,
}

impl Declare {
    pub(super) fn new() -> Self {
        let help = "The program that runs: its version and the commit that it is made from";
        let build = Info::new([("version", crate::VERSION), ("commit", env!("RUNNER_COMMIT_ID"))]);
        let mut declare = Self {
            registry: Registry::with_prefix("runner"),
            declared: Vec::new(),
        };
        declare.note("runner_build".to_owned(), help, &build);
        declare.registry.register("build", help, build);
        declare
    }

    fn plain<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.note(format!("runner_{name}"), help, &metric);
        self.registry.register(name, help, metric.clone());
        metric
    }

    fn in_unit<M: Metric + Clone>(&mut self, name: &str, unit: Unit, help: &str, metric: M) -> M {
        self.note(format!("runner_{name}_{}", unit.as_str()), help, &metric);
        self.registry.register_with_unit(name, help, unit, metric.clone());
        metric
    }

    fn note(&mut self, family: String, help: &str, metric: &dyn EncodeMetric) {
        self.declared.push(Declared {
            family,
            kind: metric.metric_type().into(),
            help: help.to_owned(),
        });
    }

    /// The process's own, by the names that every Prometheus client has for them.
    pub(super) fn done(mut self) -> (Registry, Vec<Declared>) {
        self.declared.extend(process::Process::declared());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(process::Process::new()));
        let runner = registry.sub_registry_with_prefix("runner");
        *runner = self.registry;
        (registry, self.declared)
    }
}

impl Task {
    pub(super) fn declare(declare: &mut Declare) -> Self {
        let histogram = || Histogram::new(EFFECT_BUCKETS);
        let task = Self {
            state: declare.plain(
                "state",
                "1 for the state that the task is in, else 0",
                Family::default(),
            ),
            state_entered: declare.in_unit(
                "state_entered_timestamp",
                Unit::Seconds,
                "When a state was entered, by Unix time",
                Family::default(),
            ),
            boots: declare.plain("boots", "Starts of the runner on this journal", Gauge::default()),
            stalled_boots: declare.plain(
                "stalled_boots",
                "Starts in a row that followed an unclean end and entered no new state",
                Gauge::default(),
            ),
            stalled_boots_limit: declare.plain(
                "stalled_boots_limit",
                "How many of them end the task as CrashLoop (RUNNER_MAX_BOOTS)",
                Gauge::default(),
            ),
            attempts: declare.plain(
                "effect_attempts",
                "Attempts of an effect that came to an end, by what came of them",
                Family::default(),
            ),
            durations: declare.in_unit(
                "effect_duration",
                Unit::Seconds,
                "From an effect's intent to its outcome, by what came of it",
                Family::new_with_constructor(histogram),
            ),
            open: declare.plain(
                "effect_open",
                "1 for the effect that is under way or whose end is not known, else 0",
                Family::default(),
            ),
            failures: declare.plain(
                "effect_failures",
                "Effects that failed for good, by the reason",
                Family::default(),
            ),
            lost_answers: declare.plain(
                "effect_lost_answers",
                "Answers to an effect that were lost, so that it had to be looked for",
                Family::default(),
            ),
            verdict: declare.plain(
                "verdict",
                "1 once there is a verdict, with the reason where the task failed",
                Family::default(),
            ),
            verdict_at: declare.in_unit(
                "verdict_timestamp",
                Unit::Seconds,
                "When the verdict was reached, by Unix time",
                Family::default(),
            ),
            acknowledged: declare.plain(
                "verdict_acknowledged",
                "1 once the task API has taken the verdict, 0 before",
                Family::default(),
            ),
            departures: declare.plain(
                "departures",
                "Ends of this process that leave the task to the next start (exit 75)",
                Family::default(),
            ),
            sandbox_mode: declare.plain(
                "sandbox_mode",
                "1 for the setting of the sandbox (RUNNER_SANDBOX), else 0, once the task has begun",
                Family::default(),
            ),
            sandbox_rights: declare.plain(
                "sandbox_right",
                "1 for a right that the sandbox takes from the agent, 0 for one that it should take and does not",
                Family::default(),
            ),
            memory_kills: declare.plain(
                "out_of_memory_kills",
                "Processes of this container that the kernel killed for want of memory while the agent ran",
                Counter::default(),
            ),
        };
        for state in StateName::iter() {
            task.state(state).set(0);
        }
        task
    }
}

impl Agent {
    pub(super) fn declare(declare: &mut Declare, account: model::Account) -> Self {
        let usd = || Unit::Other("usd".to_owned());
        Self {
            starts: declare.plain("agent_starts", "Starts of the agent", Counter::default()),
            turns: declare.plain("agent_turns", "Turns that the agent took", Counter::default()),
            ran: declare.in_unit(
                "agent_run",
                Unit::Seconds,
                "How long processes of the agent ran",
                RealCounter::default(),
            ),
            requests: declare.plain(
                "agent_model_requests",
                "Requests to the model that the runner passed on, by whether the answer said what it used",
                Family::default(),
            ),
            tokens: declare.plain(
                "agent_tokens",
                "Tokens by model and type: as the runner counts them on the way, else as the agent says",
                Family::default(),
            ),
            cost: declare.in_unit("agent_cost", usd(), "Cost by model, likewise", Family::default()),
            budget: declare.in_unit(
                "agent_budget",
                usd(),
                "What the agent may spend over all of its starts (RUNNER_AGENT_MAX_BUDGET_USD)",
                Real::default(),
            ),
            spent: declare.in_unit(
                "agent_spent",
                usd(),
                "What it has spent over all of its starts, those of earlier processes too",
                Real::default(),
            ),
            account: Mutex::new(account),
        }
    }
}

impl Events {
    pub(super) fn declare(declare: &mut Declare) -> Self {
        let events = Self {
            made: declare.plain(
                "events_made",
                "What the agent did, by the type of event",
                Family::default(),
            ),
            settled: declare.plain(
                "events",
                "What the agent did, by whether the task API was told",
                Family::default(),
            ),
            queued: declare.plain(
                "events_queued",
                "Events that wait to be told or are under way",
                Gauge::default(),
            ),
        };
        // From 0, so that the first that is dropped is an increase.
        for result in ["sent", "dropped"] {
            drop(events.settled.get_or_create(&labels::Came { result }));
        }
        events
    }
}

impl Journal {
    pub(super) fn declare(declare: &mut Declare) -> Self {
        let journal = Self {
            rows: declare.plain("journal_rows", "Rows in the journal", Gauge::default()),
            appends: declare.plain(
                "journal_appends",
                "Transactions of the journal, by what came of them",
                Family::default(),
            ),
            bytes: declare.in_unit(
                "journal_appended",
                Unit::Bytes,
                "Bytes of bodies and blobs that were appended to the journal",
                Counter::default(),
            ),
            syncs: declare.in_unit(
                "journal_sync_duration",
                Unit::Seconds,
                "How long the disk took to take and sync a transaction of the journal",
                Histogram::new(SYNC_BUCKETS),
            ),
        };
        for end in runner_journal::AppendEnd::iter() {
            drop(journal.appends.get_or_create(&labels::Came { result: end.into() }));
        }
        journal
    }
}

impl Exports {
    pub(super) fn declare(declare: &mut Declare) -> Self {
        Self {
            requests: declare.plain(
                "otlp_exports",
                "Requests that were to deliver telemetry by OTLP, by what came of them",
                Family::default(),
            ),
            dropped: declare.plain(
                "otlp_dropped_items",
                "Spans, log records and data points that were given up",
                Family::default(),
            ),
        }
    }
}
