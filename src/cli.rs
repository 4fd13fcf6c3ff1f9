//! The command line: one file a command, and what an error makes of the exit code.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::adapters::git::askpass;
use crate::config::{LogOptions, unknown_variables};
use crate::redact::Redactor;
use crate::text::printable;
use crate::{process, telemetry};

mod actions;
mod demo;
mod doctor;
mod error;
mod init;
mod job;
mod journal;
mod local;
mod plugins;
mod progress;
mod run;
mod serve;
#[cfg(test)]
mod variables;

pub use error::CliError;

/// Runs one coding-agent task per container, and writes down what happened.
#[derive(Debug, Parser)]
#[command(name = "runner", version = VERSION, max_term_width = 100, after_help = EXAMPLES, subcommand_required = true)]
struct Cli {
    #[command(flatten)]
    log: LogOptions,
    #[command(subcommand)]
    command: Command,
}

/// The version, and the commit that it was built from.
const VERSION: &str = env!("RUNNER_LONG_VERSION");

const EXAMPLES: &str = "\
Examples:
  runner demo                                    the whole run on this machine, no accounts
  runner run --repo . --task 'fix the typo'      one task on a repository here
  runner serve                                   in a container: wait for POST /task on :8888
  runner journal dump                            what happened, after the fact
  runner plugins check                           do the chosen plugins' servers start?
  runner doctor                                  what this machine lacks to run a task
  runner actions --actions-url URL               a GitHub Actions runner for one job

Exit codes:
  0   the task completed and was acknowledged, or there is nothing left to do
  1   the task failed, and that was acknowledged
  2   usage or configuration error; nothing was touched
  3   the journal cannot be opened, is corrupt, held by another runner, or another program's
  75  not finished and not reported: start me again";

#[derive(Debug, Subcommand)]
enum Command {
    /// Listen, run one task, exit (the default)
    Serve(serve::Serve),
    /// Run one task without an operator
    Run(run::Run),
    /// The whole run on this machine alone: embedded task API, git server and forge, scripted agent
    Demo(demo::Demo),
    /// Look at a journal
    Journal(journal::JournalCommand),
    /// Show the plugins for the agent, and start each chosen one's servers
    Plugins(plugins::PluginsCommand),
    /// Be a just-in-time, ephemeral GitHub Actions runner
    Actions(actions::Actions),
    /// Say what this machine or image lacks to run a task
    Doctor(doctor::Doctor),
    Init(init::Init),
}

/// The whole program.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if std::env::var_os(askpass::FIFO).is_some() {
        let prompt = arguments.get(1).map(|a| a.to_string_lossy().into_owned());
        return askpass::main(&prompt.unwrap_or_default());
    }
    if let Some(code) = process::hidden_command(arguments.iter().cloned()) {
        return code;
    }
    let redactor = Redactor::new();
    redactor.add_environment(&[], |name| std::env::var_os(name));
    // Its environment, or the descriptor that has it, is open to others of its user for as long as this was not done.
    if arguments.get(1).is_some_and(|name| name == init::NAME)
        && let Err(error) = process::harden_self()
    {
        return exit_code(Err(error.into()), &redactor);
    }
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, &redactor),
    };
    // Before the first line is logged: what follows is for its second life.
    if let Command::Init(init) = &cli.command
        && let Err(error) = init.leave_environment(&cli.log)
    {
        return exit_code(Err(error), &redactor);
    }
    let level = match &cli.command {
        Command::Actions(actions) if actions.is_hook() => "warn",
        Command::Serve(_) | Command::Init(_) | Command::Actions(_) => "info",
        Command::Run(_) | Command::Demo(_) | Command::Journal(_) | Command::Plugins(_) | Command::Doctor(_) => "warn",
    };
    telemetry::log_to_stderr(&cli.log, level, &redactor);
    let quiet = match &cli.command {
        Command::Doctor(doctor) => doctor.is_quiet(),
        Command::Actions(actions) => actions.is_hook(),
        Command::Serve(_)
        | Command::Run(_)
        | Command::Demo(_)
        | Command::Journal(_)
        | Command::Plugins(_)
        | Command::Init(_) => false,
    };
    if !quiet {
        warn_of_unknown_variables();
    }
    let done = match cli.command {
        Command::Serve(serve) => serve.execute(&redactor),
        Command::Run(run) => run.execute(&redactor),
        Command::Demo(demo) => demo.execute(&redactor),
        Command::Journal(journal) => journal.execute(),
        Command::Plugins(plugins) => plugins.execute(&redactor),
        Command::Actions(actions) => actions.execute(&redactor),
        Command::Doctor(doctor) => doctor.execute(),
        Command::Init(init) => init.execute(),
    };
    exit_code(done, &redactor)
}

fn exit_code(done: Result<u8, CliError>, redactor: &Redactor) -> ExitCode {
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&error, error.hint(), redactor);
            ExitCode::from(error.exit_code())
        }
    }
}

/// `runner` alone, or with flags alone, is `runner serve`.
fn parse(mut arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let asks = |a: &OsStr| matches!(a.to_str(), Some("-h" | "--help" | "-V" | "--version"));
    let flags_only = |a: &OsString| a.to_string_lossy().starts_with('-') && !asks(a);
    if arguments.get(1).is_none_or(flags_only) && !arguments.iter().skip(1).any(|a| is_command(a)) {
        arguments.insert(1.min(arguments.len()), "serve".into());
    }
    let matches = Cli::command().try_get_matches_from(arguments)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    if let Some(("run", run)) = matches.subcommand()
        && let Command::Run(command) = &mut cli.command
        && run.value_source("workspace") == Some(ValueSource::EnvVariable)
        && job::is_in_one(|name| std::env::var_os(name))
    {
        command.forget_workspace();
    }
    Ok(cli)
}

fn is_command(argument: &OsStr) -> bool {
    let command = Cli::command();
    command.get_subcommands().any(|c| argument == c.get_name())
}

/// Prints a usage error, naming the variable where the value came from the environment.
fn refuse(error: &clap::Error, redactor: &Redactor) -> ExitCode {
    let text = error.render().to_string();
    match redactor.redact(&text) {
        // Nothing to be done where not even an error can be printed.
        Cow::Borrowed(_) => drop(error.print()),
        Cow::Owned(clean) => eprint!("{clean}"),
    }
    if !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
        && let Some((variable, value)) = variable_of(error)
    {
        let value = redactor.clean(value);
        eprintln!("hint: the value {value:?} comes from the environment variable {variable}");
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// The variable that an invalid value came from, if it did.
fn variable_of(error: &clap::Error) -> Option<(String, String)> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let flag = argument.split_whitespace().next()?.trim_start_matches("--");
    let flag = flag.split(['=', '[']).next()?;
    let variable = format!("RUNNER_{}", flag.replace('-', "_").to_ascii_uppercase());
    let given = std::env::args().any(|a| a.trim_start_matches("--").split('=').next() == Some(flag));
    let value = std::env::var_os(&variable)?;
    (!given).then(|| (variable, value.to_string_lossy().into_owned()))
}

fn warn_of_unknown_variables() {
    let mut known = BTreeSet::new();
    let mut commands = vec![Cli::command()];
    while let Some(command) = commands.pop() {
        let variables = command.get_arguments().filter_map(|a| a.get_env());
        known.extend(variables.map(|v| v.to_string_lossy().into_owned()));
        commands.extend(command.get_subcommands().cloned());
    }
    let in_a_job = job::is_in_one(|name| std::env::var_os(name));
    let names: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| !(in_a_job && job::is_of_the_job(name)))
        .collect();
    for (name, near) in unknown_variables(names.iter().map(String::as_str), &known) {
        let meant = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        tracing::warn!("{name} is not a setting of this runner{meant}");
    }
}

/// `error: failed to …`, and what to do about it.
fn complain(error: &dyn fmt::Display, hint: Option<String>, redactor: &Redactor) {
    // What it names may be somebody else's: a file, a machine, what a server said.
    eprintln!("error: {}", printable(&redactor.clean(error.to_string())));
    if let Some(hint) = hint {
        eprintln!("hint: {}", printable(&redactor.clean(hint)));
    }
}
