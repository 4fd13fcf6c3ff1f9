//! What a model's tokens cost: public list prices with a date and a source each, and what an operator sets instead.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use thiserror::Error;

use super::usage::Usage;
use crate::adapters::agent::MicroUsd;

/// List prices in US dollars a million tokens. Who pays less, or another currency, sets `RUNNER_MODEL_PRICES`.
const LISTED: &str = include_str!("../../assets/model-prices.json");
/// What a web search costs where no file says it.
const WEB_SEARCH: MicroUsd = MicroUsd::from_micros(10_000);

/// Millionths of a millionth of a dollar: a token's price in whole numbers.
pub(super) type PicoUsd = u128;

/// Prices by model.
#[derive(Debug, Clone)]
pub struct Prices {
    models: BTreeMap<String, Price>,
    /// For a model that is not known: the highest of each.
    dearest: Rates,
    web_search: MicroUsd,
}

/// Why a file of prices cannot be used.
#[derive(Debug, Error)]
pub enum PricesError {
    /// It cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not of the form.
    #[error("{place} is no list of prices: {source}")]
    Invalid {
        /// The file.
        place: String,
        /// What is wrong where.
        source: serde_json::Error,
    },
    /// It prices nothing.
    #[error("{place} has no model in it")]
    Empty {
        /// The file.
        place: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, deserialize_with = "some_dollars")]
    web_search: Option<MicroUsd>,
    models: Vec<Price>,
}

/// One model's price. Unknown fields are the date, the source and whatever else an operator notes down.
#[derive(Debug, Clone, Deserialize)]
struct Price {
    /// The name without date and suffix.
    model: String,
    #[serde(flatten)]
    rates: Rates,
    long_prompt: Option<LongPrompt>,
    #[cfg_attr(not(test), expect(dead_code, reason = "for people, and for the test that holds it"))]
    as_of: Option<String>,
    #[cfg_attr(not(test), expect(dead_code, reason = "for people, and for the test that holds it"))]
    source: Option<String>,
}

/// What all tokens of a request cost once its prompt is longer than this.
#[derive(Debug, Clone, Deserialize)]
struct LongPrompt {
    above_tokens: u64,
    #[serde(flatten)]
    rates: Rates,
}

/// A million tokens of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
struct Rates {
    #[serde(deserialize_with = "dollars")]
    input: MicroUsd,
    #[serde(deserialize_with = "dollars")]
    output: MicroUsd,
    #[serde(deserialize_with = "dollars")]
    cache_write_5m: MicroUsd,
    #[serde(deserialize_with = "dollars")]
    cache_write_1h: MicroUsd,
    #[serde(deserialize_with = "dollars")]
    cache_read: MicroUsd,
}

fn dollars<'de, D: Deserializer<'de>>(from: D) -> Result<MicroUsd, D::Error> {
    let dollars = f64::deserialize(from)?;
    MicroUsd::from_dollars(dollars).ok_or_else(|| serde::de::Error::custom(format!("{dollars} is no price")))
}

fn some_dollars<'de, D: Deserializer<'de>>(from: D) -> Result<Option<MicroUsd>, D::Error> {
    dollars(from).map(Some)
}

impl Rates {
    fn dearer_of(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            output: self.output.max(other.output),
            cache_write_5m: self.cache_write_5m.max(other.cache_write_5m),
            cache_write_1h: self.cache_write_1h.max(other.cache_write_1h),
            cache_read: self.cache_read.max(other.cache_read),
        }
    }

    fn cost(&self, usage: &Usage) -> PicoUsd {
        let long = usage.cache_write_1h.min(usage.cache_write);
        [
            (usage.input, self.input),
            (usage.output, self.output),
            (usage.cache_write - long, self.cache_write_5m),
            (long, self.cache_write_1h),
            (usage.cache_read, self.cache_read),
        ]
        .into_iter()
        .map(|(tokens, price)| PicoUsd::from(tokens) * PicoUsd::from(price.micros()))
        .sum()
    }
}

impl Prices {
    /// The list prices, and before them those of a file: what it names counts, the rest stays.
    pub fn load(file: Option<&Path>) -> Result<Self, PricesError> {
        let listed = parse(LISTED, "the built-in list")?;
        let own = file
            .map(|path| {
                let text = std::fs::read_to_string(path).map_err(|source| PricesError::Unreadable {
                    path: path.to_owned(),
                    source,
                })?;
                parse(&text, &path.display().to_string())
            })
            .transpose()?;
        let web_search = own.as_ref().and_then(|own| own.web_search).or(listed.web_search);
        let models: BTreeMap<String, Price> = listed
            .models
            .into_iter()
            .chain(own.into_iter().flat_map(|own| own.models))
            .map(|price| (price.model.clone(), price))
            .collect();
        let dearest = models
            .values()
            .flat_map(|price| [Some(price.rates), price.long_prompt.as_ref().map(|long| long.rates)])
            .flatten()
            .fold(Rates::default(), Rates::dearer_of);
        Ok(Self {
            models,
            dearest,
            web_search: web_search.unwrap_or(WEB_SEARCH),
        })
    }

    /// Whether a model has a price of its own here.
    pub fn knows(&self, model: &str) -> bool {
        self.price(model).is_some()
    }

    /// The name that a model has in the list: its family, without a date and the like. None where it is in no list.
    pub fn listed(&self, model: &str) -> Option<&str> {
        self.price(model).map(|price| price.model.as_str())
    }

    /// What a request cost. A model that is not known costs what the dearest does.
    pub(super) fn cost(&self, model: &str, usage: &Usage) -> PicoUsd {
        let rates = match self.price(model) {
            None => self.dearest,
            Some(price) => match &price.long_prompt {
                Some(long) if usage.prompt() > long.above_tokens => long.rates,
                Some(_) | None => price.rates,
            },
        };
        let searches = PicoUsd::from(usage.web_searches) * PicoUsd::from(self.web_search.micros()) * 1_000_000;
        rates.cost(usage) + searches
    }

    fn price(&self, model: &str) -> Option<&Price> {
        self.models.get(model).or_else(|| self.models.get(&family(model)))
    }
}

fn parse(text: &str, place: &str) -> Result<File, PricesError> {
    let file: File = serde_json::from_str(text).map_err(|source| PricesError::Invalid {
        place: place.to_owned(),
        source,
    })?;
    if file.models.is_empty() {
        return Err(PricesError::Empty {
            place: place.to_owned(),
        });
    }
    Ok(file)
}

/// A model's name without a gateway's prefix, a date, `-latest` and the size of the context. Nothing else is taken off: the
/// next version of a model has a price of its own.
fn family(model: &str) -> String {
    let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let name = name.split('[').next().unwrap_or(&name);
    let name = name.strip_suffix("-latest").unwrap_or(name);
    match name.rsplit_once(['-', '@']) {
        Some((family, date)) if date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit()) => family.to_owned(),
        Some(_) | None => name.to_owned(),
    }
}

/// Rounded up: what is not known to be nothing is something.
pub(super) fn to_micros(pico: PicoUsd) -> MicroUsd {
    MicroUsd::from_micros(u64::try_from(pico.div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

/// Not rounded.
#[expect(
    clippy::cast_precision_loss,
    reason = "a sum of money that is shown, and not added to an account"
)]
pub(super) fn to_dollars(pico: PicoUsd) -> f64 {
    pico as f64 / 1e12
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, output: u64) -> Usage {
        Usage {
            input,
            output,
            ..Usage::default()
        }
    }

    fn cost(prices: &Prices, model: &str, usage: &Usage) -> u64 {
        to_micros(prices.cost(model, usage)).micros()
    }

    #[test]
    fn every_listed_price_has_a_date_and_a_source() {
        for price in parse(LISTED, "listed").unwrap().models {
            let date = price.as_of.unwrap();
            assert!(date.parse::<jiff::civil::Date>().is_ok(), "{}: {date}", price.model);
            assert!(price.source.is_some(), "{}", price.model);
            assert_eq!(family(&price.model), price.model);
        }
    }

    #[test]
    fn a_model_is_found_under_its_name_with_date_suffix_or_gateway_and_the_next_version_is_not() {
        let prices = Prices::load(None).unwrap();
        for model in [
            "claude-opus-4-5",
            "claude-opus-4-5-20251101",
            "claude-opus-4-5@20251101",
            "anthropic/claude-opus-4-5",
            "claude-opus-4-5[1m]",
            "claude-3-7-sonnet-latest",
        ] {
            assert!(prices.knows(model), "{model}");
        }
        for model in ["claude-opus-4-55", "claude-opus-9", "", "gpt"] {
            assert!(!prices.knows(model), "{model}");
        }
    }

    #[test]
    fn each_kind_of_token_has_its_price_and_what_is_not_known_costs_what_the_dearest_does() {
        let prices = Prices::load(None).unwrap();
        // What Claude Code 2.1.330 itself says of these tokens.
        assert_eq!(cost(&prices, "claude-opus-5-5", &usage(70, 35)), 980);
        assert_eq!(cost(&prices, "claude-sonnet-4-5", &usage(70, 35)), 735);
        assert_eq!(cost(&prices, "claude-3-5-haiku-20241022", &usage(70, 35)), 196);
        let cached = Usage {
            cache_write: 3_000_000,
            cache_write_1h: 1_000_000,
            cache_read: 1_000_000,
            web_searches: 2,
            ..Usage::default()
        };
        assert_eq!(
            cost(&prices, "claude-sonnet-4-5", &cached),
            2 * 3_750_000 + 6_000_000 + 300_000 + 20_000
        );
        assert_eq!(cost(&prices, "claude-next-1", &usage(1_000_000, 1_000_000)), 90_000_000);
        assert_eq!(cost(&prices, "claude-opus-5-5", &usage(1, 0)), 4);
        assert_eq!(cost(&prices, "claude-haiku-5-5", &usage(1, 0)), 1, "rounded up");
    }

    #[test]
    fn a_long_prompt_has_a_price_of_its_own() {
        let prices = Prices::load(None).unwrap();
        assert_eq!(cost(&prices, "claude-haiku-5-5", &usage(100_000, 0)), 10_000);
        assert_eq!(cost(&prices, "claude-haiku-5-5", &usage(100_001, 1_000_000)), 2_550_001);
    }

    #[test]
    fn a_file_sets_the_prices_that_it_names_and_what_is_none_is_refused() {
        let room = tempfile::tempdir().unwrap();
        let file = room.path().join("prices.json");
        let rates = r#""output":2,"cache_write_5m":0,"cache_write_1h":0,"cache_read":0"#;
        std::fs::write(
            &file,
            format!(r#"{{"models":[{{"model":"m","input":1,{rates},"as_of":"2026-01-01","contract":7}}]}}"#),
        )
        .unwrap();
        let prices = Prices::load(Some(&file)).unwrap();
        assert_eq!(cost(&prices, "m", &usage(1_000_000, 1_000_000)), 3_000_000);
        assert!(prices.knows("claude-opus-4-5"));
        for bad in [
            String::new(),
            "{}".to_owned(),
            r#"{"models":[]}"#.to_owned(),
            format!(r#"{{"models":[{{"model":"m","input":-1,{rates}}}]}}"#),
            r#"{"models":[{"model":"m","input":1}]}"#.to_owned(),
        ] {
            std::fs::write(&file, &bad).unwrap();
            let error = Prices::load(Some(&file)).unwrap_err().to_string();
            assert!(error.contains("prices.json"), "{bad}: {error}");
        }
        assert!(Prices::load(Some(&room.path().join("none"))).is_err());
    }
}
