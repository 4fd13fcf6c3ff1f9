//! The pure machine without the rest of the runner: the root of the crate `tests/machine`, of the same files. That it compiles
//! shows what the machine stands on; that it is small is why `bash .ci/prove mutants` can build it hundreds of times.

#![cfg(feature = "alone")]

pub mod ids;
pub mod machine;
pub mod record;
pub mod task;
pub mod text;
pub mod trace;

/// The version that a boot row names.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where the repository is.
#[cfg(test)]
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
