//! How much memory and how many processes this process's control groups allow.

use indicatif::BinaryBytes;

use super::{Check, CheckName};
use crate::cgroup::Membership;

/// An agent and a build need this much, in bytes.
const LEAST_MEMORY: u64 = 1 << 30;

pub(super) fn check() -> Check {
    let name = CheckName::Limits;
    let membership = Membership::of_this_process();
    let memory = membership.memory_limit();
    let processes = membership.process_limit();
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
