//! The outside world in miniature: what `runner run` and `runner demo` stand on, and what the tests count at.
//!
//! Real HTTP servers on 127.0.0.1, with the semantics of the real ones and faults that can be switched on.

pub mod calls;
pub mod faults;
pub mod forge;
pub mod git_server;
pub mod listening;
pub mod task_api;
