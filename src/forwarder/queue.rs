//! Events that wait, in bounded memory: what is too much goes, the oldest `thinking` first.

use std::collections::VecDeque;

use super::event::{Event, Kind};

/// How many events wait at most, beside those of the request under way.
pub(super) const QUEUE_EVENTS: usize = 2_000;
/// How many bytes of JSON they may be.
const QUEUE_BYTES: usize = 2 * 1024 * 1024;
/// How many events one request has at most.
pub(super) const BATCH_EVENTS: usize = 100;
/// How many bytes of JSON they may be; a first one is taken whatever it has.
const BATCH_BYTES: usize = 256 * 1024;

/// The queue. Two lines with one numbering, so that the oldest `thinking` is found at once.
#[derive(Debug, Default)]
pub(super) struct Queue {
    thinking: VecDeque<Waiting>,
    others: VecDeque<Waiting>,
    bytes: usize,
    next: u64,
    dropped: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    bytes: usize,
    event: Event,
}

/// What one request takes along.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) events: Vec<Event>,
    /// How many were dropped since the last request.
    pub(super) dropped: u64,
}

impl Queue {
    /// Adds an event; how many were dropped for it.
    pub(super) fn push(&mut self, event: Event) -> u64 {
        let waiting = Waiting {
            number: self.next,
            bytes: event.bytes(),
            event,
        };
        self.next += 1;
        self.bytes += waiting.bytes;
        if waiting.event.kind == Kind::Thinking {
            self.thinking.push_back(waiting);
        } else {
            self.others.push_back(waiting);
        }
        let mut dropped = 0;
        while self.len() > QUEUE_EVENTS || self.bytes > QUEUE_BYTES {
            let Some(gone) = self.thinking.pop_front().or_else(|| self.others.pop_front()) else {
                break;
            };
            self.bytes -= gone.bytes;
            dropped += 1;
        }
        self.dropped += dropped;
        dropped
    }

    pub(super) fn len(&self) -> usize {
        self.thinking.len() + self.others.len()
    }

    pub(super) fn fills_a_batch(&self) -> bool {
        self.len() >= BATCH_EVENTS || self.bytes >= BATCH_BYTES
    }

    /// The oldest events, as many as one request has; none where none wait.
    pub(super) fn take_batch(&mut self) -> Option<Taken> {
        let mut events = Vec::new();
        let mut bytes = 0;
        while events.len() < BATCH_EVENTS {
            let Some(waiting) = self.pop_oldest_within(BATCH_BYTES - bytes, events.is_empty()) else {
                break;
            };
            bytes = (bytes + waiting.bytes).min(BATCH_BYTES);
            self.bytes -= waiting.bytes;
            events.push(waiting.event);
        }
        (!events.is_empty()).then(|| Taken {
            events,
            dropped: std::mem::take(&mut self.dropped),
        })
    }

    /// What a request took along did not arrive: the next one says so.
    pub(super) fn was_lost(&mut self, count: u64) {
        self.dropped += count;
    }

    fn pop_oldest_within(&mut self, bytes: usize, whatever_it_has: bool) -> Option<Waiting> {
        let thinking = self.thinking.front().map(|waiting| waiting.number);
        let other = self.others.front().map(|waiting| waiting.number);
        let line = match (thinking, other) {
            (Some(thinking), Some(other)) if thinking < other => &mut self.thinking,
            (Some(_), None) => &mut self.thinking,
            (_, Some(_)) => &mut self.others,
            (None, None) => return None,
        };
        line.pop_front_if(|waiting| whatever_it_has || waiting.bytes <= bytes)
    }
}

#[cfg(test)]
mod tests;
