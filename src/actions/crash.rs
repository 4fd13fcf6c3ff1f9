//! Places of the second machine at which a test kills the process, as [`crate::crash`] has the first one's.

use std::fmt;

use strum::{Display, EnumIter, IntoEnumIterator};

use super::machine::EffectName;
use crate::crash::{Side, Write};

/// Where the process can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionsCrash {
    /// Around the write that says that something is about to be done.
    Intent(Side, EffectName),
    /// Around the write that says what came of it.
    Outcome(Side, EffectName),
    /// Around another write.
    Write(Side, Write),
    /// Inside an effect.
    Inside(Inside),
}

/// A place inside an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Inside {
    /// GitHub has answered that the runner is registered, and nothing of it is on disk.
    Registered,
    /// The listener runs, and has no job yet.
    ListenerStarted,
    /// The job's hook has marked its begin, and the job runs.
    JobBegun,
    /// The job's hook has marked its end, and the listener has not gone yet.
    JobCompleted,
    /// No process of the listener lives, and its end is in no row.
    ListenerDead,
    /// The registration is removed, and no row says so.
    Removed,
}

impl ActionsCrash {
    /// Every place, in no order that matters.
    pub fn all() -> Vec<Self> {
        let around = Side::iter().flat_map(|side| {
            EffectName::iter().flat_map(move |effect| [Self::Intent(side, effect), Self::Outcome(side, effect)])
        });
        let writes = Side::iter().flat_map(|side| Write::iter().map(move |write| Self::Write(side, write)));
        around.chain(writes).chain(Inside::iter().map(Self::Inside)).collect()
    }
}

impl fmt::Display for ActionsCrash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intent(side, effect) => write!(f, "actions-{side}-intent-{effect}"),
            Self::Outcome(side, effect) => write!(f, "actions-{side}-outcome-{effect}"),
            Self::Write(side, what) => write!(f, "actions-{side}-{what}"),
            Self::Inside(place) => write!(f, "actions-inside-{place}"),
        }
    }
}
