//! Secrets out of everything that the runner shows, sends or keeps: the exact ones that it was told of, and known shapes.
//!
//! One [`Redactor`] is made at the start and handed down to every sink; a secret is added to it in the moment in which
//! it becomes known. What it finds becomes [`MARKER`]; of a shape, the part that says what it is stays (`ghs_[redacted]`).
//!
//! An exact secret is found as it is, and, with 8 bytes or more, also URL-encoded, JSON-escaped (twice, too), in hex, in
//! base64 (standard and URL-safe, at any offset, padded or not), and where it was cut by `…` after its first 8 bytes. A
//! shorter one is found only as it is; one of fewer than 4 bytes not at all, since no text would be left. Base64 that is
//! broken into lines is not put together.
//!
//! Text stays valid UTF-8, and JSON strings stay valid: a match that cuts an escape takes all of it.

mod forms;
mod scan;
mod shapes;

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, PoisonError, RwLock};

pub use scan::{Finding, Scrub};
pub use shapes::{Kind, Shape};

use crate::secret::Secret;
use scan::Patterns;

/// What stands where a secret was.
pub const MARKER: &str = "[redacted]";
/// A secret of fewer bytes is not looked for.
const SHORTEST: usize = 4;
/// Variables whose values are secrets wherever they are set: keys of models, and tokens of forges.
const SECRET_VARIABLES: [&str; 5] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "GITHUB_TOKEN",
    "GH_TOKEN",
];
/// Variables whose value may have a password in it.
const PROXY_VARIABLES: [&str; 6] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
];
/// A variable with one of these in its name has a secret in it.
const SECRET_WORDS: [&str; 5] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL"];

/// Knows the secrets. Clones know the same ones: what is added to one is known to all.
///
/// It holds the secrets for as long as the process lives, in a form that is not zeroed.
#[derive(Clone)]
pub struct Redactor(Arc<RwLock<Known>>);

struct Known {
    secrets: Vec<Vec<u8>>,
    patterns: Arc<Patterns>,
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// Knows the shapes alone.
    pub fn new() -> Self {
        Self(Arc::new(RwLock::new(Known {
            secrets: Vec::new(),
            patterns: Arc::new(Patterns::of(&[])),
        })))
    }

    /// Looks for this secret, too, from now on.
    pub fn add(&self, secret: &Secret) {
        self.add_bytes(secret.expose().as_bytes());
    }

    /// The same for a secret that need not be text.
    pub fn add_bytes(&self, secret: &[u8]) {
        if secret.len() < SHORTEST || MARKER.as_bytes().windows(secret.len()).any(|part| part == secret) {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.secrets.iter().any(|one| one == secret) {
            return;
        }
        known.secrets.push(secret.to_vec());
        // Where two begin alike, the longer one is the better match.
        known.secrets.sort_by_key(|one| std::cmp::Reverse(one.len()));
        known.patterns = Arc::new(Patterns::of(&known.secrets));
    }

    /// Adds what the environment is known to have: the model's keys, tokens of forges, passwords of proxies, and those of
    /// the variables in `passed` that are named as secrets are.
    pub fn add_environment(&self, passed: &[String], lookup: impl Fn(&str) -> Option<OsString>) {
        let named = passed
            .iter()
            .filter(|name| SECRET_WORDS.iter().any(|word| name.to_ascii_uppercase().contains(word)));
        for name in SECRET_VARIABLES.into_iter().chain(named.map(String::as_str)) {
            if let Some(value) = lookup(name) {
                self.add_bytes(value.as_encoded_bytes().trim_ascii());
            }
        }
        for name in PROXY_VARIABLES {
            let value = lookup(name).and_then(|value| value.into_string().ok());
            let Some(password) = value.as_deref().and_then(password_of) else {
                continue;
            };
            self.add_bytes(password.as_bytes());
            self.add_bytes(&unescaped(password));
        }
    }

    /// The text without secrets.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let patterns = self.patterns();
        if !patterns.occur_in(text.as_bytes()) {
            return Cow::Borrowed(text);
        }
        let mut scrub = Scrub::new(self.clone());
        let mut clean = scrub.feed(text.as_bytes());
        clean.extend(scrub.finish());
        Cow::Owned(String::from_utf8_lossy(&clean).into_owned())
    }

    /// The same for a text that is not needed any more.
    pub fn clean(&self, text: String) -> String {
        match self.redact(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(clean) => clean,
        }
    }

    /// For bytes that come in pieces.
    pub fn stream(&self) -> Scrub {
        Scrub::new(self.clone())
    }

    /// Where secrets are in these bytes.
    pub fn find(&self, bytes: &[u8]) -> Vec<Finding> {
        self.patterns().find(bytes)
    }

    fn patterns(&self) -> Arc<Patterns> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&known.patterns)
    }
}

/// The password of a proxy's address, as it stands there. The address need not have a scheme.
fn password_of(address: &str) -> Option<&str> {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    let (userinfo, _) = authority.rsplit_once('@')?;
    userinfo.split_once(':').map(|(_, password)| password)
}

/// Without its percent signs.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let byte = (*first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| hex::decode(digits).ok());
        if let Some(byte) = byte {
            bytes.extend(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    bytes
}

/// A writer that gets everything redacted. What may yet become a secret waits in it until more comes, or for
/// [`Redacted::finish`].
#[derive(Debug)]
pub struct Redacted<W> {
    inner: W,
    scrub: Scrub,
}

impl<W: Write> Redacted<W> {
    /// Writes into `inner`.
    pub fn new(inner: W, redactor: &Redactor) -> Self {
        Self {
            inner,
            scrub: redactor.stream(),
        }
    }

    /// Writes what waits, and gives the writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&self.scrub.finish())?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for Redacted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(&self.scrub.feed(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests;
