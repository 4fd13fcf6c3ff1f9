//! The pure machine of an Actions runner: what its history means ([`transition()`]) and what is next ([`plan()`]).
//!
//! As in [`crate::machine`]: no clock, no I/O, no async, no environment.

mod effect;
mod event;
mod plan;
mod state;
mod transition;
mod verdict;

pub use effect::{Effect, EffectName, runner_name};
pub use event::{
    Assignment, Config, Event, Fact, Failure, Finding, JobEnd, JobFacts, JobReport, JobResult, Left, Note, Outcome,
};
pub use plan::{Exit, Plan, Policy, Situation, plan};
pub use state::{Attempt, Registration, Run, State, Tally};
pub use transition::{IllegalTransition, Refusal, transition};
pub use verdict::{Ending, UnreadableVerdict, Verdict, VerdictKind, key};

#[cfg(test)]
mod tests;
