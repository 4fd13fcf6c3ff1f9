//! What the figures were measured on.

use std::fs;
use std::path::Path;

/// Cores, processor, kernel, and the file system that a directory is on.
pub(crate) fn described(directory: &Path) -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unnamed processor", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "machine: {cores} cores, {model}; Linux {}; {} under {}; load {}",
        kernel.trim(),
        file_system(directory),
        directory.display(),
        load.split(' ').next().unwrap_or("unknown"),
    )
}

fn file_system(directory: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let around = fields.filter(|(mount, _)| directory.starts_with(mount));
    // The last of those that are as long lies over the others.
    around
        .max_by_key(|(mount, _)| mount.len())
        .map_or("?", |(_, kind)| kind)
        .to_owned()
}
