//! The control groups that this process is in (versions 1 and 2): what they allow it, and how near its end its memory is.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::BinaryBytes;

/// Version 1 says "no limit" as the largest number of whole pages.
const NO_LIMIT: u64 = 1 << 60;
/// How often the memory in use is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Which kind of control groups, and so which names their files have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The groups of one controller: this process's own, then those around it, as far as they can be seen from here.
#[derive(Debug)]
struct Hierarchy {
    version: Version,
    groups: Vec<PathBuf>,
}

/// Where this process is in which hierarchy, as the kernel says it.
pub(crate) struct Membership {
    /// `/proc/self/cgroup`.
    groups: String,
    /// `/proc/self/mountinfo`.
    mounts: String,
}

impl Membership {
    pub(crate) fn of_this_process() -> Self {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        Self {
            groups: read("/proc/self/cgroup"),
            mounts: read("/proc/self/mountinfo"),
        }
    }

    fn hierarchies(&self, controller: &str) -> Vec<Hierarchy> {
        self.mounts
            .lines()
            .filter_map(|mount| self.hierarchy(mount, controller))
            .collect()
    }

    /// What a mount shows of the controller's groups, if it does.
    fn hierarchy(&self, mount: &str, controller: &str) -> Option<Hierarchy> {
        let (mount, file_system) = mount.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, Path::new(mount.next()?));
        let mut file_system = file_system.split(' ');
        let (kind, options) = (file_system.next()?, file_system.nth(1).unwrap_or_default());
        let names = |list: &str| list.split(',').any(|name| name == controller);
        let version = match kind {
            "cgroup2" => Version::Two,
            "cgroup" if names(options) => Version::One,
            _ => return None,
        };
        let own = self.groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, group) = (fields.next()?, fields.next()?);
            let is_it = match version {
                Version::One => names(controllers),
                Version::Two => controllers.is_empty(),
            };
            is_it.then_some(group)
        })?;
        // Where the mount does not show the group (version 1 without a namespace names it as the host does), what is there
        // is the container's own.
        let below = Path::new(own).strip_prefix(root).unwrap_or(Path::new(""));
        let below = if below.components().any(|part| part.as_os_str() == "..") {
            Path::new("")
        } else {
            below
        };
        Some(Hierarchy {
            version,
            groups: below.ancestors().map(|group| point.join(group)).collect(),
        })
    }

    /// The least limit on memory, in bytes.
    pub(crate) fn memory_limit(&self) -> Option<u64> {
        self.limit("memory", |version| version.memory().limit)
    }

    /// The least limit on processes.
    pub(crate) fn process_limit(&self) -> Option<u64> {
        self.limit("pids", |_| "pids.max")
    }

    fn limit(&self, controller: &str, file: impl Fn(Version) -> &'static str) -> Option<u64> {
        let limits = self.hierarchies(controller).into_iter().flat_map(|hierarchy| {
            let file = file(hierarchy.version);
            let limit = move |group: PathBuf| limit(&group.join(file));
            hierarchy.groups.into_iter().filter_map(limit)
        });
        limits.min()
    }
}

/// How a version calls what it says of memory.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// Of `memory.stat`: what the kernel takes back before it kills anything.
    reclaimable: &'static [&'static str],
    /// Counts the processes that were killed.
    kills: &'static str,
}

impl Version {
    fn memory(self) -> &'static Files {
        match self {
            Self::One => &Files {
                limit: "memory.limit_in_bytes",
                used: "memory.usage_in_bytes",
                reclaimable: &["total_inactive_file", "total_active_file"],
                kills: "memory.oom_control",
            },
            Self::Two => &Files {
                limit: "memory.max",
                used: "memory.current",
                reclaimable: &["inactive_file", "active_file", "slab_reclaimable"],
                kills: "memory.events",
            },
        }
    }
}

fn limit(file: &Path) -> Option<u64> {
    number(file).filter(|limit| *limit < NO_LIMIT)
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number beside a name.
fn named(text: &str, name: &str) -> Option<u64> {
    let fields = text.lines().filter_map(|line| line.split_once(' '));
    let (_, number) = fields.into_iter().find(|(field, _)| *field == name)?;
    number.trim().parse().ok()
}

/// How much of its memory a group uses, without what the kernel could take back (files that it keeps in memory).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) used: u64,
    pub(crate) limit: u64,
}

impl Use {
    /// Whether 95 % are in use: a little later, the kernel kills.
    fn is_critical(self) -> bool {
        u128::from(self.used) * 100 >= u128::from(self.limit) * 95
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", BinaryBytes(self.used), BinaryBytes(self.limit))
    }
}

/// The memory of the groups that this process is in.
#[derive(Debug)]
pub(crate) struct Memory {
    /// The groups with a limit.
    limited: Vec<(Version, PathBuf)>,
    /// Where the kills in this process's own group are counted.
    kills: Option<PathBuf>,
}

impl Memory {
    pub(crate) fn of(membership: &Membership) -> Self {
        let hierarchies = membership.hierarchies("memory");
        let own = |hierarchy: &Hierarchy| {
            let file = hierarchy.groups.first()?.join(hierarchy.version.memory().kills);
            kills_in(&file).map(|_| file)
        };
        Self {
            kills: hierarchies.iter().find_map(own),
            limited: hierarchies
                .into_iter()
                .flat_map(|Hierarchy { version, groups }| groups.into_iter().map(move |group| (version, group)))
                .filter(|(version, group)| limit(&group.join(version.memory().limit)).is_some())
                .collect(),
        }
    }

    /// How many processes of this process's group, and of those in it, were killed for want of memory since it is there.
    pub(crate) fn kills(&self) -> u64 {
        self.kills.as_deref().and_then(kills_in).unwrap_or_default()
    }

    /// Waits until a group has used up nearly all that it may. For ever where there is no limit.
    pub(crate) async fn runs_out(&self) -> Use {
        if self.limited.is_empty() {
            std::future::pending::<()>().await;
        }
        loop {
            if let Some(critical) = self.critical() {
                return critical;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn critical(&self) -> Option<Use> {
        self.limited
            .iter()
            .find_map(|(version, group)| critical(version.memory(), group))
    }
}

fn critical(files: &Files, group: &Path) -> Option<Use> {
    // Read anew each time: limits are changed while a container runs.
    let limit = limit(&group.join(files.limit))?;
    let used = number(&group.join(files.used))?;
    // The statistics cost the kernel something: they are asked for only where they could matter.
    if !(Use { used, limit }).is_critical() {
        return None;
    }
    let statistics = fs::read_to_string(group.join("memory.stat")).ok()?;
    let reclaimable = files.reclaimable.iter().filter_map(|name| named(&statistics, name));
    let used = used.saturating_sub(reclaimable.sum());
    Some(Use { used, limit }).filter(|it| it.is_critical())
}

fn kills_in(file: &Path) -> Option<u64> {
    named(&fs::read_to_string(file).ok()?, "oom_kill")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files as the kernel would show them.
    struct Groups {
        root: tempfile::TempDir,
        membership: Membership,
    }

    impl Groups {
        /// Version 2, in a group inside a pod's.
        fn two() -> Self {
            Self::new("0::/pod/container\n", &[("/", "", "cgroup2", "rw")])
        }

        fn new(groups: &str, mounts: &[(&str, &str, &str, &str)]) -> Self {
            let root = tempfile::tempdir().unwrap();
            let line = |(shown, point, kind, options): &(&str, &str, &str, &str)| {
                let point = root.path().join(point);
                let point = point.to_str().unwrap().trim_end_matches('/');
                format!("35 31 0:32 {shown} {point} rw,relatime shared:9 - {kind} {kind} {options}\n")
            };
            let mounts = mounts.iter().map(line).collect();
            let groups = groups.to_owned();
            Self {
                root,
                membership: Membership { groups, mounts },
            }
        }

        fn put(&self, file: &str, text: &str) {
            let file = self.root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }

        fn memory(&self) -> Memory {
            Memory::of(&self.membership)
        }
    }

    const V1: [(&str, &str, &str, &str); 3] = [
        ("/", "cpu", "cgroup", "rw,cpu"),
        ("/", "memory", "cgroup", "rw,memory"),
        ("/", "unified", "cgroup2", "rw"),
    ];

    #[test]
    fn the_least_limit_of_all_groups_that_are_seen_counts_in_both_versions() {
        let groups = Groups::two();
        groups.put("memory.max", "max\n");
        groups.put("pod/memory.max", "2147483648\n");
        groups.put("pod/container/memory.max", "max\n");
        groups.put("pod/container/pids.max", "512\n");
        assert_eq!(groups.membership.memory_limit(), Some(2 << 30));
        assert_eq!(groups.membership.process_limit(), Some(512));

        for group in ["/docker/a", "/docker/not/seen/here"] {
            let groups = Groups::new(&format!("9:cpu:/x\n5:memory:{group}\n0::/\n"), &V1);
            groups.put("memory/docker/a/memory.limit_in_bytes", "9223372036854771712\n");
            groups.put("memory/memory.limit_in_bytes", "536870912\n");
            groups.put("cpu/memory.limit_in_bytes", "1\n");
            assert_eq!(groups.membership.memory_limit(), Some(512 << 20));
        }
        assert_eq!(Groups::new("", &V1).membership.memory_limit(), None);
    }

    #[test]
    fn a_group_is_found_below_what_its_mount_shows_and_never_above() {
        // A bind mount of the container's own group, and a group outside of the namespace's root.
        for (own, shown) in [("/docker/a/inner", "/docker/a"), ("/../inner", "/")] {
            let groups = Groups::new(&format!("0::{own}\n"), &[(shown, "", "cgroup2", "rw")]);
            groups.put("memory.max", "100\n");
            groups.put("inner/memory.max", "50\n");
            let expected = if own.contains("..") { 100 } else { 50 };
            assert_eq!(groups.membership.memory_limit(), Some(expected), "{own}");
        }
    }

    #[test]
    fn memory_is_critical_at_95_percent_without_what_the_kernel_could_take_back() {
        let groups = Groups::two();
        groups.put("pod/memory.max", "1000\n");
        groups.put("pod/memory.stat", "anon 1\nfile 1\ninactive_file 0\nactive_file 0\n");
        let used = |bytes: u64| {
            groups.put("pod/memory.current", &format!("{bytes}\n"));
            groups.memory().critical()
        };
        assert_eq!(used(949), None);
        let all = Use { used: 950, limit: 1000 };
        assert_eq!(used(950), Some(all));
        groups.put(
            "pod/memory.stat",
            "inactive_file 30\nactive_file 20\nslab_reclaimable 10\n",
        );
        assert_eq!(used(1000), None);
        assert_eq!(used(1010), Some(all));
        // A limit that is raised while it runs.
        groups.put("pod/memory.max", "max\n");
        assert_eq!(used(5000), None);
    }

    #[test]
    fn version_1_has_other_names_for_the_same() {
        let groups = Groups::new("4:memory:/a\n", &V1);
        groups.put("memory/a/memory.limit_in_bytes", "1000\n");
        groups.put("memory/a/memory.usage_in_bytes", "1000\n");
        groups.put(
            "memory/a/memory.stat",
            "inactive_file 900\ntotal_inactive_file 40\ntotal_active_file 0\n",
        );
        groups.put(
            "memory/a/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        );
        let memory = groups.memory();
        let used = Use { used: 960, limit: 1000 };
        assert_eq!((memory.critical(), memory.kills()), (Some(used), 3));
    }

    #[test]
    fn kills_are_those_of_this_processs_own_group() {
        let groups = Groups::two();
        groups.put("pod/memory.events", "oom 9\noom_kill 9\n");
        groups.put(
            "pod/container/memory.events",
            "low 0\noom 7\noom_kill 2\noom_group_kill 0\n",
        );
        assert_eq!(groups.memory().kills(), 2);
        assert_eq!(Groups::two().memory().kills(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_memory_is_waited_for_and_without_a_limit_for_ever() {
        let groups = Groups::two();
        let hour = Duration::from_hours(1);
        assert!(tokio::time::timeout(hour, groups.memory().runs_out()).await.is_err());
        groups.put("pod/memory.max", "1000\n");
        groups.put("pod/memory.stat", "\n");
        groups.put("pod/memory.current", "10\n");
        let memory = groups.memory();
        assert!(tokio::time::timeout(hour, memory.runs_out()).await.is_err());
        groups.put("pod/memory.current", "990\n");
        assert_eq!(tokio::time::timeout(hour, memory.runs_out()).await.unwrap().used, 990);
    }
}
