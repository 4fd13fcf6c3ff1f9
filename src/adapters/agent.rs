//! The coding agents: how each is started, what it prints, and how its end is to be judged.
//!
//! An [`Agent`] is prepared into a [`Start`], the steps make a [`crate::process::Launch`] of it, and [`run()`] runs that to
//! its end. After a crash of the runner, [`probe`] says what the files that were left prove.

mod activity;
mod claude;
mod command;
mod environment;
mod event;
mod judge;
mod money;
mod plain;
mod run;
mod stream;
mod transcript;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::adapters::model::Access;
use crate::ids::SessionId;

pub use activity::{Activity, Seen, ToolResult};
pub use claude::{Claude, MEASURED_WITH};
pub use command::shell;
pub(crate) use environment::{DEFAULT_PATH, TAKEN_OVER};
pub use judge::{AgentTrouble, Judgement, judge};
pub use money::{InvalidAmount, MicroUsd};
pub use run::{AgentEnd, Bounds, EndedBy, Haste, Order, Probe, ProbeError, RunError, Unkept, probe, run};
pub use stream::{AgentReport, Conclusion, ResultEvent, SeenParts, SeenServer, Stream, StreamEnd};
pub use transcript::{Transcript, read_transcript};

/// `RUNNER_AGENT`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::EnumIter,
    strum::VariantNames,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AgentKind {
    /// Claude Code.
    Claude,
    /// Any command.
    Command,
}

/// `RUNNER_REPO_CONFIG`: what the repository may tell the agent beside its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum RepoConfig {
    /// Its `CLAUDE.md` and `AGENTS.md`, as text that the runner reads and marks.
    Instructions,
    /// Nothing.
    None,
    /// All that Claude Code itself takes from a project: instructions, settings, hooks and MCP servers, which it runs.
    Trust,
}

/// A coding agent as it was configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agent {
    /// `RUNNER_AGENT_COMMAND`, by `/bin/sh -c`.
    Command {
        /// The command.
        command: String,
    },
    /// Claude Code.
    Claude(Claude),
}

/// Who the agent runs as. Claude Code refuses to skip its permission questions as root, unless it is told of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// As another user than root.
    User,
    /// As root, with our sandbox in force.
    RootInSandbox,
    /// As root, without.
    RootWithoutSandbox,
}

/// Which conversation an agent has, where it has such a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversation {
    /// A new one, which gets this id. Claude Code refuses one that it knows.
    Begin(SessionId),
    /// One that it has on its disk.
    GoOn(SessionId),
}

/// What every program in the working tree is started in. Nothing here is read from the process.
pub struct Place<'a> {
    /// Its home directory.
    pub home: &'a Path,
    /// Its temporary directory.
    pub tmp: &'a Path,
    /// `RUNNER_AGENT_ENV`: names of further variables that it gets as they are.
    pub passed: &'a [String],
    /// The runner's own environment.
    pub lookup: &'a dyn Fn(&str) -> Option<OsString>,
}

/// What an agent is started in.
pub struct Surroundings<'a> {
    /// What it has in common with other programs.
    pub place: Place<'a>,
    /// Its conversation, where it can have one.
    pub conversation: Option<Conversation>,
    /// A directory of the runner's that the agent may read and not write: settings and instructions are put there.
    pub desk: &'a Path,
    /// What is added to its system prompt. The `command` agent has none.
    pub instructions: Option<&'a str>,
    /// Who it runs as.
    pub standing: Standing,
    /// What is left to be spent, where the agent can be told.
    pub budget: MicroUsd,
    /// How many turns are left, where the agent can be told.
    pub turns: u64,
    /// How it reaches its model, where the runner has a key for that.
    pub model: Option<&'a Access>,
}

/// How to start an agent. The prompt goes to its standard input, the working directory is the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The program, by its absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Exactly its environment.
    pub env: Vec<(String, OsString)>,
    /// What it reads and executes beside what every agent does: directories of an operator's plugins.
    pub reach: Vec<PathBuf>,
}

/// What a program in the working tree has in its environment: an allow-list, and nothing else.
pub fn environment(place: &Place<'_>) -> Result<Vec<(String, OsString)>, PrepareError> {
    Ok(environment::Environment::new(place)?.into_list())
}

impl Start {
    /// Where it looks for programs.
    pub fn path(&self) -> Option<&OsString> {
        let mut found = self.env.iter().filter(|(name, _)| name == "PATH");
        found.next().map(|(_, value)| value)
    }
}

/// Why an agent could not be prepared.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// The program is nowhere.
    #[error("find the agent's program {program:?}: it is no file, and not in {path:?}")]
    Missing {
        /// The program.
        program: PathBuf,
        /// Where it was looked for.
        path: OsString,
    },
    /// A variable that holds the runner's own business.
    #[error("pass {name} to the agent: variables that begin with RUNNER_ stay with the runner")]
    OwnVariable {
        /// Its name.
        name: String,
    },
    /// A file for the agent cannot be written.
    #[error("write {path} for the agent: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Agent {
    /// Which one it is.
    pub fn kind(&self) -> AgentKind {
        match self {
            Self::Command { .. } => AgentKind::Command,
            Self::Claude(_) => AgentKind::Claude,
        }
    }

    /// Whether it has this conversation on its disk, below `home`.
    pub fn knows(&self, home: &Path, session: SessionId) -> bool {
        match self {
            Self::Command { .. } => false,
            Self::Claude(_) => claude::knows(home, session),
        }
    }

    /// How to start it in these surroundings. Writes what it has to read into [`Surroundings::desk`].
    pub fn prepare(&self, surroundings: &Surroundings<'_>) -> Result<Start, PrepareError> {
        match self {
            Self::Command { command } => shell(command, &surroundings.place),
            Self::Claude(claude) => claude.prepare(surroundings),
        }
    }
}
