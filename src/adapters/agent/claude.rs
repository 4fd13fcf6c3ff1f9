//! Claude Code, without a person: measured on [`MEASURED_WITH`].
//!
//! It carries no credential: its key is good for the runner's loopback proxy alone, and for as long as it runs.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::environment::{DEFAULT_PATH, Environment};
use super::{Conversation, MicroUsd, PrepareError, RepoConfig, Standing, Start, Surroundings};
use crate::adapters::model::Access;
use crate::ids::SessionId;
use crate::plugins::{self, Laid, Plugin};

/// The version whose flags and output this was written for.
pub const MEASURED_WITH: &str = "2.1.330";

/// Claude Code as it was configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claude {
    /// The program: a path, or a name that is looked for in `PATH`.
    pub program: PathBuf,
    /// `RUNNER_AGENT_MODEL`.
    pub model: Option<String>,
    /// `RUNNER_REPO_CONFIG`: only [`RepoConfig::Trust`] lets it take anything from the repository by itself.
    pub repo_config: RepoConfig,
    /// `RUNNER_PLUGINS`.
    pub plugins: Vec<Plugin>,
}

fn config_dir(home: &Path) -> PathBuf {
    home.join(".claude")
}

/// Whether a conversation is on the disk: `projects/DIRECTORY/ID.jsonl`, where the directory is made from the working
/// directory. Which one it is does not matter, since an id is used once.
pub(super) fn knows(home: &Path, session: SessionId) -> bool {
    let Ok(projects) = fs::read_dir(config_dir(home).join("projects")) else {
        return false;
    };
    let name = format!("{session}.jsonl");
    projects.flatten().any(|project| project.path().join(&name).is_file())
}

impl Claude {
    pub(super) fn prepare(&self, surroundings: &Surroundings<'_>) -> Result<Start, PrepareError> {
        let env = environment(surroundings)?;
        let path = env.get("PATH").cloned().unwrap_or_else(|| DEFAULT_PATH.into());
        let program = find(&self.program, &path).ok_or_else(|| PrepareError::Missing {
            program: self.program.clone(),
            path,
        })?;
        let settings = settings(self.repo_config, surroundings.model);
        let settings = put(surroundings.desk, "claude-settings.json", &settings)?;
        let instructions = surroundings
            .instructions
            .map(|text| put(surroundings.desk, "claude-instructions.md", text))
            .transpose()?;
        let mut args = self.arguments(surroundings, settings, instructions);
        args.extend(self.plugins(surroundings.desk)?);
        Ok(Start {
            program,
            args,
            env: env.into_list(),
            reach: self
                .plugins
                .iter()
                .filter_map(Plugin::directory)
                .map(Path::to_owned)
                .collect(),
        })
    }

    /// Puts the chosen plugins where it reads them, and names them to it. Nothing where none is chosen.
    fn plugins(&self, desk: &Path) -> Result<Vec<OsString>, PrepareError> {
        if self.plugins.is_empty() {
            return Ok(Vec::new());
        }
        let lay = |plugin: &Plugin| {
            plugin.lay(desk).map_err(|source| PrepareError::Write {
                path: desk.join("plugins"),
                source,
            })
        };
        let roots = self.plugins.iter().map(lay).collect::<Result<Vec<_>, _>>()?;
        let laid: Vec<Laid<'_>> = self
            .plugins
            .iter()
            .zip(&roots)
            .map(|(plugin, root)| Laid { plugin, root })
            .collect();
        let servers = put(desk, "claude-mcp.json", &format!("{:#}\n", plugins::mcp_config(&laid)))?;
        let mut args: Vec<OsString> = roots.iter().flat_map(|root| plugins::arguments(root)).collect();
        // Last: it takes as many files as follow.
        args.extend(["--mcp-config".into(), servers.into()]);
        Ok(args)
    }

    fn arguments(
        &self,
        surroundings: &Surroundings<'_>,
        settings: PathBuf,
        instructions: Option<PathBuf>,
    ) -> Vec<OsString> {
        let budget: MicroUsd = surroundings.budget;
        let mut args: Vec<OsString> = ["-p", "--output-format", "stream-json", "--verbose"]
            .map(Into::into)
            .to_vec();
        args.push("--dangerously-skip-permissions".into());
        match self.repo_config {
            // Nothing of the repository's settings, hooks and servers is taken: all of that runs without a question.
            RepoConfig::Instructions | RepoConfig::None => {
                args.extend(["--setting-sources", "", "--strict-mcp-config"].map(Into::into));
            }
            // The repository's alone: the agent's home, where the user's would be, is the agent's to write.
            RepoConfig::Trust => args.extend(["--setting-sources", "project"].map(Into::into)),
        }
        args.extend(["--settings".into(), settings.into()]);
        if let Some(instructions) = instructions {
            args.extend(["--append-system-prompt-file".into(), instructions.into()]);
        }
        args.extend(["--max-turns".into(), surroundings.turns.to_string().into()]);
        args.extend(["--max-budget-usd".into(), budget.to_string().into()]);
        if let Some(model) = &self.model {
            // One word, so that a name which looks like an option stays a name.
            args.push(format!("--model={model}").into());
        }
        match surroundings.conversation {
            Some(Conversation::Begin(id)) => args.extend(["--session-id".into(), id.to_string().into()]),
            Some(Conversation::GoOn(id)) => args.extend(["--resume".into(), id.to_string().into()]),
            None => {}
        }
        args
    }
}

/// No trailer in commit messages and no line in pull requests: whose work it is, the runner says. What is set here counts
/// before the settings of a repository that is trusted: one that names another address or key for the model would
/// otherwise have its own way there, past the runner's count.
fn settings(repo_config: RepoConfig, model: Option<&Access>) -> String {
    let mut settings = json!({"attribution": {"commit": "", "pr": ""}});
    if let (RepoConfig::Trust, Some(model)) = (repo_config, model) {
        settings["env"] = json!({"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": model.key.expose()});
    }
    format!("{settings}\n")
}

fn environment(surroundings: &Surroundings<'_>) -> Result<Environment, PrepareError> {
    let mut env = Environment::new(&surroundings.place)?;
    if let Some(model) = surroundings.model {
        env.set("ANTHROPIC_BASE_URL", &model.url);
        env.set("ANTHROPIC_API_KEY", model.key.expose());
        env.past_proxies("127.0.0.1");
    }
    env.set("CLAUDE_CONFIG_DIR", config_dir(surroundings.place.home));
    env.set("CLAUDE_CODE_TMPDIR", surroundings.place.tmp);
    env.set("DISABLE_AUTOUPDATER", "1");
    env.set("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
    env.set("CI", "true");
    match surroundings.standing {
        Standing::RootInSandbox => env.set("IS_SANDBOX", "1"),
        Standing::User | Standing::RootWithoutSandbox => {}
    }
    Ok(env)
}

/// A program by its path, or the first of that name in `PATH`, as an absolute path.
fn find(program: &Path, path: &OsStr) -> Option<PathBuf> {
    let usable =
        |file: &Path| fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0);
    if program.components().count() > 1 || program.is_absolute() {
        return std::path::absolute(program).ok().filter(|file| usable(file));
    }
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(program))
        .find(|file| usable(file))
}

/// Writes a file anew: what is there already may be half of an earlier one.
fn put(desk: &Path, name: &str, text: &str) -> Result<PathBuf, PrepareError> {
    let path = desk.join(name);
    let write = || -> io::Result<()> {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(text.as_bytes())
    };
    write().map_err(|source| PrepareError::Write {
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::super::{Agent, AgentKind, Place};
    use super::*;
    use crate::secret::Secret;

    struct Room {
        room: tempfile::TempDir,
        session: SessionId,
    }

    impl Room {
        fn new() -> Self {
            let room = tempfile::tempdir().unwrap();
            fs::write(room.path().join("claude"), "").unwrap();
            fs::set_permissions(room.path().join("claude"), fs::Permissions::from_mode(0o755)).unwrap();
            Self {
                room,
                session: SessionId::of(&"my-task".parse().unwrap(), 0),
            }
        }

        fn prepare(&self, agent: &Agent, standing: Standing, passed: &[&str]) -> Result<Start, PrepareError> {
            let bin = self.room.path().as_os_str().to_owned();
            let lookup = move |name: &str| -> Option<OsString> {
                match name {
                    "PATH" => Some(bin.clone()),
                    "HOME" | "LD_PRELOAD" | "RUNNER_TASK_TOKEN" | "GITHUB_TOKEN" => Some("canary".into()),
                    "ANTHROPIC_API_KEY" | "ANTHROPIC_AUTH_TOKEN" | "ANTHROPIC_BASE_URL" => Some("canary".into()),
                    "no_proxy" => Some("internal".into()),
                    "CORP_VAR" => Some("corp".into()),
                    _ => None,
                }
            };
            agent.prepare(&Surroundings {
                place: Place {
                    home: Path::new("/w/home"),
                    tmp: Path::new("/w/tmp"),
                    passed: &passed.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(),
                    lookup: &lookup,
                },
                conversation: Some(Conversation::Begin(self.session)),
                desk: self.room.path(),
                instructions: Some("be brief"),
                standing,
                budget: MicroUsd::from_micros(2_500_000),
                turns: 50,
                model: Some(&Access {
                    url: "http://127.0.0.1:1".to_owned(),
                    key: Secret::new("dummy"),
                }),
            })
        }
    }

    fn claude() -> Agent {
        Agent::Claude(Claude {
            program: "claude".into(),
            model: Some("m".to_owned()),
            repo_config: RepoConfig::Instructions,
            plugins: Vec::new(),
        })
    }

    fn words(start: &Start) -> Vec<&str> {
        start.args.iter().map(|arg| arg.to_str().unwrap()).collect()
    }

    #[test]
    fn the_environment_is_the_allow_list_and_nothing_else() {
        let room = Room::new();
        let start = room.prepare(&claude(), Standing::User, &["CORP_VAR", "HOME"]).unwrap();
        let names: Vec<_> = start.env.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "ANTHROPIC_API_KEY",
                "ANTHROPIC_BASE_URL",
                "CI",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
                "CLAUDE_CODE_TMPDIR",
                "CLAUDE_CONFIG_DIR",
                "CORP_VAR",
                "DISABLE_AUTOUPDATER",
                "HOME",
                "LANG",
                "NO_PROXY",
                "PATH",
                "TMPDIR",
                "no_proxy"
            ]
        );
        assert!(start.env.iter().all(|(_, value)| value != "canary"), "{:?}", start.env);
        let value = |name: &str| {
            start
                .env
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.to_str().unwrap())
        };
        assert_eq!(value("ANTHROPIC_API_KEY"), Some("dummy"));
        assert_eq!(value("ANTHROPIC_BASE_URL"), Some("http://127.0.0.1:1"));
        assert_eq!(value("NO_PROXY"), Some("internal,127.0.0.1"));
        assert_eq!(value("no_proxy"), Some("internal,127.0.0.1"));

        let command = Agent::Command {
            command: "true".to_owned(),
        };
        assert_eq!(command.kind(), AgentKind::Command);
        let start = room.prepare(&command, Standing::User, &[]).unwrap();
        let names: Vec<_> = start.env.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["HOME", "LANG", "PATH", "TMPDIR", "no_proxy"]);
    }

    #[test]
    fn only_root_in_a_sandbox_is_told_of_it() {
        let room = Room::new();
        for (standing, told) in [
            (Standing::User, false),
            (Standing::RootInSandbox, true),
            (Standing::RootWithoutSandbox, false),
        ] {
            let start = room.prepare(&claude(), standing, &[]).unwrap();
            assert_eq!(start.env.iter().any(|(name, _)| name == "IS_SANDBOX"), told);
        }
    }

    #[test]
    fn a_variable_of_the_runner_is_not_passed_on() {
        let refused = Room::new().prepare(&claude(), Standing::User, &["RUNNER_TASK_TOKEN"]);
        assert!(matches!(refused, Err(PrepareError::OwnVariable { .. })));
    }

    #[test]
    fn the_arguments_take_nothing_from_the_repository() {
        let room = Room::new();
        let start = room.prepare(&claude(), Standing::User, &[]).unwrap();
        assert_eq!(start.program, room.room.path().join("claude"));
        let desk = room.room.path().display().to_string();
        let args: Vec<_> = start
            .args
            .iter()
            .map(|arg| arg.to_string_lossy().replace(&desk, "DESK"))
            .collect();
        assert_eq!(
            args.join(" "),
            "-p --output-format stream-json --verbose --dangerously-skip-permissions --setting-sources  \
             --strict-mcp-config --settings DESK/claude-settings.json \
             --append-system-prompt-file DESK/claude-instructions.md --max-turns 50 --max-budget-usd 2.50 --model=m \
             --session-id 15f0d5e8-0000-5000-8000-000000000000"
                .replace("15f0d5e8-0000-5000-8000-000000000000", &room.session.to_string())
        );
        let instructions = fs::read_to_string(room.room.path().join("claude-instructions.md")).unwrap();
        assert_eq!(instructions, "be brief");
    }

    #[test]
    fn a_repository_is_trusted_only_where_that_is_said_and_even_then_not_with_the_way_to_the_model() {
        let room = Room::new();
        for (repo_config, sources, pinned) in [
            (RepoConfig::Instructions, "", false),
            (RepoConfig::None, "", false),
            (RepoConfig::Trust, "project", true),
        ] {
            let Agent::Claude(agent) = claude() else { unreachable!() };
            let agent = Agent::Claude(Claude { repo_config, ..agent });
            let start = room.prepare(&agent, Standing::User, &[]).unwrap();
            let words = words(&start);
            let at = words.iter().position(|word| *word == "--setting-sources").unwrap();
            assert_eq!(words[at + 1], sources, "{repo_config}");
            assert_eq!(words.contains(&"--strict-mcp-config"), !pinned, "{repo_config}");
            let settings = fs::read_to_string(room.room.path().join("claude-settings.json")).unwrap();
            let settings: serde_json::Value = serde_json::from_str(&settings).unwrap();
            assert_eq!(settings["attribution"], json!({"commit": "", "pr": ""}));
            let env = json!({"ANTHROPIC_BASE_URL": "http://127.0.0.1:1", "ANTHROPIC_API_KEY": "dummy"});
            assert_eq!(settings.get("env"), pinned.then_some(&env), "{repo_config}");
        }
    }

    #[test]
    fn chosen_plugins_are_named_with_their_servers_and_an_operators_directory_may_be_read() {
        let room = Room::new();
        let own = room.room.path().join("own");
        fs::create_dir_all(own.join(".claude-plugin")).unwrap();
        fs::write(own.join(".claude-plugin/plugin.json"), r#"{"name": "own"}"#).unwrap();
        let server = r#"{"mcpServers": {"it": {"command": "${CLAUDE_PLUGIN_ROOT}/server"}}}"#;
        fs::write(own.join(".mcp.json"), server).unwrap();
        let own = fs::canonicalize(own).unwrap();
        let Agent::Claude(agent) = claude() else { unreachable!() };
        let agent = Agent::Claude(Claude {
            plugins: plugins::choose(&["aws-docs", own.to_str().unwrap()]).unwrap(),
            ..agent
        });
        let start = room.prepare(&agent, Standing::User, &[]).unwrap();
        let desk = room.room.path();
        let (built_in, servers) = (desk.join("plugins/aws-docs"), desk.join("claude-mcp.json"));
        let named = [
            "--plugin-dir",
            built_in.to_str().unwrap(),
            "--plugin-dir",
            own.to_str().unwrap(),
            "--mcp-config",
            servers.to_str().unwrap(),
        ];
        let words = words(&start);
        assert!(words.ends_with(&named), "{words:?}");
        assert!(words.contains(&"--strict-mcp-config"), "{words:?}");
        assert_eq!(start.reach, std::slice::from_ref(&own));
        let servers: serde_json::Value = serde_json::from_str(&fs::read_to_string(servers).unwrap()).unwrap();
        let servers = servers["mcpServers"].as_object().unwrap();
        let keys: Vec<&String> = servers.keys().collect();
        assert_eq!(keys, ["plugin:aws-docs:aws-docs", "plugin:own:it"]);
        assert_eq!(
            servers["plugin:own:it"]["command"],
            own.join("server").to_str().unwrap()
        );
        assert!(built_in.join("skills/aws-docs/SKILL.md").is_file());
        assert!(!desk.join("plugins/terraform").exists());
    }

    #[test]
    fn a_program_that_is_nowhere_is_missing() {
        let missing = Agent::Claude(Claude {
            program: "no-such-agent".into(),
            model: None,
            repo_config: RepoConfig::Instructions,
            plugins: Vec::new(),
        });
        let error = Room::new().prepare(&missing, Standing::User, &[]).unwrap_err();
        assert!(matches!(error, PrepareError::Missing { .. }), "{error}");
    }

    #[test]
    fn a_conversation_that_is_on_the_disk_is_gone_on_with() {
        let room = Room::new();
        let home = room.room.path();
        assert!(!knows(home, room.session));
        let projects = home.join(".claude/projects/-w-repo");
        fs::create_dir_all(&projects).unwrap();
        fs::write(projects.join(format!("{}.jsonl", room.session)), "").unwrap();
        assert!(knows(home, room.session));
        assert!(!knows(home, SessionId::of(&"my-task".parse().unwrap(), 1)));
    }
}
