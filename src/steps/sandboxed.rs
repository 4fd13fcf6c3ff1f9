//! What runs in the working tree runs in one sandbox: the agent, the operator's commands, git at the hand-over.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{World, bounded, failed};
use crate::adapters::agent::Start;
use crate::disk;
use crate::machine::{Failure, Left, Outcome, Trouble};
use crate::process::{self, Input, Launch, LaunchError};
use crate::sandbox::{Confinement, Demand, InForce};
use crate::trace::Trace;

/// How long the processes of an earlier agent may take to die, after their runner did.
const OLD_AGENT_PATIENCE: Duration = Duration::from_mins(1);

/// Held by the supervisor for as long as a process of the agent lives.
fn agent_lock(state: &Path) -> PathBuf {
    state.join("agent.lock")
}

/// Waits until no process of an earlier agent lives: nothing of ours touches the workspace before.
pub(super) async fn free(world: &World) -> Result<(), LaunchError> {
    wait_for_earlier(agent_lock(&world.places.state)).await
}

/// Waits until no process of an earlier agent lives in this state directory, and what was set aside there for its end is free
/// again. False where no agent was ever started there.
pub async fn give_room_back(state: &Path) -> Result<bool, LaunchError> {
    let lock = agent_lock(state);
    if !lock.exists() {
        return Ok(false);
    }
    tracing::warn!(
        "a disk is full: the start waits for what an earlier agent's supervisor has set aside in {}",
        state.display()
    );
    wait_for_earlier(lock).await.map(|()| true)
}

async fn wait_for_earlier(lock: PathBuf) -> Result<(), LaunchError> {
    let again = lock.clone();
    let waited = tokio::task::spawn_blocking(move || process::wait_until_free(&lock, OLD_AGENT_PATIENCE).map(drop));
    waited.await.unwrap_or(Err(LaunchError::LockHeld { lock: again }))
}

/// Everything that a git in the agent's tree is started with, but for itself.
pub(super) async fn git(world: &World) -> Result<Launch, Outcome> {
    let in_force = world.sandbox_in_force().await?;
    let confinement = in_force
        .as_ref()
        .map(|in_force| {
            let git = world.git.git_program();
            let mut confinement = confinement(world, git, None);
            confinement.read_only.push(world.git.objects());
            exposes_nothing(world, in_force, confinement)
        })
        .transpose()?;
    Ok(Launch {
        runner: world.places.runner.clone(),
        program: PathBuf::new(),
        args: Vec::new(),
        cwd: world.places.workspace.clone(),
        env: Vec::new(),
        stdin: Input::Null,
        confinement,
        require: in_force.map_or(Demand::BestEffort, |sandbox| sandbox.demand),
        lock: agent_lock(&world.places.state),
        report: world.places.agent_dir().join("handover.json"),
        grace: world.kill_grace,
        set_aside: 0,
    })
}

/// What a program in the tree has beside its place there.
pub(super) struct Beside<'a> {
    pub(super) stdin: Input,
    /// Where its supervisor reports.
    pub(super) report: PathBuf,
    /// A directory of the runner's that it may read.
    pub(super) desk: Option<&'a Path>,
    /// A port that it may connect to, wherever those are limited.
    pub(super) port: Option<u16>,
    /// What it is told of the trace.
    pub(super) trace: Option<Trace>,
}

/// Everything that a program in the tree is started with.
pub(super) fn launch(
    world: &World,
    in_force: Option<&InForce>,
    start: Start,
    beside: Beside<'_>,
) -> Result<Launch, Outcome> {
    let places = &world.places;
    let confined = in_force.map(|in_force| {
        let mut confinement = confinement(world, &start.program, start.path());
        confinement.read_only.extend(beside.desk.map(Path::to_owned));
        confinement.read_execute.extend(start.reach.iter().cloned());
        if let Some(port) = beside.port {
            confinement.ports.allow(port);
        }
        exposes_nothing(world, in_force, confinement)
    });
    Ok(Launch {
        runner: places.runner.clone(),
        program: start.program,
        args: start.args,
        cwd: places.repo(),
        env: in_trace(start.env, beside.trace.as_ref()),
        stdin: beside.stdin,
        confinement: confined.transpose()?,
        require: in_force.map_or(Demand::BestEffort, |sandbox| sandbox.demand),
        lock: agent_lock(&places.state),
        report: beside.report,
        grace: world.kill_grace,
        set_aside: 0,
    })
}

/// An environment that names the span which it is a part of: ours, also where the operator hands over its own.
fn in_trace(mut env: Vec<(String, OsString)>, trace: Option<&Trace>) -> Vec<(String, OsString)> {
    if let Some(trace) = trace {
        env.retain(|(name, _)| !matches!(name.as_str(), "TRACEPARENT" | "TRACESTATE"));
        env.extend(trace.variables().map(|(name, value)| (name.to_owned(), value.into())));
    }
    env
}

/// What a program of the agent's may reach.
pub(super) fn confinement(world: &World, program: &Path, path: Option<&OsString>) -> Confinement {
    let places = &world.places;
    let path = path.map(OsString::as_os_str);
    let mut confinement = Confinement::for_agent(&places.workspace, &places.home(), &places.tmp(), program, path);
    confinement.ports = world.allowance.ports.clone();
    confinement
}

/// What the agent may reach has nothing around it that it may not. Where nothing is hidden, that says nothing.
pub(super) fn exposes_nothing(
    world: &World,
    in_force: &InForce,
    confinement: Confinement,
) -> Result<Confinement, Outcome> {
    if !in_force.hides_files() {
        return Ok(confinement);
    }
    let places = &world.places;
    let mut hidden = vec![places.state.clone(), places.secrets.clone(), places.journal.clone()];
    hidden.extend(places.seal_key.clone());
    hidden.extend(places.model_key.clone());
    match confinement.excludes(&hidden) {
        Ok(()) => Ok(confinement),
        Err(exposed) => Err(failed(Failure::SandboxUnavailable, exposed.to_string())),
    }
}

/// What a file that cannot be written means.
pub(super) fn io_failure(path: &Path, error: &std::io::Error) -> Outcome {
    failed(no_room(error), format!("failed to write {}: {error}", path.display()))
}

/// Whether the disk is full, or this machine cannot do it.
pub(super) fn no_room(error: &std::io::Error) -> Failure {
    if disk::is_full(error) {
        Failure::DiskFull
    } else {
        Failure::Internal
    }
}

/// What could not be started may be started later.
pub(super) fn not_started(cause: &str) -> Outcome {
    Outcome::Retry {
        trouble: Trouble::NoResult,
        cause: bounded(format!("it could not be started: {cause}")),
        after_ms: None,
        left: Left::default(),
    }
}
