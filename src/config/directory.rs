//! The directories of a task: whether they can be used, and made where they are not there.

use std::io::Write;
use std::path::Path;

use super::ConfigError;
use crate::disk;

/// A directory of a task.
#[derive(Debug, Clone, Copy)]
pub struct Directory<'a> {
    /// The variable that names it.
    pub variable: &'static str,
    /// Where it is, or is to be made.
    pub path: &'a Path,
    pub(super) access: Access,
}

/// Who may reach into a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// This user alone.
    Private,
    /// Whoever its mode lets.
    Any,
}

impl Directory<'_> {
    /// Whether it can be used, or could be made. Makes and changes nothing.
    pub fn check(&self) -> Result<(), ConfigError> {
        could_be_written(self.path).map_err(|source| self.unwritable(source))?;
        match (self.access, std::fs::symlink_metadata(self.path)) {
            (Access::Private, Ok(found)) => self.is_safe(&found),
            (Access::Private, Err(_)) | (Access::Any, _) => Ok(()),
        }
    }

    pub(super) fn prepare(&self) -> Result<(), ConfigError> {
        use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.path)
            .and_then(|()| tempfile::Builder::new().prefix(".writable").tempfile_in(self.path))
            // A full file system may still take an empty file.
            .and_then(|mut file| file.write_all(&[0; 4096]))
            .map_err(|source| self.unwritable(source))?;
        if self.access == Access::Any {
            return Ok(());
        }
        let found = std::fs::symlink_metadata(self.path).map_err(|source| self.unwritable(source))?;
        self.is_safe(&found)?;
        let ours = found.uid() == nix::unistd::geteuid().as_raw();
        if ours && found.permissions().mode() & 0o077 != 0 {
            std::fs::set_permissions(self.path, std::fs::Permissions::from_mode(0o700))
                .map_err(|source| self.unwritable(source))?;
        }
        Ok(())
    }

    /// A volume may belong to root and be ours by its group, as Kubernetes' fsGroup has it.
    fn is_safe(&self, found: &std::fs::Metadata) -> Result<(), ConfigError> {
        use std::os::unix::fs::MetadataExt;
        let why = if found.file_type().is_symlink() {
            "a symbolic link"
        } else if found.uid() != nix::unistd::geteuid().as_raw() && found.uid() != 0 {
            "which belongs to another user"
        } else {
            return Ok(());
        };
        Err(ConfigError::UnsafeDirectory {
            variable: self.variable,
            path: self.path.to_owned(),
            why,
        })
    }

    fn unwritable(&self, source: std::io::Error) -> ConfigError {
        let (variable, path) = (self.variable, self.path.to_owned());
        if disk::is_full(&source) {
            ConfigError::FullDirectory { variable, path, source }
        } else {
            ConfigError::UnwritableDirectory { variable, path, source }
        }
    }
}

/// Whether a directory is there and can be written, or could be made where its nearest ancestor is. Makes nothing.
pub(crate) fn could_be_written(path: &Path) -> std::io::Result<()> {
    use nix::unistd::{AccessFlags, access};
    let path = std::path::absolute(path)?;
    let there = path.ancestors().find_map(|dir| match std::fs::metadata(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        found => Some(found.map(|found| (dir.to_owned(), found.is_dir()))),
    });
    match there.transpose()? {
        Some((dir, true)) => access(&dir, AccessFlags::W_OK | AccessFlags::X_OK).map_err(Into::into),
        Some((_, false)) | None => Err(std::io::ErrorKind::NotADirectory.into()),
    }
}
