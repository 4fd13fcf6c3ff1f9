//! The plugins that are chosen, read and held against the other settings; and what `runner plugins` takes of the settings.

use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::values::{agent_variable, duration, one_of, ports};
use super::{AgentChoice, ConfigError};
use crate::plugins::{Plugin, PluginError, choose};
use crate::sandbox::{Mode, Ports, real_path};

/// What a chosen server is started with: as the agent's settings have it.
#[derive(Debug, Clone, Args)]
pub struct PluginOptions {
    /// How long each server may take to answer
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub timeout: Duration,

    /// Names of further variables that the agent gets as they are, comma-separated
    #[arg(long, env = "RUNNER_AGENT_ENV", value_parser = agent_variable, value_name = "NAMES", value_delimiter = ',')]
    pub agent_env: Vec<String>,

    /// Ports that the agent may connect to by TCP, comma-separated, at any address [default: every port]
    #[arg(long, env = "RUNNER_AGENT_PORTS", value_parser = ports, default_value = "", hide_default_value = true, value_name = "PORTS")]
    pub agent_ports: Ports,

    /// Whether the agent's sandbox has to be there: require, prefer or off
    #[arg(long, env = "RUNNER_SANDBOX", default_value = "prefer", value_parser = one_of::<Mode>, value_name = "MODE")]
    pub sandbox: Mode,
}

/// Reads what is named. An agent that is not Claude Code could not use it, and what lies in the workspace would be the agent's to
/// change.
pub(super) fn chosen(named: &[String], agent: &AgentChoice, workspace: &Path) -> Result<Vec<Plugin>, ConfigError> {
    let plugins = choose(named)?;
    match agent {
        AgentChoice::Claude => {}
        AgentChoice::Command(_) if plugins.is_empty() => {}
        AgentChoice::Command(_) => return Err(PluginError::NotClaude.into()),
    }
    let around = real_path(workspace);
    let inside = plugins
        .iter()
        .filter_map(Plugin::directory)
        .find(|path| path.starts_with(&around));
    match inside {
        Some(path) => Err(PluginError::InTheWorkspace {
            path: path.to_owned(),
            workspace: workspace.to_owned(),
        }
        .into()),
        None => Ok(plugins),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_the_agent_could_change_is_refused_and_so_is_one_that_it_could_not_use() {
        let room = tempfile::tempdir().unwrap();
        let own = room.path().join("workspace/own");
        std::fs::create_dir_all(own.join(".claude-plugin")).unwrap();
        std::fs::write(own.join(".claude-plugin/plugin.json"), r#"{"name": "own"}"#).unwrap();
        let named = [own.to_str().unwrap().to_owned()];
        let inside = chosen(&named, &AgentChoice::Claude, &room.path().join("workspace"));
        let inside = inside.unwrap_err().to_string();
        assert!(inside.contains("lies in the workspace"), "{inside}");
        let beside = chosen(&named, &AgentChoice::Claude, &room.path().join("work")).unwrap();
        assert_eq!(beside.len(), 1);
        let command = AgentChoice::Command("true".to_owned());
        let refused = chosen(&named, &command, Path::new("/workspace"))
            .unwrap_err()
            .to_string();
        assert!(refused.contains("RUNNER_AGENT=command takes no plugins"), "{refused}");
        assert_eq!(chosen(&[String::new()], &command, Path::new("/workspace")).unwrap(), []);
    }
}
