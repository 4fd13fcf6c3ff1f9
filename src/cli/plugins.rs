//! `runner plugins`: which plugins there are, and whether the servers of the chosen ones start.

use std::io::{self, Write};
use std::path::PathBuf;

use anstyle::AnsiColor;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};

use super::CliError;
use super::local::on_runtime;
use crate::config::{ConfigError, PluginOptions};
use crate::plugins::{Answer, BUILT_IN, Checked, Conditions, Definition, Plugin, check, choose};
use crate::process;
use crate::redact::Redactor;
use crate::sandbox::{self, InForce};
use crate::text::{escape_controls, excerpt};

/// Show the plugins for the agent, and start each chosen one's servers.
///
/// Plugins are in Claude Code's own format. What `RUNNER_PLUGINS` does not choose is neither read nor started.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner plugins list                                what is built in, and what is chosen
  RUNNER_PLUGINS=aws-docs,/srv/plugins/ours runner plugins check
  runner plugins check ./my-plugin                   does its server start, and what tools has it?
  runner plugins check --json | jq '.servers[] | select(.status == \"failed\")'")]
pub(super) struct PluginsCommand {
    /// Plugins, comma-separated: names of built-in ones, and directories, which are written with a slash [default: none]
    #[arg(
        long,
        env = "RUNNER_PLUGINS",
        value_name = "NAMES|DIRS",
        value_delimiter = ',',
        global = true
    )]
    plugins: Vec<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the plugins that are built in or chosen, with what is in them
    List(List),
    /// Start each server as the agent would, and print its tools; exit 1 where one does not answer
    Check(Check),
}

#[derive(Debug, Args)]
struct List {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Check {
    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Check these instead of those that are chosen
    #[arg(value_name = "PLUGIN")]
    named: Vec<String>,

    #[command(flatten)]
    options: PluginOptions,
}

impl PluginsCommand {
    pub(super) fn execute(self, redactor: &Redactor) -> Result<u8, CliError> {
        process::harden_self()?;
        match self.verb {
            Verb::List(list) => list.execute(&chosen(&self.plugins)?),
            Verb::Check(check) => {
                let named = if check.named.is_empty() {
                    &self.plugins
                } else {
                    &check.named
                };
                let plugins = chosen(named)?;
                check.execute(&plugins, redactor)
            }
        }
    }
}

fn chosen(named: &[String]) -> Result<Vec<Plugin>, CliError> {
    Ok(choose(named).map_err(ConfigError::from)?)
}

impl List {
    fn execute(&self, chosen: &[Plugin]) -> Result<u8, CliError> {
        let names = BUILT_IN.each_ref().map(|plugin| plugin.name);
        let mut all = self::chosen(&names.map(str::to_owned))?;
        // One of an operator's own may have the name of one that is built in.
        all.retain(|plugin| chosen.iter().all(|other| other.origin != plugin.origin));
        all.splice(0..0, chosen.iter().cloned());
        let is_chosen = |plugin: &Plugin| chosen.contains(plugin);
        if self.json {
            let plugins: Vec<Value> = all.iter().map(|plugin| as_json(plugin, is_chosen(plugin))).collect();
            return print(|out| pretty(out, &json!({"version": crate::VERSION, "plugins": plugins}))).map(|()| 0);
        }
        print(|out| {
            for plugin in &all {
                describe(out, plugin, is_chosen(plugin))?;
            }
            if chosen.is_empty() {
                writeln!(out, "None is chosen: RUNNER_PLUGINS names them, comma-separated.")?;
            }
            Ok(())
        })
        .map(|()| 0)
    }
}

fn describe(out: &mut dyn Write, plugin: &Plugin, chosen: bool) -> io::Result<()> {
    let mark = if chosen { '✓' } else { ' ' };
    let version = plugin.version.as_deref().map(excerpt).unwrap_or_default();
    writeln!(
        out,
        "{mark} {} {version}  ({})",
        plugin.name,
        escape_controls(&plugin.origin.to_string())
    )?;
    if let Some(description) = &plugin.description {
        writeln!(out, "    {}", excerpt(description))?;
    }
    let servers = plugin.servers.iter().map(|server| match &server.definition {
        Definition::Stdio { program, .. } => format!("{} ({})", server.name, excerpt(&program.command)),
        Definition::Remote { kind, url, .. } => format!("{} ({kind}, {})", server.name, excerpt(url)),
    });
    let parts = &plugin.parts;
    for (what, names) in [
        ("servers", servers.collect::<Vec<_>>()),
        ("skills", parts.skills.clone()),
        ("agents", parts.agents.clone()),
        ("commands", parts.commands.clone()),
    ] {
        if !names.is_empty() {
            writeln!(out, "    {:9} {}", what, escape_controls(&names.join(", ")))?;
        }
    }
    writeln!(out)
}

fn as_json(plugin: &Plugin, chosen: bool) -> Value {
    let servers = plugin.servers.iter().map(|server| match &server.definition {
        Definition::Stdio { program, .. } => {
            json!({"name": server.name, "transport": "stdio", "command": program.command})
        }
        Definition::Remote { kind, url, .. } => json!({"name": server.name, "transport": kind, "url": url}),
    });
    json!({
        "name": plugin.name,
        "version": plugin.version,
        "description": plugin.description,
        "chosen": chosen,
        "directory": plugin.directory(),
        "servers": servers.collect::<Vec<_>>(),
        "skills": plugin.parts.skills,
        "agents": plugin.parts.agents,
        "commands": plugin.parts.commands,
    })
}

/// What a server came to, as `--json` prints it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    plugin: &'a str,
    server: &'a str,
    transport: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    said: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_ms: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn of(checked: &'a Checked) -> Self {
        let line = Self {
            plugin: &checked.plugin,
            server: &checked.server,
            transport: &checked.transport,
            status: "not_asked",
            said: None,
            tools: None,
            after_ms: None,
            reason: None,
            stderr: None,
        };
        match &checked.answer {
            Answer::Tools { tools, said, after } => Self {
                status: "ok",
                said: said.as_deref(),
                tools: Some(tools),
                after_ms: Some(after.as_millis()),
                ..line
            },
            Answer::None { why, stderr } => Self {
                status: "failed",
                reason: Some(why),
                stderr: Some(stderr).filter(|text| !text.is_empty()).map(String::as_str),
                ..line
            },
            Answer::NotAsked => line,
        }
    }
}

impl Check {
    fn execute(&self, plugins: &[Plugin], redactor: &Redactor) -> Result<u8, CliError> {
        let env = |name: &str| std::env::var_os(name);
        redactor.add_environment(&self.options.agent_env, env);
        let runner = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
        let in_force = self.sandbox(&runner)?;
        let passed: Vec<String> = self
            .options
            .agent_env
            .iter()
            .filter(|name| !name.is_empty())
            .cloned()
            .collect();
        let conditions = Conditions {
            runner,
            in_force,
            ports: self.options.agent_ports.clone(),
            passed: &passed,
            lookup: &env,
            patience: self.options.timeout,
            redactor: redactor.clone(),
        };
        let checked = on_runtime(async { Ok(check(plugins, &conditions).await?) })?;
        let failed = checked
            .iter()
            .filter(|one| matches!(one.answer, Answer::None { .. }))
            .count();
        if self.json {
            let report = json!({
                "version": crate::VERSION,
                "ok": failed == 0,
                "sandbox": conditions.in_force.as_ref().map(|sandbox| &sandbox.rights),
                "servers": checked.iter().map(Line::of).collect::<Vec<_>>(),
            });
            print(|out| pretty(out, &report))?;
        } else {
            print(|out| text(out, plugins, &checked, conditions.in_force.as_ref()))?;
        }
        Ok(u8::from(failed > 0))
    }

    fn sandbox(&self, runner: &std::path::Path) -> Result<Option<InForce>, CliError> {
        let failed = |cause: String| CliError::Sandbox { cause };
        let rights = sandbox::survey(runner).map_err(|error| failed(error.to_string()))?;
        let wanted = self.options.agent_ports.wanted();
        sandbox::decide(self.options.sandbox, &rights, &wanted).map_err(|error| failed(error.to_string()))
    }
}

fn text(out: &mut dyn Write, plugins: &[Plugin], checked: &[Checked], in_force: Option<&InForce>) -> io::Result<()> {
    for Checked {
        plugin,
        server,
        answer,
        transport,
    } in checked
    {
        match answer {
            Answer::Tools { tools, after, .. } => {
                let colour = AnsiColor::Green.on_default();
                let tools = match tools.as_slice() {
                    [] => "no tools".to_owned(),
                    [one] => format!("1 tool: {one}"),
                    many => format!("{} tools: {}", many.len(), many.join(", ")),
                };
                let after = after.as_secs_f64();
                writeln!(
                    out,
                    "{colour}✓{colour:#} {plugin}: {server} answered in {after:.2} s with {tools}"
                )?;
            }
            Answer::None { why, stderr } => {
                let colour = AnsiColor::Red.on_default();
                writeln!(out, "{colour}✗{colour:#} {plugin}: {server}: {}", escape_controls(why))?;
                for line in stderr.lines() {
                    writeln!(out, "    | {line}")?;
                }
            }
            Answer::NotAsked => writeln!(
                out,
                "  {plugin}: {server} is not a program ({transport}), and is not asked"
            )?,
        }
    }
    for plugin in plugins.iter().filter(|plugin| plugin.servers.is_empty()) {
        writeln!(out, "  {}: no server", plugin.name)?;
    }
    if plugins.is_empty() {
        let names = BUILT_IN.each_ref().map(|plugin| plugin.name).join(", ");
        return writeln!(
            out,
            "No plugin is chosen: RUNNER_PLUGINS names them, comma-separated. Built in: {names}."
        );
    }
    match in_force {
        Some(sandbox) if sandbox.hides_files() => Ok(()),
        Some(_) | None => writeln!(
            out,
            "Without the sandbox for files, which hides what is outside /usr, /opt and the like."
        ),
    }
}

fn pretty(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    writeln!(out, "{value:#}")
}

fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
    let mut out = anstream::stdout().lock();
    match write(&mut out).and_then(|()| out.flush()) {
        // The reader has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::Output {
            what: "to standard output".to_owned(),
            source: error,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}
