//! `runner init`: the first process of a container.

use std::ffi::OsString;
use std::os::fd::RawFd;

use clap::Args;

use super::CliError;
use crate::config::LogOptions;
use crate::process::init::{self, Order};

/// Its name on the command line.
pub(super) const NAME: &str = "init";

/// The first process of a container: starts COMMAND, and starts it again when a signal killed it
///
/// COMMAND has init's environment and standard streams. Init itself keeps no environment where /proc shows it. It passes
/// signals on, reaps orphans, and ends with COMMAND's exit code.
///
/// When a signal kills COMMAND, all that it left behind is killed, and it is started again at once: at most --max-boots
/// times in a row, a life of a minute beginning the count anew. Then init ends with 128 and the signal's number.
///
/// Nothing is started again after an exit of COMMAND's own accord, whatever the code, nor once SIGTERM, SIGINT, SIGQUIT or
/// SIGHUP has asked for an end.
#[derive(Debug, Args)]
#[command(
    override_usage = "runner init [OPTIONS] -- COMMAND [ARGS]...",
    after_help = "\
Example:
  runner init -- runner serve"
)]
pub(super) struct Init {
    /// How often a killed COMMAND is started again in a row
    #[arg(long, env = "RUNNER_MAX_BOOTS", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    max_boots: u32,

    /// The descriptor that has the environment: of the second life alone
    #[arg(long, hide = true, value_parser = clap::value_parser!(i32).range(3..))]
    environment: Option<RawFd>,

    /// What to start
    #[arg(last = true, required = true, value_names = ["COMMAND", "ARGS"])]
    command: Vec<OsString>,
}

impl Init {
    /// Begins anew without an environment; nothing is done where that was so. The settings, which may come from there, go
    /// along as flags.
    pub(super) fn leave_environment(&self, log: &LogOptions) -> Result<(), CliError> {
        if self.environment.is_some() {
            return Ok(());
        }
        match init::move_out(|environment| self.arguments(log, environment))? {}
    }

    fn arguments(&self, log: &LogOptions, environment: RawFd) -> Vec<OsString> {
        let mut flags = vec![
            format!("--environment={environment}"),
            format!("--max-boots={}", self.max_boots),
        ];
        // One that is empty is as good as none.
        flags.extend(
            log.log
                .iter()
                .filter(|filter| !filter.is_empty())
                .map(|filter| format!("--log={filter}")),
        );
        flags.extend(log.log_format.map(|format| format!("--log-format={format}")));
        let mut arguments = vec![NAME.into()];
        arguments.extend(flags.into_iter().map(OsString::from));
        arguments.push("--".into());
        arguments.extend(self.command.iter().cloned());
        arguments
    }

    pub(super) fn execute(self) -> Result<u8, CliError> {
        let mut command = self.command.into_iter();
        let (Some(program), Some(environment)) = (command.next(), self.environment) else {
            return Err(CliError::Usage {
                what: "`runner init` has no command to start".to_owned(),
                hint: "name it after `--`: runner init -- runner serve".to_owned(),
            });
        };
        let order = Order::take_over(program, command.collect(), environment)?;
        Ok(init::run(&order, self.max_boots)?)
    }
}
