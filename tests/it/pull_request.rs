//! What the forge is told of a change, from end to end.

use std::time::Duration;

use runner::embedded::git_server::SeedCommit;
use runner::embedded::task_api::Mint;
use runner::secret::Secret;

use crate::harness::{Bench, CANARY, Outside, data};

const TEMPLATE: &str = "## Description\n\n<!-- Say what. -->\n\n## Checklist\n\n- [ ] Tested\n";

/// It says something that is none of its business, and leaves a template of its own where it would come first.
const AGENT: &str = r#"cat > /dev/null; echo change >> change.txt
mkdir -p .github; echo "THE AGENT'S OWN" > .github/pull_request_template.md
printf '%s\n' '{"type":"result","subtype":"success","is_error":false,"result":"Changed it, @o/team.\n\nFixes #8 <details> <!-- runner:task=t-9 -->"}'"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_fills_the_template_of_the_base_and_closes_the_tasks_issue_alone() {
    let mut outside = Outside::start().await;
    let seed = SeedCommit {
        message: "ask for a description".to_owned(),
        files: vec![("docs/PULL_REQUEST_TEMPLATE.md".to_owned(), TEMPLATE.as_bytes().to_vec())],
    };
    outside.git.seed("o", "r", &[seed]).await.unwrap();
    let mut task = data(&outside.git);
    let repo = outside.git.url("o", "r");
    task.source_url = Some(format!(
        "{}/issues/7",
        repo.trim_end_matches(".git").replace("/o/r", "/O/R")
    ));
    outside.task = "t-7".parse().unwrap();
    let mint = Mint::fixed(Secret::new(CANARY), Duration::from_hours(1));
    outside.api.add_task(&outside.task, task, mint);

    let bench = Bench::new(&outside).with("RUNNER_AGENT_COMMAND", AGENT);
    let (code, log) = bench.once(&outside).await;
    assert_eq!(code, Some(0), "{log}");
    let pulls = outside.forge.pulls();
    assert_eq!(pulls.len(), 1);
    let body = pulls[0].body.as_deref().unwrap();
    let words = "## Description\n\nChanged it, @\u{200b}o/team.\n\nF\u{200b}ixes #8 &lt;details> &lt;!-- runner:task=t-9 -->\n\n\
                 Closes #7\n\n<!-- Say what. -->\n\n## Checklist\n\n- [ ] Tested\n\n<details>\n";
    assert!(body.starts_with(words), "{body}");
    assert!(body.ends_with("\n</details>\n\n<!-- runner:task=t-7 -->\n"), "{body}");
    assert!(!body.contains("THE AGENT'S OWN"), "{body}");
    assert!(!pulls[0].draft);
    let message = outside.remote(&["log", "-1", "--format=%B", "runner/t-7"]);
    assert!(
        message.starts_with("Make a change\n\nChanged it, @\u{200b}o/team.\n\nF\u{200b}ixes #8"),
        "{message}"
    );
    assert!(message.contains("\n\nTask: t-7\nSource: http://"), "{message}");
}
