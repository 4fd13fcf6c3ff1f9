//! Plugins in Claude Code's own format: which there are, which are chosen, and what of them the agent is started with.
//!
//! A plugin is read once, with the settings, and refused by name where it could not be used. What is not chosen is neither
//! read nor started. The servers of those that are chosen are handed over in one file: Claude Code is started with
//! `--strict-mcp-config`, which keeps the repository's servers out, and would keep a plugin's own out as well.

mod builtin;
mod check;
mod definition;
mod files;
mod manifest;
mod mcp;
mod selection;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};

pub use builtin::{BUILT_IN, BuiltIn};
pub use check::{Answer, CheckError, Checked, Conditions, check};
pub use definition::{Definition, Program, Undefined};
pub use selection::{PluginError, choose};

/// A plugin as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// Its name, which is in the names of its tools.
    pub name: String,
    /// Its version, where it says one.
    pub version: Option<String>,
    /// What it is for, where it says so.
    pub description: Option<String>,
    /// Where it is from.
    pub origin: Origin,
    /// What it has beside servers.
    pub parts: Parts,
    /// Its MCP servers, by name.
    pub servers: Vec<Server>,
}

/// Where a plugin is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This binary has it.
    BuiltIn(&'static BuiltIn),
    /// An operator's directory, by its absolute path.
    Directory(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(_) => f.write_str("built in"),
            Self::Directory(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The names of what a plugin has at the usual places.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Parts {
    /// `skills/NAME/SKILL.md`.
    pub skills: Vec<String>,
    /// `agents/NAME.md`.
    pub agents: Vec<String>,
    /// `commands/NAME.md`.
    pub commands: Vec<String>,
}

/// An MCP server of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name in the plugin.
    pub name: String,
    /// How it is reached.
    pub definition: Definition,
}

/// A plugin where the agent reads it.
#[derive(Debug, Clone, Copy)]
pub struct Laid<'a> {
    /// The plugin.
    pub plugin: &'a Plugin,
    /// Its directory.
    pub root: &'a Path,
}

impl Plugin {
    /// Puts it where the agent can read it, if it is not there yet: one that is built in goes below `desk`. Gives its directory.
    pub fn lay(&self, desk: &Path) -> io::Result<PathBuf> {
        match &self.origin {
            Origin::BuiltIn(files) => {
                let root = desk.join("plugins").join(&self.name);
                files.write(&root)?;
                Ok(root)
            }
            Origin::Directory(root) => Ok(root.clone()),
        }
    }

    /// The operator's directory, where it is one.
    pub fn directory(&self) -> Option<&Path> {
        match &self.origin {
            Origin::BuiltIn(_) => None,
            Origin::Directory(root) => Some(root),
        }
    }

    /// What Claude Code calls a server of it. It makes `mcp__plugin_PLUGIN_SERVER__TOOL` of that, as where it loads the plugin by
    /// itself: agents and skills name tools so. Measured on 2.1.330.
    pub fn server_key(&self, server: &Server) -> String {
        format!("plugin:{}:{}", self.name, server.name)
    }
}

/// The servers of these plugins, as `--mcp-config` takes them.
pub fn mcp_config(laid: &[Laid<'_>]) -> Value {
    let servers = laid.iter().flat_map(|Laid { plugin, root }| {
        let of = move |server: &Server| (plugin.server_key(server), server.definition.at(root));
        plugin.servers.iter().map(of)
    });
    json!({ "mcpServers": servers.collect::<Map<String, Value>>() })
}

/// What Claude Code is started with for a plugin: its flag, and its directory.
pub fn arguments(root: &Path) -> [OsString; 2] {
    ["--plugin-dir".into(), root.into()]
}

#[cfg(test)]
mod tests;
