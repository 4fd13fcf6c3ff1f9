//! `runner actions`: a just-in-time, ephemeral GitHub Actions runner, as a second machine on the same ledger.
//!
//! ```text
//! Assigned ──register──► Registered ──job──► JobRan ──remove──► Deregistered
//!                 the official listener runs one job; its hooks mark that it began and ended
//! ```
//!
//! What the two machines share is in [`crate::ledger`] and [`crate::term`]; ADR 17 says why no more.
//!
//! | file | what is there |
//! |---|---|
//! | [`machine`] | pure: states, events, effects, `transition`, `plan`, the verdict |
//! | [`record`] | events as rows and back |
//! | [`driver`] | the loop |
//! | [`steps`] | one file an effect: `register`, `job`, `remove` |
//! | [`listener`], [`words`], [`marks`], [`jit`], [`environment`] | the official runner: started and stopped, what it says, what its hooks mark, what it is given |
//! | [`credential`], [`names`] | what is shown to GitHub; names from outside |
//! | [`server`] | `/healthz`, `/status`, `/metrics` |

pub mod crash;
pub mod credential;
pub mod driver;
pub mod environment;
pub mod jit;
pub mod listener;
pub mod machine;
pub mod marks;
pub mod names;
pub mod record;
pub mod server;
pub mod steps;
pub mod words;
