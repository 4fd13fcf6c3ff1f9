//! What a runner does to the outside, and under which names.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumDiscriminants, EnumIter, EnumString, IntoStaticStr};

use super::event::Assignment;

/// An effect, with what it needs to know.
#[derive(Debug, Clone, PartialEq, Eq, EnumDiscriminants)]
#[strum_discriminants(
    name(EffectName),
    derive(
        Hash,
        PartialOrd,
        Ord,
        Display,
        EnumIter,
        EnumString,
        IntoStaticStr,
        Serialize,
        Deserialize
    ),
    strum(serialize_all = "snake_case"),
    serde(rename_all = "snake_case"),
    doc = "An effect's name: in the journal, the logs, the metrics and the docs."
)]
pub enum Effect {
    /// Register a runner of this name.
    Register {
        /// Which.
        name: String,
    },
    /// Have the official listener run one job.
    Job {
        /// The registered runner.
        id: u64,
        /// Its name.
        name: String,
    },
    /// Remove what is registered.
    Remove {
        /// The runner that is known to be: its number, and its name.
        known: Option<(u64, String)>,
        /// Names that may be, because nobody answered: looked for, and removed where they are found.
        names: Vec<String>,
    },
}

/// The name that an attempt to register has to itself: whatever has it is this journal's.
pub fn runner_name(assignment: &Assignment, attempt: u32) -> String {
    format!("{}-{}-{attempt}", assignment.name, assignment.id)
}
