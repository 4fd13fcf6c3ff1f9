//! What is not pushed, whatever the agent did: each rule with a change that breaks it, and the same change where the rule
//! is not there, or is kept.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::harness::{Bench, Outside, RUNNER};

/// The model's key, of no known shape.
const KEY: &str = "the-key-of-the-model-0123456789";
/// Of a known shape, and nobody's.
const GHP: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";

/// One run with an agent that does this, after which it is known what became of it.
struct Trial {
    outside: Outside,
    bench: Bench,
    code: Option<i32>,
    log: String,
}

impl Trial {
    async fn of(agent: &str, settings: &[(&str, &str)]) -> Self {
        let outside = Outside::start().await;
        let mut bench = Bench::new(&outside)
            .with(
                "RUNNER_AGENT_COMMAND",
                &format!("cat > \"$HOME/prompt\"; set -e; {agent}"),
            )
            .with("ANTHROPIC_API_KEY", KEY);
        for (name, value) in settings {
            bench = bench.with(name, value);
        }
        let (code, log) = bench.once(&outside).await;
        Self {
            outside,
            bench,
            code,
            log,
        }
    }

    /// It was refused, nothing left this machine, and the work is where the message says; gives the message.
    async fn refused(&self) -> String {
        assert_eq!(self.code, Some(1), "{}", self.log);
        let verdict = self.outside.verdict();
        assert_eq!(verdict["details"]["reason"], "PolicyViolation", "{verdict}");
        assert_eq!(verdict["details"]["error"], verdict["message"]);
        assert_eq!(self.outside.branch().await, None);
        assert_eq!(
            (self.outside.git.counts().pushes, self.outside.forge.pulls().len()),
            (0, 0)
        );
        let message = verdict["message"].as_str().unwrap().to_owned();
        let git = self.bench.path("state/git");
        let kept = format!("The work is kept in {} as refs/runner/refused.", git.display());
        assert!(message.contains(&kept), "{message}");
        let shown = Command::new("git")
            .arg("--git-dir")
            .arg(&git)
            .args(["log", "--format=%H", "refs/runner/refused"])
            .output()
            .unwrap();
        assert!(shown.status.success());
        assert!(
            !String::from_utf8(shown.stdout)
                .unwrap()
                .starts_with(self.outside.base.as_str())
        );
        for secret in [KEY, GHP] {
            assert!(!verdict.to_string().contains(secret) && !self.log.contains(secret));
        }
        message
    }

    async fn pushed(&self) {
        assert_eq!(self.code, Some(0), "{}", self.log);
        assert!(self.outside.branch().await.is_some());
        assert_eq!(self.outside.forge.pulls().len(), 1);
    }
}

/// Refused for these reasons, one a line, in this order.
async fn is_refused(agent: &str, settings: &[(&str, &str)], expected: &[&str]) -> String {
    let message = Trial::of(agent, settings).await.refused().await;
    let lines: Vec<&str> = message.lines().filter_map(|line| line.strip_prefix("- ")).collect();
    assert_eq!(lines, expected, "{message}");
    message
}

async fn is_pushed(agent: &str, settings: &[(&str, &str)]) {
    Trial::of(agent, settings).await.pushed().await;
}

const WORKFLOW: &str = "mkdir -p .github/workflows; echo on: push > .github/workflows/ci.yml; echo x > x";
const PROTECTED: &str = "a protected path (RUNNER_PROTECTED_PATHS)";

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_protected_path_is_not_pushed() {
    let said = is_refused(WORKFLOW, &[], &[&format!(".github/workflows/ci.yml: {PROTECTED}")]).await;
    assert!(
        said.starts_with("The change contains something that may not be pushed. 1 violation:"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_the_same_change_is_pushed() {
    is_pushed(WORKFLOW, &[("RUNNER_PROTECTED_PATHS", "")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_commit_does_and_the_next_undoes_is_refused_too() {
    let agent =
        "echo x > x.lock; git add -A; git commit -qm one; git rm -q x.lock; echo y > y; git add -A; git commit -qm two";
    is_refused(
        agent,
        &[("RUNNER_PROTECTED_PATHS", "ci/**,*.lock")],
        &[&format!("x.lock: {PROTECTED}")],
    )
    .await;
    is_pushed(agent, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_and_a_deletion_touch_what_was_there() {
    let settings = [("RUNNER_PROTECTED_PATHS", "README.md")];
    let expected = format!("README.md: {PROTECTED}");
    is_refused("git mv README.md README.txt", &settings, &[&expected]).await;
    is_refused("rm README.md", &settings, &[&expected]).await;
    // Upper and lower case are as they are.
    is_pushed("rm README.md", &[("RUNNER_PROTECTED_PATHS", "readme.md")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_brings_in_what_no_parent_has_is_seen() {
    let agent = "git checkout -q -b side; echo s > s; git add -A; git commit -qm side; git checkout -q -; echo m > m; \
                 git add -A; git commit -qm main; git merge -q --no-commit --no-ff side; echo x > x.lock; git add -A; \
                 git commit -qm merge; git checkout -q -b other HEAD~1; echo o > o; git add -A; git commit -qm other; \
                 git checkout -q -; git merge -q --no-commit --no-ff other; git rm -qf x.lock; git commit -qm again";
    is_refused(
        agent,
        &[("RUNNER_PROTECTED_PATHS", "*.lock")],
        &[&format!("x.lock: {PROTECTED}")],
    )
    .await;
    is_pushed(agent, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_is_told_what_is_protected() {
    let trial = Trial::of("echo x > x", &[("RUNNER_PROTECTED_PATHS", "infra/**,*.lock")]).await;
    trial.pushed().await;
    let prompt = std::fs::read_to_string(trial.bench.path("workspace/home/prompt")).unwrap();
    assert!(
        prompt.contains("Do not touch these paths: infra/**, *.lock."),
        "{prompt}"
    );
}

#[test]
fn a_glob_that_is_none_is_exit_2() {
    let output = Command::new(RUNNER)
        .arg("serve")
        .env_clear()
        .env("RUNNER_PROTECTED_PATHS", "ok/**,a[")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("\"a[\"") && said.contains("RUNNER_PROTECTED_PATHS"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_an_added_line_is_named_by_its_place_and_not_shown() {
    let encoded = STANDARD.encode(format!("x:{KEY}"));
    let agent = format!("mkdir a; printf 'one\\ntwo\\n{GHP}\\n' > a/b.txt; printf '\\n{encoded}' > c.txt");
    let expected = [
        "a/b.txt:3: a GitHub token in what is added",
        "c.txt:2: a secret of this runner in what is added",
    ];
    is_refused(&agent, &[], &expected).await;
    let harmless = agent.replace(GHP, "ghp_").replace(&encoded, "nothing");
    is_pushed(&harmless, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_a_later_commit_takes_out_again_is_found() {
    let agent = format!(
        "echo {GHP} > x; git add -A; git commit -qm one; echo clean > x; git add -A; git commit -qm two; git show HEAD~1:x > \"$HOME/was\""
    );
    is_refused(&agent, &[], &["x:1: a GitHub token in what is added"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_a_message_a_name_or_a_binary_file_is_found() {
    let agent = format!(
        "echo x > x; git add -A; git commit -qm 'it is {GHP}'; echo y > {GHP}; printf 'a\\0{KEY}' > bin; printf 'b\\0{GHP}' > chance"
    );
    let message = Trial::of(&agent, &[]).await.refused().await;
    for expected in [
        "- bin: a secret of this runner in what is added",
        ": a GitHub token in what is added",
        "- ghp_[redacted]: a GitHub token in what is added",
        "- commit ",
    ] {
        assert!(message.contains(expected), "{expected}: {message}");
    }
    assert!(
        !message.contains("chance"),
        "in a binary file, a shape is chance: {message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_there_before_is_not_the_agents() {
    let outside = Outside::start().await;
    let was = runner::embedded::git_server::SeedCommit {
        message: "third".to_owned(),
        files: vec![("old.txt".to_owned(), format!("one\n{GHP}\n").into_bytes())],
    };
    outside.git.seed("o", "r", &[was]).await.unwrap();
    let agent = "cat > /dev/null; (echo zero; cat old.txt; echo three) > new; mv new old.txt; cp README.md copy";
    let bench = Bench::new(&outside).with("RUNNER_AGENT_COMMAND", agent);
    let (code, log) = bench.once(&outside).await;
    assert_eq!(code, Some(0), "{log}");
    assert!(outside.branch().await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_out_of_the_repository_is_not_pushed() {
    let agent = "mkdir d; ln -s /etc/passwd absolute; ln -s ../../x d/up; ln -s ../README.md d/within";
    let what = "a link that may lead out of the repository";
    is_refused(agent, &[], &[&format!("absolute: {what}"), &format!("d/up: {what}")]).await;
    is_pushed("mkdir d; ln -s ../README.md d/within", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_is_cut_and_counted() {
    let agent = "mkdir ci; i=0; while [ $i -lt 400 ]; do echo x > ci/$i; i=$((i+1)); done";
    let message = Trial::of(agent, &[("RUNNER_PROTECTED_PATHS", "ci/*")])
        .await
        .refused()
        .await;
    let listed = message.lines().filter(|line| line.starts_with("- ci/")).count();
    assert!(
        message.contains("400 violations:") && message.contains(&format!("- and {} more", 400 - listed)),
        "{message}"
    );
    assert!(listed > 20 && message.len() < 4096, "{listed}, {}", message.len());
}
