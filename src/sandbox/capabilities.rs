//! Takes from root what Landlock does not hold: with `CAP_PERFMON`, a kernel since 6.15 lets a process read the environ
//! and the memory maps of processes outside its Landlock domain (measured on 6.18).

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, remove_capability_from_bounding_set,
    set_capabilities,
};

/// What work on files and packages as root needs.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::NET_BIND_SERVICE);

/// Makes sure that the next exec gains no other capability, whoever the user is. No more than that: those held now are
/// gone with the exec. Without capabilities, and with no-new-privileges set, there is nothing to gain.
pub(super) fn give_up() -> Result<(), Errno> {
    let held = capabilities(None)?;
    if held.permitted.is_empty() {
        return Ok(());
    }
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        // The kernel refuses to look at numbers that it does not know.
        if !KEPT.contains(capability) && capability_is_in_bounding_set(capability) == Ok(true) {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    set_capabilities(
        None,
        CapabilitySets {
            inheritable: CapabilitySet::empty(),
            ..held
        },
    )
}
