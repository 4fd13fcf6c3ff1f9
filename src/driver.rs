//! THE loop: replay, plan, do, write down. Recovery, waiting, assignments and signals are events in it, and nothing else loops.
//!
//! ```text
//! plan(run, now) ─► Do      intent row ─► act ───► outcome row (+ enter)
//!                ├► Probe                  probe ─► probe row (+ outcome, + enter)
//!                ├► Conclude               verdict row
//!                ├► Wait · Listen          until something changes
//!                └► Stop                   the exit code
//! ```
//!
//! What came of one effect and the intent of the next are one transaction, so that a step costs one sync (ADR 8).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use runner_journal::AppendError;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::crash::{self, CrashPoint, Side, Write};
use crate::ids::TaskId;
use crate::ledger::{Ledger, LedgerError, Machine};
use crate::machine::{
    Assignment, Effect, EffectName, Event, Exit, Finding, IllegalTransition, Left, Millis, Note, OnTerm, Outcome, Plan,
    Policy, Refusal, Run, Situation, StateName, Stopping, Verdict, idempotency_key, plan, transition,
};
use crate::record::{self, Written};
use crate::term::{at, told};

pub use crate::ledger::Observe;
pub use crate::term::Term;

/// The task's machine, as the ledger has to know it.
pub struct TaskMachine;

impl Machine for TaskMachine {
    type Run = Run;
    type Event = Event;
    type Illegal = IllegalTransition;

    fn transition(run: &Run, event: &Event) -> Result<Run, IllegalTransition> {
        transition(run, event)
    }

    fn write(before: &Run, event: &Event, after: &Run) -> Result<Written, serde_json::Error> {
        record::write(before, event, after)
    }

    fn crash_around(event: &Event, side: Side) {
        match event {
            Event::Booted { .. } => crash::at(CrashPoint::Write(side, Write::Boot)),
            Event::Assigned { .. } => crash::at(CrashPoint::Write(side, Write::Assigned)),
            Event::Concluded { .. } => crash::at(CrashPoint::Write(side, Write::Verdict)),
            Event::Intended { effect, .. } => crash::at(CrashPoint::Intent(side, *effect)),
            Event::Ended { effect, .. } => crash::at(CrashPoint::Outcome(side, *effect)),
            Event::Probed { .. } | Event::Noted { .. } => {}
        }
    }
}

/// The one seam: what does effects. The real one is [`crate::steps::World`]; the property tests have one that counts.
pub trait Execute: Send + Sync + 'static {
    /// Finds out what came of an intent whose outcome was not seen. Asking has no effect of its own.
    fn probe(&self, effect: &Effect, call: &Call) -> impl Future<Output = Result<Probe, AnswerLost>> + Send;

    /// Does it, once. Retries are the plan's business.
    fn act(&self, effect: &Effect, call: &Call) -> impl Future<Output = Result<Outcome, AnswerLost>> + Send;

    /// What was seen since the last call: it rides along with the next row.
    fn notes(&self) -> Vec<Note>;
}

/// What an effect needs to know beside itself.
#[derive(Debug, Clone)]
pub struct Call {
    /// Whose effect it is.
    pub assignment: Assignment,
    /// When that was journaled: the names of the task's spans follow from it.
    pub assigned_at: Millis,
    /// Which effect.
    pub effect: EffectName,
    /// The attempt's number.
    pub attempt: u32,
    /// The idempotency key: the same for every attempt.
    pub key: String,
    /// Which start of the runner this is.
    pub boot: u32,
    /// The hash of the last row.
    pub journal_head: String,
    /// When it was intended.
    pub intended_at: Millis,
    /// Whether the runner was told to stop: for effects that take long.
    pub stop: watch::Receiver<Stopping>,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// The effect has ended, like this.
    Ended(Outcome),
    /// It has not, and may be done again.
    NotDone(Left),
}

/// The other side may have done the work, or not: the intent stays open, and is probed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the answer was lost: {cause}")]
pub struct AnswerLost {
    /// For a person.
    pub cause: String,
}

impl AnswerLost {
    fn noted(self, effect: EffectName, at: Millis) -> Event {
        let note = Note::AnswerLost {
            effect,
            cause: self.cause,
        };
        Event::Noted { note, at }
    }
}

/// A request of the listener to take up a task.
#[derive(Debug)]
pub struct Assign {
    /// Which.
    pub assignment: Assignment,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Assigned>,
}

/// What the driver says to an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assigned {
    /// It is in the journal, on disk: now, or since an earlier request.
    Accepted,
    /// Another one is.
    Other(TaskId),
    /// The runner was told to stop, and takes nothing up any more.
    Stopping,
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
    /// A step of the driver's own that the machine refuses: a bug.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// An event that cannot be written down: a bug.
    #[error("failed to write an event down: {0}")]
    Unwritable(#[from] serde_json::Error),
}

impl From<LedgerError<IllegalTransition>> for DriveError {
    fn from(error: LedgerError<IllegalTransition>) -> Self {
        match error {
            LedgerError::Journal(error) => Self::Journal(error),
            LedgerError::Illegal(error) => Self::Illegal(error),
            LedgerError::Unwritable(error) => Self::Unwritable(error),
        }
    }
}

/// Where the time comes from: milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// What the driver is made of.
pub struct Parts<W> {
    /// The journal, freshly opened.
    pub opened: runner_journal::Opened,
    /// What does effects.
    pub world: W,
    /// The settings that decide what is done next.
    pub policy: Policy,
    /// Where the time comes from.
    pub clock: Clock,
    /// Who sees every event.
    pub observers: Vec<Box<dyn Observe>>,
    /// Assignments from the listener; none where there is no listener.
    pub inbox: Option<mpsc::Receiver<Assign>>,
    /// Whether and when the runner was told to stop.
    pub term: Term,
}

/// The driver: owns the journal and the history, and is the only one that writes to either.
pub struct Driver<W> {
    ledger: Ledger<TaskMachine>,
    world: Arc<W>,
    policy: Policy,
    clock: Clock,
    inbox: Option<mpsc::Receiver<Assign>>,
    term: Term,
    stop: watch::Sender<Stopping>,
}

/// What came of carrying something out, or of looking for it.
enum Came {
    /// What is known now.
    Facts(Vec<Event>),
    /// The process has to end.
    End(Exit),
}

/// Whether being told to stop ends what is awaited.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnStop {
    /// At once, where there is something else to do then.
    Return,
    /// When the last part of the grace begins, which is the report's.
    LeaveTheReserve,
    /// When the grace is over.
    ToTheEnd,
}

impl<W: Execute> Driver<W> {
    /// Replays the journal, and writes that the runner started.
    pub fn start(parts: Parts<W>) -> Result<Self, DriveError> {
        let runner_journal::Opened { journal, rows } = parts.opened;
        let run = record::replay(&rows, |hash| journal.blob(hash).ok().flatten())?;
        let mut driver = Self {
            ledger: Ledger::new(journal, run, parts.observers),
            world: Arc::new(parts.world),
            policy: parts.policy,
            clock: parts.clock,
            inbox: parts.inbox,
            term: parts.term,
            stop: watch::Sender::new(Stopping::No),
        };
        let at = driver.now();
        driver.record(&[Event::Booted { at }])?;
        Ok(driver)
    }

    /// The history so far.
    pub fn run(&self) -> &Run {
        self.ledger.run()
    }

    /// Takes up a task without a listener, as `runner run` does. The same one again is no error.
    pub fn assign(&mut self, assignment: Assignment) -> Result<Assigned, DriveError> {
        match &self.run().assignment {
            Some(own) if own.is_same_task(&assignment) => Ok(Assigned::Accepted),
            Some(own) => Ok(Assigned::Other(own.task_id.clone())),
            None if self.term.stopping() != Stopping::No => Ok(Assigned::Stopping),
            None => {
                let at = self.now();
                self.record(&[Event::Assigned { assignment, at }])?;
                Ok(Assigned::Accepted)
            }
        }
    }

    /// Walks the task to its end, or to where this process has to leave it.
    pub async fn drive(mut self) -> Result<Exit, DriveError> {
        let exit = self.walk().await?;
        self.ledger.close()?;
        Ok(exit)
    }

    async fn walk(&mut self) -> Result<Exit, DriveError> {
        // What is known and not written yet. It goes into one transaction with the next intent, where there is one:
        // nothing is believed, shown or waited on before it is on disk.
        let mut facts = Vec::new();
        loop {
            let situation = Situation {
                now: self.now(),
                stopping: self.term.stopping(),
            };
            let planned = plan(&self.ledger.run_after(&facts)?, situation, &self.policy);
            if !matches!(planned, Plan::Do { .. }) {
                self.record(&std::mem::take(&mut facts))?;
            }
            match planned {
                Plan::Do { effect, attempt } => {
                    facts.push(Event::Intended {
                        effect: effect.name(),
                        attempt,
                        session: effect.session(),
                        at: facts.first().map_or(situation.now, Event::at),
                    });
                    self.record(&facts)?;
                    facts = match self.carry_out(effect, attempt).await? {
                        Came::Facts(facts) => facts,
                        Came::End(exit) => return Ok(exit),
                    };
                }
                Plan::Listen => {
                    self.attend(std::future::pending::<()>(), OnStop::Return).await?;
                }
                Plan::Wait { for_ms } => {
                    let pause = Duration::from_millis(u64::try_from(for_ms).unwrap_or(0));
                    self.attend(tokio::time::sleep(pause), OnStop::Return).await?;
                }
                Plan::Probe { effect, attempt } => {
                    facts = match self.find_out(effect, attempt).await? {
                        Came::Facts(facts) => facts,
                        Came::End(exit) => return Ok(exit),
                    };
                }
                Plan::GiveUp {
                    effect,
                    attempt,
                    failure,
                    cause,
                } => facts.push(Event::Ended {
                    effect,
                    attempt,
                    outcome: Outcome::GivenUp { failure, cause },
                    at: situation.now,
                }),
                Plan::Conclude(ending) => {
                    // The verdict names the head before it, so that has to be on disk.
                    let head = self.ledger.head().hash.to_string();
                    facts.push(Event::Concluded {
                        verdict: Arc::new(Verdict::compose(self.run(), &ending, &head)),
                        at: situation.now,
                    });
                }
                Plan::Stop(exit) => return self.leave(exit),
            }
        }
    }

    /// Does what is intended.
    async fn carry_out(&mut self, effect: Effect, attempt: u32) -> Result<Came, DriveError> {
        let name = effect.name();
        let call = self.call(name, attempt)?;
        let world = Arc::clone(&self.world);
        let acted = self
            // In a box: what an effect holds over its awaits is large, and not every poll of the loop has to carry it.
            .attend(Box::pin(async move { world.act(&effect, &call).await }), patience(name))
            .await?;
        let at = self.now();
        match acted {
            Some(Ok(outcome)) => Ok(Came::Facts(vec![Event::Ended {
                effect: name,
                attempt,
                outcome,
                at,
            }])),
            Some(Err(lost)) => Ok(Came::Facts(vec![lost.noted(name, at)])),
            None => self.run_out(),
        }
    }

    /// Finds out what came of an open intent.
    async fn find_out(&mut self, effect: Effect, attempt: u32) -> Result<Came, DriveError> {
        let name = effect.name();
        let call = self.call(name, attempt)?;
        let world = Arc::clone(&self.world);
        let found = self
            .attend(async move { world.probe(&effect, &call).await }, patience(name))
            .await?;
        let at = self.now();
        let probed = |finding| Event::Probed {
            effect: name,
            attempt,
            finding,
            at,
        };
        match found {
            Some(Ok(Probe::Ended(outcome))) => {
                let ended = Event::Ended {
                    effect: name,
                    attempt,
                    outcome,
                    at,
                };
                Ok(Came::Facts(vec![probed(Finding::Done), ended]))
            }
            Some(Ok(Probe::NotDone(left))) => Ok(Came::Facts(vec![probed(Finding::NotDone(left))])),
            Some(Err(lost)) => Ok(Came::Facts(vec![lost.noted(name, at)])),
            None => self.run_out(),
        }
    }

    fn call(&self, effect: EffectName, attempt: u32) -> Result<Call, IllegalTransition> {
        let assignment = self.run().assignment.clone().ok_or(IllegalTransition {
            state: None,
            event: "intended",
            refusal: Refusal::NotAssigned,
        })?;
        Ok(Call {
            assignment,
            assigned_at: self.run().assigned_at,
            effect,
            attempt,
            key: idempotency_key(self.run(), effect),
            boot: self.run().boot.number,
            journal_head: self.ledger.head().hash.to_string(),
            intended_at: self.run().open.map_or_else(|| self.now(), |open| open.at),
            stop: self.stop.subscribe(),
        })
    }

    /// The grace, or its part that is not the report's, ran out in the middle of something. What came of it is found out
    /// by the next start, or by nobody: the plan knows.
    fn run_out(&mut self) -> Result<Came, DriveError> {
        // After the report the plan knows the exit code: being told to stop does not change it.
        if !self.term.is_up() || self.run().state_name() == Some(StateName::Reported) {
            return Ok(Came::Facts(Vec::new()));
        }
        let exit = match self.policy.on_term {
            OnTerm::Park => Exit::Parked,
            OnTerm::Report => Exit::Undelivered,
        };
        self.leave(exit).map(Came::End)
    }

    /// Says good-bye in the journal where the task is left to the next start: that was no crash.
    fn leave(&mut self, exit: Exit) -> Result<Exit, DriveError> {
        let note = match exit {
            Exit::Parked => Note::Parked,
            Exit::Undelivered => Note::Undelivered,
            Exit::Completed | Exit::Failed | Exit::NobodyLeft | Exit::Superseded | Exit::NothingToDo | Exit::Idle => {
                return Ok(exit);
            }
        };
        let at = self.now();
        self.record(&[Event::Noted { note, at }])?;
        Ok(exit)
    }

    /// Awaits something while answering the listener and watching for signals. None where the wait ended first.
    async fn attend<T>(&mut self, work: impl Future<Output = T>, on_stop: OnStop) -> Result<Option<T>, DriveError> {
        tokio::pin!(work);
        loop {
            let stopping = self.term.stopping();
            self.stop
                .send_if_modified(|seen| std::mem::replace(seen, stopping) != stopping);
            let over = match on_stop {
                OnStop::Return => self.woken(stopping),
                OnStop::LeaveTheReserve => stopping == Stopping::Over,
                OnStop::ToTheEnd => false,
            };
            if over || self.term.is_up() {
                return Ok(None);
            }
            let next_change = self.term.next_change();
            tokio::select! {
                done = &mut work => return Ok(Some(done)),
                request = next_request(&mut self.inbox) => {
                    let before = self.run().assignment.is_some();
                    let answer = self.assign(request.assignment)?;
                    // A requester that has gone away asks again, and is told the same.
                    let _ = request.answer.send(answer);
                    if !before && self.run().assignment.is_some() {
                        return Ok(None);
                    }
                }
                () = told(&mut self.term.told) => {}
                () = at(next_change) => {}
            }
        }
    }

    /// Whether being told to stop leaves something else to do than to wait.
    fn woken(&self, stopping: Stopping) -> bool {
        let situation = Situation {
            now: self.now(),
            stopping,
        };
        let waiting = matches!(
            plan(self.run(), situation, &self.policy),
            Plan::Wait { .. } | Plan::Listen
        );
        stopping != Stopping::No && !waiting
    }

    /// Writes events down in one transaction; only then are they believed, and shown.
    fn record(&mut self, events: &[Event]) -> Result<(), DriveError> {
        if events.is_empty() {
            return Ok(());
        }
        // One time for one transaction: a replay has no other.
        let at = events.first().map_or_else(|| self.now(), Event::at);
        let noted = self.world.notes().into_iter().map(|note| Event::Noted { note, at });
        let events: Vec<Event> = events.iter().cloned().chain(noted).collect();
        Ok(self.ledger.record(at, &events)?)
    }

    fn now(&self) -> Millis {
        (self.clock)()
    }
}

/// The report has the reserve for itself; everything else leaves it alone.
fn patience(effect: EffectName) -> OnStop {
    if effect == EffectName::Report {
        OnStop::ToTheEnd
    } else {
        OnStop::LeaveTheReserve
    }
}

/// The listener's next request; never, where there is none or it has gone.
async fn next_request(inbox: &mut Option<mpsc::Receiver<Assign>>) -> Assign {
    if let Some(receiver) = inbox {
        if let Some(request) = receiver.recv().await {
            return request;
        }
        *inbox = None;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests;
