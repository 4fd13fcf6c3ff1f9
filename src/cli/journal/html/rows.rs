//! Every row, and every gap among them.
//!
//! Plain `details` elements: they open without a script, are found by a browser's own search, and are printed. They stand in
//! chunks that a browser leaves alone until they come into view, so that there may be very many.

use std::borrow::Cow;
use std::io::{self, Write};

use runner_journal::{Entry, Row};

use super::escape::{Text, text};
use crate::cli::journal::bodies::Bodies;
use crate::cli::journal::chronicle::{Chronicle, Clock, Gap};
use crate::cli::journal::words::{one_line, span, words};
use crate::machine::Millis;
use crate::telemetry::rfc3339;

/// So many rows are one chunk.
const CHUNK: u64 = 50;
/// A row's words in its line, in characters. All of them are in what opens.
const LINE: usize = 160;

/// Writes rows as they come.
pub(super) struct Rows<'a, W> {
    bodies: &'a Bodies,
    gaps: std::iter::Peekable<std::slice::Iter<'a, Gap>>,
    clock: Clock,
    /// When the open intent was written.
    intended: Option<Millis>,
    written: u64,
    out: W,
}

impl<'a, W: Write> Rows<'a, W> {
    pub(super) fn new(chronicle: &'a Chronicle, bodies: &'a Bodies, out: W) -> Self {
        Self {
            bodies,
            gaps: chronicle.gaps.iter().peekable(),
            clock: Clock::default(),
            intended: None,
            written: 0,
            out,
        }
    }

    pub(super) fn take(&mut self, row: &Row) -> io::Result<()> {
        while let Some(gap) = self.gaps.next_if(|gap| gap.from < row.seq) {
            missing(gap, &mut self.out)?;
            self.intended = None;
        }
        if self.written.is_multiple_of(CHUNK) {
            let close = if self.written > 0 { "</div>\n" } else { "" };
            writeln!(self.out, "{close}<div class=\"chunk\">")?;
        }
        self.written += 1;
        self.row(row)
    }

    /// What is missing after the last row.
    pub(super) fn end(mut self) -> io::Result<()> {
        if self.written > 0 {
            writeln!(self.out, "</div>")?;
        }
        self.gaps.try_for_each(|gap| missing(gap, &mut self.out))
    }

    fn row(&mut self, row: &Row) -> io::Result<()> {
        let at = self.clock.at(row.at_ms);
        let absolute = rfc3339(row.at_ms);
        let kind: &'static str = row.entry.kind().into();
        let result: Option<&'static str> = row.entry.finding().map(Into::into);
        let body = row.entry.body().map(|body| self.bodies.show(body));
        let took = match &row.entry {
            Entry::Intent { .. } => {
                self.intended = Some(at);
                None
            }
            Entry::Outcome { .. } => self.intended.take().map(|from| span(at - from)),
            Entry::Boot { .. }
            | Entry::Enter { .. }
            | Entry::Probe { .. }
            | Entry::Verdict { .. }
            | Entry::Ack { .. }
            | Entry::Note { .. } => None,
        };
        let out = &mut self.out;
        write!(
            out,
            "<details class=\"row {kind}\" id=\"r{seq}\" data-kind=\"{kind}\" data-boot=\"{boot}\"",
            seq = row.seq,
            boot = row.boot
        )?;
        if let Some((effect, _)) = row.entry.effect() {
            write!(out, " data-effect=\"{}\"", Text(effect))?;
        }
        if let Some(result) = result {
            write!(out, " data-result=\"{result}\"")?;
        }
        let (time, date) = (absolute.get(11..).unwrap_or(&absolute), &absolute);
        write!(
            out,
            "><summary><span class=\"n\">{}</span><time datetime=\"{date}\" title=\"{date}\"><b>{}</b> <i>{time}</i></time>\
             <span class=\"b\">{}</span><span class=\"k\">{kind}</span><span class=\"w\">{}</span></summary>",
            row.seq,
            span(at),
            row.boot,
            line(&row.entry, result, took.as_deref(), body.as_deref())
        )?;
        opened(row, &absolute, body.as_ref(), out)
    }
}

/// What a row says, in one line of HTML.
fn line(entry: &Entry, result: Option<&str>, took: Option<&str>, body: Option<&str>) -> String {
    let mut said: Vec<String> = Vec::new();
    if let Some((effect, attempt)) = entry.effect() {
        said.push(format!("<b>{} #{attempt}</b>", Text(effect)));
    }
    if let Some((from, to)) = entry.edge() {
        let from = if from.is_empty() {
            String::new()
        } else {
            format!("{from} ")
        };
        said.push(format!("<b>{}→ {}</b>", Text(&from), Text(to)));
    }
    if let Some(result) = result {
        let mark = match result {
            "done" => '✓',
            "not_done" => '✗',
            _ => '?',
        };
        said.push(format!("<span class=\"res {result}\">{mark} {result}</span>"));
    }
    said.extend(took.map(|took| format!("in {took}")));
    let words = body
        .map(|body| one_line(&words(body), LINE))
        .filter(|words| !words.is_empty());
    said.extend(words.map(|words| format!("<span class=\"dim\">{}</span>", Text(&words))));
    said.join(" ")
}

/// What a row opens to.
fn opened(row: &Row, at: &str, body: Option<&Cow<'_, str>>, out: &mut impl Write) -> io::Result<()> {
    write!(out, "<dl><dt>written</dt><dd>{at}</dd>")?;
    if let Some(key) = row.entry.key() {
        write!(out, "<dt>key</dt><dd><code>{}</code></dd>", Text(key))?;
    }
    write!(out, "<dt>hash</dt><dd><code>{}</code></dd></dl>", row.hash)?;
    match body {
        None => write!(out, "<p class=\"dim\">This row has no body.</p>")?,
        Some(body) => {
            if matches!(body, Cow::Owned(_)) {
                write!(
                    out,
                    "<p class=\"redacted\">What looks like a secret is not shown; the hash is that of the body as it is stored.</p>"
                )?;
            }
            write!(out, "<pre class=\"body\" tabindex=\"0\">{}</pre>", Text(body))?;
        }
    }
    writeln!(out, "</details>")
}

fn missing(gap: &Gap, out: &mut impl Write) -> io::Result<()> {
    let is = if gap.to == Some(gap.from) { "is" } else { "are" };
    write!(
        out,
        "<div class=\"gap\" role=\"note\"><b>░ {} {is} not shown</b>",
        text(gap.rows())
    )?;
    for why in &gap.why {
        write!(out, "<br>{}", Text(why))?;
    }
    writeln!(out, "</div>")
}
