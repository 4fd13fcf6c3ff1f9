//! Runs one coding-agent task per container.

pub mod ids;
pub mod secret;
