//! Text that must not be shown: no `Display`, no `Serialize`, redacted `Debug`, zeroed when dropped.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// A token or a key. The only way to its text is [`Secret::expose`], so that every use can be found.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes the text in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text itself. Never into an argument list, an environment, a URL, a log or the journal.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The first 8 hexadecimal digits of its SHA-256: enough to tell two tokens apart in a post-mortem, no use to anyone else.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(self.expose().as_bytes());
        hex::encode(&digest[..4])
    }

    /// `text` with every occurrence of the secret replaced.
    pub fn scrub(&self, text: &str) -> String {
        if self.expose().is_empty() {
            text.to_owned()
        } else {
            text.replace(self.expose(), "[redacted]")
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_by_accident() {
        let secret = Secret::new("ghs_canary");
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(secret.scrub("a ghs_canary b"), "a [redacted] b");
        assert_eq!(secret.fingerprint().len(), 8);
    }
}
