//! The settings of `runner actions`: flags and environment, one definition, validated before anything is opened or bound.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use url::Url;

use super::directory::{Access, Directory};
use super::error::ConfigError;
use super::values::{address, agent_variable, duration, http_url, named};
use super::{millis, read};
use crate::actions::credential::Credential;
use crate::actions::listener::HOOKS;
use crate::actions::machine::{Assignment, Policy};
use crate::actions::names::{self, Labels, RunnerName, Target};
use crate::adapters::github_app::App;
use crate::redact::Redactor;
use crate::secret::Secret;

pub(super) const TOKEN: &str = "RUNNER_ACTIONS_TOKEN";
pub(super) const TOKEN_FILE: &str = "RUNNER_ACTIONS_TOKEN_FILE";
pub(super) const APP_KEY: &str = "RUNNER_ACTIONS_APP_KEY";
pub(super) const APP_KEY_FILE: &str = "RUNNER_ACTIONS_APP_KEY_FILE";

/// The settings as they are given. Each is a flag and a variable of the same name.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Settings")]
pub struct ActionsOptions {
    /// Whose jobs to run: the address of a repository or an organisation
    #[arg(long = "actions-url", env = "RUNNER_ACTIONS_URL", value_parser = named::<Target>, value_name = "URL")]
    pub url: Target,

    /// What the runner's name begins with; eight random digits and a number follow [default: the host's name]
    #[arg(long = "actions-name", env = "RUNNER_ACTIONS_NAME", value_parser = named::<RunnerName>, value_name = "NAME")]
    pub name: Option<RunnerName>,

    /// What `runs-on` may ask for: 1 to 100, comma-separated [default: self-hosted, linux, and x64 or arm64]
    #[arg(long = "actions-labels", env = "RUNNER_ACTIONS_LABELS", value_parser = named::<Labels>, value_name = "LABELS")]
    pub labels: Option<Labels>,

    /// The runner group, by name; a repository has no other than Default
    #[arg(long = "actions-group", env = "RUNNER_ACTIONS_GROUP", default_value = "Default", value_parser = names::group, value_name = "GROUP")]
    pub group: String,

    /// Where the unpacked official runner is; it writes its configuration and its logs there
    #[arg(
        long = "actions-dir",
        env = "RUNNER_ACTIONS_DIR",
        default_value = "/opt/actions-runner",
        value_name = "DIR"
    )]
    pub dir: PathBuf,

    /// Where jobs work: below that directory, or an absolute path
    #[arg(long = "actions-work", env = "RUNNER_ACTIONS_WORK", default_value = "_work", value_parser = names::work_folder, value_name = "FOLDER")]
    pub work: String,

    /// Names of further variables that jobs get as they are, comma-separated
    #[arg(long = "actions-env", env = "RUNNER_ACTIONS_ENV", value_parser = agent_variable, value_name = "NAMES", value_delimiter = ',')]
    pub env: Vec<String>,

    /// A GitHub App's id or client id; its key comes by the environment [default: none, a token is used]
    #[arg(long = "actions-app-id", env = "RUNNER_ACTIONS_APP_ID", value_name = "ID")]
    pub app_id: Option<String>,

    /// The App's installation [default: looked up]
    #[arg(long = "actions-app-installation", env = "RUNNER_ACTIONS_APP_INSTALLATION", value_parser = clap::value_parser!(u64).range(1..), value_name = "ID")]
    pub app_installation: Option<u64>,

    /// Address and port of the listener
    #[arg(long, env = "RUNNER_LISTEN", default_value = "0.0.0.0:8888", value_parser = address, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,

    /// Where the journal and the job's marks are
    #[arg(
        long,
        env = "RUNNER_STATE_DIR",
        default_value = "/var/lib/runner",
        value_name = "DIR"
    )]
    pub state_dir: PathBuf,

    /// The journal [default: journal.db in the state directory]
    #[arg(long, env = "RUNNER_JOURNAL", value_name = "PATH")]
    pub journal: Option<PathBuf>,

    /// GitHub's REST interface [default: derived from the address]
    #[arg(long, env = "RUNNER_GITHUB_API_URL", value_parser = http_url, value_name = "URL")]
    pub github_api_url: Option<Url>,

    /// Extra certificate authorities, in PEM
    #[arg(long, env = "RUNNER_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// How long GitHub is waited for, an effect
    #[arg(long, env = "RUNNER_API_PATIENCE", default_value = "10m", value_parser = duration, value_name = "DURATION")]
    pub api_patience: Duration,

    /// How long the process may live after SIGTERM: a job is let end in most of it
    #[arg(long, env = "RUNNER_TERM_GRACE", default_value = "20s", value_parser = duration, value_name = "DURATION")]
    pub term_grace: Duration,
}

/// The settings, whole and validated.
#[derive(Debug)]
pub struct ActionsSettings {
    /// As they were given.
    pub options: ActionsOptions,
    /// The journal.
    pub journal: PathBuf,
    /// Where GitHub's interface is.
    pub api: Url,
    /// What is shown to GitHub.
    pub credential: Credential,
}

impl ActionsSettings {
    /// Settles defaults, reads what has to be read, and opens nothing else. `env` looks up a variable.
    pub fn resolve(options: ActionsOptions, env: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        if let names::Scope::Repository { .. } = options.url.scope()
            && !options.group.eq_ignore_ascii_case("default")
        {
            return Err(ConfigError::Actions(format!(
                "RUNNER_ACTIONS_GROUP is {:?}, and {} is a repository, which has no groups: leave it out, or name the \
                 organisation in RUNNER_ACTIONS_URL",
                options.group, options.url
            )));
        }
        if let Some(path) = &options.ca_file {
            read("RUNNER_CA_FILE", path)?;
        }
        let program = options.dir.join("bin/Runner.Listener");
        if !program.is_file() {
            return Err(ConfigError::Actions(format!(
                "RUNNER_ACTIONS_DIR is {}, and there is no bin/Runner.Listener in it: name the directory of the unpacked \
                 official runner",
                options.dir.display()
            )));
        }
        keeps_the_hooks(&options.dir)?;
        let api = options.github_api_url.clone().or_else(|| options.url.api());
        let api = api.ok_or_else(|| {
            ConfigError::Actions(format!("{} has no REST interface that could be derived", options.url))
        })?;
        let credential = credential(&options, env)?;
        Ok(Self {
            journal: options
                .journal
                .clone()
                .unwrap_or_else(|| options.state_dir.join("journal.db")),
            api,
            credential,
            options,
        })
    }

    /// What the runner is to be, where the journal has nothing yet. `id` is random, and `host` the host's name.
    pub fn assignment(&self, id: String, host: &str) -> Assignment {
        let options = &self.options;
        Assignment {
            id,
            target: options.url.clone(),
            name: options.name.clone().unwrap_or_else(|| RunnerName::of_host(host)),
            labels: options.labels.clone().unwrap_or_else(Labels::of_this_machine),
            group: options.group.clone(),
            work_folder: options.work.clone(),
        }
    }

    /// What the plan needs to know.
    pub fn policy(&self) -> Policy {
        Policy {
            patience_ms: millis(self.options.api_patience),
        }
    }

    /// Tells the redactor of every secret that the settings and the environment have.
    pub fn tell_secrets(&self, redactor: &Redactor, env: impl Fn(&str) -> Option<OsString>) {
        for name in [TOKEN, APP_KEY] {
            if let Some(value) = env(name) {
                redactor.add(&Secret::new(value.to_string_lossy().trim()));
            }
        }
        redactor.add_environment(&self.options.env, env);
    }

    /// Makes the directories, and checks that they can be written. The official runner writes beside itself.
    pub fn prepare_directories(&self) -> Result<(), ConfigError> {
        let directories = [
            Directory {
                variable: "RUNNER_STATE_DIR",
                path: &self.options.state_dir,
                access: Access::Private,
            },
            Directory {
                variable: "RUNNER_ACTIONS_DIR",
                path: &self.options.dir,
                access: Access::Any,
            },
        ];
        directories.iter().try_for_each(Directory::check)?;
        directories.iter().try_for_each(Directory::prepare)
    }
}

/// The official listener sets what is in its file `.env` over the environment that it was started with: a hook there would take
/// the place of ours, no mark would be made, and a job could be begun twice.
fn keeps_the_hooks(official: &Path) -> Result<(), ConfigError> {
    let path = official.join(".env");
    // As for the listener: what is no file is passed over.
    if !path.is_file() {
        return Ok(());
    }
    let bytes = std::fs::read(&path)
        .map_err(|error| ConfigError::Actions(format!("{} cannot be read: {error}", path.display())))?;
    let text = String::from_utf8_lossy(&bytes);
    let names = text.trim_start_matches('\u{feff}').split(['\n', '\r']);
    let mut names = names.filter_map(|line| Some(line.split_once('=')?.0.trim()));
    match names.find(|name| HOOKS.contains(name)) {
        None => Ok(()),
        Some(name) => Err(ConfigError::Actions(format!(
            "{} names {name}, which would take the place of the hook that marks how far a job is: take the line out, and let a \
             step of the workflow run that script",
            path.display()
        ))),
    }
}

/// One of a token and an App, each by a variable or a file.
fn credential(options: &ActionsOptions, env: impl Fn(&str) -> Option<OsString>) -> Result<Credential, ConfigError> {
    let text = |name: &str| env(name).map(|value| value.to_string_lossy().trim().to_owned());
    let text = |name: &str| text(name).filter(|value| !value.is_empty());
    let refuse = |what: &str| Err(ConfigError::Actions(what.to_owned()));
    let (token, token_file) = (text(TOKEN), text(TOKEN_FILE));
    let (key, key_file) = (text(APP_KEY), text(APP_KEY_FILE));
    let app_id = options.app_id.as_deref().map(str::trim).filter(|id| !id.is_empty());
    let ways = [token.is_some(), token_file.is_some(), key.is_some(), key_file.is_some()];
    match (app_id, ways.iter().filter(|given| **given).count()) {
        (_, 0) => {
            return refuse(
                "there is no credential: give RUNNER_ACTIONS_TOKEN (or _FILE), or RUNNER_ACTIONS_APP_ID with \
                 RUNNER_ACTIONS_APP_KEY (or _FILE)",
            );
        }
        (_, 2..) => {
            return refuse(
                "there is more than one credential: give one of RUNNER_ACTIONS_TOKEN, RUNNER_ACTIONS_TOKEN_FILE, \
                 RUNNER_ACTIONS_APP_KEY and RUNNER_ACTIONS_APP_KEY_FILE",
            );
        }
        _ => {}
    }
    match (app_id, token, token_file, key, key_file) {
        (None, Some(token), ..) => Ok(Credential::Token(Secret::new(token))),
        (None, _, Some(file), ..) => {
            let path = PathBuf::from(file);
            if read(TOKEN_FILE, &path)?.trim().is_empty() {
                return Err(ConfigError::Actions(format!(
                    "{TOKEN_FILE} names {}, which is empty",
                    path.display()
                )));
            }
            Ok(Credential::File(path))
        }
        (Some(id), _, _, Some(key), _) => app(id, &Secret::new(key), APP_KEY, options.app_installation),
        (Some(id), _, _, _, Some(file)) => {
            let key = Secret::new(read(APP_KEY_FILE, Path::new(&file))?);
            app(id, &key, APP_KEY_FILE, options.app_installation)
        }
        (Some(_), ..) => {
            refuse("RUNNER_ACTIONS_APP_ID needs the App's key: RUNNER_ACTIONS_APP_KEY (or _FILE), and no token")
        }
        (None, ..) => refuse("an App's key needs the App's id: RUNNER_ACTIONS_APP_ID"),
    }
}

fn app(id: &str, key: &Secret, variable: &str, installation: Option<u64>) -> Result<Credential, ConfigError> {
    App::new(id.to_owned(), key, installation)
        .map(|app| Credential::App(Box::new(app)))
        .map_err(|error| {
            ConfigError::Actions(format!(
                "{variable} cannot be used: {error}; GitHub hands an App's key out as a file that begins with \
                 -----BEGIN RSA PRIVATE KEY-----"
            ))
        })
}
