//! `runner init`, with the real binary: as a subreaper, and as the first process of a PID namespace.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use tempfile::TempDir;

use crate::harness::{
    Bench, NEVER, Outside, RUNNER, Serving, as_somebody, client, copy_of_the_program, until as until_serving,
};

fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < NEVER, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A zombie is there too.
fn is_there(pid: &str) -> bool {
    Path::new("/proc").join(pid.trim()).exists()
}

/// Where one init and what it starts write.
struct Room(TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn lines(&self, name: &str) -> Vec<String> {
        self.text(name).lines().map(str::to_owned).collect()
    }

    /// The pid that a script writes there.
    fn pid(&self, name: &str) -> Pid {
        until(name, || self.text(name).ends_with('\n'));
        Pid::from_raw(self.text(name).trim().parse().unwrap())
    }

    /// What it prints goes to `out` and `err`.
    fn prepare(&self, mut command: Command) -> Command {
        let file = |name| File::create(self.path(name)).unwrap();
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("ROOM", self.0.path())
            .env("RUNNER", RUNNER)
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"));
        command
    }

    /// `runner init` with a script that first counts its start in `starts`.
    fn init(&self, script: &str) -> Command {
        let script = format!("echo start >> \"$ROOM/starts\"\n{script}");
        let mut command = Command::new(RUNNER);
        command.args(["init", "--", "sh", "-c", &script]);
        self.prepare(command)
    }

    fn run(&self, script: &str) -> Option<i32> {
        Init::start(&mut self.init(script)).wait().code()
    }

    fn starts(&self) -> usize {
        self.lines("starts").len()
    }
}

/// Killed when dropped.
struct Init(Child);

impl Init {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < NEVER, "init does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_command_has_the_whole_environment_and_init_none_of_it() {
    let room = Room::new();
    let raw = OsStr::from_bytes(b"caf\xe9 = \n two");
    let script = "cat /proc/self/environ > \"$ROOM/environ\"; echo $$ > \"$ROOM/pid\"; read line; echo \"got $line\"; echo err >&2";
    let mut command = room.init(script);
    command.env("RAW", raw).env("SECRET", "canary").env("EMPTY", "");
    let mut init = Init::start(command.stdin(Stdio::piped()));
    room.pid("pid");

    let environ = fs::read(format!("/proc/{}/environ", init.0.id()));
    if nix::unistd::geteuid().is_root() {
        assert_eq!(environ.unwrap(), b"");
    } else {
        assert_eq!(environ.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    }
    let arguments = fs::read(format!("/proc/{}/cmdline", init.0.id())).unwrap();
    assert!(arguments.starts_with(b"runner\0init\0"), "{arguments:?}");
    let descriptors = fs::read_dir(format!("/proc/{}/fd", init.0.id())).unwrap();
    for descriptor in descriptors {
        let target = fs::read_link(descriptor.unwrap().path()).unwrap();
        assert!(!target.to_string_lossy().contains("memfd"), "{target:?}");
    }

    let theirs = fs::read(room.path("environ")).unwrap();
    let has = |entry: &[u8]| theirs.split(|byte| *byte == 0).any(|e| e == entry);
    assert!(has(&[b"RAW=", raw.as_bytes()].concat()) && has(b"SECRET=canary") && has(b"EMPTY="));

    drop(std::io::Write::write_all(&mut init.0.stdin.take().unwrap(), b"hello\n"));
    assert_eq!(init.wait().code(), Some(0));
    assert_eq!(room.text("out"), "got hello\n");
    assert!(room.text("err").lines().any(|line| line == "err"));
    assert!(!room.text("err").contains("canary"), "{}", room.text("err"));
}

#[test]
fn another_process_of_the_same_user_can_read_neither_environment_nor_memory_of_init() {
    let room = Room::new();
    fs::set_permissions(room.0.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let program = room.path("runner");
    copy_of_the_program(&program);
    let mut command = as_somebody(&program);
    command.args(["init", "--", "sh", "-c", "echo $$ > \"$ROOM/pid\"; exec sleep 1000"]);
    let mut init = Init::start(&mut room.prepare(command));
    let sleeper = room.pid("pid");
    let reads = |pid: i32, name: &str| {
        let mut cat = as_somebody(Path::new("head"));
        let output = cat.args(["-c", "1", &format!("/proc/{pid}/{name}")]).output().unwrap();
        output.status.success() && !output.stdout.is_empty()
    };
    // The control: of the command itself, which is an ordinary process, the same user reads it.
    assert!(reads(sleeper.as_raw(), "environ"));
    for name in ["environ", "auxv", "maps"] {
        assert!(!reads(init.0.id().cast_signed(), name), "{name}");
    }
    init.signal(Signal::SIGTERM);
    assert_eq!(init.wait().code(), Some(143));
}

#[test]
fn the_settings_of_init_hold_from_the_environment() {
    let room = Room::new();
    let mut command = room.init("exit 0");
    command.env("RUNNER_LOG_FORMAT", "pretty").env("RUNNER_MAX_BOTS", "3");
    assert_eq!(Init::start(&mut command).wait().code(), Some(0));
    let said = room.text("err");
    assert!(said.contains("started the command") && !said.contains('{'), "{said}");
    // Its settings are its own; what else there is, is for the command to judge.
    assert!(!said.contains("RUNNER_MAX_BOTS"), "{said}");

    let mut command = room.init("exit 0");
    assert_eq!(Init::start(command.env("RUNNER_LOG", "error")).wait().code(), Some(0));
    assert_eq!(room.text("err"), "");

    let mut command = room.init("exit 0");
    assert_eq!(Init::start(command.env("RUNNER_LOG", "")).wait().code(), Some(0));
    let line = room.text("err").lines().next().unwrap().to_owned();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(line["pid"].is_number() && line["command"] == "sh", "{line}");

    for (name, value) in [("RUNNER_MAX_BOOTS", "0"), ("RUNNER_LOG_FORMAT", "xml")] {
        let mut command = room.init("exit 0");
        assert_eq!(Init::start(command.env(name, value)).wait().code(), Some(2));
        assert!(room.text("err").contains(name), "{}", room.text("err"));
    }
    assert_eq!(room.starts(), 3);
}

#[test]
fn a_command_that_is_missing_or_cannot_be_started_is_exit_2_by_name() {
    let room = Room::new();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(RUNNER);
        command.args(arguments);
        let status = Init::start(&mut room.prepare(command)).wait();
        (status.code(), room.text("err"), room.text("out"))
    };
    let (code, said, _) = run(&["init"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("runner init [OPTIONS] -- COMMAND"), "{said}");
    let (code, said, _) = run(&["init", "--"]);
    assert_eq!(code, Some(2), "{said}");
    let (code, said, _) = run(&["init", "--", "no-such-program", "canary"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("failed to start no-such-program"), "{said}");
    assert!(!said.contains("canary"), "{said}");
    let (code, _, help) = run(&["init", "--help"]);
    assert_eq!(code, Some(0));
    assert!(help.contains("runner init -- runner serve"), "{help}");
    assert!(!help.contains("--environment"), "{help}");
    let (_, _, help) = run(&["--help"]);
    assert!(help.contains("init"), "{help}");
}

#[test]
fn orphans_are_reaped_while_the_command_lives() {
    let room = Room::new();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do (setsid sh -c 'echo $$ >> \"$ROOM/orphans\"; until [ -e \"$ROOM/end\" ]; do sleep 0.01; done' &); done
        echo $$ > \"$ROOM/pid\"; exec sleep 1000";
    let mut init = Init::start(&mut room.init(script));
    let command = room.pid("pid");
    until("all orphans are there", || room.lines("orphans").len() == 10);
    let orphans = room.lines("orphans");
    for orphan in &orphans {
        let status = fs::read_to_string(format!("/proc/{orphan}/status")).unwrap();
        assert!(status.contains(&format!("PPid:\t{}\n", init.0.id())), "{status}");
    }
    fs::write(room.path("end"), "").unwrap();
    until("no orphan is left, not as a zombie either", || {
        !orphans.iter().any(|orphan| is_there(orphan))
    });
    assert!(is_there(&command.to_string()));
    init.signal(Signal::SIGTERM);
    assert_eq!(init.wait().code(), Some(143));
}

#[test]
fn the_exit_code_is_the_commands_however_many_orphans_end_at_once() {
    for round in 0..50 {
        let room = Room::new();
        let code = room.run("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do (: &); done; exit 7");
        assert_eq!(
            (code, room.starts()),
            (Some(7), 1),
            "round {round}: {}",
            room.text("err")
        );
    }
}

#[test]
fn signals_are_passed_on_and_the_exit_code_comes_back() {
    let room = Room::new();
    let script =
        "for name in HUP INT QUIT USR1 USR2 WINCH CONT; do trap \"echo $name >> \\\"\\$ROOM/got\\\"\" $name; done
        trap 'exit 3' TERM; echo $$ > \"$ROOM/pid\"; while :; do sleep 0.01; done";
    let mut init = Init::start(&mut room.init(script));
    room.pid("pid");
    for signal in ["HUP", "INT", "QUIT", "USR1", "USR2", "WINCH", "CONT"] {
        init.signal(format!("SIG{signal}").parse().unwrap());
        until(signal, || room.lines("got").last().is_some_and(|got| got == signal));
    }
    init.signal(Signal::SIGTERM);
    assert_eq!((init.wait().code(), room.starts()), (Some(3), 1));
}

/// Blocked when init is started, so that the kernel keeps it for as long as init does: a TERM from before its handlers.
#[test]
fn a_stop_from_before_the_handlers_is_passed_on() {
    let room = Room::new();
    let mut command = room.init("trap 'exit 3' TERM; while :; do sleep 0.01; done");
    let term = SigSet::from_iter([Signal::SIGTERM]);
    let mut init = std::thread::spawn(move || {
        term.thread_block().unwrap();
        Init::start(&mut command)
    })
    .join()
    .unwrap();
    init.signal(Signal::SIGTERM);
    // By its own trap, or before it had one.
    let code = init.wait().code();
    assert!(matches!(code, Some(3 | 143)), "{code:?}");
    assert!(room.starts() <= 1);
}

#[test]
fn the_command_begins_with_no_signal_blocked_or_ignored() {
    let room = Room::new();
    // Ignored and blocked where init is started; neither is what the command begins with.
    let init = "trap '' INT QUIT HUP USR1; exec \"$RUNNER\" init -- grep -E '^Sig(Blk|Ign)' /proc/self/status";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", init]);
    let mut command = room.prepare(command);
    let blocked = SigSet::from_iter([Signal::SIGTERM, Signal::SIGCHLD, Signal::SIGPIPE]);
    let mut init = std::thread::spawn(move || {
        blocked.thread_block().unwrap();
        Init::start(&mut command)
    })
    .join()
    .unwrap();
    assert_eq!(init.wait().code(), Some(0), "{}", room.text("err"));
    for line in room.lines("out") {
        // The standard ones: those above are the C library's.
        let mask = u64::from_str_radix(line.split_once('\t').unwrap().1, 16).unwrap();
        assert_eq!(mask & 0x7fff_ffff, 0, "{line}");
    }
    assert_eq!(room.lines("out").len(), 2);
}

#[test]
fn a_killed_command_is_started_again_when_all_that_it_left_is_dead() {
    let room = Room::new();
    let script = r#"
if [ -e "$ROOM/left" ]; then
  for pid in $(cat "$ROOM/left"); do [ -e "/proc/$pid" ] && echo "$pid" >> "$ROOM/survivors"; done
  exit 4
fi
: > "$ROOM/left"
(setsid sh -c 'trap "" TERM HUP INT; echo $$ >> "$ROOM/left"; while :; do sleep 1000; done' &)
(sh -c 'echo $$ >> "$ROOM/left"; sleep 1000; :' &)
sleep 1000 & echo $! >> "$ROOM/left"
until [ "$(wc -l < "$ROOM/left")" = 3 ]; do :; done
kill -KILL $$
"#;
    let code = room.run(script);
    let said = room.text("err");
    assert_eq!((code, room.starts()), (Some(4), 2), "{said}");
    assert_eq!(room.lines("left").len(), 3);
    assert_eq!(room.text("survivors"), "");
    assert!(said.contains("killed by SIGKILL"), "{said}");
    assert!(said.contains("starting it again: 1 of 5"), "{said}");
}

/// It has time to do its work itself, and no more than that: here somebody else holds its lifeline, so it would not end.
#[test]
fn a_supervisor_that_does_not_end_is_killed_with_its_agent() {
    let room = Room::new();
    mkfifo(&room.path("lifeline"), Mode::S_IRWXU).unwrap();
    let lifeline = OpenOptions::new()
        .read(true)
        .write(true)
        .open(room.path("lifeline"))
        .unwrap();
    let script = r#"
if [ -e "$ROOM/agent" ]; then
  for pid in $(cat "$ROOM/agent" "$ROOM/supervisor"); do [ -e "/proc/$pid" ] && echo "$pid" >> "$ROOM/survivors"; done
  exit 4
fi
"$RUNNER" __supervise --lock "$ROOM/lock" --report "$ROOM/report" --grace-ms 60000 -- \
  "$RUNNER" __sandbox --unconfined -- sh -c 'echo $$ > "$ROOM/agent"; sleep 1000; :' < "$ROOM/lifeline" &
echo $! > "$ROOM/supervisor"
until [ -s "$ROOM/agent" ]; do :; done
date +%s%N > "$ROOM/killed"
kill -KILL $$
"#;
    let code = room.run(script);
    drop(lifeline);
    assert_eq!((code, room.starts()), (Some(4), 2), "{}", room.text("err"));
    assert_eq!(room.text("survivors"), "");
    assert!(!room.path("report").exists(), "it was killed, and did not end");
}

#[test]
fn an_exit_of_its_own_accord_is_the_end_whatever_the_code() {
    for code in [0, 1, 2, 3, 75, 137] {
        let room = Room::new();
        assert_eq!(room.run(&format!("exit {code}")), Some(code));
        assert_eq!(room.starts(), 1, "exit {code}");
    }
}

#[test]
fn it_gives_up_after_as_many_starts_as_the_setting_allows() {
    for (setting, starts) in [(None, 6), (Some("2"), 3), (Some("1"), 2)] {
        let room = Room::new();
        let mut command = room.init("kill -SEGV $$");
        if let Some(most) = setting {
            command.env("RUNNER_MAX_BOOTS", most);
        }
        assert_eq!(Init::start(&mut command).wait().code(), Some(128 + 11));
        assert_eq!(room.starts(), starts);
        let said = room.text("err");
        let last = said.lines().last().unwrap();
        assert!(last.contains("\"level\":\"ERROR\""), "{last}");
        assert!(
            last.contains("SIGSEGV") && last.contains(&format!("{starts} times in a row")),
            "{last}"
        );
        assert!(last.contains("same directories"), "{last}");
    }
}

#[test]
fn a_command_that_a_signal_ends_after_a_stop_is_not_started_again() {
    for (stop, prepare, code) in [
        (Signal::SIGTERM, "", 143),
        (Signal::SIGHUP, "", 129),
        (Signal::SIGTERM, "trap 'kill -KILL $$' TERM", 137),
    ] {
        let room = Room::new();
        let script = format!("{prepare}\necho $$ > \"$ROOM/pid\"; while :; do sleep 0.01; done");
        let mut init = Init::start(&mut room.init(&script));
        room.pid("pid");
        init.signal(stop);
        assert_eq!((init.wait().code(), room.starts()), (Some(code), 1), "{stop}");
    }
}

/// A terminal's Ctrl-C reaches the command and init alike: what ends the one was asked of the other.
#[test]
fn a_stop_of_the_whole_group_starts_nothing_again() {
    for round in 0..20 {
        let room = Room::new();
        let mut command = room.init("echo $$ > \"$ROOM/pid\"; exec sleep 1000");
        let mut init = Init::start(std::os::unix::process::CommandExt::process_group(&mut command, 0));
        room.pid("pid");
        nix::sys::signal::killpg(Pid::from_raw(init.0.id().cast_signed()), Signal::SIGINT).unwrap();
        assert_eq!((init.wait().code(), room.starts()), (Some(130), 1), "round {round}");
    }
}

#[test]
fn as_pid_1_it_has_no_environment_and_does_the_same() {
    let mut namespace = vec!["--pid", "--fork", "--kill-child", "--mount-proc"];
    if !nix::unistd::geteuid().is_root() {
        namespace.extend(["--user", "--map-root-user"]);
    }
    let probe = Command::new("unshare").args(&namespace).arg("true").output().unwrap();
    let why = String::from_utf8_lossy(&probe.stderr).into_owned();
    if why.contains("Operation not permitted") || why.contains("Permission denied") {
        eprintln!("SKIPPED: this machine allows no PID namespace: {why}");
        return;
    }
    assert!(probe.status.success(), "{why}");

    let room = Room::new();
    let script = r#"
echo start >> "$ROOM/starts"; echo "$PPID" >> "$ROOM/parents"; wc -c < /proc/1/environ >> "$ROOM/environs"
if [ -e "$ROOM/daemon" ]; then
  pid=$(cat "$ROOM/daemon"); [ -e "/proc/$pid" ] && echo "$pid" > "$ROOM/survivor"
  trap 'exit 7' TERM
  kill -TERM 1
  while :; do sleep 0.01; done
fi
(setsid sh -c 'trap "" TERM HUP INT; echo $$ > "$ROOM/daemon"; while :; do sleep 1000; done' &)
until [ -s "$ROOM/daemon" ]; do :; done
kill -KILL $$
"#;
    let mut command = Command::new("unshare");
    command
        .args(&namespace)
        .args([RUNNER, "init", "--", "/bin/sh", "-c", script]);
    let status = Init::start(&mut room.prepare(command)).wait();
    let said = room.text("err");
    assert_eq!((status.code(), status.signal()), (Some(7), None), "{said}");
    assert_eq!(room.starts(), 2, "{said}");
    assert_eq!(room.lines("parents"), ["1", "1"]);
    assert_eq!(room.lines("environs"), ["0", "0"]);
    assert_eq!(room.text("survivor"), "");
}

/// `runner init -- runner serve` on the bench.
fn init_of(bench: &Bench) -> Serving {
    let serve = bench.command();
    let mut command = Command::new(RUNNER);
    command
        .args(["init", "--", RUNNER, "serve"])
        .env_clear()
        .envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    Serving::spawn(command)
}

/// The pid of its `runner serve`, by init's own line.
fn served(serving: &Serving) -> i32 {
    let log = serving.log();
    let line = log.lines().rfind(|line| line.contains("started the command")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    i32::try_from(line["pid"].as_i64().unwrap()).unwrap()
}

fn slay(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// Hangs with a daemon of its own when it is first started, and does its work when it is again.
const AGENT_THAT_HANGS_ONCE: &str = r#"cat > /dev/null; echo run >> "$HOME/runs"
if [ "$(wc -l < "$HOME/runs")" = 1 ]; then
  (setsid sh -c 'trap "" TERM HUP INT; echo $$ > "$HOME/daemon"; while :; do sleep 1000; done' > /dev/null 2>&1 &)
  until [ -s "$HOME/daemon" ]; do :; done
  echo $$ > "$HOME/agent"
  sleep 1000
fi
for name in agent daemon; do [ -e "/proc/$(cat "$HOME/$name")" ] && echo "$name" >> "$HOME/survivors"; done
echo change >> change.txt"#;

struct Hanging {
    outside: Outside,
    bench: Bench,
    init: Serving,
    agent: [String; 2],
}

impl Hanging {
    async fn start() -> Self {
        let outside = Outside::start().await;
        let bench = Bench::new(&outside)
            .with("RUNNER_AGENT_COMMAND", AGENT_THAT_HANGS_ONCE)
            .with("RUNNER_MAX_BOTS", "1");
        let init = init_of(&bench);
        assert_eq!(init.assign(&outside.assignment()).await, Some(200), "{}", init.log());
        let home = bench.path("workspace/home");
        let said = |name: &str| fs::read_to_string(home.join(name)).unwrap_or_default();
        until_serving("the agent is at work", &init, || said("agent").ends_with('\n')).await;
        let agent = ["agent", "daemon"].map(|name| said(name).trim().to_owned());
        assert!(agent.iter().all(|pid| is_there(pid)));
        Self {
            outside,
            bench,
            init,
            agent,
        }
    }

    /// How long it takes until the next start answers.
    async fn answers_again(&self) -> Duration {
        let begun = Instant::now();
        let address = || {
            let log = self.init.log();
            let line = log
                .lines()
                .filter_map(|line| line.split_once("listening on "))
                .nth(1)?
                .1
                .to_owned();
            line.split('"').next().map(str::to_owned)
        };
        let address = loop {
            if let Some(address) = address() {
                break address;
            }
            assert!(begun.elapsed() < NEVER, "{}", self.init.log());
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        let answer = client().get(format!("http://{address}/healthz")).send().await;
        assert_eq!(answer.unwrap().status().as_u16(), 200);
        begun.elapsed()
    }

    async fn completes(mut self) {
        let status = self.init.wait().await;
        let log = self.init.log();
        assert_eq!(status.code(), Some(0), "{log}");
        assert_eq!(self.outside.verdict()["event"], "completed", "{log}");
        assert_eq!(self.outside.verdict()["details"]["boots"], 2);
        assert_eq!(self.bench.runs(), 2);
        assert!(!self.bench.path("workspace/home/survivors").exists());
        assert!(!self.agent.iter().any(|pid| is_there(pid)));
        // By each start of `serve`, and not by init as well.
        assert_eq!(log.matches("RUNNER_MAX_BOTS is not a setting").count(), 2, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_serve_goes_on_with_its_task_and_its_agent_was_ended_in_order() {
    let hanging = Hanging::start().await;
    slay(served(&hanging.init));
    let took = hanging.answers_again().await;
    eprintln!("from SIGKILL of serve to /healthz: {} ms", took.as_millis());
    // Its supervisor was left the time to say how the agent ended.
    let report = fs::read_to_string(hanging.bench.path("state/agent/ended-1.json")).unwrap();
    assert!(report.contains("abandoned"), "{report}");
    hanging.completes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_supervisor_was_killed_too_is_dead_before_serve_is_there_again() {
    let hanging = Hanging::start().await;
    let serve = served(&hanging.init);
    let status = fs::read_to_string(format!("/proc/{}/status", hanging.agent[0])).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap();
    slay(parent.parse().unwrap());
    slay(serve);
    let took = hanging.answers_again().await;
    eprintln!(
        "from SIGKILL of supervisor and serve to /healthz: {} ms",
        took.as_millis()
    );
    assert!(!hanging.agent.iter().any(|pid| is_there(pid)));
    hanging.completes().await;
}
