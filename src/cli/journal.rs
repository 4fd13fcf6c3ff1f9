//! `runner journal`: what happened, read from the one file, by somebody who was not there.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use runner_journal::{Entry, Hash, Row, Snapshot, Summary};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use strum::{Display, EnumString, VariantNames};

use super::CliError;
use crate::config::state_home;
use crate::machine::{Millis, Run};
use crate::record;
use crate::redact::Redactor;
use crate::telemetry::{VerdictStatus, rfc3339};

/// Look at a journal.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner journal dump                                     the newest journal on this machine, as a table
  runner journal dump --format ndjson /var/lib/runner/journal.db | jq .kind
  runner journal verify --journal ./journal.db")]
pub(super) struct JournalCommand {
    /// The journal [default: the newest on this machine]
    #[arg(long, env = "RUNNER_JOURNAL", global = true, value_name = "PATH")]
    journal: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print every row that verifies; exit 1 where the journal is damaged
    Dump(Dump),
    /// Is it whole, in order, untampered and legal? Exit 0, 1 (damaged), 3 (no journal)
    Verify(Verify),
}

#[derive(Debug, Args)]
#[command(after_help = "Example: runner journal dump --format json --output post-mortem.json ./journal.db")]
struct Dump {
    /// table, json or ndjson
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
    path: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: runner journal verify --head 8d7a… ./journal.db")]
struct Verify {
    /// The hash that the journal should end with, or go through: from a log line, /status or the report
    #[arg(long, value_name = "HASH")]
    head: Option<Hash>,
    /// The journal
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
enum Format {
    Table,
    Json,
    Ndjson,
}

impl JournalCommand {
    pub(super) fn execute(self) -> Result<u8, CliError> {
        match self.verb {
            Verb::Dump(dump) => {
                let path = find(dump.path.as_deref().or(self.journal.as_deref()))?;
                let to_output = |source: io::Error| CliError::Output {
                    what: dump
                        .output
                        .as_ref()
                        .map_or("to standard output".to_owned(), |o| o.display().to_string()),
                    source,
                };
                let post_mortem = PostMortem::open(&path)?;
                let shown = if dump.raw {
                    Bodies::AsStored
                } else {
                    Bodies::Redacted(Redactor::new())
                };
                let written = match &dump.output {
                    None => post_mortem.dump(dump.format, &shown, BufWriter::new(io::stdout().lock())),
                    Some(file) => post_mortem.dump(dump.format, &shown, BufWriter::new(create(file)?)),
                };
                match written {
                    // The reader has seen enough.
                    Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
                    other => other.map_err(to_output)?,
                }
                Ok(post_mortem.complain())
            }
            Verb::Verify(verify) => {
                let path = find(verify.path.as_deref().or(self.journal.as_deref()))?;
                let mut post_mortem = PostMortem::open(&path)?;
                post_mortem.verify(verify.head)?;
                let code = post_mortem.complain();
                if code == 0 {
                    let Summary { rows, head, .. } = &post_mortem.summary;
                    let _ = writeln!(
                        io::stdout(),
                        "{}: whole, {rows} rows, head {}",
                        path.display(),
                        head.hash
                    );
                }
                Ok(code)
            }
        }
    }
}

/// The journal that is named, or the newest of the places where one would be.
fn find(named: Option<&Path>) -> Result<PathBuf, CliError> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let mut places = vec![PathBuf::from("/var/lib/runner/journal.db")];
    let mut looked = vec!["/var/lib/runner".to_owned()];
    if let Ok(home) = state_home(|name| std::env::var_os(name)) {
        looked.push(home.display().to_string());
        let tasks = std::fs::read_dir(home).into_iter().flatten().flatten();
        places.extend(tasks.map(|task| task.path().join("journal.db")));
    }
    let newest = places
        .into_iter()
        .filter_map(|path| Some((touched(&path)?, path)))
        .max()
        .map(|(_, path)| path);
    let path = newest.ok_or(CliError::NoJournal { places: looked })?;
    eprintln!("the newest journal here is {}", path.display());
    Ok(path)
}

/// When a journal was last written: its log grows while the database stays still.
fn touched(path: &Path) -> Option<std::time::SystemTime> {
    let log = PathBuf::from(format!("{}-wal", path.display()));
    let written = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    Some(written(path)?.max(written(&log).unwrap_or(std::time::UNIX_EPOCH)))
}

/// What is there is somebody's: a dump never takes its place.
fn create(path: &Path) -> Result<std::fs::File, CliError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| CliError::Usage {
        what: format!("{} cannot be made: {error}", path.display()),
        hint: "name a file that does not exist yet with --output".to_owned(),
    })
}

/// A journal read once: what it adds up to, and what is wrong with it.
struct PostMortem {
    path: PathBuf,
    snapshot: Snapshot,
    summary: Summary,
    run: Run,
    /// What the machine refuses of rows that are whole.
    illegal: Option<String>,
}

impl PostMortem {
    fn open(path: &Path) -> Result<Self, CliError> {
        let failed = |source| CliError::Read {
            path: path.to_owned(),
            source,
        };
        let snapshot = Snapshot::take(path).map_err(failed)?;
        let mut run = Run::default();
        let mut illegal = None;
        let mut blob = |hash: &Hash| snapshot.blob(hash).ok().flatten();
        let summary = snapshot
            .read(|row| {
                if illegal.is_none()
                    && let Err(cause) = record::step(&mut run, row, &mut blob)
                {
                    illegal = Some(format!("row {}: {cause}", row.seq));
                }
            })
            .map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            snapshot,
            summary,
            run,
            illegal,
        })
    }

    fn verify(&mut self, head: Option<Hash>) -> Result<(), CliError> {
        self.summary = self.snapshot.verify(head).map_err(|source| CliError::Read {
            path: self.path.clone(),
            source,
        })?;
        Ok(())
    }

    fn problems(&self) -> Vec<String> {
        self.summary
            .problems
            .iter()
            .map(ToString::to_string)
            .chain(self.illegal.clone())
            .collect()
    }

    /// Says what is wrong, and what that makes of the exit code.
    fn complain(&self) -> u8 {
        let problems = self.problems();
        if problems.is_empty() {
            return 0;
        }
        eprintln!("error: the journal {} is damaged", self.path.display());
        for problem in problems {
            eprintln!("  {problem}");
        }
        eprintln!("hint: every row shown verifies; rows that do not are not shown");
        1
    }

    fn dump(&self, format: Format, bodies: &Bodies, mut out: impl Write) -> io::Result<()> {
        match format {
            Format::Table => self.table(bodies, &mut out)?,
            Format::Json => self.json(bodies, &mut out)?,
            Format::Ndjson => self.each(|row| {
                serde_json::to_writer(&mut out, &DumpedRow::of(row, bodies)?)?;
                writeln!(out)
            })?,
        }
        out.flush()
    }

    /// Streams the rows that verify: a journal of any length in constant memory.
    fn each(&self, mut write: impl FnMut(&Row) -> io::Result<()>) -> io::Result<()> {
        let mut result = Ok(());
        let read = self.snapshot.read(|row| {
            if result.is_ok() {
                result = write(row);
            }
        });
        read.map_err(io::Error::other)?;
        result
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

    fn json(&self, bodies: &Bodies, out: &mut impl Write) -> io::Result<()> {
        let redacted = self.redacted(bodies)?;
        let head = Header {
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
                api_url: bodies.show(assignment.api_url.as_str()),
            }),
            state: self.run.state_name().map(|s| s.to_string()),
            boots: self.run.boot.number,
            verdict: verdict(&self.run).map(|verdict| VerdictStatus {
                message: bodies.show(&verdict.message).into_owned(),
                ..verdict
            }),
        };
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
enum Bodies {
    AsStored,
    /// Without what looks like a secret. The secrets themselves are not known any more.
    Redacted(Redactor),
}

impl Bodies {
    fn show<'a>(&self, body: &'a str) -> Cow<'a, str> {
        match self {
            Self::AsStored => Cow::Borrowed(body),
            Self::Redacted(redactor) => redactor.redact(body),
        }
    }
}

fn not_shown(rows: u64) -> String {
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

/// A line is 80 columns wide, and 24 of them are the row's number, time and boot.
const WORDS: usize = 56;

/// A row in words; `intended` is when the open intent was written.
fn describe(row: &Row, bodies: &Bodies, intended: &mut Option<Millis>) -> String {
    let body = row.entry.body().map(|body| bodies.show(body));
    let said = body.as_deref().map(words).unwrap_or_default();
    let text = match &row.entry {
        Entry::Boot { .. } => format!("started {said}"),
        Entry::Enter { dst, .. } => format!("=> {dst} {said}"),
        Entry::Intent { effect, attempt, .. } => {
            *intended = Some(row.at_ms);
            format!("{effect} #{attempt} … {said}")
        }
        Entry::Probe { effect, finding, .. } => format!("{effect} looked for: {finding} {said}"),
        Entry::Outcome {
            effect,
            attempt,
            finding,
            ..
        } => {
            let took = intended.take().map(|at| format!(" in {}", span(row.at_ms - at)));
            format!("{effect} #{attempt} {finding}{} {said}", took.unwrap_or_default())
        }
        Entry::Verdict { .. } => format!("verdict {said}"),
        Entry::Ack { .. } => format!("acknowledged {said}"),
        Entry::Note { .. } => format!("note {said}"),
    };
    one_line(text.trim_end(), WORDS)
}

/// A body in words: its text first, then `name=value`. The tags say what the row says already.
fn words(body: &str) -> String {
    fn collect(name: &str, value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| collect(name, value, out)),
            Value::String(text) if matches!(name, "message" | "cause" | "failure") => {
                out.insert(0, text.clone());
            }
            Value::String(tag) if matches!(name, "outcome" | "fact" | "found") && *tag != "retry" => {}
            Value::String(text) => out.push(format!("{name}={text}")),
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) | Value::Array(_) => out.push(format!("{name}={value}")),
        }
    }
    let mut out = Vec::new();
    match serde_json::from_str(body) {
        Ok(value) => collect("", &value, &mut out),
        Err(_) => out.push(body.to_owned()),
    }
    out.join(" ")
}

/// Control characters escaped, and cut to a width.
fn one_line(text: &str, width: usize) -> String {
    let escaped: String = text
        .chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_debug().collect()
            } else {
                vec![c]
            }
        })
        .collect();
    if escaped.chars().count() <= width {
        return escaped;
    }
    let cut: String = escaped.chars().take(width.saturating_sub(1)).collect();
    format!("{cut}…")
}

/// A span of time for a person: `12 ms`, `3.4 s`, `2m05s`, `1h02m`.
fn span(ms: Millis) -> String {
    let seconds = ms / 1000;
    match ms {
        ..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{seconds}.{} s", ms % 1000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[derive(Serialize)]
struct Header<'a> {
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
    api_url: Cow<'a, str>,
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
        let mut dumped = Self {
            seq: row.seq,
            boot: row.boot,
            at: rfc3339(row.at_ms),
            kind: row.entry.kind().to_string(),
            from: None,
            to: None,
            effect: None,
            attempt: None,
            result: None,
            key: None,
            body: None,
            redacted: false,
            hash: row.hash.to_string(),
        };
        // As stored, byte for byte, where nothing is taken out: the hash covers these bytes.
        if let Some(body) = row.entry.body() {
            let shown = bodies.show(body);
            dumped.redacted = matches!(shown, Cow::Owned(_));
            dumped.body = Some(RawValue::from_string(shown.into_owned()).map_err(io::Error::from)?);
        }
        match &row.entry {
            Entry::Enter { src, dst, .. } => {
                dumped.from = (!src.is_empty()).then_some(src);
                dumped.to = Some(dst);
            }
            Entry::Intent {
                effect, attempt, key, ..
            } => {
                dumped.effect = Some(effect);
                dumped.attempt = Some(*attempt);
                dumped.key = Some(key);
            }
            Entry::Probe {
                effect,
                attempt,
                finding,
                ..
            }
            | Entry::Outcome {
                effect,
                attempt,
                finding,
                ..
            } => {
                dumped.effect = Some(effect);
                dumped.attempt = Some(*attempt);
                dumped.result = Some(finding.to_string());
            }
            Entry::Verdict { key, .. } => dumped.key = Some(key),
            Entry::Boot { .. } | Entry::Ack { .. } | Entry::Note { .. } => {}
        }
        Ok(dumped)
    }
}
