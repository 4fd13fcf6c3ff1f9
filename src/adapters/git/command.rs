//! One git process: an environment that nobody else chose, bounded output, an end.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};

use super::error::GitError;
use super::token::Handover;
use crate::secret::Secret;

/// What is passed through from the runner's own environment: the way out, and whom to trust on it.
const PASSED_THROUGH: &[&str] = &[
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
];

/// Where systems keep their roots, in the order in which they are tried.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Standard error that is kept: the end of it, where git says what went wrong.
const STDERR_KEPT: usize = 16 * 1024;

/// git as the runner alone uses it: on the private repository, and to the network.
#[derive(Debug, Clone)]
pub(super) struct Git {
    pub(super) program: PathBuf,
    /// An empty directory: HOME, and the working directory of what needs none.
    pub(super) home: PathBuf,
    pub(super) ca_file: Option<PathBuf>,
}

/// One call.
pub(super) struct Call<'a> {
    /// The git command, for errors.
    pub(super) what: &'static str,
    pub(super) git_dir: Option<&'a Path>,
    /// Settings beside those that every call has, as `name=value`.
    pub(super) settings: Vec<String>,
    pub(super) args: Vec<OsString>,
    pub(super) env: Vec<(&'static str, OsString)>,
    /// The one transport that may be used, as `protocol.*.allow` names it.
    pub(super) transport: Option<&'a str>,
    pub(super) token: Option<&'a Handover<'a>>,
    pub(super) feed: Feed<'a>,
    /// Longest standard output, in bytes.
    pub(super) output: u64,
    /// What becomes of a longer one.
    pub(super) overflow: Overflow,
    pub(super) limit: Duration,
}

/// What becomes of an output that is longer than it may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    /// The call has failed.
    Refuse,
    /// Its beginning is taken, and git is left to end by itself: how it ends says nothing.
    Cut,
}

/// What a call reads.
pub(super) enum Feed<'a> {
    Nothing,
    Bytes(Vec<u8>),
    /// A stream of at most so many bytes.
    Stream(&'a mut (dyn AsyncRead + Unpin + Send), u64),
}

/// What a call left.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    /// The end of it, without the token.
    pub(super) stderr: String,
}

impl Call<'_> {
    /// A call that reads nothing, needs no network, and prints little.
    pub(super) fn local<'a, I, S>(what: &'static str, git_dir: &'a Path, args: I) -> Call<'a>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Call {
            what,
            git_dir: Some(git_dir),
            settings: Vec::new(),
            args: args.into_iter().map(|arg| arg.as_ref().to_owned()).collect(),
            env: Vec::new(),
            transport: None,
            token: None,
            feed: Feed::Nothing,
            output: 1024 * 1024,
            overflow: Overflow::Refuse,
            limit: Duration::from_mins(5),
        }
    }
}

impl Output {
    /// The output of a call that ended well, else what the failure means.
    pub(super) fn good(self, what: &'static str) -> Result<Vec<u8>, GitError> {
        if self.status.success() {
            Ok(self.stdout)
        } else {
            Err(GitError::from_failure(what, self.status.code(), &self.stderr))
        }
    }
}

/// The settings that every git of ours has, confined or not: no program, no transport, no upkeep.
pub(super) const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.commitGraph=false",
    "core.multiPackIndex=false",
    "protocol.allow=never",
    "http.followRedirects=false",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "advice.addEmbeddedRepo=false",
];

/// Whom no proxy is asked for: those that the environment names, and this machine, which none can reach.
fn no_proxy(lookup: impl Fn(&str) -> Option<OsString>) -> OsString {
    let named = ["no_proxy", "NO_PROXY"].iter().find_map(|name| lookup(name));
    let mut all = named.filter(|hosts| !hosts.is_empty()).unwrap_or_default();
    if !all.is_empty() {
        all.push(",");
    }
    all.push("localhost,127.0.0.1,::1");
    all
}

/// The environment that every git of ours has, confined or not.
pub(super) fn base_environment(home: &Path) -> Vec<(&'static str, OsString)> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    vec![
        ("PATH", path),
        ("LC_ALL", "C".into()),
        ("HOME", home.into()),
        ("GIT_CONFIG_NOSYSTEM", "1".into()),
        ("GIT_CONFIG_GLOBAL", "/dev/null".into()),
        ("GIT_ATTR_NOSYSTEM", "1".into()),
        ("GIT_TERMINAL_PROMPT", "0".into()),
        ("GIT_NO_REPLACE_OBJECTS", "1".into()),
        ("GIT_NO_LAZY_FETCH", "1".into()),
    ]
}

impl Git {
    /// Makes HOME, empty and ours alone, and beside it the roots that git trusts where there are further ones.
    fn prepare(&self) -> Result<(), GitError> {
        if !self.home.is_dir() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.home)
                .map_err(GitError::io("create", &self.home))?;
        }
        Ok(())
    }

    /// git takes one file of roots in place of the system's, so that further ones are both in one file.
    fn roots(&self) -> Result<Option<PathBuf>, GitError> {
        let Some(extra) = &self.ca_file else { return Ok(None) };
        let system = ["GIT_SSL_CAINFO", "SSL_CERT_FILE"]
            .iter()
            .filter_map(std::env::var_os)
            .map(PathBuf::from)
            .chain(SYSTEM_ROOTS.iter().map(PathBuf::from))
            .find(|path| path.is_file());
        let mut pem = std::fs::read(extra).map_err(GitError::io("read", extra))?;
        if let Some(system) = system {
            pem.push(b'\n');
            pem.extend(std::fs::read(&system).map_err(GitError::io("read", &system))?);
        }
        let together = self.home.with_extension("roots.pem");
        if std::fs::read(&together).ok().as_deref() != Some(&pem) {
            let partial = self.home.with_extension("roots.pem.partial");
            write_private(&partial, &pem).map_err(GitError::io("write", &partial))?;
            std::fs::rename(&partial, &together).map_err(GitError::io("rename", &partial))?;
        }
        Ok(Some(together))
    }

    fn command(&self, call: &Call<'_>) -> Result<Command, GitError> {
        self.prepare()?;
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .envs(base_environment(&self.home))
            .current_dir(&self.home)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .process_group(0);
        // Nothing above HOME is searched for a repository.
        if let Some(above) = self.home.parent() {
            command.env("GIT_CEILING_DIRECTORIES", above);
        }
        for setting in SETTINGS.iter().copied().chain(["core.fsync=all"]) {
            command.args(["-c", setting]);
        }
        if let Some(transport) = call.transport {
            command.args(["-c", &format!("protocol.{transport}.allow=always")]);
            for name in PASSED_THROUGH {
                if let Some(value) = std::env::var_os(name) {
                    command.env(name, value);
                }
            }
            command.env("no_proxy", no_proxy(|name| std::env::var_os(name)));
            if let Some(roots) = self.roots()? {
                command.env("GIT_SSL_CAINFO", roots);
            }
            // A connection that moves nothing for a minute is lost.
            command.args(["-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=60"]);
        }
        for setting in &call.settings {
            command.args(["-c", setting]);
        }
        if let Some(dir) = call.git_dir {
            command.arg("--git-dir").arg(dir);
        }
        if let Some(token) = call.token {
            command.envs(token.environment());
        }
        command.envs(call.env.iter().map(|(name, value)| (name, value)));
        command.args(&call.args);
        command.stdin(match call.feed {
            Feed::Nothing => Stdio::null(),
            Feed::Bytes(_) | Feed::Stream(..) => Stdio::piped(),
        });
        Ok(command)
    }

    /// Runs a call to its end, or kills it and everything it started at its time-out.
    pub(super) async fn run(&self, call: Call<'_>) -> Result<Output, GitError> {
        let secret = call.token.map(|token| token.secret().clone());
        let mut child = self.command(&call)?.spawn().map_err(|source| GitError::Spawn {
            program: self.program.clone(),
            source,
        })?;
        let mut group = Group::of(&child);
        let Call {
            what,
            feed,
            output,
            overflow,
            limit,
            ..
        } = call;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let work = async {
            let (fed, out, err) = tokio::join!(
                supply(what, stdin, feed),
                bounded(what, stdout, output, overflow),
                tail(stderr, STDERR_KEPT)
            );
            let (out, ()) = (out?, fed?);
            let status = child.wait().await.map_err(GitError::io("wait for", &self.program))?;
            Ok((status, out, err))
        };
        let ended = match tokio::time::timeout(limit, work).await {
            Ok(ended) => ended?,
            Err(_) => return Err(GitError::TimedOut { what, after: limit }),
        };
        group.disarm();
        let (status, stdout, stderr) = ended;
        let stderr = scrubbed(&stderr, secret.as_ref());
        Ok(Output { status, stdout, stderr })
    }

    /// Runs a call and takes what it printed, or says why it failed.
    pub(super) async fn output(&self, call: Call<'_>) -> Result<Vec<u8>, GitError> {
        let what = call.what;
        self.run(call).await?.good(what)
    }

    /// As [`Git::output`], one line of text.
    pub(super) async fn line(&self, call: Call<'_>) -> Result<String, GitError> {
        let output = self.output(call).await?;
        Ok(String::from_utf8_lossy(&output).trim_end().to_owned())
    }
}

fn scrubbed(stderr: &[u8], secret: Option<&Secret>) -> String {
    let text = String::from_utf8_lossy(stderr);
    match secret {
        Some(secret) => secret.scrub(&text),
        None => text.into_owned(),
    }
}

/// A process group that dies with this value: git's helpers are in it.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok());
        Self(leader.map(Pid::from_raw))
    }

    /// After its leader was waited for, its number may be somebody else's.
    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Gone already is as good.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

async fn supply(what: &'static str, stdin: Option<ChildStdin>, feed: Feed<'_>) -> Result<(), GitError> {
    let Some(mut stdin) = stdin else { return Ok(()) };
    match feed {
        Feed::Nothing => {}
        // A reader that is gone has said why on its standard error.
        Feed::Bytes(bytes) => drop(stdin.write_all(&bytes).await),
        Feed::Stream(source, limit) => {
            let mut bounded = source.take(limit.saturating_add(1));
            let moved = tokio::io::copy(&mut bounded, &mut stdin).await;
            if moved.is_ok_and(|moved| moved > limit) {
                return Err(GitError::TooLarge { what, limit });
            }
        }
    }
    Ok(())
}

async fn bounded(
    what: &'static str,
    source: Option<impl AsyncRead + Unpin>,
    limit: u64,
    overflow: Overflow,
) -> Result<Vec<u8>, GitError> {
    let mut bytes = Vec::new();
    if let Some(source) = source {
        let mut source = source.take(limit.saturating_add(1));
        // A pipe that breaks ends the output; the exit code says the rest.
        let _ = source.read_to_end(&mut bytes).await;
    }
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) && overflow == Overflow::Refuse {
        return Err(GitError::TooLarge { what, limit });
    }
    Ok(bytes)
}

/// Reads all, keeps the end.
pub(super) async fn tail(source: Option<impl AsyncRead + Unpin>, kept: usize) -> Vec<u8> {
    let Some(mut source) = source else { return Vec::new() };
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 4096]);
    while let Ok(count) = source.read(&mut chunk).await {
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let over = bytes.len().saturating_sub(kept);
        bytes.drain(..over);
    }
    bytes
}

/// Writes a file that is ours alone, whatever stood there before.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}
