//! `setup` and `check`: the operator's commands in the working tree, in the agent's sandbox and with its environment.

use std::time::Instant;

use super::sandboxed::{self, Beside, free, not_started};
use super::{World, bounded, failed, or_outcome, time_from, tree};
use crate::adapters::agent::{Place, shell};
use crate::adapters::command::{self, CommandEnded};
use crate::driver::{AnswerLost, Call};
use crate::machine::{CommandEnd, CommandRun, Fact, Failure, InTree, Left, Millis, OnTerm, Outcome, Stopping};
use crate::process::{Input, Launch};
use crate::text::cut_front;

/// How much of the end of what a command prints is journaled, in bytes; escaped it still fits into a row.
const OUTPUT_LIMIT: usize = 6 * 1024;

/// Prepares a fresh tree. Where the command fails, no agent is paid.
pub(super) async fn set_up(world: &World, at: &InTree, call: &Call) -> Result<Outcome, AnswerLost> {
    let planned = Instant::now();
    let Some(command) = &world.commands.setup else {
        return Ok(failed(
            Failure::Internal,
            "there is no set-up command in the settings any more",
        ));
    };
    or_outcome!(free(world).await.map_err(|e| not_started(&e.to_string())));
    or_outcome!(tree::lay(world, &at.checkout, at.anew).await);
    let ended = or_outcome!(run(world, command, "setup", at, planned, call).await);
    if ended.end == CommandEnd::Interrupted && world.on_term == OnTerm::Park {
        return Ok(Outcome::Parked(Left::default()));
    }
    let setup = journaled(&ended);
    Ok(match setup.end {
        CommandEnd::Exit(0) => Outcome::Done {
            fact: Fact::SetUp(setup),
        },
        CommandEnd::NotStarted => not_started(&setup.output),
        CommandEnd::Interrupted => failed(
            Failure::Interrupted,
            "It was told to stop while the set-up command ran.",
        ),
        CommandEnd::Exit(_) | CommandEnd::Signal(_) | CommandEnd::TimedOut => {
            let mut cause = format!("It ended with {}", setup.end);
            if setup.end == CommandEnd::TimedOut {
                cause = format!("It was stopped by {}", at.time_left.bound.sentence());
            }
            failed(
                Failure::SetupFailed,
                bounded(format!(
                    "{cause} after {} s: {}",
                    setup.ran_ms / 1000,
                    cut_front(&setup.output, 3000)
                )),
            )
        }
    })
}

/// Checks the tree as the agent left it. That it cannot be done is an answer as well.
pub(super) async fn check(world: &World, at: &InTree, call: &Call) -> Result<Outcome, AnswerLost> {
    let planned = Instant::now();
    let none = |output: String| {
        Ok(Outcome::Done {
            fact: Fact::Checked(CommandRun {
                end: CommandEnd::NotStarted,
                ran_ms: 0,
                output,
            }),
        })
    };
    let Some(command) = &world.commands.check else {
        return none("there is no check command in the settings any more".to_owned());
    };
    if let Err(error) = free(world).await {
        return none(error.to_string());
    }
    let ended = match run(world, command, "check", at, planned, call).await {
        Ok(ended) => ended,
        Err(Outcome::Failed { cause, .. } | Outcome::Retry { cause, .. }) => return none(cause),
        Err(outcome) => return Ok(outcome),
    };
    if ended.end == CommandEnd::Interrupted && world.on_term == OnTerm::Park {
        return Ok(Outcome::Parked(Left::default()));
    }
    Ok(Outcome::Done {
        fact: Fact::Checked(journaled(&ended)),
    })
}

fn journaled(ended: &CommandEnded) -> CommandRun {
    CommandRun {
        end: ended.end,
        ran_ms: Millis::try_from(ended.ran.as_millis()).unwrap_or(Millis::MAX),
        output: cut_front(&ended.output, OUTPUT_LIMIT),
    }
}

async fn run(
    world: &World,
    command: &str,
    name: &str,
    at: &InTree,
    planned: Instant,
    call: &Call,
) -> Result<CommandEnded, Outcome> {
    let launch = launch(world, command, name, call).await?;
    let within = time_from(planned, at.time_left);
    let mut told = call.stop.clone();
    let stop = async {
        tokio::select! {
            // Without anybody who could tell, nobody does.
            Ok(_) = told.wait_for(|stopping| *stopping != Stopping::No) => {}
            () = world.forwarder.ended_elsewhere() => {}
        }
    };
    let ended = command::run(&launch, within, stop, OUTPUT_LIMIT, &world.redactor).await;
    let ended = ended.map_err(|error| not_started(&error.to_string()))?;
    if ended.end == CommandEnd::Interrupted && world.forwarder.has_ended_elsewhere() {
        return Err(Outcome::Superseded);
    }
    Ok(ended)
}

async fn launch(world: &World, command: &str, name: &str, call: &Call) -> Result<Launch, Outcome> {
    let in_force = world.sandbox_in_force().await?;
    let places = &world.places;
    // Both outputs are one, so that what it printed is in its order.
    let command = format!("exec 2>&1\n{command}");
    let start = shell(
        &command,
        &Place {
            home: &places.home(),
            tmp: &places.tmp(),
            passed: &world.allowance.env,
            lookup: &|name| std::env::var_os(name),
        },
    );
    let start = start.map_err(|error| failed(Failure::Internal, error.to_string()))?;
    let beside = Beside {
        stdin: Input::Null,
        report: places.agent_dir().join(format!("{name}-{}.json", call.attempt)),
        desk: None,
        port: None,
        trace: world.trace(call),
    };
    sandboxed::launch(world, in_force.as_ref(), start, beside)
}
