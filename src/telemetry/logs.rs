//! The log: lines on standard error, each redacted, and one an event of the journal.
//!
//! A line is made once, as JSON, and redacted as a whole; whoever else takes lines ([`also_to`]) gets that one. A terminal gets
//! the same event in a person's form.

use std::io::{self, IsTerminal, Write};
use std::sync::{PoisonError, RwLock};

use runner_journal::Head;
use tracing::{Event as Logged, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::log_file;
use crate::config::{LogFormat, LogOptions};
use crate::machine::{Event, Finding, Note, Outcome, Run};
use crate::redact::Redactor;

mod context;
mod line;
mod pretty;

pub(super) use context::Context;
pub use line::Line;

/// Who else takes the lines.
type Taker = Box<dyn Fn(&Line) + Send + Sync>;

/// A process has one log, and one task: both are as global as standard error.
static TAKERS: RwLock<Vec<Taker>> = RwLock::new(Vec::new());

/// Has every line from now on taken by this as well: redacted, and whatever form standard error gets. It must not wait, and what
/// it logs itself is not for it.
pub fn also_to(taker: impl Fn(&Line) + Send + Sync + 'static) {
    TAKERS
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Box::new(taker));
}

/// Logs to standard error from now on: standard output is for data. `default` is what is logged where nothing is set.
/// Every line goes through the redactor, and a field has no control character in it that a terminal could act on.
pub fn log_to_stderr(options: &LogOptions, default: &str, redactor: &Redactor) {
    let terminal = io::stderr().is_terminal();
    let format = options
        .log_format
        .unwrap_or(if terminal { LogFormat::Pretty } else { LogFormat::Json });
    // An empty one is how a manifest leaves it out; taken as it is, it would silence the log.
    let wanted = options
        .log
        .as_deref()
        .filter(|directives| !directives.trim().is_empty());
    let filter = EnvFilter::new(wanted.unwrap_or(default));
    let coloured = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = Lines {
        redactor: redactor.clone(),
        form: match (format, coloured) {
            (LogFormat::Json, _) => Form::Json,
            (LogFormat::Pretty, true) => Form::Person(pretty::Colours::On),
            (LogFormat::Pretty, false) => Form::Person(pretty::Colours::Off),
        },
    };
    // A second call in one process finds a logger there, which is as good.
    drop(tracing_subscriber::registry().with(filter).with(lines).try_init());
}

/// What standard error gets.
enum Form {
    Json,
    Person(pretty::Colours),
}

/// Standard error, a whole line at a time, and whoever else takes them.
struct Lines {
    redactor: Redactor,
    form: Form,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Logged<'_>, _: LayerContext<'_, S>) {
        let context = Context::current();
        let line = line::Draft::of(event);
        let shown = match self.form {
            Form::Person(colours) => Some(self.redactor.clean(pretty::render(&line, colours))),
            Form::Json => None,
        };
        let line = line.finished(context.as_deref(), &self.redactor);
        for taker in TAKERS.read().unwrap_or_else(PoisonError::into_inner).iter() {
            taker(&line);
        }
        log_file::line(&line.json);
        let mut shown = shown.unwrap_or(line.json);
        shown.push('\n');
        // Where it cannot be written there is nobody to tell.
        drop(io::stderr().lock().write_all(shown.as_bytes()));
    }
}

/// Says what was recorded. After it, lines are about what is under way now.
pub(super) fn log(run: &Run, event: &Event, head: Head) {
    Context::set(Context::of_event(run, event, head));
    say(run, event);
    Context::set(Context::of(run, head));
}

/// Lines from now on are of an Actions runner: of this name, in this state.
pub(super) fn of_runner(boot: u32, head: Head, name: Option<String>, state: Option<&'static str>) {
    Context::set(Context::of_runner(boot, head, name, state));
}

/// One line an event. The head is in each, as in every line: a journal's lost tail can be told from a log.
fn say(run: &Run, event: &Event) {
    match event {
        Event::Booted { .. } => tracing::info!("runner {} started", crate::VERSION),
        Event::Assigned { assignment, .. } => tracing::info!(api = %assignment.api_url, "assigned"),
        Event::Intended { effect, attempt, .. } => tracing::info!(attempt, "{effect}"),
        Event::Probed { effect, finding, .. } => match finding {
            Finding::Done => tracing::info!("{effect} had ended"),
            Finding::NotDone { .. } => tracing::info!("{effect} had not been done"),
        },
        Event::Ended { effect, outcome, .. } => match outcome {
            Outcome::Done { .. } => tracing::debug!("{effect} is done"),
            Outcome::Parked { .. } => tracing::info!("{effect} is parked"),
            Outcome::Missed { cause } => tracing::warn!("{effect} failed, and is not tried again: {cause}"),
            Outcome::Superseded => tracing::warn!("the task was ended elsewhere"),
            Outcome::Retry { cause, .. } => tracing::warn!("{effect} will be tried again: {cause}"),
            Outcome::Failed { failure, cause, .. } | Outcome::GivenUp { failure, cause } => {
                tracing::error!(reason = %failure, "{effect} failed: {cause}");
            }
        },
        Event::Concluded { verdict, .. } => {
            let reason = verdict.reason.map(|r| r.to_string());
            tracing::info!(verdict = %verdict.kind, reason, "{}", verdict.message);
        }
        Event::Noted { note, .. } => match note {
            Note::Sandbox { mode, rights } => tracing::info!(mode, rights = rights.join(" "), "the agent's sandbox"),
            Note::OutOfMemory { killed } => tracing::warn!(
                killed,
                "out of memory: the kernel killed processes of this container while the agent ran"
            ),
            Note::PluginMissing(part) => tracing::warn!(
                "the agent worked without {}: `runner plugins check` says more",
                part.named(str::to_owned)
            ),
            Note::AnswerLost { effect, cause } => tracing::warn!("the answer to {effect} was lost: {cause}"),
            Note::Parked => tracing::info!("parked: the next start goes on"),
            Note::Undelivered => {
                let state = run.state_name().map(|s| s.to_string());
                tracing::warn!(state, "not delivered: the next start goes on");
            }
        },
    }
}
