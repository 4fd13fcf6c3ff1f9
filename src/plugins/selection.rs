//! `RUNNER_PLUGINS`: names of plugins that are built in, and directories of an operator's own. What has a slash in it is a
//! directory, so that no name ever means one thing here and another there.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::definition::Unusable;
use super::files::Files;
use super::manifest::{MANIFEST, Manifest};
use super::{BUILT_IN, BuiltIn, Origin, Plugin};

/// What is wrong with a plugin's files.
#[derive(Debug, Error)]
pub enum Fault {
    /// A file that cannot be read.
    #[error("{file} cannot be read: {source}")]
    Unreadable {
        /// Below the plugin's directory.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A file that is not what it should be.
    #[error("{file} cannot be used: {source}")]
    Json {
        /// Below the plugin's directory.
        file: String,
        /// Why, and where.
        source: serde_json::Error,
    },
    /// `mcpServers` is something else.
    #[error("{file} cannot be used: mcpServers is not an object of servers by name")]
    NotServers {
        /// Below the plugin's directory.
        file: String,
    },
    /// A name that could not be in a tool's.
    #[error("the {of}'s name {name:?} cannot be used: letters, digits, -, _ and . are allowed, at most 64")]
    Name {
        /// Whose.
        of: &'static str,
        /// It.
        name: String,
    },
    /// Servers are declared in something that is no JSON file of the plugin.
    #[error(
        "mcpServers names {path:?}, which is no JSON file in the plugin's directory; bundles (.mcpb) are not taken"
    )]
    ServersElsewhere {
        /// What is named.
        path: String,
    },
    /// A server that cannot be used.
    #[error("the MCP server {name:?} {why}")]
    Server {
        /// Which.
        name: String,
        /// Why.
        why: Unusable,
    },
}

/// Why plugins cannot be chosen so.
#[derive(Debug, Error)]
pub enum PluginError {
    /// A name that nobody knows.
    #[error(
        "no plugin is named {name:?}: {} are built in; a directory is written with a slash, as ./{name}",
        names()
    )]
    Unknown {
        /// The name.
        name: String,
    },
    /// A directory that is none, or no plugin's.
    #[error("{} is no plugin: it has no {MANIFEST}{}", path.display(), Below(below))]
    NoPlugin {
        /// What was named.
        path: PathBuf,
        /// Directories in it that are plugins.
        below: Vec<String>,
    },
    /// A plugin that cannot be used.
    #[error("the plugin {plugin} cannot be used: {fault}")]
    Faulty {
        /// Its name, or its directory.
        plugin: String,
        /// Why.
        fault: Fault,
    },
    /// Two plugins of one name.
    #[error("two plugins are named {name:?}, {first} and {second}: leave one out")]
    Twice {
        /// The name.
        name: String,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// The agent could change it.
    #[error("the plugin {} lies in the workspace {}, which the agent writes: put it elsewhere", path.display(), workspace.display())]
    InTheWorkspace {
        /// Its directory.
        path: PathBuf,
        /// The workspace.
        workspace: PathBuf,
    },
    /// Plugins are Claude Code's.
    #[error(
        "RUNNER_AGENT=command takes no plugins: they are in Claude Code's format; leave them out, or set RUNNER_AGENT=claude"
    )]
    NotClaude,
}

struct Below<'a>(&'a [String]);

impl std::fmt::Display for Below<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            [] => Ok(()),
            names => write!(f, ", but these in it have: {}", names.join(", ")),
        }
    }
}

/// The plugins that are built in, for a sentence.
fn names() -> String {
    BUILT_IN.each_ref().map(|plugin| plugin.name).join(", ")
}

/// Reads the plugins that are named. One that is named twice is one.
pub fn choose<T: AsRef<str>>(named: &[T]) -> Result<Vec<Plugin>, PluginError> {
    let mut chosen: Vec<Plugin> = Vec::new();
    for entry in named
        .iter()
        .map(|entry| entry.as_ref().trim())
        .filter(|entry| !entry.is_empty())
    {
        let plugin = one(entry)?;
        match chosen.iter().find(|other| other.name == plugin.name) {
            Some(other) if other.origin == plugin.origin => {}
            Some(other) => {
                return Err(PluginError::Twice {
                    name: plugin.name,
                    first: other.origin.to_string(),
                    second: plugin.origin.to_string(),
                });
            }
            None => chosen.push(plugin),
        }
    }
    Ok(chosen)
}

fn one(entry: &str) -> Result<Plugin, PluginError> {
    if entry.contains('/') {
        return in_directory(Path::new(entry));
    }
    match BuiltIn::named(entry) {
        Some(files) => of_the_binary(files),
        None => Err(PluginError::Unknown { name: entry.to_owned() }),
    }
}

/// One that is built in.
pub(super) fn of_the_binary(built_in: &'static BuiltIn) -> Result<Plugin, PluginError> {
    let faulty = |fault| PluginError::Faulty {
        plugin: built_in.name.to_owned(),
        fault,
    };
    let read = plugin(Files::InTheBinary(built_in), Origin::BuiltIn(built_in)).map_err(faulty)?;
    read.ok_or_else(|| PluginError::Unknown {
        name: built_in.name.to_owned(),
    })
}

fn in_directory(named: &Path) -> Result<Plugin, PluginError> {
    // As it really is: the sandbox opens the place, and not a link that may lead elsewhere by then.
    let path = std::fs::canonicalize(named).or_else(|_| std::path::absolute(named));
    let path = path.unwrap_or_else(|_| named.to_owned());
    let faulty = |fault| PluginError::Faulty {
        plugin: path.display().to_string(),
        fault,
    };
    match plugin(Files::Below(&path), Origin::Directory(path.clone())).map_err(faulty)? {
        Some(plugin) => Ok(plugin),
        None => Err(PluginError::NoPlugin {
            below: plugins_below(&path),
            path,
        }),
    }
}

/// Somebody may have named the folder around their plugins.
fn plugins_below(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let plugins = entries.filter(|entry| entry.path().join(MANIFEST).is_file());
    let mut names: Vec<String> = plugins
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names.truncate(10);
    names
}

fn plugin(files: Files<'_>, origin: Origin) -> Result<Option<Plugin>, Fault> {
    let Some(manifest) = Manifest::read(files)? else {
        return Ok(None);
    };
    Ok(Some(Plugin {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        description: manifest.description.clone(),
        origin,
        parts: files.parts(),
        servers: manifest.servers(files)?,
    }))
}
