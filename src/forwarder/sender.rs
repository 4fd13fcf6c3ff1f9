//! The one task that sends: one request at a time, the same bytes under the same key until they are taken or refused.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::event::Event;
use super::queue::Taken;
use super::{Phase, Progress, Shared};
use crate::adapters::api::{ApiError, ConflictKind, TaskApi};
use crate::machine::backoff_ms;

/// How long the first event of a batch waits for others.
const GATHERING: Duration = Duration::from_millis(500);
/// How long after one batch the next one is sent at the earliest: an agent that floods us does not flood the API.
const BETWEEN_BATCHES: Duration = Duration::from_millis(100);
/// How long after any progress a sign of life is told at the earliest.
const BETWEEN_SIGNS: Duration = Duration::from_secs(30);
/// Sequences begin here with each start (contract, section 2).
const SEQUENCES_A_BOOT: u64 = 1_000_000_000;

/// Sends until it is closed, or told that nobody listens.
pub(super) async fn run(shared: Arc<Shared>) {
    if let Some((api, boot)) = address(&shared).await {
        let sender = Sender::new(Arc::clone(&shared), api, boot, Instant::now());
        sender.walk().await;
    }
    shared.stop();
}

/// Where to send to, once that is known; none, where there is an end to it before.
async fn address(shared: &Shared) -> Option<(TaskApi, u32)> {
    loop {
        {
            let outbox = shared.outbox();
            if outbox.phase == Phase::Stopped || (outbox.phase != Phase::Open && outbox.to.is_none()) {
                return None;
            }
            if outbox.to.is_some() {
                return outbox.to.clone();
            }
        }
        shared.changed.notified().await;
    }
}

struct Sender {
    shared: Arc<Shared>,
    api: TaskApi,
    events: Lane<Batch>,
    last_sequence: u64,
    /// When the events that wait are sent, however few they are.
    gathered_at: Option<Instant>,
    progress: Lane<Request>,
    last_progress: u64,
    next_sign: Instant,
    /// When the sign of life that waits is told; none where none waits.
    sign_at: Option<Instant>,
}

/// What is to be sent to one place. Trouble with the events does not hold up the progress, nor the other way round.
struct Lane<T> {
    current: Option<T>,
    misses: u32,
    not_before: Instant,
}

/// The bytes that go out, every time.
struct Request {
    body: Vec<u8>,
    key: String,
}

struct Batch {
    request: Request,
    events: u64,
    /// How many it says were dropped before it.
    dropped: u64,
}

/// What an answer means.
enum Answer {
    Taken,
    /// Not this one, and not the next time either.
    Refused,
    Again {
        after: Option<Duration>,
    },
    /// Nobody listens: the task is not known, or was ended.
    Over,
}

/// What the sender does next.
enum Next {
    Progress,
    Events,
    Wait(Option<Instant>),
    End,
}

impl Sender {
    fn new(shared: Arc<Shared>, api: TaskApi, boot: u32, now: Instant) -> Self {
        let base = u64::from(boot) * SEQUENCES_A_BOOT;
        Self {
            shared,
            api,
            events: Lane::empty(now),
            last_sequence: base,
            gathered_at: None,
            progress: Lane::empty(now),
            last_progress: base,
            next_sign: now + BETWEEN_SIGNS,
            sign_at: None,
        }
    }

    async fn walk(mut self) {
        loop {
            let next = self.next(Instant::now());
            let answer = match next {
                Next::Progress => self.send_progress().await,
                Next::Events => self.send_events().await,
                Next::Wait(until) => {
                    let shared = Arc::clone(&self.shared);
                    tokio::select! {
                        () = shared.changed.notified() => {}
                        () = at(until) => {}
                    }
                    continue;
                }
                Next::End => return,
            };
            if matches!(answer, Answer::Over) {
                return;
            }
        }
    }

    fn next(&mut self, now: Instant) -> Next {
        let phase = self.fill(now);
        if self.progress.is_due(now) {
            return Next::Progress;
        }
        if self.events.is_due(now) {
            return Next::Events;
        }
        let lanes = [self.progress.due_at(), self.events.due_at()].into_iter();
        match phase {
            Phase::Open => Next::Wait(lanes.chain([self.gathered_at, self.sign_at]).flatten().min()),
            // What cannot be tried again in time is given up now.
            Phase::Closing(deadline) => match lanes.flatten().min() {
                Some(due) if due < deadline => Next::Wait(Some(due)),
                Some(_) | None => Next::End,
            },
            Phase::Stopped => Next::End,
        }
    }

    /// Takes up what may be sent now. It is made into JSON when the outbox is free again: the agent's reader may be at it.
    fn fill(&mut self, now: Instant) -> Phase {
        let shared = Arc::clone(&self.shared);
        let mut outbox = shared.outbox();
        let phase = outbox.phase;
        let open = phase == Phase::Open;
        // A sign of life does not take the place of a state that could not be told yet.
        let quiet = self.progress.current.is_none();
        let progress = outbox.due_progress(open && quiet && now >= self.next_sign);
        let details = progress.as_ref().map(|_| outbox.details.clone());
        self.sign_at = outbox.progress.as_ref().filter(|_| quiet).map(|_| self.next_sign);
        let mut taken = None;
        if self.events.current.is_none() && outbox.queue.len() > 0 {
            let gathered_at = *self.gathered_at.get_or_insert(now + GATHERING);
            if !open || now >= gathered_at || outbox.queue.fills_a_batch() {
                taken = outbox.queue.take_batch();
                self.gathered_at = None;
            }
        }
        drop(outbox);
        if let Some((progress, details)) = progress.zip(details) {
            // It takes the place of an older one that could not be told yet.
            self.progress.current = Some(self.progress_request(progress, &details));
            self.next_sign = now + BETWEEN_SIGNS;
        }
        if let Some(taken) = taken {
            self.events.current = Some(self.batch(&taken));
        }
        phase
    }

    fn progress_request(&mut self, progress: Progress, details: &Map<String, Value>) -> Request {
        #[derive(Serialize)]
        struct Body<'a> {
            event: &'static str,
            message: String,
            details: &'a Map<String, Value>,
        }
        self.last_progress += 1;
        Request {
            body: json(&Body {
                event: "progress",
                message: progress.message,
                details,
            }),
            key: format!("{}/progress/{}", self.api.task(), self.last_progress),
        }
    }

    fn batch(&mut self, taken: &Taken) -> Batch {
        #[derive(Serialize)]
        struct Body<'a> {
            events: Vec<Numbered<'a>>,
        }
        #[derive(Serialize)]
        struct Numbered<'a> {
            sequence: u64,
            #[serde(flatten)]
            event: &'a Event,
            #[serde(skip_serializing_if = "Option::is_none")]
            metadata: Option<Metadata>,
        }
        #[derive(Serialize)]
        struct Metadata {
            dropped: u64,
        }
        let first = self.last_sequence + 1;
        let events: Vec<_> = taken
            .events
            .iter()
            .zip(first..)
            .map(|(event, sequence)| Numbered {
                sequence,
                event,
                metadata: (sequence == first && taken.dropped > 0).then_some(Metadata { dropped: taken.dropped }),
            })
            .collect();
        let count = taken.events.len() as u64;
        self.last_sequence += count;
        Batch {
            request: Request {
                body: json(&Body { events }),
                key: format!("{}/events/{first}", self.api.task()),
            },
            events: count,
            dropped: taken.dropped,
        }
    }

    async fn send_progress(&mut self) -> Answer {
        let Some(request) = &self.progress.current else {
            return Answer::Taken;
        };
        let key = request.key.clone();
        let told = self.api.status(&request.body, &key).await.map(drop);
        let answer = self.meaning(told, "progress");
        match &answer {
            Answer::Taken | Answer::Refused => self.progress.done(Instant::now()),
            Answer::Again { after } => self.progress.missed(*after, &key),
            Answer::Over => {}
        }
        answer
    }

    async fn send_events(&mut self) -> Answer {
        let Some(batch) = &self.events.current else {
            return Answer::Taken;
        };
        let (count, dropped, key) = (batch.events, batch.dropped, batch.request.key.clone());
        let told = self.api.events(&batch.request.body, &key).await;
        let answer = self.meaning(told, "events");
        let shared = Arc::clone(&self.shared);
        let mut outbox = shared.outbox();
        match &answer {
            Answer::Taken => outbox.sent_events(count, &shared.metrics),
            Answer::Refused => {
                outbox.drop_events(count, &shared.metrics);
                outbox.queue.was_lost(count + dropped);
            }
            Answer::Again { after } => {
                self.events.missed(*after, &key);
                return answer;
            }
            Answer::Over => return answer,
        }
        let pause = match outbox.phase {
            Phase::Open => BETWEEN_BATCHES,
            Phase::Closing(_) | Phase::Stopped => Duration::ZERO,
        };
        self.events.done(Instant::now() + pause);
        answer
    }

    fn meaning(&self, told: Result<(), ApiError>, what: &str) -> Answer {
        let Err(error) = told else {
            return Answer::Taken;
        };
        match error {
            // It was answered 200: what was asked for was done.
            ApiError::TooLarge { .. } | ApiError::Malformed { .. } => Answer::Taken,
            ApiError::NotSent(_)
            | ApiError::Lost(_)
            | ApiError::BearerFile { .. }
            | ApiError::Unauthorized { .. }
            | ApiError::Conflict {
                kind: ConflictKind::ConcurrentUpdate,
                ..
            } => {
                tracing::debug!("{what} will be told again: {error}");
                Answer::Again { after: None }
            }
            ApiError::Retryable { retry_after, .. } => {
                tracing::debug!("{what} will be told again: {error}");
                Answer::Again { after: retry_after }
            }
            ApiError::Conflict { .. } | ApiError::Refused { .. } => {
                tracing::warn!("{what} dropped: {error}");
                Answer::Refused
            }
            ApiError::NotFound { .. } => {
                tracing::warn!("nothing more is told of what the agent does: {error}");
                Answer::Over
            }
            ApiError::Gone { .. } => {
                tracing::warn!("the agent is to be stopped: {error}");
                self.shared.ended_elsewhere.send_replace(true);
                Answer::Over
            }
        }
    }
}

impl<T> Lane<T> {
    fn empty(now: Instant) -> Self {
        Self {
            current: None,
            misses: 0,
            not_before: now,
        }
    }

    fn due_at(&self) -> Option<Instant> {
        self.current.as_ref().map(|_| self.not_before)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due_at().is_some_and(|due| due <= now)
    }

    fn done(&mut self, not_before: Instant) {
        self.current = None;
        self.misses = 0;
        self.not_before = not_before;
    }

    fn missed(&mut self, after: Option<Duration>, key: &str) {
        self.misses += 1;
        let pause = Duration::from_millis(backoff_ms(self.misses, key).unsigned_abs());
        self.not_before = Instant::now() + pause.max(after.unwrap_or_default());
    }
}

fn json(body: &impl Serialize) -> Vec<u8> {
    // Strings, numbers and objects: there is nothing in it that JSON could not have.
    serde_json::to_vec(body).unwrap_or_default()
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
