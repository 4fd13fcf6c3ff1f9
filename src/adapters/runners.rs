//! The client of GitHub's self-hosted runners: registering one just in time, finding and removing it.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

use crate::actions::names::{Scope, Target};
use crate::adapters::api::ErrorText;
use crate::adapters::github::{self, WireError, is_rate_limit, rate_limit_wait};
use crate::adapters::http::{Answer, ExchangeError, TransportError, exchange};
use crate::secret::Secret;
use crate::text::excerpt;

/// The most that is read of an answer, in bytes: a hundred runners with a hundred labels each.
const ANSWER_LIMIT: usize = 8 * 1024 * 1024;
/// So many pages of a list are looked at. A server that knows the filter by name needs one.
const PAGES: u32 = 20;
const PAGE: usize = 100;
/// The group that a repository's runners are in: it has no other.
const DEFAULT_GROUP: u64 = 1;

/// Why a call gave nothing. No variant shows the token, or more than 200 characters of a message.
#[derive(Debug, Error)]
pub enum RunnersError {
    /// GitHub cannot have done anything.
    #[error("the request was not sent: {0}")]
    NotSent(String),
    /// GitHub may have done the work.
    #[error("the answer was lost, the request may have been carried out: {0}")]
    Lost(String),
    /// 401: the token is wrong or has expired.
    #[error("GitHub does not take the credential (401{0})")]
    Unauthorized(ErrorText),
    /// 403 that is not about the rate of requests.
    #[error("the credential may not do this (403{0})")]
    Forbidden(ErrorText),
    /// 404: no such thing, or none that the token may see.
    #[error("GitHub knows no such thing, or the credential may not see it (404{0})")]
    NotFound(ErrorText),
    /// 409.
    #[error("there is one of that name already (409{0})")]
    Conflict(ErrorText),
    /// 422.
    #[error("GitHub cannot process the request (422{0})")]
    Unprocessable(ErrorText),
    /// 429, or a 403 that is about the rate of requests: nothing was done.
    #[error("GitHub wants fewer requests ({status}{text})")]
    RateLimited {
        /// Its status.
        status: u16,
        /// How long it asked us to stay away, at most five minutes.
        retry_after: Option<Duration>,
        /// What it said.
        text: ErrorText,
    },
    /// 408 or 5xx: whether the work was done, nobody knows.
    #[error("GitHub cannot answer now ({status}{text})")]
    Unavailable {
        /// Its status.
        status: u16,
        /// How long it asked us to stay away.
        retry_after: Option<Duration>,
        /// What it said.
        text: ErrorText,
    },
    /// Any other status.
    #[error("GitHub refused the request ({status}{text})")]
    Refused {
        /// Its status.
        status: u16,
        /// What it said.
        text: ErrorText,
    },
    /// A success that cannot be used.
    #[error("GitHub's answer cannot be used: {0}")]
    Malformed(String),
}

/// A runner to register.
#[derive(Debug, Clone, Serialize)]
pub struct NewRunner<'a> {
    /// Its name, which nobody else may have.
    pub name: &'a str,
    /// Its group's number.
    pub runner_group_id: u64,
    /// What `runs-on` may ask for.
    pub labels: &'a [String],
    /// Where jobs work.
    pub work_folder: &'a str,
}

/// A runner that was registered.
#[derive(Debug)]
pub struct Generated {
    /// GitHub's number for it.
    pub id: u64,
    /// What the listener needs, as GitHub encodes it: a key among it.
    pub config: Secret,
}

/// The client. Each call is one request, never repeated; but for a list, which may have pages, and a removal that finds nothing.
#[derive(Debug, Clone)]
pub struct Runners {
    client: Client,
    api: Url,
    target: Target,
}

#[derive(Deserialize)]
struct WireGenerated {
    runner: WireRunner,
    encoded_jit_config: String,
}

#[derive(Deserialize)]
struct WireRunner {
    id: u64,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct WireRunners {
    runners: Vec<WireRunner>,
}

#[derive(Deserialize)]
struct WireGroups {
    runner_groups: Vec<WireRunner>,
}

impl Runners {
    /// A client of a target's runners, with GitHub's interface at `api`.
    pub fn new(client: Client, api: Url, target: Target) -> Self {
        Self { client, api, target }
    }

    /// The number of a group, by its name; none where there is no such group. A repository has one group.
    pub async fn group(&self, token: &Secret, name: &str) -> Result<Option<u64>, RunnersError> {
        if let Scope::Repository { .. } = self.target.scope() {
            return Ok(Some(DEFAULT_GROUP));
        }
        let same = |found: &WireRunner| found.name.eq_ignore_ascii_case(name);
        self.listed(token, "runner-groups", &[], same, |page: WireGroups| page.runner_groups)
            .await
    }

    /// Registers a runner.
    pub async fn generate(&self, token: &Secret, new: &NewRunner<'_>) -> Result<Generated, RunnersError> {
        let body = serde_json::to_vec(new).map_err(|error| RunnersError::NotSent(error.to_string()))?;
        let request = self
            .client
            .post(self.url("runners/generate-jitconfig"))
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        let answer = call(request, token).await?;
        let generated: WireGenerated = parse(&answer)?;
        if generated.encoded_jit_config.is_empty() {
            return Err(RunnersError::Malformed("it has no configuration in it".to_owned()));
        }
        Ok(Generated {
            id: generated.runner.id,
            config: Secret::new(generated.encoded_jit_config),
        })
    }

    /// The number of the runner of this name; none where there is none.
    pub async fn find(&self, token: &Secret, name: &str) -> Result<Option<u64>, RunnersError> {
        let same = |found: &WireRunner| found.name == name;
        self.listed(token, "runners", &[("name", name)], same, |page: WireRunners| {
            page.runners
        })
        .await
    }

    /// Removes a runner. One that is not there is removed; but GitHub says so (404) to who may not see it, too. So it is not
    /// there where the list, which has to be seen for that, has nobody of its name.
    pub async fn remove(&self, token: &Secret, id: u64, name: &str) -> Result<(), RunnersError> {
        let request = self.client.delete(self.url(&format!("runners/{id}")));
        match call(request, token).await {
            Ok(_) => Ok(()),
            Err(error @ RunnersError::NotFound(_)) => match self.find(token, name).await? {
                None => Ok(()),
                Some(_) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// The number of what is looked for in a list, page after page.
    async fn listed<T: for<'de> Deserialize<'de>>(
        &self,
        token: &Secret,
        what: &str,
        filter: &[(&str, &str)],
        wanted: impl Fn(&WireRunner) -> bool,
        items: impl Fn(T) -> Vec<WireRunner>,
    ) -> Result<Option<u64>, RunnersError> {
        for page in 1..=PAGES {
            let mut url = self.url(what);
            url.query_pairs_mut()
                .extend_pairs(filter)
                .append_pair("per_page", &PAGE.to_string())
                .append_pair("page", &page.to_string());
            let found = items(parse(&call(self.client.get(url), token).await?)?);
            if let Some(found) = found.iter().find(|item| wanted(item)) {
                return Ok(Some(found.id));
            }
            if found.len() < PAGE {
                return Ok(None);
            }
        }
        Err(RunnersError::Malformed(format!(
            "the list of {what} has more than {PAGES} pages"
        )))
    }

    fn url(&self, rest: &str) -> Url {
        let mut url = self.api.clone();
        let base = self.api.path().trim_end_matches('/');
        url.set_path(&format!("{base}/{}/actions/{rest}", self.target.path()));
        url
    }
}

/// Sends one request; the body of a success is the answer.
pub(crate) async fn call(request: RequestBuilder, token: &Secret) -> Result<Vec<u8>, RunnersError> {
    let request = github::authorized(request, token)
        .ok_or_else(|| RunnersError::NotSent("the credential cannot stand in a header".to_owned()))?;
    let answer = exchange(request, ANSWER_LIMIT).await.map_err(|error| match error {
        ExchangeError::Transport(TransportError::NotSent(why)) => RunnersError::NotSent(why),
        ExchangeError::Transport(TransportError::Lost(why)) => RunnersError::Lost(why),
        ExchangeError::TooLarge => RunnersError::Malformed(format!("it is longer than {ANSWER_LIMIT} bytes")),
    })?;
    match answer.status {
        StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(answer.body),
        _ => Err(refusal(&answer, token)),
    }
}

pub(crate) fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, RunnersError> {
    serde_json::from_slice(body).map_err(|error| RunnersError::Malformed(excerpt(&error.to_string())))
}

fn refusal(answer: &Answer, token: &Secret) -> RunnersError {
    let words = WireError::of(answer).words();
    let text = ErrorText::new(&words, Some(token));
    let retry_after = rate_limit_wait(answer);
    match answer.status.as_u16() {
        401 => RunnersError::Unauthorized(text),
        status @ 403 if is_rate_limit(&answer.headers, &words) => RunnersError::RateLimited {
            status,
            retry_after,
            text,
        },
        403 => RunnersError::Forbidden(text),
        404 => RunnersError::NotFound(text),
        409 => RunnersError::Conflict(text),
        422 => RunnersError::Unprocessable(text),
        status @ 429 => RunnersError::RateLimited {
            status,
            retry_after,
            text,
        },
        status @ (408 | 500..=599) => RunnersError::Unavailable {
            status,
            retry_after,
            text,
        },
        status => RunnersError::Refused { status, text },
    }
}
