//! Each chosen server, started as the agent's would be and asked for its tools: in the sandbox, with the agent's environment, in a
//! place of its own that is gone afterwards, and with all of its processes dead.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::mcp::{self, Greeting, Mute};
use super::{Definition, Plugin, Program};
use crate::adapters::agent::{self, Place, PrepareError};
use crate::process::{Ended, Input, Launch, Running, Stopped};
use crate::redact::Redactor;
use crate::sandbox::{Confinement, Demand, InForce, Ports};
use crate::text::{cut_front, excerpt, printable};

/// Between TERM and KILL, once a server has answered or has not.
const GRACE: Duration = Duration::from_secs(2);
/// How much of the end of its standard error is kept, in bytes.
const STDERR_LIMIT: usize = 4 * 1024;

/// What servers are started in.
pub struct Conditions<'a> {
    /// Our own binary, for the supervisor and the sandbox.
    pub runner: PathBuf,
    /// The sandbox as it is here.
    pub in_force: Option<InForce>,
    /// Ports that the agent may connect to.
    pub ports: Ports,
    /// `RUNNER_AGENT_ENV`.
    pub passed: &'a [String],
    /// The runner's own environment.
    pub lookup: &'a (dyn Fn(&str) -> Option<OsString> + Sync),
    /// How long a server may take to answer.
    pub patience: Duration,
    /// What is said of its standard error has no secret in it.
    pub redactor: Redactor,
}

/// A server, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Whose it is.
    pub plugin: String,
    /// Its name there.
    pub server: String,
    /// `stdio`, or the kind of something that listens elsewhere.
    pub transport: String,
    /// What it said.
    pub answer: Answer,
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It answered.
    Tools {
        /// The names of its tools.
        tools: Vec<String>,
        /// Its own name and version.
        said: Option<String>,
        /// From its start to the last tool.
        after: Duration,
    },
    /// It did not.
    None {
        /// Why, for a person.
        why: String,
        /// The end of its standard error.
        stderr: String,
    },
    /// It is no program, and nobody here has a reason to ask somebody else's server.
    NotAsked,
}

/// Why no server could be started.
#[derive(Debug, Error)]
pub enum CheckError {
    /// There is no place for them.
    #[error("make a place for the plugins' servers: {0}")]
    Room(#[from] io::Error),
    /// There is no environment for them.
    #[error(transparent)]
    Environment(#[from] PrepareError),
}

/// Starts every server, one after the other: what each takes is its own then.
pub async fn check(plugins: &[Plugin], conditions: &Conditions<'_>) -> Result<Vec<Checked>, CheckError> {
    let room = Room::new(plugins, conditions)?;
    let mut checked = Vec::new();
    for (plugin, root) in plugins.iter().zip(&room.roots) {
        for server in &plugin.servers {
            let (transport, answer) = match &server.definition {
                Definition::Stdio { program, .. } => ("stdio", room.ask(program, root, conditions).await?),
                Definition::Remote { kind, .. } => (kind.as_str(), Answer::NotAsked),
            };
            checked.push(Checked {
                plugin: plugin.name.clone(),
                server: server.name.clone(),
                transport: transport.to_owned(),
                answer,
            });
        }
    }
    Ok(checked)
}

/// A place as an agent has one.
struct Room {
    place: TempDir,
    env: Vec<(String, OsString)>,
    /// The plugins' directories.
    roots: Vec<PathBuf>,
}

impl Room {
    fn new(plugins: &[Plugin], conditions: &Conditions<'_>) -> Result<Self, CheckError> {
        let place = tempfile::Builder::new().prefix("runner-plugins-").tempdir()?;
        let below = |name: &str| place.path().join(name);
        for name in ["workspace/repo", "workspace/home", "workspace/tmp", "desk"] {
            fs::create_dir_all(below(name))?;
        }
        let env = agent::environment(&Place {
            home: &below("workspace/home"),
            tmp: &below("workspace/tmp"),
            passed: conditions.passed,
            lookup: conditions.lookup,
        })?;
        let roots = plugins
            .iter()
            .map(|plugin| plugin.lay(&below("desk")))
            .collect::<Result<_, _>>()?;
        Ok(Self { place, env, roots })
    }

    fn below(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn variable(&self, wanted: &str) -> Option<&OsString> {
        let mut found = self.env.iter().filter(|(name, _)| name == wanted);
        found.next().map(|(_, value)| value)
    }

    async fn ask(&self, asked: &Program, root: &Path, conditions: &Conditions<'_>) -> Result<Answer, CheckError> {
        let environment = |name: &str| self.variable(name).map(|value| value.to_string_lossy().into_owned());
        let silent = |why: String| Answer::None {
            why: conditions.redactor.clean(why),
            stderr: String::new(),
        };
        let program = match asked.at(root, &environment) {
            Ok(program) => program,
            Err(undefined) => return Ok(silent(undefined.to_string())),
        };
        let path = self.variable("PATH");
        let Ok(found) = which::which_in(&program.command, path, "/") else {
            let path = path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
            return Ok(silent(format!(
                "its program {:?} is no file, and not in PATH ({path})",
                program.command
            )));
        };
        let stdin = self.below("stdin");
        mkfifo(&stdin, Mode::S_IRUSR | Mode::S_IWUSR).map_err(io::Error::from)?;
        // Open for both, so that neither this side nor the supervisor waits for the other one.
        let sender = pipe::OpenOptions::new().read_write(true).open_sender(&stdin)?;
        let answer = match self.launch(found, program, conditions).start() {
            Ok(running) => talk(running, sender, conditions).await,
            Err(error) => silent(error.to_string()),
        };
        fs::remove_file(&stdin)?;
        Ok(answer)
    }

    fn launch(&self, program: PathBuf, asked: Program, conditions: &Conditions<'_>) -> Launch {
        let mut env = self.env.clone();
        env.retain(|(name, _)| !asked.env.contains_key(name));
        env.extend(asked.env.into_iter().map(|(name, value)| (name, value.into())));
        Launch {
            runner: conditions.runner.clone(),
            program,
            args: asked.args.into_iter().map(Into::into).collect(),
            cwd: self.below("workspace/repo"),
            env,
            stdin: Input::File(self.below("stdin")),
            confinement: conditions.in_force.as_ref().map(|_| self.confinement(conditions)),
            require: conditions
                .in_force
                .as_ref()
                .map_or(Demand::BestEffort, |sandbox| sandbox.demand),
            lock: self.below("lock"),
            report: self.below("report.json"),
            grace: GRACE,
            set_aside: 0,
        }
    }

    /// What the agent may reach, and so its servers: nothing is added for the sake of one.
    fn confinement(&self, conditions: &Conditions<'_>) -> Confinement {
        let path = self.variable("PATH").map(OsString::as_os_str);
        let claude = which::which_in("claude", path, "/").unwrap_or_else(|_| PathBuf::from("/bin/sh"));
        let workspace = self.below("workspace");
        let (home, tmp) = (workspace.join("home"), workspace.join("tmp"));
        let mut confinement = Confinement::for_agent(&workspace, &home, &tmp, &claude, path);
        confinement.read_only.push(self.below("desk"));
        confinement.read_execute.extend(self.roots.iter().cloned());
        confinement.ports = conditions.ports.clone();
        confinement
    }
}

/// Asks a server that was started, and sees all of it to its end.
async fn talk(running: Running, mut sender: pipe::Sender, conditions: &Conditions<'_>) -> Answer {
    let Running {
        stdout,
        stderr,
        mut supervision,
    } = running;
    let complaints = tokio::spawn(end_of(stderr, conditions.redactor.clone()));
    let begun = Instant::now();
    let mut from = BufReader::new(stdout);
    let greeted = timeout(conditions.patience, mcp::greet(&mut sender, &mut from)).await;
    let after = begun.elapsed();
    // What closes its input.
    drop((sender, from));
    let ended = match &greeted {
        // It is about to say by itself how it ended.
        Ok(Err(Mute::Closed(_))) => timeout(GRACE, supervision.ended()).await.ok(),
        Ok(_) | Err(_) => None,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        supervision.stop();
        supervision.ended().await
    };
    let stderr = complaints.await.unwrap_or_default();
    let why = match greeted {
        Ok(Ok(Greeting { server, tools })) => {
            let clean = |text: String| conditions.redactor.clean(excerpt(&text));
            return Answer::Tools {
                tools: tools.into_iter().map(clean).collect(),
                said: server.map(clean),
                after,
            };
        }
        Ok(Err(mute)) => match ended {
            Ok(ended) => how(&mute, &ended),
            Err(lost) => format!("{mute}; {lost}"),
        },
        Err(_) => format!("it did not answer within {} s", conditions.patience.as_secs_f32()),
    };
    Answer::None {
        why: conditions.redactor.clean(why),
        stderr,
    }
}

/// Why nothing came of it: what its end says is more than that its output was closed.
fn how(mute: &Mute, ended: &Ended) -> String {
    match (&ended.failure, mute) {
        (Some(failure), _) => failure.to_string(),
        (None, Mute::Closed(_)) if ended.stopped == Stopped::No => {
            format!("it ended with {} before it answered", ended.exit)
        }
        (None, _) => mute.to_string(),
    }
}

async fn end_of(mut stderr: impl AsyncRead + Unpin, redactor: Redactor) -> String {
    let mut scrub = redactor.stream();
    let (mut kept, mut chunk) = (Vec::new(), vec![0; STDERR_LIMIT]);
    // An error is an end as well.
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        // Before it is cut: half a secret is not known any more.
        kept.extend(scrub.feed(&chunk[..read]));
        let surplus = kept.len().saturating_sub(STDERR_LIMIT);
        kept.drain(..surplus);
    }
    kept.extend(scrub.finish());
    let text = String::from_utf8_lossy(&kept);
    printable(&cut_front(text.trim(), STDERR_LIMIT))
}
