//! Where an archive goes: a folder, or an address that takes a PUT and may itself be a secret.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use url::{Position, Url};

use crate::ids::{PlainHttp, TaskId, is_loopback};
use crate::secret::Secret;

/// Where an archive goes (`RUNNER_ARCHIVE_URL`).
#[derive(Debug, Clone)]
pub enum Destination {
    /// A folder: the file is named after the task.
    Folder(PathBuf),
    /// An address that takes a PUT.
    Put(Put),
}

/// An address that takes a PUT. Whoever knows it may write there, so it is never shown: its host is.
#[derive(Clone)]
pub struct Put(Url);

impl fmt::Debug for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host())
    }
}

/// What no archive can go to. The address is not in it, since it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidDestination {
    /// Not absolute, or not a URL at all.
    #[error("it is no absolute URL")]
    NotAUrl,
    /// Another scheme than those that are allowed.
    #[error("its scheme is {0:?}")]
    Scheme(String),
    /// A folder on another machine, or none.
    #[error("a file:// URL has an absolute path and no host, as in file:///archive/")]
    Folder,
    /// Everybody on the way would read along.
    #[error("plain http:// goes to loopback alone, unless RUNNER_ALLOW_HTTP is set")]
    PlainHttp,
    /// It would not be sent.
    #[error("it has a fragment, which is never sent")]
    Fragment,
}

impl Destination {
    /// Parses an address. A `file:` URL is a folder; a path that ends in `/` is one for an address of HTTP, too.
    pub fn parse(text: &str, plain_http: PlainHttp) -> Result<Self, InvalidDestination> {
        let url = Url::parse(text.trim()).map_err(|_| InvalidDestination::NotAUrl)?;
        match url.scheme() {
            "file" if url.query().is_some() || url.fragment().is_some() => Err(InvalidDestination::Folder),
            "file" => match url.to_file_path() {
                Ok(path) if url.host().is_none() => Ok(Self::Folder(path)),
                Ok(_) | Err(()) => Err(InvalidDestination::Folder),
            },
            "https" | "http" if url.fragment().is_some() => Err(InvalidDestination::Fragment),
            "http" if plain_http == PlainHttp::LoopbackOnly && !is_loopback(&url) => Err(InvalidDestination::PlainHttp),
            "https" | "http" => Ok(Self::Put(Put(url))),
            other => Err(InvalidDestination::Scheme(other.to_owned())),
        }
    }

    /// The folder, where it is one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Put(_) => None,
        }
    }

    /// What of it nobody may see, the longest first.
    pub fn secrets(&self) -> Vec<Secret> {
        match self {
            Self::Folder(_) => Vec::new(),
            Self::Put(put) => put.secrets(),
        }
    }
}

/// A value of a query with as many characters may be a signature or a key; `PUT` and `3600` are none.
const SECRET_VALUE: usize = 16;

impl Put {
    /// The address for a task's archive: below it where its path ends in `/`.
    pub fn url(&self, task: &TaskId) -> Url {
        let mut url = self.0.clone();
        if url.path().ends_with('/') {
            let path = format!("{}{}", url.path(), super::file_name(task));
            url.set_path(&path);
        }
        url
    }

    /// The address as it was given: to choose a client by.
    pub fn peer(&self) -> &Url {
        &self.0
    }

    /// Host and port: what may be told of it.
    pub fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    fn secrets(&self) -> Vec<Secret> {
        let query = self.0.query().unwrap_or_default();
        let mut secrets = Vec::new();
        // A path may be what opens the door, too, unless it is a folder's. Host and scheme are no secret, and in many lines.
        let behind = &self.0[Position::BeforePath..];
        if !query.is_empty() || (behind.len() >= SECRET_VALUE && !behind.ends_with('/')) {
            secrets.push(Secret::new(behind));
        }
        if !query.is_empty() {
            secrets.push(Secret::new(query));
        }
        if let Some(password) = self.0.password() {
            secrets.push(Secret::new(password));
        }
        let raw = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(_, value)| value.to_owned());
        let decoded = self.0.query_pairs().map(|(_, value)| value.into_owned());
        let long = raw.chain(decoded).filter(|value| value.len() >= SECRET_VALUE);
        secrets.extend(long.map(Secret::new));
        secrets
    }
}
