//! What every client of GitHub's REST interface shares: its headers, and what its refusals say.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::RequestBuilder;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName};
use serde::Deserialize;

use crate::adapters::api::bearer_value;
use crate::adapters::http::{Answer, RETRY_AFTER_LIMIT};
use crate::secret::Secret;

/// The version of GitHub's interface that is spoken.
pub const API_VERSION: &str = "2022-11-28";
const API_VERSION_HEADER: HeaderName = HeaderName::from_static("x-github-api-version");
const MEDIA_TYPE: &str = "application/vnd.github+json";

/// A request with what GitHub wants to see in each; none where the token cannot stand in a header.
pub(crate) fn authorized(request: RequestBuilder, token: &Secret) -> Option<RequestBuilder> {
    let authorization = bearer_value(token)?;
    Some(
        request
            .header(ACCEPT, MEDIA_TYPE)
            .header(API_VERSION_HEADER, API_VERSION)
            .header(AUTHORIZATION, authorization),
    )
}

/// An error as GitHub writes it.
#[derive(Deserialize)]
pub(crate) struct WireError {
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) errors: Vec<WireErrorItem>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum WireErrorItem {
    Text(String),
    Fields {
        message: Option<String>,
        field: Option<String>,
        code: Option<String>,
    },
}

impl WireError {
    /// Of an answer that is no success: what is not in GitHub's form is taken as its words.
    pub(crate) fn of(answer: &Answer) -> Self {
        serde_json::from_slice(&answer.body).unwrap_or_else(|_| Self {
            message: String::from_utf8_lossy(&answer.body).into_owned(),
            errors: Vec::new(),
        })
    }

    /// All that it says, in one line.
    pub(crate) fn words(&self) -> String {
        let mut words = vec![self.message.clone()];
        words.extend(self.errors.iter().map(WireErrorItem::words));
        words.join("; ")
    }
}

impl WireErrorItem {
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Fields {
                message: Some(message), ..
            } => message.clone(),
            Self::Fields { field, code, .. } => [field.as_deref(), code.as_deref()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" "),
        }
    }
}

/// GitHub answers 403 for both of its rate limits; the secondary one may be known by its words alone.
pub(crate) fn is_rate_limit(headers: &HeaderMap, words: &str) -> bool {
    headers.contains_key("retry-after")
        || number(headers, "x-ratelimit-remaining") == Some(0)
        || words.to_ascii_lowercase().contains("rate limit")
}

/// `Retry-After`, else the time until `x-ratelimit-reset` (seconds since 1970) where nothing remains.
pub(crate) fn rate_limit_wait(answer: &Answer) -> Option<Duration> {
    if let Some(wait) = answer.retry_after() {
        return Some(wait);
    }
    if number(&answer.headers, "x-ratelimit-remaining") != Some(0) {
        return None;
    }
    let reset = Timestamp::from_second(number(&answer.headers, "x-ratelimit-reset")?).ok()?;
    let wait = Duration::try_from(reset.duration_since(Timestamp::now())).unwrap_or_default();
    Some(wait.min(RETRY_AFTER_LIMIT))
}

fn number(headers: &HeaderMap, name: &str) -> Option<i64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}
