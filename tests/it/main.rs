//! One integration binary: what only the whole shows.

mod agent_run;
mod claude;
mod git;
mod harness;
mod messages_api;
mod supervise;
mod sweep;
