//! Tokens and money: as the runner counts them on the way to the model, else as the agent says.

use std::sync::{Arc, PoisonError};

use super::{Inner, Metrics, dollars, labels};
use crate::adapters::model::{Metered, Prices, Tokens};
use crate::machine::Effort;

/// What a model is called that is in no price list: names from outside are no labels.
const OTHER: &str = "other";

/// Who says what the model takes.
#[derive(Default)]
pub(super) struct Account {
    prices: Option<Arc<Prices>>,
    source: Source,
    agent: Under,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Source {
    /// The agent, at its end.
    #[default]
    Agent,
    /// The proxy that all of its requests should pass.
    Proxy,
}

/// Whether the agent is under way, and what is known of its requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Under {
    #[default]
    Nothing,
    Way,
    /// It has asked through the proxy: what it says itself would count twice.
    Count,
}

/// Whether what is said of the agent is of a start that this process saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Live,
    Found,
}

impl Account {
    pub(super) fn by_proxy(prices: Arc<Prices>) -> Self {
        Self {
            prices: Some(prices),
            source: Source::Proxy,
            agent: Under::Nothing,
        }
    }

    pub(super) fn by_hearsay(prices: Option<Arc<Prices>>) -> Self {
        Self {
            prices,
            ..Self::default()
        }
    }

    fn label(&self, model: Option<&str>) -> String {
        let prices = self.prices.as_ref();
        let listed = prices.and_then(|prices| prices.listed(model?));
        listed.unwrap_or(OTHER).to_owned()
    }
}

impl Metrics {
    /// Whom the model's proxy tells of each request.
    pub fn model_watch(&self) -> Arc<dyn Fn(&Metered) + Send + Sync> {
        let inner = Arc::clone(&self.0);
        Arc::new(move |metered| inner.metered(metered))
    }
}

impl Inner {
    fn metered(&self, metered: &Metered) {
        let mut account = self.agent.account.lock().unwrap_or_else(PoisonError::into_inner);
        match metered {
            Metered::Began => {
                if account.agent == Under::Way {
                    account.agent = Under::Count;
                }
            }
            Metered::Ended(request) => {
                let model = account.label(request.model.as_deref());
                let usage = if request.said_all { "known" } else { "unknown" };
                let requests = labels::ModelUsage {
                    model: model.clone(),
                    usage,
                };
                self.agent.requests.get_or_create(&requests).inc();
                self.tokens(&model, &request.tokens);
                if account.agent == Under::Count {
                    self.agent.spent.inc_by(request.cost_usd);
                }
                self.cost(model, request.cost_usd);
            }
        }
    }

    fn tokens(&self, model: &str, tokens: &Tokens) {
        for (r#type, count) in [
            ("input", tokens.input),
            ("output", tokens.output),
            ("cache_write", tokens.cache_write),
            ("cache_read", tokens.cache_read),
        ] {
            let model = model.to_owned();
            let label = labels::ModelTokens { model, r#type };
            self.agent.tokens.get_or_create(&label).inc_by(count);
        }
    }

    fn cost(&self, model: String, usd: f64) {
        self.agent.cost.get_or_create(&labels::Model { model }).inc_by(usd);
    }

    /// The agent is about to be started.
    pub(super) fn agent_starts(&self) {
        self.agent.starts.inc();
        let mut account = self.agent.account.lock().unwrap_or_else(PoisonError::into_inner);
        account.agent = Under::Way;
    }

    /// A start of the agent is over, or was found to be. `took` is what it took, `model` what it says it used.
    pub(super) fn agent_ended(&self, seen: Seen, took: &Effort, model: Option<&str>) {
        let mut account = self.agent.account.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = std::mem::take(&mut account.agent) == Under::Count;
        self.agent.turns.inc_by(took.turns.unwrap_or_default());
        self.agent.ran.inc_by(super::seconds(took.ran_ms.max(0)));
        // What was found was counted on its way by the process that is gone, where there is a proxy.
        if counted || (seen == Seen::Found && account.source == Source::Proxy) {
            return;
        }
        let model = account.label(model);
        let tokens = Tokens {
            input: took.input_tokens.unwrap_or_default(),
            output: took.output_tokens.unwrap_or_default(),
            ..Tokens::default()
        };
        if took.input_tokens.is_some() || took.output_tokens.is_some() {
            self.tokens(&model, &tokens);
        }
        if let Some(micro_usd) = took.cost_micro_usd {
            self.cost(model, dollars(micro_usd));
        }
    }

    /// What all starts have spent, by the journal.
    pub(super) fn agent_spent(&self, micro_usd: u64) {
        self.agent.spent.set(dollars(micro_usd));
    }
}
