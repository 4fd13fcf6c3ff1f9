//! The table of docs/operators.md: every variable, as the command line defines it. `UPDATE_DOCS=1 cargo test --lib variables`
//! writes it anew.

use std::fmt::Write;

use clap::{Arg, Command, CommandFactory};

use super::Cli;
use crate::config::SECRET_VARIABLES;

/// What is by the environment alone, clap does not know: who takes it, and what it is.
const BY_THE_ENVIRONMENT_ALONE: [(&str, &str, &str); 7] = [
    (
        "RUNNER_TASK_TOKEN",
        "serve, doctor",
        "The bearer token that `POST /task` asks for; without it and the next, `/task` is open",
    ),
    (
        "RUNNER_TASK_TOKEN_FILE",
        "serve, doctor",
        "A file with that token, read once at the start",
    ),
    (
        "RUNNER_ARCHIVE_URL",
        "serve, run, demo, doctor",
        "Where what is left of a task goes as one file: a folder as `file://DIR/`, or an `https://` address that takes a PUT",
    ),
    (
        "RUNNER_ACTIONS_TOKEN",
        "actions",
        "The token that registers and removes the runner: out of the job's reach, where a file of the next is not",
    ),
    (
        "RUNNER_ACTIONS_TOKEN_FILE",
        "actions",
        "A file with that token, read anew for each request",
    ),
    (
        "RUNNER_ACTIONS_APP_KEY",
        "actions",
        "The private key of the GitHub App of `RUNNER_ACTIONS_APP_ID`, in PEM form, in place of a token",
    ),
    (
        "RUNNER_ACTIONS_APP_KEY_FILE",
        "actions",
        "A file with that key, read once at the start",
    ),
];

/// One variable, with the commands that take it.
struct Variable {
    name: String,
    flag: String,
    default: String,
    takers: Vec<String>,
    /// The first command's words.
    help: String,
}

/// The commands that people call.
fn commands() -> Vec<Command> {
    let mut cli = Cli::command();
    // Hands settings of every command down to each.
    cli.build();
    let named = |command: &&Command| command.get_name() != "help" && !command.is_hide_set();
    cli.get_subcommands().filter(named).cloned().collect()
}

fn variables() -> Vec<Variable> {
    let mut found: Vec<Variable> = Vec::new();
    for command in commands() {
        let verbs = command.get_subcommands().flat_map(Command::get_arguments);
        for argument in command.get_arguments().chain(verbs) {
            let Some(name) = argument.get_env() else { continue };
            let name = name.to_string_lossy().into_owned();
            let taker = command.get_name().to_owned();
            match found.iter_mut().find(|variable| variable.name == name) {
                // Verbs have the settings of their command, too.
                Some(variable) if variable.takers.contains(&taker) => {}
                Some(variable) => variable.takers.push(taker),
                None => found.push(Variable {
                    name,
                    flag: format!("--{}", argument.get_long().unwrap()),
                    default: default(argument),
                    takers: vec![taker],
                    help: help(argument),
                }),
            }
        }
    }
    found
}

/// In one line, without the default that it may name.
fn help(argument: &Arg) -> String {
    let text = words(argument);
    let text = text.split(" [default: ").next().unwrap_or_default();
    text.trim().to_owned()
}

fn words(argument: &Arg) -> String {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    help.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// clap's own, else what the help says: some follow from the command, or from another setting.
fn default(argument: &Arg) -> String {
    let values: Vec<_> = argument
        .get_default_values()
        .iter()
        .map(|v| v.to_string_lossy())
        .collect();
    if !argument.is_hide_default_value_set() && !values.is_empty() {
        return format!("`{}`", values.join(","));
    }
    let text = words(argument);
    match text
        .split_once(" [default: ")
        .and_then(|(_, rest)| rest.split_once(']'))
    {
        Some((default, _)) => default.to_owned(),
        None => "none".to_owned(),
    }
}

fn table() -> String {
    let everyone: Vec<String> = commands().iter().map(|command| command.get_name().to_owned()).collect();
    let mut table = "| variable | flag | default | taken by | what it is |\n|---|---|---|---|---|\n".to_owned();
    for variable in variables() {
        let takers = if variable.takers == everyone {
            "all".to_owned()
        } else {
            variable.takers.join(", ")
        };
        let Variable {
            name,
            flag,
            default,
            help,
            ..
        } = variable;
        writeln!(table, "| `{name}` | `{flag}` | {default} | {takers} | {help} |").unwrap();
    }
    assert_eq!(BY_THE_ENVIRONMENT_ALONE.map(|(name, _, _)| name), SECRET_VARIABLES);
    for (name, takers, help) in BY_THE_ENVIRONMENT_ALONE {
        writeln!(table, "| `{name}` | | none | {takers} | {help} |").unwrap();
    }
    table
}

#[test]
fn the_variables_in_the_docs_are_those_of_the_command_line() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operators.md");
    let docs = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- generated: variables -->\n", "<!-- end -->");
    let start = docs.find(begin).unwrap() + begin.len();
    let stop = start + docs[start..].find(end).unwrap();
    let current = format!("{}\n{}\n{}", &docs[..start], table(), &docs[stop..]);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    let docs = std::fs::read_to_string(path).unwrap();
    assert_eq!(docs, current, "run UPDATE_DOCS=1 cargo test --lib variables");
}

/// A flag that no variable sets would be a setting that an image cannot have, and the table not know.
#[test]
fn each_setting_of_serve_is_a_variable() {
    let serve = commands()
        .into_iter()
        .find(|command| command.get_name() == "serve")
        .unwrap();
    for argument in serve
        .get_arguments()
        .filter(|a| a.get_long().is_some_and(|l| l != "help"))
    {
        let flag = argument.get_long().unwrap().replace('-', "_").to_uppercase();
        let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
        assert_eq!(variable, Some(format!("RUNNER_{flag}")));
    }
}
