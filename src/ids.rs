//! Names from outside, parsed once at the edge, so that an unchecked string cannot reach a path, a URL or an argument list.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::{Host, Url};
use uuid::Uuid;

/// Why a name from outside was refused. The message says what would be allowed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidName {
    /// Not of the form that the contract gives task ids.
    #[error(
        "task id {0:?} is not allowed: 1 to 200 letters, digits, '.', '_' and '-', beginning and ending with a letter or digit, without '..' and not ending in '.lock'"
    )]
    TaskId(String),
    /// Not an absolute http or https URL, or one that carries more than scheme, host, port and path.
    #[error(
        "API URL {url:?} is not allowed: {why}; an absolute http:// or https:// URL without user info, query and fragment is"
    )]
    ApiUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A repository address with a transport that is not allowed here.
    #[error("repository {url:?} is not allowed: {why}")]
    Repository {
        /// What was given, without any password in it.
        url: String,
        /// What is wrong with it, and what would be allowed.
        why: &'static str,
    },
    /// Not a name that git takes for a branch, a tag or a commit.
    #[error("git ref {0:?} is not allowed: a branch, a tag or a full commit id is")]
    GitRef(String),
    /// Not 40 or 64 lower-case hexadecimal digits.
    #[error("{0:?} is not a full commit id")]
    CommitId(String),
}

/// Makes a parsed string type: serde through `FromStr`, so that a journal cannot bring an unchecked one back in.
macro_rules! parsed_string {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(value: String) -> Result<Self, InvalidName> {
                value.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
    };
}

/// Makes a parsed string type out of the names that git takes for a ref.
macro_rules! ref_name {
    ($name:ident) => {
        parsed_string!($name);

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if is_ref_name(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidName::GitRef(text.to_owned()))
                }
            }
        }
    };
}

/// A task's id: a URL segment, a branch name and a file name at once (contract, section 1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId(String);
parsed_string!(TaskId);

impl FromStr for TaskId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let bytes = text.as_bytes();
        let ends =
            bytes.first().is_some_and(u8::is_ascii_alphanumeric) && bytes.last().is_some_and(u8::is_ascii_alphanumeric);
        let inside = bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        // git refuses a ref component that ends in ".lock" in any position, whatever the case of a file system.
        let lock = text.to_ascii_lowercase().ends_with(".lock");
        if ends && inside && bytes.len() <= 200 && !text.contains("..") && !lock {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::TaskId(text.to_owned()))
        }
    }
}

/// The id of an agent's conversation: a UUID of version 5, so that a start after a crash finds the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(Uuid);

/// The names below are this runner's alone. Random, made once.
const SESSIONS: Uuid = Uuid::from_u128(0x9d0c_5a5e_6f3b_4a39_8f6e_1b2c_7d4e_0a11);

impl SessionId {
    /// The conversation about a task. `anew` counts how often it was begun anew: Claude Code refuses an id that it knows.
    pub fn of(task: &TaskId, anew: u32) -> Self {
        Self(Uuid::new_v5(&SESSIONS, format!("{task}/{anew}").as_bytes()))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The base of a task API, normalised: no trailing slash, so that equal ones compare equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApiUrl(String);
parsed_string!(ApiUrl);

impl FromStr for ApiUrl {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = |why| InvalidName::ApiUrl {
            url: without_password(text),
            why,
        };
        let url = Url::parse(text).map_err(|_| refuse("it is not an absolute URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("its scheme is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("it carries user info"));
        }
        if url.query().is_some() {
            return Err(refuse("it carries a query"));
        }
        if url.fragment().is_some() {
            return Err(refuse("it carries a fragment"));
        }
        if url.host().is_none() {
            return Err(refuse("it has no host"));
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

impl ApiUrl {
    /// The host as the URL has it, for an allow-list.
    pub fn host(&self) -> Option<String> {
        Url::parse(&self.0).ok()?.host_str().map(str::to_owned)
    }

    /// Whether the host is an address that only this link can reach (169.254/16, `fe80::/10`): cloud metadata lives there.
    pub fn is_link_local(&self) -> bool {
        let Ok(url) = Url::parse(&self.0) else {
            return false;
        };
        names_link_local(&url)
    }

    /// `{base}/api/v1/tasks/{taskID}/{call}`.
    pub fn task_call(&self, task: &TaskId, call: &str) -> String {
        format!("{}/api/v1/tasks/{task}/{call}", self.0)
    }
}

/// Which repository addresses are allowed here. A property of the command, not of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepoPolicy {
    /// Plain HTTP to other hosts than loopback (`RUNNER_ALLOW_HTTP`).
    pub plain_http: PlainHttp,
    /// Paths and `file://`, which only a person at the command line may name.
    pub local: LocalRepos,
}

/// Where plain HTTP may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainHttp {
    /// To 127.0.0.0/8, `[::1]` and `localhost` alone.
    LoopbackOnly,
    /// Anywhere.
    Anywhere,
}

/// Whether a repository may be a path of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalRepos {
    /// `runner run` and `runner demo`.
    Allowed,
    /// `runner serve`: what the API names may not reach into the container's files.
    Refused,
}

/// A repository's address, of a transport that git may use for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepoUrl {
    /// `http://` or `https://`, without user info.
    Http(Url),
    /// An absolute path of this machine.
    Local(PathBuf),
}

impl RepoUrl {
    /// Parses an address and holds it against the policy.
    pub fn parse(text: &str, policy: RepoPolicy) -> Result<Self, InvalidName> {
        let refuse = |why| InvalidName::Repository {
            url: without_password(text),
            why,
        };
        if text.is_empty() || text.starts_with('-') || text.chars().any(char::is_control) {
            return Err(refuse("it is empty, looks like an option or has control characters"));
        }
        if text.contains("::") && !text.contains("://") {
            return Err(refuse(
                "remote helpers (ext:: and the like) run programs; https:// is allowed",
            ));
        }
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Self::http(url, text, policy),
            Ok(url) if url.scheme() == "file" => match url.to_file_path() {
                Ok(path) => Self::local(&path, text, policy),
                Err(()) => Err(refuse("a file:// URL names an absolute path and no host")),
            },
            Ok(url) if text.contains("://") || url.scheme().len() > 1 => {
                Err(refuse("its transport is not allowed; https:// is"))
            }
            Ok(_) | Err(_) => Self::local(Path::new(text), text, policy),
        }
    }

    fn http(url: Url, text: &str, policy: RepoPolicy) -> Result<Self, InvalidName> {
        let refuse = |why| InvalidName::Repository {
            url: without_password(text),
            why,
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("it carries user info; the token comes from the task API"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("it carries a query or a fragment"));
        }
        if names_link_local(&url) {
            return Err(refuse(
                "link-local addresses belong to the machine, not to a git server",
            ));
        }
        let plain = url.scheme() == "http";
        if plain && policy.plain_http == PlainHttp::LoopbackOnly && !is_loopback(&url) {
            return Err(refuse(
                "plain HTTP would show the token to the network; https:// is allowed, or set RUNNER_ALLOW_HTTP=true",
            ));
        }
        Ok(Self::Http(url))
    }

    fn local(path: &Path, text: &str, policy: RepoPolicy) -> Result<Self, InvalidName> {
        let refuse = |why| InvalidName::Repository {
            url: without_password(text),
            why,
        };
        if policy.local == LocalRepos::Refused {
            return Err(refuse("paths and file:// are for `runner run`; https:// is allowed"));
        }
        if !path.is_absolute() {
            return Err(refuse("a path has to be absolute here"));
        }
        Ok(Self::Local(path.to_owned()))
    }

    /// What git is given.
    pub fn as_git_argument(&self) -> String {
        match self {
            Self::Http(url) => url.as_str().to_owned(),
            Self::Local(path) => path.display().to_string(),
        }
    }

    /// The transport's name as git's `protocol.*.allow` has it.
    pub fn transport(&self) -> &str {
        match self {
            Self::Http(url) => url.scheme(),
            Self::Local(_) => "file",
        }
    }
}

impl fmt::Display for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_git_argument())
    }
}

/// A branch, a tag or a full commit id, as a task names its base.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GitRef(String);
ref_name!(GitRef);

/// A branch's name without `refs/heads/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BranchName(String);
ref_name!(BranchName);

impl BranchName {
    /// `refs/heads/NAME`.
    pub fn full_ref(&self) -> String {
        format!("refs/heads/{}", self.0)
    }
}

/// A commit's full id: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);
parsed_string!(CommitId);

impl FromStr for CommitId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex && matches!(text.len(), 40 | 64) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::CommitId(text.to_owned()))
        }
    }
}

/// The rules of `git check-ref-format`, and no leading dash.
fn is_ref_name(text: &str) -> bool {
    let forbidden = |c: char| {
        c.is_control() || c.is_whitespace() || matches!(c, '~' | '^' | ':' | '?' | '*' | '[' | '\\' | '\u{7f}')
    };
    let component =
        |part: &str| !part.is_empty() && !part.starts_with('.') && !part.to_ascii_lowercase().ends_with(".lock");
    !text.is_empty()
        && text.len() <= 255
        && text != "@"
        && !text.starts_with('-')
        && !text.ends_with('.')
        && !text.contains("..")
        && !text.contains("@{")
        && !text.contains(forbidden)
        && text.split('/').all(component)
}

/// Whether only this link can reach an address; one of version 4 may be written as one of version 6.
pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.to_ipv4().is_some_and(|ip| ip.is_link_local()),
    }
}

fn names_link_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => is_link_local(ip.into()),
        Some(Host::Ipv6(ip)) => is_link_local(ip.into()),
        Some(Host::Domain(_)) | None => false,
    }
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The text as it may stand in an error: nobody's password in it.
fn without_password(text: &str) -> String {
    match Url::parse(text) {
        Ok(mut url) if url.password().is_some() || !url.username().is_empty() => {
            let cleared = url.set_password(None).is_ok() && url.set_username("***").is_ok();
            if cleared { url.into() } else { "***".to_owned() }
        }
        Ok(_) | Err(_) => text.chars().take(300).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVE: RepoPolicy = RepoPolicy {
        plain_http: PlainHttp::LoopbackOnly,
        local: LocalRepos::Refused,
    };
    const RUN: RepoPolicy = RepoPolicy {
        plain_http: PlainHttp::LoopbackOnly,
        local: LocalRepos::Allowed,
    };

    #[test]
    fn a_task_id_is_a_safe_segment_branch_and_file_name() {
        for good in ["a", "my-task", "T.1_2", "0", &"a".repeat(200)] {
            assert!(good.parse::<TaskId>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            ".a",
            "a/b",
            "a..b",
            "a.lock",
            "a.LOCK",
            "a b",
            "ä",
            &"a".repeat(201),
            "a\n",
        ] {
            assert!(bad.parse::<TaskId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn api_urls_compare_after_normalising() {
        let a: ApiUrl = "http://API:8081/".parse().unwrap();
        let b: ApiUrl = "http://api:8081".parse().unwrap();
        assert_eq!(a, b);
        assert_eq!(
            a.task_call(&"t".parse().unwrap(), "data"),
            "http://api:8081/api/v1/tasks/t/data"
        );
        for bad in ["api", "ftp://a", "http://u:p@a", "http://a?q", "http://a#f", "/x", ""] {
            assert!(bad.parse::<ApiUrl>().is_err(), "{bad:?}");
        }
        let error = "http://u:hunter2@a".parse::<ApiUrl>().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn link_local_hosts_are_seen_in_every_spelling() {
        for url in [
            "http://169.254.169.254",
            "http://[fe80::1]",
            "http://0xa9fea9fe",
            "http://[::ffff:169.254.1.1]",
        ] {
            assert!(url.parse::<ApiUrl>().unwrap().is_link_local(), "{url}");
        }
        assert!(!"http://10.0.0.1".parse::<ApiUrl>().unwrap().is_link_local());
    }

    #[test]
    fn only_plain_transports_name_a_repository() {
        for good in [
            "https://github.com/o/r",
            "http://127.0.0.1:1/o/r.git",
            "http://localhost/r",
            "http://[::1]/r",
        ] {
            assert!(RepoUrl::parse(good, SERVE).is_ok(), "{good}");
        }
        for bad in [
            "ext::sh -c id",
            "ssh://h/r",
            "git@github.com:o/r",
            "git://h/r",
            "--upload-pack=id",
            "http://example.com/r",
            "https://u:p@h/r",
            "https://h/r?x",
            "https://169.254.169.254/o/r",
            "https://[::ffff:169.254.169.254]/o/r",
            "",
            "file:///r",
            "/r",
            "a\nb",
        ] {
            assert!(RepoUrl::parse(bad, SERVE).is_err(), "{bad:?}");
        }
        assert_eq!(RepoUrl::parse("/r", RUN), Ok(RepoUrl::Local("/r".into())));
        assert_eq!(RepoUrl::parse("file:///r", RUN), Ok(RepoUrl::Local("/r".into())));
        for bad in ["r", "file://host/r", "ext::x", "-r", "ssh://h/r", "git@github.com:o/r"] {
            assert!(RepoUrl::parse(bad, RUN).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn refs_that_git_or_a_shell_would_misread_are_refused() {
        for good in ["main", "feature/x", "v1.0", "runner/my-task", &"a1".repeat(20)] {
            assert!(good.parse::<GitRef>().is_ok(), "{good}");
        }
        for bad in [
            "", "-x", "a..b", "a b", "a~1", "a^", "a:b", "/a", "a/", "a//b", "a.lock", "@", "a@{1}", ".a", "a\\b",
        ] {
            assert!(bad.parse::<GitRef>().is_err(), "{bad:?}");
        }
        assert!("A".repeat(40).parse::<CommitId>().is_err());
        assert!("a".repeat(40).parse::<CommitId>().is_ok());
    }
}
