//! Settings of the real binary: what cannot be used is refused by name before anything is touched.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::harness::{NEVER, RUNNER, Serving};

/// A place where nothing is yet, and a runner that would make it there.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new(RUNNER);
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("home"))
            .env("RUNNER_LISTEN", "127.0.0.1:0")
            .env("RUNNER_STATE_DIR", self.path("state"))
            .env("RUNNER_SECRETS_DIR", self.path("secrets"))
            .env("RUNNER_WORKSPACE", self.path("workspace"))
            .env("RUNNER_AGENT", "command")
            .env("RUNNER_AGENT_COMMAND", "true")
            .envs(settings.iter().copied())
            .stdin(std::process::Stdio::null());
        command
    }

    /// A start that is over at once.
    fn run(&self, arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String, String) {
        // One that should have been refused listens for ever.
        let mut command = assert_cmd::Command::from_std(self.command(arguments, settings));
        let Output { status, stdout, stderr } = command.timeout(NEVER).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    /// A start that listens, told to go once it does; gives its log.
    async fn listens(&self, arguments: &[&str], settings: &[(&str, &str)]) -> String {
        let mut command = self.command(arguments, settings);
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut serving = Serving::spawn(command);
        assert!(
            serving.line_with("started").await.is_some(),
            "{settings:?}: {}",
            serving.log()
        );
        serving.signal(Signal::SIGTERM);
        assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
        serving.log()
    }

    fn is_untouched(&self) -> bool {
        std::fs::read_dir(self.0.path()).unwrap().next().is_none()
    }
}

/// What the log warns of, but for what this machine's temporary directory does not survive.
fn warnings(log: &str) -> Vec<&str> {
    let warnings = log.lines().filter(|line| line.contains("WARN"));
    warnings.filter(|line| !line.contains("will not survive")).collect()
}

#[test]
fn a_value_that_cannot_be_used_is_exit_2_with_its_name_itself_and_what_is_allowed() {
    for (name, value, allowed) in [
        ("RUNNER_LISTEN", "here", "0.0.0.0:8888"),
        ("RUNNER_LISTEN", "", "0.0.0.0:8888"),
        ("RUNNER_API_ALLOW", "http://api:8081", "host names"),
        ("RUNNER_API_ALLOW", "api:8081", "host names"),
        ("RUNNER_API_ALLOW", "", "host names"),
        ("RUNNER_API_PATIENCE", "90", "1h30m"),
        ("RUNNER_GITHUB_API_URL", "github", "absolute http or https URL"),
        ("RUNNER_GITHUB_API_URL", "ext::id", "absolute http or https URL"),
        ("RUNNER_BRANCH_PREFIX", "a..b/", "branch"),
        ("RUNNER_ALLOW_HTTP", "maybe", "true, 1, yes, false, 0 and no"),
        ("RUNNER_GIT_AUTHOR", "nobody", "Name <name@example.org>"),
        ("RUNNER_PR_DRAFT", "2", "true, 1, yes, false, 0 and no"),
        ("RUNNER_AGENT", "gpt", "claude, command"),
        ("RUNNER_AGENT_MAX_TURNS", "0", "1..="),
        ("RUNNER_AGENT_MAX_BUDGET_USD", "-1", "2.50"),
        ("RUNNER_AGENT_TIMEOUT", "0s", "1h30m"),
        ("RUNNER_AGENT_ATTEMPTS", "101", "1..=100"),
        ("RUNNER_AGENT_KILL_GRACE", "soon", "1h30m"),
        ("RUNNER_AGENT_ENV", "OK,RUNNER_TASK_TOKEN", "names of variables"),
        ("RUNNER_AGENT_ENV", "A=b", "names of variables"),
        ("RUNNER_AGENT_ENV", "OTEL_EXPORTER_OTLP_HEADERS", "names of variables"),
        (
            "RUNNER_AGENT_ENV",
            "OTEL_EXPORTER_OTLP_LOGS_HEADERS",
            "names of variables",
        ),
        ("RUNNER_AGENT_PORTS", "https", "1 to 65535"),
        ("RUNNER_REPO_CONFIG", "yes", "instructions, none, trust"),
        ("RUNNER_REPO_CONFIG", "", "instructions, none, trust"),
        ("RUNNER_ON_TERM", "ignore", "report, park"),
        ("RUNNER_TERM_GRACE", "1 fortnight", "1h30m"),
        ("RUNNER_NO_CHANGES", "maybe", "fail, complete"),
        ("RUNNER_SANDBOX", "on", "require, prefer, off"),
        ("RUNNER_SANDBOX", "", "require, prefer, off"),
        ("RUNNER_MAX_BOOTS", "0", "1..=1000"),
        ("RUNNER_LOG", "a=b=c", "error, warn, info, debug, trace"),
        ("RUNNER_LOG_FORMAT", "xml", "json, pretty"),
        ("RUNNER_STATE_DIR", "", "a value is required"),
        ("RUNNER_JOURNAL", "", "a value is required"),
        ("RUNNER_CA_FILE", "", "a value is required"),
        ("RUNNER_SEAL_KEY_FILE", "", "a value is required"),
    ] {
        let place = Place::new();
        let (code, stdout, stderr) = place.run(&["serve"], &[(name, value)]);
        let case = format!("{name}={value:?}: {stderr}");
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{case}");
        assert!(stderr.starts_with("error: "), "{case}");
        assert!(
            stderr.contains(name) && stderr.contains(&format!("{value:?}")),
            "{case}"
        );
        let refused = value.split(',').next_back().unwrap();
        assert!(refused.is_empty() || stderr.contains(&format!("'{refused}'")), "{case}");
        assert!(stderr.contains(allowed), "{case}");
        assert!(place.is_untouched(), "{case}");
    }
}

#[test]
fn what_a_setting_names_and_cannot_be_used_is_exit_2_and_nothing_is_made() {
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("file");
    std::fs::write(&file, "no directory, no certificate").unwrap();
    let (file, below) = (file.display().to_string(), format!("{}/below/it", file.display()));
    let missing = elsewhere.path().join("missing").display().to_string();
    for (name, value, why) in [
        ("RUNNER_STATE_DIR", &file, "cannot be written"),
        ("RUNNER_STATE_DIR", &below, "cannot be written"),
        ("RUNNER_SECRETS_DIR", &file, "cannot be written"),
        ("RUNNER_WORKSPACE", &below, "cannot be written"),
        ("RUNNER_CA_FILE", &missing, "cannot be read"),
        ("RUNNER_CA_FILE", &file, "has no certificate"),
        ("RUNNER_API_TOKEN_FILE", &missing, "cannot be read"),
        ("RUNNER_TASK_TOKEN_FILE", &missing, "cannot be read"),
        ("RUNNER_INSTRUCTIONS_FILE", &missing, "cannot be read"),
    ] {
        let place = Place::new();
        let (code, _, stderr) = place.run(&["serve"], &[(name, value)]);
        assert_eq!(code, Some(2), "{name}={value}: {stderr}");
        assert!(
            stderr.contains(value.as_str()) && stderr.contains(why),
            "{name}={value}: {stderr}"
        );
        assert!(stderr.contains(name), "{name}={value}: {stderr}");
        assert!(place.is_untouched(), "{name}={value}: {stderr}");
    }
    for (name, value) in [
        ("RUNNER_TASK_TOKEN", " "),
        ("RUNNER_TASK_TOKEN", ""),
        ("RUNNER_TASK_TOKEN_FILE", ""),
    ] {
        let place = Place::new();
        let (code, _, stderr) = place.run(&["serve"], &[(name, value)]);
        assert_eq!(code, Some(2), "an empty token opens nothing: {stderr}");
        assert!(
            stderr.contains(&format!("{name} is empty")) && place.is_untouched(),
            "{stderr}"
        );
    }
    let place = Place::new();
    let (code, _, stderr) = place.run(&["serve"], &[("RUNNER_AGENT_COMMAND", "")]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(
        stderr.contains("RUNNER_AGENT_COMMAND") && place.is_untouched(),
        "{stderr}"
    );
}

/// What a refused seal key is told by: the setting, the file, what is wrong, and the way out.
fn refuses_the_seal_key(place: &Place, arguments: &[&str], settings: &[(&str, &str)], file: &Path, why: &[&str]) {
    let file = file.to_str().unwrap();
    let mut settings = settings.to_vec();
    settings.push(("RUNNER_SEAL_KEY_FILE", file));
    let (code, stdout, stderr) = place.run(arguments, &settings);
    let case = format!("{arguments:?} {file}: {stderr}");
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{case}");
    for part in ["RUNNER_SEAL_KEY_FILE", file].iter().chain(why) {
        assert!(stderr.contains(part), "{part:?} is not in {case}");
    }
    for name in ["state", "secrets", "home"] {
        assert!(!place.path(name).exists(), "{name} was made: {case}");
    }
}

#[test]
fn a_seal_key_file_without_a_key_is_exit_2_and_nothing_is_made() {
    let elsewhere = tempfile::tempdir().unwrap();
    let path = |name: &str| elsewhere.path().join(name);
    let file = |name: &str, content: &[u8]| {
        std::fs::write(path(name), content).unwrap();
        path(name)
    };
    nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    std::os::unix::fs::symlink(path("nowhere"), path("dangling")).unwrap();
    for (key, why) in [
        (file("empty", b""), "which has 0 bytes of key"),
        (file("short", &[b'k'; 31]), "which has 31 bytes of key"),
        (file("blank", &[b' '; 64]), "which has 0 bytes of key"),
        (file("long", &[b'k'; 4097]), "which has more than 4096 bytes"),
        (path("missing"), "which cannot be read"),
        (path("dangling"), "which cannot be read"),
        (path("fifo"), "which is not a regular file"),
        (elsewhere.path().to_owned(), "which is not a regular file"),
        ("/dev/zero".into(), "which is not a regular file"),
    ] {
        let place = Place::new();
        let out = "head -c 32 /dev/urandom | base64 > FILE";
        refuses_the_seal_key(&place, &["serve"], &[], &key, &[why, out]);
        refuses_the_seal_key(&place, &["demo"], &[], &key, &[why, out]);
        let run = ["run", "--repo", ".", "--task", "x"];
        refuses_the_seal_key(&place, &run, &[], &key, &[why, out]);
    }
}

#[test]
fn a_seal_key_where_it_is_no_secret_is_exit_2_and_nothing_is_made() {
    let place = Place::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let key = |path: PathBuf| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, [b'k'; 32]).unwrap();
        path
    };
    let link = |to: &Path, at: PathBuf| {
        std::os::unix::fs::symlink(to, &at).unwrap();
        at
    };
    let (workspace, tools) = (place.path("workspace"), elsewhere.path().join("tools"));
    let good = key(elsewhere.path().join("key"));
    let in_workspace = key(workspace.join("below/key"));
    let cases = [
        (in_workspace.clone(), &workspace, "which the agent may read"),
        (
            link(&good, workspace.join("link")),
            &workspace,
            "which the agent may read",
        ),
        (
            link(&in_workspace, elsewhere.path().join("link")),
            &workspace,
            "which the agent may read",
        ),
        (key(tools.join("key")), &tools, "which the agent may read"),
    ];
    let path = format!("{}:{}", std::env::var("PATH").unwrap(), tools.display());
    for (file, around, why) in &cases {
        let why = [around.to_str().unwrap(), why, "/run/secrets/"];
        refuses_the_seal_key(&place, &["serve"], &[("PATH", &path)], file, &why);
    }
    // Beside what it seals it is no secret, whatever the sandbox.
    let state = elsewhere.path().join("state");
    let beside = key(state.join("key"));
    for sandbox in ["require", "prefer", "off"] {
        let settings = [
            ("RUNNER_STATE_DIR", state.to_str().unwrap()),
            ("RUNNER_SANDBOX", sandbox),
        ];
        let why = [state.to_str().unwrap(), "beside what it seals", "/run/secrets/"];
        refuses_the_seal_key(&place, &["serve"], &settings, &beside, &why);
    }
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sandbox_the_agent_reads_everything_and_the_seal_key_may_lie_anywhere_but_beside_the_seal() {
    let place = Place::new();
    std::fs::create_dir(place.path("workspace")).unwrap();
    let key = place.path("workspace/key");
    std::fs::write(&key, [b'k'; 32]).unwrap();
    let settings = [
        ("RUNNER_SEAL_KEY_FILE", key.to_str().unwrap()),
        ("RUNNER_SANDBOX", "off"),
    ];
    place.listens(&["serve"], &settings).await;
}

#[test]
fn a_directory_of_secrets_that_the_agent_may_read_is_exit_2_before_a_task_is_taken() {
    for name in ["RUNNER_STATE_DIR", "RUNNER_SECRETS_DIR", "RUNNER_JOURNAL"] {
        let place = Place::new();
        let open = place.path("workspace/it");
        let (code, _, stderr) = place.run(&["serve"], &[(name, open.to_str().unwrap())]);
        assert_eq!(code, Some(2), "{stderr}");
        for part in [name, open.to_str().unwrap(), "which the agent may read"] {
            assert!(stderr.contains(part), "{part} is not in {stderr}");
        }
        assert!(place.is_untouched(), "{stderr}");
    }
}

#[test]
fn an_address_that_is_taken_is_exit_2_and_nothing_is_made() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = Place::new();
    let (code, _, stderr) = place.run(&["serve"], &[("RUNNER_LISTEN", &address)]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains(&format!("failed to listen on {address}")), "{stderr}");
    assert!(stderr.contains("hint: name another address with --listen"), "{stderr}");
    assert!(place.is_untouched(), "{stderr}");
}

#[test]
fn a_flag_is_named_as_the_flag_that_it_is_and_counts_before_the_variable() {
    let place = Place::new();
    let (code, _, stderr) = place.run(
        &["serve", "--agent-timeout", "never"],
        &[("RUNNER_AGENT_TIMEOUT", "1m")],
    );
    assert_eq!(code, Some(2));
    assert!(stderr.contains("'never' for '--agent-timeout <DURATION>'"), "{stderr}");
    assert!(!stderr.contains("environment"), "{stderr}");
    assert!(place.is_untouched());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_value_is_nothing_where_nothing_has_a_meaning() {
    let empty = [
        ("RUNNER_LOG", ""),
        ("RUNNER_AGENT_ENV", ""),
        ("RUNNER_AGENT_MODEL", ""),
        ("RUNNER_AGENT_PORTS", ""),
        ("RUNNER_BRANCH_PREFIX", ""),
        ("RUNNER_ALLOW_HTTP", ""),
        ("RUNNER_PR_DRAFT", ""),
    ];
    let place = Place::new();
    let log = place.listens(&["serve"], &empty).await;
    assert_eq!(warnings(&log), [""; 0], "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn runner_alone_is_runner_serve_and_its_directories_are_its_own() {
    let place = Place::new();
    std::fs::create_dir(place.path("state")).unwrap();
    std::fs::set_permissions(place.path("state"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let log = place.listens(&[], &[]).await;
    assert!(log.contains("listening on 127.0.0.1:"), "{log}");
    let log = place.listens(&["--sandbox", "off", "--log-format=pretty"], &[]).await;
    assert!(
        log.contains("listening on 127.0.0.1:"),
        "flags alone are runner serve too: {log}"
    );
    for name in ["state", "secrets"] {
        let mode = std::fs::metadata(place.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
    let mode = std::fs::metadata(place.path("state/journal.db"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_is_not_known_is_warned_of_with_the_nearest_one() {
    let place = Place::new();
    let log = place
        .listens(
            &["serve"],
            &[
                ("RUNNER_AGENT_TIMEOT", "3m"),
                ("RUNNER_QQQQQQQQQQQQQQQQQQQ", "x"),
                ("RUNNERS", "x"),
            ],
        )
        .await;
    assert_eq!(warnings(&log).len(), 2, "{log}");
    assert!(
        log.contains("RUNNER_AGENT_TIMEOT is not a setting of this runner; did you mean RUNNER_AGENT_TIMEOUT?"),
        "{log}"
    );
    assert!(
        log.contains("RUNNER_QQQQQQQQQQQQQQQQQQQ is not a setting of this runner\""),
        "{log}"
    );
}

#[test]
fn the_help_of_each_command_has_an_example_and_the_version_its_commit() {
    let place = Place::new();
    for command in [
        &["--help"][..],
        &["serve", "--help"],
        &["run", "--help"],
        &["demo", "--help"],
        &["journal", "--help"],
        &["journal", "dump", "--help"],
        &["journal", "verify", "--help"],
        &["doctor", "--help"],
    ] {
        let (code, stdout, stderr) = place.run(command, &[]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{command:?}");
        let examples = stdout
            .split_once("Example")
            .unwrap_or_else(|| panic!("{command:?}: {stdout}"))
            .1;
        assert!(examples.contains("runner "), "{command:?}: {examples}");
    }
    let (code, stdout, _) = place.run(&["--version"], &[]);
    assert_eq!(code, Some(0));
    let rest = stdout
        .strip_prefix(concat!("runner ", env!("CARGO_PKG_VERSION"), " ("))
        .unwrap();
    let commit = rest.strip_suffix(")\n").unwrap();
    assert!(
        commit == "commit unknown" || commit.bytes().all(|b| b.is_ascii_hexdigit()),
        "{stdout}"
    );
    for unknown in [
        &["bogus"][..],
        &["serve", "--bogus"],
        &["journal"],
        &["journal", "bogus"],
    ] {
        assert_eq!(place.run(unknown, &[]).0, Some(2), "{unknown:?}");
    }
    assert!(place.is_untouched());
}
