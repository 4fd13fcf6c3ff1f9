//! `runner journal`: what happened, read from the one file, by somebody who was not there.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::CliError;
use crate::config::state_home;
use crate::disk::with_suffix;
use bundle::Found;
use dump::Dump;
use explain::Explain;
use replay::Replay;
use tail::Tail;
use verify::Verify;
use words::escaped;

mod beside;
mod bodies;
mod bundle;
mod chronicle;
mod dump;
mod explain;
mod findings;
mod head;
mod history;
mod html;
mod last;
#[cfg(test)]
#[expect(clippy::wildcard_enum_match_arm, reason = "few failures have figures of their own")]
pub(super) mod lived;
mod mermaid;
mod output;
pub(super) mod paint;
mod place;
mod post_mortem;
mod replay;
mod rows;
mod runner;
mod story;
mod table;
mod tail;
mod transcript;
mod verify;
pub(super) mod width;
pub(super) mod words;

/// Look at a journal.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner journal explain                                  what happened, in a few sentences
  runner journal dump                                     the newest journal on this machine, as a table
  runner journal dump --format ndjson /var/lib/runner/journal.db | jq .kind
  runner journal dump --format html --output post-mortem.html ./journal.db
  runner journal verify --journal ./journal.db
  runner journal tail --follow ./journal.db               as it grows, also while a runner holds it
  runner journal replay ./journal.db
  runner journal verify ./my-task.tar.zst                 the journal in an archive (RUNNER_ARCHIVE_URL)")]
pub(super) struct JournalCommand {
    /// The journal, or an archive of a task [default: the newest on this machine]
    #[arg(long, env = "RUNNER_JOURNAL", global = true, value_name = "PATH")]
    journal: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say in a few sentences what happened, why it ended, what it cost, and what to do next
    Explain(Explain),
    /// Print every row that verifies; exit 1 where the journal is damaged
    Dump(Dump),
    /// Is it whole, in order, untampered and legal? Exit 0, 1 (damaged), 3 (no journal)
    Verify(Verify),
    /// Print the last rows, and with --follow what comes, as it comes
    Tail(Tail),
    /// Drive the machine with it and print each transition; exit 1 at the first illegal one
    Replay(Replay),
}

impl JournalCommand {
    pub(super) fn execute(self) -> Result<u8, CliError> {
        let named = |path: &Option<PathBuf>| Found::at(find(path.as_deref().or(self.journal.as_deref()))?);
        match &self.verb {
            Verb::Explain(explain) => named(&explain.path)?.look(|place| explain.execute(place)),
            Verb::Dump(dump) => named(&dump.path)?.look(|place| dump.execute(place)),
            Verb::Verify(verify) => named(&verify.path)?.look(|place| verify.execute(place)),
            Verb::Tail(tail) => named(&tail.path)?.look(|place| tail.execute(place)),
            Verb::Replay(replay) => named(&replay.path)?.look(|place| replay.execute(place)),
        }
    }
}

/// What a task's journal tells, in the words of `explain`; none where it cannot be read.
pub(super) fn in_words(path: &Path) -> Option<String> {
    explain::in_words(path)
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
    // Whoever made a directory there named it.
    eprintln!("the newest journal here is {}", escaped(&path.display().to_string()));
    Ok(path)
}

/// When a journal was last written: its log grows while the database stays still.
fn touched(path: &Path) -> Option<std::time::SystemTime> {
    let log = with_suffix(path, "-wal");
    let written = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    Some(written(path)?.max(written(&log).unwrap_or(std::time::UNIX_EPOCH)))
}
