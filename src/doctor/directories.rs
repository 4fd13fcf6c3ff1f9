//! The directories of a task: can they be used, is there room, and what do they survive. And what a seal key changes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use indicatif::BinaryBytes;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::geteuid;
use runner_journal::network_file_system;

use super::{Check, CheckName, Here};
use crate::config::Directory;
use crate::survival::{Loss, Place, Sealed, Survives};

/// What a directory should have free.
pub(super) struct Floor {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

/// The journal, the private repository and transcripts.
const STATE: Floor = Floor {
    bytes: 64 << 20,
    inodes: 1000,
};
/// One small file, written twice.
const SECRETS: Floor = Floor {
    bytes: 1 << 20,
    inodes: 16,
};
/// A clone, and what is built in it.
const WORKSPACE: Floor = Floor {
    bytes: 1 << 30,
    inodes: 10_000,
};

pub(super) fn checks(here: &Here<'_>) -> Vec<Check> {
    let places = here.ground.places(here.settings);
    let losses = here.ground.losses(here.settings);
    let [state, secrets, workspace] = here.settings.directories();
    let network = places.journal.is_none().then(|| on_network(&places.state)).flatten();
    let mut checks = vec![
        usable(CheckName::State, &state)
            .or(network.map(|network| not_local(CheckName::State, &places.state, network)))
            .unwrap_or_else(|| room(CheckName::State, &places.state, &STATE, &losses)),
    ];
    if let Some(journal) = &places.journal {
        checks.push(match on_network(journal) {
            Some(network) => not_local(CheckName::Journal, journal, network),
            None => room(CheckName::Journal, journal, &STATE, &losses),
        });
    }
    checks.extend([
        usable(CheckName::Secrets, &secrets)
            .unwrap_or_else(|| room(CheckName::Secrets, &places.secrets, &SECRETS, &losses)),
        usable(CheckName::Workspace, &workspace)
            .or_else(|| executable(&places.workspace))
            .unwrap_or_else(|| room(CheckName::Workspace, &places.workspace, &WORKSPACE, &losses)),
    ]);
    checks
}

/// What `serve` would refuse before it makes the directory.
fn usable(name: CheckName, directory: &Directory<'_>) -> Option<Check> {
    let error = directory.check().err()?;
    let hint = format!(
        "let uid {} write it, by its owner or in Kubernetes an fsGroup",
        geteuid()
    );
    Some(Check::fail(name, error.to_string(), hint))
}

/// The journal's locks and syncs cannot be trusted on a network file system, and it is not opened there.
fn on_network(place: &Place) -> Option<&'static str> {
    network_file_system(there(&place.directory)).ok().flatten()
}

fn not_local(name: CheckName, place: &Place, network: &str) -> Check {
    Check::fail(
        name,
        format!(
            "{} is on {network}: the journal is not opened there",
            place.directory.display()
        ),
        "name a directory on a local disk",
    )
}

fn executable(place: &Place) -> Option<Check> {
    let file_system = statvfs(there(&place.directory)).ok()?;
    file_system.flags().contains(FsFlags::ST_NOEXEC).then(|| {
        Check::fail(
            CheckName::Workspace,
            format!("{} is {}, mounted noexec", place.directory.display(), place.on),
            "mount it without noexec: the agent builds and runs things there",
        )
    })
}

/// The nearest directory that is there: where it is not, it would be made below it.
fn there(directory: &Path) -> &Path {
    directory.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("."))
}

/// The room that a file system has.
pub(super) struct Room {
    /// What is free, in words.
    pub(super) free: String,
    /// What should be, where it is less.
    pub(super) wanted: Option<String>,
}

impl Room {
    /// Of the file system that a directory is on, or would be made on; none where that cannot be asked.
    pub(super) fn at(path: &Path, floor: &Floor) -> Option<Self> {
        let file_system = statvfs(there(path)).ok()?;
        let bytes = file_system
            .blocks_available()
            .saturating_mul(file_system.fragment_size());
        let inodes = file_system.files_available();
        // Some file systems make inodes as they need them, and say 0 of 0.
        let counted = file_system.files() > 0;
        let inodes_free = if counted {
            format!(" and {inodes} inodes")
        } else {
            String::new()
        };
        let short = bytes < floor.bytes || (counted && inodes < floor.inodes);
        Some(Self {
            free: format!("{}{inodes_free} free", BinaryBytes(bytes)),
            wanted: short.then(|| format!("make room: {} and {} inodes", BinaryBytes(floor.bytes), floor.inodes)),
        })
    }
}

/// A directory that can be used: how much room it has, and what it survives.
fn room(name: CheckName, place: &Place, floor: &Floor, losses: &[Loss]) -> Check {
    let path = place.directory.as_path();
    let is = match fs::metadata(path) {
        Ok(found) => format!("{:04o}, of uid {}", found.permissions().mode() & 0o7777, found.uid()),
        Err(_) => "can be made".to_owned(),
    };
    let mut found = vec![
        format!("{}: {is}", path.display()),
        format!("{}, {}", place.on, survives(place.survives)),
    ];
    let mut hints = Vec::new();
    if let Some(Room { free, wanted }) = Room::at(path, floor) {
        found.push(free);
        hints.extend(wanted);
    }
    for loss in losses.iter().filter(|loss| loss.place == *place) {
        found.push(format!("{}: {}", loss.lost, loss.then));
        hints.extend(loss.way_out.clone());
    }
    let found = found.join("; ");
    if hints.is_empty() {
        Check::ok(name, found)
    } else {
        Check::warn(name, found, hints.join("; "))
    }
}

fn survives(survives: Survives) -> &'static str {
    match survives {
        Survives::Nothing => "survives no restart",
        Survives::Restarts => "survives restarts, not the pod",
        Survives::RestartsOfThisContainer => "survives restarts, not the container's replacement",
        Survives::Replacement => "survives restart and replacement",
        Survives::ReadOnly => "read-only",
        Survives::Unknown => "what it survives is unknown",
    }
}

pub(super) fn seal_key(here: &Here<'_>) -> Check {
    let Here { settings, .. } = here;
    Check::ok(
        CheckName::SealKey,
        match Sealed::by(settings) {
            Sealed::InState => format!("the token is sealed with it in {}", settings.state_dir.display()),
            Sealed::InSecrets => format!(
                "none: the token is a plain file, 0600, in {}, and survives what that survives",
                settings.secrets_dir.display()
            ),
        },
    )
}
