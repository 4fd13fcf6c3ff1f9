//! Which descriptors an exec would hand on.

use std::fs;

/// `O_CLOEXEC` as `/proc/self/fdinfo` prints it, in octal.
const CLOSE_ON_EXEC: u32 = 0o2_000_000;

/// Every descriptor above standard error that is open without close-on-exec.
pub(crate) fn inheritable() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|descriptor| *descriptor > 2 && is_inheritable(*descriptor))
        .collect()
}

/// The directory of the listing itself has close-on-exec, or is gone when it is looked at.
fn is_inheritable(descriptor: i32) -> bool {
    let Ok(info) = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")) else {
        return false;
    };
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_none_or(|flags| flags & CLOSE_ON_EXEC == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_file_of_ours_is_not_inheritable_and_one_without_close_on_exec_is() {
        let ours = fs::File::open("/dev/null").unwrap();
        assert!(!is_inheritable(ours.as_raw_fd()));
        let leaky = nix::fcntl::fcntl(&ours, nix::fcntl::FcntlArg::F_DUPFD(3)).unwrap();
        let found = inheritable();
        nix::unistd::close(leaky).unwrap();
        assert!(found.contains(&leaky), "{found:?}");
    }
}
