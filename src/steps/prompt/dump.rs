//! What an agent would be told, without one being started.

use std::path::Path;

use thiserror::Error;

use super::Told;
use crate::adapters::git::GitError;
use crate::ids::{InvalidName, TaskId};
use crate::machine::Checkout;
use crate::secret::Secret;
use crate::steps::World;
use crate::task::Task;

/// Why it cannot be said what an agent would be told.
#[derive(Debug, Error)]
pub enum DumpError {
    /// The repository cannot be cloned, or its files not read.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The task's id makes no branch.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl World {
    /// Clones the repository as a run does, and says what the agent of a first attempt would be told. `state` is the state
    /// directory that the run would have: a long context would be in a file there.
    pub async fn told(
        &self,
        task: &Task,
        id: &TaskId,
        token: Option<&Secret>,
        state: &Path,
    ) -> Result<Told, DumpError> {
        let branch = format!("{}{id}", self.branch_prefix).parse()?;
        let cloned = self
            .git
            .clone(&task.repo, token, task.git_ref.as_ref(), &branch)
            .await?;
        let instructions = self.instructions.told(&self.git, &cloned.base).await?;
        let checkout = Checkout {
            base: cloned.base,
            base_branch: cloned.base_branch,
            branch,
        };
        let desk = state.join("agent/desk-1");
        let prompt = super::begin(task, &checkout, &self.rules.protected, &desk);
        Ok(Told::new(self.agent.kind(), instructions, prompt))
    }
}
