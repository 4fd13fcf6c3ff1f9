//! What the official listener, and with it the job, sees of this process's environment: an allow-list, and nothing else.
//!
//! The official runner hands its environment on to every job. What is ours (`RUNNER_*`, tokens, a collector's headers) is
//! therefore not in it, whatever it is called.

use std::ffi::OsString;

/// Taken over where they are set: what programs need to find their way, and roots of trust.
const TAKEN_OVER: [&str; 29] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
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
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "ImageOS",
    "AGENT_TOOLSDIRECTORY",
    "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT",
    "XDG_RUNTIME_DIR",
];
/// Where programs are looked for when nobody was told.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment of a listener, but for what is only its own. `passed` are further names that the operator gave; `lookup`
/// looks up a variable of this process.
pub fn of_job(passed: &[String], lookup: impl Fn(&str) -> Option<OsString>) -> Vec<(String, OsString)> {
    let names = passed.iter().map(String::as_str).chain(TAKEN_OVER);
    let mut found: Vec<(String, OsString)> = Vec::new();
    for name in names {
        if let Some(value) = lookup(name)
            && !found.iter().any(|(known, _)| known == name)
        {
            found.push((name.to_owned(), value));
        }
    }
    if !found.iter().any(|(name, _)| name == "PATH") {
        found.push(("PATH".to_owned(), DEFAULT_PATH.into()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_sees_what_is_named_and_nothing_of_ours() {
        let lookup = |name: &str| {
            let there = [
                "HOME",
                "RUNNER_ACTIONS_TOKEN",
                "GITHUB_TOKEN",
                "ANTHROPIC_API_KEY",
                "BUILD_CACHE",
            ];
            there.contains(&name).then(|| OsString::from("x"))
        };
        let names: Vec<String> = of_job(&["BUILD_CACHE".to_owned()], lookup)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["BUILD_CACHE", "HOME", "PATH"]);
    }
}
