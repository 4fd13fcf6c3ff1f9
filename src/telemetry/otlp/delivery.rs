//! Items on their way to a collector: gathered in a bounded queue, sent by one task, and nobody else waits.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::sent::Sent;
use super::{Otlp, Pace, Payload, PostError, Signal, messages};
use crate::telemetry::Metrics;
use crate::telemetry::logs::Line;
use crate::telemetry::spans::Span;
use crate::trace::SpanId;

/// How many bytes of items may wait, whatever the number of them.
const BYTES: usize = 8 * 1024 * 1024;
/// How many bytes go into one request, unless one item alone has more.
const REQUEST_BYTES: usize = 1024 * 1024;
/// How long is waited after a first failure; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait, also where a collector asks for a longer one.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What can be sent in requests of several.
pub(in crate::telemetry) trait Item: Send + Sync + Sized + 'static {
    const SIGNAL: Signal;
    type Request: Payload;

    /// About as many bytes as it takes.
    fn size(&self) -> usize;
    /// The task and the journal's row that it stands for, where it does: an item behind it has the same row or a later one.
    fn row(&self) -> Option<(SpanId, u64)>;
    fn request(resource: &Resource, items: &[Self]) -> Self::Request;
}

impl Item for Span {
    const SIGNAL: Signal = Signal::Traces;
    type Request = opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

    fn size(&self) -> usize {
        // Each attribute is bounded, and so is their number.
        512 + 96 * self.attributes.len() + 128 * self.occurrences.len()
    }

    fn row(&self) -> Option<(SpanId, u64)> {
        Some((self.task, self.seq))
    }

    fn request(resource: &Resource, items: &[Self]) -> Self::Request {
        messages::spans(resource, items)
    }
}

impl Item for Line {
    const SIGNAL: Signal = Signal::Logs;
    type Request = opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;

    fn size(&self) -> usize {
        128 + self.json.len()
    }

    fn row(&self) -> Option<(SpanId, u64)> {
        None
    }

    fn request(resource: &Resource, items: &[Self]) -> Self::Request {
        messages::records(resource, items)
    }
}

/// What became of the items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::telemetry) struct Tally {
    /// Those that a collector took.
    pub sent: u64,
    /// Those that were too many, that it did not want, or that nobody took before the end.
    pub dropped: u64,
}

/// Where items are handed in: never waits.
pub(in crate::telemetry) struct Intake<T>(Arc<Shared<T>>);

impl<T> Clone for Intake<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Shared<T> {
    pace: Pace,
    queue: Mutex<Queue<T>>,
    changed: Notify,
    metrics: Metrics,
}

struct Queue<T> {
    items: VecDeque<T>,
    bytes: usize,
    /// When the oldest that waits came in.
    since: Option<Instant>,
    closing: bool,
    /// In the request that is under way.
    under_way: u64,
    tally: Tally,
}

impl<T: Item> Intake<T> {
    /// Takes an item. Where there are too many, it is dropped and counted: those that came first say how it began.
    pub(in crate::telemetry) fn push(&self, item: T) {
        let mut queue = self.0.queue();
        let size = item.size();
        if queue.closing || queue.items.len() >= self.0.pace.queue || queue.bytes + size > BYTES {
            queue.tally.dropped += 1;
            self.0.count_dropped(1);
            return;
        }
        queue.bytes += size;
        queue.items.push_back(item);
        let first = queue.items.len() == 1;
        if first {
            queue.since = Some(Instant::now());
        }
        if first || queue.items.len() == self.0.pace.batch {
            self.0.changed.notify_one();
        }
    }
}

impl<T: Item> Shared<T> {
    fn count_dropped(&self, items: u64) {
        self.metrics.export_dropped(T::SIGNAL.into(), items);
    }

    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The items of the next request.
    fn batch(&self) -> Vec<T> {
        let mut queue = self.queue();
        let (mut count, mut bytes) = (0, 0);
        for item in &queue.items {
            bytes += item.size();
            if count == self.pace.batch || (count > 0 && bytes > REQUEST_BYTES) {
                break;
            }
            count += 1;
        }
        let batch: Vec<T> = queue.items.drain(..count).collect();
        queue.bytes -= batch.iter().map(T::size).sum::<usize>();
        queue.since = (!queue.items.is_empty()).then(Instant::now);
        queue.under_way = batch.len() as u64;
        batch
    }

    /// The row up to which everything has been settled, once `batch` has.
    fn settled_to(&self, batch: &[T]) -> Option<(SpanId, u64)> {
        let (task, last) = batch.last()?.row()?;
        match self.queue().items.front().and_then(T::row) {
            // One transaction's rows go by one number: those of the next request are not settled yet.
            Some((_, next)) => Some((task, last.min(next.saturating_sub(1)))),
            None => Some((task, last)),
        }
    }

    fn is_closing(&self) -> bool {
        self.queue().closing
    }

    /// Waits until a request is due: enough items, or one that has waited long enough, or the end.
    async fn due(&self) {
        loop {
            let at = {
                let queue = self.queue();
                if queue.closing || queue.items.len() >= self.pace.batch {
                    return;
                }
                queue.since.map(|since| since + self.pace.delay)
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = until(at) => return,
            }
        }
    }

    /// Waits after a failure, less if the end comes: then there is one more try.
    async fn pause(&self, wait: Duration) {
        let over = Instant::now() + wait;
        while !self.is_closing() {
            tokio::select! {
                () = self.changed.notified() => {}
                () = until(Some(over)) => return,
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The task that sends items of one kind.
pub(in crate::telemetry) struct Delivery<T: Item> {
    intake: Intake<T>,
    sending: JoinHandle<()>,
}

impl<T: Item> Delivery<T> {
    /// Begins to send what is handed in. Has to be called on a runtime.
    pub(in crate::telemetry) fn start(otlp: Arc<Otlp>, sent: Option<Sent>) -> Self {
        let shared = Arc::new(Shared {
            pace: otlp.pace(T::SIGNAL),
            queue: Mutex::new(Queue {
                items: VecDeque::new(),
                bytes: 0,
                since: None,
                closing: false,
                under_way: 0,
                tally: Tally::default(),
            }),
            changed: Notify::new(),
            metrics: otlp.metrics().clone(),
        });
        let sending = tokio::spawn(send(otlp, Arc::clone(&shared), sent));
        Self {
            intake: Intake(shared),
            sending,
        }
    }

    pub(in crate::telemetry) fn intake(&self) -> Intake<T> {
        self.intake.clone()
    }

    /// Takes nothing more, and sends what is there until `deadline` at the latest.
    pub(in crate::telemetry) async fn close(mut self, deadline: Instant) -> Tally {
        self.intake.0.queue().closing = true;
        self.intake.0.changed.notify_one();
        if tokio::time::timeout_at(deadline, &mut self.sending).await.is_err() {
            self.sending.abort();
        }
        let mut queue = self.intake.0.queue();
        let left = queue.items.len() as u64 + queue.under_way;
        queue.tally.dropped += left;
        self.intake.0.count_dropped(left);
        queue.items.clear();
        queue.tally
    }
}

/// Sends batch after batch until the queue is closed and empty.
async fn send<T: Item>(otlp: Arc<Otlp>, shared: Arc<Shared<T>>, sent: Option<Sent>) {
    let mut complaint = Complaint::default();
    loop {
        shared.due().await;
        let batch = shared.batch();
        if batch.is_empty() {
            if shared.is_closing() {
                return;
            }
            continue;
        }
        let count = batch.len() as u64;
        let came = persist(&otlp, &shared, &batch, &mut complaint).await;
        {
            let taken = match came {
                Came::Taken(taken) => taken,
                Came::Refused | Came::Nobody => 0,
            };
            let mut queue = shared.queue();
            queue.under_way = 0;
            queue.tally.sent += taken;
            queue.tally.dropped += count - taken;
            shared.count_dropped(count - taken);
        }
        if came == Came::Nobody {
            // It was the last try: what is left is the next start's.
            return;
        }
        if let (Some(sent), Some((task, seq))) = (&sent, shared.settled_to(&batch)) {
            sent.settle(task, seq).await;
        }
    }
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// So many of its items were taken.
    Taken(u64),
    /// It will never be taken.
    Refused,
    /// There was nobody to take it, and there is no time left.
    Nobody,
}

/// Sends one request until it is taken or refused, or until the end.
async fn persist<T: Item>(otlp: &Otlp, shared: &Shared<T>, batch: &[T], complaint: &mut Complaint) -> Came {
    let request = T::request(otlp.resource(), batch);
    let mut wait = FIRST_WAIT;
    loop {
        let last_try = shared.is_closing();
        match otlp.post(T::SIGNAL, &request).await {
            Ok(taken) => {
                complaint.over(T::SIGNAL);
                return Came::Taken((batch.len() as u64).saturating_sub(taken.rejected));
            }
            Err(PostError::Again { cause, after }) => {
                complaint.make(T::SIGNAL, &cause, "they are kept, up to a bound, and sent later");
                if last_try {
                    return Came::Nobody;
                }
                shared.pause(after.unwrap_or(jittered(wait)).min(LONGEST_WAIT)).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            Err(PostError::Refused { cause }) => {
                complaint.make(T::SIGNAL, &cause, "they are lost");
                return Came::Refused;
            }
            Err(PostError::NotSent(_)) => return Came::Refused,
        }
    }
}

/// From half of it to the whole: a fleet that lost one collector does not come back to it at once.
fn jittered(wait: Duration) -> Duration {
    // As random as a new hash map's keys, which is random enough here.
    let drawn = RandomState::new().build_hasher().finish() % 1024;
    wait / 2 + wait / 2 * u32::try_from(drawn).unwrap_or(0) / 1024
}

/// Says that a collector does not take what it is sent: once, until it does again.
#[derive(Default)]
struct Complaint {
    said: Option<String>,
}

impl Complaint {
    fn make(&mut self, signal: Signal, cause: &str, and: &str) {
        if self.said.as_deref() == Some(cause) {
            return;
        }
        // A cause that changes each time would fill the log: after the first, only a closer look has them.
        if self.said.is_none() {
            tracing::warn!("{signal} are not taken by the collector ({and}): {cause}");
        } else {
            tracing::debug!("{signal} are still not taken: {cause}");
        }
        self.said = Some(cause.to_owned());
    }

    fn over(&mut self, signal: Signal) {
        if self.said.take().is_some() {
            tracing::info!("the collector takes {signal} again");
        }
    }
}
