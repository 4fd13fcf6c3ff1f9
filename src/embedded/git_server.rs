//! A git server over HTTP on this machine: `git http-backend` behind Basic authentication, with faults on demand.

mod cgi;
mod line;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::ids::{BranchName, CommitId};
use crate::secret::Secret;
use cgi::Backend;
use line::{Line, Lines};

/// Who is let in, for reading too.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Anyone.
    Open,
    /// `x-access-token` with this as the password.
    Token(Secret),
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// The list of refs: the first request of every git command.
    List,
    /// Objects.
    Fetch,
    /// A change of refs.
    Push,
}

/// How an operation is spoilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The connection ends before anything is done.
    Before,
    /// It is done, and the connection ends without a byte of an answer.
    AfterWork,
    /// Nothing is done, and this is the answer.
    Status(u16),
    /// It is done, but only after this long.
    Delay(Duration),
}

/// Asked for every operation that was let in.
pub type Faults = Arc<dyn Fn(Operation) -> Option<Cut> + Send + Sync>;

/// How often each operation came through, spoilt or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lists of refs.
    pub lists: u64,
    /// Requests for objects.
    pub fetches: u64,
    /// Requests to change refs.
    pub pushes: u64,
    /// Requests that were turned away with 401.
    pub refused: u64,
}

/// What [`GitServer::seed`] makes of each: one commit on `main`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedCommit {
    /// Its message.
    pub message: String,
    /// Paths and contents, added to what the commit before has.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Why the server did not do what it was asked to.
#[derive(Debug, Error)]
pub enum GitServerError {
    /// A name that could leave the root.
    #[error("{0:?} is not a name of an owner or a repository here: letters, digits, '.', '_' and '-' are allowed")]
    Name(String),
    /// The socket, the directory or the process.
    #[error("failed to {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// git failed.
    #[error("git {what} failed: {detail}")]
    Git {
        /// The git command.
        what: &'static str,
        /// Its words.
        detail: String,
    },
}

/// A running server. It ends with this value.
pub struct GitServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

struct Shared {
    git: PathBuf,
    root: PathBuf,
    auth: RwLock<Auth>,
    faults: Option<Faults>,
    lists: AtomicU64,
    fetches: AtomicU64,
    pushes: AtomicU64,
    refused: AtomicU64,
}

impl GitServer {
    /// Serves the repositories below `root` (`OWNER/NAME.git`) on a free port of 127.0.0.1.
    pub async fn start(
        git: PathBuf,
        root: PathBuf,
        auth: Auth,
        faults: Option<Faults>,
    ) -> Result<Self, GitServerError> {
        std::fs::create_dir_all(&root).map_err(failed("create the root directory"))?;
        let root = root.canonicalize().map_err(failed("find the root directory"))?;
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .map_err(failed("bind a port"))?;
        let address = listener.local_addr().map_err(failed("bind a port"))?;
        let shared = Arc::new(Shared {
            git,
            root,
            auth: RwLock::new(auth),
            faults,
            lists: AtomicU64::default(),
            fetches: AtomicU64::default(),
            pushes: AtomicU64::default(),
            refused: AtomicU64::default(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let service = router.into_make_service_with_connect_info::<Line>();
        let accepting = tokio::spawn(async move {
            // It does not return: errors of accept are retried.
            let _ = axum::serve(Lines(listener), service).await;
        });
        Ok(Self {
            shared,
            address,
            accepting,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of a repository here.
    pub fn url(&self, owner: &str, name: &str) -> String {
        format!("http://{}/{owner}/{name}", self.address)
    }

    /// What came through so far.
    pub fn counts(&self) -> Counts {
        let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
        Counts {
            lists: of(&self.shared.lists),
            fetches: of(&self.shared.fetches),
            pushes: of(&self.shared.pushes),
            refused: of(&self.shared.refused),
        }
    }

    /// Lets others in from now on, as when a token expires.
    pub fn set_auth(&self, auth: Auth) {
        *self.shared.auth.write().unwrap_or_else(PoisonError::into_inner) = auth;
    }

    /// The directory of a repository, which need not exist.
    pub fn path(&self, owner: &str, name: &str) -> Result<PathBuf, GitServerError> {
        self.shared
            .path(owner, name)
            .ok_or_else(|| GitServerError::Name(format!("{owner}/{name}")))
    }

    /// Makes an empty repository whose default branch is `main`.
    pub async fn create(&self, owner: &str, name: &str) -> Result<PathBuf, GitServerError> {
        let path = self.path(owner, name)?;
        let mut args: Vec<OsString> = [
            "init",
            "--quiet",
            "--bare",
            "--template=",
            "--initial-branch=main",
            "--",
        ]
        .map(OsString::from)
        .into();
        args.push(path.clone().into());
        self.shared.git("init", None, args, &[]).await?;
        Ok(path)
    }

    /// Adds commits to `main`, always with the same ids for the same commits, and says where it is then.
    pub async fn seed(&self, owner: &str, name: &str, commits: &[SeedCommit]) -> Result<CommitId, GitServerError> {
        let path = self.path(owner, name)?;
        let branch = "refs/heads/main";
        let mut parent = self.shared.ref_at(&path, branch).await?;
        for (number, commit) in commits.iter().enumerate() {
            let mut stream = Vec::new();
            let when = 1_767_225_600 + number * 3600;
            stream.extend(format!("commit {branch}\ncommitter demo <demo@runner.example> {when} +0000\n").bytes());
            data(&mut stream, commit.message.as_bytes());
            if let Some(parent) = &parent {
                stream.extend(format!("from {parent}\n").bytes());
            }
            for (path, content) in &commit.files {
                let quoted = path.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                stream.extend(format!("M 100644 inline \"{quoted}\"\n").bytes());
                data(&mut stream, content);
            }
            let args = ["fast-import", "--quiet", "--done"].map(OsString::from).into();
            stream.extend(b"done\n");
            self.shared.git("fast-import", Some(&path), args, &stream).await?;
            parent = self.shared.ref_at(&path, branch).await?;
        }
        parent.ok_or_else(|| GitServerError::Git {
            what: "fast-import",
            detail: "there is no commit on main".to_owned(),
        })
    }

    /// Where a branch stands.
    pub async fn branch(
        &self,
        owner: &str,
        name: &str,
        branch: &BranchName,
    ) -> Result<Option<CommitId>, GitServerError> {
        let path = self.path(owner, name)?;
        self.shared.ref_at(&path, &branch.full_ref()).await
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn data(stream: &mut Vec<u8>, content: &[u8]) {
    stream.extend(format!("data {}\n", content.len()).bytes());
    stream.extend(content);
    stream.push(b'\n');
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> GitServerError {
    move |source| GitServerError::Io { what, source }
}

impl Shared {
    fn path(&self, owner: &str, name: &str) -> Option<PathBuf> {
        let plain = |part: &str| {
            !part.is_empty()
                && part.len() <= 100
                && !part.starts_with(['.', '-'])
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        let name = name.strip_suffix(".git").unwrap_or(name);
        (plain(owner) && plain(name)).then(|| self.root.join(owner).join(format!("{name}.git")))
    }

    /// The environment of every git here: nobody's configuration.
    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        vec![
            ("PATH", path),
            ("HOME", self.root.clone().into()),
            ("LC_ALL", "C".into()),
            ("GIT_CONFIG_NOSYSTEM", "1".into()),
            ("GIT_CONFIG_GLOBAL", "/dev/null".into()),
        ]
    }

    async fn git(
        &self,
        what: &'static str,
        git_dir: Option<&Path>,
        args: Vec<OsString>,
        input: &[u8],
    ) -> Result<Vec<u8>, GitServerError> {
        let mut command = Command::new(&self.git);
        command.env_clear().envs(self.environment()).current_dir(&self.root);
        if let Some(dir) = git_dir {
            command.arg("--git-dir").arg(dir);
        }
        command.args(args).kill_on_drop(true);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed("start git"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A git that is gone says why on its standard error.
            let _ = stdin.write_all(input).await;
        }
        let output = child.wait_with_output().await.map_err(failed("wait for git"))?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            let detail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(GitServerError::Git { what, detail })
        }
    }

    async fn ref_at(&self, path: &Path, name: &str) -> Result<Option<CommitId>, GitServerError> {
        let args = ["for-each-ref", "--format=%(objectname)", "--count=1", "--", name];
        let args = args.map(OsString::from).into();
        let printed = self.git("for-each-ref", Some(path), args, &[]).await?;
        Ok(String::from_utf8_lossy(&printed).trim().parse().ok())
    }

    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let auth = self.auth.read().unwrap_or_else(PoisonError::into_inner);
        let Auth::Token(secret) = &*auth else { return true };
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
            .and_then(|(_, encoded)| STANDARD.decode(encoded.trim()).ok());
        let expected = format!("x-access-token:{}", secret.expose());
        given.is_some_and(|given| given.ct_eq(expected.as_bytes()).into())
    }

    fn count(&self, operation: Operation) {
        let count = match operation {
            Operation::List => &self.lists,
            Operation::Fetch => &self.fetches,
            Operation::Push => &self.pushes,
        };
        count.fetch_add(1, Ordering::SeqCst);
    }
}

/// Answers one request of the smart protocol; everything else is a 404.
async fn answer(State(shared): State<Arc<Shared>>, ConnectInfo(line): ConnectInfo<Line>, request: Request) -> Response {
    let (parts, mut body) = request.into_parts();
    if !shared.lets_in(&parts.headers) {
        shared.refused.fetch_add(1, Ordering::SeqCst);
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    }
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (owner, name, service) = match segments.as_slice() {
        [owner, name, "info", "refs"] if parts.method == Method::GET => (owner, name, "info/refs"),
        [owner, name, service @ ("git-upload-pack" | "git-receive-pack")] if parts.method == Method::POST => {
            (owner, name, *service)
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let Some(repository) = shared.path(owner, name).filter(|path| path.is_dir()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let first = cgi::next_chunk(&mut body).await;
    let operation = operation(service, first.as_deref().unwrap_or_default());
    let cut = operation.and_then(|operation| {
        shared.count(operation);
        shared.faults.as_ref().and_then(|faults| faults(operation))
    });
    match cut {
        Some(Cut::Before) => return line.cut(),
        Some(Cut::Status(status)) => {
            return StatusCode::from_u16(status)
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
                .into_response();
        }
        Some(Cut::Delay(time)) => tokio::time::sleep(time).await,
        Some(Cut::AfterWork) | None => {}
    }
    let mut command = Command::new(&shared.git);
    command.arg("http-backend").env_clear().envs(shared.environment());
    command.current_dir(&shared.root);
    cgi::environment(&mut command, &parts, &repository, service, &query);
    match Backend::start(command, first, body) {
        Ok(backend) if cut == Some(Cut::AfterWork) => {
            backend.finish().await;
            line.cut()
        }
        Ok(backend) => backend.respond().await,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// What a request is, by its service and the first bytes of its body; nothing for the steps between.
fn operation(service: &str, first: &[u8]) -> Option<Operation> {
    let lists = b"command=ls-refs";
    match service {
        "info/refs" => Some(Operation::List),
        // The second step of a list in version 2 of the protocol.
        "git-upload-pack" if first.windows(lists.len()).any(|bytes| bytes == lists) => None,
        "git-upload-pack" => Some(Operation::Fetch),
        // A flush alone asks whether a large request would be let in.
        _ if first == b"0000" => None,
        _ => Some(Operation::Push),
    }
}

/// An answer that nobody will see: the connection is gone.
fn nothing() -> Response {
    Response::new(Body::from(Bytes::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn server(dir: &Path) -> GitServer {
        GitServer::start("git".into(), dir.to_owned(), Auth::Open, None)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn no_name_leaves_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(dir.path()).await;
        for (owner, name) in [
            ("..", "r"),
            ("o", ".."),
            ("o", "a/b"),
            ("", "r"),
            ("o", ".git"),
            ("-o", "r"),
        ] {
            assert!(server.path(owner, name).is_err(), "{owner}/{name}");
        }
        assert_eq!(server.path("o", "r").unwrap(), server.path("o", "r.git").unwrap());
    }

    #[tokio::test]
    async fn the_same_seed_has_the_same_ids() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(dir.path()).await;
        let commits = [SeedCommit {
            message: "first".to_owned(),
            files: vec![("a \"b\"\n.txt".to_owned(), b"x".to_vec())],
        }];
        let mut ids = Vec::new();
        for name in ["one", "two"] {
            server.create("o", name).await.unwrap();
            ids.push(server.seed("o", name, &commits).await.unwrap());
            let main = "main".parse().unwrap();
            assert_eq!(server.branch("o", name, &main).await.unwrap(), ids.last().cloned());
        }
        assert_eq!(ids[0], ids[1]);
        assert_eq!(
            server.branch("o", "one", &"other".parse().unwrap()).await.unwrap(),
            None
        );
    }

    #[test]
    fn the_steps_between_are_no_operations() {
        assert_eq!(operation("info/refs", b""), Some(Operation::List));
        assert_eq!(operation("git-upload-pack", b"0014command=ls-refs\n"), None);
        assert_eq!(
            operation("git-upload-pack", b"0011command=fetch"),
            Some(Operation::Fetch)
        );
        assert_eq!(operation("git-receive-pack", b"0000"), None);
        assert_eq!(operation("git-receive-pack", b"00a1"), Some(Operation::Push));
    }
}
