//! What a directory on this machine outlives: a restart of its container, the container itself, the pod.
//!
//! The kernel's mount table says what a directory is on. Measured with podman: `--tmpfs` is empty again after a kill and
//! a start, the container's own layer is not. In Kubernetes, a restart gives a container a new layer, and an `emptyDir`,
//! on disk or in memory, stays for as long as the pod.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use strum::Display;

use crate::config::Settings;
use crate::machine::OnTerm;
use crate::sandbox::real_path;

/// Where the mounts of this process are listed (`proc_pid_mountinfo(5)`).
const MOUNTS: &str = "/proc/self/mountinfo";
/// What Docker and podman leave in the containers that they make.
const MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
/// File systems that are gone with what mounted them.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];
/// Mount options with which a sync is void: an overlay's (podman mounts the layer of `run --rm` so), and a disk's.
const VOID_SYNC: [&str; 4] = ["volatile", "fsync=volatile", "nobarrier", "barrier=0"];
/// What a container in a virtual machine sees (gVisor, Kata): the mount table does not say what is behind it.
const OPAQUE: [&str; 2] = ["9p", "virtiofs"];
/// In the path that an `emptyDir` has on its node.
const EMPTY_DIR: &str = "kubernetes.io~empty-dir";

/// How long what is written to a directory stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[strum(serialize_all = "snake_case")]
pub enum Survives {
    /// Nothing: it is empty again once the container (without one, the machine) is started again.
    Nothing,
    /// Restarts of the container, and not the pod.
    Restarts,
    /// Restarts of the container, and not another container in its place.
    RestartsOfThisContainer,
    /// Restart and replacement: a volume, or this machine's disk.
    Replacement,
    /// Nothing can be written to it.
    ReadOnly,
    /// The mount table does not say.
    Unknown,
}

/// What this process runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// A pod.
    Kubernetes,
    /// A container of Docker, podman or the like.
    Container,
    /// No container.
    Machine,
}

impl Host {
    /// By the variable that Kubernetes sets in every container, the marks of the others, and what is mounted at `/`.
    fn of(mounts: &Mounts, env: impl Fn(&str) -> Option<OsString>) -> Self {
        if env("KUBERNETES_SERVICE_HOST").is_some() {
            Self::Kubernetes
        } else if MARKS.iter().any(|mark| Path::new(mark).exists())
            || mounts
                .holding(Path::new("/"))
                .is_some_and(|root| root.kind == "overlay")
        {
            Self::Container
        } else {
            Self::Machine
        }
    }

    /// What is started again, in words.
    fn what(self) -> &'static str {
        match self {
            Self::Kubernetes | Self::Container => "container",
            Self::Machine => "machine",
        }
    }
}

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    id: String,
    parent: String,
    /// The directory of the file system that is mounted.
    root: PathBuf,
    /// Where it is mounted.
    point: PathBuf,
    read_only: bool,
    /// The file system's type.
    kind: String,
    /// The option that makes a sync say that it is done and do nothing.
    void_sync: Option<&'static str>,
}

impl Mount {
    /// A line as `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
    fn parse(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ');
        let (id, parent) = (mount.next()?, mount.next()?);
        let _device = mount.next()?;
        let (root, point) = (unescaped(mount.next()?), unescaped(mount.next()?));
        let options = mount.next()?;
        let mut file_system = file_system.split(' ');
        let kind = file_system.next()?;
        let _source = file_system.next()?;
        let options_of_all = file_system.next().unwrap_or_default();
        let has = |options: &str, wanted: &str| options.split(',').any(|option| option == wanted);
        Some(Self {
            id: id.to_owned(),
            parent: parent.to_owned(),
            root,
            point,
            read_only: has(options, "ro") || has(options_of_all, "ro"),
            kind: kind.to_owned(),
            void_sync: VOID_SYNC.into_iter().find(|option| has(options_of_all, option)),
        })
    }

    fn survives(&self, host: Host) -> Survives {
        if self.read_only {
            Survives::ReadOnly
        } else if self.is_empty_dir() || (self.is_in_memory() && host == Host::Kubernetes) {
            Survives::Restarts
        } else if self.is_in_memory() {
            Survives::Nothing
        } else if self.point == Path::new("/") {
            match host {
                Host::Kubernetes => Survives::Nothing,
                Host::Container => Survives::RestartsOfThisContainer,
                Host::Machine => Survives::Replacement,
            }
        } else if host == Host::Kubernetes && OPAQUE.contains(&self.kind.as_str()) {
            Survives::Unknown
        } else {
            Survives::Replacement
        }
    }

    fn is_in_memory(&self) -> bool {
        IN_MEMORY.contains(&self.kind.as_str())
    }

    fn is_empty_dir(&self) -> bool {
        self.root.components().any(|part| part.as_os_str() == EMPTY_DIR)
    }

    /// What it is, for a person.
    fn what(&self, host: Host) -> String {
        if self.is_empty_dir() {
            "an emptyDir".to_owned()
        } else if self.is_in_memory() && host == Host::Kubernetes {
            format!("an emptyDir in memory ({})", self.kind)
        } else if self.is_in_memory() {
            format!("a {}", self.kind)
        } else if self.point == Path::new("/") && host != Host::Machine {
            "in the container's own layer".to_owned()
        } else {
            format!("on {} ({})", self.point.display(), self.kind)
        }
    }
}

/// The kernel writes a space in a path as `\040`, and other bytes that would break a line alike.
fn unescaped(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let (b'\\', Some(byte)) = (first, escaped) {
            bytes.push(byte);
            rest = &after[3..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The mount table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Mounts(Vec<Mount>);

impl Mounts {
    fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(Mount::parse).collect())
    }

    /// The mount that holds a path without links: from the root on, into whatever is mounted on the way. A longer mount
    /// point may lie hidden under what was mounted above it later, so the longest is not enough.
    fn holding(&self, path: &Path) -> Option<&Mount> {
        let listed = |id: &str| self.0.iter().any(|mount| mount.id == id);
        let mut at: Option<&Mount> = None;
        loop {
            let next = self.0.iter().rev().filter(|mount| match at {
                Some(at) => mount.parent == at.id && mount.id != at.id,
                None => mount.parent == mount.id || !listed(&mount.parent),
            });
            let next = next
                .filter(|mount| path.starts_with(&mount.point))
                .min_by_key(|mount| mount.point.as_os_str().len());
            match next {
                Some(next) => at = Some(next),
                None => return at,
            }
        }
    }
}

/// What this process runs in, and what is mounted there.
#[derive(Debug, Clone)]
pub struct Ground {
    mounts: Mounts,
    host: Host,
}

impl Ground {
    /// Of this process. Without a mount table (no `/proc`), what survives is unknown.
    pub fn here(env: impl Fn(&str) -> Option<OsString>) -> Self {
        let table = fs::read(MOUNTS).unwrap_or_default();
        let mounts = Mounts::parse(&String::from_utf8_lossy(&table));
        Self {
            host: Host::of(&mounts, env),
            mounts,
        }
    }

    /// Where a directory lies. What is not there yet is looked up where it would be made.
    pub fn place(&self, variable: &'static str, directory: &Path) -> Place {
        let mount = self.mounts.holding(&real_path(directory));
        Place {
            variable,
            directory: directory.to_owned(),
            on: mount.map_or("on an unknown mount".to_owned(), |mount| mount.what(self.host)),
            survives: mount.map_or(Survives::Unknown, |mount| mount.survives(self.host)),
            void_sync: mount.and_then(|mount| mount.void_sync),
        }
    }

    /// What this process runs in.
    pub fn host(&self) -> Host {
        self.host
    }

    /// What will be lost when the container is started again, or, where a task may be parked, with its pod. Nothing
    /// where all is well.
    pub fn losses(&self, settings: &Settings) -> Vec<Loss> {
        let sealed = Sealed::by(settings);
        losses(&self.places(settings), self.host, sealed, settings.options.on_term)
    }

    /// Where the directories of a task lie.
    pub fn places(&self, settings: &Settings) -> Places {
        let journal = match settings.journal.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        Places {
            state: self.place("RUNNER_STATE_DIR", &settings.state_dir),
            journal: (journal != settings.state_dir).then(|| self.place("RUNNER_JOURNAL", journal)),
            secrets: self.place("RUNNER_SECRETS_DIR", &settings.secrets_dir),
            workspace: self.place("RUNNER_WORKSPACE", &settings.workspace),
        }
    }
}

/// Where a directory lies, and what it survives there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The variable that names it.
    pub variable: &'static str,
    /// The directory.
    pub directory: PathBuf,
    /// What it is on, in words that follow "is".
    pub on: String,
    /// What it survives.
    pub survives: Survives,
    /// The mount option that makes a sync void there: the last writes do not survive a crash of the machine.
    pub void_sync: Option<&'static str>,
}

/// Where the directories of a task lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The state directory.
    pub state: Place,
    /// The journal's, where it is another one.
    pub journal: Option<Place>,
    /// The secrets directory.
    pub secrets: Place,
    /// The workspace.
    pub workspace: Place,
}

/// Where the token is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// With a key, in the state directory.
    InState,
    /// Without one, in the secrets directory.
    InSecrets,
}

impl Sealed {
    /// As the settings have it.
    pub fn by(settings: &Settings) -> Self {
        if settings.seal_key.is_some() {
            Self::InState
        } else {
            Self::InSecrets
        }
    }
}

/// Something that will not survive, and what comes of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Where it lies.
    pub place: Place,
    /// What is lost when.
    pub lost: String,
    /// What comes of it.
    pub then: String,
    /// What to do about it. None where the task goes on without what is lost.
    pub way_out: Option<String>,
}

fn losses(places: &Places, host: Host, sealed: Sealed, on_term: OnTerm) -> Vec<Loss> {
    let warning = |place: &Place, lost: String, then: &str, way_out: &str| Loss {
        place: place.clone(),
        lost,
        then: then.to_owned(),
        way_out: Some(way_out.to_owned()),
    };
    let restart = format!("will not survive a restart of this {}", host.what());
    let mount = match host {
        Host::Kubernetes => "mount an emptyDir or a persistent volume there",
        Host::Container => "mount a volume there",
        Host::Machine => "name a directory on a disk",
    };
    let Places {
        state,
        secrets,
        workspace,
        ..
    } = places;
    let journal = places.journal.as_ref().unwrap_or(state);
    let parked_is_lost = on_term == OnTerm::Park && journal.survives == Survives::Restarts;
    let mut losses = Vec::new();
    if journal.survives == Survives::Nothing {
        let then = match (sealed, &places.journal) {
            (Sealed::InState, None) => "the runner then knows nothing of its task, and its sealed token is gone",
            (Sealed::InState | Sealed::InSecrets, _) => "the runner then knows nothing of its task",
        };
        losses.push(warning(journal, format!("the journal {restart}"), then, mount));
    }
    if let Some(option) = journal.void_sync.filter(|_| journal.survives != Survives::Nothing) {
        losses.push(warning(
            journal,
            format!("what is synced to the journal may not survive a crash of the machine: it is mounted {option}"),
            "the runner may then do again what it has done; a crash of the runner alone loses nothing",
            mount,
        ));
    }
    if parked_is_lost {
        losses.push(warning(
            journal,
            "a parked task will not survive this pod".to_owned(),
            "its journal is gone with it",
            "mount a persistent volume there, or set RUNNER_ON_TERM=report",
        ));
    }
    if places.journal.is_some() && state.survives == Survives::Nothing {
        let lost = format!("the private repository {restart}");
        losses.push(warning(state, lost, "what is in it and not pushed is lost then", mount));
    }
    match (sealed, secrets.survives) {
        (Sealed::InSecrets, Survives::Nothing) => losses.push(warning(
            secrets,
            format!("the one-time token {restart}"),
            "a task that has its token then fails with TokenLost",
            &format!("{mount}, or set RUNNER_SEAL_KEY_FILE"),
        )),
        (Sealed::InSecrets, Survives::Restarts) if on_term == OnTerm::Park && !parked_is_lost => losses.push(warning(
            secrets,
            "the one-time token of a parked task will not survive this pod".to_owned(),
            "the task then fails with TokenLost",
            "set RUNNER_SEAL_KEY_FILE, or RUNNER_ON_TERM=report",
        )),
        (Sealed::InState | Sealed::InSecrets, _) => {}
    }
    if workspace.survives == Survives::Nothing {
        losses.push(Loss {
            place: workspace.clone(),
            lost: format!("the workspace {restart}"),
            then: "only what the agent has not finished is lost then".to_owned(),
            way_out: None,
        });
    }
    losses
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place {
            variable,
            directory,
            on,
            ..
        } = &self.place;
        write!(
            f,
            "{}: {variable} {} is {on}; {}",
            self.lost,
            directory.display(),
            self.then
        )?;
        match &self.way_out {
            Some(way_out) => write!(f, "; {way_out}"),
            None => Ok(()),
        }
    }
}

/// A line in the log for each loss.
pub fn log(losses: &[Loss]) {
    for loss in losses {
        let Place {
            variable,
            directory,
            survives,
            ..
        } = &loss.place;
        let directory = directory.display();
        if loss.way_out.is_some() {
            tracing::warn!(setting = variable, %directory, %survives, "{loss}");
        } else {
            tracing::info!(setting = variable, %directory, %survives, "{loss}");
        }
    }
}

#[cfg(test)]
mod tests;
