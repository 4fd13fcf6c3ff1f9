//! Being told to stop, and how long the process may live after it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::machine::Stopping;

/// When the runner was told to stop, and how long it may take.
#[derive(Debug, Clone)]
pub struct Term {
    /// The moment, once it has come.
    pub told: watch::Receiver<Option<Instant>>,
    /// How long the process may live after it (`RUNNER_TERM_GRACE`).
    pub grace: Duration,
}

impl Term {
    /// The last part of the grace is kept for what has to be told at the end.
    pub fn reserve(&self) -> Duration {
        (self.grace / 4).min(Duration::from_secs(3))
    }

    /// How it stands now.
    pub fn stopping(&self) -> Stopping {
        match *self.told.borrow() {
            None => Stopping::No,
            Some(at) if at.elapsed() < self.grace.saturating_sub(self.reserve()) => Stopping::Grace,
            Some(_) => Stopping::Over,
        }
    }

    /// The next moment at which something changes by itself.
    pub fn next_change(&self) -> Option<Instant> {
        let at = (*self.told.borrow())?;
        Some(match self.stopping() {
            Stopping::No | Stopping::Grace => at + self.grace.saturating_sub(self.reserve()),
            Stopping::Over => at + self.grace,
        })
    }

    /// Whether the grace is over.
    pub fn is_up(&self) -> bool {
        (*self.told.borrow()).is_some_and(|at| at.elapsed() >= self.grace)
    }
}

/// The moment of being told to stop; never, where nobody can tell any more.
pub async fn told(told: &mut watch::Receiver<Option<Instant>>) {
    if told.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A moment, where there is one; else never.
pub async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
