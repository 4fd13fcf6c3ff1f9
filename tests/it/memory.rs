//! Runners whose control group has a limit on memory, made for the test: what is left of a task when there is none left.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its room has failed")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{Bench, Outside, Serving};

const MIB: u64 = 1 << 20;
/// More than a runner and its tools need beside what [`GROWS`] begins with.
const LIMIT: u64 = 384 * MIB;
/// It keeps what it reads until the end: 270 MiB, then 1 MiB more, again and again, so slowly that a busy machine sees it.
const GROWS: &str =
    "(head -c 283115520 /dev/zero; while head -c 1048576 /dev/zero; do sleep 0.1; done) | tail > /dev/null";

/// A control group of version 1 or 2. Removed when dropped.
struct Group {
    path: PathBuf,
    limit: &'static str,
    kills: &'static str,
}

impl Group {
    /// None, with the reason said, where this process may make none.
    fn new(name: &str) -> Option<Self> {
        let memberships = fs::read_to_string("/proc/self/cgroup").unwrap();
        let group = |prefix: &str| {
            let line = memberships.lines().find(|line| line.contains(prefix))?;
            Some(line.split_once(prefix)?.1.trim_start_matches('/').to_owned())
        };
        let one = (
            Path::new("/sys/fs/cgroup/memory"),
            group(":memory:"),
            "memory.limit_in_bytes",
            "memory.oom_control",
        );
        let two = (Path::new("/sys/fs/cgroup"), group("0::"), "memory.max", "memory.events");
        for (root, own, limit, kills) in [one, two] {
            let Some(own) = own else { continue };
            let path = root
                .join(own)
                .join(format!("runner-test-{name}-{}", std::process::id()));
            let made = fs::create_dir(&path).is_ok();
            if made && path.join(limit).exists() {
                return Some(Self { path, limit, kills });
            }
            if made {
                fs::remove_dir(&path).unwrap();
            }
        }
        println!("not run: this process may make no control group with a limit on memory");
        None
    }

    fn limit(&self, bytes: u64) {
        // Where there is swap, memory would not run out.
        for (file, value) in [("memory.swap.max", "0"), ("memory.swappiness", "0")] {
            let _ = fs::OpenOptions::new()
                .write(true)
                .open(self.path.join(file))
                .and_then(|mut file| file.write_all(value.as_bytes()));
        }
        fs::write(self.path.join(self.limit), bytes.to_string()).unwrap();
    }

    fn kills(&self) -> u64 {
        let text = fs::read_to_string(self.path.join(self.kills)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.unwrap().parse().unwrap()
    }

    /// A runner that is in it from its first moment.
    fn start(&self, bench: &Bench) -> Serving {
        let inner = bench.command();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""])
            .arg(&self.path)
            .arg(inner.get_program())
            .args(inner.get_args())
            .env_clear()
            .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Serving::spawn(command)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

fn killed_by_the_kernel(bench: &Bench) -> Vec<serde_json::Value> {
    let notes = bench.rows("note", None).into_iter();
    let bodies = notes.map(|row| row["body"].clone());
    bodies.filter(|body| body["note"] == "out_of_memory").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_stopped_before_memory_runs_out_and_its_work_is_saved() {
    let Some(group) = Group::new("stopped") else { return };
    group.limit(LIMIT);
    let outside = Outside::start().await;
    let bench = Bench::new(&outside).with(
        "RUNNER_AGENT_COMMAND",
        &format!("cat > /dev/null; echo change > change.txt; {GROWS}"),
    );
    let mut serving = group.start(&bench);
    serving.assign(&outside.assignment()).await;
    assert_eq!(serving.wait().await.code(), Some(1), "{}", serving.log());
    let verdict = outside.verdict();
    assert_eq!(verdict["details"]["reason"], "AgentOutOfMemory", "{verdict}");
    let message = verdict["message"].as_str().unwrap();
    assert!(message.contains("of 384.00 MiB of memory were in use"), "{message}");
    assert_eq!(verdict["details"]["outcome"], "salvaged", "{verdict}");
    assert_eq!(outside.forge.pulls().len(), 1);
    assert_eq!(group.kills(), 0, "the kernel was not needed");
    assert!(killed_by_the_kernel(&bench).is_empty());
}

/// With a limit that comes while it runs nobody but the kernel looks at it.
async fn killed_by_kernel(name: &str, after: &str) -> Option<(Outside, Bench)> {
    let group = Group::new(name)?;
    let outside = Outside::start().await;
    let bench = Bench::new(&outside).with(
        "RUNNER_AGENT_COMMAND",
        &format!(
            "cat > /dev/null; echo change > change.txt; : > \"$HOME/there\"; \
             until [ -e \"$HOME/go\" ]; do sleep 0.02; done; {GROWS}; {after}"
        ),
    );
    let mut serving = group.start(&bench);
    serving.assign(&outside.assignment()).await;
    bench.agent_is_there(&serving).await;
    group.limit(LIMIT / 2);
    bench.let_the_agent_go();
    serving.wait().await;
    assert!(group.kills() > 0, "{}", serving.log());
    Some((outside, bench))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_was_killed_for_memory_is_noted_and_the_agent_goes_on() {
    let Some((outside, bench)) = killed_by_kernel("noted", "exit 0").await else {
        return;
    };
    assert_eq!(outside.verdict()["event"], "completed");
    let notes = killed_by_the_kernel(&bench);
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!(notes[0]["killed"], 1, "{notes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_killed_for_memory_fails_by_that_name_and_its_work_is_saved() {
    let Some((outside, _)) = killed_by_kernel("killed", "exit $?").await else {
        return;
    };
    let verdict = outside.verdict();
    assert_eq!(verdict["details"]["reason"], "AgentOutOfMemory", "{verdict}");
    let message = verdict["message"].as_str().unwrap();
    assert!(message.contains("the kernel killed a process"), "{message}");
    assert_eq!(verdict["details"]["outcome"], "salvaged", "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_another_kind_says_what_was_killed() {
    let Some((outside, _)) = killed_by_kernel("named", "echo no luck; exit 3").await else {
        return;
    };
    let verdict = outside.verdict();
    assert_eq!(verdict["details"]["reason"], "AgentFailed", "{verdict}");
    let message = verdict["message"].as_str().unwrap();
    assert!(
        message.contains("for want of memory, the kernel killed a process"),
        "{message}"
    );
}
