//! What of the chosen plugins the agent had to do without: a note for the journal, and a line of the pull request. The task goes on.

use super::World;
use crate::adapters::agent::{Agent, AgentReport as Said};
use crate::machine::{AgentReport, Fact, MissingPart, Note, Outcome};
use crate::plugins::Plugin;
use crate::text::cut;

/// How long a status is, in bytes. Claude Code's are a word.
const STATUS_LIMIT: usize = 40;
/// How many are written down at most: all of them are in one row.
const MISSING_LIMIT: usize = 16;
/// Its word for a server that answers. Another one is said once it has waited for as long as it does: `failed`, and for one
/// that says nothing within 30 s `pending`. Measured on 2.1.330.
const CONNECTED: &str = "connected";
/// Ours, for a server that it does not list, since it cannot read the definition,
const NOT_LISTED: &str = "not listed";
/// and for a plugin, whose manifest has something that it does not take.
const NOT_LOADED: &str = "not loaded";

/// Writes down what is missing, and puts it into what the agent reports.
pub(super) fn told(world: &World, said: &Said, mut outcome: Outcome) -> Outcome {
    let missing = match &world.agent {
        Agent::Claude(claude) => missing(&claude.plugins, said),
        Agent::Command { .. } => Vec::new(),
    };
    for part in &missing {
        world.note(Note::PluginMissing(part.clone()));
    }
    let report: Option<&mut AgentReport> = match &mut outcome {
        Outcome::Done {
            fact: Fact::AgentEnded(report),
        }
        | Outcome::Failed {
            agent: Some(report), ..
        } => Some(report),
        Outcome::Done { .. }
        | Outcome::Failed { agent: None, .. }
        | Outcome::Retry { .. }
        | Outcome::GivenUp { .. }
        | Outcome::Missed { .. }
        | Outcome::Superseded
        | Outcome::Parked(_) => None,
    };
    if let Some(report) = report {
        report.missing_parts = missing;
    }
    outcome
}

/// What of these plugins was not there at the agent's start. Of one that said nothing at all, nothing is known.
fn missing(plugins: &[Plugin], said: &Said) -> Vec<MissingPart> {
    let Some(seen) = &said.parts else {
        return Vec::new();
    };
    let mut missing = Vec::new();
    for plugin in plugins {
        let mut lacks = |server: Option<&str>, status: &str| {
            missing.push(MissingPart {
                plugin: plugin.name.clone(),
                server: server.map(str::to_owned),
                status: cut(status, STATUS_LIMIT),
            });
        };
        if !seen.plugins.contains(&plugin.name) {
            lacks(None, NOT_LOADED);
        }
        for server in &plugin.servers {
            let key = plugin.server_key(server);
            let listed = seen.servers.iter().find(|seen| seen.name == key);
            let status = listed.map_or(NOT_LISTED, |seen| &seen.status);
            if status != CONNECTED {
                lacks(Some(&server.name), status);
            }
        }
    }
    missing.truncate(MISSING_LIMIT);
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::agent::{SeenParts, SeenServer};
    use crate::plugins;

    fn seen(plugins: &[&str], servers: &[(&str, &str)]) -> Said {
        let servers = servers.iter().map(|(name, status)| SeenServer {
            name: (*name).to_owned(),
            status: (*status).to_owned(),
        });
        Said {
            parts: Some(SeenParts {
                plugins: plugins.iter().map(|name| (*name).to_owned()).collect(),
                servers: servers.collect(),
            }),
            ..Said::default()
        }
    }

    #[test]
    fn a_plugin_that_is_not_loaded_and_a_server_that_is_not_connected_are_missing_and_nothing_of_nobodys_choice_is() {
        let plugins = plugins::choose(&["aws-docs", "terraform"]).unwrap();
        let without = |said: &Said| -> Vec<String> {
            let all = missing(&plugins, said).into_iter();
            all.map(|part| part.named(str::to_owned)).collect()
        };
        let both = ["aws-docs", "terraform", "other"];
        let well = [
            ("plugin:aws-docs:aws-docs", "connected"),
            ("plugin:terraform:terraform", "connected"),
            ("other", "failed"),
        ];
        assert_eq!(without(&seen(&both, &well)), [""; 0]);
        assert_eq!(without(&seen(&both[1..], &well)), ["the plugin aws-docs (not loaded)"]);
        assert_eq!(
            without(&seen(&both, &[("plugin:aws-docs:aws-docs", "pending")])),
            [
                "the MCP server aws-docs of the plugin aws-docs (pending)",
                "the MCP server terraform of the plugin terraform (not listed)"
            ]
        );
        assert_eq!(without(&Said::default()), [""; 0], "it never began");
    }
}
