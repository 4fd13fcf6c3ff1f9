//! What is a fact about a runner, and what its history adds up to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumString, IntoStaticStr};

use super::effect::EffectName;
use super::event::{Assignment, Config, JobReport};
use super::verdict::{Ending, Verdict};
use crate::machine::{Boot, Millis};

/// A state is a fact, not an activity. Each is entered once; what is registered at present is in [`Run`].
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Display,
    EnumIter,
    EnumString,
    IntoStaticStr,
    Serialize,
    Deserialize,
)]
pub enum State {
    /// What the runner is to be is journaled.
    Assigned,
    /// GitHub has registered it, at least once.
    Registered,
    /// The listener has ended for good, and what came of the job is known.
    JobRan,
    /// Nothing of this journal is registered any more, and the verdict is frozen.
    Deregistered,
}

impl State {
    /// Every state that may follow this one: the only definition of the edges.
    pub fn successors(self) -> &'static [Self] {
        match self {
            Self::Assigned => &[Self::Registered, Self::Deregistered],
            Self::Registered => &[Self::JobRan, Self::Deregistered],
            Self::JobRan => &[Self::Deregistered],
            Self::Deregistered => &[],
        }
    }

    /// The effects that may be intended in this state. A registration whose configuration is lost is removed and made anew
    /// in `Registered`; one that nobody answered may have to be looked for in `Assigned`.
    pub fn effects(self) -> &'static [EffectName] {
        match self {
            Self::Assigned => &[EffectName::Register, EffectName::Remove],
            Self::Registered => &[EffectName::Register, EffectName::Job, EffectName::Remove],
            Self::JobRan => &[EffectName::Remove],
            Self::Deregistered => &[],
        }
    }
}

/// An effect that was intended, and of which no outcome is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Which.
    pub effect: EffectName,
    /// 1 for the first.
    pub number: u32,
    /// When it was intended.
    pub at: Millis,
}

/// What has been tried of one effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Intents written.
    pub attempts: u32,
    /// Attempts of this start in a row that came to nothing, and probes that could not be made.
    pub misses: u32,
    /// Since when this start tries in vain.
    pub since: Option<Millis>,
    /// When the last thing was heard of it.
    pub last_at: Millis,
    /// What the other side asked to be waited for, after the last miss.
    pub retry_after_ms: Option<Millis>,
}

/// A runner that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// GitHub's number for it.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Whether its configuration was at hand.
    pub config: Config,
    /// Which start of the runner has it in memory, if one has.
    pub boot: u32,
}

/// What a journal adds up to: the fold of [`super::transition()`] over its events.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Run {
    /// The present start of the runner.
    pub boot: Boot,
    /// What it is to be.
    pub assignment: Option<Assignment>,
    /// When that was journaled.
    pub assigned_at: Millis,
    /// The last state entered.
    pub state: Option<State>,
    /// When it was entered.
    pub since: Millis,
    /// The intent whose outcome is not known.
    pub open: Option<Attempt>,
    /// What has been tried, by effect.
    pub tallies: BTreeMap<EffectName, Tally>,
    /// What is registered.
    pub registration: Option<Registration>,
    /// Names that may be registered, because nobody answered, and were not found when they were looked for.
    pub suspects: Vec<String>,
    /// How many names were another runner's.
    pub taken: u32,
    /// What came of the job.
    pub job: Option<JobReport>,
    /// What it has to end with: known, and not yet the verdict.
    pub ending: Option<Ending>,
    /// The verdict, frozen, and the start that froze it.
    pub verdict: Option<(Verdict, u32)>,
}

impl Run {
    /// What has been tried of an effect.
    pub fn tally(&self, effect: EffectName) -> Tally {
        self.tallies.get(&effect).copied().unwrap_or_default()
    }

    /// The registration that a job could be run under: one whose configuration this start has in memory.
    pub fn usable(&self) -> Option<&Registration> {
        let usable = |r: &&Registration| r.config == Config::AtHand && r.boot == self.boot.number;
        self.registration.as_ref().filter(usable)
    }

    /// Whether something of this journal is registered, or may be.
    pub fn may_be_registered(&self) -> bool {
        self.registration.is_some() || !self.suspects.is_empty()
    }
}
