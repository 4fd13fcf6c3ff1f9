//! How an attempt and a start of the runner came to their ends, in the journal's own words.

use runner_journal::Finding;
use strum::{EnumIter, IntoStaticStr};

/// How an attempt at an effect came to its end, or what a look at it found. The name is the class that it has in a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub(in crate::cli::journal) enum End {
    Done,
    Retry,
    Failed,
    GivenUp,
    Missed,
    Superseded,
    Parked,
    CutOff,
    FoundDone,
    FoundNotDone,
    FoundUnknown,
    Open,
    Lost,
}

impl End {
    pub(super) fn looked(finding: Finding) -> Self {
        match finding {
            Finding::Done => Self::FoundDone,
            Finding::NotDone => Self::FoundNotDone,
            Finding::Unknown => Self::FoundUnknown,
        }
    }

    /// The journal's word and what it means, for a legend.
    pub(in crate::cli::journal) fn meaning(self) -> (&'static str, &'static str) {
        match self {
            Self::Done => ("done", "it came about"),
            Self::Retry => ("not_done", "it did not, and was tried again"),
            Self::Failed => ("failed", "it did not, and the task failed for it"),
            Self::GivenUp => ("unknown", "nobody could find out, and the task failed for it"),
            Self::Missed => ("missed", "it did not, and nothing depended on it"),
            Self::Superseded => ("superseded", "the task was ended elsewhere"),
            Self::Parked => ("parked", "it was stopped, for a later start to go on"),
            Self::CutOff => ("cut off", "the runner died while it was under way"),
            Self::FoundDone => ("looked for: done", "a later start found that it had come about"),
            Self::FoundNotDone => ("looked for: not_done", "a later start found that it had not"),
            Self::FoundUnknown => ("looked for: unknown", "a later start could not find out"),
            Self::Open => ("open", "the journal ends while it is under way"),
            Self::Lost => ("lost", "the rows that tell how it ended are missing"),
        }
    }

    /// A mark that says the same without colour.
    pub(in crate::cli::journal) fn mark(self) -> char {
        match self {
            Self::Done => '✓',
            Self::Retry => '↻',
            Self::Failed => '✗',
            Self::GivenUp | Self::FoundUnknown => '?',
            Self::Missed => '⊖',
            Self::Superseded => '⊘',
            Self::Parked => '‖',
            Self::CutOff => '⚡',
            Self::FoundDone => '◆',
            Self::FoundNotDone => '◇',
            Self::Open => '…',
            Self::Lost => '░',
        }
    }

    /// Whether a state follows from it.
    pub(super) fn is_success(self) -> bool {
        matches!(self, Self::Done | Self::FoundDone)
    }

    /// Whether its rows say how long it took.
    pub(super) fn is_timed(self) -> bool {
        match self {
            Self::Done
            | Self::Retry
            | Self::Failed
            | Self::GivenUp
            | Self::Missed
            | Self::Superseded
            | Self::Parked => true,
            Self::CutOff | Self::FoundDone | Self::FoundNotDone | Self::FoundUnknown | Self::Open | Self::Lost => false,
        }
    }
}

/// How a process of the runner came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli::journal) enum BootEnd {
    /// The task was over, or this start ended it.
    Over,
    /// It was told to stop, and left the task to the next start.
    Parked,
    /// The API could not be reached, and it left the verdict to the next start.
    Undelivered,
    /// An Actions runner that could do no more now, and left the rest to the next start.
    Left,
    /// It died: the next start follows without a word.
    Unclean,
    /// It ended before there was a task.
    Idle,
    /// It is the last one, and the journal ends before the task does.
    Last,
    /// The rows that would tell are missing.
    Lost,
}

impl BootEnd {
    /// The end of a start of which no more is known than whether its task is over.
    pub(super) fn so_far(over: bool) -> Self {
        if over { Self::Over } else { Self::Last }
    }

    /// Whether it said that it leaves something to the next start.
    pub(super) fn is_left(self) -> bool {
        match self {
            Self::Parked | Self::Undelivered | Self::Left => true,
            Self::Over | Self::Unclean | Self::Idle | Self::Last | Self::Lost => false,
        }
    }

    /// For a person.
    pub(in crate::cli::journal) fn words(self) -> &'static str {
        match self {
            Self::Over => "ended when the task was over",
            Self::Parked => "told to stop, and left the task to the next start",
            Self::Undelivered => "left the verdict to the next start: the API could not be reached",
            Self::Left => "left the rest to the next start",
            Self::Unclean => "died: killed or crashed",
            Self::Idle => "ended before there was a task",
            Self::Last => "the journal ends here",
            Self::Lost => "how it ended is among the missing rows",
        }
    }
}
