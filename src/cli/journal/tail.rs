//! `runner journal tail`: the end of a journal, and what comes, as it comes.

use std::io::{self, Write};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use runner_journal::{Head, Holder, ReadError, Row, Snapshot, Stamp};
use strum::{Display, EnumString, VariantNames};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::bodies::Bodies;
use super::findings::Findings;
use super::history::is_over;
use super::output::{BUFFER, ended};
use super::place::Place;
use super::rows::{Lines, Rows};
use super::table::{Layout, Table};
use crate::cli::CliError;
use crate::cli::local::on_runtime;
use crate::redact::Redactor;

/// How often it is looked whether there is more.
const LOOK: Duration = Duration::from_millis(100);
/// How often a damaged journal is looked at again before it is called so: its files may have been moved meanwhile.
const DOUBTS: u32 = 3;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner journal tail                                     the last rows of the newest journal on this machine
  runner journal tail --follow /var/lib/runner/journal.db
  runner journal tail -n 0 --follow --format ndjson ./journal.db | jq -r 'select(.kind == \"enter\") | .to'

The journal may be another process's, which is not disturbed: what is read is a copy. With --follow it need not be there
yet. It ends when the task is over and its runner gone, when no runner has held the journal for as long as --wait says,
at Ctrl-C, and when nobody reads on; each of these is exit 0.")]
pub(super) struct Tail {
    /// Print what comes, as it comes
    #[arg(long, short)]
    follow: bool,
    /// How many rows to begin with
    #[arg(long = "lines", short = 'n', value_name = "N", default_value_t = 10)]
    lines: u64,
    /// With --follow: how long to wait for the next start of a runner where none holds the journal
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// table or ndjson
    #[arg(long, default_value = "table", value_parser = crate::config::one_of::<Format>, value_name = "FORMAT")]
    format: Format,
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
    Ndjson,
}

/// Why it ends.
#[derive(Debug)]
enum End {
    /// All that is there was printed, and nothing else was asked for.
    Printed,
    /// The task is over.
    Over,
    /// No runner holds the journal.
    Abandoned,
    /// A signal.
    Told,
    /// Nobody reads on.
    Unread,
    /// The journal is not whole, or of a newer program.
    Found(Findings),
}

impl Tail {
    pub(super) fn execute(&self, place: &Place) -> Result<u8, CliError> {
        let bodies = if self.raw {
            Bodies::AsStored
        } else {
            Bodies::Redacted(Redactor::new())
        };
        let out = io::BufWriter::with_capacity(BUFFER, io::stdout());
        let mut shown = Shown::new(&bodies, self.format, out);
        let end = if self.follow {
            on_runtime(self.follow(place, &mut shown))?
        } else {
            self.print(place, &mut shown)?
        };
        Ok(match end {
            End::Printed | End::Told | End::Unread => 0,
            End::Over => {
                eprintln!("the task is over: nothing more comes");
                0
            }
            End::Abandoned => {
                eprintln!(
                    "no runner that can be seen from here has held {} for {}, and the task is not over: nothing more comes \
                     until one is started",
                    place.said(),
                    humantime::format_duration(self.wait)
                );
                0
            }
            End::Found(findings) => findings.complain(&place.name),
        })
    }

    /// The last rows, once.
    fn print(&self, place: &Place, shown: &mut Shown<'_>) -> Result<End, CliError> {
        let snapshot = place.snapshot()?;
        let begun = shown.begin(&snapshot, self.lines);
        let findings = begun.map_err(|source| place.unread(source))?;
        Ok(match (shown.flush()?, findings.is_empty()) {
            (Flow::Unread, _) => End::Unread,
            (Flow::Read, true) => End::Printed,
            (Flow::Read, false) => End::Found(findings),
        })
    }

    /// The last rows, and what comes.
    async fn follow(&self, place: &Place, shown: &mut Shown<'_>) -> Result<End, CliError> {
        // From here on, before anything is read or printed: one that came earlier would end the process with its copies left.
        let mut interrupt = watch_for(SignalKind::interrupt())?;
        let mut terminate = watch_for(SignalKind::terminate())?;
        let mut seen: Option<Stamp> = None;
        let mut doubts = 0;
        let mut quiet = Quiet::default();
        loop {
            let stamp = Stamp::of(&place.file).map_err(|source| place.unread(source))?;
            // Before the rows are read: what a holder wrote before it went is read after it was seen to be gone.
            let holder = Holder::of(&place.file);
            if seen.as_ref() != Some(&stamp) {
                match self.look(place, shown) {
                    Ok(findings) if findings.is_empty() => {
                        doubts = 0;
                        seen = Some(stamp);
                    }
                    // Looked at again: a file that was put in its place may have been seen half.
                    Ok(findings) => {
                        doubts += 1;
                        if doubts >= DOUBTS {
                            shown.flush()?;
                            return Ok(End::Found(findings));
                        }
                    }
                    Err(CliError::Read {
                        source: ReadError::Absent | ReadError::Empty,
                        ..
                    }) => {
                        quiet.say_that_it_is_waited_for(place);
                        seen = Some(stamp);
                    }
                    Err(CliError::Read {
                        source: ReadError::Unsteady,
                        ..
                    }) => {}
                    Err(error) => return Err(error),
                }
                quiet.begin();
            }
            if shown.flush()? == Flow::Unread || nobody_reads() {
                return Ok(End::Unread);
            }
            if doubts == 0
                && let Some(end) = quiet.end(shown, holder, self.wait)
            {
                return Ok(end);
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = interrupt.recv() => return Ok(End::Told),
                _ = terminate.recv() => return Ok(End::Told),
            }
        }
    }

    /// Prints what is new.
    fn look(&self, place: &Place, shown: &mut Shown<'_>) -> Result<Findings, CliError> {
        let failed = |source| place.unread(source);
        let snapshot = place.snapshot()?;
        if let Some(findings) = shown.go_on(&snapshot).map_err(failed)? {
            return Ok(findings);
        }
        if shown.head.is_some() {
            eprintln!("{} is another journal now", place.said());
        }
        shown.begin(&snapshot, self.lines).map_err(failed)
    }
}

fn watch_for(kind: SignalKind) -> Result<Signal, CliError> {
    signal(kind).map_err(|source| CliError::Output {
        what: "a handler of signals".to_owned(),
        source,
    })
}

/// How long nothing has come, and what was said of it.
#[derive(Debug, Default)]
struct Quiet {
    since: Option<Instant>,
    absent: bool,
}

impl Quiet {
    /// Something has moved.
    fn begin(&mut self) {
        self.since = None;
    }

    fn say_that_it_is_waited_for(&mut self, place: &Place) {
        if !self.absent {
            eprintln!("waiting for {}, which is not there yet", place.said());
        }
        self.absent = true;
    }

    /// Whether it is the end, where nothing has moved.
    fn end(&mut self, shown: &Shown<'_>, holder: Holder, wait: Duration) -> Option<End> {
        // A file that is not there yet is waited for as long as it takes.
        shown.head?;
        match (holder, shown.over.is_some()) {
            (Holder::Process(_), _) => {
                self.since = None;
                None
            }
            (Holder::Nobody | Holder::Unknown, true) => Some(End::Over),
            // Who holds it is not known: it goes on.
            (Holder::Unknown, false) => None,
            (Holder::Nobody, false) => {
                let since = *self.since.get_or_insert_with(Instant::now);
                (since.elapsed() >= wait).then_some(End::Abandoned)
            }
        }
    }
}

/// Whether anybody reads what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Read,
    Unread,
}

/// Whether the other end of standard output is closed: one that waits would else wait for ever, and notice at the next row.
fn nobody_reads() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0 && fds[0].revents().contains(PollFlags::ERR))
}

/// What was printed, and where.
struct Shown<'a> {
    bodies: &'a Bodies,
    format: Format,
    out: io::BufWriter<io::Stdout>,
    /// The timeline, once it has begun; in lines there is none.
    table: Option<Table<'a>>,
    rows: Rows<'a>,
    /// The last row that was seen, whether it was printed or not.
    head: Option<Head>,
    /// The row that entered the last state, once there is one.
    over: Option<u64>,
    written: io::Result<()>,
}

impl<'a> Shown<'a> {
    fn new(bodies: &'a Bodies, format: Format, out: io::BufWriter<io::Stdout>) -> Self {
        Self {
            bodies,
            format,
            out,
            table: None,
            rows: Rows::new(bodies, Lines::One),
            head: None,
            over: None,
            written: Ok(()),
        }
    }

    /// Prints the last rows of a journal that was not seen before.
    fn begin(&mut self, snapshot: &Snapshot, lines: u64) -> Result<Findings, ReadError> {
        let mut begun = None;
        self.over = None;
        let mut over = None;
        snapshot.landmarks(|row| {
            if row.seq == 1 {
                begun = Some(row.at_ms);
            }
            if is_over(&row) {
                over = Some(row.seq);
            }
        })?;
        self.over = over;
        if self.format == Format::Table {
            let table = Table::new(self.bodies, Layout::of_stdout(), begun, 0).over_since(over);
            if self.written.is_ok() {
                self.written = table.head(&mut self.out);
            }
            self.table = Some(table);
        }
        self.head = Some(Head::EMPTY);
        let summary = match NonZeroU64::new(lines) {
            Some(lines) => snapshot.read_last(lines, |row| self.row(&row))?,
            // None of them is printed, but the last one says where it is gone on.
            None => snapshot.read_last(NonZeroU64::MIN, |row| self.pass(&row))?,
        };
        Ok(Findings::of(snapshot, &summary, None))
    }

    /// Prints the rows that have come; none where it is not the journal that was seen before.
    fn go_on(&mut self, snapshot: &Snapshot) -> Result<Option<Findings>, ReadError> {
        let Some(last) = self.head else {
            return Ok(None);
        };
        let mut same = last == Head::EMPTY;
        let summary = snapshot.read_from(last.seq.max(1), |row| {
            if row.seq == last.seq {
                same = row.hash == last.hash;
            } else if same {
                self.row(&row);
            }
        })?;
        Ok(same.then(|| Findings::of(snapshot, &summary, None)))
    }

    fn row(&mut self, row: &Row) {
        self.pass(row);
        if self.written.is_ok() {
            self.written = match &mut self.table {
                Some(table) => table.row(row, &mut self.out),
                None => self.rows.write("", row, "\n", &mut self.out),
            };
        }
    }

    fn pass(&mut self, row: &Row) {
        self.head = Some(Head {
            seq: row.seq,
            hash: row.hash,
        });
        if is_over(row) {
            self.over = Some(row.seq);
        }
    }

    /// Gives what was gathered to whoever reads it.
    fn flush(&mut self) -> Result<Flow, CliError> {
        let written = std::mem::replace(&mut self.written, Ok(())).and_then(|()| self.out.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Flow::Unread),
            other => ended(other, || "to standard output".to_owned()).map(|()| Flow::Read),
        }
    }
}
