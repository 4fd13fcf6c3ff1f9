//! One integration binary: what only the whole shows.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on has failed"
)]

mod actions;
mod agent_run;
mod api;
mod archive;
mod attacks;
mod canaries;
mod check;
mod claude;
mod cli_failures;
mod command_run;
mod deadlines;
mod disk;
mod docs;
mod doctor;
mod door;
mod faults;
mod flood;
mod frozen;
mod full_disk;
mod git;
mod harness;
mod init;
mod isolation;
mod journal_cli;
mod journal_replay;
mod left_behind;
mod local_run;
mod memory;
mod messages_api;
mod metrics;
mod model_proxy;
mod otlp;
mod output;
mod outside;
mod plugins;
mod policy;
mod processes;
mod progress;
mod prompt;
mod pull_request;
mod quickstart;
mod readers;
mod redaction;
mod resume;
mod salvage;
mod seal;
mod settings;
mod small_disk;
mod supervise;
mod sweep;
mod syncs;
mod tail;
mod timeline;
mod toolchains;
mod traces;
mod troubleshooting;
