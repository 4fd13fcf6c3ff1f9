//! What the runner shows GitHub: a token, a file with one, or a GitHub App.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Client;
use thiserror::Error;
use url::Url;

use super::names::Target;
use crate::adapters::github_app::{App, InstallationToken};
use crate::adapters::runners::RunnersError;
use crate::redact::Redactor;
use crate::secret::Secret;

/// An installation's token is not used in its last minutes: a request may take one.
const SPARE: Duration = Duration::from_mins(2);

/// Where a token comes from.
#[derive(Debug)]
pub enum Credential {
    /// It was given.
    Token(Secret),
    /// A file, read anew for each request: projected tokens rotate.
    File(PathBuf),
    /// An App's, as long as it lives.
    App(Box<App>),
}

/// Why there is no token.
#[derive(Debug, Error)]
pub enum NoToken {
    /// The file.
    #[error("the file {path} with the token cannot be read: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// GitHub gives the App none.
    #[error("the App gets no token: {0}")]
    App(RunnersError),
}

/// The credential, with the token that it last came to.
pub struct Tokens {
    credential: Credential,
    cached: Mutex<Option<InstallationToken>>,
    redactor: Redactor,
}

impl Tokens {
    /// Of a credential. What it comes to is told to the redactor before anybody else sees it.
    pub fn new(credential: Credential, redactor: Redactor) -> Self {
        Self {
            credential,
            cached: Mutex::default(),
            redactor,
        }
    }

    /// A token for the next request.
    pub async fn token(&self, client: &Client, api: &Url, target: &Target) -> Result<Secret, NoToken> {
        let token = match &self.credential {
            Credential::Token(token) => token.clone(),
            Credential::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| NoToken::File {
                    path: path.clone(),
                    source,
                })?;
                Secret::new(text.trim())
            }
            Credential::App(app) => {
                if let Some(token) = self.fresh() {
                    token
                } else {
                    let given = app.installation_token(client, api, target).await;
                    let given = given.map_err(NoToken::App)?;
                    *self.cached() = Some(given.clone());
                    given.token
                }
            }
        };
        self.redactor.add(&token);
        Ok(token)
    }

    /// Forgets an installation's token that GitHub does not take any more.
    pub fn forget(&self) {
        *self.cached() = None;
    }

    fn fresh(&self) -> Option<Secret> {
        let cached = self.cached();
        let token = cached.as_ref()?;
        let left = Duration::try_from(token.expires_at.duration_since(Timestamp::now())).ok()?;
        (left > SPARE).then(|| token.token.clone())
    }

    fn cached(&self) -> std::sync::MutexGuard<'_, Option<InstallationToken>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
