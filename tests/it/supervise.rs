//! The supervisor and the sandbox, with the real binary and real processes.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its room has failed")]

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runner::process::{self, Ended, Exit, Input, Launch, LaunchError, StartFailure, Stopped};
use runner::sandbox::{self, Confinement, Demand, Right};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

use crate::processes::{lives, number};

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");
/// Long enough that a test which waits for it has failed, short enough to be told so.
const NEVER: Duration = Duration::from_mins(1);

struct Room(TempDir);

impl Room {
    fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        for name in ["state/repo", "state/home", "state/tmp", "outside"] {
            fs::create_dir_all(room.path(name)).unwrap();
        }
        fs::write(room.path("outside/file"), "outside").unwrap();
        fs::write(room.path("state/secret"), "canary").unwrap();
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn launch(&self, script: &str) -> Launch {
        Launch {
            runner: RUNNER.into(),
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            cwd: self.path("state/repo"),
            env: vec![
                ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()),
                ("ROOM".into(), self.0.path().into()),
            ],
            stdin: Input::Null,
            confinement: None,
            require: Demand::BestEffort,
            lock: self.path("state/agent.lock"),
            report: self.path("state/report.json"),
            grace: Duration::from_millis(200),
            set_aside: 0,
        }
    }

    fn confinement(&self) -> Confinement {
        let [repo, home, tmp] = ["state/repo", "state/home", "state/tmp"].map(|name| self.path(name));
        Confinement::for_agent(&repo, &home, &tmp, Path::new("/bin/sh"), None)
    }
}

/// Runs it to its end; standard output is its witness.
async fn run(launch: &Launch) -> (String, Ended) {
    let mut running = launch.start().unwrap();
    let mut said = Vec::new();
    running.stdout.read_to_end(&mut said).await.unwrap();
    let ended = running.ended().await.unwrap();
    (String::from_utf8(said).unwrap(), ended)
}

async fn line_of(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await.unwrap() {
            b'\n' => return String::from_utf8(line).unwrap(),
            byte => line.push(byte),
        }
    }
}

/// A daemon: double fork, a session of its own, TERM ignored, the pipe kept open. Says its number when it is ready.
const DAEMON: &str = r#"(setsid sh -c 'trap "" TERM HUP INT; echo $$; while :; do sleep 1000; done' &)"#;

#[tokio::test]
async fn a_daemon_that_ignores_term_is_dead_when_the_agent_has_ended() {
    let room = Room::new();
    let script =
        format!("{DAEMON} > \"$ROOM/daemon\"; until [ -s \"$ROOM/daemon\" ]; do :; done; cat \"$ROOM/daemon\"; exit 7");
    let (said, ended) = run(&room.launch(&script)).await;
    assert_eq!(ended.exit, Exit::Code(7));
    assert_eq!(ended.stopped, Stopped::No);
    // The daemon and its sleep, at least.
    assert!(ended.stragglers >= 2, "{ended:?}");
    assert!(!lives(number(&said)), "the daemon {said} outlived the agent");
    assert_eq!(
        process::read_report(&room.path("state/report.json")).unwrap(),
        Some(ended)
    );
}

#[tokio::test]
async fn a_stop_gives_the_grace_and_then_kills_all() {
    let room = Room::new();
    let polite = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.01; done";
    let mut running = room.launch(polite).start().unwrap();
    assert_eq!(line_of(&mut running.stdout).await, "ready");
    running.stop();
    assert_eq!(line_of(&mut running.stdout).await, "bye");
    let ended = running.ended().await.unwrap();
    assert_eq!((ended.exit, ended.stopped), (Exit::Code(3), Stopped::Asked));

    let stubborn = "trap '' TERM; echo ready; while :; do sleep 0.01; done";
    let mut running = room.launch(stubborn).start().unwrap();
    assert_eq!(line_of(&mut running.stdout).await, "ready");
    let asked = Instant::now();
    running.stop();
    let ended = running.ended().await.unwrap();
    assert_eq!((ended.exit, ended.stopped), (Exit::Signal(9), Stopped::Asked));
    assert!(asked.elapsed() >= Duration::from_millis(200), "no grace was given");
}

#[tokio::test]
async fn dropping_the_hold_kills_everything_at_once() {
    let room = Room::new();
    let mut launch = room.launch(&format!("{DAEMON}; sleep 1000"));
    launch.grace = NEVER;
    let mut running = launch.start().unwrap();
    let daemon = line_of(&mut running.stdout).await;
    assert!(lives(number(&daemon)));
    drop(running);
    drop(process::wait_until_free(&launch.lock, NEVER / 2).unwrap());
    assert!(!lives(number(&daemon)));
    let ended = process::read_report(&launch.report).unwrap().unwrap();
    assert_eq!(ended.stopped, Stopped::Abandoned);
}

/// A supervisor as the runner starts it, whose lifeline somebody else holds.
fn supervise(room: &Room, lifeline: io::PipeReader, script: &str) -> std::process::Child {
    Command::new(RUNNER)
        .arg("__supervise")
        .args([OsString::from("--lock"), room.path("state/agent.lock").into()])
        .args([OsString::from("--report"), room.path("state/report.json").into()])
        .args(["--grace-ms", "60000", "--", RUNNER, "__sandbox", "--unconfined", "--"])
        .args(["/bin/sh", "-c", script])
        .stdin(Stdio::from(lifeline))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_runner_that_is_killed_leaves_no_agent_running() {
    let room = Room::new();
    let (reader, writer) = io::pipe().unwrap();
    // It stands for the runner: the only holder of the lifeline.
    let mut holder = Command::new("/bin/sh")
        .args(["-c", "exec sleep 60"])
        .stdout(Stdio::from(writer))
        .spawn()
        .unwrap();
    let mut supervisor = supervise(&room, reader, &format!("{DAEMON}; sleep 1000"));
    let mut output = supervisor.stdout.take().unwrap();
    let mut daemon = Vec::new();
    while daemon.last() != Some(&b'\n') {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        daemon.push(byte[0]);
    }
    let daemon = String::from_utf8(daemon).unwrap();
    assert!(lives(number(&daemon)));
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(supervisor.wait().unwrap().success());
    assert!(!lives(number(&daemon)));
    // Nobody has the pipe any more.
    assert_eq!(output.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_signal_to_the_supervisor_is_an_orderly_stop() {
    let room = Room::new();
    let (reader, _writer) = io::pipe().unwrap();
    let mut supervisor = supervise(&room, reader, "trap 'exit 4' TERM; echo; while :; do sleep 0.01; done");
    supervisor.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    kill(Pid::from_raw(supervisor.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(supervisor.wait().unwrap().success());
    let ended = process::read_report(&room.path("state/report.json")).unwrap().unwrap();
    assert_eq!((ended.exit, ended.stopped), (Exit::Code(4), Stopped::Asked));
}

#[tokio::test]
async fn a_second_supervisor_is_refused_while_the_first_has_the_lock() {
    let room = Room::new();
    let mut first = room.launch("echo ready; sleep 1000").start().unwrap();
    assert_eq!(line_of(&mut first.stdout).await, "ready");
    let mut second = room.launch("echo second");
    second.report = room.path("state/second.json");
    let refused = second.start().unwrap().ended().await.unwrap_err();
    assert!(matches!(refused, LaunchError::LockHeld { .. }), "{refused}");
    assert!(process::wait_until_free(&second.lock, Duration::ZERO).is_err());
    first.stop();
    first.ended().await.unwrap();
    assert_eq!(run(&second).await.0, "second\n");
}

#[tokio::test]
async fn a_supervisor_that_is_killed_is_said_to_be_lost() {
    let room = Room::new();
    let mut running = room.launch("echo $$; exec sleep 60").start().unwrap();
    let agent = line_of(&mut running.stdout).await;
    let supervisor = running.supervision.id().unwrap();
    kill(Pid::from_raw(supervisor.cast_signed()), Signal::SIGKILL).unwrap();
    let lost = running.ended().await.unwrap_err();
    assert!(matches!(lost, LaunchError::SupervisorLost { .. }), "{lost}");
    // Its first process dies with it; who reaps it depends on the machine, so a zombie will do.
    let stat = || fs::read_to_string(format!("/proc/{agent}/stat")).unwrap_or_default();
    let begun = Instant::now();
    while !(stat().is_empty() || stat().contains(") Z ")) {
        assert!(begun.elapsed() < NEVER, "the agent {agent} outlived its supervisor");
    }
}

#[tokio::test]
async fn the_environment_is_what_was_given_and_standard_input_is_the_file() {
    let room = Room::new();
    fs::write(room.path("state/prompt"), "do it").unwrap();
    let mut launch = room.launch("");
    launch.program = "/usr/bin/env".into();
    launch.args = Vec::new();
    launch.env = vec![("A".into(), "1".into()), ("B".into(), "two words".into())];
    let (said, _) = run(&launch).await;
    let mut lines: Vec<_> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=1", "B=two words"]);

    let mut launch = room.launch("cat; grep -E 'SigBlk|NoNewPrivs' /proc/self/status; ulimit -c");
    launch.stdin = Input::File(room.path("state/prompt"));
    let (said, _) = run(&launch).await;
    assert_eq!(said, "do itSigBlk:\t0000000000000000\nNoNewPrivs:\t1\n0\n");
}

#[tokio::test]
async fn a_program_that_is_not_there_or_not_executable_is_told_from_one_that_fails() {
    let room = Room::new();
    let mut launch = room.launch("");
    launch.program = room.path("nothing");
    let (_, ended) = run(&launch).await;
    assert!(
        matches!(ended.failure, Some(StartFailure::NotFound { .. })),
        "{ended:?}"
    );
    launch.program = room.path("outside/file");
    let (_, ended) = run(&launch).await;
    assert!(
        matches!(ended.failure, Some(StartFailure::NotExecutable { .. })),
        "{ended:?}"
    );
    let (_, ended) = run(&room.launch("exit 127")).await;
    assert_eq!((ended.exit, ended.failure), (Exit::Code(127), None));
}

#[tokio::test]
async fn a_workspace_that_is_not_there_starts_no_agent() {
    let room = Room::new();
    let mut launch = room.launch("true");
    let mut confinement = room.confinement();
    confinement.read_write.push(room.path("nothing"));
    launch.confinement = Some(confinement);
    let (_, ended) = run(&launch).await;
    assert!(matches!(ended.failure, Some(StartFailure::Path { .. })), "{ended:?}");
}

/// Each line is a probe's name and `yes` or `no`.
const PROBES: &str = r##"
try() { name=$1; shift; if "$@" > /dev/null 2> "$ROOM/state/tmp/why"; then echo "$name yes"; else echo "$name no"; fi; }
try outside cat "$ROOM/outside/file"
grep -q 'Permission denied' "$ROOM/state/tmp/why" && echo "EACCES yes" || echo "EACCES no"
try outside-write sh -c 'echo x >> "$ROOM/outside/file"'
try outside-truncate sh -c ': > "$ROOM/outside/empty"'
try state cat "$ROOM/state/secret"
try lock cat "$ROOM/state/agent.lock"
try environ cat "/proc/$PPID/environ"
try signal kill -0 "$PPID"
try signal-runner kill -0 "$RUNNER_PID"
try workspace sh -c 'echo x > file && cat file && rm file'
try home sh -c 'mkdir -p "$ROOM/state/home/a" && echo x > "$ROOM/state/home/a/b" && mv "$ROOM/state/home/a/b" .'
try script sh -c 'printf "#!/bin/sh\n" > run && chmod +x run && ./run'
try null sh -c 'echo > /dev/null; echo > /dev/stdout'
try etc cat /etc/passwd
"##;

async fn probe(room: &Room, confinement: Option<Confinement>) -> Vec<String> {
    let mut launch = room.launch(PROBES);
    launch
        .env
        .push(("RUNNER_PID".into(), std::process::id().to_string().into()));
    launch.confinement = confinement;
    let (said, ended) = run(&launch).await;
    assert_eq!(ended.failure, None);
    said.lines()
        .filter(|line| line.ends_with(" yes"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn the_agent_reaches_its_workspace_and_nothing_of_ours() {
    let rights = sandbox::survey(Path::new(RUNNER)).unwrap();
    assert!(
        rights.has(Right::Files),
        "this kernel has no Landlock, so nothing is shown here"
    );
    let room = Room::new();
    room.confinement()
        .excludes(&[room.path("state"), room.path("outside")])
        .unwrap();
    let mut expected = vec!["EACCES yes"];
    if !rights.has(Right::Signals) {
        expected.extend(["signal yes", "signal-runner yes"]);
    }
    expected.extend(["workspace yes", "home yes", "script yes", "null yes", "etc yes"]);
    assert_eq!(probe(&room, Some(room.confinement())).await, expected);
}

#[tokio::test]
async fn without_the_sandbox_the_same_probes_succeed() {
    let room = Room::new();
    let mut reached = probe(&room, None).await;
    // That the supervisor is not dumpable holds for all but root.
    let environ = reached.iter().position(|line| line == "environ yes");
    assert_eq!(environ.is_some(), nix::unistd::geteuid().is_root());
    reached.retain(|line| line != "environ yes");
    assert_eq!(
        reached,
        [
            "outside yes",
            "outside-write yes",
            "outside-truncate yes",
            "state yes",
            "lock yes",
            "signal yes",
            "signal-runner yes",
            "workspace yes",
            "home yes",
            "script yes",
            "null yes",
            "etc yes"
        ]
    );
}

#[test]
fn a_descriptor_that_would_leak_into_the_agent_is_refused() {
    let room = Room::new();
    let failure = room.path("state/failure");
    let script = format!(
        "exec 7< /dev/null; exec {RUNNER} __sandbox --unconfined --failure {} -- /bin/sh -c 'echo started'",
        failure.display()
    );
    let output = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(output.stdout.is_empty());
    let failure: StartFailure = serde_json::from_slice(&fs::read(failure).unwrap()).unwrap();
    let StartFailure::Descriptors { descriptors } = failure else {
        panic!("{failure}");
    };
    assert!(descriptors.contains(&7), "{descriptors:?}");
}
