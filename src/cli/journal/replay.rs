//! `runner journal replay`: the pure machine driven with a journal, transition by transition.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use runner_journal::{Hash, Row, Snapshot, Summary};
use serde::Serialize;

use super::findings::{Findings, Refused};
use super::history::History;
use super::place::Place;
use super::words::one_line;
use crate::cli::CliError;
use crate::telemetry::rfc3339;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner journal replay ./journal.db
  runner journal replay --json ./journal.db | jq -r 'select(.before != .after) | .after'")]
pub(super) struct Replay {
    /// One JSON object a row, instead of a table
    #[arg(long)]
    json: bool,
    /// The journal
    #[arg(value_name = "PATH")]
    pub(super) path: Option<PathBuf>,
}

impl Replay {
    pub(super) fn execute(&self, place: &Place) -> Result<u8, CliError> {
        let snapshot = place.snapshot()?;
        let history = History::of(place, &snapshot)?;
        let out = BufWriter::new(io::stdout().lock());
        let mut driven = Driven {
            history,
            replayed: 0,
            stopped: None,
            print: if self.json { Print::Json } else { Print::Table },
            written: Ok(()),
            out,
        };
        driven.head();
        let mut blob = |hash: &Hash| snapshot.blob(hash).ok().flatten();
        let summary = snapshot
            .read(|row| driven.take(&row, &snapshot, &mut blob))
            .map_err(|source| place.unread(source))?;
        match driven.end(&summary) {
            // The reader has seen enough.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            other => other.map_err(|source| CliError::Output {
                what: "to standard output".to_owned(),
                source,
            })?,
        }
        match driven.stopped {
            Some(Stop::Refused(refused)) if !refused.newer => {
                eprintln!("error: the journal {} holds an illegal transition", place.said());
                eprintln!("  row {}: {}", refused.seq, refused.cause);
                eprintln!("hint: nothing after it was replayed; `runner journal dump` shows every row");
                Ok(1)
            }
            Some(Stop::Refused(refused)) => Ok(Findings::of(&snapshot, &summary, Some(&refused)).complain(&place.name)),
            Some(Stop::Gap) | None => Ok(Findings::of(&snapshot, &summary, None).complain(&place.name)),
        }
    }
}

/// How transitions are printed.
#[derive(Debug, Clone, Copy)]
enum Print {
    Table,
    Json,
}

/// Why rows are read on without being replayed.
#[derive(Debug)]
enum Stop {
    /// The machine refuses a row.
    Refused(Refused),
    /// The rows before this one do not all verify, so what it follows is not known.
    Gap,
}

/// The machine, and what is printed of it.
struct Driven<W> {
    history: History,
    /// The number of the last row that the machine took.
    replayed: u64,
    stopped: Option<Stop>,
    print: Print,
    written: io::Result<()>,
    out: W,
}

impl<W: Write> Driven<W> {
    fn head(&mut self) {
        if matches!(self.print, Print::Table) {
            self.written = writeln!(self.out, "{:>4}  {:>4}  {:<EVENT$}  state", "row", "boot", "event");
        }
    }

    /// Takes the next row that verifies.
    fn take(&mut self, row: &Row, snapshot: &Snapshot, blob: &mut dyn FnMut(&Hash) -> Option<Vec<u8>>) {
        if self.stopped.is_some() {
            return;
        }
        if row.seq != self.replayed + 1 {
            self.stopped = Some(Stop::Gap);
            return;
        }
        let before = self.history.state();
        let refused = self.history.take(row, blob).err().map(|cause| {
            let refused = Refused::of(row.seq, &cause, snapshot);
            let cause = one_line(&refused.cause, 400);
            Refused { cause, ..refused }
        });
        if refused.is_none() {
            self.replayed = row.seq;
        }
        let cause = refused.as_ref().map(|refused| refused.cause.as_str());
        let step = Step::of(row, before, self.history.state(), cause);
        if self.written.is_ok() {
            self.written = match self.print {
                Print::Table => step.table(&mut self.out),
                Print::Json => step.json(&mut self.out),
            };
        }
        self.stopped = refused.map(Stop::Refused);
    }

    /// Says what it came to.
    fn end(&mut self, summary: &Summary) -> io::Result<()> {
        std::mem::replace(&mut self.written, Ok(()))?;
        if matches!(self.print, Print::Table) {
            let state = named(self.history.state());
            writeln!(
                self.out,
                "\n{state}, after {} of {} rows that verify",
                self.replayed, summary.rows
            )?;
            if let Some((effect, attempt)) = self.history.open() {
                writeln!(
                    self.out,
                    "{effect} #{attempt} is open: the next start looks what came of it"
                )?;
            }
            if let Some(verdict) = self.history.verdict() {
                writeln!(self.out, "{verdict}")?;
            }
        }
        self.out.flush()
    }
}

/// A row, and where it led. What is named as in a dump is the same there.
#[derive(Serialize)]
struct Step<'a> {
    seq: u64,
    boot: u32,
    at: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effect: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'static str>,
    /// The machine's state before the row; null before the assignment.
    before: Option<&'static str>,
    /// And after it.
    after: Option<&'static str>,
    /// Why the machine does not take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a str>,
}

impl<'a> Step<'a> {
    fn of(row: &'a Row, before: Option<&'static str>, after: Option<&'static str>, refused: Option<&'a str>) -> Self {
        let (effect, attempt) = row.entry.effect().unzip();
        Self {
            seq: row.seq,
            boot: row.boot,
            at: rfc3339(row.at_ms),
            kind: row.entry.kind().into(),
            to: row.entry.edge().map(|(_, to)| to),
            effect,
            attempt,
            result: row.entry.finding().map(Into::into),
            before,
            after,
            refused,
        }
    }

    fn json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)
    }

    fn table(&self, out: &mut impl Write) -> io::Result<()> {
        let attempt = self.attempt.map(|attempt| format!("#{attempt}"));
        let words = [Some(self.kind), self.effect, attempt.as_deref(), self.result, self.to];
        let event = words.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let before = named(self.before);
        let state = match self.refused {
            Some(refused) => format!("{before}: refused: {refused}"),
            None if self.before == self.after => before.to_owned(),
            None => format!("{before} → {}", named(self.after)),
        };
        let event = one_line(&event, EVENT);
        writeln!(out, "{:>4}  {:>4}  {event:<EVENT$}  {state}", self.seq, self.boot)
    }
}

/// The width of the table's column for the event.
const EVENT: usize = 36;

fn named(state: Option<&'static str>) -> &'static str {
    state.unwrap_or("not assigned")
}
