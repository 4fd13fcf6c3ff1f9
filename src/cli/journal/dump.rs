//! `runner journal dump`: the rows that verify, for a program or for a person.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use runner_journal::Row;
use strum::{Display, EnumString, VariantNames};

use super::bodies::Bodies;
use super::chronicle::Telling;
use super::head::{Head, unchecked};
use super::last::LastRows;
use super::output::{BUFFER, ended, to_stdout};
use super::place::Place;
use super::post_mortem::PostMortem;
use super::rows::{Lines, Rows};
use super::table::{Layout, Table};
use super::{html, mermaid};
use crate::cli::CliError;
use crate::redact::Redactor;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner journal dump                                     a timeline of the newest journal on this machine
  runner journal dump --last 20 /var/lib/runner/journal.db
  runner journal dump --format json --output post-mortem.json ./journal.db
  runner journal dump --format ndjson ./journal.db | jq -r 'select(.kind == \"outcome\") | .effect'

A table is as wide as the terminal, or as COLUMNS says, and in colour on a terminal: NO_COLOR=1 takes the colour away,
CLICOLOR_FORCE=1 keeps it in a pipe.")]
pub(super) struct Dump {
    /// table, json, ndjson, html (one page, for people) or mermaid (the path taken)
    #[arg(long, default_value = "table", value_parser = crate::config::one_of::<Format>, value_name = "FORMAT")]
    format: Format,
    /// Only the last N rows: at once, however long the journal is. The rows before them are not checked
    #[arg(long, value_name = "N")]
    last: Option<NonZeroU64>,
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
    pub(super) fn execute(&self, place: &Place) -> Result<u8, CliError> {
        let bodies = if self.raw {
            Bodies::AsStored
        } else {
            Bodies::Redacted(Redactor::new())
        };
        match (self.format, self.last) {
            (Format::Html | Format::Mermaid, None) => self.told(place, &bodies),
            (Format::Html | Format::Mermaid, Some(_)) => Err(CliError::Usage {
                what: format!(
                    "--last does not go with --format {}, which tells a journal from its beginning",
                    self.format
                ),
                hint: "leave it out, or use --format table, json or ndjson".to_owned(),
            }),
            (Format::Table | Format::Json | Format::Ndjson, Some(number)) => self.last_rows(place, number, &bodies),
            (Format::Ndjson, None) => self.lines(place, &bodies),
            (Format::Table | Format::Json, None) => self.whole(place, &bodies),
        }
    }

    /// Every row as a line: in the one reading that checks them.
    fn lines(&self, place: &Place, bodies: &Bodies) -> Result<u8, CliError> {
        let mut post_mortem = None;
        self.write(|out, _| {
            let mut rows = Rows::new(bodies, Lines::One);
            let mut written = Ok(());
            post_mortem = Some(PostMortem::open_with(place, |row| {
                if written.is_ok() {
                    written = rows.write("", row, "\n", out);
                }
            }));
            written
        })?;
        match post_mortem {
            Some(read) => Ok(read?.complain()),
            None => Ok(0),
        }
    }

    /// A page or a diagram of what happened.
    fn told(&self, place: &Place, bodies: &Bodies) -> Result<u8, CliError> {
        let mut telling = Telling::new(bodies);
        let mut redacted = 0;
        let post_mortem = PostMortem::open_with(place, |row| {
            telling.take(row);
            redacted += u64::from(is_redacted(row, bodies));
        })?;
        let chronicle = telling.end(&post_mortem.summary);
        self.write(|mut out, _| match self.format {
            Format::Mermaid => mermaid::write(&post_mortem, &chronicle, &mut out),
            Format::Html | Format::Table | Format::Json | Format::Ndjson => {
                html::write(&post_mortem, &chronicle, bodies, redacted, &mut out)
            }
        })?;
        Ok(post_mortem.complain())
    }

    /// Every row below what they add up to, which is not known before the last one was read.
    fn whole(&self, place: &Place, bodies: &Bodies) -> Result<u8, CliError> {
        let mut redacted = 0;
        let mut begun = None;
        let post_mortem = PostMortem::open_with(place, |row| {
            begun.get_or_insert(row.at_ms);
            redacted += u64::from(is_redacted(row, bodies));
        })?;
        let head = post_mortem.head(bodies).with_redacted(redacted);
        let table = |layout| Table::new(bodies, layout, begun, head.last());
        self.below(&head, bodies, table, |each| post_mortem.each(each))?;
        Ok(post_mortem.complain())
    }

    /// The last rows alone, below what those say that enter a state.
    fn last_rows(&self, place: &Place, number: NonZeroU64, bodies: &Bodies) -> Result<u8, CliError> {
        let mut redacted = 0;
        let last = LastRows::open(place, number, |row| redacted += u64::from(is_redacted(row, bodies)))?;
        let (begun, over) = (last.begun(), last.over());
        let last = match last.all()? {
            Ok(post_mortem) => {
                let head = post_mortem.head(bodies).with_redacted(redacted);
                let table = |layout| Table::new(bodies, layout, begun, head.last());
                self.below(&head, bodies, table, |each| post_mortem.each(each))?;
                return Ok(post_mortem.complain());
            }
            Err(last) => last,
        };
        let head = last.head(bodies).with_redacted(redacted);
        let table = |layout| Table::new(bodies, layout, begun, head.last()).over_since(over);
        self.below(&head, bodies, table, |each| last.each(each))?;
        if self.format == Format::Ndjson && head.unchecked() > 0 {
            eprintln!("{}", unchecked(head.unchecked()));
        }
        Ok(last.complain())
    }

    /// Rows, below what they add up to where the format has a place for that.
    fn below<'a>(
        &self,
        head: &Head,
        bodies: &'a Bodies,
        table: impl FnOnce(Layout) -> Table<'a>,
        each: impl FnOnce(Each<'_>) -> io::Result<()>,
    ) -> Result<(), CliError> {
        self.write(|out, layout| match self.format {
            Format::Ndjson => {
                let mut rows = Rows::new(bodies, Lines::One);
                each(&mut |row| rows.write("", row, "\n", out))
            }
            Format::Json | Format::Html | Format::Mermaid => json(head, bodies, out, each),
            Format::Table => print(head, table(layout), layout, out, each),
        })
    }

    /// Writes to where it was asked for.
    fn write(&self, write: impl FnOnce(&mut dyn Write, Layout) -> io::Result<()>) -> Result<(), CliError> {
        let Some(path) = &self.output else {
            return to_stdout(|out| write(out, Layout::of_stdout()));
        };
        let mut file = BufWriter::with_capacity(BUFFER, create(path)?);
        let written = write(&mut file, Layout::of_a_file()).and_then(|()| file.flush());
        ended(written, || path.display().to_string())
    }
}

fn is_redacted(row: &Row, bodies: &Bodies) -> bool {
    let body = row.entry.body();
    body.is_some_and(|body| matches!(bodies.show(body), Cow::Owned(_)))
}

/// What is there is somebody's: a dump never takes its place.
fn create(path: &Path) -> Result<std::fs::File, CliError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| CliError::Usage {
        what: format!("{} cannot be made: {error}", path.display()),
        hint: "name a file that does not exist yet with --output".to_owned(),
    })
}

/// Gives each row in turn.
type Each<'a> = &'a mut dyn FnMut(&Row) -> io::Result<()>;

/// One object: the head, and the rows as its `entries`.
fn json(
    head: &Head,
    bodies: &Bodies,
    out: &mut dyn Write,
    each: impl FnOnce(Each<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let head = serde_json::to_string(&head)?;
    let open = head.strip_suffix('}').unwrap_or(&head);
    write!(out, "{open},\"entries\":[")?;
    let mut rows = Rows::new(bodies, Lines::AsStored);
    let mut between = "\n";
    each(&mut |row| {
        rows.write(between, row, "", out)?;
        between = ",\n";
        Ok(())
    })?;
    writeln!(out, "\n]}}")
}

/// The head in words, and the rows as a timeline.
fn print(
    head: &Head,
    mut table: Table<'_>,
    layout: Layout,
    out: &mut dyn Write,
    each: impl FnOnce(Each<'_>) -> io::Result<()>,
) -> io::Result<()> {
    head.print(layout, out)?;
    writeln!(out)?;
    table.head(out)?;
    each(&mut |row| table.row(row, out))
}
