//! How much memory and how many processes this process's control groups allow (versions 1 and 2).

use std::fs;
use std::path::Path;

use indicatif::BinaryBytes;

use super::{Check, CheckName};

/// An agent and a build need this much, in bytes.
const LEAST_MEMORY: u64 = 1 << 30;
/// Version 1 says "no limit" as the largest number of whole pages.
const NO_LIMIT: u64 = 1 << 60;

pub(super) fn check() -> Check {
    let name = CheckName::Limits;
    let memberships = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let root = Path::new("/sys/fs/cgroup");
    let memory = limit(root, &memberships, "memory", "memory.limit_in_bytes", "memory.max");
    let processes = limit(root, &memberships, "pids", "pids.max", "pids.max");
    let found = format!(
        "memory {}, processes {}",
        memory.map_or("without a limit".to_owned(), |bytes| BinaryBytes(bytes).to_string()),
        processes.map_or("without a limit".to_owned(), |count| count.to_string()),
    );
    match memory {
        Some(bytes) if bytes < LEAST_MEMORY => Check::warn(name, found, "give it 1 GiB or more: --memory 4g"),
        Some(_) | None => Check::ok(name, found),
    }
}

/// The least limit of the groups that this process is in, of which a container sees some. `v1` and `v2` are the files.
fn limit(root: &Path, memberships: &str, controller: &str, v1: &str, v2: &str) -> Option<u64> {
    let mut limits = Vec::new();
    for membership in memberships.lines() {
        let mut fields = membership.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (tops, file) = if controllers.is_empty() {
            (vec![root.to_owned(), root.join("unified")], v2)
        } else if controllers.split(',').any(|one| one == controller) {
            (vec![root.join(controllers)], v1)
        } else {
            continue;
        };
        for top in tops {
            for group in Path::new(group.trim_start_matches('/')).ancestors() {
                let text = fs::read_to_string(top.join(group).join(file)).unwrap_or_default();
                limits.extend(text.trim().parse::<u64>().ok().filter(|limit| *limit < NO_LIMIT));
            }
        }
    }
    limits.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, file: &str, text: &str) {
        let file = root.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn the_least_of_all_groups_counts_in_both_versions() {
        let groups = tempfile::tempdir().unwrap();
        let root = groups.path();
        put(root, "pod/memory.max", "2147483648\n");
        put(root, "pod/container/memory.max", "max\n");
        put(root, "memory/docker/a/memory.limit_in_bytes", "9223372036854771712\n");
        put(root, "memory/memory.limit_in_bytes", "536870912\n");
        let memory = |memberships: &str| limit(root, memberships, "memory", "memory.limit_in_bytes", "memory.max");
        assert_eq!(memory("0::/pod/container\n"), Some(2 << 30));
        assert_eq!(memory("0::/elsewhere\n"), None);
        assert_eq!(memory("5:memory:/docker/a\n0::/\n"), Some(512 << 20));
        // Version 1 without a namespace: the path is the host's, and what is there is the container's own.
        assert_eq!(memory("5:memory:/docker/not/seen/here\n"), Some(512 << 20));
        assert_eq!(memory(""), None);
    }
}
