//! What an agent is told, from end to end: by `--dump-prompt`, and by a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::RUNNER;

/// A person with a repository that says how work is done in it.
struct Person(tempfile::TempDir);

impl Person {
    fn new() -> Self {
        let person = Self(tempfile::tempdir().unwrap());
        let repo = person.path("repo");
        for dir in ["home", "tmp", "repo"] {
            fs::create_dir(person.path(dir)).unwrap();
        }
        git(&repo, &["init", "--quiet", "--initial-branch=main"]);
        fs::write(repo.join("CLAUDE.md"), "@AGENTS.md\n").unwrap();
        fs::write(repo.join("AGENTS.md"), "Run make test.\n").unwrap();
        git(&repo, &["add", "-A"]);
        git(&repo, &["commit", "--quiet", "-m", "Begin"]);
        // Not committed: nobody's instructions yet.
        fs::write(repo.join("AGENTS.md"), "UNCOMMITTED\n").unwrap();
        fs::write(person.path("rules.md"), "Write tests first.\n").unwrap();
        person
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new(RUNNER)
            .args(["run", "--repo", "repo", "--task", "Make a change", "--task-id", "t"])
            .args(arguments)
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn dump(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(&[&["--dump-prompt"], arguments].concat());
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
        stdout
    }

    fn is_untouched(&self) -> bool {
        let empty = |dir: &str| fs::read_dir(self.path(dir)).unwrap().next().is_none();
        let branches = git(&self.path("repo"), &["for-each-ref", "--format=%(refname)"]);
        empty("home") && empty("tmp") && branches == "refs/heads/main"
    }
}

fn git(path: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"])
        .args(arguments)
        .current_dir(path)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

const SYSTEM: &str = "===== added to the agent's system prompt =====";
const PROMPT: &str = "===== on the agent's standard input =====";

#[test]
fn what_claude_would_be_told_is_printed_without_a_key_and_nothing_is_run_or_left() {
    let person = Person::new();
    let told = person.dump(&["--instructions-file", "rules.md"]);
    let (system, prompt) = told.split_once(PROMPT).unwrap();
    assert!(
        system.starts_with(&format!("{SYSTEM}\n\nYou are working for an automated runner")),
        "{told}"
    );
    let place = |text: &str| system.find(text).unwrap_or_else(|| panic!("{text} is not in {system}"));
    assert!(place("Write tests first.") < place("# From the repository"));
    assert!(place("# From the repository") < place("\nAGENTS.md:\n<repository-file "));
    assert!(system.contains("\nRun make test.\n"), "as it is committed: {system}");
    assert!(!told.contains("UNCOMMITTED"), "{told}");
    let base = git(&person.path("repo"), &["rev-parse", "main"]);
    let branch = format!("on the branch runner/t that starts at {base}.");
    assert!(
        prompt.contains(&branch) && prompt.contains("\nMake a change\n"),
        "{prompt}"
    );
    assert!(person.is_untouched());
}

#[test]
fn a_command_is_told_in_a_run_what_the_dump_says() {
    let person = Person::new();
    let keep = person.path("tmp/told").display().to_string();
    let command = format!("cat > '{keep}'; echo change > change.txt");
    let agent = ["--agent", "command", "--agent-command", &command, "--sandbox", "off"];
    let told = person.dump(&agent);
    assert!(!told.contains(SYSTEM), "{told}");
    let told = told.strip_prefix(PROMPT).unwrap().trim();
    let (code, _, stderr) = person.run(&agent);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(fs::read_to_string(keep).unwrap().trim(), told);
    assert!(told.contains("Run make test."), "{told}");
}

#[test]
fn a_repository_says_nothing_where_it_may_not_or_where_the_agent_reads_it_itself() {
    let person = Person::new();
    for repo_config in ["none", "trust"] {
        let told = person.dump(&["--repo-config", repo_config]);
        assert!(told.contains("Make a change"), "{told}");
        assert!(
            !told.contains("Run make test.") && !told.contains("# From the repository"),
            "{told}"
        );
    }
}

#[test]
fn a_context_that_would_be_a_file_is_named_where_the_run_would_have_it() {
    let person = Person::new();
    fs::write(person.path("context"), "x".repeat(300_000)).unwrap();
    let told = person.dump(&["--context-file", "context"]);
    let file = person.path("home/.local/state/runner/t/agent/desk-1/context.md");
    assert!(told.contains(&format!("is in {}.", file.display())), "{told}");
    assert!(person.is_untouched());
}

#[test]
fn a_repository_that_cannot_be_read_is_named() {
    let person = Person::new();
    let (code, stdout, stderr) = person.run(&["--dump-prompt", "--ref", "nowhere"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(
        stderr.contains("failed to find out what the agent would be told: nowhere is neither"),
        "{stderr}"
    );
    assert!(person.is_untouched());
}

#[test]
fn instructions_that_cannot_be_given_are_exit_2() {
    let person = Person::new();
    fs::write(person.path("long.md"), "x".repeat(256 * 1024 + 1)).unwrap();
    fs::write(person.path("latin.md"), b"gr\xfc\xdfe").unwrap();
    for (file, why) in [
        ("missing.md", "which cannot be read"),
        ("repo", "which is no file"),
        ("long.md", "which is longer than 256 KiB"),
        ("latin.md", "which is not UTF-8"),
    ] {
        let (code, stdout, stderr) = person.run(&["--dump-prompt", "--instructions-file", file]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
        assert!(
            stderr.contains("RUNNER_INSTRUCTIONS_FILE names") && stderr.contains(why),
            "{stderr}"
        );
    }
    fs::write(person.path("longest.md"), "x".repeat(256 * 1024)).unwrap();
    assert!(person.dump(&["--instructions-file", "longest.md"]).contains("xxx"));
}
