//! What an agent started and left: dead when the agent has ended, whoever was killed meanwhile.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its room has failed")]

use std::fs;
use std::os::unix::process::ExitStatusExt;

use crate::harness::{Bench, Outside, Serving, until};
use crate::processes::{Supervisor, lives};

/// Begins a daemon, once: double fork, a session of its own, signals ignored, no descriptor and no variable of the agent's,
/// another directory, and it tries to lose its limits. Then waits until it is let go on.
const AGENT: &str = r#"
cat > /dev/null
if ! [ -s "$HOME/daemon" ]; then
    (setsid env -i /bin/bash -c '
        trap "" TERM HUP INT
        cd /
        ulimit -R 1000 2> /dev/null
        exec < /dev/null > /dev/null 2>&1
        echo $$ > "$0"
        while :; do /bin/sleep 1000; done' "$HOME/daemon" &)
    until [ -s "$HOME/daemon" ]; do sleep 0.02; done
fi
: > "$HOME/there"
until [ -e "$HOME/go" ]; do sleep 0.02; done
echo change >> change.txt
"#;

struct Room {
    outside: Outside,
    bench: Bench,
}

impl Room {
    async fn new() -> Self {
        let outside = Outside::start().await;
        let bench = Bench::new(&outside).with("RUNNER_AGENT_COMMAND", AGENT);
        Self { outside, bench }
    }

    /// A runner whose agent has begun its daemon and waits; the daemon's number.
    async fn at_work(&self) -> (Serving, i32) {
        self.begun(self.bench.start()).await
    }

    async fn begun(&self, serving: Serving) -> (Serving, i32) {
        serving.assign(&self.outside.assignment()).await;
        self.bench.agent_is_there(&serving).await;
        let daemon = fs::read_to_string(self.bench.path("workspace/home/daemon")).unwrap();
        let daemon = daemon.trim().parse().unwrap();
        assert!(lives(daemon));
        (serving, daemon)
    }

    /// The next start: the daemon is dead before its agent begins, and the task is completed.
    async fn goes_on(&self, daemon: i32) {
        fs::remove_file(self.bench.path("workspace/home/there")).unwrap();
        let mut serving = self.bench.start();
        self.bench.agent_is_there(&serving).await;
        assert!(!lives(daemon), "{daemon} is beside the next agent");
        self.bench.let_the_agent_go();
        assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
        assert_eq!(self.outside.verdict()["event"], "completed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_is_dead_when_its_agent_has_ended() {
    let room = Room::new().await;
    let (mut serving, daemon) = room.at_work().await;
    room.bench.let_the_agent_go();
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
    assert!(!lives(daemon));
    let lock = fs::read_to_string(room.bench.path("state/agent.lock")).unwrap();
    assert_eq!(lock, "", "there is nothing left to look for");
}

/// The runner dies at the moment at which the hand-over's intent is on disk, so that nobody clears anything away later.
#[tokio::test(flavor = "multi_thread")]
async fn no_process_of_the_agent_lives_when_the_hand_over_begins() {
    let room = Room::new().await;
    let (mut serving, daemon) = room.begun(room.bench.start_to_crash_at("after-intent-handover")).await;
    room.bench.let_the_agent_go();
    assert_eq!(serving.wait().await.signal(), Some(9), "{}", serving.log());
    assert!(!lives(daemon), "{daemon} is there while its work is taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_is_dead_before_the_next_agent_begins_when_the_runner_was_killed() {
    let room = Room::new().await;
    let (mut serving, daemon) = room.at_work().await;
    serving.kill().await;
    room.goes_on(daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_is_dead_before_the_next_agent_begins_when_the_supervisor_was_killed_as_well() {
    let room = Room::new().await;
    let (mut serving, daemon) = room.at_work().await;
    Supervisor::of(&room.bench).dies_with(&mut serving).await;
    assert!(lives(daemon), "nobody is there who could have killed it");
    room.goes_on(daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_is_dead_when_the_task_has_ended_whose_supervisor_alone_was_killed() {
    let room = Room::new().await;
    let (mut serving, daemon) = room.at_work().await;
    let supervisor = Supervisor::of(&room.bench);
    room.bench.let_the_agent_go();
    supervisor.kill();
    until("the daemon is dead", &serving, || !lives(daemon)).await;
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
    assert_eq!(
        room.bench.rows("outcome", Some("agent")).len(),
        2,
        "it was started again"
    );
}
