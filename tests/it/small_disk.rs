//! A file system of a few MiB, which a test can fill. To mount one takes root.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Mounted until it is dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// At a directory that is there, with these options of tmpfs (tmpfs(5)).
    pub(crate) fn at(directory: &Path, options: &str) -> Self {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "runner-test"])
            .arg(directory)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&mounted.stderr);
        assert!(mounted.status.success(), "{said}");
        Self(directory.to_owned())
    }

    /// Fills it to its last byte, and says with which file.
    pub(crate) fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut filler = fs::File::create(&path).unwrap();
        for block in [&[b'x'; 4096][..], b"x"] {
            while filler.write_all(block).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
