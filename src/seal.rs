//! The sealed token: one file, written so that it is there whole or not at all.
//!
//! Without a key it is plain, in the secrets directory. With one it is encrypted, and lies in the state directory: it is
//! there for as long as the journal is that says so.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::crash::{self, CrashPoint, Inside};
use crate::disk;
use crate::machine::{Millis, TokenFacts};
use crate::secret::Secret;

mod key;

use key::OpenError;
pub use key::{KeyFileError, SealKey};

/// Of a plain token, in the secrets directory.
const PLAIN: &str = "token.json";
/// Of an encrypted one, in the state directory.
const ENCRYPTED: &str = "token.sealed";

/// A token and what may be known of it.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The token.
    pub token: Secret,
    /// When it expires.
    pub expires_at_ms: Millis,
}

impl Sealed {
    /// What may be known of it.
    pub fn facts(&self) -> TokenFacts {
        TokenFacts {
            sha256_prefix: self.token.fingerprint(),
            expires_at_ms: self.expires_at_ms,
        }
    }
}

/// Why the seal cannot be used.
#[derive(Debug, Error)]
pub enum SealError {
    /// The disk is full.
    #[error("failed to seal the token in {}: no space left", .0.display())]
    DiskFull(PathBuf),
    /// Something else of the file system.
    #[error("failed to use the seal {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of somebody else's, or one that others can read.
    #[error("the seal {} is not this user's own", .0.display())]
    NotOurs(PathBuf),
    /// Not what this runner wrote.
    #[error("the seal {} cannot be read back", .0.display())]
    Unreadable(PathBuf),
    /// Encrypted, and not by the key that is here.
    #[error(
        "{} is not opened by the key of RUNNER_SEAL_KEY_FILE: wrong key, or the file is damaged; \
         give the key that it was sealed with, or remove the file to let the task fail as TokenLost",
        .0.display()
    )]
    WrongKey(PathBuf),
    /// Encrypted, and no key is here.
    #[error(
        "{} has a sealed token, and no key is given: name the one that it was sealed with by RUNNER_SEAL_KEY_FILE, \
         or remove the file to let the task fail as TokenLost",
        .0.display()
    )]
    NoKey(PathBuf),
    /// Encrypted in a form that this program does not know.
    #[error(
        "{} has version {version}, which this runner does not know: start the runner that wrote it, \
         or remove the file to let the task fail as TokenLost",
        path.display()
    )]
    OtherVersion {
        /// Where.
        path: PathBuf,
        /// Which.
        version: u8,
    },
}

impl SealError {
    fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if disk::is_full(&source) {
            Self::DiskFull(path)
        } else {
            Self::Io { path, source }
        }
    }
}

/// Where a token is sealed, and by which key.
#[derive(Debug, Clone)]
pub struct Seal {
    plain: PathBuf,
    encrypted: PathBuf,
    key: Option<SealKey>,
}

#[derive(Serialize, Deserialize)]
struct OnDisk {
    token: String,
    expires_at_ms: Millis,
}

/// A file that may have the token. Without a key, it is plain.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a Path,
    key: Option<&'a SealKey>,
}

impl Seal {
    /// In the state directory where there is a key, else in the secrets directory.
    pub fn new(secrets_dir: &Path, state_dir: &Path, key: Option<SealKey>) -> Self {
        Self {
            plain: secrets_dir.join(PLAIN),
            encrypted: state_dir.join(ENCRYPTED),
            key,
        }
    }

    /// Makes sure that a token which is encrypted can be opened. For a start, before anything is touched: a key that is
    /// wrong can be replaced, a token that is given up cannot.
    pub fn check(&self) -> Result<(), SealError> {
        if let Some(place) = self.encrypted() {
            return place.read().map(drop);
        }
        for path in [self.encrypted.clone(), partial(&self.encrypted)] {
            if fs::symlink_metadata(&path).is_ok() {
                return Err(SealError::NoKey(path));
            }
        }
        Ok(())
    }

    /// Writes the token down: synced before this returns, and never half there.
    pub fn write(&self, sealed: &Sealed) -> Result<(), SealError> {
        self.encrypted().unwrap_or(self.plain()).write(sealed)
    }

    /// The token, if one is sealed.
    pub fn read(&self) -> Result<Option<Sealed>, SealError> {
        self.places().find_map(|place| place.read().transpose()).transpose()
    }

    /// Finishes what a killed process began: a seal that is whole under its temporary name gets its own. A token is
    /// given once, so none that was received is thrown away. Gives what is sealed then.
    pub fn recover(&self) -> Result<Option<Sealed>, SealError> {
        self.places().find_map(|place| place.recover().transpose()).transpose()
    }

    /// The files that a token is looked for in.
    pub fn files(&self) -> Vec<&Path> {
        self.places().map(|place| place.path).collect()
    }

    /// Removes the token: nothing needs it once the task is over.
    pub fn destroy(&self) -> Result<(), SealError> {
        for own in [&self.encrypted, &self.plain] {
            for path in [own, &partial(own)] {
                match fs::remove_file(path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(SealError::io(path, e)),
                    Ok(()) | Err(_) => {}
                }
            }
        }
        Ok(())
    }

    fn encrypted(&self) -> Option<Place<'_>> {
        let key = self.key.as_ref()?;
        Some(Place {
            path: &self.encrypted,
            key: Some(key),
        })
    }

    fn plain(&self) -> Place<'_> {
        Place {
            path: &self.plain,
            key: None,
        }
    }

    /// The secrets directory too where there is a key: the task may have begun without one.
    fn places(&self) -> impl Iterator<Item = Place<'_>> {
        self.encrypted().into_iter().chain([self.plain()])
    }
}

impl Place<'_> {
    fn write(self, sealed: &Sealed) -> Result<(), SealError> {
        let partial = partial(self.path);
        let failed = |e| SealError::io(self.path, e);
        let bytes = self.encode(sealed)?;
        match fs::remove_file(&partial) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            Ok(()) | Err(_) => {}
        }
        let written = create(&partial)
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
            .map_err(failed);
        if let Err(error) = written {
            // Half a secret is no use to anyone.
            let _ = fs::remove_file(&partial);
            return Err(error);
        }
        crash::at(CrashPoint::Inside(Inside::SealWritten));
        self.name()
    }

    /// Gives a whole seal its own name, for good.
    fn name(self) -> Result<(), SealError> {
        let failed = |e| SealError::io(self.path, e);
        fs::rename(partial(self.path), self.path).map_err(failed)?;
        crash::at(CrashPoint::Inside(Inside::SealRenamed));
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    fn recover(self) -> Result<Option<Sealed>, SealError> {
        if let Some(sealed) = self.read()? {
            return Ok(Some(sealed));
        }
        // What was cut off has no closing brace, and is no JSON; or no tag, and is not opened.
        let Ok(Some(sealed)) = self.read_from(&partial(self.path)) else {
            return Ok(None);
        };
        self.name()?;
        Ok(Some(sealed))
    }

    fn read(self) -> Result<Option<Sealed>, SealError> {
        self.read_from(self.path)
    }

    fn read_from(self, path: &Path) -> Result<Option<Sealed>, SealError> {
        let failed = |e| SealError::io(path, e);
        let mut file = match open(path) {
            Ok(file) => file,
            // A state directory that is none is somebody else's to complain about.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let metadata = file.metadata().map_err(failed)?;
        // A volume with an fsGroup gives its group every file again at each mount; what is encrypted shows it nothing.
        let others = if self.key.is_some() { 0o007 } else { 0o077 };
        if metadata.uid() != nix::unistd::geteuid().as_raw() || metadata.mode() & others != 0 || !metadata.is_file() {
            return Err(SealError::NotOurs(path.to_owned()));
        }
        let mut bytes = Zeroizing::new(Vec::new());
        file.read_to_end(&mut bytes).map_err(failed)?;
        self.decode(bytes, path).map(Some)
    }

    fn encode(self, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let on_disk = OnDisk {
            token: sealed.token.expose().to_owned(),
            expires_at_ms: sealed.expires_at_ms,
        };
        let json = serde_json::to_vec(&on_disk).map_err(|_| SealError::Unreadable(self.path.to_owned()))?;
        let json = Zeroizing::new(json);
        match self.key {
            None => Ok(json),
            Some(key) => key
                .seal(&json)
                .map(Zeroizing::new)
                .map_err(|e| SealError::io(self.path, e)),
        }
    }

    fn decode(self, bytes: Zeroizing<Vec<u8>>, path: &Path) -> Result<Sealed, SealError> {
        let json = match self.key {
            None => bytes,
            Some(key) => key.open(&bytes).map_err(|error| match error {
                OpenError::OtherVersion(version) => SealError::OtherVersion {
                    path: path.to_owned(),
                    version,
                },
                OpenError::Refused => SealError::WrongKey(path.to_owned()),
            })?,
        };
        let on_disk: OnDisk = serde_json::from_slice(&json).map_err(|_| SealError::Unreadable(path.to_owned()))?;
        Ok(Sealed {
            token: Secret::new(on_disk.token),
            expires_at_ms: on_disk.expires_at_ms,
        })
    }
}

/// The temporary name of a file.
fn partial(path: &Path) -> PathBuf {
    path.with_added_extension("partial")
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const TOKEN: &str = "ghs_canary";

    fn sealed() -> Sealed {
        Sealed {
            token: Secret::new(TOKEN),
            expires_at_ms: 7,
        }
    }

    fn key(text: &str) -> SealKey {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text.repeat(32)).unwrap();
        SealKey::read(file.path()).unwrap()
    }

    /// A state and a secrets directory.
    struct Room(tempfile::TempDir);

    impl Room {
        fn new() -> Self {
            let room = Self(tempfile::tempdir().unwrap());
            for name in ["state", "secrets"] {
                fs::create_dir(room.path(name)).unwrap();
            }
            room
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn seal(&self, key: Option<SealKey>) -> Seal {
            Seal::new(&self.path("secrets"), &self.path("state"), key)
        }

        /// The two kinds of seal, each with its file.
        fn seals(&self) -> [(Seal, PathBuf); 2] {
            [
                (self.seal(None), self.path("secrets/token.json")),
                (self.seal(Some(key("k"))), self.path("state/token.sealed")),
            ]
        }

        fn is_empty(&self) -> bool {
            let files = |name| fs::read_dir(self.path(name)).unwrap().count();
            files("state") + files("secrets") == 0
        }
    }

    #[test]
    fn what_was_sealed_is_read_back_until_it_is_destroyed() {
        let room = Room::new();
        for (seal, file) in room.seals() {
            assert!(seal.read().unwrap().is_none());
            seal.write(&sealed()).unwrap();
            seal.write(&sealed()).unwrap();
            let read = seal.read().unwrap().unwrap();
            assert_eq!((read.token.expose(), read.facts()), (TOKEN, sealed().facts()));
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
            seal.destroy().unwrap();
            seal.destroy().unwrap();
            assert!(seal.read().unwrap().is_none());
            assert!(room.is_empty(), "each is in its own place: {file:?}");
        }
    }

    #[test]
    fn a_seal_that_is_whole_under_its_temporary_name_is_not_lost_and_half_of_one_is_none() {
        let room = Room::new();
        for (seal, file) in room.seals() {
            let partial = partial(&file);
            seal.write(&sealed()).unwrap();
            let whole = fs::read(&file).unwrap();
            fs::rename(&file, &partial).unwrap();
            assert!(seal.read().unwrap().is_none());
            assert_eq!(seal.recover().unwrap().unwrap().facts(), sealed().facts());
            assert!(seal.read().unwrap().is_some());
            fs::rename(&file, &partial).unwrap();
            for end in 0..whole.len() {
                fs::write(&partial, &whole[..end]).unwrap();
                assert!(seal.recover().unwrap().is_none(), "{end}");
            }
            seal.check().unwrap();
            seal.destroy().unwrap();
            assert!(room.is_empty(), "{file:?}");
        }
    }

    #[test]
    fn a_seal_that_is_a_link_or_open_to_others_is_refused() {
        let room = Room::new();
        for (seal, file) in room.seals() {
            symlink("/etc/passwd", &file).unwrap();
            assert!(matches!(seal.read(), Err(SealError::Io { .. })));
            fs::remove_file(&file).unwrap();
            seal.write(&sealed()).unwrap();
            for mode in [0o644, 0o602, 0o660] {
                fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
                let read = seal.read();
                if seal.key.is_some() && mode == 0o660 {
                    assert!(read.unwrap().is_some(), "a volume's group may have what is encrypted");
                } else {
                    assert!(matches!(read, Err(SealError::NotOurs(_))), "{mode:o}");
                }
            }
            fs::write(&file, "{").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(
                seal.read(),
                Err(SealError::Unreadable(_) | SealError::WrongKey(_))
            ));
            seal.destroy().unwrap();
        }
    }

    #[test]
    fn a_sealed_file_that_was_changed_or_cut_or_is_anothers_is_refused_and_shows_nothing_of_the_token() {
        let room = Room::new();
        let [_, (seal, file)] = room.seals();
        seal.write(&sealed()).unwrap();
        let whole = fs::read(&file).unwrap();
        for part in [TOKEN.as_bytes(), b"token\"", b"expires"] {
            assert!(!whole.windows(part.len()).any(|window| window == part));
        }
        let refused = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            let refused = |error| matches!(error, SealError::WrongKey(_) | SealError::OtherVersion { .. });
            [
                seal.check().map(|()| false),
                seal.read().map(|_| false),
                seal.recover().map(|_| false),
            ]
            .into_iter()
            .all(|found| found.unwrap_or_else(refused))
        };
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(refused(&flipped), "byte {at}");
            assert!(refused(&whole[..at]), "cut at {at}");
        }
        assert!(!refused(&whole), "the control");
        let other = room.seal(Some(key("x")));
        assert!(matches!(other.check(), Err(SealError::WrongKey(_))));
        assert!(matches!(other.read(), Err(SealError::WrongKey(_))));
    }

    #[test]
    fn a_token_that_is_encrypted_is_not_passed_over_without_a_key() {
        let room = Room::new();
        let [(plain, _), (encrypted, file)] = room.seals();
        plain.check().unwrap();
        encrypted.check().unwrap();
        encrypted.write(&sealed()).unwrap();
        encrypted.check().unwrap();
        assert!(matches!(plain.check(), Err(SealError::NoKey(path)) if path == file));
        fs::rename(&file, partial(&file)).unwrap();
        assert!(matches!(plain.check(), Err(SealError::NoKey(path)) if path == partial(&file)));
        plain.destroy().unwrap();
        plain.check().unwrap();
        assert!(room.is_empty());
    }

    #[test]
    fn a_token_that_was_sealed_without_a_key_is_found_with_one() {
        let room = Room::new();
        let [(plain, file), (encrypted, _)] = room.seals();
        plain.write(&sealed()).unwrap();
        assert!(encrypted.read().unwrap().is_some());
        fs::rename(&file, partial(&file)).unwrap();
        encrypted.check().unwrap();
        assert_eq!(encrypted.recover().unwrap().unwrap().facts(), sealed().facts());
        assert!(file.exists());
        encrypted.destroy().unwrap();
        assert!(room.is_empty());
    }
}
