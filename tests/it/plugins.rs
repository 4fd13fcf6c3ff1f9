//! Plugins, by the real binary: looked at, checked in the sandbox, and used by the real Claude Code where `RUNNER_TEST_CLAUDE` names
//! it. The built-in ones' own servers take part where `RUNNER_TEST_MCP` names the directory that `.ci/run` puts them in.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot set up its room has failed"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::claude::{self, KEY, Room};
use crate::harness::{RUNNER, transcript};
use crate::messages_api::Turn;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/plugins/release-notes");
const SYSTEM: &str = "/usr/local/bin:/usr/bin:/bin";

/// The program, which a minute bounds: settings that should be refused would have it serve.
fn command(args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["60", RUNNER]).args(args).env_clear().env("PATH", SYSTEM);
    command.envs(env.iter().copied());
    command
}

fn runner(args: &[&str], env: &[(&str, &str)]) -> Output {
    command(args, env).output().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `--json` printed.
fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output.stderr)))
}

/// A plugin with one server, which is this script.
fn plugin(below: &Path, name: &str, script: &str) -> PathBuf {
    let root = below.join(name);
    fs::create_dir_all(root.join(".claude-plugin")).unwrap();
    fs::write(
        root.join(".claude-plugin/plugin.json"),
        json!({"name": name}).to_string(),
    )
    .unwrap();
    let servers = json!({"mcpServers": {"it": {"command": "/bin/sh", "args": ["${CLAUDE_PLUGIN_ROOT}/server.sh"]}}});
    fs::write(root.join(".mcp.json"), servers.to_string()).unwrap();
    fs::write(root.join("server.sh"), script).unwrap();
    root
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Whether a process has this among its arguments.
fn is_running(argument: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.any(|line| line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes()))
}

#[test]
fn the_example_of_the_docs_answers_in_the_whole_sandbox() {
    let checked = runner(&["plugins", "check", EXAMPLE, "--json", "--sandbox", "require"], &[]);
    assert_eq!(
        checked.status.code(),
        Some(0),
        "{}{}",
        said(&checked.stdout),
        said(&checked.stderr)
    );
    let report = report(&checked);
    assert_eq!(report["ok"], true);
    assert!(
        report["sandbox"].as_array().unwrap().contains(&json!("files")),
        "{report}"
    );
    let server = &report["servers"][0];
    assert_eq!(server["status"], "ok");
    assert_eq!(
        (&server["plugin"], &server["server"]),
        (&json!("release-notes"), &json!("changes"))
    );
    assert_eq!(
        (&server["tools"], &server["said"]),
        (&json!(["changes_since"]), &json!("changes 0.1.0"))
    );
}

#[test]
fn a_server_that_does_not_answer_is_named_with_its_last_words_without_secrets_and_leaves_no_process() {
    let room = TempDir::new().unwrap();
    let below = room.path();
    let sleep = format!("86399.{}", std::process::id());
    let dies = plugin(
        below,
        "dies",
        "echo no database of ghp_0123456789abcdefghijABCDEFGHIJ012345 >&2; exit 3",
    );
    let hangs = plugin(below, "hangs", &format!("trap '' TERM; sleep {sleep} & sleep {sleep}"));
    // What the sandbox hides is hidden from a check, too.
    let hidden = below.join("hidden");
    fs::write(&hidden, "hidden").unwrap();
    let reads = plugin(below, "reads", &format!("cat {} >&2; exit 4", text(&hidden)));
    let asks = plugin(below, "asks", "");
    let servers = json!({"mcpServers": {
        "absent": {"command": "no-such-program"},
        "unset": {"command": "/bin/sh", "args": ["${NOT_HERE}"]},
        "far": {"type": "http", "url": "http://127.0.0.1:9/"},
    }});
    fs::write(asks.join(".mcp.json"), servers.to_string()).unwrap();
    let check = ["plugins", "check", "--sandbox", "require"];
    let chosen = [&dies, &reads, &asks].map(|root| text(root)).join(",");
    let as_json = runner(&[&check[..], &["--json"]].concat(), &[("RUNNER_PLUGINS", &chosen)]);
    assert_eq!(as_json.status.code(), Some(1), "{}", said(&as_json.stderr));
    let report = report(&as_json);
    assert_eq!(report["ok"], false);
    let of = |plugin: &str, server: &str| {
        let mut all = report["servers"].as_array().unwrap().iter();
        let found = all.find(|one| one["plugin"] == plugin && one["server"] == server);
        found.unwrap_or_else(|| panic!("{plugin}: {server}: {report}")).clone()
    };
    assert_eq!(
        of("dies", "it")["reason"],
        "it ended with exit code 3 before it answered"
    );
    assert_eq!(of("dies", "it")["stderr"], "no database of ghp_[redacted]");
    let denied = of("reads", "it");
    assert!(
        denied["stderr"].as_str().unwrap().contains("Permission denied"),
        "{report}"
    );
    let reason = |server: &str| of("asks", server)["reason"].as_str().unwrap().to_owned();
    assert!(reason("absent").contains("\"no-such-program\" is no file"), "{report}");
    assert!(reason("unset").contains("asks for ${NOT_HERE}"), "{report}");
    assert_eq!(of("asks", "far")["status"], "not_asked");

    let waits = [&check[..], &["--timeout", "5s"]].concat();
    let mut checking = command(&waits, &[("RUNNER_PLUGINS", text(&hangs))]);
    let mut checking = checking.stdout(Stdio::piped()).spawn().unwrap();
    // It is there, and found: the control of what is looked for below.
    while !is_running(&sleep) {
        assert_eq!(
            checking.try_wait().unwrap(),
            None,
            "it was over before the server was seen"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let waited = checking.wait_with_output().unwrap();
    assert_eq!(waited.status.code(), Some(1));
    assert_eq!(said(&waited.stdout), "✗ hangs: it: it did not answer within 5 s\n");
    assert!(!is_running(&sleep), "what the check started lives on");

    // Without the sandbox the same file is read: it was hidden, and not merely gone.
    let open = runner(&["plugins", "check", text(&reads), "--json", "--sandbox", "off"], &[]);
    assert_eq!(self::report(&open)["servers"][0]["stderr"], "hidden");

    let printed = said(&runner(&check, &[("RUNNER_PLUGINS", text(&dies))]).stdout);
    assert_eq!(
        printed,
        "✗ dies: it: it ended with exit code 3 before it answered\n    | no database of ghp_[redacted]\n"
    );
}

#[test]
fn list_shows_what_is_built_in_and_what_is_chosen_and_starts_nothing() {
    let room = TempDir::new().unwrap();
    let started = room.path().join("started");
    let own = plugin(room.path(), "own", &format!("echo > {}", text(&started)));
    let env = [("RUNNER_PLUGINS", &*format!("aws-docs,{}", text(&own)))];
    let listed = runner(&["plugins", "list", "--json"], &env);
    let report = report(&listed);
    let plugins = report["plugins"].as_array().unwrap();
    let chosen: Vec<(&str, bool)> = plugins
        .iter()
        .map(|plugin| (plugin["name"].as_str().unwrap(), plugin["chosen"] == true))
        .collect();
    assert_eq!(chosen, [("aws-docs", true), ("own", true), ("terraform", false)]);
    assert_eq!(plugins[0]["skills"], json!(["aws-docs"]));
    assert_eq!(plugins[1]["directory"], text(&fs::canonicalize(&own).unwrap()));
    assert_eq!(plugins[2]["servers"][0]["command"], "terraform-mcp-server");
    let printed = said(&runner(&["plugins", "list"], &[]).stdout);
    assert!(printed.contains("  terraform 0.1.0  (built in)\n"), "{printed}");
    assert!(
        printed.ends_with("None is chosen: RUNNER_PLUGINS names them, comma-separated.\n"),
        "{printed}"
    );
    assert!(!started.exists());
}

#[test]
fn a_plugin_that_is_not_there_is_exit_2_before_anything_is_touched_and_doctor_names_a_missing_program() {
    let room = TempDir::new().unwrap();
    let state = room.path().join("state");
    let folder = room.path().join("ours");
    plugin(&folder, "one", "");
    for (named, why) in [
        ("aws", "aws-docs, terraform are built in"),
        (text(&folder), "but these in it have: one"),
        ("/nowhere/at-all", "has no .claude-plugin/plugin.json"),
    ] {
        let args = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--sandbox",
            "off",
            "--state-dir",
            text(&state),
        ];
        let refused = runner(&args, &[("RUNNER_PLUGINS", named)]);
        let printed = said(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{printed}");
        assert!(
            printed.contains("failed to use the settings: RUNNER_PLUGINS: ") && printed.contains(why),
            "{printed}"
        );
        assert!(!state.exists());
    }
    let around = runner(
        &[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--state-dir",
            text(&folder.join("one/state")),
        ],
        &[("RUNNER_PLUGINS", text(&folder.join("one")))],
    );
    let printed = said(&around.stderr);
    assert_eq!(around.status.code(), Some(2), "{printed}");
    assert!(
        printed.contains("RUNNER_STATE_DIR") && printed.contains("which the agent may read"),
        "{printed}"
    );

    let doctor = |plugins: &str| -> Option<Value> {
        let output = runner(&["doctor", "--json"], &[("RUNNER_PLUGINS", plugins)]);
        let checks = report(&output)["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|check| check["name"] == "plugins")
    };
    let warned = doctor("terraform").unwrap();
    assert_eq!(warned["status"], "warn", "{warned}");
    assert_eq!(warned["found"], "terraform; not in PATH: terraform-mcp-server");
    assert_eq!(doctor(text(&folder.join("one"))).unwrap()["status"], "ok");
    assert_eq!(doctor(""), None);
}

/// The first thing that Claude Code says of itself.
fn init(room: &Room) -> Value {
    let transcript = transcript(&room.bench.path("state/agent/transcript-1.jsonl.zst"));
    let events = transcript
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut inits = events.filter(|event| event["subtype"] == "init");
    inits.next().unwrap_or_else(|| panic!("no init event: {transcript}"))
}

fn names(of: &Value) -> Vec<&str> {
    of.as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect()
}

fn servers(init: &Value) -> Vec<(&str, &str)> {
    let servers = init["mcp_servers"].as_array().unwrap().iter();
    servers
        .map(|server| (server["name"].as_str().unwrap(), server["status"].as_str().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_code_has_what_is_chosen_nothing_of_what_is_not_and_works_on_without_a_server_that_dies() {
    let Some(program) = claude::program() else { return };
    let mut room = Room::new(&program, Some(KEY)).await;
    let below = room.bench.path("plugins");
    let leaves = |name: &str| format!("echo started > \"$HOME/{name}\"; exit 1");
    let broken = plugin(&below, "broken", &leaves("broken"));
    plugin(&below, "unchosen", &leaves("unchosen"));
    // What the runner reads of it is right, and Claude Code reads more.
    let odd = below.join("odd");
    fs::create_dir_all(odd.join(".claude-plugin")).unwrap();
    fs::write(
        odd.join(".claude-plugin/plugin.json"),
        r#"{"name": "odd", "commands": 5}"#,
    )
    .unwrap();
    let chosen = [EXAMPLE, text(&broken), text(&odd)].join(",");
    // The system's own Python: one of a home directory would be out of reach.
    let path = format!("{}:{SYSTEM}", text(&room.bench.path("bin")));
    room.bench = room
        .bench
        .with("PATH", &path)
        .with("RUNNER_PLUGINS", &chosen)
        .with("RUNNER_SANDBOX", "require");
    let home = room.bench.path("state/workspace/home");
    let look = "echo change > change.txt; cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c changes.py";
    let since = json!({"since": "HEAD~2"});
    room.model.script([
        Turn::Tool("mcp__plugin_release-notes_changes__changes_since", since),
        Turn::bash(look),
        Turn::Says("I changed it."),
    ]);
    let (code, printed) = room.run().await;
    assert_eq!(code, Some(0), "{printed}");
    let init = init(&room);
    let expected = [
        ("plugin:broken:it", "failed"),
        ("plugin:release-notes:changes", "connected"),
    ];
    assert_eq!(servers(&init), expected, "{init}");
    let tool = "mcp__plugin_release-notes_changes__changes_since";
    let of_servers: Vec<&str> = names(&init["tools"])
        .into_iter()
        .filter(|name| name.starts_with("mcp__"))
        .collect();
    assert_eq!(of_servers, [tool]);
    for (what, name) in [
        ("skills", "release-notes:release-notes"),
        ("agents", "release-notes:changelog-editor"),
        ("slash_commands", "release-notes:release-notes"),
    ] {
        assert!(names(&init[what]).contains(&name), "{what}: {init}");
    }
    assert!(
        !init.to_string().contains("unchosen") && !init.to_string().contains("aws-docs"),
        "{init}"
    );
    // Started, and not: each leaves a file where the agent may write.
    assert!(home.join("broken").exists() && !home.join("unchosen").exists());
    let heard = room.model.heard();
    assert!(
        heard.contains("change 40") && heard.contains("### Changed"),
        "the tool was called: {heard}"
    );

    let verdict = room.journaled_verdict();
    assert_eq!(verdict["event"], "completed", "{verdict}");
    let notes: Vec<Value> = room
        .bench
        .rows("note", None)
        .into_iter()
        .map(|row| row["body"].clone())
        .collect();
    let missing = [
        json!({"note": "plugin_missing", "plugin": "broken", "server": "it", "status": "failed"}),
        json!({"note": "plugin_missing", "plugin": "odd", "status": "not loaded"}),
    ];
    let seen: Vec<Value> = notes
        .into_iter()
        .filter(|note| note["note"] == "plugin_missing")
        .collect();
    assert_eq!(seen, missing);
    let body = room.outside.forge.pulls()[0].body.clone().unwrap();
    let line = "\n> The agent worked without the MCP server `it` of the plugin `broken` (`failed`), the plugin `odd` (`not loaded`).\n";
    assert!(body.contains(line), "{body}");
}

/// A directory that has programs of these names, which run what is installed below `RUNNER_TEST_MCP`, and what its Python needs to
/// be read: first in `PATH`, whose directories the agent may read and execute.
fn installed() -> Option<(TempDir, String, String)> {
    let Some(named) = std::env::var_os("RUNNER_TEST_MCP") else {
        println!("not run: RUNNER_TEST_MCP names no directory with the built-in plugins' servers (.ci/run makes one)");
        return None;
    };
    let root = fs::canonicalize(named).unwrap();
    let (aws, terraform) = (root.join("aws-docs"), root.join("terraform"));
    let script = fs::read_to_string(aws.join("bin/awslabs.aws-documentation-mcp-server")).unwrap();
    let python = script.lines().next().unwrap().strip_prefix("#!").unwrap();
    let prefix = Command::new(python)
        .args(["-c", "import sys; print(sys.base_prefix)"])
        .output()
        .unwrap();
    let bin = TempDir::new().unwrap();
    for (name, line) in [
        (
            "awslabs.aws-documentation-mcp-server",
            format!(
                "exec {python} {}",
                text(&aws.join("bin/awslabs.aws-documentation-mcp-server"))
            ),
        ),
        (
            "terraform-mcp-server",
            format!(
                "exec node {}",
                text(&terraform.join("node_modules/.bin/terraform-mcp-server"))
            ),
        ),
    ] {
        let program = bin.path().join(name);
        fs::write(&program, format!("#!/bin/sh\n{line}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let node = which("node");
    let path = [
        text(bin.path()),
        text(&root),
        said(&prefix.stdout).trim(),
        text(node.parent().unwrap()),
        SYSTEM,
    ]
    .join(":");
    Some((bin, path, text(&aws).to_owned()))
}

fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .unwrap()
}

/// No TCP port is open to them: what they have to say of themselves takes no network.
#[tokio::test(flavor = "multi_thread")]
async fn the_built_in_servers_answer_in_the_sandbox_without_a_network_and_claude_code_has_their_tools() {
    let Some((_bin, path, packages)) = installed() else {
        return;
    };
    let env = [
        ("PATH", path.as_str()),
        ("PYTHONPATH", packages.as_str()),
        ("RUNNER_AGENT_ENV", "PYTHONPATH"),
        ("RUNNER_AGENT_PORTS", "9"),
        ("RUNNER_SANDBOX", "require"),
        ("RUNNER_PLUGINS", "aws-docs,terraform"),
    ];
    let checked = runner(&["plugins", "check", "--json"], &env);
    let report = report(&checked);
    assert_eq!(checked.status.code(), Some(0), "{report:#}");
    assert!(
        report["sandbox"].as_array().unwrap().contains(&json!("tcp")),
        "{report}"
    );
    let servers = report["servers"].as_array().unwrap();
    let tools: Vec<usize> = servers.iter().map(|server| names(&server["tools"]).len()).collect();
    assert_eq!(tools, [5, 10], "{report:#}");
    eprintln!(
        "aws-docs answered in {} ms, terraform in {} ms",
        servers[0]["afterMs"], servers[1]["afterMs"]
    );

    let Some(program) = claude::program() else { return };
    let mut room = Room::new(&program, Some(KEY)).await;
    let claude = room.bench.path("bin");
    for (name, value) in &env[1..] {
        room.bench = room.bench.with(name, value);
    }
    room.bench = room.bench.with("PATH", &format!("{}:{path}", text(&claude)));
    room.model
        .script([Turn::bash("echo change > change.txt"), Turn::Says("I changed it.")]);
    let (code, printed) = room.run().await;
    assert_eq!(code, Some(0), "{printed}");
    let init = init(&room);
    let connected = ["plugin:aws-docs:aws-docs", "plugin:terraform:terraform"].map(|name| (name, "connected"));
    assert_eq!(self::servers(&init), connected, "{init}");
    let of_servers = |plugin: &str| {
        let prefix = format!("mcp__plugin_{plugin}_{plugin}__");
        names(&init["tools"])
            .into_iter()
            .filter(|name| name.starts_with(&prefix))
            .count()
    };
    assert_eq!((of_servers("aws-docs"), of_servers("terraform")), (5, 10), "{init}");
    for (what, name) in [
        ("skills", "aws-docs:aws-docs"),
        ("agents", "aws-docs:aws-researcher"),
        ("slash_commands", "aws-docs:check-aws"),
        ("skills", "terraform:terraform-registry"),
        ("agents", "terraform:terraform-reviewer"),
        ("slash_commands", "terraform:explain-plan"),
    ] {
        assert!(names(&init[what]).contains(&name), "{what}: {init}");
    }
    let body = room.outside.forge.pulls()[0].body.clone().unwrap();
    assert!(!body.contains("worked without"), "{body}");
}
