//! Why settings cannot be used.

use std::path::PathBuf;

use thiserror::Error;

use crate::adapters::archive::InvalidDestination;
use crate::adapters::model::{PricesError, UpstreamError};
use crate::plugins::PluginError;
use crate::sandbox::Exposed;
use crate::seal::{KeyFileError, SealError};

/// A setting that cannot be used. The process ends with 2 and has touched nothing.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// `RUNNER_AGENT=command` without a command.
    #[error("RUNNER_AGENT=command needs RUNNER_AGENT_COMMAND: the command line to run")]
    NoAgentCommand,
    /// A variable that would take the model's key past the proxy.
    #[error(
        "RUNNER_AGENT_ENV names {name}, which claude does not get: the runner keeps the key and reaches the model for it; \
         leave the name out"
    )]
    UndoesProxy {
        /// The variable.
        name: &'static str,
    },
    /// No way to the model's API.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// No prices.
    #[error("RUNNER_MODEL_PRICES: {0}")]
    Prices(#[from] PricesError),
    /// A file that is named and cannot be read.
    #[error("{variable} names {}, which cannot be read: {source}", path.display())]
    UnreadableFile {
        /// The variable.
        variable: &'static str,
        /// What it names.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Instructions that no agent could be given.
    #[error("RUNNER_INSTRUCTIONS_FILE names {}, {why}; a text file in UTF-8 of at most 256 KiB is allowed", path.display())]
    UnusableInstructions {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A token of nothing.
    #[error("{variable} is empty: leave it out for an open /task, or give it a token")]
    EmptyToken {
        /// The variable.
        variable: &'static str,
    },
    /// A directory that cannot be made or written.
    #[error("{variable} is {}, which cannot be written: {source}; name another one", path.display())]
    UnwritableDirectory {
        /// The variable.
        variable: &'static str,
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The same, of a directory whose disk has no room.
    #[error("{variable} is {}, whose disk is full: {source}; make room there, or name another one", path.display())]
    FullDirectory {
        /// The variable.
        variable: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A directory for secrets that others could look into or replace.
    #[error("{variable} is {}, {why}; name a directory of this user's own", path.display())]
    UnsafeDirectory {
        /// The variable.
        variable: &'static str,
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The key file has no key.
    #[error(
        "RUNNER_SEAL_KEY_FILE names {}, {source}; make a key with: head -c 32 /dev/urandom | base64 > FILE",
        path.display()
    )]
    NoSealKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyFileError,
    },
    /// The key file lies where it is no secret.
    #[error(
        "RUNNER_SEAL_KEY_FILE names {}, which lies in {}, {why}; put the key elsewhere, such as /run/secrets/runner/seal-key",
        path.display(),
        place.display()
    )]
    OpenSealKey {
        /// The file.
        path: PathBuf,
        /// What is around it.
        place: PathBuf,
        /// What is wrong with that.
        why: &'static str,
    },
    /// A token is sealed here, and is not opened by the key.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What the agent must not see lies in what it may read.
    #[error("{variable}: {exposed}")]
    Exposed {
        /// The variable.
        variable: &'static str,
        /// What lies where.
        exposed: Exposed,
    },
    /// Plugins that cannot be chosen so.
    #[error("RUNNER_PLUGINS: {0}")]
    Plugin(#[from] PluginError),
    /// An archive could not go there.
    #[error(
        "RUNNER_ARCHIVE_URL cannot be used: {0}; a folder as file:///archive/ and an https:// address that takes a PUT are \
         allowed (http:// to loopback, or with RUNNER_ALLOW_HTTP)"
    )]
    Archive(#[from] InvalidDestination),
    /// Settings of `runner actions` that do not go together.
    #[error("{0}")]
    Actions(String),
    /// Neither `XDG_STATE_HOME` nor `HOME` says where a person's state is.
    #[error("neither XDG_STATE_HOME nor HOME is set: name a directory with --state-dir")]
    NoHome,
}
