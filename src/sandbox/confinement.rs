//! The paths and ports that an agent may reach. Landlock adds up and cannot subtract, so what must stay hidden has to lie
//! outside all of them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Right, Rights};

/// Where programs and libraries are.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/opt"];
/// What programs read to find their way.
const READ_ONLY: [&str; 3] = ["/etc", "/proc", "/sys/fs/cgroup"];
/// Devices without which programs do not work.
const DEVICES: [&str; 8] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/urandom",
    "/dev/random",
    "/dev/tty",
    "/dev/shm",
    "/dev/pts",
];

/// Which ports a program may connect to by TCP, at any address: this is no firewall. Those that it listens on are free.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ports {
    /// Every port.
    #[default]
    Any,
    /// These, and no other. There may be none.
    Only(BTreeSet<u16>),
}

impl Ports {
    /// Adds one to those that are allowed.
    pub fn allow(&mut self, port: u16) {
        match self {
            Self::Any => {}
            Self::Only(ports) => {
                ports.insert(port);
            }
        }
    }

    /// What a whole sandbox with these ports takes of the kernel.
    pub fn wanted(&self) -> Rights {
        let all = Rights::all();
        match self {
            Self::Any => all.iter().filter(|right| *right != Right::Tcp).collect(),
            Self::Only(_) => all,
        }
    }

    /// As `__sandbox` takes them.
    fn arguments(&self) -> Vec<OsString> {
        match self {
            Self::Any => Vec::new(),
            Self::Only(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                vec!["--ports".into(), ports.join(",").into()]
            }
        }
    }

    /// As [`Ports::arguments`] writes them: these alone, also where there are none.
    pub(super) fn only(text: &str) -> Result<Self, NoPorts> {
        let named = text.split(',').map(str::trim).filter(|port| !port.is_empty());
        let ports = named.map(|port| port.parse().map(NonZeroU16::get));
        ports.collect::<Result<_, _>>().map(Self::Only).map_err(|_| NoPorts)
    }
}

/// No ports: neither numbers nor nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("numbers from 1 to 65535 are allowed, comma-separated")]
pub struct NoPorts;

/// As `RUNNER_AGENT_PORTS` has them. Nothing is every port.
impl FromStr for Ports {
    type Err = NoPorts;

    fn from_str(text: &str) -> Result<Self, NoPorts> {
        let ports = Self::only(text)?;
        Ok(if ports == Self::Only(BTreeSet::new()) {
            Self::Any
        } else {
            ports
        })
    }
}

/// What a program may reach. Nothing else can be read, written or executed by it or by what it starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Confinement {
    /// Everything below is allowed. Each has to be there.
    pub read_write: Vec<PathBuf>,
    /// May be read and executed. What is not there is passed over.
    pub read_execute: Vec<PathBuf>,
    /// May be read. What is not there is passed over.
    pub read_only: Vec<PathBuf>,
    /// May be connected to.
    pub ports: Ports,
}

/// A directory that must stay hidden lies in one that the agent may read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{directory} lies in {allowed}, which the agent may read: move it elsewhere, Landlock cannot leave it out")]
pub struct Exposed {
    /// The directory that must stay hidden.
    pub directory: PathBuf,
    /// The allowed path around it.
    pub allowed: PathBuf,
}

impl Confinement {
    /// What the real Claude Code CLI and git were measured to need: its workspace, home and temporary directory; the
    /// system; the folder that the program's file is really in, and what `PATH` names outside the system. Any port.
    pub fn for_agent(workspace: &Path, home: &Path, tmp: &Path, program: &Path, path_var: Option<&OsStr>) -> Self {
        let mut read_write: Vec<PathBuf> = [workspace, home, tmp].map(Path::to_owned).to_vec();
        // A device that a container does not have is nothing that the agent could miss.
        read_write.extend(existing(&DEVICES));
        let mut read_execute: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
        let real = fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
        let own = real.parent().filter(|folder| folder.parent().is_some());
        let on_path = path_var.map(|paths| std::env::split_paths(paths).collect::<Vec<_>>());
        for folder in own.map(Path::to_owned).into_iter().chain(on_path.into_iter().flatten()) {
            // The root directory would be everything.
            let usable = folder.is_absolute() && folder.parent().is_some();
            if usable && !read_execute.iter().any(|known| folder.starts_with(known)) {
                read_execute.push(folder);
            }
        }
        Self {
            read_write,
            read_execute,
            read_only: READ_ONLY.iter().map(PathBuf::from).collect(),
            ports: Ports::Any,
        }
    }

    /// Makes sure that none of `directories` (state, secrets) lies in an allowed path, links followed. An allowed path
    /// inside one of them, such as the workspace below the state directory, is fine.
    pub fn excludes(&self, directories: &[PathBuf]) -> Result<(), Exposed> {
        for directory in directories {
            let real = real_path(directory);
            for allowed in self.read_write.iter().chain(&self.read_execute).chain(&self.read_only) {
                if real.starts_with(real_path(allowed)) {
                    return Err(Exposed {
                        directory: directory.clone(),
                        allowed: allowed.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// As `__sandbox` takes it.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let kinds = [
            ("--rw", &self.read_write),
            ("--rx", &self.read_execute),
            ("--ro", &self.read_only),
        ];
        kinds
            .into_iter()
            .flat_map(|(option, paths)| paths.iter().map(move |path| (option, path)))
            .flat_map(|(option, path)| [OsString::from(option), path.into()])
            .chain(self.ports.arguments())
            .collect()
    }
}

fn existing<'a>(paths: &'a [&'a str]) -> impl Iterator<Item = PathBuf> + 'a {
    paths.iter().map(PathBuf::from).filter(|path| path.exists())
}

/// Where a path really is. What is not there yet is where it would be.
pub(crate) fn real_path(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (fs::canonicalize(ancestor), path.strip_prefix(ancestor)) {
            // Joining an empty rest would end the path with a slash.
            return if rest.as_os_str().is_empty() {
                real
            } else {
                real.join(rest)
            };
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn for_agent_in(room: &Path, path_var: &str) -> Confinement {
        for name in ["state/repo", "state/home", "state/tmp", "tools"] {
            fs::create_dir_all(room.join(name)).unwrap();
        }
        fs::write(room.join("tools/agent"), "").unwrap();
        std::os::unix::fs::symlink(room.join("tools/agent"), room.join("agent-link")).unwrap();
        Confinement::for_agent(
            &room.join("state/repo"),
            &room.join("state/home"),
            &room.join("state/tmp"),
            &room.join("agent-link"),
            Some(OsStr::new(path_var)),
        )
    }

    fn only(ports: &[u16]) -> Ports {
        Ports::Only(ports.iter().copied().collect())
    }

    #[test]
    fn ports_are_numbers_and_nothing_is_every_port() {
        for (text, ports) in [
            ("", Ports::Any),
            (" , ", Ports::Any),
            ("443", only(&[443])),
            ("8443, 443,443,", only(&[443, 8443])),
        ] {
            assert_eq!(text.parse(), Ok(ports), "{text:?}");
        }
        for bad in ["0", "65536", "-1", "https", "443 80", "1-2"] {
            assert_eq!(bad.parse::<Ports>(), Err(NoPorts), "{bad:?}");
        }
    }

    #[test]
    fn a_port_is_added_to_those_that_are_allowed_where_any_are_not() {
        let mut ports: Ports = "443".parse().unwrap();
        ports.allow(41_000);
        assert_eq!(ports.arguments(), ["--ports", "443,41000"]);
        let mut any = Ports::Any;
        any.allow(41_000);
        assert_eq!(any, Ports::Any);
        assert_eq!(only(&[]).arguments(), ["--ports", ""]);
        assert_eq!(Ports::only(""), Ok(only(&[])));
    }

    #[test]
    fn a_workspace_below_the_state_directory_does_not_expose_it() {
        let room = tempfile::tempdir().unwrap();
        let confinement = for_agent_in(room.path(), "/usr/bin");
        let state = room.path().join("state");
        confinement.excludes(&[state.clone(), state.join("secrets")]).unwrap();
    }

    #[test]
    fn a_state_directory_in_an_allowed_path_is_refused_with_both_names() {
        let room = tempfile::tempdir().unwrap();
        let confinement = for_agent_in(room.path(), "/usr/bin");
        for (hidden, allowed) in [
            (PathBuf::from("/opt/runner-state-not-there-yet"), PathBuf::from("/opt")),
            (
                room.path().join("tools"),
                fs::canonicalize(room.path().join("tools")).unwrap(),
            ),
            (room.path().join("state/repo/.state"), room.path().join("state/repo")),
        ] {
            let exposed = confinement.excludes(std::slice::from_ref(&hidden)).unwrap_err();
            assert_eq!(exposed.directory, hidden);
            assert_eq!(exposed.allowed, allowed);
        }
    }

    #[test]
    fn a_link_to_an_allowed_path_hides_nothing() {
        let room = tempfile::tempdir().unwrap();
        let confinement = for_agent_in(room.path(), "/usr/bin");
        let link = room.path().join("link");
        std::os::unix::fs::symlink(room.path().join("state/repo"), &link).unwrap();
        assert!(confinement.excludes(&[link.join("below")]).is_err());
    }

    #[test]
    fn path_directories_outside_the_system_may_be_executed_and_the_root_may_not() {
        let room = tempfile::tempdir().unwrap();
        let confinement = for_agent_in(room.path(), "/usr/bin:/somewhere/bin:.:relative::/:/usr/local/bin");
        let extra: Vec<_> = confinement
            .read_execute
            .iter()
            .filter(|path| !SYSTEM.iter().any(|system| *path == Path::new(system)))
            .collect();
        let tools = fs::canonicalize(room.path().join("tools")).unwrap();
        assert_eq!(extra, [&tools, &PathBuf::from("/somewhere/bin")]);
    }
}
