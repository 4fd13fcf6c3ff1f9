//! The timeline for a terminal: a line a row, the starts set apart.

use std::fmt::Write as _;
use std::io::{self, Write};

use runner_journal::{Entry, Finding, Row};

use super::bodies::Bodies;
use super::history::is_over;
use super::paint::{Look, Paint};
use super::width::{USUAL, columns, cut, width};
use super::words::{field, one_line, span, words};
use crate::machine::Millis;

/// The column for what a row is about: `pull_request #1234` fits.
const WHAT: usize = 18;
/// For what came of it: `taken_as_claimed` is the longest, and is cut.
const RESULT: usize = 10;
/// For how long it took: `59.9 s`, `12m05s`.
const TOOK: usize = 7;

/// How a timeline is laid out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// How many columns a line may have.
    pub(super) columns: usize,
    pub(super) paint: Paint,
}

impl Layout {
    /// For standard output.
    pub(super) fn of_stdout() -> Self {
        Self {
            columns: columns(),
            paint: Paint::of_stdout(),
        }
    }

    /// For a file, which is read anywhere.
    pub(super) fn of_a_file() -> Self {
        Self {
            columns: USUAL,
            paint: Paint::Plain,
        }
    }
}

/// A timeline, row by row.
pub(super) struct Table<'a> {
    bodies: &'a Bodies,
    layout: Layout,
    /// When the first row of the journal was written.
    begun: Option<Millis>,
    /// The start that the last line belongs to; 0 before the first line.
    boot: u32,
    /// The number of the last row; none before the first.
    last: Option<u64>,
    /// The intent whose outcome has not come.
    open: Option<Open>,
    /// Whether this start has said that it leaves the rest to the next one.
    left: bool,
    /// The row that enters the machine's last state, where there is one: what is started after it has nothing to say.
    over_since: Option<u64>,
    /// How wide row numbers are.
    digits: usize,
}

impl<'a> Table<'a> {
    /// A timeline of a journal whose first row was written at `begun`, where that is known, and whose last is `last`.
    pub(super) fn new(bodies: &'a Bodies, layout: Layout, begun: Option<Millis>, last: u64) -> Self {
        Self {
            bodies,
            layout,
            begun,
            boot: 0,
            last: None,
            open: None,
            left: false,
            over_since: None,
            digits: last.to_string().len().max(4),
        }
    }

    /// The same; the machine's last state was entered in such a row, where it was.
    pub(super) fn over_since(mut self, row: Option<u64>) -> Self {
        self.over_since = row;
        self
    }

    /// The names of the columns.
    pub(super) fn head(&self, out: &mut dyn Write) -> io::Result<()> {
        let faint = self.layout.paint.style(Look::Faint);
        writeln!(
            out,
            "{faint}{:>digits$} {:>8}  {:<WHAT$} {:<RESULT$} {:>TOOK$}  details{faint:#}",
            "row",
            "time",
            "what",
            "result",
            "took",
            digits = self.digits
        )
    }

    /// The next row.
    pub(super) fn row(&mut self, row: &Row, out: &mut dyn Write) -> io::Result<()> {
        let since = row.at_ms.saturating_sub(*self.begun.get_or_insert(row.at_ms));
        let follows = self.last.is_none_or(|last| last.checked_add(1) == Some(row.seq));
        self.last = Some(row.seq);
        if !follows {
            // What came of it may be among the rows that are missing.
            self.open = None;
        }
        if let Entry::Boot { body } = &row.entry {
            let text = self.start(row, body.as_deref(), follows);
            self.boot = row.boot;
            self.left = false;
            return self.rule(&format!("{:>1$} {2:>8}", row.seq, self.digits, span(since)), &text, out);
        }
        if is_over(row) {
            self.over_since = Some(row.seq);
        }
        if self.boot != row.boot {
            // The rows that begin in the middle of a start say which one.
            self.boot = row.boot;
            self.left = false;
            let blank = format!("{:>1$} {2:>8}", "", self.digits, "");
            self.rule(&blank, &format!("start {}", row.boot), out)?;
        }
        let Line {
            what,
            result,
            took,
            detail,
            look,
        } = self.line(row);
        let style = self.layout.paint.style(look);
        let took = took.map(span).unwrap_or_default();
        let what = padded(&one_line(&what, WHAT), WHAT);
        let result = padded(&one_line(&result, RESULT), RESULT);
        let mut text = format!("{:>digits$} {:>8}  ", row.seq, span(since), digits = self.digits);
        let _ = write!(text, "{style}{what} {result}{style:#} {took:>TOOK$}  ");
        let taken = self.digits + 1 + 8 + 2 + WHAT + 1 + RESULT + 1 + TOOK + 2;
        text.push_str(&one_line(&detail, self.layout.columns.saturating_sub(taken)));
        writeln!(out, "{}", text.trim_end())
    }

    /// What is said where a start of the runner begins.
    fn start(&mut self, row: &Row, body: Option<&str>, follows: bool) -> String {
        let version = body.and_then(|body| field(body, "version"));
        let version = version.map(|version| format!(" · runner {}", one_line(&version, 40)));
        let mut text = format!("start {}{}", row.boot, version.unwrap_or_default());
        let is_over = self.over_since.is_some_and(|over| over < row.seq);
        if self.boot > 0 && !self.left && follows {
            match &self.open {
                Some(Open { effect, attempt, .. }) => {
                    let _ = write!(text, " · the one before ended in {effect} #{attempt}");
                }
                None if is_over => {}
                None => text.push_str(" · the one before ended without a word"),
            }
        }
        text
    }

    /// A line that sets a start apart.
    fn rule(&self, lead: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
        let strong = self.layout.paint.style(Look::Strong);
        let room = self.layout.columns.saturating_sub(width(lead) + 2);
        let text = cut(&format!("── {text} "), room);
        let rest = "─".repeat(room.saturating_sub(width(&text)));
        writeln!(out, "{lead}  {strong}{text}{rest}{strong:#}")
    }

    fn line(&mut self, row: &Row) -> Line {
        let body = row.entry.body().map(|body| self.bodies.show(body));
        let detail = body.as_deref().map(words).unwrap_or_default();
        let said = |name: &str| body.as_deref().and_then(|body| field(body, name)).unwrap_or_default();
        let line = |what: String, result: &str, look| Line {
            what,
            result: result.to_owned(),
            took: None,
            detail: detail.clone(),
            look,
        };
        match &row.entry {
            Entry::Boot { .. } => line("start".to_owned(), "", Look::Strong),
            Entry::Enter { dst, .. } => line(format!("→ {dst}"), "", Look::Strong),
            Entry::Intent { effect, attempt, .. } => {
                self.open = Some(Open {
                    effect: effect.clone(),
                    attempt: *attempt,
                    boot: row.boot,
                    at: row.at_ms,
                });
                let again = if *attempt > 1 { Look::Odd } else { Look::Faint };
                line(format!("{effect} #{attempt}"), "…", again)
            }
            Entry::Probe {
                effect,
                attempt,
                finding,
                ..
            } => {
                if *finding != Finding::Done {
                    self.open = None;
                }
                let found = match finding {
                    // How it ended is in the next row: it may have failed.
                    Finding::Done => "had ended",
                    Finding::NotDone => "was not",
                    Finding::Unknown => "unknown",
                };
                line(format!("{effect} #{attempt}"), found, Look::Odd)
            }
            Entry::Outcome {
                effect,
                attempt,
                finding,
                ..
            } => {
                // When it ended that a later start looked for, nobody saw.
                let open = self.open.take();
                let its_own = open.filter(|open| open.is(effect, *attempt) && open.boot == row.boot);
                let took = its_own.map(|open| row.at_ms.saturating_sub(open.at));
                let look = match finding {
                    Finding::Done => Look::Good,
                    Finding::NotDone | Finding::Unknown => Look::Bad,
                };
                Line {
                    took,
                    ..line(format!("{effect} #{attempt}"), finding.into(), look)
                }
            }
            Entry::Verdict { .. } => {
                let event = said("event");
                let look = if event == "completed" { Look::Good } else { Look::Bad };
                line("verdict".to_owned(), &event, look)
            }
            Entry::Ack { .. } => Line {
                detail: said("ack"),
                ..line("acknowledged".to_owned(), "", Look::Plain)
            },
            Entry::Note { .. } => {
                let note = said("note");
                self.left |= matches!(note.as_str(), "parked" | "undelivered" | "left");
                line("note".to_owned(), "", Look::Plain)
            }
        }
    }
}

/// An intent whose outcome has not come.
struct Open {
    effect: String,
    attempt: u32,
    /// The start that wrote it.
    boot: u32,
    /// And when.
    at: Millis,
}

impl Open {
    fn is(&self, effect: &str, attempt: u32) -> bool {
        self.effect == effect && self.attempt == attempt
    }
}

/// A row in words.
struct Line {
    what: String,
    result: String,
    took: Option<Millis>,
    detail: String,
    look: Look,
}

/// So many columns wide, whatever is in it.
fn padded(text: &str, columns: usize) -> String {
    let room = columns.saturating_sub(width(text));
    format!("{text}{}", " ".repeat(room))
}

#[cfg(test)]
mod tests;
