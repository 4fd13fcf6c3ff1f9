//! A program that tries one thing after another on the kernel, and what the kernel answered.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use runner::process::{Input, Launch};
use runner::sandbox::{Confinement, Demand, Ports};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

use crate::harness::RUNNER;

/// What the kernel answered, by act: `0`, the number of an error, or `signal N`.
pub(super) type Answers = BTreeMap<String, String>;

pub(super) const DONE: &str = "0";
pub(super) const EPERM: &str = "1";
pub(super) const EACCES: &str = "13";
pub(super) const ENOSYS: &str = "38";

/// Builds it, with the compiler that links every Rust program.
pub(super) fn build(at: &Path) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/isolation/attacker.c");
    let built = Command::new("cc")
        .args(["-std=gnu11", "-O1", "-pthread", "-o"])
        .args([at.as_os_str(), source.as_ref()])
        .output()
        .expect("a C compiler, as Rust itself needs it to link");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

pub(super) fn answers(said: &str) -> Answers {
    let lines = said.lines().map(|line| line.split_once(' ').unwrap());
    lines.map(|(act, answer)| (act.to_owned(), answer.to_owned())).collect()
}

/// The program in a room of its own.
pub(super) struct Attacker {
    room: TempDir,
}

impl Attacker {
    pub(super) fn new() -> Self {
        let room = tempfile::tempdir().unwrap();
        std::fs::create_dir(room.path().join("work")).unwrap();
        build(&room.path().join("work/attacker"));
        Self { room }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// In the whole sandbox, as an agent is in it.
    pub(super) async fn tries_in_the_sandbox(&self, acts: &[&str], ports: Ports) -> Answers {
        let work = self.path("work");
        let mut confinement = Confinement::for_agent(&work, &work, &work, &self.path("work/attacker"), None);
        confinement.ports = ports;
        self.tries(acts, Some(confinement)).await
    }

    /// The control: the same, started in the same way, without a sandbox.
    pub(super) async fn tries_without(&self, acts: &[&str]) -> Answers {
        self.tries(acts, None).await
    }

    async fn tries(&self, acts: &[&str], confinement: Option<Confinement>) -> Answers {
        let launch = Launch {
            runner: RUNNER.into(),
            program: self.path("work/attacker"),
            args: acts.iter().map(OsString::from).collect(),
            cwd: self.path("work"),
            env: Vec::new(),
            stdin: Input::Null,
            confinement,
            require: Demand::Whole,
            lock: self.path("agent.lock"),
            report: self.path("report.json"),
            grace: Duration::from_millis(200),
            set_aside: 0,
        };
        let mut running = launch.start().unwrap();
        let mut said = String::new();
        running.stdout.read_to_string(&mut said).await.unwrap();
        let ended = running.ended().await.unwrap();
        assert_eq!(ended.failure, None);
        assert_eq!(ended.exit, runner::process::Exit::Code(0), "{said}");
        answers(&said)
    }
}
