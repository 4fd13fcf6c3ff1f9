//! Processes of this machine, by their numbers: whether they live, and how a test has them die.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Bench, NEVER, Serving};

/// What has ended and was not waited for yet runs no more.
pub(crate) fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// What a program said of itself with `echo $$`.
pub(crate) fn number(said: &str) -> i32 {
    said.trim().parse().unwrap()
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// The one process whose arguments have both of these.
fn process_with(one: &str, other: &str) -> i32 {
    let found: Vec<i32> = numbers()
        .filter(|pid| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
            arguments.contains(one) && arguments.contains(other) && lives(*pid)
        })
        .collect();
    let [pid] = found[..] else {
        panic!("{one} and {other}: {found:?}");
    };
    pid
}

fn numbers() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The supervisor of the agent that is at work.
pub(crate) struct Supervisor(i32);

impl Supervisor {
    pub(crate) fn of(bench: &Bench) -> Self {
        let lock = bench.path("state/agent.lock");
        Self(process_with("__supervise", lock.to_str().unwrap()))
    }

    /// From here on it sees nothing and does nothing.
    pub(crate) fn stop(&self) {
        signal(self.0, Signal::SIGSTOP);
    }

    pub(crate) fn goes_on(&self) {
        signal(self.0, Signal::SIGCONT);
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(&self) {
        signal(self.0, Signal::SIGKILL);
        let begun = std::time::Instant::now();
        while lives(self.0) {
            assert!(begun.elapsed() < NEVER, "{} cannot be killed", self.0);
        }
    }

    /// Kills it together with its runner, so that it never sees that it is alone.
    pub(crate) async fn dies_with(&self, serving: &mut Serving) {
        self.stop();
        serving.kill().await;
        self.kill();
    }
}

/// The runner and all that it has started, at once, as when a container ends.
pub(crate) async fn the_pod_goes(mut serving: Serving) {
    let runner = i32::try_from(serving.pid()).unwrap();
    let below = descendants(runner);
    assert!(below.len() >= 2, "supervisor and agent: {below:?}");
    for pid in std::iter::once(runner).chain(below) {
        // One that has ended already is as dead.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    serving.wait().await;
}

pub(crate) fn descendants(of: i32) -> Vec<i32> {
    let mut parents: Vec<(i32, i32)> = Vec::new();
    for pid in numbers() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut found = vec![of];
    let mut next = 0;
    while next < found.len() {
        let of = found[next];
        found.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}
