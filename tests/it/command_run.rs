//! A command of the operator's run to its end, with the real supervisor: what ends it, and what of its output is kept.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its room has failed")]

use std::future::{pending, ready};
use std::path::PathBuf;
use std::time::Duration;

use runner::adapters::command::{CommandEnded, run};
use runner::machine::CommandEnd;
use runner::process::{Input, Launch};
use runner::redact::Redactor;
use runner::sandbox::Demand;
use runner::secret::Secret;
use tempfile::TempDir;

use crate::harness::{NEVER, RUNNER};

const LIMIT: usize = 1000;
const SECRET: &str = "a-secret-of-this-test-0123456789";

struct Room(TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn launch(&self, program: &str, script: &str) -> Launch {
        Launch {
            runner: RUNNER.into(),
            program: program.into(),
            args: vec!["-c".into(), script.into()],
            cwd: self.0.path().into(),
            env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
            stdin: Input::Null,
            confinement: None,
            require: Demand::BestEffort,
            lock: self.path("agent.lock"),
            report: self.path("report.json"),
            grace: Duration::from_millis(100),
            set_aside: 0,
        }
    }
}

/// Runs a shell's script, for as long as no test waits.
async fn ran(script: &str) -> CommandEnded {
    let room = Room::new();
    let redactor = Redactor::new();
    redactor.add(&Secret::new(SECRET));
    let launch = room.launch("/bin/sh", script);
    run(&launch, NEVER, pending(), LIMIT, &redactor).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_its_exit_code_or_signal_and_both_of_its_outputs() {
    let ended = ran("echo said; echo complained >&2; exit 3").await;
    assert_eq!(ended.end, CommandEnd::Exit(3));
    assert!(
        ended.output.contains("said\n") && ended.output.contains("complained\n"),
        "{ended:?}"
    );
    assert_eq!(ran("kill -11 $$").await.end, CommandEnd::Signal(11));
    let in_order = ran("exec 2>&1; echo 1; echo 2 >&2; echo 3").await;
    assert_eq!(
        (in_order.end, in_order.output.as_str()),
        (CommandEnd::Exit(0), "1\n2\n3\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_flood_the_end_is_kept_and_no_half_of_a_secret() {
    let flood =
        format!("head -c 3000000 /dev/zero | tr '\\0' x; printf '{SECRET}'; head -c 990 /dev/zero | tr '\\0' y");
    let ended = ran(&flood).await;
    assert_eq!(ended.output.len(), LIMIT);
    assert!(ended.output.ends_with(&"y".repeat(990)), "{ended:?}");
    assert!(
        ended.output.starts_with("[redacted]"),
        "the ten bytes before it: {ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn its_time_is_bounded_and_nothing_that_it_started_lives_on() {
    let room = Room::new();
    let script = "echo begun; (setsid sh -c 'trap \"\" TERM; sleep 600; : > late' &) ; sleep 600";
    let launch = room.launch("/bin/sh", script);
    // Enough to say that it has begun, also on a machine that is busy.
    let ended = run(&launch, Duration::from_secs(3), pending(), LIMIT, &Redactor::new())
        .await
        .unwrap();
    assert_eq!((ended.end, ended.output.as_str()), (CommandEnd::TimedOut, "begun\n"));
    // The lock is the supervisor's, which goes when all of them are dead.
    drop(runner::process::wait_until_free(&launch.lock, NEVER / 2).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_is_interrupted_unless_it_had_ended_well() {
    let room = Room::new();
    let launch = room.launch("/bin/sh", "sleep 600");
    let ended = run(&launch, NEVER, ready(()), LIMIT, &Redactor::new()).await.unwrap();
    assert_eq!(ended.end, CommandEnd::Interrupted);
    let room = Room::new();
    let launch = room.launch("/bin/sh", "trap 'exit 0' TERM; : > there; while :; do sleep 0.05; done");
    let there = room.path("there");
    let stop = async {
        while !there.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let ended = run(&launch, NEVER, stop, LIMIT, &Redactor::new()).await.unwrap();
    assert_eq!(ended.end, CommandEnd::Exit(0));
}

/// As a terminal's Ctrl-C does, which reaches the supervisor too.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_to_its_supervisor_alone_is_an_interruption_and_no_red() {
    let ended = ran("kill -TERM $PPID; sleep 600").await;
    assert_eq!(ended.end, CommandEnd::Interrupted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_was_not_started_and_says_so() {
    let room = Room::new();
    let launch = room.launch("/nonexistent/program", "true");
    let ended = run(&launch, NEVER, pending(), LIMIT, &Redactor::new()).await.unwrap();
    assert_eq!(ended.end, CommandEnd::NotStarted);
    assert!(ended.output.contains("/nonexistent/program"), "{ended:?}");
}
