//! `runner journal verify`: is it whole, in order, untampered and legal?

use std::path::PathBuf;

use clap::Args;
use runner_journal::{Hash, Summary};

use super::bodies::Bodies;
use super::output::to_stdout;
use super::place::Place;
use super::post_mortem::PostMortem;
use crate::cli::CliError;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner journal verify ./journal.db
  runner journal verify --head 8d7a… ./journal.db      that its end is not lost: the hash is in log lines, /status and the report
  runner journal verify --json ./journal.db | jq -e .whole")]
pub(super) struct Verify {
    /// The hash that the journal should end with, or go through: from a log line, /status or the report
    #[arg(long, value_name = "HASH")]
    head: Option<Hash>,
    /// One JSON object, for a program
    #[arg(long)]
    json: bool,
    /// The journal
    #[arg(value_name = "PATH")]
    pub(super) path: Option<PathBuf>,
}

impl Verify {
    pub(super) fn execute(&self, place: &Place) -> Result<u8, CliError> {
        let mut post_mortem = PostMortem::open(place)?;
        post_mortem.verify(self.head)?;
        if self.json {
            let journal = post_mortem.head(&Bodies::AsStored).into_journal();
            to_stdout(|out| {
                serde_json::to_writer(&mut *out, &journal)?;
                writeln!(out)
            })?;
        }
        let code = post_mortem.complain();
        if code == 0 && !self.json {
            let Summary { rows, head, .. } = &post_mortem.summary;
            let name = place.said();
            to_stdout(|out| writeln!(out, "{name}: whole, {rows} rows, head {}", head.hash))?;
        }
        Ok(code)
    }
}
