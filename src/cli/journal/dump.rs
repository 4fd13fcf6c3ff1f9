//! `runner journal dump`: every row that verifies, for a program or for a person.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use runner_journal::Row;
use serde::Serialize;
use serde_json::value::RawValue;
use strum::{Display, EnumString, VariantNames};

use super::post_mortem::PostMortem;
use super::words::{describe, one_line, span};
use super::{html, mermaid};
use crate::cli::CliError;
use crate::machine::Run;
use crate::redact::Redactor;
use crate::telemetry::{VerdictStatus, rfc3339};

#[derive(Debug, Args)]
#[command(after_help = "Example: runner journal dump --format json --output post-mortem.json ./journal.db")]
pub(super) struct Dump {
    /// table, json, ndjson, html (one page, for people) or mermaid (the path taken)
    #[arg(long, default_value = "table", value_parser = crate::config::one_of::<Format>, value_name = "FORMAT")]
    format: Format,
    /// Write to this file, which must not exist yet
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show bodies as they are stored, what looks like a secret too
    #[arg(long)]
    raw: bool,
    /// The journal
    #[arg(value_name = "PATH")]
    pub(super) path: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
enum Format {
    Table,
    Json,
    Ndjson,
    Html,
    Mermaid,
}

impl Dump {
    pub(super) fn execute(&self, path: &Path) -> Result<u8, CliError> {
        let post_mortem = PostMortem::open(path)?;
        let shown = if self.raw {
            Bodies::AsStored
        } else {
            Bodies::Redacted(Redactor::new())
        };
        let written = match &self.output {
            None => post_mortem.dump(self.format, &shown, BufWriter::new(io::stdout().lock())),
            Some(file) => post_mortem.dump(self.format, &shown, BufWriter::new(create(file)?)),
        };
        match written {
            // The reader has seen enough.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            other => other.map_err(|source| CliError::Output {
                what: self
                    .output
                    .as_ref()
                    .map_or("to standard output".to_owned(), |o| o.display().to_string()),
                source,
            })?,
        }
        Ok(post_mortem.complain())
    }
}

/// What is there is somebody's: a dump never takes its place.
fn create(path: &Path) -> Result<std::fs::File, CliError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| CliError::Usage {
        what: format!("{} cannot be made: {error}", path.display()),
        hint: "name a file that does not exist yet with --output".to_owned(),
    })
}

impl PostMortem {
    fn dump(&self, format: Format, bodies: &Bodies, mut out: impl Write) -> io::Result<()> {
        match format {
            Format::Table => self.table(bodies, &mut out)?,
            Format::Json => self.json(bodies, &mut out)?,
            Format::Ndjson => self.each(|row| {
                serde_json::to_writer(&mut out, &DumpedRow::of(row, bodies)?)?;
                writeln!(out)
            })?,
            Format::Html => html::write(self, bodies, &mut out)?,
            Format::Mermaid => mermaid::write(self, bodies, &mut out)?,
        }
        out.flush()
    }

    /// How many rows have something in them that is not shown.
    fn redacted(&self, bodies: &Bodies) -> io::Result<u64> {
        let mut redacted = 0;
        self.each(|row| {
            if row
                .entry
                .body()
                .is_some_and(|body| matches!(bodies.show(body), Cow::Owned(_)))
            {
                redacted += 1;
            }
            Ok(())
        })?;
        Ok(redacted)
    }

    /// What a dump begins with; `redacted` is how many rows are not shown as they are stored.
    pub(super) fn header(&self, bodies: &Bodies, redacted: u64) -> Header<'_> {
        Header {
            journal: Journal {
                path: self.path.display().to_string(),
                schema: self.snapshot.schema(),
                rows: self.summary.rows,
                journal_head: self.summary.head.hash.to_string(),
                whole: self.problems().is_empty(),
                problems: self.problems(),
                note: (redacted > 0).then(|| not_shown(redacted)),
            },
            task: self.run.assignment.as_ref().map(|assignment| DumpedTask {
                task_id: assignment.task_id.as_str(),
                api_url: bodies.show(assignment.api_url.as_str()).into_owned(),
            }),
            state: self.run.state_name().map(|s| s.to_string()),
            boots: self.run.boot.number,
            verdict: verdict(&self.run).map(|verdict| VerdictStatus {
                message: bodies.show(&verdict.message).into_owned(),
                ..verdict
            }),
        }
    }

    fn json(&self, bodies: &Bodies, out: &mut impl Write) -> io::Result<()> {
        let head = self.header(bodies, self.redacted(bodies)?);
        let head = serde_json::to_string(&head)?;
        let open = head.strip_suffix('}').unwrap_or(&head);
        write!(out, "{open},\"entries\":[")?;
        let mut first = true;
        self.each(|row| {
            write!(out, "{}", if first { "\n" } else { ",\n" })?;
            first = false;
            serde_json::to_writer(&mut *out, &DumpedRow::of(row, bodies)?).map_err(io::Error::from)
        })?;
        writeln!(out, "\n]}}")
    }

    fn table(&self, bodies: &Bodies, out: &mut impl Write) -> io::Result<()> {
        let run = &self.run;
        let task = run
            .assignment
            .as_ref()
            .map_or("no task".to_owned(), |a| format!("task {}", a.task_id));
        let state = run.state_name().map_or("not assigned".to_owned(), |s| s.to_string());
        writeln!(
            out,
            "{task} · {state} · {} rows · {} start{}",
            self.summary.rows,
            run.boot.number,
            if run.boot.number == 1 { "" } else { "s" }
        )?;
        if let Some(verdict) = verdict(run) {
            let reason = verdict.reason.map(|r| format!(" ({r})")).unwrap_or_default();
            let told = if verdict.acknowledged {
                "acknowledged"
            } else {
                "not acknowledged"
            };
            writeln!(
                out,
                "{}{reason}, {told}: {}",
                verdict.event,
                one_line(&bodies.show(&verdict.message), 400)
            )?;
        }
        let redacted = self.redacted(bodies)?;
        if redacted > 0 {
            writeln!(out, "{}", not_shown(redacted))?;
        }
        writeln!(out, "\n{:>4}  {:>10}  {:>4}  what happened", "row", "time", "boot")?;
        let mut start = None;
        let mut intended = None;
        self.each(|row| {
            let since = row.at_ms - *start.get_or_insert(row.at_ms);
            let what = describe(row, bodies, &mut intended);
            writeln!(out, "{:>4}  {:>10}  {:>4}  {what}", row.seq, span(since), row.boot)
        })
    }
}

/// How bodies are shown.
pub(super) enum Bodies {
    AsStored,
    /// Without what looks like a secret. The secrets themselves are not known any more.
    Redacted(Redactor),
}

impl Bodies {
    pub(super) fn show<'a>(&self, body: &'a str) -> Cow<'a, str> {
        match self {
            Self::AsStored => Cow::Borrowed(body),
            Self::Redacted(redactor) => redactor.redact(body),
        }
    }
}

pub(super) fn not_shown(rows: u64) -> String {
    format!(
        "what looks like a secret is not shown ({rows} row{}); --raw shows bodies as they are stored",
        if rows == 1 { "" } else { "s" }
    )
}

fn verdict(run: &Run) -> Option<VerdictStatus> {
    run.verdict.as_ref().map(|verdict| VerdictStatus {
        event: verdict.kind,
        reason: verdict.reason,
        message: verdict.message.clone(),
        acknowledged: run.acknowledged.is_some(),
    })
}

/// What a dump begins with.
#[derive(Serialize)]
pub(super) struct Header<'a> {
    journal: Journal,
    task: Option<DumpedTask<'a>>,
    state: Option<String>,
    boots: u32,
    verdict: Option<VerdictStatus>,
}

#[derive(Serialize)]
struct DumpedTask<'a> {
    #[serde(rename = "taskID")]
    task_id: &'a str,
    #[serde(rename = "apiURL")]
    api_url: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Journal {
    path: String,
    schema: u32,
    rows: u64,
    journal_head: String,
    whole: bool,
    problems: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// A row as `dump` prints it: fields that its kind does not have are absent.
#[derive(Serialize)]
struct DumpedRow<'a> {
    seq: u64,
    boot: u32,
    at: String,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effect: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
    /// Whether the body is not the one that the hash covers.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    redacted: bool,
    hash: String,
}

impl<'a> DumpedRow<'a> {
    fn of(row: &'a Row, bodies: &Bodies) -> io::Result<Self> {
        let (from, to) = row.entry.edge().unzip();
        let (effect, attempt) = row.entry.effect().unzip();
        let shown = row.entry.body().map(|body| bodies.show(body));
        // As stored, byte for byte, where nothing is taken out: the hash covers these bytes.
        let redacted = matches!(shown, Some(Cow::Owned(_)));
        let body = shown.map(|body| RawValue::from_string(body.into_owned())).transpose();
        Ok(Self {
            seq: row.seq,
            boot: row.boot,
            at: rfc3339(row.at_ms),
            kind: row.entry.kind().to_string(),
            from: from.filter(|from| !from.is_empty()),
            to,
            effect,
            attempt,
            result: row.entry.finding().map(|finding| finding.to_string()),
            key: row.entry.key(),
            body: body.map_err(io::Error::from)?,
            redacted,
            hash: row.hash.to_string(),
        })
    }
}
