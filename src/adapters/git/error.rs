//! What can go wrong between the runner and a repository, read from git's own words.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::disk;
use crate::ids::{BranchName, GitRef};

/// Why a git operation failed. The text of git in it is bounded and free of the token.
#[derive(Debug, Error)]
pub enum GitError {
    /// git itself could not be started.
    #[error("git could not be started as {}: {source}", program.display())]
    Spawn {
        /// The program that was tried.
        program: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// 401, or no credential to answer with.
    #[error("the repository's host refused the credential: {detail}")]
    AuthenticationFailed {
        /// git's words.
        detail: String,
    },
    /// 403: known, and not allowed.
    #[error("the credential has no right to do this: {detail}")]
    Forbidden {
        /// git's words.
        detail: String,
    },
    /// 404, which is also what some hosts answer for a repository that the token may not see.
    #[error("the repository was not found, or the token may not see it: {detail}")]
    NotFound {
        /// git's words.
        detail: String,
    },
    /// 3xx: redirects are not followed, since they would take the token elsewhere.
    #[error("the repository's host answered {status}, and redirects are not followed: give its current address")]
    Redirected {
        /// The HTTP status.
        status: u16,
    },
    /// TLS: the host could not prove who it is.
    #[error("the repository's host is not trusted: {detail}; RUNNER_CA_FILE takes further roots")]
    Untrusted {
        /// git's words.
        detail: String,
    },
    /// No connection: nothing was sent.
    #[error("the repository's host could not be reached: {detail}")]
    Unreachable {
        /// git's words.
        detail: String,
    },
    /// The connection ended in the middle: what was sent may have been done.
    #[error("the connection was lost: {detail}")]
    Lost {
        /// git's words.
        detail: String,
    },
    /// 408, 429 and 5xx: what was sent may have been done, and may be taken the next time.
    #[error("the repository's host answered {status}: {detail}")]
    Server {
        /// The HTTP status.
        status: u16,
        /// git's words.
        detail: String,
    },
    /// Any other status, a 413 of a proxy for one: the same again is answered the same.
    #[error("the repository's host answered {status}: {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// git's words.
        detail: String,
    },
    /// A rule of the remote refused the push: a protected branch, a hook.
    #[error("the remote refused the push: {reason}")]
    RemoteRejected {
        /// The remote's words.
        reason: String,
    },
    /// The remote branch is not where the lease says.
    #[error("the remote branch is not where it was expected: {reason}")]
    Stale {
        /// git's words.
        reason: String,
    },
    /// Killed at its time-out: what was sent may have been done.
    #[error("git {what} took longer than {after:?} and was stopped")]
    TimedOut {
        /// The git command.
        what: &'static str,
        /// Its time-out.
        after: Duration,
    },
    /// No space, or no quota.
    #[error("the disk is full: {detail}")]
    DiskFull {
        /// git's or the kernel's words.
        detail: String,
    },
    /// There is no commit to start from.
    #[error("the repository is empty; push a first commit to it")]
    EmptyRepository,
    /// A remote has either a branch `a` or branches below `a/`: git keeps them as a file and a directory.
    #[error(
        "{branch} cannot be made on the remote beside its branch {there}; give the task another branch, or remove that one"
    )]
    BranchInTheWay {
        /// The one that is wanted.
        branch: BranchName,
        /// The one that is there.
        there: String,
    },
    /// The remote names no default branch, and the task no base.
    #[error("the repository has no default branch; name a ref")]
    NoDefaultBranch,
    /// Neither a branch nor a tag nor a commit there.
    #[error("{0} is neither a branch nor a tag nor a full commit id of the repository")]
    RefNotFound(GitRef),
    /// Longer than what is read.
    #[error("git {what} moved more than {limit} bytes")]
    TooLarge {
        /// The git command.
        what: &'static str,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The private repository does not hold what it should.
    #[error("the private repository is not as the runner left it: {what}")]
    Damaged {
        /// What is missing or odd.
        what: String,
    },
    /// The token cannot be handed over as one line.
    #[error("the token is empty, too long, or has control characters in it")]
    TokenUnusable,
    /// The file system, outside git.
    #[error("failed to {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Everything that has no name here.
    #[error("git {what} ended with {}: {detail}", exit.map_or_else(|| "a signal".to_owned(), |code| format!("exit {code}")))]
    Other {
        /// The git command.
        what: &'static str,
        /// Its exit code, where it was no signal.
        exit: Option<i32>,
        /// git's words.
        detail: String,
    },
}

impl GitError {
    /// An error of the file system: a full disk is told from the rest.
    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| {
            if disk::is_full(&source) {
                Self::DiskFull {
                    detail: format!("{what} {}: {source}", path.display()),
                }
            } else {
                Self::Io { what, path, source }
            }
        }
    }

    /// Reads the cause from what git printed with `LC_ALL=C`.
    pub(super) fn from_failure(what: &'static str, exit: Option<i32>, stderr: &str) -> Self {
        // What the remote prints is the remote's: it must not choose the cause.
        let own: String = stderr
            .lines()
            .filter(|line| !line.starts_with("remote:"))
            .collect::<Vec<_>>()
            .join("\n");
        let says = |needles: &[&str]| needles.iter().any(|needle| own.contains(needle));
        let detail = summary(stderr);
        if says(&["No space left on device", "Disk quota exceeded"]) {
            return Self::DiskFull { detail };
        }
        if says(&[
            "Authentication failed",
            "could not read Username",
            "could not read Password",
        ]) {
            return Self::AuthenticationFailed { detail };
        }
        if let Some(status) = http_status(&own) {
            return match status {
                401 => Self::AuthenticationFailed { detail },
                403 => Self::Forbidden { detail },
                404 | 410 => Self::NotFound { detail },
                300..=399 => Self::Redirected { status },
                408 | 429 | 500..=599 => Self::Server { status, detail },
                _ => Self::Refused { status, detail },
            };
        }
        if says(&["SSL certificate", "server certificate", "certificate verif"]) {
            return Self::Untrusted { detail };
        }
        if own
            .lines()
            .any(|l| l.contains("repository '") && l.ends_with("not found"))
            || says(&["does not appear to be a git repository"])
        {
            return Self::NotFound { detail };
        }
        // The first request only reads; a later one ("RPC failed") may have been acted on, even where git's own
        // resending of it found nobody any more.
        if says(&["RPC failed", "hung up", "early EOF", "unexpected disconnect"]) {
            return Self::Lost { detail };
        }
        if says(&["unable to access"]) {
            return Self::Unreachable { detail };
        }
        Self::Other { what, exit, detail }
    }
}

/// The lines that name the cause, at most 2,000 characters, control characters escaped.
pub(super) fn summary(stderr: &str) -> String {
    let lines: Vec<&str> = stderr
        .lines()
        .map(|line| line.rsplit('\r').next().unwrap_or(line).trim_end())
        .filter(|line| !line.is_empty() && !line.starts_with("hint:"))
        .collect();
    let from = lines.len().saturating_sub(8);
    let joined = lines.get(from..).unwrap_or_default().join("; ");
    joined
        .chars()
        .take(2_000)
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

fn http_status(stderr: &str) -> Option<u16> {
    ["returned error: ", "RPC failed; HTTP "].iter().find_map(|mark| {
        let rest = &stderr[stderr.find(mark)? + mark.len()..];
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(stderr: &str) -> GitError {
        GitError::from_failure("push", Some(128), stderr)
    }

    #[test]
    fn the_cause_is_read_from_gits_words() {
        assert!(matches!(
            cause("fatal: Authentication failed for 'https://h/r/'"),
            GitError::AuthenticationFailed { .. }
        ));
        assert!(matches!(
            cause("fatal: could not read Username for 'https://h': terminal prompts disabled"),
            GitError::AuthenticationFailed { .. }
        ));
        assert!(matches!(
            cause("remote: denied\nfatal: unable to access 'u': The requested URL returned error: 403"),
            GitError::Forbidden { .. }
        ));
        assert!(matches!(
            cause("fatal: unable to access 'u': The requested URL returned error: 301"),
            GitError::Redirected { status: 301 }
        ));
        assert!(matches!(
            cause("error: RPC failed; HTTP 502 curl 22 The requested URL returned error: 502"),
            GitError::Server { status: 502, .. }
        ));
        assert!(matches!(
            cause("fatal: repository 'http://h/o/r/' not found"),
            GitError::NotFound { .. }
        ));
        assert!(matches!(
            cause("fatal: unable to access 'u': Could not resolve host: h"),
            GitError::Unreachable { .. }
        ));
        assert!(matches!(
            cause("error: RPC failed; curl 7 Failed to connect to h"),
            GitError::Lost { .. }
        ));
        assert!(matches!(
            cause("fatal: unable to access 'u': server certificate verification failed. CAfile: none"),
            GitError::Untrusted { .. }
        ));
        assert!(matches!(
            cause("error: unable to write file x: No space left on device"),
            GitError::DiskFull { .. }
        ));
        assert!(matches!(cause("fatal: what?"), GitError::Other { exit: Some(128), .. }));
    }

    #[test]
    fn a_status_that_passes_is_told_from_one_that_is_final() {
        let answered = |status: u16| cause(&format!("error: RPC failed; HTTP {status} curl 22 The requested URL"));
        for status in [408, 429, 500, 502, 503, 504, 507] {
            let error = answered(status);
            assert!(matches!(error, GitError::Server { .. }), "{error:?}");
        }
        for status in [400, 402, 409, 411, 413, 422, 431, 451] {
            let error = answered(status);
            assert!(!matches!(error, GitError::Server { .. }), "{error:?}");
            assert!(error.to_string().contains(&format!("answered {status}")), "{error}");
        }
    }

    #[test]
    fn the_remote_does_not_choose_the_cause() {
        let error = cause("remote: No space left on device\nremote: Authentication failed\nfatal: odd");
        assert!(matches!(error, GitError::Other { .. }), "{error:?}");
    }

    #[test]
    fn a_detail_is_short_and_of_one_line() {
        let long = "x\u{1b}[2J\n".repeat(9_000);
        let text = summary(&long);
        assert!(text.len() < 4_000 && !text.chars().any(char::is_control), "{text}");
    }
}
