//! What init hears: signals that are the command's, and that a child has ended.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};

/// They ask for an end: what a signal kills after one of them is not started again.
const STOPS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP];
/// They are passed on, and mean nothing to init.
const OTHERS: [Signal; 4] = [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGWINCH, Signal::SIGCONT];

/// One signal's news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is for the command.
    PassOn(Signal),
    /// A child ended: the command, or one that was adopted.
    ChildEnded,
}

/// Keeps what is for the command waiting, over an exec too, until [`Signals::watch`].
pub(super) fn block() -> Result<(), Errno> {
    STOPS.into_iter().chain(OTHERS).collect::<SigSet>().thread_block()
}

/// The streams, and whether an end was asked for.
#[derive(Debug)]
pub(super) struct Signals {
    streams: Vec<(Heard, tokio::signal::unix::Signal)>,
    stop: Option<Signal>,
}

impl Signals {
    /// Handlers first, then an empty mask: whatever was kept waiting, by us or by who started us, is heard.
    pub(super) fn watch() -> io::Result<Self> {
        let passed_on = STOPS.into_iter().chain(OTHERS).map(Heard::PassOn);
        let streams = passed_on.chain([Heard::ChildEnded]).map(|heard| {
            let number = match heard {
                Heard::PassOn(signal) => signal,
                Heard::ChildEnded => Signal::SIGCHLD,
            };
            Ok((heard, signal(SignalKind::from_raw(number as i32))?))
        });
        let streams = streams.collect::<io::Result<_>>()?;
        SigSet::empty().thread_set_mask()?;
        Ok(Self { streams, stop: None })
    }

    /// The next one. Cancelled, it has taken none.
    pub(super) async fn next(&mut self) -> Heard {
        poll_fn(|context| self.poll(context)).await
    }

    /// The last stop that was asked for, also where it was not yet waited for.
    pub(super) async fn stop(&mut self) -> Option<Signal> {
        poll_fn(|context| {
            // With no command there, there is nobody to pass the others on to.
            while self.poll(context).is_ready() {}
            Poll::Ready(self.stop)
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Heard> {
        for (heard, stream) in &mut self.streams {
            if stream.poll_recv(context).is_ready() {
                if let Heard::PassOn(signal) = heard
                    && STOPS.contains(signal)
                {
                    self.stop = Some(*signal);
                }
                return Poll::Ready(*heard);
            }
        }
        Poll::Pending
    }
}
