//! What a machine or an image lacks to run a task, found out without touching it: no directory is made, no journal
//! opened, no address bound, and nothing sent off the machine but what [`Reach`] names.

mod agent;
mod archive;
mod certificates;
mod clock;
mod directories;
mod git;
mod health;
mod limits;
mod listen;
mod plugins;
mod process;
mod program;
mod reach;
mod sandbox;

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Serialize;
use strum::{Display, EnumIter};

use crate::config::Settings;
use crate::survival::Ground;

pub use health::{Unhealthy, ask, to_ask};
pub use reach::Reach;

/// A check's name. Stable: others look for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Display, EnumIter)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CheckName {
    /// git is there, and new enough.
    Git,
    /// The agent is there.
    Agent,
    /// Claude Code has a key for its model.
    ModelKey,
    /// The programs of the chosen plugins' servers are there.
    Plugins,
    /// What the kernel gives of the sandbox, held against `RUNNER_SANDBOX`.
    Sandbox,
    /// Who this process is.
    User,
    /// What this process may do beyond that.
    Hardening,
    /// Who starts a killed runner again.
    Pid1,
    /// Memory and processes.
    Limits,
    /// The state directory.
    State,
    /// The journal's directory, where it is another one.
    Journal,
    /// The secrets directory.
    Secrets,
    /// The workspace.
    Workspace,
    /// Where the token is sealed.
    SealKey,
    /// Where the archive goes, where one is asked for.
    Archive,
    /// Whom TLS trusts.
    Certificates,
    /// Whether the clock can be right.
    Clock,
    /// The listener's address.
    Listen,
    /// The task API that was named.
    Api,
    /// The repository that was named.
    Repo,
}

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nothing stands in a task's way.
    Ok,
    /// A task can run, and something should be known.
    Warn,
    /// A task cannot run.
    Fail,
}

/// One check and what it found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which.
    pub name: CheckName,
    /// What it came to.
    pub status: Status,
    /// What was found: versions, sizes, paths.
    pub found: String,
    /// The way out, where one is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Check {
    fn ok(name: CheckName, found: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Ok,
            found: found.into(),
            hint: None,
        }
    }

    fn warn(name: CheckName, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            status: Status::Warn,
            hint: Some(hint.into()),
            ..Self::ok(name, found)
        }
    }

    fn fail(name: CheckName, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            status: Status::Fail,
            ..Self::warn(name, found, hint)
        }
    }
}

/// All checks, as `runner doctor --json` prints them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// This program's version.
    pub version: &'static str,
    /// Whether no check failed.
    pub ok: bool,
    /// The checks, by topic.
    pub checks: Vec<Check>,
}

impl Report {
    fn of(checks: Vec<Check>) -> Self {
        Self {
            version: crate::VERSION,
            ok: checks.iter().all(|check| check.status != Status::Fail),
            checks,
        }
    }

    /// How many checks came to this.
    pub fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }
}

/// What the checks look at.
struct Here<'a> {
    settings: &'a Settings,
    ground: Ground,
    /// Our binary, for the sandbox's survey.
    runner: PathBuf,
}

/// Looks at everything that a task needs here. `env` looks up a variable. Blocks: for some milliseconds, and for at most
/// 10 seconds for each program that does not answer, and 5 for each peer.
pub fn examine(settings: &Settings, reach: &Reach, env: &dyn Fn(&str) -> Option<OsString>) -> Report {
    let here = Here {
        settings,
        ground: Ground::here(env),
        runner: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe")),
    };
    let mut checks = vec![git::check(), agent::check(&here)];
    checks.extend(agent::model_key(&here));
    checks.extend(plugins::check(&here));
    checks.extend([
        sandbox::check(&here),
        process::user(),
        process::hardening(),
        process::pid1(&here),
        limits::check(),
    ]);
    checks.extend(directories::checks(&here));
    checks.push(directories::seal_key(&here));
    checks.extend(archive::check(&here));
    checks.extend([certificates::check(&here), clock::check(), listen::check(&here)]);
    checks.extend(reach.checks(&here));
    Report::of(checks)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use strum::IntoEnumIterator;

    use super::*;

    #[test]
    fn a_warning_is_no_failure() {
        let report = Report::of(vec![
            Check::ok(CheckName::Git, "2.47.3"),
            Check::warn(CheckName::User, "root", "be another"),
        ]);
        assert!(report.ok);
        let report = Report::of(vec![Check::fail(CheckName::Git, "none", "install git")]);
        assert!(!report.ok);
        assert_eq!(
            serde_json::to_value(&report.checks[0]).unwrap(),
            serde_json::json!({"name": "git", "status": "fail", "found": "none", "hint": "install git"})
        );
    }

    #[test]
    fn the_docs_have_every_check_and_no_other() {
        let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctor.md")).unwrap();
        let rows = docs.lines().filter_map(|line| line.strip_prefix("| `"));
        let documented: BTreeSet<String> = rows.filter_map(|row| Some(row.split('`').next()?.to_owned())).collect();
        let checks: BTreeSet<String> = CheckName::iter().map(|name| name.to_string()).collect();
        assert_eq!(documented, checks, "docs, then checks");
    }
}
