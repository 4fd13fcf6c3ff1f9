//! Tells the task API what the agent is doing, as it happens: `POST /events`, and `progress` statuses.
//!
//! ```text
//! agent's reader ── activity() ──► bounded queue ──┐
//!                                                  ├─► one task, one request at a time ──► task API
//! driver's rows ──── entered() ──► newest progress ┘                                    410 ──► ended_elsewhere()
//! ```
//!
//! Nothing depends on whether it is heard, but for a 410: it never waits for anybody, never fails anything, and what it sends
//! again is no attempt that a journal has to know.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::adapters::agent::Activity;
use crate::adapters::api::TaskApi;
use crate::driver::Clock;
use crate::telemetry::Metrics;

mod entered;
mod event;
mod queue;
mod sender;

pub use entered::Entered;
use event::Event;
use queue::Queue;

/// The way to the task API. Cheap to clone; when the last clone is dropped, nothing more is sent.
#[derive(Clone)]
pub struct Forwarder(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    sending: tokio::sync::Mutex<JoinHandle<()>>,
}

/// What the callers and the sending task have in common.
struct Shared {
    clock: Clock,
    metrics: Metrics,
    outbox: Mutex<Outbox>,
    changed: Notify,
    ended_elsewhere: watch::Sender<bool>,
}

/// What waits to be sent, and how far it may go.
#[derive(Default)]
struct Outbox {
    to: Option<(TaskApi, u32)>,
    phase: Phase,
    queue: Queue,
    progress: Option<Progress>,
    /// The details of the last state that was entered: they go with what the agent does in it, too.
    details: Map<String, Value>,
    tally: Tally,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// What is there is sent until then, and nothing more is taken.
    Closing(Instant),
    /// Nothing is sent any more.
    Stopped,
}

/// A `progress` that is not sent yet. A newer one takes its place.
struct Progress {
    message: String,
    urgency: Urgency,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Urgency {
    /// A state was entered: as soon as can be.
    AtOnce,
    /// A sign of life: not before the last one is 30 s old.
    InTurn,
}

/// What became of the events. Once all has stopped, `made` is `sent` and `dropped` together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    /// Those that were taken in.
    made: u64,
    /// Those that the API took.
    sent: u64,
    /// Those that it did not, or is not known to have taken.
    dropped: u64,
}

impl Tally {
    /// Those that wait or are under way.
    fn queued(self) -> u64 {
        self.made - self.sent - self.dropped
    }
}

impl Forwarder {
    /// Begins to gather; has to be called on a runtime. Nothing is sent before [`Forwarder::start`].
    pub fn new(clock: Clock, metrics: Metrics) -> Self {
        let shared = Arc::new(Shared {
            clock,
            metrics,
            outbox: Mutex::default(),
            changed: Notify::new(),
            ended_elsewhere: watch::Sender::new(false),
        });
        let sending = tokio::spawn(sender::run(Arc::clone(&shared)));
        Self(Arc::new(Handle {
            shared,
            sending: tokio::sync::Mutex::new(sending),
        }))
    }

    /// Sends to this API from now on. `boot` is this start's number, by which sequences rise over restarts. Only the first
    /// call counts.
    pub fn start(&self, api: impl FnOnce() -> TaskApi, boot: u32) {
        let mut outbox = self.shared().outbox();
        if outbox.to.is_none() {
            outbox.to = Some((api(), boot));
            self.shared().changed.notify_one();
        }
    }

    /// Tells of something that the agent did. Never waits; what is too much is dropped, and counted.
    pub fn activity(&self, activity: &Activity) {
        let shared = self.shared();
        let event = Event::of(activity, (shared.clock)());
        let mut outbox = shared.outbox();
        if outbox.phase != Phase::Open {
            return;
        }
        let said = event.is_news().then(|| event.summary.clone());
        let worth_a_look = outbox.take(event, &shared.metrics);
        let first_word = said.is_some_and(|said| outbox.say(said));
        if worth_a_look || first_word {
            shared.changed.notify_one();
        }
    }

    /// Tells that a state was entered.
    pub fn entered(&self, message: String, details: Map<String, Value>) {
        let mut outbox = self.shared().outbox();
        if outbox.phase == Phase::Open {
            outbox.details = details;
            outbox.progress = Some(Progress {
                message,
                urgency: Urgency::AtOnce,
            });
            self.shared().changed.notify_one();
        }
    }

    /// Tells of each state that the driver enters.
    pub fn observer(&self) -> Entered {
        Entered::new(self.clone())
    }

    /// Resolves when an answer was 410, and never else: the task was ended elsewhere, and the agent is to be stopped.
    pub fn ended_elsewhere(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut ended = self.shared().ended_elsewhere.subscribe();
        async move {
            if ended.wait_for(|ended| *ended).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether an answer was 410.
    pub fn has_ended_elsewhere(&self) -> bool {
        *self.shared().ended_elsewhere.borrow()
    }

    /// Takes nothing more, sends what is there for as long as this, and has stopped when it returns: nothing is sent after it.
    pub async fn close(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let shared = self.shared();
        {
            let mut outbox = shared.outbox();
            if outbox.phase == Phase::Open {
                outbox.phase = Phase::Closing(deadline);
            }
            shared.changed.notify_one();
        }
        let mut sending = self.0.sending.lock().await;
        if !sending.is_finished() && tokio::time::timeout_at(deadline, &mut *sending).await.is_err() {
            sending.abort();
            // Until it has really gone: an aborted task may be in the middle of a poll.
            drop((&mut *sending).await);
        }
        shared.stop();
    }

    fn shared(&self) -> &Shared {
        &self.0.shared
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.sending.get_mut().abort();
    }
}

impl Shared {
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whatever is still here is lost. The same again changes nothing.
    fn stop(&self) {
        let mut outbox = self.outbox();
        if outbox.phase != Phase::Stopped {
            outbox.phase = Phase::Stopped;
            outbox.queue = Queue::default();
            outbox.progress = None;
            let left = outbox.tally.queued();
            outbox.drop_events(left, &self.metrics);
            let Tally { made, sent, dropped } = outbox.tally;
            if dropped > 0 {
                tracing::warn!(made, sent, dropped, "the API was not told all that the agent did");
            } else {
                tracing::debug!(sent, "the API was told all that the agent did");
            }
        }
    }
}

impl Outbox {
    /// Queues an event. Whether the sender has something new to decide.
    fn take(&mut self, event: Event, metrics: &Metrics) -> bool {
        self.tally.made += 1;
        metrics.event_made(event.kind.into());
        metrics.events_queued(self.tally.queued());
        let overflow = self.queue.push(event);
        self.drop_events(overflow, metrics);
        self.queue.len() == 1 || self.queue.fills_a_batch()
    }

    /// Keeps the newest sign of life. Whether there was none before.
    fn say(&mut self, message: String) -> bool {
        match &mut self.progress {
            Some(progress) if progress.urgency == Urgency::AtOnce => false,
            Some(progress) => {
                progress.message = message;
                false
            }
            None => {
                let urgency = Urgency::InTurn;
                self.progress = Some(Progress { message, urgency });
                true
            }
        }
    }

    /// The progress that may be told now.
    fn due_progress(&mut self, sign_of_life: bool) -> Option<Progress> {
        let due = |progress: &mut Progress| progress.urgency == Urgency::AtOnce || sign_of_life;
        self.progress.take_if(due)
    }

    fn drop_events(&mut self, count: u64, metrics: &Metrics) {
        if count > 0 {
            self.tally.dropped += count;
            metrics.events_settled("dropped", count, self.tally.queued());
        }
    }

    fn sent_events(&mut self, count: u64, metrics: &Metrics) {
        self.tally.sent += count;
        metrics.events_settled("sent", count, self.tally.queued());
    }
}

#[cfg(test)]
mod tests;
