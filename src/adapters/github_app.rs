//! A GitHub App's way in: a token that is signed here, and the installation's token that GitHub gives for it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use reqwest::Client;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;
use url::Url;

use crate::actions::names::Target;
use crate::adapters::runners::{RunnersError, call, parse};
use crate::secret::Secret;

/// Clocks differ: the signed token begins a minute ago. GitHub takes none that lives longer than ten.
const BEGAN_AGO_S: i64 = 60;
const LIVES_S: i64 = 9 * 60;
/// RSA SHA-256 signatures of keys that GitHub makes, in bits.
const KEY_BITS: &str = "2048 to 4096";

/// Why a key cannot sign.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AppKeyError {
    /// No PEM, or none with a private key.
    #[error("it has no private key in PEM form in it")]
    NoKey,
    /// Not RSA, or of a size that nobody should use.
    #[error("its key is no RSA key of {KEY_BITS} bits: {0}")]
    Unusable(String),
}

/// A GitHub App, with its key.
pub struct App {
    id: String,
    key: RsaKeyPair,
    installation: Option<u64>,
}

/// An installation's token.
#[derive(Debug, Clone)]
pub struct InstallationToken {
    /// The token.
    pub token: Secret,
    /// When it expires.
    pub expires_at: Timestamp,
}

impl App {
    /// An App by its id (a number, or its client id) and its key as GitHub hands it out. Where the installation is not named,
    /// it is looked up.
    pub fn new(id: String, key: &Secret, installation: Option<u64>) -> Result<Self, AppKeyError> {
        let der = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| AppKeyError::NoKey)?;
        let unusable = |error: ring::error::KeyRejected| AppKeyError::Unusable(error.to_string());
        let key = match &der {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).map_err(unusable)?,
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(unusable)?,
            PrivateKeyDer::Sec1(_) | _ => return Err(AppKeyError::Unusable("it is of another kind".to_owned())),
        };
        Ok(Self { id, key, installation })
    }

    /// The token that says who we are, signed with the App's key (RFC 7519, RS256).
    pub fn signed(&self, now: Timestamp) -> Result<Secret, AppKeyError> {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let now = now.as_second();
        let claims = json!({"iat": now - BEGAN_AGO_S, "exp": now + LIVES_S, "iss": self.id});
        let signed = format!("{}.{}", part(json!({"alg": "RS256", "typ": "JWT"})), part(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .map_err(|_| AppKeyError::Unusable("it does not sign".to_owned()))?;
        Ok(Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }

    /// Asks for a token of the installation that a target belongs to.
    pub async fn installation_token(
        &self,
        client: &Client,
        api: &Url,
        target: &Target,
    ) -> Result<InstallationToken, RunnersError> {
        #[derive(Deserialize)]
        struct Installation {
            id: u64,
        }
        #[derive(Deserialize)]
        struct Token {
            token: String,
            expires_at: String,
        }
        let signed = self
            .signed(Timestamp::now())
            .map_err(|error| RunnersError::NotSent(error.to_string()))?;
        let at = |path: String| {
            let mut url = api.clone();
            url.set_path(&format!("{}/{path}", api.path().trim_end_matches('/')));
            url
        };
        let id = if let Some(id) = self.installation {
            id
        } else {
            let request = client.get(at(format!("{}/installation", target.path())));
            parse::<Installation>(&call(request, &signed).await?)?.id
        };
        let request = client.post(at(format!("app/installations/{id}/access_tokens")));
        let Token { token, expires_at } = parse(&call(request, &signed).await?)?;
        // A server that says no time that can be read is asked anew each time.
        Ok(InstallationToken {
            token: Secret::new(token),
            expires_at: expires_at.parse().unwrap_or_default(),
        })
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("id", &self.id)
            .field("installation", &self.installation)
            .finish_non_exhaustive()
    }
}
