//! Places at which a test kills the process: an enum that the crash sweep iterates, compiled to nothing in a release build.

use strum::{Display, EnumIter, IntoEnumIterator};

use crate::machine::EffectName;

/// Where the process can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// Around the journal write that says that something is about to be done.
    Intent(Side, EffectName),
    /// Around the journal write that says what came of it. `Before` is right after the effect.
    Outcome(Side, EffectName),
    /// Around another journal write.
    Write(Side, Write),
    /// Inside an effect.
    Inside(Inside),
}

/// On which side of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Side {
    /// Not written yet.
    Before,
    /// On disk.
    After,
}

/// A journal write that belongs to no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Write {
    /// The runner started.
    Boot,
    /// The assignment.
    Assigned,
    /// The verdict.
    Verdict,
}

/// A place inside an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Inside {
    /// The token was received and is nowhere on disk.
    TokenReceived,
    /// The seal is written and synced under its temporary name.
    SealWritten,
    /// The seal is renamed, and its directory is not synced.
    SealRenamed,
    /// The clone is whole under its temporary name.
    CloneFetched,
    /// The clone is renamed, and its directory is not synced.
    CloneRenamed,
    /// The working tree that was there is out of the way, and not removed.
    TreeMoved,
    /// The agent's working tree is whole under its temporary name.
    TreeReady,
    /// The agent runs.
    AgentStarted,
    /// The agent's processes are dead, and its end is in no row.
    AgentDead,
    /// The agent's work is in the private repository, its sandboxed git still runs.
    HandoverIndexed,
    /// It is there, and checked against nothing yet.
    HandoverPacked,
    /// It is synced, under no name.
    HandoverSynced,
    /// It has its name, which is not synced.
    HandoverNamed,
    /// The forge does not list the pull request, and none is asked for yet.
    PullRequestLooked,
    /// The archive is whole, and not where it is to go.
    ArchiveMade,
    /// It has its name, which is not synced.
    ArchiveNamed,
}

impl CrashPoint {
    /// Every place, in no order that matters.
    pub fn all() -> Vec<Self> {
        let sides = || Side::iter();
        let around = sides().flat_map(|side| {
            EffectName::iter().flat_map(move |effect| [Self::Intent(side, effect), Self::Outcome(side, effect)])
        });
        let writes = sides().flat_map(|side| Write::iter().map(move |write| Self::Write(side, write)));
        around.chain(writes).chain(Inside::iter().map(Self::Inside)).collect()
    }
}

impl std::fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Intent(side, effect) => write!(f, "{side}-intent-{effect}"),
            Self::Outcome(side, effect) => write!(f, "{side}-outcome-{effect}"),
            Self::Write(side, what) => write!(f, "{side}-{what}"),
            Self::Inside(place) => write!(f, "inside-{place}"),
        }
    }
}

/// Kills this process by SIGKILL if the test that started it has armed this place.
#[cfg(feature = "crash-points")]
pub fn at(point: impl std::fmt::Display) {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let armed = std::env::var_os("RUNNER_CRASH_AT");
    if armed.is_some_and(|armed| *armed == *point.to_string()) {
        // Nothing to do about a kill that fails: the test sees a process that lived on.
        let _ = kill(Pid::this(), Signal::SIGKILL);
    }
}

/// Nothing, in a build that is not a test's.
#[cfg(not(feature = "crash-points"))]
pub fn at(_point: impl std::fmt::Display) {}
