//! The log: lines on standard error, each redacted, and one an event of the journal.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use super::{Status, log_file};
use crate::config::{LogFormat, LogOptions};
use crate::machine::{Event, Finding, Note, Outcome, Run};
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
        let clean = self.clean(line);
        log_file::line(&clean);
        io::stderr().lock().write_all(clean.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// One line an event. The head is in each: a journal's lost tail can be told from a log.
pub(super) fn log(run: &Run, event: &Event, status: &Status) {
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
            Outcome::Missed { cause } => tracing::warn!(
                task,
                boot,
                seq,
                head,
                "{effect} failed, and is not tried again: {cause}"
            ),
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
