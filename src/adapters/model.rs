//! The model's API for the agent, without its key: a loopback proxy that puts the real key in, counts what is used, and
//! ends with the agent.
//!
//! The agent gets an address and a key that is good for nothing else ([`Access`]). What it asks goes to the operator's
//! [`Upstream`], streamed both ways.

mod meter;
mod prices;
mod proxy;
mod usage;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;
use url::Url;

use crate::secret::Secret;

pub use meter::{Follow, Metered, Request, Spent, Tokens};
pub use prices::{Prices, PricesError};
pub use proxy::{Proxy, ProxyError};

/// Where the model is, unless the operator names another place.
const DEFAULT_BASE: &str = "https://api.anthropic.com";
/// The variable that does.
const BASE_URL: &str = "ANTHROPIC_BASE_URL";
/// What the API wants to see beside a token of this kind, as Claude Code itself sends it.
const OAUTH_BETA: &str = "oauth-2025-04-20";

/// The variables with a key, by which the first one that is set counts.
pub const KEY_VARIABLES: [&str; 3] = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];
/// What an agent that has the proxy must not get from the operator: it would undo it.
pub const UNDOING_VARIABLES: [&str; 4] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    BASE_URL,
];

/// What an agent is given instead of a key.
#[derive(Debug, Clone)]
pub struct Access {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// Good for this run's proxy alone.
    pub key: Secret,
}

/// The model's API as the operator has it.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Where it is; a path is kept before the API's own.
    pub base: Url,
    /// What it asks for.
    pub key: ModelKey,
    /// What its tokens cost.
    pub prices: Arc<Prices>,
    /// Further roots for TLS.
    pub ca_file: Option<PathBuf>,
}

/// The real key.
#[derive(Debug, Clone)]
pub enum ModelKey {
    /// Of the environment.
    Variable {
        /// Which.
        name: &'static str,
        /// The key itself.
        key: Secret,
    },
    /// A file, read anew for each request: projected keys rotate.
    File(PathBuf),
}

/// Why there is no model to reach.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// The address cannot be used.
    #[error("{BASE_URL} is no absolute http or https URL without a user, a query and a fragment")]
    Base,
    /// The key cannot be had or sent.
    #[error("{0}")]
    Key(String),
}

impl Upstream {
    /// As the environment says it, with the key of a file where one is named; none where there is no key.
    pub fn from_environment(
        key_file: Option<PathBuf>,
        prices: Arc<Prices>,
        ca_file: Option<PathBuf>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Option<Self>, UpstreamError> {
        let text = |name: &str| {
            let value = env(name)?.to_string_lossy().trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let by_variable = || {
            KEY_VARIABLES.into_iter().find_map(|name| {
                let key = Secret::new(text(name)?);
                Some(ModelKey::Variable { name, key })
            })
        };
        let Some(key) = key_file.map(ModelKey::File).or_else(by_variable) else {
            return Ok(None);
        };
        let sent = key.read().and_then(|text| key.sign(&text, &mut HeaderMap::new()));
        sent.map_err(UpstreamError::Key)?;
        let base = Url::parse(text(BASE_URL).as_deref().unwrap_or(DEFAULT_BASE)).map_err(|_| UpstreamError::Base)?;
        let plain = matches!(base.scheme(), "http" | "https")
            && base.username().is_empty()
            && base.password().is_none()
            && base.query().is_none()
            && base.fragment().is_none();
        if !plain {
            return Err(UpstreamError::Base);
        }
        Ok(Some(Self {
            base,
            key,
            prices,
            ca_file,
        }))
    }
}

impl ModelKey {
    /// What it is known by, without a word of it.
    pub fn name(&self) -> String {
        match self {
            Self::Variable { name, .. } => (*name).to_owned(),
            Self::File(path) => format!("RUNNER_MODEL_KEY_FILE {}", path.display()),
        }
    }

    /// The key as it is now.
    pub(crate) fn read(&self) -> Result<Secret, String> {
        match self {
            Self::Variable { key, .. } => Ok(key.clone()),
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", self.name()))?;
                match text.trim() {
                    "" => Err(format!("{} is empty", self.name())),
                    key => Ok(Secret::new(key)),
                }
            }
        }
    }

    /// Puts it into a request's headers, in which no other is left.
    fn sign(&self, key: &Secret, headers: &mut HeaderMap) -> Result<(), String> {
        let sensitive = |text: &str| {
            let mut value = HeaderValue::from_str(text)
                .map_err(|_| format!("{} has a character that no HTTP header may have", self.name()))?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        };
        match self {
            Self::File(_)
            | Self::Variable {
                name: "ANTHROPIC_API_KEY",
                ..
            } => {
                headers.insert(HeaderName::from_static("x-api-key"), sensitive(key.expose())?);
            }
            Self::Variable { name, .. } => {
                headers.insert(AUTHORIZATION, sensitive(&format!("Bearer {}", key.expose()))?);
                if *name == "CLAUDE_CODE_OAUTH_TOKEN" {
                    let beta = HeaderName::from_static("anthropic-beta");
                    let asked = headers.get_all(&beta).iter().filter_map(|value| value.to_str().ok());
                    let all: Vec<&str> = asked.chain([OAUTH_BETA]).collect();
                    let all = HeaderValue::from_str(&all.join(",")).map_err(|e| e.to_string())?;
                    headers.insert(beta, all);
                }
            }
        }
        Ok(())
    }
}
