//! The labels of the metrics. Each value comes from an enum or a list: the number of series is bounded, whatever an agent does.

use prometheus_client::encoding::EncodeLabelSet;

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($label:ident),+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name {
            $(pub(super) $label: &'static str,)+
        }
    )+};
}

labels! {
    /// A state's name.
    State { state }
    /// An effect's name.
    Effect { effect }
    /// An effect, and what came of an attempt.
    Attempt { effect, result }
    /// An effect, and why it failed.
    EffectFailure { effect, reason }
    /// A verdict, and why the task failed; an empty reason is none.
    VerdictReason { event, reason }
    /// A verdict.
    VerdictEvent { event }
    /// What came of something.
    Came { result }
    /// What kind of event.
    EventType { r#type }
    /// Why the task was left to the next start.
    Departure { why }
    /// A right of the sandbox.
    SandboxRight { right }
    /// The sandbox's setting.
    SandboxMode { mode }
    /// What is exported, and what came of it.
    Export { signal, result }
    /// What is exported.
    Signal { signal }
}

/// A model of the price list, or `other`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Model {
    pub(super) model: String,
}

/// The same, and which tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ModelTokens {
    pub(super) model: String,
    pub(super) r#type: &'static str,
}

/// The same, and whether the answer said what it used.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ModelUsage {
    pub(super) model: String,
    pub(super) usage: &'static str,
}
