//! What an attempt took: as it was counted on the way to the model, else as the agent says.

use std::time::Duration;

use crate::adapters::agent::{AgentReport as Said, MicroUsd};
use crate::adapters::model::Spent;
use crate::machine::{AgentRun, Effort, Millis};

/// The account of one attempt.
pub(super) struct Bill {
    /// What earlier attempts spent.
    earlier: MicroUsd,
    counted: Option<Spent>,
    /// Whether the agent's own figure has in it what it cost before: it adds up over the clean ends of a conversation.
    said_is_a_sum: bool,
}

impl Bill {
    pub(super) fn new(run: &AgentRun, counted: Option<Spent>) -> Self {
        Self {
            earlier: MicroUsd::from_micros(run.spent_micro_usd),
            // An agent that never asked through the proxy has its model elsewhere.
            counted: counted.filter(|spent| spent.requests > 0),
            said_is_a_sum: run.repair.is_some() && run.session.is_some(),
        }
    }

    /// A first attempt's.
    #[cfg(test)]
    pub(super) fn counted(spent: Spent) -> Self {
        Self {
            earlier: MicroUsd::default(),
            counted: Some(spent),
            said_is_a_sum: false,
        }
    }

    /// As it was counted, but where an answer did not say what it used, no less than the agent says.
    fn cost(&self, said: &Said) -> Option<MicroUsd> {
        let said = said.cost_usd.map(|cost| {
            let before = if self.said_is_a_sum {
                self.earlier
            } else {
                MicroUsd::default()
            };
            MicroUsd::from_micros(cost.micros().saturating_sub(before.micros()))
        });
        match &self.counted {
            Some(spent) if spent.unknown_requests == 0 => Some(spent.cost_micro_usd),
            Some(spent) => Some(spent.cost_micro_usd.max(said.unwrap_or_default())),
            None => said,
        }
    }

    /// What the attempt took.
    pub(super) fn effort(&self, said: &Said, ran: Duration) -> Effort {
        let counted = self.counted.as_ref().map(Spent::total);
        Effort {
            ran_ms: Millis::try_from(ran.as_millis()).unwrap_or(Millis::MAX),
            cost_micro_usd: self.cost(said).map(MicroUsd::micros),
            turns: said.turns,
            input_tokens: counted.map(|tokens| tokens.input).or(said.input_tokens),
            output_tokens: counted.map(|tokens| tokens.output).or(said.output_tokens),
        }
    }

    /// What all attempts spent.
    pub(super) fn in_all(&self, said: &Said) -> MicroUsd {
        let attempt = self.cost(said).unwrap_or_default();
        MicroUsd::from_micros(self.earlier.micros().saturating_add(attempt.micros()))
    }
}
