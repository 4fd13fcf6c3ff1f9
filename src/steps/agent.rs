//! `agent`: the agent in its tree, and its end judged. What a killed runner left is looked at first, and where there is a
//! conversation, it is gone on with.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::prompt::{self, Told};
use super::sandboxed::{self, Beside, confinement, exposes_nothing, free, io_failure, no_room, not_started};
use super::tree::Found;
use super::{World, failed, lost, or_outcome, time_from, tree};
use crate::adapters::agent::{
    self, Agent, AgentKind, AgentReport as Said, Bounds, Claude, Conversation, Haste, MicroUsd, Order, Place,
    PrepareError, Seen, Standing, Start, Surroundings,
};
use crate::adapters::model::{Metered, Proxy, Spent};
use crate::cgroup::{Membership, Memory};
use crate::config::{AgentChoice, Settings};
use crate::crash::{self, CrashPoint, Inside};
use crate::driver::{AnswerLost, Call, Probe};
use crate::machine::{AgentRun, Failure, Left, Next, Note, Outcome, Stopping, Tree, Trouble};
use crate::process::{Input, Launch};
use crate::sandbox::{InForce, Ports};
use crate::trace::Trace;
use bill::Bill;
use ending::{Attempt, Why};

mod bill;
mod ending;
mod missing;

/// What is set aside on the state directory's disk while the agent runs: the end of the transcript, its account, the rows until
/// the verdict with their log, and the change in the private repository, where it is not large.
const FOR_THE_END: u64 = 4 * 1024 * 1024;

/// What the agent gets from the settings beside the agent itself.
#[derive(Debug, Clone)]
pub(super) struct Allowance {
    pub(super) budget: MicroUsd,
    pub(super) idle: Duration,
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
            repo_config: settings.options.repo_config,
            plugins: settings.plugins.clone(),
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

/// Where a start of the agent begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// In a tree that is to be laid.
    Afresh,
    /// In the tree as it is, in a new conversation or without one.
    InTheTree,
    /// In the tree as it is, in the conversation that it broke off.
    WhereItWas,
}

/// What the disk allows. None where what it has to go on in is gone.
fn begin(world: &World, run: &AgentRun) -> Option<Begin> {
    let home = world.places.home();
    let knows = run.session.is_some_and(|session| world.agent.knows(&home, session));
    let prepared = run.tree == Tree::Prepared;
    match (tree::found(world, run.anew), knows) {
        (Found::Worked, true) => Some(Begin::WhereItWas),
        // What it is to mend is in the tree, whoever remembers how it came there.
        (Found::Worked, false) if run.repair.is_some() => Some(Begin::InTheTree),
        (Found::Laid, false) if prepared => Some(Begin::InTheTree),
        (Found::Laid | Found::Nothing, false) if !prepared && run.repair.is_none() => Some(Begin::Afresh),
        // Half of a change that nobody remembers, or a conversation of a tree that is gone, whose id would be refused.
        (Found::Worked | Found::Laid | Found::Nothing | Found::Lost, _) => None,
    }
}

/// Where the next start begins after one that came to no end. An agent without conversations cannot know what it had done;
/// what it is to mend is in the tree.
fn next(world: &World, run: &AgentRun) -> Next {
    match (world.agent.kind(), &run.repair) {
        (AgentKind::Claude, _) | (AgentKind::Command, Some(_)) => Next::GoOn,
        (AgentKind::Command, None) => Next::BeginAnew,
    }
}

pub(super) async fn probe(world: &World, run: &AgentRun, call: &Call) -> Result<Probe, AnswerLost> {
    free(world).await.map_err(|e| lost(e.to_string()))?;
    let files = Files::of(world, call.attempt);
    let started = u64::try_from(call.intended_at).unwrap_or(0);
    let started = SystemTime::UNIX_EPOCH + Duration::from_millis(started);
    let found = agent::probe(world.agent.kind(), &files.transcript, &files.report, started);
    let bill = Bill::new(run, Spent::kept(&files.account));
    let not_done = |ran, said: &Said| {
        Probe::NotDone(Left {
            effort: bill.effort(said, ran),
            next: next(world, run),
        })
    };
    Ok(match found {
        Ok(agent::Probe::Finished { judgement, ended }) => {
            let outcome = ending::judged(&judgement, &ended, &bill, next(world, run));
            Probe::Ended(missing::told(world, judgement.report(), outcome))
        }
        Ok(agent::Probe::NotFinished { ran, report }) => {
            // Its own figure for the cost goes on in its conversation: a later start says it again.
            let said = Said {
                cost_usd: None,
                ..*report
            };
            not_done(ran, &said)
        }
        // What proves nothing is no proof: the agent runs again.
        Err(_) => not_done(Duration::ZERO, &Said::default()),
    })
}

pub(super) async fn act(world: &World, run: &AgentRun, call: &Call) -> Result<Outcome, AnswerLost> {
    let planned = Instant::now();
    // A change that could not be pushed any more is not paid for.
    or_outcome!(world.git_token(&run.task.repo, &run.token));
    let in_force = or_outcome!(world.sandbox_in_force().await);
    or_outcome!(free(world).await.map_err(|e| not_started(&e.to_string())));
    let Some(begin) = begin(world, run) else {
        return Ok(nothing_to_go_on_in("its working tree or its conversation is gone"));
    };
    match begin {
        Begin::Afresh => or_outcome!(tree::lay(world, &run.checkout, run.anew).await),
        Begin::InTheTree | Begin::WhereItWas => or_outcome!(tree::go_on(world)),
    }
    let files = Files::of(world, call.attempt);
    let model = or_outcome!(model_proxy(world, run, &files).await);
    let desk = or_outcome!(desk(world, call));
    let told = or_outcome!(told(world, run, begin, &desk).await);
    let launch = or_outcome!(launch(
        world,
        run,
        &files,
        begin,
        &desk,
        &told,
        in_force.as_ref(),
        model.as_ref(),
        world.trace(call),
    ));
    or_outcome!(tree::worked(world, run.anew));
    let bounds = Bounds {
        idle: Some(world.allowance.idle),
        ..Bounds::new(time_from(planned, run.time_left))
    };
    let mut stopping = call.stop.clone();
    let memory = Memory::of(&Membership::of_this_process());
    let kills_before = memory.kills();
    let in_order = |reason| Order {
        reason,
        haste: Haste::InOrder,
    };
    let stop = async {
        tokio::select! {
            // Without anybody who could tell, nobody does.
            Ok(_) = stopping.wait_for(|stopping| *stopping != Stopping::No) => in_order(Why::Told),
            () = out_of_budget(model.as_ref()) => in_order(Why::Budget),
            () = world.forwarder.ended_elsewhere() => in_order(Why::EndedElsewhere),
            // What is left of it would be gone before a grace is over, and the runner with it.
            used = memory.runs_out() => Order { reason: Why::Memory(used), haste: Haste::AtOnce },
        }
    };
    let kind = world.agent.kind();
    let (watch, forwarder) = (world.watch.clone(), world.forwarder.clone());
    let see = move |seen| {
        watch(&seen);
        if let Seen::Does(activity) = &seen {
            forwarder.activity(activity);
        }
    };
    let launched = Instant::now();
    let end = agent::run(
        kind,
        &launch,
        &files.transcript,
        bounds,
        stop,
        see,
        world.redactor.clone(),
    )
    .await;
    let refused_for_budget = model.as_ref().is_some_and(Proxy::refused_for_budget);
    let bill = Bill::new(run, settle(model, &files));
    let killed = memory.kills().saturating_sub(kills_before);
    if killed > 0 {
        world.note(Note::OutOfMemory { killed });
    }
    crash::at(CrashPoint::Inside(Inside::AgentDead));
    Ok(match end {
        Ok(end) => {
            if let Some(unkept) = &end.unkept {
                tracing::warn!("what the agent said is not all there: {unkept}");
            }
            let outcome = ending::outcome(&Attempt {
                end: &end,
                run,
                bounds,
                bill: &bill,
                refused_for_budget,
                killed,
                resumed: begin == Begin::WhereItWas,
                next: next(world, run),
                budget: world.allowance.budget,
                on_term: world.on_term,
            });
            missing::told(world, end.judgement.report(), outcome)
        }
        Err(error) => ending::not_run(&error, &bill, launched.elapsed(), next(world, run)),
    })
}

/// What was to be gone on in is gone. That is no fault of the agent, which has not been started.
fn nothing_to_go_on_in(cause: &str) -> Outcome {
    Outcome::Retry {
        trouble: Trouble::NothingToGoOnIn,
        cause: format!("the agent begins anew: {cause}"),
        after_ms: None,
        left: Left {
            next: Next::BeginAnew,
            ..Left::default()
        },
    }
}

/// The way to the model, where the runner has a key for it. It is there for as long as what comes back is held.
async fn model_proxy(world: &World, run: &AgentRun, files: &Files) -> Result<Option<Proxy>, Outcome> {
    let Some(upstream) = &world.model else {
        return Ok(None);
    };
    let proxy = Proxy::start(
        upstream.clone(),
        left(world, run),
        files.account.clone(),
        world.redactor.clone(),
    );
    let proxy = proxy.await.map_err(|error| not_started(&error.to_string()))?;
    let (count, watch) = (world.metrics.model_watch(), world.watch.clone());
    proxy.tell(Arc::new(move |metered| {
        count(metered);
        if let Metered::Ended(request) = metered {
            watch(&Seen::Spent(request.spent));
        }
    }));
    Ok(Some(proxy))
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

/// Where the runner puts what the agent of this attempt may read beside its workspace.
fn desk(world: &World, call: &Call) -> Result<PathBuf, Outcome> {
    let desk = world.places.agent_dir().join(format!("desk-{}", call.attempt));
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&desk);
    made.map_err(|e| io_failure(&desk, &e))?;
    Ok(desk)
}

/// What it is told: the rules each time, and of the task what it does not know yet.
async fn told(world: &World, run: &AgentRun, begin: Begin, desk: &Path) -> Result<Told, Outcome> {
    let whole = || {
        let whole = prompt::compose(&run.task, &run.checkout, &world.rules.protected, desk);
        whole.map_err(|e| io_failure(desk, &e))
    };
    let text = match (begin, &run.repair) {
        (Begin::WhereItWas, None) => prompt::resumed().to_owned(),
        (Begin::WhereItWas, Some(check)) => prompt::repair(check, None),
        (Begin::Afresh | Begin::InTheTree, None) => whole()?,
        (Begin::Afresh | Begin::InTheTree, Some(check)) => prompt::repair(check, Some(&whole()?)),
    };
    let instructions = world.instructions.told(&world.git, &run.checkout.base).await;
    let instructions = instructions.map_err(|error| not_started(&error.to_string()))?;
    Ok(Told::new(world.agent.kind(), instructions, text))
}

#[expect(clippy::too_many_arguments, reason = "each is one thing that a start is made of")]
fn launch(
    world: &World,
    run: &AgentRun,
    files: &Files,
    begin: Begin,
    desk: &Path,
    told: &Told,
    in_force: Option<&InForce>,
    model: Option<&Proxy>,
    trace: Option<Trace>,
) -> Result<Launch, Outcome> {
    fs::write(&files.prompt, &told.prompt).map_err(|e| io_failure(&files.prompt, &e))?;
    let start = prepare(world, run, begin, desk, told.system.as_deref(), in_force, model)?;
    let beside = Beside {
        stdin: Input::File(files.prompt.clone()),
        report: files.report.clone(),
        desk: Some(desk),
        port: model.map(Proxy::port),
        trace,
    };
    let launch = sandboxed::launch(world, in_force, start, beside)?;
    Ok(Launch {
        set_aside: FOR_THE_END,
        ..launch
    })
}

fn prepare(
    world: &World,
    run: &AgentRun,
    begin: Begin,
    desk: &Path,
    instructions: Option<&str>,
    in_force: Option<&InForce>,
    model: Option<&Proxy>,
) -> Result<Start, Outcome> {
    let confined = in_force.is_some_and(InForce::hides_files);
    let standing = match (nix::unistd::geteuid().is_root(), confined) {
        (false, _) => Standing::User,
        (true, true) => Standing::RootInSandbox,
        (true, false) => Standing::RootWithoutSandbox,
    };
    let prepared = world.agent.prepare(&Surroundings {
        place: Place {
            home: &world.places.home(),
            tmp: &world.places.tmp(),
            passed: &world.allowance.env,
            lookup: &|name| std::env::var_os(name),
        },
        conversation: run.session.map(|session| match begin {
            Begin::WhereItWas => Conversation::GoOn(session),
            Begin::Afresh | Begin::InTheTree => Conversation::Begin(session),
        }),
        desk,
        instructions,
        standing,
        budget: left(world, run),
        turns: run.turns_left,
        model: model.map(Proxy::access).as_ref(),
    });
    prepared.map_err(|error| match &error {
        PrepareError::Missing { .. } => failed(Failure::AgentMissing, error.to_string()),
        PrepareError::Write { path, source } => io_failure(path, source),
        PrepareError::OwnVariable { .. } => failed(Failure::Internal, error.to_string()),
    })
}
