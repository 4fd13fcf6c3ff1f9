//! `runner demo`: the whole run on this machine alone, against an embedded task API, git server and forge.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::runtime::Handle;

use super::CliError;
use super::local::on_runtime;
use super::run::{Left, Local, conclude, drive, settings};
use crate::adapters::agent::AgentKind;
use crate::config::{AgentChoice, Options};
use crate::embedded::faults::Faults;
use crate::embedded::forge::{Branches, ForgeRepo, ForgeServer};
use crate::embedded::git_server::{Auth, GitServer, SeedCommit};
use crate::ids::TaskId;
use crate::process;
use crate::redact::Redactor;
use crate::secret::Secret;
use crate::task::{TaskData, TaskRepo};
use crate::telemetry::system_clock;

const OWNER: &str = "demo";
const NAME: &str = "hello";
const SCRIPT: &str = include_str!("../assets/demo-agent.sh");

/// The whole run on this machine alone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner demo
  ANTHROPIC_API_KEY=… runner demo --agent claude")]
pub(super) struct Demo {
    #[command(flatten)]
    options: Options,
}

impl Demo {
    pub(super) fn execute(self, redactor: &Redactor) -> Result<u8, CliError> {
        process::harden_self()?;
        let (exit, settings) = on_runtime(demo(self.options, redactor))?;
        Ok(conclude(exit, &settings, Left::Behind).code())
    }
}

async fn demo(
    mut options: Options,
    redactor: &Redactor,
) -> Result<(crate::machine::Exit, crate::config::Settings), CliError> {
    let id = demo_id()?;
    let scripted = options.agent.is_none();
    if scripted {
        options.agent = Some(AgentKind::Command);
        options.agent_command = Some(SCRIPT.to_owned());
        // An image's environment may choose some for Claude Code.
        options.plugins.clear();
    }
    let mut settings = settings(options, &id)?;
    settings.prepare_directories()?;
    // A token of this process's own, which its own servers take and nobody else does.
    let token = Secret::new(format!("demo-{:x}-{}", system_clock(), std::process::id()));
    let git = git_server(&settings.state_dir, &token).await?;
    let forge = forge(&git, &token).await?;
    settings.options.github_api_url = Some(forge.listening().url().map_err(|e| failed("the forge", &e))?);
    let data = TaskData {
        description:
            "Add a script that greets\n\nAdd greet.sh, which prints \"Hello, NAME!\", and mention it in the README."
                .to_owned(),
        context: String::new(),
        source_url: None,
        repo: TaskRepo {
            url: git.url(OWNER, NAME),
            git_ref: None,
        },
    };
    let agent = match &settings.agent {
        AgentChoice::Claude => "Claude Code".to_owned(),
        AgentChoice::Command(_) if scripted => "a scripted agent".to_owned(),
        AgentChoice::Command(command) => command.clone(),
    };
    eprintln!("A task API, a git server and a forge run on this machine; the agent is {agent}.\n");
    let local = Local {
        id,
        data,
        token: Some(token),
        settings: settings.clone(),
    };
    let exit = Box::pin(drive(local, Left::Behind, redactor)).await?;
    for pull in forge.pulls() {
        eprintln!(
            "\nThe pull request on the embedded forge:\n\n# {}\n\n{}",
            pull.title,
            pull.body.unwrap_or_default()
        );
    }
    let repository = git.path(OWNER, NAME).map_err(|e| failed("the git server", &e))?;
    eprintln!("The remote repository is {}", repository.display());
    Ok((exit, settings))
}

async fn git_server(state_dir: &std::path::Path, token: &Secret) -> Result<Arc<GitServer>, CliError> {
    let program = which::which("git").map_err(|_| CliError::Usage {
        what: "git is not in PATH".to_owned(),
        hint: "install git".to_owned(),
    })?;
    let root: PathBuf = state_dir.join("remote");
    let error = |e| failed("the git server", &e);
    let server = GitServer::start(program, root, Auth::Token(token.clone()), None)
        .await
        .map_err(error)?;
    server.create(OWNER, NAME).await.map_err(error)?;
    let commit = |message: &str, readme: &str| SeedCommit {
        message: message.to_owned(),
        files: vec![("README.md".to_owned(), readme.as_bytes().to_vec())],
    };
    let history = [
        commit("Begin", "# hello\n"),
        commit("Say what this is", "# hello\n\nA repository to try things on.\n"),
    ];
    server.seed(OWNER, NAME, &history).await.map_err(error)?;
    Ok(Arc::new(server))
}

async fn forge(git: &Arc<GitServer>, token: &Secret) -> Result<ForgeServer, CliError> {
    let git = Arc::clone(git);
    let runtime = Handle::current();
    // The forge asks from a thread that may block.
    let branches = Branches::with(move |name| {
        let branch = name.parse().ok()?;
        let head = runtime.block_on(git.branch(OWNER, NAME, &branch)).ok()??;
        Some(head.to_string())
    });
    let repo = ForgeRepo {
        owner: OWNER.to_owned(),
        name: NAME.to_owned(),
        token: token.clone(),
        branches,
    };
    ForgeServer::start(repo, Faults::new())
        .await
        .map_err(|e| failed("the forge", &e))
}

fn demo_id() -> Result<TaskId, CliError> {
    let now = jiff::Timestamp::from_millisecond(system_clock()).unwrap_or_default();
    Ok(format!("demo-{}", now.strftime("%Y%m%d-%H%M%S-%3f")).parse()?)
}

fn failed(what: &'static str, error: &dyn std::fmt::Display) -> CliError {
    CliError::Embedded {
        what,
        cause: error.to_string(),
    }
}
