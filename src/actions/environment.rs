//! What the official listener, and with it the job, sees of this process's environment: an allow-list, and nothing else.
//!
//! The official runner hands its environment on to every job. What is ours (`RUNNER_*`, tokens, a collector's headers) is
//! therefore not in it, whatever it is called.

use std::ffi::OsString;

use crate::adapters::agent::{DEFAULT_PATH, TAKEN_OVER};

/// Taken over beside what an agent gets: who the user is, and what workflows ask for by name.
const OF_A_JOB: [&str; 11] = [
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "ImageOS",
    "AGENT_TOOLSDIRECTORY",
    "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT",
    "XDG_RUNTIME_DIR",
];

/// The environment of a listener, but for what is only its own. `passed` are further names that the operator gave; `lookup`
/// looks up a variable of this process.
pub fn of_job(passed: &[String], lookup: impl Fn(&str) -> Option<OsString>) -> Vec<(String, OsString)> {
    let names = passed.iter().map(String::as_str).chain(TAKEN_OVER).chain(OF_A_JOB);
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
