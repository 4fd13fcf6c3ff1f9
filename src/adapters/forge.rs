//! The client of the forge: finding and opening pull requests by GitHub's REST interface (contract, section 4).

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;
use thiserror::Error;
use url::Url;

use crate::adapters::api::ErrorText;
use crate::adapters::github::{self, WireError, WireErrorItem, is_rate_limit, rate_limit_wait};
use crate::adapters::http::{Answer, ExchangeError, TransportError, exchange};
use crate::ids::{BranchName, TaskId};
use crate::secret::Secret;
use crate::text::excerpt;

/// The most that is read of a list, in bytes: a hundred pull requests with the longest bodies that GitHub takes.
const LIST_LIMIT: usize = 32 * 1024 * 1024;
/// The most that is read of one pull request, in bytes.
const PULL_LIMIT: usize = 1024 * 1024;

/// What a pull request of this task carries in its body, so that a later look finds it and adopts no other.
pub fn marker(task: &TaskId) -> String {
    format!("<!-- runner:task={task} -->")
}

/// Why a repository has no place at a forge.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ForgeAddressError {
    /// Only repositories with an http(s) address have a forge.
    #[error("the repository {0} has no forge: its address is not http or https")]
    Scheme(String),
    /// The path is not `/OWNER/NAME`.
    #[error("the repository {0} has no forge that could be asked: its path is not OWNER/NAME")]
    Path(String),
    /// The base of the interface cannot take a path, or carries what would go astray.
    #[error("the forge's address {0} is not allowed: an http or https URL without user info, query and fragment is")]
    Base(String),
}

/// Where a repository's pull requests are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgeAddress {
    api: Url,
    owner: String,
    repo: String,
}

impl ForgeAddress {
    /// From the repository's own address, with the interface at `base` (`RUNNER_GITHUB_API_URL`) or where the host has it:
    /// `api.github.com` for `github.com`, `/api/v3` on any other host.
    pub fn derive(repo: &Url, base: Option<&Url>) -> Result<Self, ForgeAddressError> {
        if !matches!(repo.scheme(), "http" | "https") {
            return Err(ForgeAddressError::Scheme(shown(repo)));
        }
        let path = repo.path().trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let Some((owner, name)) = path
            .split_once('/')
            .filter(|(owner, name)| is_name(owner) && is_name(name))
        else {
            return Err(ForgeAddressError::Path(shown(repo)));
        };
        let api = match base {
            Some(base) => base.clone(),
            None => default_base(repo)?,
        };
        let plain = matches!(api.scheme(), "http" | "https")
            && api.username().is_empty()
            && api.password().is_none()
            && api.query().is_none()
            && api.fragment().is_none();
        if !plain {
            return Err(ForgeAddressError::Base(shown(&api)));
        }
        Ok(Self {
            api,
            owner: owner.to_owned(),
            repo: name.to_owned(),
        })
    }

    /// The base of the interface.
    pub fn api(&self) -> &Url {
        &self.api
    }

    /// Who owns the repository.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The repository's name.
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// `OWNER/NAME`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.repo)
    }

    fn pulls(&self) -> Url {
        let mut url = self.api.clone();
        // The names have no character that a path could misread, and the scheme is one that takes a path.
        url.set_path(&format!(
            "{}/repos/{}/{}/pulls",
            self.api.path().trim_end_matches('/'),
            self.owner,
            self.repo
        ));
        url
    }
}

/// The address without any user info it may carry.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let cleared = url.set_password(None).is_ok() && url.set_username("").is_ok();
    if cleared || url.host().is_none() {
        excerpt(url.as_str())
    } else {
        "(not shown)".to_owned()
    }
}

pub(crate) fn default_base(repo: &Url) -> Result<Url, ForgeAddressError> {
    let refuse = || ForgeAddressError::Base(shown(repo));
    if matches!(repo.host_str(), Some("github.com" | "www.github.com")) {
        return Url::parse("https://api.github.com").map_err(|_| refuse());
    }
    let mut base = repo.clone();
    base.set_query(None);
    base.set_fragment(None);
    base.set_path("/api/v3");
    let cleared = base.set_username("").is_ok() && base.set_password(None).is_ok();
    if cleared { Ok(base) } else { Err(refuse()) }
}

/// What GitHub takes for the name of an owner or a repository.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 100
        && !matches!(text, "." | "..")
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// A pull request to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewPullRequest {
    /// One line.
    pub title: String,
    /// Markdown, with the [`marker`] in it.
    pub body: String,
    /// The branch with the work, in the same repository.
    pub head: BranchName,
    /// The branch it is to go into.
    pub base: BranchName,
    /// Whether it is opened as a draft.
    pub draft: bool,
}

/// A pull request that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// Its number.
    pub number: u64,
    /// Where people see it (`html_url`).
    pub url: Url,
    /// Whether it still can be merged.
    pub state: PullState,
}

/// Whether a pull request is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullState {
    /// Open, drafts among them.
    Open,
    /// Merged or closed.
    Closed,
}

/// Why the forge could not process a request that was well formed (422).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unprocessable {
    /// There is an open pull request for that branch: look again.
    AlreadyExists,
    /// The branch has nothing that the base has not.
    NoCommits,
    /// The forge does not see the branch with the work (yet).
    HeadInvalid,
    /// The forge does not know the branch it is to go into.
    BaseInvalid,
    /// This repository takes no drafts.
    DraftUnsupported,
    /// Anything else.
    Other,
}

/// Why a call of the forge gave nothing. No variant shows the token, or more than 200 characters of a message.
#[derive(Debug, Error, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ForgeError {
    /// The forge cannot have done anything.
    #[error("the request was not sent: {0}")]
    NotSent(String),
    /// The forge may have done the work.
    #[error("the answer was lost, the request may have been carried out: {0}")]
    Lost(String),
    /// 401: the token is wrong or has expired.
    #[error("the forge does not take the token (401{text})")]
    Unauthorized {
        /// What it said.
        text: ErrorText,
    },
    /// 403 that is not about the rate of requests: the token may not do this.
    #[error("the token may not do this (403{text}); it needs pull requests: write")]
    Forbidden {
        /// What it said.
        text: ErrorText,
    },
    /// 404: no such repository, or none that the token may see.
    #[error("the forge knows no such repository, or the token may not see it (404{text})")]
    NotFound {
        /// What it said.
        text: ErrorText,
    },
    /// 422.
    #[error("the forge cannot process the pull request (422{text})")]
    Unprocessable {
        /// Which of the known reasons.
        reason: Unprocessable,
        /// All its messages.
        text: ErrorText,
    },
    /// 408, 429, 5xx, or a 403 that is about the rate of requests.
    #[error("the forge cannot answer now ({status}{text})")]
    Retryable {
        /// Its status.
        status: u16,
        /// How long it asked us to stay away, at most five minutes.
        retry_after: Option<Duration>,
        /// What it said.
        text: ErrorText,
    },
    /// Any other status; a redirect means that the repository was renamed.
    #[error("the forge refused the request ({status}{text})")]
    Refused {
        /// Its status.
        status: u16,
        /// What it said.
        text: ErrorText,
    },
    /// A success that is not a pull request, or not the one that was asked for.
    #[error("the forge's answer cannot be used: {why}")]
    Malformed {
        /// For a person.
        why: String,
    },
}

/// The client of one repository's pull requests. Each call is one request, never repeated.
#[derive(Debug, Clone)]
pub struct Forge {
    client: Client,
    address: ForgeAddress,
}

impl Forge {
    /// A client of the repository at `address`.
    pub fn new(client: Client, address: ForgeAddress) -> Self {
        Self { client, address }
    }

    /// Where it asks.
    pub fn address(&self) -> &ForgeAddress {
        &self.address
    }

    /// This task's pull request from `branch`, in any state: it carries the task's [`marker`], and its head is this
    /// branch of this repository, not of a fork. An open one before a closed one, then the newest.
    pub async fn find(
        &self,
        token: &Secret,
        branch: &BranchName,
        task: &TaskId,
    ) -> Result<Option<PullRequest>, ForgeError> {
        let mut url = self.address.pulls();
        url.query_pairs_mut()
            .append_pair("state", "all")
            .append_pair("head", &format!("{}:{branch}", self.address.owner))
            .append_pair("per_page", "100");
        let answer = self.call(self.client.get(url), token, LIST_LIMIT).await?;
        let pulls: Vec<WirePull> = parse(&answer)?;
        let marker = marker(task);
        let newest = pulls
            .iter()
            .filter(|pull| pull.body.as_deref().is_some_and(|body| body.contains(&marker)))
            .filter(|pull| pull.strangeness(&self.address, branch).is_none())
            .max_by_key(|pull| (pull.state() == PullState::Open, pull.number));
        newest.map(WirePull::check).transpose()
    }

    /// Opens a pull request. After [`ForgeError::Lost`] and [`Unprocessable::AlreadyExists`], [`Forge::find`] knows whether there is one.
    pub async fn create(&self, token: &Secret, new: &NewPullRequest) -> Result<PullRequest, ForgeError> {
        let body = serde_json::to_vec(new).map_err(|error| ForgeError::NotSent(error.to_string()))?;
        let request = self
            .client
            .post(self.address.pulls())
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        let answer = self.call(request, token, PULL_LIMIT).await?;
        let pull: WirePull = parse(&answer)?;
        match pull.strangeness(&self.address, &new.head) {
            Some(why) => Err(ForgeError::Malformed { why: why.to_owned() }),
            None => pull.check(),
        }
    }

    /// Sends one request; the body of a 200 or 201 is the answer.
    async fn call(&self, request: RequestBuilder, token: &Secret, limit: usize) -> Result<Vec<u8>, ForgeError> {
        let request = github::authorized(request, token)
            .ok_or_else(|| ForgeError::NotSent("the token cannot stand in a header".to_owned()))?;
        let answer = exchange(request, limit).await.map_err(|error| match error {
            ExchangeError::Transport(TransportError::NotSent(why)) => ForgeError::NotSent(why),
            ExchangeError::Transport(TransportError::Lost(why)) => ForgeError::Lost(why),
            ExchangeError::TooLarge => ForgeError::Malformed {
                why: format!("it is longer than {limit} bytes"),
            },
        })?;
        if matches!(answer.status, StatusCode::OK | StatusCode::CREATED) {
            Ok(answer.body)
        } else {
            Err(refusal(&answer, token))
        }
    }
}

/// A pull request as the forge writes it, as far as it is looked at.
#[derive(Deserialize)]
struct WirePull {
    number: u64,
    html_url: String,
    state: String,
    body: Option<String>,
    head: WireHead,
}

#[derive(Deserialize)]
struct WireHead {
    #[serde(rename = "ref")]
    name: String,
    /// `OWNER:BRANCH`.
    label: Option<String>,
    /// Null where the fork was deleted.
    repo: Option<WireRepo>,
}

#[derive(Deserialize)]
struct WireRepo {
    full_name: String,
}

impl WirePull {
    fn state(&self) -> PullState {
        if self.state == "open" {
            PullState::Open
        } else {
            PullState::Closed
        }
    }

    /// Why this is not a pull request from `branch` of the repository at `address`. GitHub's names have no case.
    fn strangeness(&self, address: &ForgeAddress, branch: &BranchName) -> Option<&'static str> {
        let other_repo = |repo: &WireRepo| !repo.full_name.eq_ignore_ascii_case(&address.full_name());
        let other_owner = |label: &String| {
            label
                .split_once(':')
                .is_some_and(|(owner, _)| !owner.eq_ignore_ascii_case(&address.owner))
        };
        if self.head.name != branch.as_str() {
            Some("it is a pull request from another branch")
        } else if self.head.repo.as_ref().is_some_and(other_repo) {
            Some("it is a pull request from another repository")
        } else if self.head.label.as_ref().is_some_and(other_owner) {
            Some("it is a pull request from another owner")
        } else {
            None
        }
    }

    fn check(&self) -> Result<PullRequest, ForgeError> {
        let malformed = |why: &str| ForgeError::Malformed { why: why.to_owned() };
        let url = Url::parse(&self.html_url).map_err(|_| malformed("its html_url is not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(malformed("its html_url is not a plain http or https URL"));
        }
        if self.number == 0 {
            return Err(malformed("its number is 0"));
        }
        Ok(PullRequest {
            number: self.number,
            url,
            state: self.state(),
        })
    }
}

fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, ForgeError> {
    serde_json::from_slice(body).map_err(|error| ForgeError::Malformed {
        why: excerpt(&error.to_string()),
    })
}

/// What a status other than 200 and 201 means.
fn refusal(answer: &Answer, token: &Secret) -> ForgeError {
    let error = WireError::of(answer);
    let words = error.words();
    let text = ErrorText::new(&words, Some(token));
    match answer.status.as_u16() {
        401 => ForgeError::Unauthorized { text },
        status @ 403 if is_rate_limit(&answer.headers, &words) => ForgeError::Retryable {
            status,
            retry_after: rate_limit_wait(answer),
            text,
        },
        403 => ForgeError::Forbidden { text },
        404 => ForgeError::NotFound { text },
        422 => ForgeError::Unprocessable {
            reason: unprocessable(&error),
            text,
        },
        status @ (408 | 429 | 500..=599) => ForgeError::Retryable {
            status,
            retry_after: rate_limit_wait(answer),
            text,
        },
        status => ForgeError::Refused { status, text },
    }
}

/// GitHub tells these apart by words and by the field's name only.
fn unprocessable(error: &WireError) -> Unprocessable {
    for item in &error.errors {
        let words = item.words().to_ascii_lowercase();
        if words.contains("already exists") {
            return Unprocessable::AlreadyExists;
        }
        if words.contains("no commits between") {
            return Unprocessable::NoCommits;
        }
        if words.contains("draft") {
            return Unprocessable::DraftUnsupported;
        }
        if let WireErrorItem::Fields { field: Some(field), .. } = item {
            match field.as_str() {
                "head" => return Unprocessable::HeadInvalid,
                "base" => return Unprocessable::BaseInvalid,
                _ => {}
            }
        }
    }
    if error.message.to_ascii_lowercase().contains("draft") {
        Unprocessable::DraftUnsupported
    } else {
        Unprocessable::Other
    }
}

#[cfg(test)]
mod tests;
