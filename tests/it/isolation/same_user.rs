//! The agent has the runner's user. What it can do to the runner's processes, to the container's first one, and to a
//! process that is nobody's business, as a user who is not root.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Stdio};

use super::attacker::{Answers, DONE, EACCES, EPERM, answers, build};
use crate::harness::{Bench, Outside, Serving, as_somebody, copy_of_the_program};

/// A process of the same user, outside of everything. Killed when dropped.
struct Bystander(Child);

impl Bystander {
    fn start() -> Self {
        let mut sleep = as_somebody(Path::new("sleep"));
        Self(sleep.arg("1000").stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const OURS: [&str; 3] = ["supervisor", "runner", "init"];
const PROCESSES: [&str; 4] = ["supervisor", "runner", "init", "bystander"];

/// What the agent of a run under `runner init` got, by process, and of abstract sockets.
async fn run(sandbox: &str) -> (Vec<Answers>, Answers) {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside);
    std::fs::set_permissions(bench.dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let bin = bench.path("bin");
    std::fs::create_dir(&bin).unwrap();
    copy_of_the_program(&bin.join("runner"));
    build(&bin.join("attacker"));

    let name = format!("isolation-{}-{sandbox}", std::process::id());
    let at = |kind: &str| SocketAddr::from_abstract_name(format!("{name}-{kind}")).unwrap();
    let _stream = UnixListener::bind_addr(&at("stream")).unwrap();
    let _datagram = UnixDatagram::bind_addr(&at("datagram")).unwrap();
    let bystander = Bystander::start();
    let script = format!(
        r#"cat > /dev/null; echo change >> change.txt
parent() {{ sed -n 's/^PPid:[[:space:]]*//p' "/proc/$1/status"; }}
supervisor=$PPID; runner=$(parent "$supervisor"); init=$(parent "$runner"); bystander={}
echo "$init" > "$HOME/init-pid"
for who in {}; do
  eval "pid=\$$who"
  attacker signal=$pid signal-thread=$pid signal-by-descriptor=$pid limit-seen=$pid limit-set=$pid traces=$pid > "$HOME/$who"
  attacker reads=/proc/$pid/environ | sed s/reads/environ/ >> "$HOME/$who"
  attacker reads=/proc/$pid/mem | sed s/reads/mem/ >> "$HOME/$who"
  attacker writes=/proc/$pid/mem >> "$HOME/$who"
done
attacker abstract-stream={name}-stream abstract-datagram={name}-datagram > "$HOME/abstract"
"#,
        bystander.0.id(),
        PROCESSES.join(" "),
    );
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let bench = bench
        .with("PATH", &path)
        .with("RUNNER_AGENT_COMMAND", &script)
        .with("RUNNER_SANDBOX", sandbox);
    let mut command = as_somebody(&bin.join("runner"));
    command.args(["init", "--", "runner", "serve"]).env_clear();
    let settings = bench.command();
    command.envs(settings.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut serving = Serving::spawn(command);
    serving.assign(&outside.assignment()).await;
    let init = serving.pid();
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
    let got = |who: &str| std::fs::read_to_string(bench.path("workspace/home").join(who)).unwrap();
    // Without this, what it did not get would prove nothing: it has to have tried the right processes.
    assert_eq!(got("init-pid").trim(), init.to_string());
    (
        PROCESSES.map(|who| answers(&got(who))).into(),
        answers(&got("abstract")),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn no_process_outside_the_sandbox_is_signalled_limited_traced_or_read() {
    let (processes, abstract_sockets) = run("require").await;
    for (who, got) in PROCESSES.iter().zip(&processes) {
        for (act, answer) in got {
            let expected = match act.as_str() {
                // A question that tells nothing.
                "limit-seen" => DONE,
                "environ" | "mem" | "writes" => EACCES,
                _ => EPERM,
            };
            assert_eq!(answer, expected, "{act} of {who}");
        }
        assert_eq!(got.len(), 9, "{who}");
    }
    assert!(abstract_sockets.len() == 2 && abstract_sockets.values().all(|answer| answer == EPERM));
}

/// The control. What is still refused without a sandbox is what a process keeps by itself that is not dumpable; of one
/// that is, the same user reads it.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_sandbox_each_is_signalled_and_limited_and_none_of_ours_is_read() {
    let (processes, abstract_sockets) = run("off").await;
    for (who, got) in PROCESSES.iter().zip(&processes) {
        for act in ["signal", "signal-thread", "signal-by-descriptor", "limit-set"] {
            assert_eq!(got[act], DONE, "{act} of {who}");
        }
        let environ = if OURS.contains(who) { EACCES } else { DONE };
        assert_eq!(got["environ"], environ, "{who}");
        for act in ["traces", "mem", "writes"] {
            assert!(!OURS.contains(who) || got[act] != DONE, "{act} of {who}");
        }
    }
    assert!(
        abstract_sockets.values().all(|answer| answer == DONE),
        "{abstract_sockets:?}"
    );
}
