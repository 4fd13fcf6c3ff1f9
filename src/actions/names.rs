//! Names from outside that an Actions runner is made of, each parsed once.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::{Host, Url};

use crate::adapters::forge::{default_base, is_name};

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidName {
    /// Not the address of a repository or an organisation.
    #[error(
        "{0}: the address of a repository (https://github.com/OWNER/NAME) or an organisation (https://github.com/NAME) is allowed"
    )]
    Target(&'static str),
    /// Not the beginning of a runner's name.
    #[error(
        "a runner's name may have 1 to 48 letters, digits, dots, hyphens and underscores, and begins with a letter or a digit"
    )]
    Runner,
    /// Not a set of labels.
    #[error("1 to 100 labels are allowed, comma-separated, each of 1 to 256 characters without quotes: {0}")]
    Labels(String),
    /// Not the name of a group.
    #[error("a group's name has 1 to 100 characters, none of them a control character")]
    Group,
    /// Not a folder.
    #[error("a folder is a path without `..` in it and without control characters, such as _work or /workspace/_work")]
    Work,
}

/// Whose jobs the runner takes: a repository's or an organisation's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Target {
    page: Url,
    scope: Scope,
}

/// How far a runner's registration reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// One repository.
    Repository {
        /// Who owns it.
        owner: String,
        /// Its name.
        name: String,
    },
    /// All repositories of an organisation that the runner's group lets in.
    Organisation(String),
}

impl Target {
    /// How far it reaches.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// `repos/OWNER/NAME` or `orgs/NAME`: what a path of the interface begins with.
    pub fn path(&self) -> String {
        match &self.scope {
            Scope::Repository { owner, name } => format!("repos/{owner}/{name}"),
            Scope::Organisation(name) => format!("orgs/{name}"),
        }
    }

    /// Where GitHub's REST interface is for it, where nobody says otherwise.
    pub fn api(&self) -> Option<Url> {
        default_base(&self.page).ok()
    }
}

impl FromStr for Target {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = InvalidName::Target;
        let page = Url::parse(text.trim().trim_end_matches('/')).map_err(|_| refuse("this is no URL"))?;
        let loopback = match page.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if page.scheme() != "https" && !(page.scheme() == "http" && loopback) {
            return Err(refuse("this is not https"));
        }
        let bare = page.username().is_empty()
            && page.password().is_none()
            && page.query().is_none()
            && page.fragment().is_none();
        if !bare {
            return Err(refuse("this has more in it than an address"));
        }
        let parts: Vec<&str> = page.path().trim_matches('/').split('/').collect();
        let scope = match parts.as_slice() {
            [name] if is_name(name) => Scope::Organisation((*name).to_owned()),
            ["enterprises", _] => return Err(refuse("an enterprise's runners are not registered here")),
            [owner, name] if is_name(owner) && is_name(name) => Scope::Repository {
                owner: (*owner).to_owned(),
                name: name.strip_suffix(".git").unwrap_or(name).to_owned(),
            },
            _ => return Err(refuse("its path is neither OWNER/NAME nor NAME")),
        };
        Ok(Self { page, scope })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.page.as_str().trim_end_matches('/'))
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl TryFrom<String> for Target {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

/// What a runner's name begins with. What follows makes it this journal's own, and each attempt's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RunnerName(String);

impl RunnerName {
    /// How long it may be: GitHub takes 64 characters, and the rest is ours.
    const LONGEST: usize = 48;

    /// From a host's name, as far as it can be used.
    pub fn of_host(host: &str) -> Self {
        let kept: String = host
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
            .take(Self::LONGEST)
            .collect();
        kept.trim_start_matches(['.', '-', '_'])
            .parse()
            .unwrap_or_else(|_| Self("runner".to_owned()))
    }
}

impl FromStr for RunnerName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let fits = (1..=Self::LONGEST).contains(&text.len())
            && text.bytes().all(plain)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName::Runner)
        }
    }
}

parsed_string!(RunnerName);

/// What `runs-on` may ask this runner for: 1 to 100.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<String>", try_from = "Vec<String>")]
pub struct Labels(Vec<String>);

impl Labels {
    /// How many GitHub takes.
    pub const MOST: usize = 100;

    /// What a runner of one's own has where nobody says otherwise.
    pub fn of_this_machine() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "x64",
            "aarch64" => "arm64",
            other => other,
        };
        Self(["self-hosted", "linux", architecture].map(str::to_owned).to_vec())
    }

    /// Each of them.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for Labels {
    type Error = InvalidName;

    fn try_from(labels: Vec<String>) -> Result<Self, InvalidName> {
        let refuse = |what: String| Err(InvalidName::Labels(what));
        if labels.is_empty() || labels.len() > Self::MOST {
            return refuse(format!("these are {}", labels.len()));
        }
        let odd = |label: &&String| {
            label.is_empty() || label.chars().count() > 256 || label.chars().any(|c| c.is_control() || c == '"')
        };
        match labels.iter().find(odd) {
            Some(label) => refuse(format!("{:?} is none", crate::text::cut(label, 40))),
            None => Ok(Self(labels)),
        }
    }
}

impl FromStr for Labels {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let labels: Vec<String> = text.split(',').map(|label| label.trim().to_owned()).collect();
        labels.try_into()
    }
}

impl From<Labels> for Vec<String> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

/// The name of a runner group.
pub fn group(text: &str) -> Result<String, InvalidName> {
    let fits = !text.trim().is_empty() && text.chars().count() <= 100 && !text.chars().any(char::is_control);
    if fits {
        Ok(text.trim().to_owned())
    } else {
        Err(InvalidName::Group)
    }
}

/// Where jobs work: below the official runner's directory, or an absolute path.
pub fn work_folder(text: &str) -> Result<String, InvalidName> {
    let fits = !text.is_empty()
        && text.len() <= 1024
        && !text.chars().any(char::is_control)
        && !text.split('/').any(|part| part == "..");
    if fits {
        Ok(text.to_owned())
    } else {
        Err(InvalidName::Work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_repository_or_an_organisation_and_nothing_else() {
        let paths = |text: &str| text.parse::<Target>().map(|target| target.path());
        assert_eq!(
            paths("https://github.com/octo/hello"),
            Ok("repos/octo/hello".to_owned())
        );
        assert_eq!(
            paths("https://github.com/octo/hello.git"),
            Ok("repos/octo/hello".to_owned())
        );
        assert_eq!(paths("https://ghe.example.org/octo/"), Ok("orgs/octo".to_owned()));
        assert_eq!(paths("http://127.0.0.1:80/octo"), Ok("orgs/octo".to_owned()));
        for bad in [
            "octo/hello",
            "http://github.com/octo",
            "https://github.com/",
            "https://github.com/a/b/c",
            "https://user@github.com/octo",
            "https://github.com/octo?x=1",
            "https://github.com/enterprises/big",
            "https://github.com/../octo/..",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn one_to_a_hundred_labels_are_taken_and_an_odd_one_is_named() {
        let many = |count: usize| vec!["x".to_owned(); count].join(",");
        assert!(many(1).parse::<Labels>().is_ok());
        assert!(many(100).parse::<Labels>().is_ok());
        for (bad, said) in [
            (many(101), "101"),
            (String::new(), "\"\""),
            ("a,b\u{7},c".to_owned(), "b\\u{7}"),
        ] {
            let refused = bad.parse::<Labels>().unwrap_err().to_string();
            assert!(refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn a_hosts_name_becomes_a_runners_and_a_useless_one_is_replaced() {
        assert_eq!(RunnerName::of_host("pod-7f.example").to_string(), "pod-7f.example");
        assert_eq!(RunnerName::of_host("-\u{fc}-x").to_string(), "x");
        assert_eq!(RunnerName::of_host("\u{fc}").to_string(), "runner");
        assert_eq!(RunnerName::of_host(&"a".repeat(80)).to_string().len(), 48);
    }
}
