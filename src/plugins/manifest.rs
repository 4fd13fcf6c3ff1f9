//! `.claude-plugin/plugin.json` and `.mcp.json`: what a plugin says of itself and of its servers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::files::Files;
use super::selection::Fault;
use super::{Definition, Server};

/// Where a plugin says its name.
pub(super) const MANIFEST: &str = ".claude-plugin/plugin.json";
const SERVERS: &str = ".mcp.json";

/// What of a manifest the runner reads. The rest is Claude Code's business.
#[derive(Debug, Deserialize)]
pub(super) struct Manifest {
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) description: Option<String>,
    #[serde(default, rename = "mcpServers")]
    servers: Option<Declared>,
}

/// Servers that a manifest declares: files that have them, or they themselves.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Declared {
    File(String),
    Several(Vec<Declared>),
    Here(Map<String, Value>),
}

impl Manifest {
    /// None where the directory has none.
    pub(super) fn read(files: Files<'_>) -> Result<Option<Self>, Fault> {
        let Some(text) = text(files, MANIFEST)? else {
            return Ok(None);
        };
        let manifest: Self = parse(MANIFEST, &text)?;
        if !is_name(&manifest.name) {
            return Err(Fault::Name {
                of: "plugin",
                name: manifest.name,
            });
        }
        Ok(Some(manifest))
    }

    /// Those of `.mcp.json`, then those that the manifest names, of which one of the same name counts: as Claude Code reads them.
    pub(super) fn servers(self, files: Files<'_>) -> Result<Vec<Server>, Fault> {
        let mut found = BTreeMap::new();
        if let Some(text) = text(files, SERVERS)? {
            found.extend(in_file(SERVERS, &text)?);
        }
        if let Some(declared) = self.servers {
            collect(declared, files, &mut found)?;
        }
        found.into_iter().map(server).collect()
    }
}

fn collect(declared: Declared, files: Files<'_>, found: &mut BTreeMap<String, Value>) -> Result<(), Fault> {
    match declared {
        Declared::Here(servers) => found.extend(servers),
        Declared::Several(all) => {
            for one in all {
                collect(one, files, found)?;
            }
        }
        Declared::File(path) => {
            let below = path.strip_prefix("./").unwrap_or(&path);
            let inside = !below.starts_with('/') && !below.split('/').any(|part| part == "..");
            let is_json = std::path::Path::new(below)
                .extension()
                .is_some_and(|kind| kind == "json");
            if !inside || !is_json {
                return Err(Fault::ServersElsewhere { path });
            }
            match text(files, below)? {
                Some(text) => found.extend(in_file(below, &text)?),
                None => return Err(Fault::ServersElsewhere { path }),
            }
        }
    }
    Ok(())
}

/// `{"mcpServers": {…}}`, or the servers alone: both are in use.
fn in_file(path: &str, text: &str) -> Result<Map<String, Value>, Fault> {
    let mut whole: Map<String, Value> = parse(path, text)?;
    match whole.remove("mcpServers") {
        None => Ok(whole),
        Some(Value::Object(servers)) => Ok(servers),
        Some(_) => Err(Fault::NotServers { file: path.to_owned() }),
    }
}

fn server((name, said): (String, Value)) -> Result<Server, Fault> {
    if !is_name(&name) {
        return Err(Fault::Name { of: "server", name });
    }
    match Definition::parse(said) {
        Ok(definition) => Ok(Server { name, definition }),
        Err(why) => Err(Fault::Server { name, why }),
    }
}

/// A name goes into those of tools, into journal rows and onto the forge.
fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= 64 && name.bytes().all(allowed) && !name.starts_with(['.', '-'])
}

fn text(files: Files<'_>, path: &str) -> Result<Option<String>, Fault> {
    files.text(path).map_err(|source| Fault::Unreadable {
        file: path.to_owned(),
        source,
    })
}

fn parse<'a, T: Deserialize<'a>>(file: &str, text: &'a str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|source| Fault::Json {
        file: file.to_owned(),
        source,
    })
}
