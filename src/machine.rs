//! The pure machine: what a task's history means ([`transition()`]) and what is to be done next ([`plan()`]).
//!
//! No clock, no I/O, no async, no environment: time comes in as an argument, and everything else as an [`Event`]
//! that a journal row stands for. A live run and a replay go through the same two functions.

mod diagram;
mod effect;
mod event;
mod failure;
mod plan;
mod state;
mod transition;
mod verdict;
mod work;

pub use diagram::mermaid;
pub use effect::{
    AgentRun, ArchivePatience, Bound, ClaimPatience, Effect, EffectName, InTree, StartPatience, TimeLeft, TokenHistory,
    Tree,
};
pub use event::{Ack, Assignment, Event, Fact, Finding, Note, Outcome, Trouble};
pub use failure::Failure;
pub use plan::{
    Archiving, CLAIM_PAUSE_MS, Exit, NoChanges, OnTerm, Plan, Policy, Situation, Stopping, backoff_ms, left_of, plan,
};
pub use state::{
    AgentReport, ArchiveEnd, Archived, Attempt, Boot, Checkout, Handover, Millis, MissingPart, PullRequest, Run, State,
    StateName, Tally, TokenFacts, Work,
};
pub use transition::{IllegalTransition, Refusal, transition};
pub use verdict::{Checking, Ending, UnreadableVerdict, Verdict, VerdictKind, idempotency_key};
pub use work::{CommandEnd, CommandRun, Cut, Effort, Left, Next, Progress};

#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a plan that is not the expected one is shown, whatever it is"
)]
pub(crate) mod tests;
