//! `runner doctor`: what this machine or image lacks to run a task, and whether a runner here is alive.

use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::Args;

use super::CliError;
use crate::config::{Options, Role, Settings};
use crate::doctor::{self, Reach, Report, Status};
use crate::ids::{ApiUrl, RepoUrl};
use crate::process;

/// How long `--live` may take.
const BOUND: Duration = Duration::from_secs(3);

/// What this machine or image lacks to run a task.
///
/// Takes the settings of `serve` and touches nothing: no directory is made, nothing is sent off this machine but what
/// `--api` and `--repo` ask for. Exit 0 where no check fails, 1 where one does.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner doctor                                      what `runner serve` would find here
  runner doctor --json | jq '.checks[] | select(.status != \"ok\")'
  podman exec NAME runner doctor                     in a container, also while it works
  runner doctor --api http://api:8081 --repo https://github.com/OWNER/NAME
                                                     can they be reached?
  runner doctor --live                               is it alive? exit 0 or 1, for a health check")]
pub(super) struct Doctor {
    /// Print one JSON object
    #[arg(long, conflicts_with = "live")]
    json: bool,

    /// Ask the runner that listens here for /healthz, and nothing else
    #[arg(long)]
    live: bool,

    /// Ask this task API for an answer, without a credential
    #[arg(long, value_name = "URL", conflicts_with = "live")]
    api: Option<ApiUrl>,

    /// Ask the host of this repository for an answer, without a credential
    #[arg(long, value_name = "URL", conflicts_with = "live")]
    repo: Option<String>,

    #[command(flatten)]
    options: Options,
}

impl Doctor {
    /// Whether it is a health check, which says nothing where all is well.
    pub(super) fn is_quiet(&self) -> bool {
        self.live
    }

    pub(super) fn execute(self) -> Result<u8, CliError> {
        process::harden_self()?;
        if self.live {
            let address = doctor::to_ask(self.options.listen);
            doctor::ask(address, BOUND).map_err(|source| CliError::Unhealthy { address, source })?;
            return Ok(0);
        }
        let env = |name: &str| std::env::var_os(name);
        let settings = Settings::resolve(self.options, &Role::Serve, env)?;
        let repo = self
            .repo
            .map(|repo| RepoUrl::parse(&repo, settings.repos))
            .transpose()?;
        let reach = Reach { api: self.api, repo };
        let report = doctor::examine(&settings, &reach, &env);
        let mut out = anstream::stdout().lock();
        let printed = if self.json {
            json(&report, &mut out)
        } else {
            text(&report, &mut out)
        };
        match printed.and_then(|()| out.flush()) {
            // The reader has seen enough.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(CliError::Output {
                    what: "to standard output".to_owned(),
                    source: error,
                });
            }
            Ok(()) | Err(_) => {}
        }
        Ok(u8::from(!report.ok))
    }
}

fn json(report: &Report, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}

/// A line a check, with the hint below it. Where colours have no place, `out` takes them away.
fn text(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let names = report.checks.iter().map(|check| check.name.to_string());
    let width = names.map(|name| name.len()).max().unwrap_or(0);
    for check in &report.checks {
        let (mark, colour) = mark(check.status);
        let name = check.name.to_string();
        writeln!(out, "{colour}{mark}{colour:#} {name:width$}  {}", check.found)?;
        if let Some(hint) = &check.hint {
            writeln!(out, "  {:width$}  hint: {hint}", "")?;
        }
    }
    let [well, warned, failed] = [Status::Ok, Status::Warn, Status::Fail].map(|status| report.count(status));
    writeln!(
        out,
        "\nrunner {}: {well} ok, {warned} with a warning, {failed} failed",
        report.version
    )
}

fn mark(status: Status) -> (char, Style) {
    let (mark, colour) = match status {
        Status::Ok => ('✓', AnsiColor::Green),
        Status::Warn => ('!', AnsiColor::Yellow),
        Status::Fail => ('✗', AnsiColor::Red),
    };
    (mark, colour.on_default())
}
