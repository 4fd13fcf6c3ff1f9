//! Who the runner is here, what it may do beyond that, and who starts it again.

use std::fs;

use nix::unistd::{getegid, geteuid, getpid};

use super::{Check, CheckName, Here};
use crate::survival::Host;
use crate::text::excerpt;

pub(super) fn user() -> Check {
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() {
        Check::warn(
            CheckName::User,
            format!("root (uid 0, gid {gid}): so is the agent, and the sandbox alone holds it"),
            "run as another user: --user 1001, or runAsNonRoot in Kubernetes",
        )
    } else {
        Check::ok(CheckName::User, format!("uid {uid}, gid {gid}"))
    }
}

pub(super) fn hardening() -> Check {
    let name = CheckName::Hardening;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let Some(hardening) = Hardening::parse(&status) else {
        return Check::ok(name, "unknown: /proc/self/status does not say");
    };
    let found = hardening.to_string();
    if geteuid().is_root() && hardening.capabilities != 0 {
        Check::warn(name, found, "drop root's capabilities: --cap-drop=all")
    } else {
        Check::ok(name, found)
    }
}

/// Three lines of `/proc/self/status`.
#[derive(Debug, PartialEq, Eq)]
struct Hardening {
    no_new_privs: &'static str,
    seccomp: &'static str,
    capabilities: u64,
}

impl Hardening {
    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Some(Self {
            no_new_privs: if field("NoNewPrivs:")? == "1" { "on" } else { "off" },
            // A kernel without seccomp has no such line.
            seccomp: match field("Seccomp:") {
                Some("1") => "strict",
                Some("2") => "a filter",
                Some(_) | None => "off",
            },
            capabilities: u64::from_str_radix(field("CapEff:")?, 16).ok()?,
        })
    }
}

impl std::fmt::Display for Hardening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            no_new_privs,
            seccomp,
            capabilities,
        } = self;
        write!(f, "no_new_privs {no_new_privs}, seccomp {seccomp}, ")?;
        match capabilities.count_ones() {
            0 => write!(f, "no capabilities"),
            count => write!(f, "{count} capabilities ({capabilities:#x})"),
        }
    }
}

pub(super) fn pid1(here: &Here<'_>) -> Check {
    let words = fs::read("/proc/1/cmdline").unwrap_or_default();
    let words = String::from_utf8_lossy(&words).into_owned();
    let words: Vec<&str> = words.split('\0').filter(|word| !word.is_empty()).collect();
    Check::ok(
        CheckName::Pid1,
        match (here.ground.host(), &words[..]) {
            (Host::Machine, _) => "not in a container".to_owned(),
            _ if getpid().as_raw() == 1 => "this command itself".to_owned(),
            (_, [program, "init", ..]) if program.rsplit('/').next() == Some("runner") => {
                "runner init: it starts a killed runner again".to_owned()
            }
            (_, [program, ..]) => format!(
                "PID 1 is {}: a killed runner is started again by whoever starts the container again",
                excerpt(program)
            ),
            (_, []) => "unknown: /proc/1/cmdline does not say".to_owned(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_process_is_read_by_its_names() {
        let status = "Name:\trunner\nCapEff:\t00000000a80425fb\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        let hardening = Hardening::parse(status).unwrap();
        assert_eq!(
            hardening.to_string(),
            "no_new_privs on, seccomp a filter, 14 capabilities (0xa80425fb)"
        );
        let without = Hardening::parse("CapEff:\t0000000000000000\nNoNewPrivs:\t0\n").unwrap();
        assert_eq!(without.to_string(), "no_new_privs off, seccomp off, no capabilities");
        assert_eq!(Hardening::parse(""), None);
    }
}
