//! A `runner serve` as an operator sees it: its start, its health, its memory, its end.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Result;

/// Nothing here takes so long, unless it is broken.
const NEVER: Duration = Duration::from_mins(1);

/// One runner's directories, which outlive its processes.
pub(crate) struct Room {
    runner: PathBuf,
    dir: TempDir,
    env: Vec<(String, String)>,
}

impl Room {
    pub(crate) fn new(runner: &Path, agent: &str) -> Result<Self> {
        let mut room = Self {
            runner: runner.to_owned(),
            dir: tempfile::tempdir()?,
            env: Vec::new(),
        };
        room.set("RUNNER_AGENT", "command");
        room.set("RUNNER_AGENT_COMMAND", agent);
        Ok(room)
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Around everything of this runner's.
    pub(crate) fn directory(&self) -> &Path {
        self.dir.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self) -> Command {
        self.started_by(Command::new(&self.runner))
    }

    fn started_by(&self, mut command: Command) -> Command {
        command
            .arg("serve")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUNNER_LISTEN", "127.0.0.1:0")
            .env("RUNNER_STATE_DIR", self.path("state"))
            .env("RUNNER_SECRETS_DIR", self.path("secrets"))
            .env("RUNNER_WORKSPACE", self.path("workspace"))
            .env("RUNNER_AGENT_KILL_GRACE", "500ms")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn start(&self) -> Result<Serving> {
        Serving::spawn(self.command())
    }

    /// Where [`Room::start_under`] leaves what it saw.
    pub(crate) fn trace(&self) -> PathBuf {
        self.path("trace.strace")
    }

    /// Under strace, which stops a process at the system calls that are traced and at no other.
    pub(crate) fn start_under(&self, strace: &Path) -> Result<Serving> {
        let mut command = Command::new(strace);
        command
            .args([
                "-f",
                "--seccomp-bpf",
                "-y",
                "-ttt",
                "-s",
                "256",
                "-e",
                "signal=none",
                "-e",
            ])
            .arg(format!("trace={}", crate::trace::CALLS))
            .arg("-o")
            .arg(self.trace())
            .arg(&self.runner);
        Serving::spawn(self.started_by(command))
    }

    /// Waits until the agent began for the nth time.
    pub(crate) fn wait_for_run(&self, nth: usize) -> Result<()> {
        let runs = self.path("workspace/home/runs");
        let begun = Instant::now();
        while fs::read_to_string(&runs).unwrap_or_default().lines().count() < nth {
            if begun.elapsed() > NEVER {
                return Err("the agent does not begin".into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Each effect of the journal with the time between its intent and its outcome.
    pub(crate) fn effects(&self) -> Result<Vec<(String, Duration)>> {
        let output = Command::new(&self.runner)
            .args(["journal", "dump", "--format", "ndjson"])
            .arg(self.path("state/journal.db"))
            .output()?;
        let mut effects = Vec::new();
        let mut intended = None;
        for line in String::from_utf8(output.stdout)?.lines() {
            let row: serde_json::Value = serde_json::from_str(line)?;
            let at: jiff::Timestamp = row["at"].as_str().ok_or("a row without a time")?.parse()?;
            let effect = row["effect"].as_str().unwrap_or_default();
            match row["kind"].as_str() {
                Some("intent") => intended = Some(at),
                Some("outcome" | "ack") => {
                    if let Some(intended) = intended.take() {
                        // The report's outcome is the acknowledgement.
                        let name = if effect.is_empty() { "report" } else { effect };
                        effects.push((name.to_owned(), Duration::try_from(at - intended)?));
                    }
                }
                _ => {}
            }
        }
        Ok(effects)
    }
}

/// A runner under way. Killed by SIGKILL when dropped.
pub(crate) struct Serving {
    child: Child,
    begun: Instant,
    address: Receiver<String>,
    at: Option<String>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may be gone already, and nobody is left to be told otherwise.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    fn spawn(mut command: Command) -> Result<Self> {
        let begun = Instant::now();
        let mut child = command.spawn()?;
        let log = child.stderr.take().ok_or("no standard error")?;
        let (tell, address) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(std::io::Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let end = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ':'));
                    // Whoever asked may have gone.
                    let _ = tell.send(rest[..end.unwrap_or(rest.len())].to_owned());
                }
            }
        });
        Ok(Self {
            child,
            begun,
            address,
            at: None,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks for /healthz once it says where; how long after its start the 200 was there.
    pub(crate) fn healthy(&mut self) -> Result<Duration> {
        let address = self.address.recv_timeout(NEVER)?;
        self.at = Some(address);
        self.ask("GET /healthz HTTP/1.1\r\nHost: runner\r\nConnection: close\r\n\r\n")?;
        Ok(self.begun.elapsed())
    }

    /// Assigns a task, and has it accepted.
    pub(crate) fn assign(&self, body: &str) -> Result<()> {
        let head = "POST /task HTTP/1.1\r\nHost: runner\r\nConnection: close\r\nContent-Type: application/json";
        self.ask(&format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    fn ask(&self, request: &str) -> Result<()> {
        let mut stream = TcpStream::connect(self.at.as_deref().ok_or("it does not listen yet")?)?;
        stream.write_all(request.as_bytes())?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        if &status == b"HTTP/1.1 200" {
            Ok(())
        } else {
            Err(format!("not a 200: {}", String::from_utf8_lossy(&status)).into())
        }
    }

    pub(crate) fn ends_with(&mut self, code: i32) -> Result<()> {
        let status = self.child.wait()?;
        if status.code() == Some(code) {
            Ok(())
        } else {
            Err(format!("the runner ended with {status}").into())
        }
    }
}

/// What a process has of the machine's memory.
pub(crate) struct Memory {
    pub(crate) rss_kib: u64,
    /// None where this user may not look: the runner hides its memory from its own uid.
    pub(crate) pss_kib: Option<u64>,
}

pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    let kib = |text: &str, name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
    };
    Ok(Memory {
        rss_kib: kib(&status, "VmRSS").ok_or("a process without VmRSS")?,
        pss_kib: rollup.and_then(|text| kib(&text, "Pss")),
    })
}
