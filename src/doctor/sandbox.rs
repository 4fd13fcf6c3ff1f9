//! The sandbox: what the kernel gives, what `RUNNER_SANDBOX` makes of it, and whether it hides what it must.

use std::fs;
use std::path::Path;

use super::{Check, CheckName, Here};
use crate::config::{AgentChoice, Settings};
use crate::sandbox::{Confinement, Exposed, InForce, decide, survey};

const HINT: &str = "run on Linux 6.12 or newer, with Landlock among its security modules, and with Landlock and seccomp \
                    allowed in this container";

pub(super) fn check(here: &Here<'_>) -> Check {
    let name = CheckName::Sandbox;
    let mode = here.settings.sandbox;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let on = format!("RUNNER_SANDBOX={mode} on Linux {}", kernel.trim());
    let rights = match survey(&here.runner) {
        Ok(rights) => rights,
        Err(error) => {
            return Check::fail(
                name,
                format!("{on}: failed to {error}"),
                "look at the file and its mode",
            );
        }
    };
    match decide(mode, &rights, &here.settings.options.agent_ports.wanted()) {
        Err(unavailable) => Check::fail(name, format!("{on}: {unavailable}"), HINT),
        Ok(Some(in_force)) if in_force.hides_files() => match exposes_nothing(here.settings) {
            Err(exposed) => Check::fail(name, format!("{on}: {exposed}"), "name another directory"),
            Ok(()) => in_force_here(&on, &in_force),
        },
        // Claude Code does not skip its questions as root, unless it is told of a sandbox.
        Ok(_) if nix::unistd::geteuid().is_root() && here.settings.agent == AgentChoice::Claude => Check::fail(
            name,
            format!("{on}: no sandbox for files here, and claude refuses to work as root without one"),
            "run as another user, or set RUNNER_SANDBOX=require",
        ),
        Ok(_) => Check::warn(
            name,
            format!("{on}: the agent runs without a sandbox for files; the kernel gives {rights}"),
            "set RUNNER_SANDBOX=require",
        ),
    }
}

fn in_force_here(on: &str, in_force: &InForce) -> Check {
    let InForce { rights, missing, .. } = in_force;
    if missing.is_empty() {
        Check::ok(CheckName::Sandbox, format!("{on}: {rights}"))
    } else {
        Check::warn(CheckName::Sandbox, format!("{on}: {rights}; without {missing}"), HINT)
    }
}

/// As the steps hold it before the one-time token is spent.
fn exposes_nothing(settings: &Settings) -> Result<(), Exposed> {
    let workspace = &settings.workspace;
    let git = which::which("git").unwrap_or_default();
    let path = std::env::var_os("PATH");
    let confinement = Confinement::for_agent(
        workspace,
        &workspace.join("home"),
        &workspace.join("tmp"),
        Path::new(&git),
        path.as_deref(),
    );
    confinement.excludes(&[
        settings.state_dir.clone(),
        settings.secrets_dir.clone(),
        settings.journal.clone(),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::sandbox::{Mode, Ports, Right, Rights};

    #[test]
    fn a_sandbox_in_part_is_a_warning_that_names_what_is_missing() {
        let in_part: Rights = [Right::Files, Right::Refer].into_iter().collect();
        for (rights, status, found) in [
            (Rights::all(), Status::Ok, "here: files, refer, truncate"),
            (in_part, Status::Warn, "here: files, refer; without truncate, ioctl"),
        ] {
            let in_force = decide(Mode::Prefer, &rights, &Ports::Any.wanted()).unwrap().unwrap();
            let check = in_force_here("here", &in_force);
            assert_eq!(check.status, status, "{check:?}");
            assert!(check.found.starts_with(found), "{check:?}");
        }
    }
}
