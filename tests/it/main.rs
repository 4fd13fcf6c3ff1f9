//! One integration binary: what only the whole shows.

mod agent_run;
mod git;
mod harness;
mod supervise;
mod sweep;
