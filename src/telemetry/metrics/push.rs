//! The metrics by OTLP: every so often, and once more at the end. Nobody waits for it.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval_at};

use super::otlp::{Span, request};
use super::{Exposition, Metrics};
use crate::telemetry::otlp::{Otlp, PostError, Signal};
use crate::telemetry::system_clock;

/// How long is waited at the end before another try.
const PAUSE: Duration = Duration::from_millis(250);

/// They are sent no more often than this.
const SHORTEST: Duration = Duration::from_millis(100);

/// The task that sends them.
pub(in crate::telemetry) struct Push {
    closing: watch::Sender<bool>,
    sending: JoinHandle<()>,
}

impl Push {
    /// Sends as often as `OTEL_METRIC_EXPORT_INTERVAL` says. Has to be called on a runtime.
    pub(in crate::telemetry) fn start(otlp: Arc<Otlp>, metrics: Metrics) -> Self {
        let (closing, closed) = watch::channel(false);
        let sending = tokio::spawn(send(otlp, metrics, closed));
        Self { closing, sending }
    }

    /// Sends once more, with what they are now, until `deadline` at the latest.
    pub(in crate::telemetry) async fn close(mut self, deadline: Instant) {
        self.closing.send_replace(true);
        if tokio::time::timeout_at(deadline, &mut self.sending).await.is_err() {
            self.sending.abort();
            tracing::warn!("the collector did not get the last metrics in time");
        }
    }
}

#[derive(Clone, Copy)]
enum Trouble {
    None,
    Said,
}

/// Each request has all there is to say: one that is lost is made up for by the next, but for the last.
async fn send(otlp: Arc<Otlp>, metrics: Metrics, mut closed: watch::Receiver<bool>) {
    // One that is no time at all would be a storm.
    let every = otlp.metric_interval().max(SHORTEST);
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble = Trouble::None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // Whoever would close it has gone: that is the end, too.
            _ = closed.wait_for(|closing| *closing) => break,
        }
        // A collector that says nothing does not take the time of the last request, which has all that this one has.
        let came = tokio::select! {
            came = once(&otlp, &metrics) => came,
            _ = closed.wait_for(|closing| *closing) => break,
        };
        // Said once, until they are taken again.
        match (came, trouble) {
            (Err(error), Trouble::None) => {
                tracing::warn!("metrics are not taken by the collector: {error}");
                trouble = Trouble::Said;
            }
            (Ok(()), Trouble::Said) => {
                tracing::info!("the collector takes metrics again");
                trouble = Trouble::None;
            }
            (Err(_), Trouble::Said) | (Ok(()), Trouble::None) => {}
        }
    }
    while let Err(PostError::Again { after, .. }) = once(&otlp, &metrics).await {
        tokio::time::sleep(after.unwrap_or(PAUSE)).await;
    }
}

async fn once(otlp: &Otlp, metrics: &Metrics) -> Result<(), PostError> {
    let text = metrics.encode().map_err(|error| unsendable(&error))?;
    let text = Exposition::read(&text).map_err(|error| unsendable(&error))?;
    let span = Span {
        from: metrics.since(),
        to: system_clock(),
    };
    let message = request(otlp.resource(), &text, span);
    let taken = otlp.post(Signal::Metrics, &message).await?;
    metrics.export_dropped(Signal::Metrics.into(), taken.rejected);
    Ok(())
}

/// A text of our own that cannot be read is a bug, which a test would have found.
fn unsendable(error: &dyn std::fmt::Display) -> PostError {
    PostError::Refused {
        cause: error.to_string(),
    }
}
