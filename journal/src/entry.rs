//! What a row says: its kind, and the columns that this kind has.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumDiscriminants, EnumIter, EnumString, IntoStaticStr};

use crate::hash::Hash;

/// What a journal belongs to: a name, and the transitions that are legal.
///
/// Edges are `(src, dst)`; `("", X)` lets a journal begin in `X`. The name is part of every row's hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The machine's name; never changes once a journal exists.
    pub name: String,
    /// The legal transitions. A later version may add some; it may not take any away.
    pub edges: Vec<(String, String)>,
}

impl Machine {
    /// A machine from its name and edges.
    pub fn new<S: Into<String>, D: Into<String>>(
        name: impl Into<String>,
        edges: impl IntoIterator<Item = (S, D)>,
    ) -> Self {
        Self {
            name: name.into(),
            edges: edges.into_iter().map(|(src, dst)| (src.into(), dst.into())).collect(),
        }
    }
}

/// What a probe found, or how an act ended. The column `result`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumIter, EnumString, IntoStaticStr, Serialize, Deserialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The effect is there.
    Done,
    /// The effect is not there: acting again is safe.
    NotDone,
    /// Nobody can tell.
    Unknown,
}

/// What a row says. Bodies are JSON of at most 64 KiB, kept byte for byte; what is larger goes into a blob.
#[derive(Debug, Clone, PartialEq, Eq, EnumDiscriminants)]
#[strum_discriminants(
    name(Kind),
    doc = "The kind of a row: the column `kind`, and the name of it in every output.",
    derive(Hash, Display, EnumIter, EnumString, IntoStaticStr, Serialize, Deserialize),
    strum(serialize_all = "snake_case"),
    serde(rename_all = "snake_case")
)]
pub enum Entry {
    /// A process took the journal up. The first row of each boot, and of a journal.
    Boot {
        /// What is known about the process.
        body: Option<String>,
    },
    /// A state became a fact. Each state is entered at most once, by an edge of the machine.
    Enter {
        /// The state before; empty at the start.
        src: String,
        /// The state that is a fact now.
        dst: String,
        /// What belongs to the state.
        body: Option<String>,
    },
    /// An effect is about to be acted upon. At most one is open at a time.
    Intent {
        /// The effect's name.
        effect: String,
        /// Higher than every earlier attempt at this effect; from 1.
        attempt: u32,
        /// The idempotency key, the same for every attempt that must count once.
        key: String,
        /// What is going to be done.
        body: Option<String>,
    },
    /// Somebody looked whether the open intent's effect is there. `not_done` and `unknown` close the intent;
    /// `done` leaves it to the outcome, which belongs into the same append.
    Probe {
        /// The effect's name.
        effect: String,
        /// The open intent's attempt.
        attempt: u32,
        /// What was found.
        finding: Finding,
        /// What was seen.
        body: Option<String>,
    },
    /// How the act ended. Closes the intent, once.
    Outcome {
        /// The effect's name.
        effect: String,
        /// The open intent's attempt.
        attempt: u32,
        /// How it ended.
        finding: Finding,
        /// What came of it.
        body: Option<String>,
    },
    /// The one result of the journal, frozen before it is told to anyone.
    Verdict {
        /// The idempotency key under which it is told.
        key: String,
        /// The bytes that are told.
        body: String,
    },
    /// The verdict was acknowledged. After a verdict, once.
    Ack {
        /// What the acknowledgement said.
        body: Option<String>,
    },
    /// Something worth knowing, which moves nothing.
    Note {
        /// What was seen.
        body: String,
    },
}

impl Entry {
    /// The kind of row that this is.
    pub fn kind(&self) -> Kind {
        self.into()
    }

    /// The body, where there is one.
    pub fn body(&self) -> Option<&str> {
        match self {
            Self::Boot { body }
            | Self::Enter { body, .. }
            | Self::Intent { body, .. }
            | Self::Probe { body, .. }
            | Self::Outcome { body, .. }
            | Self::Ack { body } => body.as_deref(),
            Self::Verdict { body, .. } | Self::Note { body } => Some(body),
        }
    }
}

impl Entry {
    /// From which state to which, where it enters one.
    pub fn edge(&self) -> Option<(&str, &str)> {
        match self {
            Self::Enter { src, dst, .. } => Some((src, dst)),
            Self::Boot { .. }
            | Self::Intent { .. }
            | Self::Probe { .. }
            | Self::Outcome { .. }
            | Self::Verdict { .. }
            | Self::Ack { .. }
            | Self::Note { .. } => None,
        }
    }

    /// The effect and the attempt that it is about.
    pub fn effect(&self) -> Option<(&str, u32)> {
        match self {
            Self::Intent { effect, attempt, .. }
            | Self::Probe { effect, attempt, .. }
            | Self::Outcome { effect, attempt, .. } => Some((effect, *attempt)),
            Self::Boot { .. } | Self::Enter { .. } | Self::Verdict { .. } | Self::Ack { .. } | Self::Note { .. } => {
                None
            }
        }
    }

    /// What a probe found, or how an act ended.
    pub fn finding(&self) -> Option<Finding> {
        match self {
            Self::Probe { finding, .. } | Self::Outcome { finding, .. } => Some(*finding),
            Self::Boot { .. }
            | Self::Enter { .. }
            | Self::Intent { .. }
            | Self::Verdict { .. }
            | Self::Ack { .. }
            | Self::Note { .. } => None,
        }
    }

    /// The idempotency key of what is going to be done or told.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Intent { key, .. } | Self::Verdict { key, .. } => Some(key),
            Self::Boot { .. }
            | Self::Enter { .. }
            | Self::Probe { .. }
            | Self::Outcome { .. }
            | Self::Ack { .. }
            | Self::Note { .. } => None,
        }
    }
}

/// A row of the journal, as it was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The row's number; from 1, without gaps.
    pub seq: u64,
    /// The boot that wrote it; from 1.
    pub boot: u32,
    /// The writer's clock in milliseconds since 1970 (UTC). Clocks jump: rows are ordered by `seq` alone.
    pub at_ms: i64,
    /// What it says.
    pub entry: Entry,
    /// The hash of the row before; [`Hash::ZERO`] for row 1.
    pub prev: Hash,
    /// The hash of this row.
    pub hash: Hash,
}
