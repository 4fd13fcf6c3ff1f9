//! Runs one coding-agent task per container: a finite-state machine with a persisted journal.
//!
//! An assignment comes in, a pure machine says what to do next, a driver does it and writes down what happened, in that
//! order, in a journal that survives anything.
//!
//! ```text
//! POST /task ──► journal (Assigned, synced) ──► 200
//!                     │
//!       ┌─────────────▼──────────────┐
//!       │ driver: replay → plan → do │◄── signals, "task ended elsewhere"
//!       └──┬───────────▲─────────────┘
//! intent   │           │ outcome + enter (one transaction)
//!          ▼           │
//!     steps/{start,data,token,clone,agent,handover,push,pull_request,report}
//!          │           ▲
//!          ▼           │
//!     adapters: task API · git · agent · forge     (the only code that touches the outside)
//! ```
//!
//! A start after a crash walks the same way: replay is not a second code path.
//!
//! | room | what is there |
//! |---|---|
//! | [`ledger`], [`term`] | what the two machines share: the journal with its history, and being told to stop |
//! | [`actions`] | the second machine: a GitHub Actions runner for one job |
//! | [`machine`] | pure: states, events, effects, failures, `transition`, `plan`, the verdict |
//! | [`record`] | events as journal rows and back |
//! | [`driver`] | the one loop |
//! | [`steps`] | one file an effect: probe, act, and what each outcome means |
//! | [`adapters`] | clients of the task API, git, the forge, the agent and its model, each testable alone |
//! | [`forwarder`] | tells the task API what the agent is doing, as it happens |
//! | [`server`] | the listener, which only ever feeds the first transition |
//! | [`policy`] | what a change may not have in it |
//! | [`plugins`] | which plugins there are, which are chosen, and what of them the agent is started with |
//! | [`redact`] | secrets out of everything that is shown, sent or kept |
//! | [`process`], [`sandbox`], [`seal`], [`secret`], [`telemetry`], [`crash`] | what several rooms use |
//! | [`survival`], `cgroup`, [`doctor`] | what directories outlive here; what memory there is; what a machine or an image lacks |
//! | [`embedded`] | the outside world in miniature: `runner run` and `runner demo` stand on it, and so do the tests |
//! | [`cli`], [`config`] | one file a command; the settings |

// Before the others: they take its macro.
#[macro_use]
pub mod ids;

pub mod actions;
pub mod adapters;
mod cgroup;
pub mod cli;
pub mod config;
pub mod crash;
mod disk;
pub mod doctor;
pub mod driver;
pub mod embedded;
pub mod forwarder;
pub mod ledger;
pub mod machine;
pub mod plugins;
pub mod policy;
pub mod process;
pub mod record;
pub mod redact;
pub mod sandbox;
pub mod seal;
pub mod secret;
pub mod server;
pub mod steps;
pub mod survival;
pub mod task;
pub mod telemetry;
pub mod term;
pub mod text;
pub mod trace;

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where the repository is.
#[cfg(test)]
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
