//! Runs one coding-agent task per container.

pub mod ids;
pub mod machine;
pub mod secret;
