//! The driver's rows as `progress`: one for each state that is entered.

use runner_journal::Head;
use serde_json::{Map, Value};

use super::Forwarder;
use crate::driver::Observe;
use crate::machine::{Event, Run, StateName};

/// Tells of each state once it is on disk.
pub struct Entered {
    forwarder: Forwarder,
    last: Option<StateName>,
}

impl Entered {
    pub(super) fn new(forwarder: Forwarder) -> Self {
        Self { forwarder, last: None }
    }
}

impl Observe for Entered {
    fn recorded(&mut self, run: &Run, event: &Event, head: Head) {
        let state = run.state_name();
        let before = std::mem::replace(&mut self.last, state);
        // The first one is the operator's own news, the last one the verdict's.
        let Some(state) = state.filter(|state| !matches!(state, StateName::Assigned | StateName::Reported)) else {
            return;
        };
        if before == Some(state) || run.verdict.is_some() {
            return;
        }
        let message = match event {
            Event::Booted { .. } => format!("{state}: start {} goes on from here", run.boot.number),
            Event::Assigned { .. }
            | Event::Intended { .. }
            | Event::Probed { .. }
            | Event::Ended { .. }
            | Event::Concluded { .. }
            | Event::Noted { .. } => state.to_string(),
        };
        let details = Map::from_iter([
            ("state".to_owned(), Value::from(state.to_string())),
            ("boot".to_owned(), Value::from(run.boot.number)),
            ("seq".to_owned(), Value::from(head.seq)),
        ]);
        self.forwarder.entered(message, details);
    }
}

#[cfg(test)]
mod tests;
