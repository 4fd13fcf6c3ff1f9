//! What the runner shows of itself while it runs: logs, `/status` and `/metrics`, all of rows that are on disk.

use std::fmt;
use std::io::{self, IsTerminal, Write};
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
use serde::Serialize;
use strum::IntoEnumIterator;
use tokio::sync::watch;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use crate::config::{LogFormat, LogOptions};
use crate::driver::Observe;
use crate::machine::{EffectName, Event, Failure, Finding, Millis, Note, Outcome, Run, StateName, VerdictKind};
use crate::redact::Redactor;
use crate::text::escape_controls;

/// Logs to standard error from now on: standard output is for data. `default` is what is logged where nothing is set.
/// Every line goes through the redactor, and a field has no control character in it that a terminal could act on.
pub fn log_to_stderr(options: &LogOptions, default: &str, redactor: &Redactor) {
    let format = options.log_format.unwrap_or(if io::stderr().is_terminal() {
        LogFormat::Pretty
    } else {
        LogFormat::Json
    });
    // An empty one is how a manifest leaves it out; taken as it is, it would silence the log.
    let wanted = options
        .log
        .as_deref()
        .filter(|directives| !directives.trim().is_empty());
    let filter = EnvFilter::new(wanted.unwrap_or(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(Lines {
            redactor: redactor.clone(),
            format,
        });
    // A second call in one process finds a logger there, which is as good.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Pretty => {
            let fields = debug_fn(field).delimited(" ");
            builder.fmt_fields(fields).with_target(false).try_init()
        }
    };
}

/// A field for a person: one line, whatever is in it.
fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = escape_controls(&format!("{value:?}"));
    match field.name() {
        "message" => write!(writer, "{value}"),
        name => write!(writer, "{name}={value}"),
    }
}

/// Standard error, a whole line at a time.
struct Lines {
    redactor: Redactor,
    format: LogFormat,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Lines {
    fn clean(&self, line: &[u8]) -> String {
        let text = self.redactor.clean(String::from_utf8_lossy(line).into_owned());
        match self.format {
            // Its fields were escaped one by one: what is left are the colours.
            LogFormat::Pretty => text,
            // JSON's own escapes leave these out.
            LogFormat::Json => ('\u{7f}'..='\u{9f}').fold(text, |text, c| {
                if text.contains(c) {
                    text.replace(c, &format!("\\u{:04x}", u32::from(c)))
                } else {
                    text
                }
            }),
        }
    }
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The subscriber writes an event at once.
        io::stderr().lock().write_all(self.clean(line).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// `GET /status` (contract, section 1).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The task, once one is assigned.
    #[serde(rename = "taskID")]
    pub task_id: Option<String>,
    /// The last state entered.
    pub state: Option<StateName>,
    /// This start's number.
    pub boot: u32,
    /// The last row's number.
    pub seq: u64,
    /// The last row's hash.
    pub journal_head: String,
    /// The verdict, once there is one.
    pub verdict: Option<VerdictStatus>,
    /// When the state was entered.
    pub since: Option<String>,
    /// This program's version.
    pub version: &'static str,
}

/// The verdict as `/status` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerdictStatus {
    /// Which.
    pub event: VerdictKind,
    /// Why, where the task failed.
    pub reason: Option<Failure>,
    /// One sentence.
    pub message: String,
    /// Whether the API has taken it.
    pub acknowledged: bool,
}

impl Status {
    /// Before the first row is read.
    pub fn starting() -> Self {
        Self {
            task_id: None,
            state: None,
            boot: 0,
            seq: 0,
            journal_head: String::new(),
            verdict: None,
            since: None,
            version: crate::VERSION,
        }
    }

    fn of(run: &Run, head: Head) -> Self {
        Self {
            task_id: run.assignment.as_ref().map(|a| a.task_id.to_string()),
            state: run.state_name(),
            boot: run.boot.number,
            seq: head.seq,
            journal_head: head.hash.to_string(),
            verdict: run.verdict.as_ref().map(|verdict| VerdictStatus {
                event: verdict.kind,
                reason: verdict.reason,
                message: verdict.message.clone(),
                acknowledged: run.acknowledged.is_some(),
            }),
            since: run.state.as_ref().map(|_| rfc3339(run.since)),
            version: crate::VERSION,
        }
    }
}

/// RFC 3339 with milliseconds, in UTC.
pub fn rfc3339(at: Millis) -> String {
    match jiff::Timestamp::from_millisecond(at) {
        Ok(timestamp) => format!("{timestamp:.3}"),
        Err(_) => format!("{at} ms"),
    }
}

/// Milliseconds since the Unix epoch, by the system's clock.
pub fn system_clock() -> Millis {
    jiff::Timestamp::now().as_millisecond()
}

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

/// Sees every row, and shows it.
pub struct Telemetry {
    status: watch::Sender<Status>,
    metrics: Metrics,
    intended_at: Option<Millis>,
    entered: Option<StateName>,
}

impl Telemetry {
    /// Shows rows on these.
    pub fn new(status: watch::Sender<Status>, metrics: Metrics) -> Self {
        Self {
            status,
            metrics,
            intended_at: None,
            entered: None,
        }
    }

    fn measure(&mut self, run: &Run, event: &Event, head: Head) {
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
        Outcome::Superseded => "superseded",
        Outcome::Parked { .. } => "parked",
    }
}

impl Observe for Telemetry {
    fn recorded(&mut self, run: &Run, event: &Event, head: Head) {
        self.measure(run, event, head);
        let status = Status::of(run, head);
        log(run, event, &status);
        if self.entered != status.state {
            self.entered = status.state;
            if let Some(state) = status.state {
                tracing::info!(
                    task = status.task_id,
                    boot = status.boot,
                    seq = head.seq,
                    head = status.journal_head,
                    "entered {state}"
                );
            }
        }
        self.status.send_replace(status);
    }
}

/// One line an event. The head is in each: a journal's lost tail can be told from a log.
fn log(run: &Run, event: &Event, status: &Status) {
    let task = status.task_id.as_deref();
    let (boot, seq, head) = (status.boot, status.seq, status.journal_head.as_str());
    match event {
        Event::Booted { .. } => tracing::info!(task, boot, seq, head, "runner {} started", crate::VERSION),
        Event::Assigned { assignment, .. } => {
            tracing::info!(task, boot, seq, head, api = %assignment.api_url, "assigned");
        }
        Event::Intended { effect, attempt, .. } => tracing::info!(task, boot, seq, head, attempt, "{effect}"),
        Event::Probed { effect, finding, .. } => match finding {
            Finding::Done => tracing::info!(task, boot, seq, head, "{effect} had ended"),
            Finding::NotDone { .. } => tracing::info!(task, boot, seq, head, "{effect} had not been done"),
        },
        Event::Ended { effect, outcome, .. } => match outcome {
            Outcome::Done { .. } => tracing::debug!(task, boot, seq, head, "{effect} is done"),
            Outcome::Parked { .. } => tracing::info!(task, boot, seq, head, "{effect} is parked"),
            Outcome::Superseded => tracing::warn!(task, boot, seq, head, "the task was ended elsewhere"),
            Outcome::Retry { cause, .. } => {
                tracing::warn!(task, boot, seq, head, "{effect} will be tried again: {cause}");
            }
            Outcome::Failed { failure, cause, .. } | Outcome::GivenUp { failure, cause } => {
                tracing::error!(task, boot, seq, head, reason = %failure, "{effect} failed: {cause}");
            }
        },
        Event::Concluded { verdict, .. } => {
            let reason = verdict.reason.map(|r| r.to_string());
            tracing::info!(task, boot, seq, head, verdict = %verdict.kind, reason, "{}", verdict.message);
        }
        Event::Noted { note, .. } => match note {
            Note::Sandbox { mode, rights } => {
                tracing::info!(
                    task,
                    boot,
                    seq,
                    head,
                    mode,
                    rights = rights.join(" "),
                    "the agent's sandbox"
                );
            }
            Note::OutOfMemory { killed } => {
                tracing::warn!(
                    task,
                    boot,
                    seq,
                    head,
                    killed,
                    "out of memory: the kernel killed processes of this container while the agent ran"
                );
            }
            Note::AnswerLost { effect, cause } => {
                tracing::warn!(task, boot, seq, head, "the answer to {effect} was lost: {cause}");
            }
            Note::Parked => tracing::info!(task, boot, seq, head, "parked: the next start goes on"),
            Note::Undelivered => {
                let state = run.state_name().map(|s| s.to_string());
                tracing::warn!(task, boot, seq, head, state, "not delivered: the next start goes on");
            }
        },
    }
}
