//! The environment on its way over an exec: as the kernel keeps it, in a file that is in memory alone.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;

use nix::sys::memfd::{MFdFlags, memfd_create};

/// Writes the variables to a descriptor that an exec hands on.
pub(super) fn hand_over(variables: impl Iterator<Item = (OsString, OsString)>) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"environment", MFdFlags::empty())?);
    file.write_all(&encode(variables))?;
    Ok(file)
}

/// Reads the variables from a descriptor, and closes it.
pub(super) fn take_over(descriptor: RawFd) -> io::Result<Vec<(OsString, OsString)>> {
    // Opened anew, and so from its beginning.
    let entries = fs::read(format!("/proc/self/fd/{descriptor}"));
    nix::unistd::close(descriptor)?;
    Ok(decode(&entries?))
}

fn encode(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<u8> {
    let mut entries = Vec::new();
    for (name, value) in variables {
        for part in [name.as_bytes(), b"=", value.as_bytes(), b"\0"] {
            entries.extend_from_slice(part);
        }
    }
    entries
}

fn decode(entries: &[u8]) -> Vec<(OsString, OsString)> {
    let owned = |bytes| OsStr::from_bytes(bytes).to_owned();
    entries
        .split(|byte| *byte == 0)
        .filter_map(|entry| {
            // As the standard library has it: a name may begin with the sign.
            let sign = 1 + entry.iter().skip(1).position(|byte| *byte == b'=')?;
            Some((owned(entry.get(..sign)?), owned(entry.get(sign + 1..)?)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::fd::IntoRawFd;
    use std::os::unix::ffi::OsStringExt;

    proptest! {
        #[test]
        fn any_environment_survives(
            names in proptest::collection::vec("=?[^=\0]{1,8}", 0..5),
            value in proptest::collection::vec(1_u8.., 0..20),
        ) {
            let variables: Vec<_> = names
                .into_iter()
                .map(|name| (OsString::from(name), OsString::from_vec(value.clone())))
                .collect();
            let file = hand_over(variables.clone().into_iter()).unwrap();
            prop_assert_eq!(take_over(file.into_raw_fd()).unwrap(), variables);
        }
    }
}
