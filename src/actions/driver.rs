//! The second machine's loop: replay, plan, do, write down. Being told to stop is the one thing that it waits for beside.

use std::time::Duration;

use runner_journal::{AppendError, Opened};
use thiserror::Error;
use tokio::time::Instant;

use super::machine::{
    Assignment, Effect, EffectName, Event, Exit, Finding, IllegalTransition, Left, Note, Outcome, Plan, Policy, Run,
    Situation, Verdict, plan,
};
use super::record::{self, ActionsMachine};
use super::steps::World;
use crate::driver::Clock;
use crate::ledger::{Ledger, LedgerError, Observe};
use crate::machine::{Millis, Stopping};
use crate::term::{self, Term};

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The effect has ended, like this.
    Ended(Outcome),
    /// It has not, and may be done again.
    NotDone,
}

/// The other side may have done the work, or not: the intent stays open, and is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerLost {
    /// For a person.
    pub cause: String,
    /// How long the other side asked to be left alone.
    pub after_ms: Option<Millis>,
}

/// Why the loop cannot go on.
#[derive(Debug, Error)]
pub enum DriveError {
    /// The journal could not be written. Nothing in memory can be trusted after that.
    #[error("failed to write the journal: {0}")]
    Journal(#[from] AppendError),
    /// The rows are not a history of this machine.
    #[error(transparent)]
    Replay(#[from] record::ReplayError),
    /// A step of the driver's own that the machine refuses, or that cannot be written down: a bug.
    #[error("failed to record what happened: {0}")]
    Bug(String),
}

impl From<LedgerError<IllegalTransition>> for DriveError {
    fn from(error: LedgerError<IllegalTransition>) -> Self {
        match error {
            LedgerError::Journal(error) => Self::Journal(error),
            LedgerError::Illegal(error) => error.into(),
            LedgerError::Unwritable(error) => Self::Bug(error.to_string()),
        }
    }
}

impl From<IllegalTransition> for DriveError {
    fn from(error: IllegalTransition) -> Self {
        Self::Bug(error.to_string())
    }
}

/// What the driver is made of.
pub struct Parts {
    /// The journal, freshly opened.
    pub opened: Opened,
    /// What does effects.
    pub world: World,
    /// The settings that decide what is done next.
    pub policy: Policy,
    /// Where the time comes from.
    pub clock: Clock,
    /// Who sees every event.
    pub observers: Vec<Box<dyn Observe<ActionsMachine>>>,
    /// Whether and when the runner was told to stop.
    pub term: Term,
}

/// The driver: owns the journal and the history, and is the only one that writes to either.
pub struct Driver {
    ledger: Ledger<ActionsMachine>,
    world: World,
    policy: Policy,
    clock: Clock,
    term: Term,
}

impl Driver {
    /// Replays the journal, and writes that the runner started. `assignment` is what it is to be, where the journal has
    /// nothing yet.
    pub fn start(parts: Parts, assignment: Assignment) -> Result<Self, DriveError> {
        let Opened { journal, rows } = parts.opened;
        let run = record::replay(&rows)?;
        let mut driver = Self {
            ledger: Ledger::new(journal, run, parts.observers),
            world: parts.world,
            policy: parts.policy,
            clock: parts.clock,
            term: parts.term,
        };
        let at = driver.now();
        driver.record(&[Event::Booted { at }])?;
        if driver.run().assignment.is_none() {
            driver.record(&[Event::Assigned { assignment, at }])?;
        }
        Ok(driver)
    }

    /// The history so far.
    pub fn run(&self) -> &Run {
        self.ledger.run()
    }

    /// Walks to the end, or to where this process has to leave it.
    pub async fn drive(mut self) -> Result<Exit, DriveError> {
        let exit = self.walk().await?;
        self.ledger.close()?;
        Ok(exit)
    }

    async fn walk(&mut self) -> Result<Exit, DriveError> {
        // What is known and not written yet goes into one transaction with the next intent (ADR 8).
        let mut facts: Vec<Event> = Vec::new();
        loop {
            let situation = Situation {
                now: self.now(),
                stopping: self.term.stopping(),
            };
            let planned = plan(&self.ledger.run_after(&facts)?, situation, self.policy);
            if !matches!(planned, Plan::Do { .. }) {
                self.record(&std::mem::take(&mut facts))?;
            }
            let came = match planned {
                Plan::Do { effect, attempt } => {
                    facts.push(Event::Intended {
                        effect: EffectName::from(&effect),
                        attempt,
                        at: facts.first().map_or(situation.now, Event::at),
                    });
                    self.record(&std::mem::take(&mut facts))?;
                    self.carry_out(&effect, attempt).await
                }
                Plan::Probe { effect, attempt } => self.find_out(&effect, attempt).await,
                Plan::Wait { for_ms } => {
                    self.pause(Duration::from_millis(u64::try_from(for_ms).unwrap_or(0)))
                        .await;
                    // A wait is over before the grace is, or with it.
                    if self.term.is_up() { None } else { Some(Vec::new()) }
                }
                Plan::Conclude(ending) => {
                    // The verdict names the head before it, so that has to be on disk.
                    let head = self.ledger.head().hash.to_string();
                    Some(vec![Event::Concluded {
                        verdict: Verdict::compose(self.run(), &ending, &head),
                        at: situation.now,
                    }])
                }
                Plan::Stop(Exit::Left(why)) => return self.leave(why),
                Plan::Stop(exit) => return Ok(exit),
            };
            match came {
                Some(came) => facts = came,
                None => return self.leave(Left::OutOfGrace),
            }
        }
    }

    /// Does what is intended. None where the grace was over before it was done.
    async fn carry_out(&self, effect: &Effect, attempt: u32) -> Option<Vec<Event>> {
        let name = EffectName::from(effect);
        let acted = self.within_grace(self.world.act(effect)).await?;
        let at = self.now();
        Some(vec![match acted {
            Ok(outcome) => Event::Ended {
                effect: name,
                attempt,
                outcome,
                at,
            },
            Err(lost) => lost_answer(name, lost, at),
        }])
    }

    /// Finds out what came of an open intent.
    async fn find_out(&self, effect: &Effect, attempt: u32) -> Option<Vec<Event>> {
        let name = EffectName::from(effect);
        let found = self.within_grace(self.world.probe(effect)).await?;
        let at = self.now();
        let probed = |finding| Event::Probed {
            effect: name,
            attempt,
            finding,
            at,
        };
        Some(match found {
            Ok(Probe::Ended(outcome)) => vec![
                probed(Finding::Done),
                Event::Ended {
                    effect: name,
                    attempt,
                    outcome,
                    at,
                },
            ],
            Ok(Probe::NotDone) => vec![probed(Finding::NotDone)],
            Err(lost) => vec![lost_answer(name, lost, at)],
        })
    }

    /// Awaits something for as long as the process may live. The listener ends by itself well before that.
    async fn within_grace<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => Some(done),
            () = end_of_grace(self.term.clone()) => None,
        }
    }

    /// Waits, and not longer than nobody tells it to stop.
    async fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut told = self.term.told.clone();
        if self.term.stopping() == Stopping::No {
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = term::told(&mut told) => {}
            }
        } else {
            self.within_grace(tokio::time::sleep_until(until)).await;
        }
    }

    /// Says good-bye in the journal where the rest is left to the next start: that was no crash.
    fn leave(&mut self, why: Left) -> Result<Exit, DriveError> {
        let at = self.now();
        self.record(&[Event::Noted {
            note: Note::Left { why },
            at,
        }])?;
        Ok(Exit::Left(why))
    }

    fn record(&mut self, events: &[Event]) -> Result<(), DriveError> {
        let at = events.first().map_or_else(|| self.now(), Event::at);
        Ok(self.ledger.record(at, events)?)
    }

    fn now(&self) -> Millis {
        (self.clock)()
    }
}

fn lost_answer(effect: EffectName, lost: AnswerLost, at: Millis) -> Event {
    Event::Noted {
        note: Note::AnswerLost {
            effect,
            cause: lost.cause,
            after_ms: lost.after_ms,
        },
        at,
    }
}

/// When the process may not live any longer; never, while nobody has told it to stop.
async fn end_of_grace(mut term: Term) {
    loop {
        let told = *term.told.borrow_and_update();
        match told {
            Some(at) => return tokio::time::sleep_until(at + term.grace).await,
            None => term::told(&mut term.told).await,
        }
    }
}
