//! The runner on a kernel that does not have the whole sandbox: played by a filter of system calls around all of it.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::libc;
use runner::process::{StartFailure, read_report};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

use crate::harness::{Bench, Outside, RUNNER, Serving};

/// What such a kernel answers to what it does not have.
#[derive(Clone, Copy)]
struct Lacking {
    call: i64,
    answer: Errno,
}

/// Landlock is not built in.
const NO_LANDLOCK: Lacking = Lacking {
    call: libc::SYS_landlock_create_ruleset,
    answer: Errno::ENOSYS,
};
/// It is, and is not among the security modules that are switched on.
const LANDLOCK_OFF: Lacking = Lacking {
    call: libc::SYS_landlock_create_ruleset,
    answer: Errno::EOPNOTSUPP,
};
/// No filters of system calls.
const NO_FILTERS: Lacking = Lacking {
    call: libc::SYS_seccomp,
    answer: Errno::EINVAL,
};

const ORDERS: &str = "OLDER_KERNEL";

/// The same program on such a kernel. It is this test binary that puts the filter on itself and becomes the program.
fn on_a_kernel(lacking: Lacking, command: &Command) -> Command {
    let program = command.get_program().to_str().unwrap();
    let arguments = command.get_args().map(|argument| argument.to_str().unwrap());
    let line: Vec<&str> = std::iter::once(program).chain(arguments).collect();
    let orders = serde_json::json!([lacking.call, lacking.answer as i32, line]);
    let mut on_it = Command::new(std::env::current_exe().unwrap());
    let name = concat!(module_path!(), "::becomes_a_program_on_an_older_kernel");
    let name = name.split_once("::").unwrap().1;
    on_it.args(["--ignored", "--exact", "--nocapture", name]).env_clear();
    on_it.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    on_it.env(ORDERS, orders.to_string()).stdin(Stdio::null());
    on_it.stdout(Stdio::null()).stderr(Stdio::piped());
    on_it
}

#[test]
#[ignore = "started by the others, as the program"]
fn becomes_a_program_on_an_older_kernel() {
    let orders = std::env::var(ORDERS).unwrap();
    let (call, answer, line): (i64, u32, Vec<String>) = serde_json::from_str(&orders).unwrap();
    let rules = BTreeMap::from([(call, Vec::new())]);
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(answer), arch).unwrap();
    apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
    let error = Command::new(&line[0]).args(&line[1..]).env_remove(ORDERS).exec();
    panic!("{}: {error}", line[0]);
}

/// What a whole run came to.
struct Run {
    outside: Outside,
    bench: Bench,
    code: Option<i32>,
    log: String,
}

impl Run {
    async fn on_a_kernel(lacking: Lacking, sandbox: &str) -> Self {
        let outside = Outside::start().await;
        let bench = Bench::new(&outside).with("RUNNER_SANDBOX", sandbox);
        let mut serving = Serving::spawn(on_a_kernel(lacking, &bench.command()));
        serving.assign(&outside.assignment()).await;
        let code = serving.wait().await.code();
        let log = serving.log();
        Self {
            outside,
            bench,
            code,
            log,
        }
    }

    fn refused_for(&self, missing: &str) {
        assert_eq!(self.code, Some(1), "{}", self.log);
        let verdict = self.outside.verdict();
        assert_eq!(verdict["event"], "failed");
        assert_eq!(verdict["details"]["reason"], "SandboxUnavailable");
        let message = verdict["message"].as_str().unwrap();
        assert!(
            message.contains(&format!("does not give {missing};")) && message.contains("RUNNER_SANDBOX=prefer"),
            "{message}"
        );
        assert_eq!(self.bench.runs(), 0, "the agent ran");
        assert_eq!(self.outside.counts().tokens_minted, 0, "the one-time token was spent");
    }

    fn went_on_with(&self, rights: &[&str], missing: &str) {
        assert_eq!(self.code, Some(0), "{}", self.log);
        assert_eq!(self.outside.verdict()["event"], "completed");
        assert!(
            self.log.contains(&format!("whole sandbox: {missing} is missing")),
            "{}",
            self.log
        );
        let notes = self.bench.rows("note", None);
        assert_eq!(notes[0]["body"]["rights"], serde_json::json!(rights));
    }
}

const LANDLOCKS: &str = "files, refer, truncate, ioctl, abstract_sockets, signals";

#[tokio::test(flavor = "multi_thread")]
async fn without_landlock_require_fails_closed_and_names_what_is_missing() {
    for lacking in [NO_LANDLOCK, LANDLOCK_OFF] {
        Run::on_a_kernel(lacking, "require").await.refused_for(LANDLOCKS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_landlock_prefer_warns_and_goes_on_with_the_filter_of_system_calls() {
    let run = Run::on_a_kernel(NO_LANDLOCK, "prefer").await;
    run.went_on_with(&["syscalls"], LANDLOCKS);
    assert!(run.log.contains("without a sandbox for files"), "{}", run.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_filters_require_fails_closed_and_prefer_goes_on_with_landlock() {
    Run::on_a_kernel(NO_FILTERS, "require").await.refused_for("syscalls");
    let rights: Vec<&str> = LANDLOCKS.split(", ").collect();
    Run::on_a_kernel(NO_FILTERS, "prefer")
        .await
        .went_on_with(&rights, "syscalls");
}

/// `__sandbox` believes nobody: it looks at what it got.
#[test]
fn an_agent_whose_filter_cannot_be_put_on_is_not_started_where_it_is_required() {
    let room = tempfile::tempdir().unwrap();
    let report = room.path().join("report.json");
    let failure = room.path().join("report.json.failure");
    let sandbox = |demand: &[&str]| {
        let mut command = Command::new(RUNNER);
        command
            .args(["__supervise", "--grace-ms", "100", "--lock"])
            .arg(room.path().join("lock"));
        command.arg("--report").arg(&report).args(["--", RUNNER, "__sandbox"]);
        command
            .args(demand)
            .arg("--failure")
            .arg(&failure)
            .args(["--rx", "/", "--", "/bin/true"]);
        let mut command = on_a_kernel(NO_FILTERS, &command);
        // The lifeline: it has to stay.
        let mut supervisor = command.stdin(Stdio::piped()).spawn().unwrap();
        let _lifeline = supervisor.stdin.take().unwrap();
        assert!(supervisor.wait().unwrap().success());
        read_report(&report).unwrap().unwrap().failure
    };
    let Some(StartFailure::Sandbox { in_force, detail }) = sandbox(&["--require"]) else {
        panic!("it was started");
    };
    assert!(detail.contains("filter of system calls"), "{detail}");
    assert!(in_force.has(runner::sandbox::Right::Signals), "{in_force}");
    assert_eq!(sandbox(&[]), None);
    assert!(Path::new(&report).exists());
}
