//! The whole task in a hardened container, against the world outside.

use std::path::PathBuf;

use serde_json::json;

use crate::container::{Container, Plan};
use crate::messages_api::{MessagesApi, Turn};
use crate::outside::{CANARY, Outside, files_with};

/// The task is done once, the container ended with 0, and the token is nowhere.
fn assert_completed(container: &Container, outside: &Outside) {
    assert_eq!(container.wait(), 0, "{}", container.logs());
    assert_eq!(outside.verdict()["event"], "completed", "{}", outside.verdict());
    let counts = outside.counts();
    assert_eq!(
        (counts.tokens_minted, counts.verdicts_received.len()),
        (1, 1),
        "{counts:?}"
    );
    assert_eq!(outside.forge.pulls().len(), 1);
    assert_eq!(outside.git.counts().pushes, 1);
    assert!(!container.logs().contains(CANARY), "{}", container.logs());
    assert_eq!(files_with(container.volumes(), CANARY), [] as [PathBuf; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hardened_container_does_the_whole_task_with_claude_code() {
    let outside = Outside::start().await;
    let model = MessagesApi::start().await;
    model.script([
        Turn::bash("id; touch /root-is-writable; git log --oneline | head -3"),
        Turn::Tool(
            "Write",
            json!({"file_path": "/workspace/repo/new.txt", "content": "new\n"}),
        ),
        Turn::Says("I wrote new.txt."),
    ]);
    let container = Plan::hardened(&outside)
        .with("ANTHROPIC_BASE_URL", model.url())
        .with("ANTHROPIC_API_KEY", "sk-ant-of-this-test")
        .assigned(&outside)
        .await;
    assert_completed(&container, &outside);
    let heard = model.heard();
    assert!(heard.contains("uid=1001(runner) gid=1001(runner)"), "{heard}");
    assert!(
        heard.contains("/root-is-writable': "),
        "the root file system is read-only"
    );
    assert_eq!(
        outside.remote(&["show", &format!("runner/{}:new.txt", outside.task)]),
        "new"
    );
}

/// As Kubernetes has it with `runAsUser: 1000` and `fsGroup: 1001`: volumes of root's, writable by a further group.
#[tokio::test(flavor = "multi_thread")]
async fn any_user_with_the_volumes_group_does_the_whole_task() {
    let outside = Outside::start().await;
    let mut plan = Plan::hardened(&outside)
        .with_command("cat > /dev/null; id > change.txt")
        .and("--group-add=1001");
    plan.user = "1000:1000";
    plan.owner = (0, 1001, 0o2770);
    let container = plan.assigned(&outside).await;
    assert_completed(&container, &outside);
    let id = outside.remote(&["show", &format!("runner/{}:change.txt", outside.task)]);
    assert!(id.starts_with("uid=1000(") && id.contains(",1001(runner)"), "{id}");
}
