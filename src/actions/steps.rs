//! The outside of an Actions runner: one file an effect, with its probe, its act, and what each answer means.
//!
//! A step makes one attempt. Whether there is another is the plan's business.

use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use url::Url;

use super::credential::{NoToken, Tokens};
use super::driver::{AnswerLost, Probe};
use super::listener::Place;
use super::machine::{Assignment, Effect, Failure, Outcome};
use crate::adapters::runners::{Runners, RunnersError};
use crate::machine::Millis;
use crate::redact::Redactor;
use crate::secret::Secret;
use crate::term::Term;
use crate::text::cut;

mod job;
mod register;
mod remove;

/// A cause may have this many bytes.
const CAUSE_LIMIT: usize = 2048;

/// The outside world as the settings have it.
pub struct World {
    client: Client,
    api: Url,
    assignment: Assignment,
    runners: Runners,
    tokens: Tokens,
    place: Place,
    env: Vec<(String, OsString)>,
    term: Term,
    redactor: Redactor,
    /// What the last registration came with. It is nowhere else, and dies with this process.
    config: Mutex<Option<(u64, Secret)>>,
}

/// What a world is made of.
pub struct Outside {
    /// The client that GitHub is asked with.
    pub client: Client,
    /// Where its interface is.
    pub api: Url,
    /// What the runner is, as the journal has it.
    pub assignment: Assignment,
    /// What is shown to GitHub.
    pub tokens: Tokens,
    /// Where the listener is.
    pub place: Place,
    /// What the job sees of our environment.
    pub env: Vec<(String, OsString)>,
    /// Whether and when the runner was told to stop.
    pub term: Term,
    /// What no secret gets past.
    pub redactor: Redactor,
}

impl World {
    /// The world of one runner.
    pub fn new(outside: Outside) -> Self {
        let Outside {
            client,
            api,
            assignment,
            tokens,
            place,
            env,
            term,
            redactor,
        } = outside;
        Self {
            runners: Runners::new(client.clone(), api.clone(), assignment.target.clone()),
            client,
            api,
            assignment,
            tokens,
            place,
            env,
            term,
            redactor,
            config: Mutex::default(),
        }
    }

    /// Finds out what came of an intent whose outcome was not seen.
    pub(super) async fn probe(&self, effect: &Effect) -> Result<Probe, AnswerLost> {
        match effect {
            Effect::Register { name } => register::probe(self, name).await,
            Effect::Job { .. } => job::probe(self).await,
            // Asking twice does no harm.
            Effect::Remove { .. } => Ok(Probe::NotDone),
        }
    }

    /// Does it, once.
    pub(super) async fn act(&self, effect: &Effect) -> Result<Outcome, AnswerLost> {
        match effect {
            Effect::Register { name } => register::act(self, name).await,
            Effect::Job { id, .. } => Box::pin(job::act(self, *id)).await,
            Effect::Remove { known, names } => Ok(remove::act(self, known.as_ref(), names).await),
        }
    }

    async fn token(&self) -> Result<Secret, NoToken> {
        self.tokens
            .token(&self.client, &self.api, &self.assignment.target)
            .await
    }

    fn keep(&self, id: u64, config: Secret) {
        self.redactor.add(&config);
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = Some((id, config));
    }

    fn config_of(&self, id: u64) -> Option<Secret> {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        config
            .as_ref()
            .filter(|(of, _)| *of == id)
            .map(|(_, config)| config.clone())
    }

    /// A cause for a row: without secrets, and bounded.
    fn cause(&self, text: impl AsRef<str>) -> String {
        cut(&self.redactor.redact(text.as_ref()), CAUSE_LIMIT)
    }

    fn retry(&self, cause: impl AsRef<str>, after: Option<Duration>) -> Outcome {
        Outcome::Retry {
            cause: self.cause(cause),
            after_ms: after.map(millis),
        }
    }

    fn failed(&self, failure: Failure, cause: impl AsRef<str>) -> Outcome {
        Outcome::Failed {
            failure,
            cause: self.cause(cause),
        }
    }

    fn lost(&self, cause: impl AsRef<str>) -> AnswerLost {
        AnswerLost {
            cause: self.cause(cause),
            after_ms: None,
        }
    }

    fn unanswered(&self, error: &RunnersError) -> AnswerLost {
        AnswerLost {
            cause: self.cause(error.to_string()),
            after_ms: wait_of(error).map(millis),
        }
    }

    /// What it means for a registration that there is no token.
    fn no_token(&self, error: &NoToken) -> Outcome {
        let text = error.to_string();
        match error {
            // A projected file is there again in a moment.
            NoToken::File { .. } => self.retry(text, None),
            NoToken::App(error) => match refused(error) {
                Some(Failure::TargetNotFound) => self.failed(Failure::AppNotInstalled, text),
                Some(failure) => self.failed(failure, text),
                // A token that nobody got does no harm.
                None => self.retry(text, wait_of(error)),
            },
        }
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// The failure that a refusal is, where asking again would not help.
fn refused(error: &RunnersError) -> Option<Failure> {
    match error {
        RunnersError::Unauthorized(_) => Some(Failure::NotAuthorized),
        RunnersError::Forbidden(_) => Some(Failure::Forbidden),
        RunnersError::NotFound(_) => Some(Failure::TargetNotFound),
        RunnersError::Unprocessable(_) | RunnersError::Conflict(_) | RunnersError::Refused { .. } => {
            Some(Failure::RegistrationRefused)
        }
        RunnersError::NotSent(_)
        | RunnersError::Lost(_)
        | RunnersError::RateLimited { .. }
        | RunnersError::Unavailable { .. }
        | RunnersError::Malformed(_) => None,
    }
}

/// How long GitHub asked to be left alone.
fn wait_of(error: &RunnersError) -> Option<Duration> {
    match error {
        RunnersError::RateLimited { retry_after, .. } | RunnersError::Unavailable { retry_after, .. } => *retry_after,
        RunnersError::NotSent(_)
        | RunnersError::Lost(_)
        | RunnersError::Unauthorized(_)
        | RunnersError::Forbidden(_)
        | RunnersError::NotFound(_)
        | RunnersError::Conflict(_)
        | RunnersError::Unprocessable(_)
        | RunnersError::Refused { .. }
        | RunnersError::Malformed(_) => None,
    }
}
