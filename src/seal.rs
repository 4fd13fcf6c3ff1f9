//! The sealed token: one file in the secrets directory, written so that it is there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::crash::{self, CrashPoint, Inside};
use crate::machine::{Millis, TokenFacts};
use crate::secret::Secret;

const NAME: &str = "token.json";

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
}

/// The seal in its directory.
#[derive(Debug, Clone)]
pub struct Seal {
    dir: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct OnDisk {
    token: String,
    expires_at_ms: Millis,
}

impl Seal {
    /// The seal below a secrets directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Writes the token down: synced before this returns, and never half there.
    pub fn write(&self, sealed: &Sealed) -> Result<(), SealError> {
        let path = self.path();
        let partial = self.partial();
        let failed = |source: io::Error| {
            if source.kind() == io::ErrorKind::StorageFull {
                SealError::DiskFull(path.clone())
            } else {
                SealError::Io {
                    path: path.clone(),
                    source,
                }
            }
        };
        let on_disk = OnDisk {
            token: sealed.token.expose().to_owned(),
            expires_at_ms: sealed.expires_at_ms,
        };
        let json = serde_json::to_vec(&on_disk).map_err(|_| SealError::Unreadable(path.clone()))?;
        match fs::remove_file(&partial) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            Ok(()) | Err(_) => {}
        }
        let written = create(&partial)
            .and_then(|mut file| file.write_all(&json).and_then(|()| file.sync_all()))
            .map_err(failed);
        if let Err(error) = written {
            // Half a secret is no use to anyone.
            let _ = fs::remove_file(&partial);
            return Err(error);
        }
        crash::at(CrashPoint::Inside(Inside::SealWritten));
        self.name()
    }

    /// Finishes what a killed process began: a seal that is whole under its temporary name gets its own. A token is
    /// given once, so none that was received is thrown away. Gives what is sealed then.
    pub fn recover(&self) -> Result<Option<Sealed>, SealError> {
        if let Some(sealed) = self.read()? {
            return Ok(Some(sealed));
        }
        // What was cut off has no closing brace, and is no JSON.
        let Ok(Some(sealed)) = read(self.partial()) else {
            return Ok(None);
        };
        self.name()?;
        Ok(Some(sealed))
    }

    fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    fn partial(&self) -> PathBuf {
        self.dir.join(format!("{NAME}.partial"))
    }

    /// Gives a whole seal its own name, for good.
    fn name(&self) -> Result<(), SealError> {
        let path = self.path();
        let failed = |source| SealError::Io {
            path: path.clone(),
            source,
        };
        fs::rename(self.partial(), &path).map_err(failed)?;
        crash::at(CrashPoint::Inside(Inside::SealRenamed));
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    /// The token, if one is sealed.
    pub fn read(&self) -> Result<Option<Sealed>, SealError> {
        read(self.path())
    }

    /// Removes the token: nothing needs it once the task is over.
    pub fn destroy(&self) -> Result<(), SealError> {
        for path in [self.path(), self.partial()] {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(SealError::Io { path, source }),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

fn read(path: PathBuf) -> Result<Option<Sealed>, SealError> {
    let failed = |source| SealError::Io {
        path: path.clone(),
        source,
    };
    let mut file = match open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if metadata.uid() != nix::unistd::geteuid().as_raw() || metadata.mode() & 0o077 != 0 || !metadata.is_file() {
        return Err(SealError::NotOurs(path));
    }
    let on_disk: OnDisk = serde_json::from_reader(&mut file).map_err(|_| SealError::Unreadable(path.clone()))?;
    Ok(Some(Sealed {
        token: Secret::new(on_disk.token),
        expires_at_ms: on_disk.expires_at_ms,
    }))
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
    use super::*;

    fn sealed() -> Sealed {
        Sealed {
            token: Secret::new("ghs_canary"),
            expires_at_ms: 7,
        }
    }

    #[test]
    fn what_was_sealed_is_read_back_until_it_is_destroyed() {
        let dir = tempfile::tempdir().unwrap();
        let seal = Seal::new(dir.path());
        assert!(seal.read().unwrap().is_none());
        seal.write(&sealed()).unwrap();
        seal.write(&sealed()).unwrap();
        assert_eq!(seal.read().unwrap().unwrap().facts(), sealed().facts());
        let mode = fs::metadata(dir.path().join(NAME)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        seal.destroy().unwrap();
        seal.destroy().unwrap();
        assert!(seal.read().unwrap().is_none());
    }

    #[test]
    fn a_seal_that_is_whole_under_its_temporary_name_is_not_lost_and_half_of_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let seal = Seal::new(dir.path());
        seal.write(&sealed()).unwrap();
        let whole = fs::read(dir.path().join(NAME)).unwrap();
        fs::rename(seal.path(), seal.partial()).unwrap();
        assert!(seal.read().unwrap().is_none());
        assert_eq!(seal.recover().unwrap().unwrap().facts(), sealed().facts());
        assert!(seal.read().unwrap().is_some());
        fs::rename(seal.path(), seal.partial()).unwrap();
        for end in 0..whole.len() {
            fs::write(seal.partial(), &whole[..end]).unwrap();
            assert!(seal.recover().unwrap().is_none(), "{end}");
        }
        seal.destroy().unwrap();
        assert!(!seal.partial().exists());
    }

    #[test]
    fn a_seal_that_is_a_link_or_open_to_others_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let seal = Seal::new(dir.path());
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join(NAME)).unwrap();
        assert!(matches!(seal.read(), Err(SealError::Io { .. })));
        fs::remove_file(dir.path().join(NAME)).unwrap();
        seal.write(&sealed()).unwrap();
        fs::set_permissions(dir.path().join(NAME), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(seal.read(), Err(SealError::NotOurs(_))));
        fs::write(dir.path().join(NAME), "{").unwrap();
        fs::set_permissions(dir.path().join(NAME), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(seal.read(), Err(SealError::Unreadable(_))));
    }
}
