//! What can go wrong at the top, which exit code it is, and what to do about it.

use std::net::SocketAddr;
use std::path::PathBuf;

use runner_journal::{OpenError, ReadError};
use thiserror::Error;

use crate::actions;
use crate::adapters::archive::UnreadableBundle;
use crate::adapters::http::HttpSetupError;
use crate::config::ConfigError;
use crate::doctor::Unhealthy;
use crate::driver::DriveError;
use crate::ids::InvalidName;
use crate::plugins::CheckError;
use crate::process::{HardenError, InitError};
use crate::steps::DumpError;

/// A command that could not be carried out.
#[derive(Debug, Error)]
pub enum CliError {
    /// A setting cannot be used.
    #[error("failed to use the settings: {0}")]
    Config(#[from] ConfigError),
    /// A name on the command line cannot be used.
    #[error("failed to use the arguments: {0}")]
    Name(#[from] InvalidName),
    /// Something on the command line does not fit together.
    #[error("failed to use the arguments: {what}")]
    Usage {
        /// What.
        what: String,
        /// What would fit.
        hint: String,
    },
    /// The HTTP client cannot be made from the settings.
    #[error("failed to set HTTP up: {0}")]
    Http(#[from] HttpSetupError),
    /// The process cannot protect itself.
    #[error("failed to make this process non-dumpable: {0}")]
    Harden(#[from] HardenError),
    /// `runner init` cannot go on.
    #[error("failed to {0}")]
    Init(#[from] InitError),
    /// The address cannot be listened on.
    #[error("failed to listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The journal cannot be opened.
    #[error("failed to open the journal {}: {}", path.display(), chain(source))]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// The journal cannot be read.
    #[error("failed to read the journal {}: {}", path.display(), chain(source))]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: ReadError,
    },
    /// An archive cannot be read.
    #[error("failed to read the archive {}: {source}", path.display())]
    Bundle {
        /// Which.
        path: PathBuf,
        /// Why.
        source: UnreadableBundle,
    },
    /// No journal was named, and none was found.
    #[error("failed to find a journal: none is in {}", places.join(", "))]
    NoJournal {
        /// Where was looked.
        places: Vec<String>,
    },
    /// The task cannot be gone on with.
    #[error("{}", chain(.0))]
    Drive(#[from] DriveError),
    /// The Actions runner cannot be gone on with.
    #[error("{}", chain(.0))]
    Actions(#[from] actions::driver::DriveError),
    /// Output could not be written.
    #[error("failed to write {what}: {source}")]
    Output {
        /// What.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// No healthy runner is there.
    #[error("failed to reach a healthy runner at http://{address}/healthz: {source}")]
    Unhealthy {
        /// Where was asked.
        address: SocketAddr,
        /// Why.
        source: Unhealthy,
    },
    /// The plugins' servers cannot be started here at all.
    #[error("failed to {0}")]
    Plugins(#[from] CheckError),
    /// What the agent's sandbox is here cannot be found out, or it is not what was asked for.
    #[error("failed to set the sandbox up: {cause}")]
    Sandbox {
        /// Why.
        cause: String,
    },
    /// What the agent would be told cannot be found out.
    #[error("failed to find out what the agent would be told: {0}")]
    Dump(#[from] DumpError),
    /// The embedded world could not be set up.
    #[error("failed to set up {what}: {cause}")]
    Embedded {
        /// What of it.
        what: &'static str,
        /// Why.
        cause: String,
    },
}

/// An error with its causes, as one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

impl CliError {
    /// The process's exit code (contract, section 5).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Name(_) | Self::Usage { .. } | Self::Http(_) | Self::Listen { .. } => 2,
            Self::Init(InitError::Start { .. }) => 2,
            Self::Bundle {
                source: UnreadableBundle::Io(_),
                ..
            } => 1,
            Self::NoJournal { .. } | Self::Open { .. } | Self::Bundle { .. } => 3,
            Self::Read { source, .. } if source.is_not_a_journal() => 3,
            Self::Drive(DriveError::Replay(_)) | Self::Actions(actions::driver::DriveError::Replay(_)) => 3,
            Self::Read { .. }
            | Self::Output { .. }
            | Self::Dump(_)
            | Self::Plugins(_)
            | Self::Sandbox { .. }
            | Self::Embedded { .. }
            | Self::Harden(_)
            | Self::Init(_)
            | Self::Unhealthy { .. } => 1,
            // Nothing in memory can be trusted after a failed write: the next start finds out what is there.
            Self::Drive(DriveError::Journal(_) | DriveError::Illegal(_) | DriveError::Unwritable(_))
            | Self::Actions(_) => 75,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { hint, .. } => Some(hint.clone()),
            Self::Init(InitError::Start { .. }) => {
                Some("name a program of PATH, or a path, after `--`: runner init -- runner serve".to_owned())
            }
            Self::Listen { .. } => Some("name another address with --listen".to_owned()),
            Self::Open { source, .. } => open_hint(source).map(str::to_owned),
            Self::NoJournal { .. } => Some("name one with --journal PATH".to_owned()),
            Self::Read { source, .. } if source.is_not_a_journal() => {
                Some("name the journal with --journal PATH; a state directory has it as journal.db".to_owned())
            }
            Self::Drive(DriveError::Replay(_)) | Self::Actions(actions::driver::DriveError::Replay(_)) => {
                Some("look at it with `runner journal verify`; keep the file for a report".to_owned())
            }
            Self::Drive(DriveError::Journal(_)) | Self::Actions(actions::driver::DriveError::Journal(_)) => {
                Some("look for a full or failing disk; started again, the runner goes on where it stopped".to_owned())
            }
            Self::Config(_)
            | Self::Name(_)
            | Self::Http(_)
            | Self::Harden(_)
            | Self::Init(_)
            | Self::Read { .. }
            | Self::Bundle { .. }
            | Self::Unhealthy { .. }
            | Self::Drive(DriveError::Illegal(_) | DriveError::Unwritable(_))
            | Self::Actions(actions::driver::DriveError::Bug(_))
            | Self::Output { .. }
            | Self::Plugins(_)
            | Self::Sandbox { .. }
            | Self::Dump(_)
            | Self::Embedded { .. } => None,
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only these causes have a way out that is not in their own text"
)]
fn open_hint(error: &OpenError) -> Option<&'static str> {
    match error {
        OpenError::Locked { .. } => {
            Some("another runner uses this state directory; give this one its own with --state-dir")
        }
        _ => None,
    }
}
