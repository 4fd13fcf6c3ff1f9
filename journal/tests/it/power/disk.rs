//! A small disk: what is on it for good, what was written since the last sync, and what a loss of power leaves of that.
//!
//! A file's bytes are safe once the file was synced, a name once its directory was. Until then, each write, each change
//! of a length and each change of a name may be there or not, in any combination; a write may be there in part.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;

use super::trace::Event;

/// What disks write at once, or not at all.
const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    safe: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(usize),
    Directory,
}

#[derive(Debug, Clone)]
enum NameChange {
    Link(PathBuf, Node),
    Unlink(PathBuf),
    Rename { from: PathBuf, to: PathBuf, node: Node },
}

impl NameChange {
    fn directory(&self) -> &Path {
        match self {
            Self::Link(path, _) | Self::Unlink(path) | Self::Rename { to: path, .. } => path.parent().unwrap(),
        }
    }

    fn apply(&self, names: &mut Names) {
        match self {
            Self::Link(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename { from, to, node } => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

type Names = BTreeMap<PathBuf, Node>;

/// The files of one directory tree, as the running system sees them and as they are for good.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    inodes: Vec<Inode>,
    seen: Names,
    safe: Names,
    pending: Vec<NameChange>,
}

/// What is kept of the writes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    Lost,
    Kept,
    /// The first ones, and the next in part.
    Torn,
    /// Any of them.
    Some,
    /// Any of them, in any order: an older one may win.
    Reordered,
    /// Any sector of any of them.
    Sectors,
    /// The lengths, and zeros where the bytes should be.
    Zeros,
    /// The lengths, and what was on the disk before where the bytes should be.
    Garbage,
}

/// What is kept of the changes of names that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    None,
    All,
    /// As a file system with a log of its own leaves them.
    First,
    Any,
}

/// The files after a loss of power.
pub(crate) type Image = BTreeMap<PathBuf, Option<Vec<u8>>>;

impl Disk {
    /// A disk that holds this for good.
    pub(crate) fn of(image: &Image) -> Self {
        let mut disk = Self::default();
        for (path, bytes) in image {
            let node = match bytes {
                Some(bytes) => {
                    disk.inodes.push(Inode {
                        safe: bytes.clone(),
                        pending: Vec::new(),
                    });
                    Node::File(disk.inodes.len() - 1)
                }
                None => Node::Directory,
            };
            disk.safe.insert(path.clone(), node);
        }
        disk.seen = disk.safe.clone();
        disk
    }

    pub(crate) fn take_in(&mut self, event: &Event) {
        match event {
            Event::Acknowledge(_) => {}
            Event::Create(path) => {
                if !self.seen.contains_key(path) {
                    self.inodes.push(Inode::default());
                    self.rename(NameChange::Link(path.clone(), Node::File(self.inodes.len() - 1)));
                }
            }
            Event::MakeDirectory(path) => self.rename(NameChange::Link(path.clone(), Node::Directory)),
            Event::Unlink(path) => self.rename(NameChange::Unlink(path.clone())),
            Event::Rename { from, to } => {
                let (from, to, node) = (from.clone(), to.clone(), self.seen[from]);
                assert_eq!(
                    from.parent(),
                    to.parent(),
                    "a rename between directories is not modelled"
                );
                self.rename(NameChange::Rename { from, to, node });
            }
            Event::Write { path, at, bytes } => {
                let bytes = bytes.clone();
                self.file(path).pending.push(Change::Write { at: *at, bytes });
            }
            Event::Append { path, bytes } => {
                let file = self.file(path);
                let at = file.now().len();
                file.pending.push(Change::Write {
                    at,
                    bytes: bytes.clone(),
                });
            }
            Event::Resize { path, length } => self.file(path).pending.push(Change::Resize(*length)),
            Event::Sync(path) => match self.seen.get(path) {
                Some(Node::File(inode)) => {
                    let file = &mut self.inodes[*inode];
                    file.safe = file.now();
                    file.pending.clear();
                }
                // The root of the tree has no name in it.
                Some(Node::Directory) | None => {
                    let (synced, pending) = std::mem::take(&mut self.pending)
                        .into_iter()
                        .partition(|change| change.directory() == path);
                    let synced: Vec<NameChange> = synced;
                    self.pending = pending;
                    for change in &synced {
                        change.apply(&mut self.safe);
                    }
                }
            },
        }
    }

    fn rename(&mut self, change: NameChange) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    fn file(&mut self, path: &Path) -> &mut Inode {
        match self.seen.get(path) {
            Some(Node::File(inode)) => &mut self.inodes[*inode],
            other => panic!("{} is written and is {other:?}", path.display()),
        }
    }

    /// What a loss of power at this moment could leave.
    pub(crate) fn lose_power(&self, data: Data, kept: Kept, rng: &mut Rng) -> Image {
        let mut names = self.safe.clone();
        let first = rng.usize(0..=self.pending.len());
        for (index, change) in self.pending.iter().enumerate() {
            let stays = match kept {
                Kept::None => false,
                Kept::All => true,
                Kept::First => index < first,
                Kept::Any => rng.bool(),
            };
            if stays {
                change.apply(&mut names);
            }
        }
        let reachable = names.clone();
        let mut image = Image::new();
        for (path, node) in names {
            // What is below a directory whose name is lost is lost with it.
            let lost = path
                .ancestors()
                .skip(1)
                .any(|above| self.seen.get(above) == Some(&Node::Directory) && !reachable.contains_key(above));
            if !lost {
                let bytes = match node {
                    Node::Directory => None,
                    Node::File(inode) => Some(self.inodes[inode].lose_power(data, rng)),
                };
                image.insert(path, bytes);
            }
        }
        image
    }
}

impl Inode {
    fn now(&self) -> Vec<u8> {
        let mut bytes = self.safe.clone();
        self.pending.iter().for_each(|change| change.apply(&mut bytes));
        bytes
    }

    fn lose_power(&self, data: Data, rng: &mut Rng) -> Vec<u8> {
        let mut bytes = self.safe.clone();
        match data {
            Data::Lost => {}
            Data::Kept => bytes = self.now(),
            Data::Torn => {
                let whole = rng.usize(0..=self.pending.len());
                self.pending[..whole].iter().for_each(|change| change.apply(&mut bytes));
                if let Some(Change::Write { at, bytes: written }) = self.pending.get(whole) {
                    write(&mut bytes, *at, &written[..rng.usize(0..=written.len())]);
                }
            }
            Data::Some => {
                for change in self.pending.iter().filter(|_| rng.bool()) {
                    change.apply(&mut bytes);
                }
            }
            Data::Reordered => {
                let mut some: Vec<&Change> = self.pending.iter().filter(|_| rng.u8(..4) > 0).collect();
                rng.shuffle(&mut some);
                for change in some {
                    change.apply(&mut bytes);
                }
            }
            Data::Sectors => self
                .pending
                .iter()
                .for_each(|change| change.apply_sectors(&mut bytes, rng)),
            Data::Zeros | Data::Garbage => {
                let safe = bytes.len();
                bytes.resize(self.now().len(), 0);
                if data == Data::Garbage && bytes.len() > safe {
                    rng.fill(&mut bytes[safe..]);
                }
            }
        }
        bytes
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => write(to, *at, bytes),
            Self::Resize(length) => to.resize(*length, 0),
        }
    }

    fn apply_sectors(&self, to: &mut Vec<u8>, rng: &mut Rng) {
        match self {
            Self::Resize(_) if rng.bool() => {}
            Self::Resize(_) => self.apply(to),
            Self::Write { at, bytes } => {
                let mut done = 0;
                while done < bytes.len() {
                    let length = (SECTOR - (at + done) % SECTOR).min(bytes.len() - done);
                    if rng.bool() {
                        write(to, at + done, &bytes[done..done + length]);
                    }
                    done += length;
                }
            }
        }
    }
}

fn write(to: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if to.len() < end {
        to.resize(end, 0);
    }
    to[at..end].copy_from_slice(bytes);
}

/// Writes an image out, moved from the tree that was recorded to another.
pub(crate) fn lay_out(image: &Image, recorded: &Path, to: &Path) {
    for (path, bytes) in image {
        let path = to.join(path.strip_prefix(recorded).unwrap());
        match bytes {
            None => fs::create_dir(path).unwrap(),
            Some(bytes) => fs::write(path, bytes).unwrap(),
        }
    }
}
