//! Adds up what the requests of one agent used, and says when its budget is spent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::prices::{PicoUsd, Prices, to_dollars, to_micros};
use super::usage::{Known, Reader, Usage};
use crate::adapters::agent::MicroUsd;

/// How many models are kept apart; the tokens of further ones are added up under one name.
const MODELS: usize = 32;
const MODEL_NAME: usize = 120;
const OTHERS: &str = "(others)";

/// What was used until now. Kept as a file beside the transcript, so that a killed runner's successor knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spent {
    /// By the runner's prices, rounded up to millionths of a dollar.
    pub cost_micro_usd: MicroUsd,
    /// Requests that the model began to answer.
    pub requests: u64,
    /// Those of them whose answer did not say, or not to its end, what it used.
    pub unknown_requests: u64,
    /// Tokens by model.
    pub models: BTreeMap<String, Tokens>,
}

/// Tokens of one model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    /// Input that no cache answered or took.
    pub input: u64,
    /// Output.
    pub output: u64,
    /// Input written to a cache.
    pub cache_write: u64,
    /// Input that a cache answered.
    pub cache_read: u64,
    /// Whether its price is not known: it is charged as the dearest is.
    #[serde(default)]
    pub price_assumed: bool,
}

impl Spent {
    /// The tokens of all models.
    pub fn total(&self) -> Tokens {
        self.models.values().fold(Tokens::default(), |sum, one| Tokens {
            input: sum.input.saturating_add(one.input),
            output: sum.output.saturating_add(one.output),
            cache_write: sum.cache_write.saturating_add(one.cache_write),
            cache_read: sum.cache_read.saturating_add(one.cache_read),
            price_assumed: sum.price_assumed || one.price_assumed,
        })
    }
}

/// What becomes of a request to the model, for whoever follows them one by one.
#[derive(Debug, Clone, PartialEq)]
pub enum Metered {
    /// The model began to answer.
    Began,
    /// The answer is over.
    Ended(Request),
}

/// A request to the model, once its answer is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The model, as the answer names it.
    pub model: Option<String>,
    /// What it used.
    pub tokens: Tokens,
    /// What that costs, in US dollars: not rounded to a millionth.
    pub cost_usd: f64,
    /// Whether the answer said to its end what it used.
    pub said_all: bool,
    /// What all requests of the run have cost until now.
    pub spent: MicroUsd,
}

/// Who is told of each request.
pub type Follow = Arc<dyn Fn(&Metered) + Send + Sync>;

#[derive(Default)]
struct Follower(OnceLock<Follow>);

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.get().is_some() { "Follower" } else { "nobody" })
    }
}

/// The meter of one agent's run.
#[derive(Debug)]
pub(super) struct Meter {
    follower: Follower,
    prices: Arc<Prices>,
    left: MicroUsd,
    sum: Mutex<Sum>,
    told: watch::Sender<Spent>,
    refused: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Sum {
    cost: PicoUsd,
    spent: Spent,
}

impl Meter {
    /// `left` is what may be spent.
    pub(super) fn new(prices: Arc<Prices>, left: MicroUsd) -> Arc<Self> {
        Arc::new(Self {
            follower: Follower::default(),
            prices,
            left,
            sum: Mutex::default(),
            told: watch::Sender::new(Spent::default()),
            refused: watch::Sender::new(false),
        })
    }

    /// Whether one more request may be made. The first one that may not is what stops the run: an agent whose last answer
    /// reached the budget has come to its end by itself.
    pub(super) fn admits(&self) -> bool {
        let left = self.spent().cost_micro_usd < self.left;
        if !left {
            self.refused.send_replace(true);
        }
        left
    }

    pub(super) fn left(&self) -> MicroUsd {
        self.left
    }

    pub(super) fn spent(&self) -> Spent {
        self.told.borrow().clone()
    }

    pub(super) fn follow(&self) -> watch::Receiver<Spent> {
        self.told.subscribe()
    }

    pub(super) fn refusals(&self) -> watch::Receiver<bool> {
        self.refused.subscribe()
    }

    /// Tells of each request from now on. Only the first call counts.
    pub(super) fn tell(&self, follow: Follow) {
        drop(self.follower.0.set(follow));
    }

    fn told(&self, metered: &Metered) {
        if let Some(follow) = self.follower.0.get() {
            follow(metered);
        }
    }

    /// Begins to count an answer.
    pub(super) fn count(self: &Arc<Self>, content_type: &str) -> Counted {
        self.told(&Metered::Began);
        self.add(|sum| sum.spent.requests += 1);
        Counted {
            meter: Arc::clone(self),
            reader: Reader::of(content_type),
            charged: Charge::default(),
            ended: false,
        }
    }

    fn add(&self, change: impl FnOnce(&mut Sum)) {
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut sum);
        sum.spent.cost_micro_usd = to_micros(sum.cost);
        self.told.send_replace(sum.spent.clone());
    }
}

/// What is in the sum for one request already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Charge {
    usage: Usage,
    cost: PicoUsd,
}

/// One answer on its way. What it used is in the sum by the time its bytes are passed on.
#[derive(Debug)]
pub(super) struct Counted {
    meter: Arc<Meter>,
    reader: Reader,
    charged: Charge,
    ended: bool,
}

impl Counted {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.reader.feed(bytes);
        self.charge();
    }

    /// The end of the answer. Dropping it before is the end, too.
    pub(super) fn finish(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.reader.finish();
        self.charge();
        let said_all = self.reader.known == Known::Whole;
        if !said_all {
            self.meter.add(|sum| sum.spent.unknown_requests += 1);
        }
        let usage = self.charged.usage;
        self.meter.told(&Metered::Ended(Request {
            model: self.reader.model.clone(),
            tokens: Tokens {
                input: usage.input,
                output: usage.output,
                cache_write: usage.cache_write,
                cache_read: usage.cache_read,
                price_assumed: false,
            },
            cost_usd: to_dollars(self.charged.cost),
            said_all,
            spent: self.meter.spent().cost_micro_usd,
        }));
    }

    fn charge(&mut self) {
        if self.reader.usage == self.charged.usage {
            return;
        }
        let name = self.reader.model.as_deref().unwrap_or_default();
        let known = self.meter.prices.knows(name);
        let now = Charge {
            usage: self.reader.usage,
            cost: self.meter.prices.cost(name, &self.reader.usage),
        };
        let before = std::mem::replace(&mut self.charged, now.clone());
        let name: String = name.chars().take(MODEL_NAME).collect();
        self.meter.add(|sum| {
            sum.cost = sum.cost.saturating_sub(before.cost).saturating_add(now.cost);
            let models = &mut sum.spent.models;
            let key = if models.len() < MODELS || models.contains_key(&name) {
                name
            } else {
                OTHERS.to_owned()
            };
            let tokens = models.entry(key).or_default();
            let (now, before) = (now.usage, before.usage);
            tokens.input += now.input - before.input;
            tokens.output += now.output - before.output;
            tokens.cache_write += now.cache_write - before.cache_write;
            tokens.cache_read += now.cache_read - before.cache_read;
            tokens.price_assumed = !known;
        });
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(left: u64) -> Arc<Meter> {
        Meter::new(Arc::new(Prices::load(None).unwrap()), MicroUsd::from_micros(left))
    }

    fn start(model: &str, input: u64) -> String {
        format!(
            "data: {{\"type\":\"message_start\",\"message\":{{\"model\":\"{model}\",\"usage\":{{\"input_tokens\":{input}}}}}}}\n\n"
        )
    }

    fn delta(output: u64) -> String {
        format!("data: {{\"type\":\"message_delta\",\"usage\":{{\"output_tokens\":{output}}}}}\n\n")
    }

    #[test]
    fn requests_add_up_by_model_as_they_pass_and_what_was_cumulative_is_not_added_twice() {
        let meter = meter(1_000_000);
        let mut one = meter.count("text/event-stream");
        let mut other = meter.count("text/event-stream");
        one.feed(start("claude-opus-4-5-20251101", 1000).as_bytes());
        assert_eq!(meter.spent().cost_micro_usd.micros(), 5000, "before its end");
        other.feed(start("claude-haiku-4-5", 10).as_bytes());
        one.feed(delta(10).as_bytes());
        one.feed(delta(30).as_bytes());
        one.finish();
        other.feed(delta(1).as_bytes());
        drop((one, other));
        let spent = meter.spent();
        assert_eq!(spent.cost_micro_usd.micros(), 5000 + 30 * 25 + 10 + 5);
        assert_eq!((spent.requests, spent.unknown_requests), (2, 0));
        assert_eq!(spent.models["claude-opus-4-5-20251101"].output, 30);
        assert_eq!((spent.total().input, spent.total().output), (1010, 31));
        assert!(!spent.total().price_assumed);
    }

    #[test]
    fn a_budget_that_is_reached_admits_nothing_more_and_says_so_once_it_is_asked() {
        let meter = meter(5000);
        let refusals = meter.refusals();
        assert!(meter.admits());
        let mut one = meter.count("text/event-stream");
        one.feed(start("claude-opus-4-5", 1000).as_bytes());
        assert!(!*refusals.borrow(), "the answer that reached it may still be the last");
        assert!(!meter.admits());
        assert!(*refusals.borrow());
    }

    #[test]
    fn what_does_not_say_what_it_used_is_an_unknown_request_and_an_unknown_model_is_the_dearest() {
        let meter = meter(1);
        drop(meter.count("text/html"));
        let mut cut = meter.count("text/event-stream");
        cut.feed(start("claude-next", 1_000_000).as_bytes());
        drop(cut);
        let spent = meter.spent();
        assert_eq!((spent.requests, spent.unknown_requests), (2, 2));
        assert_eq!(spent.cost_micro_usd.micros(), 15_000_000);
        assert!(spent.total().price_assumed);
    }

    #[test]
    fn each_request_is_told_once_when_its_answer_is_over() {
        let meter = meter(1_000_000);
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        meter.tell(Arc::new(move |metered| tell.lock().unwrap().push(metered.clone())));
        let mut one = meter.count("text/event-stream");
        one.feed(start("claude-opus-4-5-20251101", 1000).as_bytes());
        one.feed(delta(10).as_bytes());
        assert_eq!(*told.lock().unwrap(), [Metered::Began], "not before its end");
        one.finish();
        drop(one);
        let told = told.lock().unwrap();
        let [Metered::Began, Metered::Ended(request)] = &**told else {
            panic!("{told:?}");
        };
        assert_eq!(request.model.as_deref(), Some("claude-opus-4-5-20251101"));
        assert_eq!((request.tokens.input, request.tokens.output), (1000, 10));
        assert!((request.cost_usd - 0.005_25).abs() < 1e-12, "{request:?}");
    }

    #[test]
    fn names_of_models_do_not_fill_the_memory() {
        let meter = meter(1);
        for n in 0..100 {
            meter
                .count("text/event-stream")
                .feed(start(&format!("m{n}"), 1).as_bytes());
        }
        let spent = meter.spent();
        assert_eq!(spent.models.len(), MODELS + 1);
        assert_eq!(spent.total().input, 100);
    }
}
