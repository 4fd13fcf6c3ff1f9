//! The only code that touches the outside: one concrete client for each peer, each testable alone against a real counterpart.
//!
//! One call is one request. Retries, back-off and patience belong to the driver, which journals every attempt.

pub mod agent;
pub mod api;
pub mod archive;
pub mod command;
pub mod forge;
pub mod git;
pub mod github;
pub mod github_app;
pub mod http;
pub mod model;
pub mod runners;

mod skim;

#[cfg(test)]
pub(crate) mod hostile;
