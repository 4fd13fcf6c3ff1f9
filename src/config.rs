//! The settings: flags and environment, one definition, validated before anything is opened or bound.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use strum::{Display, EnumString, VariantNames};
use url::Url;

use crate::adapters::agent::{AgentKind, MicroUsd, RepoConfig};
use crate::adapters::archive::{Destination, InvalidDestination};
use crate::adapters::git::Author;
use crate::adapters::model::{Prices, UNDOING_VARIABLES, Upstream};
use crate::ids::{LocalRepos, PlainHttp, RepoPolicy};
use crate::machine::{Archiving, Millis, NoChanges, OnTerm, Policy};
use crate::plugins::Plugin;
use crate::policy::{PROTECTED_BY_DEFAULT, ProtectedPaths};
use crate::redact::Redactor;
use crate::sandbox::{self, Confinement, Ports};
use crate::seal::{Seal, SealKey};
use crate::secret::Secret;
use crate::telemetry::spans::AgentIdentity;

mod actions;
mod directory;
mod error;
mod instructions;
mod plugins;
mod values;

pub use actions::{ActionsOptions, ActionsSettings};
use directory::Access;
pub use directory::Directory;
pub(crate) use directory::could_be_written;
pub use error::ConfigError;
pub use plugins::PluginOptions;
pub(crate) use values::one_of;
use values::{
    address, agent_variable, author, branch_prefix, duration, host, http_url, log_filter, ports, protected_paths, usd,
    yes_or_no,
};

/// Secrets come by environment or file alone, never by a flag: a flag shows in `ps`.
pub(crate) const SECRET_VARIABLES: [&str; 7] = [
    TASK_TOKEN,
    TASK_TOKEN_FILE,
    ARCHIVE_URL,
    actions::TOKEN,
    actions::TOKEN_FILE,
    actions::APP_KEY,
    actions::APP_KEY_FILE,
];
const TASK_TOKEN: &str = "RUNNER_TASK_TOKEN";
const TASK_TOKEN_FILE: &str = "RUNNER_TASK_TOKEN_FILE";
/// An address that takes a file may be presigned.
const ARCHIVE_URL: &str = "RUNNER_ARCHIVE_URL";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a person.
    Pretty,
}

/// The settings as they are given. Each is a flag and a variable of the same name.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Settings")]
pub struct Options {
    /// Address and port of the listener
    #[arg(
        long,
        env = "RUNNER_LISTEN",
        default_value = "0.0.0.0:8888",
        value_parser = address,
        value_name = "ADDRESS:PORT"
    )]
    pub listen: SocketAddr,

    /// Where the journal, the private repository and the transcripts are
    /// [default: /var/lib/runner; for `run` and `demo` `$XDG_STATE_HOME/runner/TASK`]
    #[arg(long, env = "RUNNER_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// The journal [default: journal.db in the state directory]
    #[arg(long, env = "RUNNER_JOURNAL", value_name = "PATH")]
    pub journal: Option<PathBuf>,

    /// Where the token is sealed without a seal key: memory-backed, and outliving a restart of the process
    /// [default: /run/runner; for `run` and `demo` below the state directory]
    #[arg(long, env = "RUNNER_SECRETS_DIR", value_name = "DIR")]
    pub secrets_dir: Option<PathBuf>,

    /// A file with a key; with it, the token is sealed in the state directory, encrypted
    #[arg(long, env = "RUNNER_SEAL_KEY_FILE", value_name = "FILE")]
    pub seal_key_file: Option<PathBuf>,

    /// Where the agent works: `repo`, `home` and `tmp` below it
    /// [default: /workspace; for `run` and `demo` below the state directory]
    #[arg(long, env = "RUNNER_WORKSPACE", value_name = "DIR")]
    pub workspace: Option<PathBuf>,

    /// Hosts that a task's apiURL may name, comma-separated [default: any]
    #[arg(long, env = "RUNNER_API_ALLOW", value_parser = host, value_name = "HOSTS", value_delimiter = ',')]
    pub api_allow: Vec<String>,

    /// A file with the bearer token for the task API, read anew for each request
    #[arg(long, env = "RUNNER_API_TOKEN_FILE", value_name = "FILE")]
    pub api_token_file: Option<PathBuf>,

    /// How long an API or a forge that cannot be reached is waited for, an effect
    #[arg(long, env = "RUNNER_API_PATIENCE", default_value = "10m", value_parser = duration, value_name = "DURATION")]
    pub api_patience: Duration,

    /// Extra certificate authorities for API, forge and git, in PEM
    #[arg(long, env = "RUNNER_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// The forge's REST API [default: derived from the repository's host]
    #[arg(long, env = "RUNNER_GITHUB_API_URL", value_parser = http_url, value_name = "URL")]
    pub github_api_url: Option<Url>,

    /// What the working branch begins with; the task's id follows
    #[arg(long, env = "RUNNER_BRANCH_PREFIX", default_value = "runner/", value_parser = branch_prefix, value_name = "PREFIX")]
    pub branch_prefix: String,

    /// Allow plain HTTP for repositories on other hosts than loopback
    #[arg(long, env = "RUNNER_ALLOW_HTTP", value_parser = yes_or_no, default_value = "false", default_missing_value = "true",
          num_args = 0..=1, require_equals = true, value_name = "BOOL")]
    pub allow_http: bool,

    /// Author of the commits that the runner makes
    #[arg(long, env = "RUNNER_GIT_AUTHOR", default_value = "runner <runner@users.noreply.github.com>",
          value_parser = author, value_name = "NAME <EMAIL>")]
    pub git_author: Author,

    /// Open the pull request as a draft
    #[arg(long, env = "RUNNER_PR_DRAFT", value_parser = yes_or_no, default_value = "false", default_missing_value = "true",
          num_args = 0..=1, require_equals = true, value_name = "BOOL")]
    pub pr_draft: bool,

    /// Which agent runs: claude or command [default: claude]
    #[arg(long, env = "RUNNER_AGENT", value_parser = one_of::<AgentKind>, value_name = "AGENT")]
    pub agent: Option<AgentKind>,

    /// What the agent `command` runs, by /bin/sh -c, in the repository; the prompt is on its standard input
    #[arg(long, env = "RUNNER_AGENT_COMMAND", value_name = "COMMAND")]
    pub agent_command: Option<String>,

    /// The model [default: the agent's own]
    #[arg(long, env = "RUNNER_AGENT_MODEL", value_name = "MODEL")]
    pub agent_model: Option<String>,

    /// A file with what the operator tells the agent beside the task: UTF-8, at most 256 KiB
    #[arg(long, env = "RUNNER_INSTRUCTIONS_FILE", value_name = "FILE")]
    pub instructions_file: Option<PathBuf>,

    /// What the repository may tell the agent: instructions (its CLAUDE.md and AGENTS.md, as text), none, or trust (also its
    /// settings, hooks and MCP servers, which claude then runs)
    #[arg(long, env = "RUNNER_REPO_CONFIG", default_value = "instructions", value_parser = one_of::<RepoConfig>,
          value_name = "instructions|none|trust")]
    pub repo_config: RepoConfig,

    /// Plugins for claude, comma-separated: names of built-in ones (aws-docs, terraform), and directories, which are written with
    /// a slash [default: none]
    #[arg(long, env = "RUNNER_PLUGINS", value_name = "NAMES|DIRS", value_delimiter = ',')]
    pub plugins: Vec<String>,

    /// How many turns the agent may take
    #[arg(long, env = "RUNNER_AGENT_MAX_TURNS", default_value = "50", value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub agent_max_turns: u32,

    /// How much the agent may spend, in US dollars, over all attempts
    #[arg(long, env = "RUNNER_AGENT_MAX_BUDGET_USD", default_value = "10.00", value_parser = usd, value_name = "USD")]
    pub agent_max_budget_usd: MicroUsd,

    /// A file with the key for the model's API, read anew for each request
    /// [default: `ANTHROPIC_API_KEY`, `ANTHROPIC_AUTH_TOKEN` or `CLAUDE_CODE_OAUTH_TOKEN` has it]
    #[arg(long, env = "RUNNER_MODEL_KEY_FILE", value_name = "FILE")]
    pub model_key_file: Option<PathBuf>,

    /// A file with prices of models, which count before the built-in list prices
    #[arg(long, env = "RUNNER_MODEL_PRICES", value_name = "FILE")]
    pub model_prices: Option<PathBuf>,

    /// How long the agent may run, over all attempts
    #[arg(long, env = "RUNNER_AGENT_TIMEOUT", default_value = "25m", value_parser = duration, value_name = "DURATION")]
    pub agent_timeout: Duration,

    /// How long the agent may be silent
    #[arg(long, env = "RUNNER_AGENT_IDLE_TIMEOUT", default_value = "10m", value_parser = duration, value_name = "DURATION")]
    pub agent_idle_timeout: Duration,

    /// How long the task may take, from its assignment: the agent is stopped in time to push and report [default: none]
    #[arg(long, env = "RUNNER_TASK_TIMEOUT", value_parser = duration, value_name = "DURATION")]
    pub task_timeout: Option<Duration>,

    /// A command that prepares the working tree before the agent, by `/bin/sh -c` in the agent's sandbox [default: none]
    #[arg(long, env = "RUNNER_SETUP_COMMAND", value_name = "COMMAND")]
    pub setup_command: Option<String>,

    /// A command that checks the change after the agent, in the same way: red, the agent has one more turn [default: none]
    #[arg(long, env = "RUNNER_CHECK_COMMAND", value_name = "COMMAND")]
    pub check_command: Option<String>,

    /// How often the agent may be started in all
    #[arg(long, env = "RUNNER_AGENT_ATTEMPTS", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=100), value_name = "N")]
    pub agent_attempts: u32,

    /// Between TERM and KILL, when the agent is stopped
    #[arg(long, env = "RUNNER_AGENT_KILL_GRACE", default_value = "5s", value_parser = duration, value_name = "DURATION")]
    pub agent_kill_grace: Duration,

    /// Names of further variables that the agent gets as they are, comma-separated
    #[arg(long, env = "RUNNER_AGENT_ENV", value_parser = agent_variable, value_name = "NAMES", value_delimiter = ',')]
    pub agent_env: Vec<String>,

    /// Ports that the agent may connect to by TCP, comma-separated, at any address [default: every port]
    #[arg(long, env = "RUNNER_AGENT_PORTS", value_parser = ports, default_value = "", hide_default_value = true, value_name = "PORTS")]
    pub agent_ports: Ports,

    /// What SIGTERM does to a task under way: report it as failed, or park it for the next start
    #[arg(long, env = "RUNNER_ON_TERM", default_value = "report", value_parser = one_of::<OnTerm>, value_name = "report|park")]
    pub on_term: OnTerm,

    /// How long the process may live after SIGTERM
    #[arg(long, env = "RUNNER_TERM_GRACE", default_value = "20s", value_parser = duration, value_name = "DURATION")]
    pub term_grace: Duration,

    /// How long the process stays at most once the task is over, so that `/metrics` is scraped once more: it ends with that
    /// scrape, or when it is told to stop [default: not at all]
    #[arg(long, env = "RUNNER_METRICS_LINGER", value_parser = duration, value_name = "DURATION")]
    pub metrics_linger: Option<Duration>,

    /// What a change may not touch: globs for paths from the root, comma-separated; an empty one allows all
    #[arg(long, env = "RUNNER_PROTECTED_PATHS", default_value = PROTECTED_BY_DEFAULT, value_parser = protected_paths, value_name = "GLOBS")]
    pub protected_paths: ProtectedPaths,

    /// What an agent that changed nothing is: fail or complete
    #[arg(long, env = "RUNNER_NO_CHANGES", default_value = "fail", value_parser = one_of::<NoChanges>, value_name = "fail|complete")]
    pub no_changes: NoChanges,

    /// Whether the agent's sandbox has to be there: require, prefer or off [default: require; for `run` and `demo` prefer]
    #[arg(long, env = "RUNNER_SANDBOX", value_parser = one_of::<sandbox::Mode>, value_name = "MODE")]
    pub sandbox: Option<sandbox::Mode>,

    /// How many starts in a row may end uncleanly without getting any further
    #[arg(long, env = "RUNNER_MAX_BOOTS", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    pub max_boots: u32,
}

/// Logging: of every command.
#[derive(Debug, Clone, Args)]
pub struct LogOptions {
    /// What is logged: error, warn, info, debug, trace, or directives as `runner=debug`
    /// [default: info; warn where progress is shown]
    #[arg(long = "log", env = "RUNNER_LOG", value_parser = log_filter, global = true, value_name = "FILTER")]
    pub log: Option<String>,

    /// json or pretty [default: json when standard error is no terminal]
    #[arg(long, env = "RUNNER_LOG_FORMAT", value_parser = one_of::<LogFormat>, global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// Whose settings they are: the defaults differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// `runner serve`: a container with volumes.
    Serve,
    /// `runner run` and `runner demo`: a person's machine. Everything lives below this directory.
    Local {
        /// The state directory, unless another one is named.
        home: PathBuf,
    },
}

/// The settings, whole and validated.
#[derive(Debug, Clone)]
pub struct Settings {
    /// As they were given.
    pub options: Options,
    /// The state directory.
    pub state_dir: PathBuf,
    /// The journal.
    pub journal: PathBuf,
    /// The secrets directory.
    pub secrets_dir: PathBuf,
    /// What the token is sealed with.
    pub seal_key: Option<SealKey>,
    /// The workspace.
    pub workspace: PathBuf,
    /// Which agent runs, with what it needs.
    pub agent: AgentChoice,
    /// What the operator tells it beside the task.
    pub instructions: Option<String>,
    /// The plugins that it has.
    pub plugins: Vec<Plugin>,
    /// The model's API for `claude`, where there is a key for it.
    pub model: Option<Upstream>,
    /// Whether the sandbox has to be there.
    pub sandbox: sandbox::Mode,
    /// What `/task` asks for.
    pub task_token: Option<Secret>,
    /// Which repositories are allowed.
    pub repos: RepoPolicy,
    /// Where what is left of the task goes.
    pub archive: Option<Destination>,
}

/// The agent with what it needs: a command agent without a command cannot be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentChoice {
    /// Claude Code.
    Claude,
    /// A command line for `/bin/sh -c`.
    Command(String),
}

impl Settings {
    /// Settles defaults, reads what has to be read, and opens nothing else. `env` looks up a variable.
    pub fn resolve(options: Options, role: &Role, env: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let (state, secrets, workspace, mode, local) = match role {
            Role::Serve => (
                PathBuf::from("/var/lib/runner"),
                PathBuf::from("/run/runner"),
                PathBuf::from("/workspace"),
                sandbox::Mode::Require,
                LocalRepos::Refused,
            ),
            Role::Local { home } => {
                let state = options.state_dir.clone().unwrap_or_else(|| home.clone());
                let (secrets, workspace) = (state.join("secrets"), state.join("workspace"));
                (state, secrets, workspace, sandbox::Mode::Prefer, LocalRepos::Allowed)
            }
        };
        let state_dir = options.state_dir.clone().unwrap_or(state);
        let agent = match (options.agent.unwrap_or(AgentKind::Claude), &options.agent_command) {
            (AgentKind::Claude, _) => AgentChoice::Claude,
            (AgentKind::Command, Some(command)) if !command.trim().is_empty() => AgentChoice::Command(command.clone()),
            (AgentKind::Command, _) => return Err(ConfigError::NoAgentCommand),
        };
        for (variable, file) in [
            ("RUNNER_CA_FILE", &options.ca_file),
            ("RUNNER_API_TOKEN_FILE", &options.api_token_file),
            ("RUNNER_MODEL_KEY_FILE", &options.model_key_file),
        ] {
            if let Some(path) = file {
                read(variable, path)?;
            }
        }
        let seal_key = options.seal_key_file.as_deref().map(seal_key).transpose()?;
        let instructions = options
            .instructions_file
            .as_deref()
            .map(instructions::read)
            .transpose()?;
        let workspace = options.workspace.clone().unwrap_or(workspace);
        let plugins = plugins::chosen(&options.plugins, &agent, &workspace)?;
        let model = model(&options, &agent, &env)?;
        let plain_http = if options.allow_http {
            PlainHttp::Anywhere
        } else {
            PlainHttp::LoopbackOnly
        };
        let settings = Self {
            model,
            archive: archive(plain_http, &env)?,
            journal: options.journal.clone().unwrap_or_else(|| state_dir.join("journal.db")),
            secrets_dir: options.secrets_dir.clone().unwrap_or(secrets),
            workspace,
            sandbox: options.sandbox.unwrap_or(mode),
            task_token: task_token(&env)?,
            repos: RepoPolicy { plain_http, local },
            state_dir,
            seal_key,
            agent,
            instructions,
            plugins,
            options,
        };
        settings.keeps_secrets_from_the_agent(env("PATH").as_deref(), env(TASK_TOKEN_FILE).as_ref().map(Path::new))?;
        settings.seal().check()?;
        Ok(settings)
    }

    /// Where the token is sealed.
    pub fn seal(&self) -> Seal {
        Seal::new(&self.secrets_dir, &self.state_dir, self.seal_key.clone())
    }

    /// Tells the redactor of every secret that the settings and the environment have. `env` looks up a variable.
    pub fn tell_secrets(&self, redactor: &Redactor, env: impl Fn(&str) -> Option<OsString>) {
        if let Some(token) = &self.task_token {
            redactor.add(token);
        }
        if let Some(key) = &self.seal_key {
            key.tell(redactor);
        }
        // What is read anew for each request is known as it is now.
        if let Some(key) = self.model.as_ref().and_then(|model| model.key.read().ok()) {
            redactor.add(&key);
        }
        let file = self.options.api_token_file.as_ref();
        if let Some(token) = file.and_then(|file| std::fs::read_to_string(file).ok()) {
            redactor.add(&Secret::new(token.trim()));
        }
        for secret in self.archive.iter().flat_map(Destination::secrets) {
            redactor.add(&secret);
        }
        redactor.add_environment(&self.options.agent_env, env);
    }

    /// What spans say of the agent before it has said anything.
    pub fn agent_identity(&self) -> AgentIdentity {
        let model = self.options.agent_model.clone().filter(|model| !model.is_empty());
        match &self.agent {
            AgentChoice::Claude => AgentIdentity {
                name: "claude",
                provider: Some("anthropic"),
                model,
            },
            // What it uses, and of whom, is its own affair.
            AgentChoice::Command(_) => AgentIdentity {
                name: "command",
                provider: None,
                model: None,
            },
        }
    }

    /// Makes sure that what must stay hidden lies outside what the agent may read: said before anything is done, and
    /// looked at again when the agent is started. `path_var` is `PATH`.
    fn keeps_secrets_from_the_agent(
        &self,
        path_var: Option<&OsStr>,
        task_token_file: Option<&Path>,
    ) -> Result<(), ConfigError> {
        let reach = self.agents_reach(path_var);
        if let Some(path) = &self.options.seal_key_file {
            // Where it really is; and where it is named, since whoever can replace a link replaces the key.
            let named = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let hidden = [named.clone(), named.parent().unwrap_or(&named).to_owned()];
            let beside = Confinement {
                read_only: vec![self.state_dir.clone()],
                ..Confinement::default()
            };
            for (around, why) in [(&reach, "which the agent may read"), (&beside, "beside what it seals")] {
                around.excludes(&hidden).map_err(|exposed| ConfigError::OpenSealKey {
                    path: path.clone(),
                    place: exposed.allowed,
                    why,
                })?;
            }
        }
        for (variable, file) in [
            ("RUNNER_MODEL_KEY_FILE", self.options.model_key_file.as_deref()),
            ("RUNNER_API_TOKEN_FILE", self.options.api_token_file.as_deref()),
            ("RUNNER_TASK_TOKEN_FILE", task_token_file),
        ] {
            if let Some(file) = file {
                reach
                    .excludes(&[file.to_owned()])
                    .map_err(|exposed| ConfigError::Exposed { variable, exposed })?;
            }
        }
        if let Some(folder) = self.archive.as_ref().and_then(Destination::folder) {
            // What other tasks left there is none of this one's agent's business.
            reach
                .excludes(&[folder.to_owned()])
                .map_err(|exposed| ConfigError::Exposed {
                    variable: ARCHIVE_URL,
                    exposed,
                })?;
        }
        // `prefer` may come to run without a sandbox, and then nothing is hidden by its place.
        if self.sandbox == sandbox::Mode::Require {
            for (variable, directory) in [
                ("RUNNER_STATE_DIR", &self.state_dir),
                ("RUNNER_SECRETS_DIR", &self.secrets_dir),
                ("RUNNER_JOURNAL", &self.journal),
            ] {
                reach
                    .excludes(std::slice::from_ref(directory))
                    .map_err(|exposed| ConfigError::Exposed { variable, exposed })?;
            }
        }
        Ok(())
    }

    /// What the sandbox will let the agent read, as far as it is known before the agent is prepared.
    fn agents_reach(&self, path_var: Option<&OsStr>) -> Confinement {
        if self.sandbox == sandbox::Mode::Off {
            return Confinement::default();
        }
        let program = match self.agent {
            AgentChoice::Claude => which::which_in("claude", path_var, "/").ok(),
            AgentChoice::Command(_) => None,
        };
        let program = program.unwrap_or_else(|| PathBuf::from("/bin/sh"));
        // Its home and its temporary directory are in the workspace.
        let workspace = &self.workspace;
        let mut reach = Confinement::for_agent(workspace, workspace, workspace, &program, path_var);
        let directories = self.plugins.iter().filter_map(Plugin::directory);
        reach.read_execute.extend(directories.map(Path::to_owned));
        reach
    }

    /// What the plan needs to know.
    pub fn policy(&self) -> Policy {
        Policy {
            api_patience_ms: millis(self.options.api_patience),
            agent_attempts: self.options.agent_attempts,
            agent_timeout_ms: millis(self.options.agent_timeout),
            agent_max_turns: self.options.agent_max_turns.into(),
            agent_sessions: match self.agent {
                AgentChoice::Claude => true,
                AgentChoice::Command(_) => false,
            },
            task_timeout_ms: self.options.task_timeout.map(millis),
            setup: self.setup_command().is_some(),
            check: self.check_command().is_some(),
            agent_budget_micro_usd: self.options.agent_max_budget_usd.micros(),
            max_boots: self.options.max_boots,
            no_changes: self.options.no_changes,
            on_term: self.options.on_term,
            archive: match self.archive {
                Some(_) => Archiving::On,
                None => Archiving::Off,
            },
        }
    }

    /// The set-up command. An empty one is how a manifest leaves it out.
    pub fn setup_command(&self) -> Option<&str> {
        self.options
            .setup_command
            .as_deref()
            .filter(|command| !command.trim().is_empty())
    }

    /// The check command, likewise.
    pub fn check_command(&self) -> Option<&str> {
        self.options
            .check_command
            .as_deref()
            .filter(|command| !command.trim().is_empty())
    }

    /// The directories of a task.
    pub fn directories(&self) -> [Directory<'_>; 3] {
        let directory = |variable, path, access| Directory { variable, path, access };
        [
            directory("RUNNER_STATE_DIR", &self.state_dir, Access::Private),
            directory("RUNNER_SECRETS_DIR", &self.secrets_dir, Access::Private),
            directory("RUNNER_WORKSPACE", &self.workspace, Access::Any),
        ]
    }

    /// Makes the directories, and checks that they can be written and are nobody else's. Where one of them cannot be
    /// made, none is.
    pub fn prepare_directories(&self) -> Result<(), ConfigError> {
        for directory in self.directories() {
            directory.check()?;
        }
        for directory in self.directories() {
            directory.prepare()?;
        }
        Ok(())
    }
}

/// `$XDG_STATE_HOME/runner`, or `~/.local/state/runner`.
pub fn state_home(env: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, ConfigError> {
    let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("runner"))
        .ok_or(ConfigError::NoHome)
}

/// Variables that begin with `RUNNER_` and are not known, each with the nearest one that is.
pub fn unknown_variables<'a>(
    names: impl IntoIterator<Item = &'a str>,
    known: &BTreeSet<String>,
) -> Vec<(String, Option<String>)> {
    let known: Vec<&str> = known.iter().map(String::as_str).chain(SECRET_VARIABLES).collect();
    names
        .into_iter()
        .filter(|name| name.starts_with("RUNNER_") && !known.contains(name))
        .filter(|name| !(cfg!(feature = "crash-points") && *name == "RUNNER_CRASH_AT"))
        .map(|name| {
            let near = known.iter().map(|k| (strsim::damerau_levenshtein(name, k), *k)).min();
            let near = near.filter(|(distance, _)| *distance <= 6).map(|(_, k)| k.to_owned());
            (name.to_owned(), near)
        })
        .collect()
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

fn read(variable: &'static str, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::UnreadableFile {
        variable,
        path: path.to_owned(),
        source,
    })
}

/// How `claude` reaches its model. A `command` has what `RUNNER_AGENT_ENV` hands over.
fn model(
    options: &Options,
    agent: &AgentChoice,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Upstream>, ConfigError> {
    let prices = Arc::new(Prices::load(options.model_prices.as_deref())?);
    match agent {
        AgentChoice::Command(_) => return Ok(None),
        AgentChoice::Claude => {}
    }
    let undoing = UNDOING_VARIABLES
        .into_iter()
        .find(|name| options.agent_env.iter().any(|given| given == name));
    if let Some(name) = undoing {
        return Err(ConfigError::UndoesProxy { name });
    }
    let (key_file, ca_file) = (options.model_key_file.clone(), options.ca_file.clone());
    Ok(Upstream::from_environment(key_file, prices, ca_file, env)?)
}

fn seal_key(path: &Path) -> Result<SealKey, ConfigError> {
    SealKey::read(path).map_err(|source| ConfigError::NoSealKey {
        path: path.to_owned(),
        source,
    })
}

/// Where what is left of the task goes. An empty one is how a manifest leaves it out.
fn archive(plain_http: PlainHttp, env: impl Fn(&str) -> Option<OsString>) -> Result<Option<Destination>, ConfigError> {
    let Some(given) = env(ARCHIVE_URL).filter(|given| !given.is_empty()) else {
        return Ok(None);
    };
    let text = given.to_str().ok_or(InvalidDestination::NotAUrl)?;
    Ok(Some(Destination::parse(text, plain_http)?))
}

fn task_token(env: impl Fn(&str) -> Option<OsString>) -> Result<Option<Secret>, ConfigError> {
    let (direct, file) = (TASK_TOKEN, TASK_TOKEN_FILE);
    let (variable, text) = if let Some(text) = env(direct) {
        (direct, text.to_string_lossy().into_owned())
    } else if let Some(path) = env(file) {
        if path.is_empty() {
            return Err(ConfigError::EmptyToken { variable: file });
        }
        (file, read(file, Path::new(&path))?)
    } else {
        return Ok(None);
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(ConfigError::EmptyToken { variable });
    }
    Ok(Some(Secret::new(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_variable_is_named_with_the_nearest_one() {
        let known = BTreeSet::from(["RUNNER_AGENT_TIMEOUT".to_owned()]);
        let found = unknown_variables(["RUNNER_AGENT_TIMEOT", "HOME", "RUNNER_TASK_TOKEN"], &known);
        let expected = [(
            "RUNNER_AGENT_TIMEOT".to_owned(),
            Some("RUNNER_AGENT_TIMEOUT".to_owned()),
        )];
        assert_eq!(found, expected);
    }
}
