//! Whether a task API and a repository's host can be reached: one `GET` of an address that was named, without a credential.

use std::time::{Duration, Instant};

use tokio::runtime;
use url::Url;

use super::{Check, CheckName, Here};
use crate::adapters::http::{ExchangeError, HttpOptions, Proxies, TransportError, build_client, exchange};
use crate::ids::{ApiUrl, RepoUrl};

/// How long a peer may take, from the name's resolution to the answer's end.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of an answer is read, in bytes.
const LIMIT: usize = 64 * 1024;

/// What is to be reached, where it was said.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// A task API.
    pub api: Option<ApiUrl>,
    /// A repository.
    pub repo: Option<RepoUrl>,
}

impl Reach {
    pub(super) fn checks(&self, here: &Here<'_>) -> Vec<Check> {
        let api = self.api.as_ref().map(|api| (CheckName::Api, api.as_str().to_owned()));
        let repo = self.repo.as_ref().map(|repo| {
            let asked_by_git = "info/refs?service=git-upload-pack";
            let repo = repo.as_git_argument();
            (
                CheckName::Repo,
                format!("{}/{asked_by_git}", repo.trim_end_matches('/')),
            )
        });
        let asked = api.into_iter().chain(repo);
        asked.map(|(name, url)| check(name, &url, here)).collect()
    }
}

fn check(name: CheckName, url: &str, here: &Here<'_>) -> Check {
    let begun = Instant::now();
    let answered = ask(url, here);
    let took = begun.elapsed().as_millis();
    match answered {
        Ok(Some(status)) if status.is_redirection() => Check::warn(
            name,
            format!("{url}: answers {status}, in {took} ms"),
            "name where it leads to: redirects are not followed",
        ),
        Ok(Some(status)) if status.is_server_error() => Check::warn(
            name,
            format!("{url}: answers {status}, in {took} ms"),
            "it can be reached, and cannot answer now",
        ),
        Ok(Some(status)) => Check::ok(name, format!("{url}: answers {status}, in {took} ms")),
        Ok(None) => Check::ok(name, format!("{url}: answers, in {took} ms")),
        Err(why) => Check::fail(
            name,
            format!("{url}: {why}"),
            "look at the name, the network's rules, the proxy's variables and RUNNER_CA_FILE",
        ),
    }
}

/// The status that it answers; none where the answer was longer than is read.
fn ask(url: &str, here: &Here<'_>) -> Result<Option<reqwest::StatusCode>, String> {
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    let client = build_client(&HttpOptions {
        connect_timeout: PATIENCE,
        total_timeout: PATIENCE,
        ca_file: here.settings.options.ca_file.clone(),
        proxies: Proxies::for_peer(&parsed),
    });
    let client = client.map_err(|error| error.to_string())?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    match runtime.block_on(exchange(client.get(parsed), LIMIT)) {
        Ok(answer) => Ok(Some(answer.status)),
        Err(ExchangeError::TooLarge) => Ok(None),
        Err(ExchangeError::Transport(TransportError::NotSent(why) | TransportError::Lost(why))) => Err(why),
    }
}
