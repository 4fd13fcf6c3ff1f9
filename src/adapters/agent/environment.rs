//! What an agent's environment is made of: an allow-list, and nothing else.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::{Place, PrepareError};

/// Taken over from the runner where they are set: language, time zone, proxies, roots of trust. A job of `runner actions` gets them,
/// too.
pub(crate) const TAKEN_OVER: [&str; 19] = [
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
];
/// Where programs are looked for when the runner itself was not told.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An environment by name. What is set later counts.
pub(super) struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// What every agent gets. The variables that the operator named come first, so that they cannot move its home.
    pub(super) fn new(place: &Place<'_>) -> Result<Self, PrepareError> {
        let mut environment = Self(BTreeMap::new());
        for name in place.passed {
            if name.starts_with("RUNNER_") {
                return Err(PrepareError::OwnVariable { name: name.clone() });
            }
            environment.take_over(name, place);
        }
        environment.set_default("PATH", DEFAULT_PATH);
        for name in TAKEN_OVER {
            environment.take_over(name, place);
        }
        environment.set_default("LANG", "C.UTF-8");
        environment.set("HOME", place.home);
        environment.set("TMPDIR", place.tmp);
        Ok(environment)
    }

    fn take_over(&mut self, name: &str, place: &Place<'_>) {
        if let Some(value) = (place.lookup)(name) {
            self.set(name, value);
        }
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Has a host reached directly, whatever proxies there are. Programs differ in which of the two names they read.
    pub(super) fn past_proxies(&mut self, host: &str) {
        const NAMES: [&str; 2] = ["NO_PROXY", "no_proxy"];
        let given = NAMES
            .iter()
            .find_map(|name| self.get(name))
            .filter(|given| !given.is_empty());
        let mut hosts = given.cloned().unwrap_or_default();
        if !hosts.is_empty() {
            hosts.push(",");
        }
        hosts.push(host);
        for name in NAMES {
            self.set(name, &hosts);
        }
    }

    fn set_default(&mut self, name: &str, value: &str) {
        self.0.entry(name.to_owned()).or_insert_with(|| value.into());
    }

    pub(super) fn get(&self, name: &str) -> Option<&OsString> {
        self.0.get(name)
    }

    pub(super) fn into_list(self) -> Vec<(String, OsString)> {
        self.0.into_iter().collect()
    }
}
