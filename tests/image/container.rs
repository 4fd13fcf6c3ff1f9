//! One container of the image: made, started, killed and looked into by podman.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::outside::{NEVER, Outside, client};

/// How often something is looked at that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Says that it is there, leaves a process in a session of its own behind it, and ends only at its second start. What
/// runs beside it, it writes down.
pub(crate) const INTERRUPTED_AGENT: &str = "cat > /dev/null; echo run >> \"$HOME/runs\"; \
     all() { for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done 2> /dev/null; }; \
     all > \"$HOME/beside-$(wc -l < \"$HOME/runs\")\"; \
     if [ \"$(wc -l < \"$HOME/runs\")\" = 1 ]; then \
       setsid sleep 7777 & sleep 0.1; all > \"$HOME/own\"; : > \"$HOME/there\"; sleep 8888; fi; \
     echo change >> change.txt";

/// The image under test.
pub(crate) fn image() -> String {
    named_by("RUNNER_TEST_IMAGE")
}

/// The same with what an Actions runner needs.
pub(crate) fn actions_image() -> String {
    named_by("RUNNER_TEST_IMAGE_ACTIONS")
}

/// An image that `.ci/image` builds and names in this variable.
pub(crate) fn named_by(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} names no image: `bash .ci/image` builds one and runs these tests"))
}

/// A shell's command line in a container of its own, as it is deployed: read-only, without capabilities or a network, and with
/// an empty home that the group may write.
pub(crate) fn hardened(image: &str, user: &str, command: &str) -> String {
    let home = tempfile::tempdir().unwrap();
    chown(home.path(), Some(0), Some(1001)).unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o2770)).unwrap();
    podman_prints(&[
        "run",
        "--rm",
        "--network=none",
        "--read-only",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        "--pids-limit=512",
        "--memory=2g",
        &format!("--user={user}"),
        &format!("--volume={}:/home/runner", home.path().display()),
        "--entrypoint=bash",
        image,
        "-euc",
        command,
    ])
}

/// podman with these arguments, to its end.
pub(crate) fn podman(arguments: &[&str]) -> Output {
    Command::new("podman").args(arguments).output().unwrap()
}

/// The same where it has to succeed: what it printed.
pub(crate) fn podman_prints(arguments: &[&str]) -> String {
    let output = podman(arguments);
    assert!(output.status.success(), "podman {arguments:?}: {}", both(&output));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// What a program printed, on both ways.
pub(crate) fn both(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Where one of the runner's directories comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A volume that outlives the container, of the container's user.
    Volume,
    /// A tmpfs of the container's: empty again at each of its starts.
    Tmpfs,
    /// Nothing is mounted here: a test has its own.
    None,
}

/// What a container is made from.
pub(crate) struct Plan {
    image: String,
    /// As `--user` has it.
    pub(crate) user: &'static str,
    /// Who owns the volumes, with which mode.
    pub(crate) owner: (u32, u32, u32),
    pub(crate) state: Place,
    pub(crate) secrets: Place,
    /// Further arguments of `podman create`.
    pub(crate) arguments: Vec<String>,
    env: Vec<(String, String)>,
}

impl Plan {
    /// As the documentation recommends it: read-only, without capabilities, without new privileges, with limits.
    pub(crate) fn hardened(outside: &Outside) -> Self {
        let forge = outside.forge.listening().base();
        Self {
            image: image(),
            user: "1001:1001",
            owner: (1001, 1001, 0o700),
            state: Place::Volume,
            secrets: Place::Volume,
            arguments: Vec::new(),
            env: Vec::new(),
        }
        .with("RUNNER_GITHUB_API_URL", &forge)
        .with("RUNNER_AGENT_KILL_GRACE", "500ms")
    }

    /// With an agent that is a shell's command line.
    #[must_use]
    pub(crate) fn with_command(self, command: &str) -> Self {
        self.with("RUNNER_AGENT", "command")
            .with("RUNNER_AGENT_COMMAND", command)
    }

    /// Of another image than the one under test.
    #[must_use]
    pub(crate) fn of(mut self, image: String) -> Self {
        self.image = image;
        self
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub(crate) fn and(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// With a seal key, on a volume of its own.
    #[must_use]
    pub(crate) fn with_seal_key(self) -> Self {
        self.with("RUNNER_SEAL_KEY_FILE", "/run/secrets/seal-key")
    }

    /// Makes the container, starts it, and assigns the task to it.
    pub(crate) async fn assigned(self, outside: &Outside) -> Container {
        let container = self.create();
        container.start();
        container.assign(outside).await;
        container
    }

    /// The same, and waits until the agent, which is to be [`INTERRUPTED_AGENT`] or one that says it alike, is at work.
    pub(crate) async fn in_mid_agent(self, outside: &Outside) -> Container {
        let container = self.assigned(outside).await;
        container
            .until("the agent is at work", |c| c.path("workspace/home/there").exists())
            .await;
        container
    }

    /// Makes the container. It is not started.
    pub(crate) fn create(self) -> Container {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!(
            "runner-test-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let address = free_address();
        let (uid, gid, mode) = self.owner;
        let mut arguments: Vec<String> = [
            "create",
            "--name",
            &name,
            "--network=host",
            "--read-only",
            "--cap-drop=all",
            "--security-opt=no-new-privileges",
            "--pids-limit=512",
            "--memory=2g",
            "--user",
            self.user,
        ]
        .map(str::to_owned)
        .to_vec();
        for (place, source, target) in [
            (self.state, "state", "/var/lib/runner"),
            (self.secrets, "secrets", "/run/runner"),
            (Place::Volume, "workspace", "/workspace"),
        ] {
            match place {
                Place::Volume => {
                    let source = dir.path().join(source);
                    fs::create_dir(&source).unwrap();
                    chown(&source, Some(uid), Some(gid)).unwrap();
                    fs::set_permissions(&source, Permissions::from_mode(mode)).unwrap();
                    arguments.push(format!("--volume={}:{target}", source.display()));
                }
                Place::Tmpfs => arguments.push(format!("--mount=type=tmpfs,destination={target},U=true")),
                Place::None => {}
            }
        }
        if self.env.iter().any(|(name, _)| name == "RUNNER_SEAL_KEY_FILE") {
            let key = dir.path().join("seal-key");
            fs::write(&key, "a seal key of this test, and of nobody else\n").unwrap();
            chown(&key, Some(uid), Some(gid)).unwrap();
            fs::set_permissions(&key, Permissions::from_mode(0o440)).unwrap();
            arguments.push(format!("--volume={}:/run/secrets/seal-key:ro", key.display()));
        }
        for (name, value) in &self.env {
            arguments.push(format!("--env={name}={value}"));
        }
        arguments.push(format!("--env=RUNNER_LISTEN={address}"));
        arguments.extend(self.arguments);
        arguments.push(self.image);
        let container = Container {
            name,
            address,
            dir,
            arguments,
        };
        container.make();
        container
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A container with its volumes. Both are removed when it is dropped.
pub(crate) struct Container {
    pub(crate) name: String,
    address: SocketAddr,
    dir: TempDir,
    /// What podman made it by.
    arguments: Vec<String>,
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = podman(&["rm", "--force", "--time=0", &self.name]);
    }
}

impl Container {
    fn make(&self) {
        podman_prints(&self.arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Removes it, and makes a new one in its place on the same volumes.
    pub(crate) fn replace(&self) {
        podman_prints(&["rm", &self.name]);
        self.make();
    }

    /// Starts it, again where it was started before. Gives when it was asked to.
    pub(crate) fn start(&self) -> Instant {
        let begun = Instant::now();
        podman_prints(&["start", &self.name]);
        begun
    }

    /// Kills all of it from outside, as a machine's out-of-memory killer or a lost node would.
    pub(crate) fn kill(&self) {
        podman_prints(&["kill", "--signal=KILL", &self.name]);
        self.wait();
    }

    /// `podman stop`: TERM, and KILL after some seconds.
    pub(crate) fn stop(&self, seconds: u32) -> Duration {
        let begun = Instant::now();
        podman_prints(&["stop", &format!("--time={seconds}"), &self.name]);
        begun.elapsed()
    }

    /// Waits for its end, and gives its exit code.
    pub(crate) fn wait(&self) -> i32 {
        self.wait_for(NEVER)
    }

    /// The same, where what it does may take longer.
    pub(crate) fn wait_for(&self, bound: Duration) -> i32 {
        let begun = Instant::now();
        loop {
            let state = self.inspect("{{.State.Status}} {{.State.ExitCode}}");
            if let Some(code) = state.strip_prefix("exited ") {
                return code.parse().unwrap();
            }
            assert!(begun.elapsed() < bound, "it does not end: {}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything that it has logged, over all of its starts.
    pub(crate) fn logs(&self) -> String {
        both(&podman(&["logs", &self.name]))
    }

    /// The log's lines that say this.
    pub(crate) fn lines_with(&self, text: &str) -> Vec<String> {
        let logs = self.logs();
        let lines = logs.lines().filter(|line| line.contains(text));
        lines.map(str::to_owned).collect()
    }

    pub(crate) fn inspect(&self, format: &str) -> String {
        podman_prints(&["inspect", "--format", format, &self.name])
    }

    /// A program inside it.
    pub(crate) fn exec(&self, arguments: &[&str]) -> Output {
        podman(&[&["exec", &self.name], arguments].concat())
    }

    /// A file on one of its volumes.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// All of its volumes.
    pub(crate) fn volumes(&self) -> &Path {
        self.dir.path()
    }

    /// A file that the agent left in its home; empty where there is none.
    pub(crate) fn said(&self, name: &str) -> String {
        fs::read_to_string(self.path("workspace/home").join(name)).unwrap_or_default()
    }

    /// PID 1, as this machine numbers it.
    pub(crate) fn init(&self) -> i32 {
        self.inspect("{{.State.Pid}}").parse().unwrap()
    }

    /// `runner serve` or `runner actions` inside it, as this machine numbers it.
    pub(crate) fn runner(&self) -> i32 {
        let init = self.init();
        let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap();
        let is_runner = |pid: &&str| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let second = command.split(|byte| *byte == 0).nth(1);
            second.is_some_and(|word| [&b"serve"[..], b"actions"].contains(&word))
        };
        let runner = children.split_whitespace().find(is_runner);
        runner
            .unwrap_or_else(|| panic!("{init} has no runner: {}", self.logs()))
            .parse()
            .unwrap()
    }

    /// Kills `runner serve` alone. Gives when.
    pub(crate) fn kill_serve(&self) -> Instant {
        let serve = Pid::from_raw(self.runner());
        let killed = Instant::now();
        kill(serve, Signal::SIGKILL).unwrap();
        killed
    }

    /// Waits until `/healthz` answers 200. Gives when it did.
    pub(crate) async fn healthy(&self) -> Instant {
        let client = client();
        let url = format!("http://{}/healthz", self.address);
        let begun = Instant::now();
        loop {
            if let Ok(answer) = client.get(&url).send().await
                && answer.status() == 200
            {
                return Instant::now();
            }
            assert!(begun.elapsed() < NEVER, "never healthy: {}", self.logs());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Assigns the task: 200 it has to be.
    pub(crate) async fn assign(&self, outside: &Outside) {
        self.healthy().await;
        let answer = client()
            .post(format!("http://{}/task", self.address))
            .header("content-type", "application/json")
            .body(outside.assignment())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{}", self.logs());
    }

    pub(crate) async fn status(&self) -> Value {
        let answer = client()
            .get(format!("http://{}/status", self.address))
            .send()
            .await
            .unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }

    /// Waits until something holds. Gives when it did.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Instant {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < NEVER, "never: {what}: {}", self.logs());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Instant::now()
    }

    /// Waits until the agent was started this often.
    pub(crate) async fn agent_started(&self, times: usize) -> Instant {
        self.until("the agent is started", |c| c.said("runs").lines().count() >= times)
            .await
    }

    /// `runner journal dump --format ndjson` of what is on the volume, by the image's own binary.
    pub(crate) fn dump(&self) -> Vec<Value> {
        let state = self.path("state");
        let text = podman_prints(&[
            "run",
            "--rm",
            "--network=none",
            "--entrypoint=runner",
            "--user=0",
            &format!("--volume={}:/journal:ro", state.display()),
            &image(),
            "journal",
            "dump",
            "--format=ndjson",
            "/journal/journal.db",
        ]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
