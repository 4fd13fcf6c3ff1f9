//! How an MCP server is reached, as `.mcp.json` has it: the whole of it for Claude Code, and what of it the runner reads.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

/// The directory of a plugin, in what it says of its servers and in their environment.
const ROOT: &str = "CLAUDE_PLUGIN_ROOT";

/// What is said of a server. Fields that the runner does not know go to Claude Code as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Definition {
    /// A program that speaks on its standard input and output.
    Stdio {
        /// All that is said of it.
        whole: Map<String, Value>,
        /// The program.
        program: Program,
    },
    /// Something that listens elsewhere.
    Remote {
        /// All that is said of it.
        whole: Map<String, Value>,
        /// `http`, `sse` or `ws`.
        kind: String,
        /// Where.
        url: String,
    },
}

/// A server's program.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Program {
    /// A name that is looked for in `PATH`, or a path.
    pub command: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// What its environment has beside the agent's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// Why a definition cannot be used.
#[derive(Debug, Error)]
pub enum Unusable {
    /// Neither a program nor an address.
    #[error("has neither a command nor a url")]
    Neither,
    /// Not of the form.
    #[error("is not of the form of an MCP server: {0}")]
    Form(#[from] serde_json::Error),
    /// An address, and nothing that says how it is spoken to. Claude Code passes it over.
    #[error("has a url and no type; http, sse and ws are allowed")]
    NoKind,
    /// A kind that nobody knows.
    #[error("has the type {0:?}; stdio, http, sse and ws are allowed")]
    Kind(String),
    /// A path that the repository would be asked for.
    #[error(
        "has the command {0:?}, which would be looked for in the repository that the agent works in; write \
         ${{CLAUDE_PLUGIN_ROOT}}/… for a file of the plugin, or a name that is in PATH"
    )]
    Relative(String),
    /// A variable in a form that nobody puts in.
    #[error(
        "has the command {0:?}, whose variable stays as it stands there; only ${{NAME}} and ${{NAME:-…}} are put in"
    )]
    NotPutIn(String),
    /// Something that a person is asked for.
    #[error("asks a person for a setting (${{user_config.…}}), and there is none here")]
    AsksAPerson,
}

/// A variable that is asked for, and is not in the environment.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "it asks for ${{{0}}}, which is not in the agent's environment: name it in RUNNER_AGENT_ENV, or give a default as ${{{0}:-…}}"
)]
pub struct Undefined(pub String);

impl Definition {
    pub(super) fn parse(value: Value) -> Result<Self, Unusable> {
        #[derive(Deserialize)]
        struct Shape {
            #[serde(rename = "type")]
            kind: Option<String>,
            command: Option<String>,
            url: Option<String>,
        }
        let Shape { kind, command, url } = Shape::deserialize(&value)?;
        let whole: Map<String, Value> = Map::deserialize(&value)?;
        if any_text(&value, &|text| text.contains("${user_config.")) {
            return Err(Unusable::AsksAPerson);
        }
        match (kind.as_deref(), command, url) {
            (None | Some("stdio"), Some(_), _) => {
                let program = Program::deserialize(value)?;
                program.is_found()?;
                Ok(Self::Stdio { whole, program })
            }
            (Some(kind @ ("http" | "streamable-http" | "sse" | "ws")), _, Some(url)) => Ok(Self::Remote {
                whole,
                kind: kind.to_owned(),
                url,
            }),
            (None, None, Some(_)) => Err(Unusable::NoKind),
            (None | Some("stdio" | "http" | "streamable-http" | "sse" | "ws"), ..) => Err(Unusable::Neither),
            (Some(kind), ..) => Err(Unusable::Kind(kind.chars().take(40).collect())),
        }
    }

    /// For Claude Code: with the plugin's directory in it. Other variables it puts in itself, from the agent's environment.
    pub(super) fn at(&self, root: &Path) -> Value {
        let root = root.to_string_lossy();
        let mut whole = match self {
            Self::Stdio { whole, .. } => {
                let mut whole = whole.clone();
                let env = whole.entry("env").or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(env) = env {
                    env.insert(ROOT.to_owned(), Value::String(root.clone().into_owned()));
                }
                Value::Object(whole)
            }
            Self::Remote { whole, .. } => Value::Object(whole.clone()),
        };
        put_root(&mut whole, &root);
        whole
    }
}

impl Program {
    /// Whether the command is a name or an absolute path, as far as can be said before the agent's environment is known: with the
    /// defaults put in, and an absolute path for a variable that has none.
    fn is_found(&self) -> Result<(), Unusable> {
        let given = |name: &str| self.command.contains(&format!("${{{name}}}")).then(|| "/".to_owned());
        // Nothing is undefined here: a variable has a default, or is given.
        let whole = expand(&self.command, &given).unwrap_or_else(|_| self.command.clone());
        if whole.starts_with('$') {
            return Err(Unusable::NotPutIn(self.command.clone()));
        }
        if whole.contains('/') && !whole.starts_with('/') {
            return Err(Unusable::Relative(self.command.clone()));
        }
        Ok(())
    }

    /// As Claude Code would start it: with the plugin's directory and the agent's environment put in.
    pub(super) fn at(&self, root: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, Undefined> {
        let root = root.to_string_lossy();
        let lookup = |name: &str| match name {
            ROOT => Some(root.clone().into_owned()),
            name => environment(name),
        };
        let put_in = |text: &String| expand(text, &lookup);
        let mut env = BTreeMap::from([(ROOT.to_owned(), root.clone().into_owned())]);
        for (name, value) in &self.env {
            env.insert(name.clone(), put_in(value)?);
        }
        Ok(Self {
            command: put_in(&self.command)?,
            args: self.args.iter().map(put_in).collect::<Result<_, _>>()?,
            env,
        })
    }
}

/// `${NAME}` and `${NAME:-default}`, as Claude Code has them.
fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, Undefined> {
    let mut whole = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((inside, behind)) = after.split_once('}') else {
            break;
        };
        whole.push_str(before);
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        match lookup(name).or_else(|| default.map(ToOwned::to_owned)) {
            Some(value) => whole.push_str(&value),
            None => return Err(Undefined(name.chars().take(100).collect())),
        }
        rest = behind;
    }
    whole.push_str(rest);
    Ok(whole)
}

fn put_root(value: &mut Value, root: &str) {
    match value {
        Value::String(text) => *text = text.replace("${CLAUDE_PLUGIN_ROOT}", root),
        Value::Array(items) => items.iter_mut().for_each(|item| put_root(item, root)),
        Value::Object(fields) => fields.values_mut().for_each(|field| put_root(field, root)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn any_text(value: &Value, holds: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => holds(text),
        Value::Array(items) => items.iter().any(|item| any_text(item, holds)),
        Value::Object(fields) => fields.values().any(|field| any_text(field, holds)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn program(value: Value) -> Program {
        match Definition::parse(value).unwrap() {
            Definition::Stdio { program, .. } => program,
            other @ Definition::Remote { .. } => panic!("{other:?}"),
        }
    }

    #[test]
    fn variables_are_put_in_as_claude_code_does_and_one_that_is_not_there_is_named() {
        let asked = program(json!({
            "command": "${CLAUDE_PLUGIN_ROOT}/server", "args": ["--at=${HOST:-localhost}", "${EMPTY:-}", "$HOME ${", "${GIVEN:-x}"],
            "env": {"TOKEN": "${GIVEN}"},
        }));
        let given = |name: &str| (name == "GIVEN").then(|| "here".to_owned());
        let put_in = asked.at(Path::new("/p"), &given).unwrap();
        assert_eq!(put_in.command, "/p/server");
        assert_eq!(put_in.args, ["--at=localhost", "", "$HOME ${", "here"]);
        let env = BTreeMap::from([("CLAUDE_PLUGIN_ROOT", "/p"), ("TOKEN", "here")]);
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(put_in.env, env.collect());
        let missing = asked.at(Path::new("/p"), &|_| None).unwrap_err();
        assert_eq!(missing, Undefined("GIVEN".to_owned()));
        assert!(missing.to_string().contains("${GIVEN}, which is not"), "{missing}");
    }

    #[test]
    fn claude_code_gets_all_that_is_said_with_the_plugins_directory_in_it() {
        let said = json!({
            "command": "node", "args": ["${CLAUDE_PLUGIN_ROOT}/s.js", "${OTHER}"], "timeout": 9,
            "env": {"DATA": "${CLAUDE_PLUGIN_ROOT}/data"},
        });
        let expected = json!({
            "command": "node", "args": ["/p/s.js", "${OTHER}"], "timeout": 9,
            "env": {"DATA": "/p/data", "CLAUDE_PLUGIN_ROOT": "/p"},
        });
        assert_eq!(Definition::parse(said).unwrap().at(Path::new("/p")), expected);
        let remote =
            json!({"type": "http", "url": "https://mcp.example/", "headers": {"X-Of": "${CLAUDE_PLUGIN_ROOT}"}});
        let expected = json!({"type": "http", "url": "https://mcp.example/", "headers": {"X-Of": "/p"}});
        assert_eq!(Definition::parse(remote).unwrap().at(Path::new("/p")), expected);
    }

    #[test]
    fn what_could_not_be_started_is_refused_and_says_why() {
        for (said, why) in [
            (json!({}), "neither a command nor a url"),
            (json!("node"), "not of the form"),
            (json!({"command": "node", "args": "x"}), "not of the form"),
            (json!({"type": "stdio", "url": "https://x.example/"}), "neither"),
            (json!({"url": "https://x.example/"}), "a url and no type"),
            (json!({"type": "carrier-pigeon", "url": "x"}), "carrier-pigeon"),
            (json!({"command": "./server.sh"}), "looked for in the repository"),
            (json!({"command": "bin/server"}), "${CLAUDE_PLUGIN_ROOT}/…"),
            (json!({"command": "${X:-./server}"}), "looked for in the repository"),
            (json!({"command": "${X:-}bin/server"}), "looked for in the repository"),
            (
                json!({"command": "$HOME/server"}),
                "only ${NAME} and ${NAME:-…} are put in",
            ),
            (json!({"command": "$SERVER"}), "only ${NAME} and ${NAME:-…} are put in"),
            (
                json!({"command": "${X:-$HOME/server}"}),
                "only ${NAME} and ${NAME:-…} are put in",
            ),
            (
                json!({"command": "x", "env": {"K": "${user_config.key}"}}),
                "asks a person",
            ),
        ] {
            let error = Definition::parse(said.clone())
                .expect_err(&said.to_string())
                .to_string();
            assert!(error.contains(why), "{said}: {error}");
        }
        for taken in [
            "${X}",
            "${X}/server",
            "${X:-/opt}/server",
            "${X:-server}",
            "/opt/$X/server",
        ] {
            assert_eq!(program(json!({"command": taken})).command, taken);
        }
    }
}
