//! The working tree: laid at the base commit, and known again after a restart.
//!
//! Which beginning of the work it belongs to, and whether an agent was let into it, is written down out of the agent's
//! reach.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use super::sandboxed::{io_failure, not_started};
use super::{World, failed};
use crate::adapters::git::GitError;
use crate::adapters::git::tree::{clear_stale_locks, lay_tree};
use crate::machine::{Checkout, Failure, Outcome};

/// What is there of the tree of a beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It was never laid whole.
    Nothing,
    /// It is there, and no agent was let into it.
    Laid,
    /// It is there, as an agent left it.
    Worked,
    /// It was there, and is gone.
    Lost,
}

/// Where the number of the beginning is, and `worked` where an agent was let into its tree.
fn mark(world: &World) -> PathBuf {
    world.places.agent_dir().join("tree")
}

const WORKED: &str = "worked";

/// What is there of this beginning.
pub(super) fn found(world: &World, anew: u32) -> Found {
    let marked = fs::read_to_string(mark(world)).unwrap_or_default();
    let mut words = marked.split_whitespace();
    if words.next().and_then(|number| number.parse().ok()) != Some(anew) {
        return Found::Nothing;
    }
    let there = world.places.repo().symlink_metadata().is_ok_and(|found| found.is_dir());
    match (there, words.next() == Some(WORKED)) {
        (true, true) => Found::Worked,
        (true, false) => Found::Laid,
        (false, true) => Found::Lost,
        (false, false) => Found::Nothing,
    }
}

/// Writes down that an agent is let into the tree, before it is.
pub(super) fn worked(world: &World, anew: u32) -> Result<(), Outcome> {
    // A crash in the middle of it would take the conversation for that of another tree.
    if found(world, anew) == Found::Worked {
        return Ok(());
    }
    let mark = mark(world);
    fs::write(&mark, format!("{anew} {WORKED}")).map_err(|error| io_failure(&mark, &error))
}

/// Lays it, whatever is there. No process of an agent lives.
pub(super) async fn lay(world: &World, checkout: &Checkout, anew: u32) -> Result<(), Outcome> {
    let mark = mark(world);
    // A crash from here on leaves a tree that is not marked, and is laid again.
    match fs::remove_file(&mark) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io_failure(&mark, &error)),
        Ok(()) | Err(_) => {}
    }
    make_places(world)?;
    let repo = world.places.repo();
    let laid = lay_tree(&world.git, &repo, &checkout.base, &checkout.branch, &world.author);
    laid.await.map_err(|error| refused(&error))?;
    fs::write(&mark, anew.to_string()).map_err(|error| io_failure(&mark, &error))
}

/// Makes a tree that is there fit to be gone on in: what a killed git has locked is free again.
pub(super) fn go_on(world: &World) -> Result<(), Outcome> {
    make_places(world)?;
    clear_stale_locks(&world.places.repo()).map_err(|error| refused(&error))
}

fn make_places(world: &World) -> Result<(), Outcome> {
    let places = &world.places;
    for dir in [places.agent_dir(), places.home(), places.tmp()] {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|error| io_failure(&dir, &error))?;
    }
    Ok(())
}

fn refused(error: &GitError) -> Outcome {
    if matches!(error, GitError::DiskFull { .. }) {
        failed(Failure::DiskFull, error.to_string())
    } else {
        not_started(&error.to_string())
    }
}
