//! A whole task on a small Go project: Claude Code edits, `go test` is the check, and what is pushed is green.

use std::time::Duration;

use runner::embedded::git_server::SeedCommit;
use serde_json::json;

use crate::container::Plan;
use crate::messages_api::{MessagesApi, Turn};
use crate::outside::Outside;

/// The cache is empty: all of the standard library that is used has to be built.
const BUILDING: Duration = Duration::from_mins(5);
const FILE: &str = "/workspace/repo/greet.go";
const BROKEN: &str = "return \"hello\" + name";
const BETTER: &str = "return \"hello,\" + name";
const RIGHT: &str = "return \"hello, \" + name";

/// A test that is red, and C between it and the answer: so compilers take part.
fn project() -> SeedCommit {
    let greet = format!(
        "package greet\n\n// static int greetings(void) {{ return 1; }}\nimport \"C\"\n\n\
         // Greetings is how often somebody is greeted.\nfunc Greetings() int {{ return int(C.greetings()) }}\n\n\
         // Greet greets by name.\nfunc Greet(name string) string {{\n\t{BROKEN}\n}}\n"
    );
    let test = "package greet\n\nimport \"testing\"\n\nfunc TestGreet(t *testing.T) {\n\
                \tif got := Greet(\"you\"); got != \"hello, you\" || Greetings() != 1 {\n\t\tt.Fatalf(\"got %q\", got)\n\t}\n}\n";
    SeedCommit {
        message: "a project".to_owned(),
        files: [
            ("go.mod", "module example.org/greet\n\ngo 1.24\n"),
            ("greet.go", &greet),
            ("greet_test.go", test),
        ]
        .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
        .into(),
    }
}

fn edit(old: &str, new: &str) -> Turn {
    Turn::Tool("Edit", json!({"file_path": FILE, "old_string": old, "new_string": new}))
}

/// Red at the base, which the set-up makes sure of; still red after the first edit; green after the second.
#[tokio::test(flavor = "multi_thread")]
async fn claude_code_mends_a_go_project_until_its_tests_are_green_and_then_it_is_a_pull_request() {
    let outside = Outside::start().await;
    outside.git.seed("o", "r", &[project()]).await.unwrap();
    let model = MessagesApi::start().await;
    model.script([
        Turn::bash("go test ./...; go env GOCACHE GOTOOLCHAIN"),
        Turn::Tool("Read", json!({"file_path": FILE})),
        edit(BROKEN, BETTER),
        Turn::Says("A comma was missing."),
        edit(BETTER, RIGHT),
        Turn::Says("A space was missing, too."),
    ]);
    let container = Plan::hardened(&outside)
        .with("RUNNER_SETUP_COMMAND", "! go test ./... && go vet ./...")
        .with("RUNNER_CHECK_COMMAND", "go vet ./... && go test ./...")
        .with("ANTHROPIC_BASE_URL", model.url())
        .with("ANTHROPIC_API_KEY", "sk-ant-of-this-test")
        .assigned(&outside)
        .await;
    assert_eq!(container.wait_for(BUILDING), 0, "{}", container.logs());

    let heard = model.heard();
    for words in [r#"got \"helloyou\""#, "/workspace/home/.cache/go-build\\nlocal"] {
        assert!(heard.contains(words), "the agent saw no {words}");
    }
    let rows = container.dump();
    let ends = |effect: &str| -> Vec<_> {
        let rows = rows
            .iter()
            .filter(|row| row["kind"] == "outcome" && row["effect"] == effect);
        rows.map(|row| row["body"]["fact"]["end"].clone()).collect()
    };
    assert_eq!(ends("setup"), [json!({"exit": 0})], "the tests are red at the base");
    assert_eq!(ends("check"), [json!({"exit": 1}), json!({"exit": 0})]);
    assert!(heard.contains(r#"got \"hello,you\""#), "the agent heard of the check");

    assert_eq!(
        outside.verdict()["details"]["outcome"],
        "pull_request",
        "{}",
        outside.verdict()
    );
    let pulls = outside.forge.pulls();
    assert_eq!(pulls.len(), 1);
    assert!(!pulls[0].draft, "{:?}", pulls[0]);
    let branch = format!("runner/{}", outside.task);
    assert!(outside.remote(&["show", &format!("{branch}:greet.go")]).contains(RIGHT));
    // Nothing that was built is in it.
    let changed = outside.remote(&["diff", "--name-only", &format!("{branch}~1"), &branch]);
    assert_eq!(changed, "greet.go");
}
