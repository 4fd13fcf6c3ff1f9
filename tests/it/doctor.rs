//! `runner doctor`: what it finds, what it leaves alone, and its health check. And what `serve` says will not survive.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{RUNNER, Serving, as_somebody, copy_of_the_program};

/// Directories that a runner would use, where nothing is yet.
struct Place {
    room: TempDir,
    settings: Vec<(&'static str, String)>,
}

impl Place {
    fn new() -> Self {
        let room = tempfile::tempdir().unwrap();
        let path = |name: &str| room.path().join(name).display().to_string();
        let settings = vec![
            ("PATH", std::env::var("PATH").unwrap()),
            ("RUNNER_LISTEN", "127.0.0.1:0".to_owned()),
            ("RUNNER_STATE_DIR", path("state")),
            ("RUNNER_SECRETS_DIR", path("secrets")),
            ("RUNNER_WORKSPACE", path("workspace")),
            ("RUNNER_AGENT", "command".to_owned()),
            ("RUNNER_AGENT_COMMAND", "true".to_owned()),
            ("RUNNER_SANDBOX", "prefer".to_owned()),
        ];
        Self { room, settings }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.push((name, value.into()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    fn settled(&self, mut command: Command, arguments: &[&str]) -> Command {
        command
            .args(arguments)
            .current_dir("/")
            .env_clear()
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.settled(Command::new(RUNNER), arguments)
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        said(self.command(arguments).output().unwrap())
    }

    /// `doctor --json`: its exit code and its checks by name.
    fn checks(&self) -> (Option<i32>, Checks) {
        checks(self.command(&["doctor", "--json"]))
    }

    fn serve(&self) -> Serving {
        let mut command = self.command(&["serve"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Serving::spawn(command)
    }
}

fn said(output: Output) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = output;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// The checks of a report, in their order.
struct Checks(Vec<Value>);

impl Checks {
    fn names(&self) -> Vec<&str> {
        self.0.iter().map(|check| check["name"].as_str().unwrap()).collect()
    }

    fn status(&self, name: &str) -> &str {
        self.get(name)["status"].as_str().unwrap()
    }

    fn get(&self, name: &str) -> &Value {
        let found = self.0.iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {:?}", self.names()))
    }

    /// One field of one check has this in it.
    fn says(&self, name: &str, field: &str, text: &str) {
        let check = self.get(name);
        let said = check[field].as_str();
        assert!(said.is_some_and(|said| said.contains(text)), "{text:?}: {check}");
    }

    fn failed(&self) -> Vec<&str> {
        self.names()
            .into_iter()
            .filter(|name| self.status(name) == "fail")
            .collect()
    }
}

fn checks(mut command: Command) -> (Option<i32>, Checks) {
    let (code, stdout, stderr) = said(command.output().unwrap());
    assert_eq!(stderr, "", "what it finds is on standard output");
    let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}"));
    let fields: Vec<&String> = report.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["checks", "ok", "version"], "{report}");
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["ok"], code == Some(0), "{report}");
    let Value::Array(list) = &report["checks"] else {
        panic!("no checks: {report}");
    };
    for check in list {
        let status = check["status"].as_str().unwrap();
        assert!(["ok", "warn", "fail"].contains(&status), "{check}");
        assert!(
            check["found"].as_str().is_some_and(|found| !found.is_empty()),
            "{check}"
        );
        assert_eq!(
            check.get("hint").is_some(),
            status != "ok",
            "a way out where one is needed: {check}"
        );
    }
    (code, Checks(list.clone()))
}

/// Every file and directory below one, with what changes when it is touched.
fn listing(dir: &Path) -> BTreeMap<PathBuf, (u32, u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(path) = open.pop() {
        let is = std::fs::symlink_metadata(&path).unwrap();
        if is.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(path, (is.mode(), is.len(), is.mtime(), is.mtime_nsec()));
    }
    found
}

/// A directory with links to some programs alone.
fn programs(room: &Path, names: &[&str]) -> String {
    let bin = room.join("bin");
    std::fs::create_dir(&bin).unwrap();
    for name in names {
        std::os::unix::fs::symlink(which::which(name).unwrap(), bin.join(name)).unwrap();
    }
    bin.display().to_string()
}

/// A program that is a script. By a process of its own: see [`copy_of_the_program`].
fn script_at(program: &Path, script: &str) {
    let written = Command::new("sh")
        .args(["-c", "printf '#!/bin/sh\n%s\n' \"$1\" > \"$0\" && chmod 755 \"$0\""])
        .arg(program)
        .arg(script)
        .status();
    assert!(written.unwrap().success());
}

#[test]
fn a_machine_that_lacks_nothing_is_exit_0_with_every_check_by_name_and_nothing_is_made() {
    let place = Place::new();
    let (code, checks) = place.checks();
    assert_eq!((code, checks.failed()), (Some(0), vec![]));
    assert_eq!(
        checks.names(),
        [
            "git",
            "agent",
            "sandbox",
            "user",
            "hardening",
            "pid1",
            "limits",
            "state",
            "secrets",
            "workspace",
            "seal_key",
            "certificates",
            "clock",
            "listen"
        ]
    );
    checks.says("git", "found", "git version 2.");
    checks.says("state", "found", "can be made");
    checks.says("state", "found", "free");
    checks.says("certificates", "found", "roots of the system");
    checks.says("listen", "found", "127.0.0.1:0 is free");
    assert_eq!(listing(place.room.path()).len(), 1, "no directory was made");

    let (code, stdout, stderr) = place.run(&["doctor"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(
        !stdout.contains('\u{1b}'),
        "no colour where there is no terminal: {stdout}"
    );
    assert!(stdout.starts_with("✓ git           git version "), "{stdout}");
    assert!(stdout.trim_end().ends_with(", 0 failed"), "{stdout}");
}

#[test]
fn without_git_or_claude_it_is_exit_1_and_each_is_named_with_the_way_out() {
    let place = Place::new();
    let bin = programs(place.room.path(), &[]);
    let place = place.with("PATH", bin).with("RUNNER_AGENT", "claude");
    let (code, checks) = place.checks();
    assert_eq!((code, checks.failed()), (Some(1), vec!["git", "agent"]));
    checks.says("git", "found", "git is not in PATH");
    checks.says("git", "hint", "install git 2.39 or newer");
    checks.says("agent", "found", "claude is not in PATH");
    checks.says("agent", "hint", "@anthropic-ai/claude-code");
    assert_eq!(checks.status("model_key"), "warn");

    let (code, stdout, _) = place.run(&["doctor"]);
    assert_eq!(code, Some(1));
    assert!(stdout.contains("✗ git           git is not in PATH\n"), "{stdout}");
    assert!(stdout.contains("\n                hint: install git"), "{stdout}");
}

#[test]
fn a_program_is_asked_for_its_version_without_our_environment_and_an_old_git_fails() {
    let place = Place::new();
    let bin = place.path("bin");
    std::fs::create_dir(&bin).unwrap();
    for (name, script) in [
        ("git", "echo 'git version 2.38.4'"),
        (
            "claude",
            "echo \"9.9.9 (Claude Code) [$ANTHROPIC_API_KEY$RUNNER_AGENT]\"",
        ),
    ] {
        script_at(&bin.join(name), script);
    }
    let place = place
        .with("PATH", bin.display().to_string())
        .with("RUNNER_AGENT", "claude")
        .with("ANTHROPIC_API_KEY", "canary");
    let (code, checks) = place.checks();
    assert_eq!((code, checks.failed()), (Some(1), vec!["git"]));
    checks.says("git", "found", "2.38.4");
    checks.says("agent", "found", "9.9.9 (Claude Code) []");
    checks.says(
        "model_key",
        "found",
        "ANTHROPIC_API_KEY set; the runner keeps it, and the agent reaches https://api.anthropic.com/ through it",
    );
}

#[test]
fn a_setting_that_cannot_be_used_is_exit_2_and_one_that_is_not_known_is_warned_of() {
    let place = Place::new().with("RUNNER_CA_FILE", "/no/such/file");
    let (code, stdout, stderr) = place.run(&["doctor"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
    assert!(stderr.contains("RUNNER_CA_FILE"), "{stderr}");
    let place = Place::new().with("RUNNER_STATE_DIRR", "/x");
    let (code, _, stderr) = place.run(&["doctor"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("did you mean RUNNER_STATE_DIR?"), "{stderr}");
    assert_eq!(place.run(&["doctor", "--json", "--live"]).0, Some(2));
}

#[test]
fn roots_that_cannot_be_used_fail() {
    let place = Place::new();
    let file = place.path("ca.pem");
    std::fs::write(&file, "no certificate").unwrap();
    let (code, checks) = place.with("RUNNER_CA_FILE", file.display().to_string()).checks();
    assert_eq!((code, checks.failed()), (Some(1), vec!["certificates"]));
    checks.says("certificates", "found", "has no certificate");
    // None at all: the system's are where this variable says.
    let (code, checks) = Place::new().with("SSL_CERT_FILE", "/dev/null").checks();
    assert_eq!((code, checks.failed()), (Some(1), vec!["certificates"]));
    checks.says("certificates", "found", "0 roots of the system");
}

#[test]
fn directories_that_somebody_else_has_fail_and_nothing_in_them_is_touched() {
    let place = Place::new();
    for (name, mode) in [("state", 0o700), ("secrets", 0o755), ("workspace", 0o500)] {
        std::fs::create_dir(place.path(name)).unwrap();
        std::fs::set_permissions(place.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let program = place.path("runner");
    copy_of_the_program(&program);
    std::fs::set_permissions(place.room.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let before = listing(place.room.path());
    let (code, checks) = checks(place.settled(as_somebody(&program), &["doctor", "--json"]));
    if nix::unistd::geteuid().is_root() {
        assert_eq!(
            (code, checks.failed()),
            (Some(1), vec!["state", "secrets", "workspace"]),
        );
        checks.says("state", "found", "cannot be written");
        checks.says("state", "hint", "uid 1001");
        assert_eq!(checks.status("user"), "ok");
    } else {
        // One's own directories are in order but for the one that may not be written.
        assert_eq!((code, checks.failed()), (Some(1), vec!["workspace"]));
    }
    assert_eq!(listing(place.room.path()), before);
}

#[test]
fn where_an_archive_cannot_go_is_a_warning_and_an_address_is_told_by_its_host() {
    let (_, checks) = Place::new().checks();
    assert!(!checks.names().contains(&"archive"));

    for (name, status) in [("archive", "ok"), ("absent", "warn"), ("file", "warn")] {
        let place = Place::new();
        std::fs::create_dir(place.path("archive")).unwrap();
        std::fs::write(place.path("file"), "").unwrap();
        let folder = format!("file://{}", place.path(name).display());
        let (code, checks) = place.with("RUNNER_ARCHIVE_URL", folder).checks();
        assert_eq!((code, checks.status("archive")), (Some(0), status), "{name}");
        if status == "ok" {
            checks.says("archive", "found", "free");
        } else {
            checks.says("archive", "found", "no archive would be kept");
            checks.says("archive", "hint", "mount a folder");
        }
    }

    let address = "https://user:hunter2@store.example/bucket/?sig=hunter2";
    let (_, checks) = Place::new().with("RUNNER_ARCHIVE_URL", address).checks();
    checks.says("archive", "found", "store.example");
    assert!(!checks.get("archive").to_string().contains("hunter2"));
}

#[test]
fn a_directory_below_a_file_and_one_in_the_agents_reach_fail() {
    let place = Place::new();
    let file = place.path("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("state").display().to_string();
    let exposed = place.path("workspace/repo/secrets").display().to_string();
    let place = place
        .with("RUNNER_STATE_DIR", below)
        .with("RUNNER_SECRETS_DIR", exposed);
    let (code, checks) = place.checks();
    assert_eq!(code, Some(1));
    checks.says("state", "found", "RUNNER_STATE_DIR");
    assert_eq!(checks.status("state"), "fail");
    // Where there is no sandbox at all, nothing is hidden.
    if checks.status("sandbox") != "warn" {
        checks.says("sandbox", "found", "which the agent may read");
    }
}

/// A directory on a tmpfs, of a test's own.
fn on_tmpfs() -> TempDir {
    tempfile::tempdir_in("/dev/shm").expect("/dev/shm is a tmpfs that can be written")
}

#[test]
fn secrets_on_a_tmpfs_are_said_not_to_survive_with_the_way_out() {
    let shm = on_tmpfs();
    let place = Place::new()
        .with("RUNNER_SECRETS_DIR", shm.path().join("secrets").display().to_string())
        // /dev/shm is in the agent's reach: with a sandbox that is refused.
        .with("RUNNER_SANDBOX", "off");
    let (code, checks) = place.checks();
    assert_eq!((code, checks.failed()), (Some(0), vec![]));
    assert_eq!(checks.status("secrets"), "warn");
    checks.says("secrets", "found", "the one-time token will not survive a restart");
    checks.says("secrets", "found", "TokenLost");
    checks.says("secrets", "hint", "RUNNER_SEAL_KEY_FILE");
    assert_eq!(listing(shm.path()).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_says_beforehand_what_will_not_survive_and_says_nothing_of_a_disk() {
    let shm = on_tmpfs();
    let secrets = shm.path().join("secrets").display().to_string();
    let place = Place::new().with("RUNNER_SECRETS_DIR", &secrets);
    let mut serving = place.serve();
    let line = serving.line_with("will not survive").await.expect("a warning");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "WARN", "{line}");
    assert_eq!(line["setting"], "RUNNER_SECRETS_DIR", "{line}");
    assert_eq!(line["directory"], secrets.as_str(), "{line}");
    assert_eq!(line["survives"], "nothing", "{line}");
    let message = line["message"].as_str().unwrap();
    assert!(
        message.starts_with("the one-time token will not survive a restart of this "),
        "{message}"
    );
    assert!(
        message.contains(&format!(
            ": RUNNER_SECRETS_DIR {secrets} is a tmpfs; a task that has its token then fails with TokenLost; "
        )),
        "{message}"
    );
    assert!(message.ends_with(", or set RUNNER_SEAL_KEY_FILE"), "{message}");
    assert!(serving.line_with("started").await.is_some(), "{}", serving.log());
    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
    let log = serving.log();
    let about = |name: &str| {
        log.lines()
            .filter(|line| line.contains("will not survive") && line.contains(name))
            .count()
    };
    assert_eq!(about("RUNNER_SECRETS_DIR"), 1, "{log}");
    // The others are in the temporary directory, which is on a disk or on memory.
    let temporary = nix::sys::statfs::statfs(place.room.path()).unwrap().filesystem_type();
    let on_memory = temporary == nix::sys::statfs::TMPFS_MAGIC;
    assert_eq!(about("RUNNER_STATE_DIR"), usize::from(on_memory), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_serves_is_alive_and_its_doctor_finds_it_and_touches_nothing() {
    let place = Place::new();
    let mut serving = place.serve();
    let address = serving.address().await.unwrap();
    let listen = address.trim_start_matches("http://").to_owned();
    let port = listen.rsplit(':').next().unwrap().to_owned();
    serving.line_with("started").await.unwrap();
    // No proxy is asked, and a variable that is not known is no news every few seconds.
    let mut live = place.command(&["doctor", "--live"]);
    live.env("RUNNER_LISTEN", format!("0.0.0.0:{port}"))
        .env("http_proxy", "http://127.0.0.1:9")
        .env("RUNNER_UNKNOWN", "x");
    assert_eq!(said(live.output().unwrap()), (Some(0), String::new(), String::new()));

    let place = place.with("RUNNER_LISTEN", &listen);
    let before = listing(place.room.path());
    let (code, checks) = place.checks();
    assert_eq!((code, checks.failed()), (Some(0), vec![]));
    checks.says("listen", "found", "a runner serves there already");
    checks.says("state", "found", "0700");
    assert_eq!(listing(place.room.path()), before);

    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
    let (code, stdout, stderr) = place.run(&["doctor", "--live"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains(&format!("http://{listen}/healthz")) && stderr.contains("Connection refused"),
        "{stderr}"
    );
}

#[test]
fn an_address_that_something_else_has_fails() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    // What takes the question and hangs up.
    let peer = std::thread::spawn(move || drop(taken.accept().unwrap()));
    let (code, checks) = Place::new().with("RUNNER_LISTEN", address.to_string()).checks();
    peer.join().unwrap();
    assert_eq!((code, checks.failed()), (Some(1), vec!["listen"]));
    checks.says("listen", "found", &format!("{address} is taken"));
    checks.says("listen", "hint", "RUNNER_LISTEN");
}

/// A peer on the loopback that says this to everybody and keeps what it was asked.
fn peer(says: &'static str) -> (String, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked: std::sync::Arc<std::sync::Mutex<Vec<String>>> = std::sync::Arc::default();
    let keeps = std::sync::Arc::clone(&asked);
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let read = std::io::Read::read(&mut stream, &mut head).unwrap();
            keeps
                .lock()
                .unwrap()
                .push(String::from_utf8_lossy(&head[..read]).into_owned());
            std::io::Write::write_all(&mut stream, says.as_bytes()).unwrap();
            if says.is_empty() {
                // It never answers, and holds on.
                while std::io::Read::read(&mut stream, &mut head).is_ok_and(|read| read > 0) {}
            }
        }
    });
    (address, asked)
}

#[test]
fn an_api_and_a_repository_are_asked_where_they_are_named_and_are_sent_nothing_but_a_get() {
    let (api, api_asked) = peer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let (repo, repo_asked) = peer("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
    let place = Place::new()
        .with("GITHUB_TOKEN", "ghs_canary")
        .with("RUNNER_TASK_TOKEN", "canary-of-the-task");
    let (code, found) = checks(place.command(&[
        "doctor",
        "--json",
        "--api",
        &format!("http://{api}/base"),
        "--repo",
        &format!("http://{repo}/o/r"),
    ]));
    assert_eq!(code, Some(0));
    found.says("api", "found", "answers 404 Not Found");
    found.says("repo", "found", "answers 401 Unauthorized");
    for (asked, line) in [
        (api_asked, "GET /base HTTP/1.1"),
        (repo_asked, "GET /o/r/info/refs?service=git-upload-pack HTTP/1.1"),
    ] {
        let asked = asked.lock().unwrap().clone();
        assert_eq!(asked.len(), 1);
        assert!(asked[0].starts_with(line), "{asked:?}");
        let lower = asked[0].to_lowercase();
        assert!(
            !lower.contains("canary") && !lower.contains("authorization"),
            "{asked:?}"
        );
    }
}

#[test]
fn a_peer_that_is_not_there_or_redirects_or_says_nothing_is_told_apart() {
    let place = Place::new();
    let (elsewhere, _) = peer("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n");
    let (silent, _) = peer("");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let begun = std::time::Instant::now();
    let (code, found) = checks(place.command(&[
        "doctor",
        "--json",
        "--api",
        &format!("http://{elsewhere}"),
        "--repo",
        &format!("http://{silent}/o/r"),
    ]));
    assert_eq!((code, found.failed()), (Some(1), vec!["repo"]));
    assert_eq!(found.status("api"), "warn");
    found.says("api", "hint", "redirects are not followed");
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    let (code, found) = checks(place.command(&["doctor", "--json", "--api", &format!("http://{nobody}")]));
    assert_eq!((code, found.failed()), (Some(1), vec!["api"]));
    for bad in [
        ["--api", "ftp://x"],
        ["--repo", "ext::sh -c id"],
        ["--repo", "https://169.254.169.254/o/r"],
    ] {
        let (code, _, stderr) = place.run(&["doctor", bad[0], bad[1]]);
        assert_eq!(code, Some(2), "{bad:?}: {stderr}");
    }
}
