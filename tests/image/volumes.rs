//! Volumes that are full, read-only or another user's: a named error, an exit code, and nothing half done.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use tempfile::TempDir;

use crate::container::{Container, Place, Plan};
use crate::outside::Outside;
use crate::small_disk::SmallDisk;

/// A volume of the container's user, of a few MiB.
struct SmallVolume {
    disk: SmallDisk,
    dir: TempDir,
}

impl SmallVolume {
    fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = SmallDisk::at(dir.path(), &format!("size={size},mode=0700,uid=1001,gid=1001"));
        Self { disk, dir }
    }

    fn mounted_at(&self, target: &str) -> String {
        format!("--volume={}:{target}", self.dir.path().display())
    }
}

/// Starts it, and expects that it refuses: with this exit code, and with these words in its log.
fn assert_refuses(container: &Container, code: i32, words: &[&str]) {
    container.start();
    assert_eq!(container.wait(), code, "{}", container.logs());
    let logs = container.logs();
    for word in words {
        assert!(logs.contains(word), "{word}: {logs}");
    }
    assert!(!logs.contains("listening on"), "{logs}");
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_volume_is_refused_by_name_and_the_others_stay_empty() {
    let outside = Outside::start().await;
    for variable in ["RUNNER_STATE_DIR", "RUNNER_SECRETS_DIR", "RUNNER_WORKSPACE"] {
        let dir = tempfile::tempdir().unwrap();
        chown(dir.path(), Some(1001), Some(1001)).unwrap();
        let container = Plan::hardened(&outside)
            .with(variable, "/ro")
            .and(format!("--volume={}:/ro:ro", dir.path().display()))
            .create();
        assert_refuses(&container, 2, &[variable, "/ro", "Read-only file system"]);
        assert!(is_empty(dir.path()));
        for other in ["state", "secrets", "workspace"] {
            assert!(is_empty(&container.path(other)), "{variable}: {other}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_another_user_is_refused_by_name() {
    let outside = Outside::start().await;
    for (variable, mode) in [
        ("RUNNER_STATE_DIR", 0o700),
        ("RUNNER_STATE_DIR", 0o777),
        ("RUNNER_WORKSPACE", 0o755),
    ] {
        let dir = tempfile::tempdir().unwrap();
        chown(dir.path(), Some(4242), Some(4242)).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
        let container = Plan::hardened(&outside)
            .with(variable, "/theirs")
            .and(format!("--volume={}:/theirs", dir.path().display()))
            .create();
        assert_refuses(&container, 2, &[variable, "/theirs"]);
        assert!(is_empty(dir.path()));
    }
}

/// A volume that both may write, with the journal of a runner that ran as another user.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_of_another_user_is_refused_and_left_as_it_is() {
    let outside = Outside::start().await;
    let mut first = Plan::hardened(&outside);
    first.owner = (0, 1001, 0o2770);
    let first = first.create();
    first.start();
    first.healthy().await;
    first.stop(10);
    let state = first.path("state");
    let before = fs::read(state.join("journal.db")).unwrap();
    let mut second = Plan::hardened(&outside).and(format!("--volume={}:/var/lib/runner", state.display()));
    second.state = Place::None;
    second.user = "1000:1001";
    second.owner = (0, 1001, 0o2770);
    let second = second.create();
    assert_refuses(
        &second,
        3,
        &[
            "failed to open the journal /var/lib/runner/journal.db",
            "ermission denied",
        ],
    );
    assert_eq!(fs::read(state.join("journal.db")).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_state_volume_is_refused_by_name() {
    let outside = Outside::start().await;
    let volume = SmallVolume::new("1m");
    volume.disk.fill();
    let mut plan = Plan::hardened(&outside).and(volume.mounted_at("/var/lib/runner"));
    plan.state = Place::None;
    let container = plan.create();
    assert_refuses(
        &container,
        2,
        &["RUNNER_STATE_DIR", "/var/lib/runner", "No space left on device"],
    );
    assert_eq!(
        fs::read_dir(volume.dir.path()).unwrap().count(),
        1,
        "nothing but the filler is there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_volume_that_is_full_when_the_agent_ends_has_room_for_the_end_of_the_task() {
    let outside = Outside::start().await;
    let volume = SmallVolume::new("8m");
    let agent = "cat > /dev/null; echo run >> \"$HOME/runs\"; : > \"$HOME/there\"; \
                 until [ -e \"$HOME/go\" ]; do sleep 0.02; done; echo change >> change.txt";
    let mut plan = Plan::hardened(&outside)
        .with_command(agent)
        .and(volume.mounted_at("/var/lib/runner"));
    plan.state = Place::None;
    let container = plan.in_mid_agent(&outside).await;
    volume.disk.fill();
    fs::write(container.path("workspace/home/go"), "").unwrap();
    assert_eq!(container.wait(), 0, "{}", container.logs());
    assert_eq!(outside.verdict()["event"], "completed");
    assert_eq!(outside.forge.pulls().len(), 1);
    let runs = fs::read_to_string(container.path("workspace/home/runs")).unwrap();
    assert_eq!(runs, "run\n");
}

/// The agent's own doing: the task fails by name, and is reported.
#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_the_agent_fills_fails_the_task_and_is_reported() {
    let outside = Outside::start().await;
    let volume = SmallVolume::new("8m");
    let container = Plan::hardened(&outside)
        .with_command("cat > /dev/null; dd if=/dev/zero of=big bs=1M count=64")
        .with("RUNNER_WORKSPACE", "/small")
        .and(volume.mounted_at("/small"))
        .assigned(&outside)
        .await;
    assert_eq!(container.wait(), 1, "{}", container.logs());
    let verdict = outside.verdict();
    assert_eq!(verdict["event"], "failed", "{verdict}");
    assert!(
        verdict["message"].as_str().unwrap().contains("o space left"),
        "{verdict}"
    );
    assert_eq!(outside.counts().verdicts_received.len(), 1);
}
