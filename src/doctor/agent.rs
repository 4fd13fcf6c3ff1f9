//! The agent: its program, and for Claude Code a key for its model.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::program::{PATIENCE, Silent, version};
use super::{Check, CheckName, Here};
use crate::adapters::agent::MEASURED_WITH;
use crate::adapters::model::KEY_VARIABLES;
use crate::config::AgentChoice;

const SHELL: &str = "/bin/sh";

pub(super) fn check(here: &Here<'_>) -> Check {
    match &here.settings.agent {
        AgentChoice::Claude => claude(),
        AgentChoice::Command(command) => by_command(command),
    }
}

fn claude() -> Check {
    let name = CheckName::Agent;
    let hint = format!(
        "install Claude Code (npm install -g @anthropic-ai/claude-code@{MEASURED_WITH}), or set RUNNER_AGENT=command"
    );
    let Ok(claude) = which::which("claude") else {
        return Check::fail(name, "claude is not in PATH", hint);
    };
    match version(&claude, std::env::var_os("PATH"), PATIENCE) {
        Ok(said) => Check::ok(
            name,
            format!("claude {said}, {}; measured with {MEASURED_WITH}", claude.display()),
        ),
        Err(silent @ Silent::TimedOut(_)) => Check::warn(
            name,
            format!("{}: {silent}", claude.display()),
            "run it by hand to see what it waits for",
        ),
        Err(silent) => Check::fail(name, format!("{}: {silent}", claude.display()), hint),
    }
}

fn by_command(command: &str) -> Check {
    let name = CheckName::Agent;
    match access(Path::new(SHELL), AccessFlags::X_OK) {
        // The command itself may have a secret in it.
        Ok(()) => Check::ok(
            name,
            format!("RUNNER_AGENT_COMMAND ({} bytes), by {SHELL}", command.len()),
        ),
        Err(error) => Check::fail(name, format!("{SHELL} cannot be run: {error}"), "install a shell there"),
    }
}

/// Names only, never a value. Another agent brings its own.
pub(super) fn model_key(here: &Here<'_>) -> Option<Check> {
    match here.settings.agent {
        AgentChoice::Claude => {}
        AgentChoice::Command(_) => return None,
    }
    let name = CheckName::ModelKey;
    let passed = here.settings.options.agent_env.join(", ");
    Some(match (&here.settings.model, passed.is_empty()) {
        (Some(model), _) => Check::ok(
            name,
            format!(
                "{} set; the runner keeps it, and the agent reaches {} through it",
                model.key.name(),
                model.base
            ),
        ),
        (None, false) => Check::ok(
            name,
            format!("none of the known ones; RUNNER_AGENT_ENV passes {passed}"),
        ),
        (None, true) => Check::warn(
            name,
            format!(
                "none of {} is set: claude has no model to ask",
                KEY_VARIABLES.join(", ")
            ),
            "set ANTHROPIC_API_KEY or RUNNER_MODEL_KEY_FILE, or name what it needs in RUNNER_AGENT_ENV",
        ),
    })
}
