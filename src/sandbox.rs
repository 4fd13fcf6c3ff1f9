//! What the agent may reach: Landlock rules and a filter of system calls, which a re-exec of this binary puts on itself
//! before it becomes the agent.

mod capabilities;
mod confinement;
pub(crate) mod descriptors;
pub(crate) mod enter;
mod syscalls;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use strum::IntoEnumIterator;
use thiserror::Error;

pub(crate) use confinement::real_path;
pub use confinement::{Confinement, Exposed, NoPorts, Ports};

/// One thing that the kernel can keep the agent from. The kernels are those that brought it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::EnumIter,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Right {
    /// Reading, writing and executing files outside the allowed set (Linux 5.13).
    Files,
    /// Linking and renaming between directories only where that gains nothing (Linux 5.19; before it is refused altogether).
    Refer,
    /// Truncating files outside (Linux 6.2).
    Truncate,
    /// Connecting by TCP to ports outside the allowed set (Linux 6.7).
    Tcp,
    /// ioctl on devices outside (Linux 6.10).
    Ioctl,
    /// Connecting to abstract Unix sockets outside (Linux 6.12).
    AbstractSockets,
    /// Sending signals to processes outside (Linux 6.12).
    Signals,
    /// System calls that would get around the others, or reach where no agent has to (seccomp, in about every kernel).
    Syscalls,
}

/// A set of rights, in force or missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rights(BTreeSet<Right>);

impl Rights {
    /// All that this version knows.
    pub fn all() -> Self {
        Right::iter().collect()
    }

    /// None: no sandbox at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether `right` is in the set.
    pub fn has(&self, right: Right) -> bool {
        self.0.contains(&right)
    }

    /// Those of `wanted` that are not in the set.
    #[must_use]
    pub fn missing(&self, wanted: &Self) -> Self {
        Self(wanted.0.difference(&self.0).copied().collect())
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Landlock's rights in the order in which kernels brought them, then seccomp's.
    pub fn iter(&self) -> impl Iterator<Item = Right> {
        self.0.iter().copied()
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        Self(rights.into_iter().collect())
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, right) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{right}")?;
        }
        Ok(())
    }
}

/// `RUNNER_SANDBOX`.
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
pub enum Mode {
    /// No agent without the whole sandbox.
    Require,
    /// As much of it as the kernel gives, and a loud word about the rest.
    Prefer,
    /// None.
    Off,
}

/// What `__sandbox` does where the kernel cannot give every right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Demand {
    /// Refuses to start the agent.
    Whole,
    /// Goes on with those that there are.
    BestEffort,
}

/// The sandbox as it will be: for the launch, the journal and `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// What is wanted and the kernel gives.
    pub rights: Rights,
    /// What is wanted and it does not: to be said loudly when there is one.
    pub missing: Rights,
    /// What `__sandbox` is told.
    pub demand: Demand,
}

impl InForce {
    /// Whether files outside the allowed set are out of reach. Without that, what else there is hides nothing.
    pub fn hides_files(&self) -> bool {
        self.rights.has(Right::Files)
    }
}

/// The sandbox that was required is not to be had here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the sandbox is not available here: this kernel or container does not give {missing}; RUNNER_SANDBOX=prefer accepts the agent without, RUNNER_SANDBOX=off without any sandbox"
)]
pub struct SandboxUnavailable {
    /// What is missing.
    pub missing: Rights,
}

/// Holds what the kernel gives against what is wanted ([`Ports::wanted`]). `None` is no sandbox: it was turned off, or
/// there is nothing of one.
pub fn decide(mode: Mode, rights: &Rights, wanted: &Rights) -> Result<Option<InForce>, SandboxUnavailable> {
    let missing = rights.missing(wanted);
    let in_force = |demand| InForce {
        rights: missing.missing(wanted),
        missing: missing.clone(),
        demand,
    };
    match mode {
        Mode::Require if missing.is_empty() => Ok(Some(in_force(Demand::Whole))),
        Mode::Require => Err(SandboxUnavailable { missing }),
        Mode::Prefer => Ok(Some(in_force(Demand::BestEffort)).filter(|sandbox| !sandbox.rights.is_empty())),
        Mode::Off => Ok(None),
    }
}

/// The rights could not be asked for.
#[derive(Debug, Error)]
pub enum SurveyError {
    /// Our binary could not be run.
    #[error("run {runner} to see what the sandbox can do here: {source}")]
    Run {
        /// Our binary.
        runner: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It answered something else than a list of rights.
    #[error("what {runner} says of the sandbox is no list of rights: {source}")]
    Answer {
        /// Our binary.
        runner: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
}

/// What the kernel gives here, by trying it in a process of its own. Blocks for some milliseconds.
pub fn survey(runner_exe: &Path) -> Result<Rights, SurveyError> {
    let output = Command::new(runner_exe)
        .args([crate::process::SANDBOX, "--check"])
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| SurveyError::Run {
            runner: runner_exe.to_owned(),
            source,
        })?;
    serde_json::from_slice(&output.stdout).map_err(|source| SurveyError::Answer {
        runner: runner_exe.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(rights: &[Right]) -> Rights {
        rights.iter().copied().collect()
    }

    #[test]
    fn require_fails_closed_and_names_what_is_missing() {
        let old = rights(&[Right::Files, Right::Refer, Right::Truncate, Right::Ioctl]);
        let refused = decide(Mode::Require, &old, &Ports::Any.wanted()).unwrap_err();
        let message = refused.to_string();
        assert!(message.contains("abstract_sockets, signals, syscalls;"), "{message}");
        assert!(message.contains("RUNNER_SANDBOX=prefer"), "{message}");
    }

    #[test]
    fn prefer_takes_what_there_is_and_off_takes_nothing() {
        let wanted = Rights::all();
        let in_force = decide(Mode::Prefer, &rights(&[Right::Files]), &wanted)
            .unwrap()
            .unwrap();
        assert_eq!(in_force.demand, Demand::BestEffort);
        assert!(in_force.hides_files() && in_force.missing.has(Right::Signals));
        let no_landlock = decide(Mode::Prefer, &rights(&[Right::Syscalls]), &wanted)
            .unwrap()
            .unwrap();
        assert!(!no_landlock.hides_files() && no_landlock.missing.has(Right::Files));
        assert_eq!(decide(Mode::Prefer, &Rights::none(), &wanted), Ok(None));
        assert_eq!(decide(Mode::Off, &Rights::all(), &wanted), Ok(None));
        let whole = decide(Mode::Require, &Rights::all(), &wanted).unwrap().unwrap();
        assert_eq!(whole.demand, Demand::Whole);
    }

    #[test]
    fn ports_are_asked_of_the_kernel_only_where_they_are_limited() {
        let no_tcp = rights(&[Right::Tcp]).missing(&Rights::all());
        let any = decide(Mode::Require, &no_tcp, &Ports::Any.wanted()).unwrap().unwrap();
        assert_eq!(any.rights, no_tcp);
        let limited: Ports = "443".parse().unwrap();
        let refused = decide(Mode::Require, &no_tcp, &limited.wanted()).unwrap_err();
        assert_eq!(refused.missing, rights(&[Right::Tcp]));
        // What is not limited is not in force either, whatever the kernel can do.
        let any = decide(Mode::Require, &Rights::all(), &Ports::Any.wanted())
            .unwrap()
            .unwrap();
        assert!(!any.rights.has(Right::Tcp));
    }

    #[test]
    fn names_are_those_of_the_contract() {
        for (name, mode) in [("require", Mode::Require), ("prefer", Mode::Prefer), ("off", Mode::Off)] {
            assert_eq!(name.parse(), Ok(mode));
            assert_eq!(mode.to_string(), name);
        }
        assert_eq!(
            serde_json::to_string(&Rights::all()).unwrap(),
            r#"["files","refer","truncate","tcp","ioctl","abstract_sockets","signals","syscalls"]"#
        );
    }
}
