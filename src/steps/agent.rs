//! `agent`: a fresh tree at the base, an agent in it, and its end judged. What a killed runner left is looked at first.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{World, bounded, failed, lost, or_outcome, prompt};
use crate::adapters::agent::{
    self, Agent, AgentEnd, AgentKind, AgentReport as Said, AgentTrouble, Bounds, Claude, EndedBy, Judgement, MicroUsd,
    PrepareError, RunError, Standing, Start, Surroundings,
};
use crate::adapters::git::GitError;
use crate::adapters::git::tree::lay_tree;
use crate::adapters::model::{Proxy, Spent};
use crate::config::{AgentChoice, Settings};
use crate::crash::{self, CrashPoint, Inside};
use crate::driver::{AnswerLost, Call, Probe};
use crate::machine::{AgentReport, AgentRun, Fact, Failure, Millis, OnTerm, Outcome, Stopping, Trouble};
use crate::process::{self, Ended, Input, Launch, LaunchError, StartFailure, Stopped};
use crate::sandbox::{Confinement, Demand, InForce, Ports};
use crate::text::cut;

/// How long the processes of an earlier agent may take to die, after their runner did.
const OLD_AGENT_PATIENCE: Duration = Duration::from_mins(1);
/// What the agent said last is kept in a row, which is bounded: this many bytes of it, escapes and all.
const SUMMARY_LIMIT: usize = 6 * 1024;

/// What the agent gets from the settings beside the agent itself.
#[derive(Debug, Clone)]
pub(super) struct Allowance {
    pub(super) budget: MicroUsd,
    pub(super) env: Vec<String>,
    pub(super) ports: Ports,
}

/// The agent that the settings choose.
pub(super) fn chosen(settings: &Settings) -> Agent {
    match &settings.agent {
        AgentChoice::Command(command) => Agent::Command {
            command: command.clone(),
        },
        AgentChoice::Claude => Agent::Claude(Claude {
            program: PathBuf::from("claude"),
            // An empty one is how a manifest leaves it out.
            model: settings.options.agent_model.clone().filter(|model| !model.is_empty()),
            max_turns: settings.options.agent_max_turns,
        }),
    }
}

/// The files of one attempt.
struct Files {
    prompt: PathBuf,
    transcript: PathBuf,
    report: PathBuf,
    /// What it used of its model.
    account: PathBuf,
}

impl Files {
    fn of(world: &World, attempt: u32) -> Self {
        let dir = world.places.agent_dir();
        Self {
            prompt: dir.join(format!("prompt-{attempt}.md")),
            transcript: dir.join(format!("transcript-{attempt}.jsonl.zst")),
            report: dir.join(format!("ended-{attempt}.json")),
            account: dir.join(format!("spent-{attempt}.json")),
        }
    }
}

/// Why an agent is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The runner was told to stop.
    Told,
    /// It asked for more than it may spend.
    Budget,
}

/// What an attempt cost, after what earlier ones did.
struct Bill {
    earlier: MicroUsd,
    counted: Option<Spent>,
}

impl Bill {
    fn new(run: &AgentRun, counted: Option<Spent>) -> Self {
        Self {
            earlier: MicroUsd::from_micros(run.spent_micro_usd),
            // An agent that never asked through the proxy has its model elsewhere.
            counted: counted.filter(|spent| spent.requests > 0),
        }
    }

    /// What this attempt spent: as it was counted, but where an answer did not say what it used, no less than the agent says.
    fn of_attempt(&self, said: &Said) -> Option<MicroUsd> {
        match &self.counted {
            Some(spent) if spent.unknown_requests == 0 => Some(spent.cost_micro_usd),
            Some(spent) => Some(spent.cost_micro_usd.max(said.cost_usd.unwrap_or_default())),
            None => said.cost_usd,
        }
    }

    /// What all attempts spent; none where nothing is known.
    fn in_all(&self, said: &Said) -> Option<u64> {
        let attempt = self.of_attempt(said);
        let known = attempt.is_some() || self.earlier > MicroUsd::default();
        let sum = self
            .earlier
            .micros()
            .saturating_add(attempt.unwrap_or_default().micros());
        known.then_some(sum)
    }
}

pub(super) async fn probe(world: &World, run: &AgentRun, call: &Call) -> Result<Probe, AnswerLost> {
    free(world).await.map_err(|e| lost(e.to_string()))?;
    let files = Files::of(world, call.attempt);
    let started = u64::try_from(call.intended_at).unwrap_or(0);
    let started = SystemTime::UNIX_EPOCH + Duration::from_millis(started);
    let found = agent::probe(world.agent.kind(), &files.transcript, &files.report, started);
    let bill = Bill::new(run, Spent::kept(&files.account));
    let not_done = |ran| Probe::NotDone {
        ran_ms: millis(ran),
        spent_micro_usd: bill.of_attempt(&Said::default()).unwrap_or_default().micros(),
    };
    Ok(match found {
        Ok(agent::Probe::Finished { judgement, ended }) => Probe::Ended(judged(&judgement, &ended, &bill)),
        Ok(agent::Probe::NotFinished { ran }) => not_done(ran),
        // What proves nothing is no proof: the agent runs again.
        Err(_) => not_done(Duration::ZERO),
    })
}

pub(super) async fn act(world: &World, run: &AgentRun, call: &Call) -> Result<Outcome, AnswerLost> {
    // A change that could not be pushed any more is not paid for.
    or_outcome!(world.git_token(&run.task.repo, &run.token));
    let in_force = or_outcome!(world.sandbox_in_force().await);
    or_outcome!(free(world).await.map_err(|e| not_started(&e.to_string())));
    or_outcome!(lay(world, run).await);
    let files = Files::of(world, call.attempt);
    let model = or_outcome!(model_proxy(world, run, &files).await);
    let launch = or_outcome!(launch(world, run, call, &files, in_force.as_ref(), model.as_ref()));
    let timeout = Duration::from_millis(u64::try_from(run.time_left_ms).unwrap_or(0));
    let mut told = call.stop.clone();
    let stop = async {
        tokio::select! {
            // Without anybody who could tell, nobody does.
            Ok(_) = told.wait_for(|stopping| *stopping != Stopping::No) => Why::Told,
            () = out_of_budget(model.as_ref()) => Why::Budget,
        }
    };
    let kind = world.agent.kind();
    let watch = world.watch.clone();
    let on_activity = move |activity| watch(&activity);
    let end = agent::run(
        kind,
        &launch,
        &files.transcript,
        Bounds::new(timeout),
        stop,
        on_activity,
        world.redactor.clone(),
    )
    .await;
    let budget = match &model {
        Some(model) if model.refused_for_budget() => Budget::Spent,
        Some(_) | None => Budget::Enough,
    };
    let bill = Bill::new(run, settle(model, &files));
    crash::at(CrashPoint::Inside(Inside::AgentDead));
    Ok(match end {
        Ok(end) => outcome(world, &end, timeout, budget, &bill),
        Err(error) => not_run(&error),
    })
}

/// Whether an agent asked for more than it may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Budget {
    Enough,
    Spent,
}

/// The way to the model, where the runner has a key for it. It is there for as long as what comes back is held.
async fn model_proxy(world: &World, run: &AgentRun, files: &Files) -> Result<Option<Proxy>, Outcome> {
    let Some(upstream) = &world.model else {
        return Ok(None);
    };
    let proxy = Proxy::start(upstream.clone(), left(world, run), files.account.clone());
    proxy.await.map(Some).map_err(|error| not_started(&error.to_string()))
}

/// What may still be spent, after all earlier attempts.
fn left(world: &World, run: &AgentRun) -> MicroUsd {
    let budget = world.allowance.budget.micros();
    MicroUsd::from_micros(budget.saturating_sub(run.spent_micro_usd))
}

async fn out_of_budget(model: Option<&Proxy>) {
    match model {
        Some(model) => model.out_of_budget().await,
        None => std::future::pending().await,
    }
}

/// Ends the way to the model, and writes the account of it down.
fn settle(model: Option<Proxy>, files: &Files) -> Option<Spent> {
    let spent = model.as_ref().map(Proxy::spent);
    drop(model);
    if let Some(spent) = &spent {
        // Where it cannot be written, the outcome has it nevertheless.
        drop(spent.keep(&files.account));
        for (model, tokens) in spent.models.iter().filter(|(_, tokens)| tokens.price_assumed) {
            let used = tokens.input.saturating_add(tokens.output);
            tracing::warn!(
                "the model {model:?} has no price here: its {used} tokens are charged as those of the dearest; RUNNER_MODEL_PRICES \
                 sets one"
            );
        }
    }
    spent
}

/// Whether there is anything to start, and a sandbox that hides what it must: asked before the one-time token is spent.
pub(super) fn can_be_started(world: &World, in_force: Option<&InForce>) -> Result<(), Outcome> {
    let git = world.git.git_program();
    if !git.is_file() {
        let cause = format!("{} is not in PATH; install git", git.display());
        return Err(failed(Failure::CloneFailed, cause));
    }
    if let Agent::Claude(claude) = &world.agent
        && which::which(&claude.program).is_err()
    {
        let cause = format!("{} is not in PATH", claude.program.display());
        return Err(failed(Failure::AgentMissing, cause));
    }
    if let Some(in_force) = in_force {
        let path = std::env::var_os("PATH");
        exposes_nothing(world, in_force, confinement(world, git, path.as_ref()))?;
    }
    Ok(())
}

/// Everything that a git in the agent's tree is started with, but for itself.
pub(super) async fn git_in_the_sandbox(world: &World) -> Result<Launch, Outcome> {
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
        lock: world.places.agent_lock(),
        report: world.places.agent_dir().join("handover.json"),
        grace: world.kill_grace,
    })
}

/// Waits until no process of an earlier agent lives: nothing of ours touches the workspace before.
async fn free(world: &World) -> Result<(), LaunchError> {
    let lock = world.places.agent_lock();
    let again = lock.clone();
    let waited = tokio::task::spawn_blocking(move || process::wait_until_free(&lock, OLD_AGENT_PATIENCE).map(drop));
    waited.await.unwrap_or(Err(LaunchError::LockHeld { lock: again }))
}

async fn lay(world: &World, run: &AgentRun) -> Result<(), Outcome> {
    let places = &world.places;
    for dir in [places.agent_dir(), places.home(), places.tmp()] {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|e| io_failure(&dir, &e))?;
    }
    let repo = places.repo();
    let laid = lay_tree(
        &world.git,
        &repo,
        &run.checkout.base,
        &run.checkout.branch,
        &world.author,
    );
    laid.await.map_err(|error| {
        if matches!(error, GitError::DiskFull { .. }) {
            failed(Failure::DiskFull, error.to_string())
        } else {
            not_started(&error.to_string())
        }
    })
}

fn launch(
    world: &World,
    run: &AgentRun,
    call: &Call,
    files: &Files,
    in_force: Option<&InForce>,
    model: Option<&Proxy>,
) -> Result<Launch, Outcome> {
    let places = &world.places;
    let desk = places.agent_dir().join(format!("desk-{}", call.attempt));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&desk)
        .map_err(|e| io_failure(&desk, &e))?;
    let text =
        prompt::compose(&run.task, &run.checkout, &world.rules.protected, &desk).map_err(|e| io_failure(&desk, &e))?;
    let text = match world.agent.kind() {
        AgentKind::Claude => text,
        // It has no system prompt to put this into.
        AgentKind::Command => format!("{}\n{text}", prompt::INSTRUCTIONS),
    };
    fs::write(&files.prompt, text).map_err(|e| io_failure(&files.prompt, &e))?;
    let start = prepare(world, run, call, &desk, in_force, model)?;
    let confined = in_force.map(|in_force| {
        let path = start
            .env
            .iter()
            .find(|(name, _)| name == "PATH")
            .map(|(_, value)| value);
        let mut confinement = confinement(world, &start.program, path);
        confinement.read_only.push(desk);
        if let Some(model) = model {
            confinement.ports.allow(model.port());
        }
        exposes_nothing(world, in_force, confinement)
    });
    Ok(Launch {
        runner: places.runner.clone(),
        program: start.program,
        args: start.args,
        cwd: places.repo(),
        env: start.env,
        stdin: Input::File(files.prompt.clone()),
        confinement: confined.transpose()?,
        require: in_force.map_or(Demand::BestEffort, |sandbox| sandbox.demand),
        lock: places.agent_lock(),
        report: files.report.clone(),
        grace: world.kill_grace,
    })
}

fn prepare(
    world: &World,
    run: &AgentRun,
    call: &Call,
    desk: &Path,
    in_force: Option<&InForce>,
    model: Option<&Proxy>,
) -> Result<Start, Outcome> {
    let confined = in_force.is_some_and(InForce::hides_files);
    let standing = match (nix::unistd::geteuid().is_root(), confined) {
        (false, _) => Standing::User,
        (true, true) => Standing::RootInSandbox,
        (true, false) => Standing::RootWithoutSandbox,
    };
    let lookup = |name: &str| std::env::var_os(name);
    let prepared = world.agent.prepare(&Surroundings {
        task: &call.assignment.task_id,
        attempt: call.attempt,
        home: &world.places.home(),
        tmp: &world.places.tmp(),
        desk,
        instructions: Some(prompt::INSTRUCTIONS),
        standing,
        budget: left(world, run),
        model: model.map(Proxy::access).as_ref(),
        passed: &world.allowance.env,
        lookup: &lookup,
    });
    prepared.map_err(|error| match &error {
        PrepareError::Missing { .. } => failed(Failure::AgentMissing, error.to_string()),
        PrepareError::Write { path, source } => io_failure(path, source),
        PrepareError::OwnVariable { .. } => failed(Failure::Internal, error.to_string()),
    })
}

fn confinement(world: &World, program: &Path, path: Option<&OsString>) -> Confinement {
    let places = &world.places;
    let path = path.map(OsString::as_os_str);
    let mut confinement = Confinement::for_agent(&places.workspace, &places.home(), &places.tmp(), program, path);
    confinement.ports = world.allowance.ports.clone();
    confinement
}

/// What the agent may reach has nothing around it that it may not. Where nothing is hidden, that says nothing.
fn exposes_nothing(world: &World, in_force: &InForce, confinement: Confinement) -> Result<Confinement, Outcome> {
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

fn io_failure(path: &Path, error: &std::io::Error) -> Outcome {
    let text = format!("failed to write {}: {error}", path.display());
    let full = matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    );
    failed(if full { Failure::DiskFull } else { Failure::Internal }, text)
}

fn not_started(cause: &str) -> Outcome {
    no_result(format!("the agent could not be started: {cause}"), 0, None)
}

fn no_result(cause: String, ran_ms: Millis, spent: Option<MicroUsd>) -> Outcome {
    Outcome::Retry {
        trouble: Trouble::NoResult,
        cause: bounded(cause),
        after_ms: None,
        ran_ms,
        spent_micro_usd: spent.unwrap_or_default().micros(),
    }
}

fn not_run(error: &RunError) -> Outcome {
    match error {
        RunError::Transcript { path, source } => io_failure(path, source),
        RunError::Launch(_) | RunError::TranscriptExists { .. } => not_started(&error.to_string()),
    }
}

fn outcome(world: &World, end: &AgentEnd<Why>, timeout: Duration, budget: Budget, bill: &Bill) -> Outcome {
    // What is done is done, whatever ended it.
    if let Judgement::Succeeded(_) = end.judgement {
        return judged(&end.judgement, &end.ended, bill);
    }
    let stopped = |failure, cause: String| Outcome::Failed {
        failure,
        cause: bounded(cause),
        agent: Some(reported(end.judgement.report(), &end.ended, bill)),
    };
    // A terminal's Ctrl-C reaches the supervisor as well as the runner, and may reach it first.
    let told = end.ended.stopped == Stopped::Asked && end.by == EndedBy::Itself;
    match (end.by, budget) {
        (EndedBy::Itself, _) if told => interrupted(world, end, bill, stopped),
        (EndedBy::Stop(Why::Told), _) => interrupted(world, end, bill, stopped),
        (EndedBy::TimeOut, _) => stopped(
            Failure::AgentTimedOut,
            format!("It was stopped after {} s.", timeout.as_secs()),
        ),
        // Refused, it may have gone by itself before it was stopped.
        (EndedBy::Stop(Why::Budget), _)
        | (EndedBy::Itself | EndedBy::Idle | EndedBy::LingeredAfterResult, Budget::Spent) => {
            let spent = MicroUsd::from_micros(bill.in_all(end.judgement.report()).unwrap_or_default());
            let budget = world.allowance.budget;
            stopped(
                Failure::AgentBudgetExceeded,
                format!("It asked for more after it had spent ${spent} of ${budget}, and was stopped."),
            )
        }
        (EndedBy::Itself | EndedBy::Idle | EndedBy::LingeredAfterResult, Budget::Enough) => {
            judged(&end.judgement, &end.ended, bill)
        }
    }
}

fn interrupted(
    world: &World,
    end: &AgentEnd<Why>,
    bill: &Bill,
    stopped: impl Fn(Failure, String) -> Outcome,
) -> Outcome {
    match world.on_term {
        OnTerm::Park => Outcome::Parked {
            ran_ms: millis(end.ended.ran),
            spent_micro_usd: bill.of_attempt(end.judgement.report()).unwrap_or_default().micros(),
        },
        OnTerm::Report => stopped(
            Failure::Interrupted,
            "It was told to stop while the agent ran.".to_owned(),
        ),
    }
}

fn judged(judgement: &Judgement, ended: &Ended, bill: &Bill) -> Outcome {
    match judgement {
        Judgement::Succeeded(said) => Outcome::Done {
            fact: Fact::AgentEnded(reported(said, ended, bill)),
        },
        Judgement::Failed {
            trouble,
            message,
            report,
        } => Outcome::Failed {
            failure: failure(*trouble, ended),
            cause: bounded(message),
            agent: Some(reported(report, ended, bill)),
        },
        Judgement::NoResult { exit, stderr, report } => {
            let cause = format!("the agent ended with {exit} and no result: {}", stderr.trim());
            no_result(cause, millis(ended.ran), bill.of_attempt(report))
        }
    }
}

fn failure(trouble: AgentTrouble, ended: &Ended) -> Failure {
    match trouble {
        AgentTrouble::TurnsExceeded => Failure::AgentTurnsExceeded,
        AgentTrouble::BudgetExceeded => Failure::AgentBudgetExceeded,
        AgentTrouble::Missing => Failure::AgentMissing,
        AgentTrouble::NotStarted => match ended.failure {
            Some(StartFailure::Sandbox { .. }) => Failure::SandboxUnavailable,
            Some(_) | None => Failure::AgentMissing,
        },
        AgentTrouble::Failed | AgentTrouble::NotLoggedIn | AgentTrouble::Api { .. } | AgentTrouble::Interrupted => {
            Failure::AgentFailed
        }
    }
}

fn reported(said: &Said, ended: &Ended, bill: &Bill) -> AgentReport {
    let counted = bill.counted.as_ref().map(Spent::total);
    AgentReport {
        summary: said.summary.as_deref().map(|text| cut(text, SUMMARY_LIMIT)),
        cost_micro_usd: bill.in_all(said),
        turns: said.turns,
        input_tokens: counted.map(|tokens| tokens.input).or(said.input_tokens),
        output_tokens: counted.map(|tokens| tokens.output).or(said.output_tokens),
        session_id: said.session_id.as_deref().map(|id| cut(id, 200)),
        model: said.model.as_deref().map(|name| cut(name, 200)),
        ran_ms: millis(ended.ran),
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
