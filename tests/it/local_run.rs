//! `runner run` and `runner demo`: a person's machine, no operator.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{
    AGENT, CANARY, Outside, RUNNER, Serving, WAITING_AGENT, as_somebody, copy_of_the_program, files_with, until,
};

/// A person with a home and a directory to work in, both empty at first.
pub(crate) struct Person(tempfile::TempDir);

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Person {
    pub(crate) fn new() -> Self {
        let person = Self(tempfile::tempdir().unwrap());
        for name in ["home", "work"] {
            fs::create_dir(person.path(name)).unwrap();
        }
        person
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Where the state of a task is.
    pub(crate) fn state(&self, task: &str) -> PathBuf {
        self.path("home/.local/state/runner").join(task)
    }

    fn dress(&self, mut command: Command) -> Command {
        command
            .current_dir(self.path("work"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("home"))
            .env("RUNNER_AGENT_KILL_GRACE", "500ms")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.dress(Command::new(RUNNER));
        command.args(arguments);
        command
    }

    fn says(&self, arguments: &[&str]) -> Said {
        said(&mut self.command(arguments))
    }

    /// A repository with history, at `work/repo`.
    pub(crate) fn repository(&self) -> PathBuf {
        let path = self.path("work/repo");
        fs::create_dir(&path).unwrap();
        git(&path, &["init", "--quiet", "--initial-branch=main"]);
        for (number, text) in ["one", "one\ntwo", "one\ntwo\nthree"].iter().enumerate() {
            fs::write(path.join("README.md"), text).unwrap();
            git(&path, &["add", "README.md"]);
            git(&path, &["commit", "--quiet", "-m", &format!("step {number}")]);
        }
        path
    }
}

fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    Said {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn git(path: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(path)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs(["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"].map(|name| (name, "somebody")))
        .envs(["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"].map(|name| (name, "somebody@example.org")))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn a_task_on_a_path_ends_with_a_branch_there_and_nothing_else_is_moved() {
    let person = Person::new();
    let repo = person.repository();
    fs::write(repo.join("unfinished.txt"), "mine").unwrap();
    let (main, status) = (
        git(&repo, &["rev-parse", "main"]),
        git(&repo, &["status", "--porcelain"]),
    );
    let said = person.says(&[
        "run",
        "--repo",
        "repo",
        "--task",
        "Make a change",
        "--agent",
        "command",
        "--agent-command",
        AGENT,
    ]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let branch = said.stdout.strip_suffix('\n').unwrap();
    assert!(
        branch.starts_with("runner/run-"),
        "the branch, and nothing but the branch: {:?}",
        said.stdout
    );
    assert_eq!(git(&repo, &["show", &format!("{branch}:change.txt")]), "change");
    assert_eq!(
        git(&repo, &["rev-parse", &format!("{branch}~1")]),
        main,
        "one commit on what was there"
    );
    assert_eq!(git(&repo, &["log", "-1", "--format=%s", branch]), "Make a change");
    assert_eq!(
        (
            git(&repo, &["rev-parse", "main"]),
            git(&repo, &["status", "--porcelain"])
        ),
        (main, status)
    );
    assert_eq!(git(&repo, &["symbolic-ref", "HEAD"]), "refs/heads/main");

    let journal = person.state(branch.strip_prefix("runner/").unwrap()).join("journal.db");
    assert!(
        said.stderr.contains(&format!("journal: {}\n", journal.display())),
        "{}",
        said.stderr
    );
    let dump = person.says(&["journal", "dump", "--format", "json"]);
    assert_eq!(dump.code, Some(0), "{}", dump.stderr);
    let dump: serde_json::Value = serde_json::from_str(&dump.stdout).unwrap();
    assert_eq!(dump["verdict"]["event"], "completed");
    let verdict = dump["entries"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["kind"] == "verdict")
        .unwrap();
    assert_eq!(verdict["body"]["details"]["outcome"], "branch");
    assert_eq!(verdict["body"]["details"]["prURL"], serde_json::Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_over_smart_http_ends_with_a_pull_request_and_the_token_is_nowhere() {
    let outside = Outside::start().await;
    let person = Person::new();
    let forge = outside.forge.listening().base();
    let repo = outside.git.url("o", "r");
    for name in ["GITHUB_TOKEN", "GH_TOKEN"] {
        let id = name.to_ascii_lowercase().replace('_', "-");
        let arguments = [
            "run",
            "--repo",
            &repo,
            "--task",
            "Make a change",
            "--task-id",
            &id,
            "--agent",
            "command",
            "--agent-command",
            AGENT,
        ];
        let mut command = person.command(&arguments);
        let said = said(
            command
                .env(name, format!("{CANARY}\n"))
                .env("RUNNER_GITHUB_API_URL", &forge),
        );
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let pull = outside.forge.pulls().pop().unwrap();
        assert_eq!(said.stdout, format!("{}\n", pull.html_url));
        assert_eq!(pull.head.name, format!("runner/{id}"));
        assert!(!said.stderr.contains(CANARY), "{}", said.stderr);
    }
    assert_eq!(outside.forge.pulls().len(), 2);
    assert_eq!(files_with(person.0.path(), CANARY), Vec::<PathBuf>::new());
}

#[test]
fn the_task_may_come_from_standard_input_and_its_context_from_a_file() {
    use std::io::Write;
    let person = Person::new();
    person.repository();
    fs::write(person.path("work/context.txt"), "what is known").unwrap();
    let agent = "cat > prompt.txt";
    let arguments = [
        "run",
        "--repo",
        "./repo",
        "--task-file",
        "-",
        "--context-file",
        "context.txt",
        "--ref",
        "main",
    ];
    let mut command = person.command(&arguments);
    command.args(["--agent", "command", "--agent-command", agent, "--task-id", "t-1"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"Write the prompt down\n\nAll of it.\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let prompt = git(&person.path("work/repo"), &["show", "runner/t-1:prompt.txt"]);
    assert!(
        prompt.contains("Write the prompt down\n\nAll of it.") && prompt.contains("what is known"),
        "{prompt}"
    );
    let subject = git(&person.path("work/repo"), &["log", "-1", "--format=%s", "runner/t-1"]);
    assert_eq!(subject, "Write the prompt down");
}

#[test]
fn what_is_missing_is_exit_2_with_what_to_do_and_nothing_is_made() {
    let person = Person::new();
    person.repository();
    let agent = ["--agent", "command", "--agent-command", "true"];
    for (arguments, what, hint) in [
        (&["run"][..], "--repo", ""),
        (&["run", "--task", "x"], "--repo", ""),
        (
            &["run", "--repo", "repo"],
            "there is no task",
            "--task TEXT or --task-file FILE",
        ),
        (
            &["run", "--repo", "repo", "--task", " \n"],
            "there is no task",
            "--task TEXT or --task-file FILE",
        ),
        (
            &["run", "--repo", "repo", "--task-file", "none.md"],
            "none.md cannot be read",
            "text file",
        ),
        (
            &["run", "--repo", "repo", "--task-file", "-"],
            "there is no task",
            "--task TEXT or --task-file FILE",
        ),
        (
            &["run", "--repo", "none", "--task", "x"],
            "\"none\" is neither",
            "--repo",
        ),
        (
            &["run", "--repo", "octo/hello", "--task", "x"],
            "there is no token for https://github.com/octo/hello",
            "GITHUB_TOKEN",
        ),
        (
            &["run", "--repo", "http://127.0.0.1:1/o/r", "--task", "x"],
            "there is no token",
            "GITHUB_TOKEN",
        ),
        (&["run", "--repo", "ext::sh -c id", "--task", "x"], "ext::sh -c id", ""),
        (
            &["run", "--repo", "ssh://git@forge.example/o/r", "--task", "x"],
            "ssh://",
            "",
        ),
        (
            &["run", "--repo", "http://forge.example/o/r", "--task", "x"],
            "forge.example",
            "",
        ),
        (
            &["run", "--repo", "repo", "--task", "x", "--task-id", "../x"],
            "../x",
            "",
        ),
        (&["run", "--resume"], "is unfinished", "--repo and --task"),
        (
            &["run", "--resume", "--task-id", "none"],
            "has no task to go on with",
            "--repo and --task",
        ),
        (&["run", "--resume", "--repo", "repo"], "cannot be used with", ""),
        (
            &["run", "--repo", "repo", "--task", "x", "--task-file", "y"],
            "cannot be used with",
            "",
        ),
    ] {
        let said = said(person.command(arguments).args(agent));
        assert_eq!(
            (said.code, said.stdout.as_str()),
            (Some(2), ""),
            "{arguments:?}: {}",
            said.stderr
        );
        assert!(said.stderr.contains(what), "{arguments:?}: {}", said.stderr);
        assert!(
            hint.is_empty() || said.stderr.contains("hint: ") && said.stderr.contains(hint),
            "{arguments:?}: {}",
            said.stderr
        );
        assert_eq!(fs::read_dir(person.path("home")).unwrap().count(), 0, "{arguments:?}");
    }
    for home in [None, Some(""), Some("relative")] {
        let mut command = person.command(&["run", "--repo", "repo", "--task", "x"]);
        command
            .args(agent)
            .env_remove("HOME")
            .envs(home.map(|home| ("HOME", home)));
        let said = said(&mut command);
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        assert!(said.stderr.contains("--state-dir"), "{}", said.stderr);
    }
    assert_eq!(
        fs::read_dir(person.path("work")).unwrap().count(),
        1,
        "nothing was made"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_agent_runs_the_task_is_gone_on_with_by_resume() {
    let person = Person::new();
    let repo = person.repository();
    let mut command = person.command(&["run", "--repo", "repo", "--task", "Make a change", "--task-id", "t-1"]);
    command.args(["--agent", "command", "--agent-command", WAITING_AGENT]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Serving::spawn(command);
    let agent_home = person.state("t-1").join("workspace/home");
    until("the agent is at work", &running, || agent_home.join("there").exists()).await;
    running.kill().await;
    assert_eq!(git(&repo, &["branch", "--list", "runner/*"]), "");
    fs::write(agent_home.join("go"), "").unwrap();
    // The newest that is not finished, with the agent that it was given to.
    let said = person.says(&["run", "--resume"]);
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (Some(0), "runner/t-1\n"),
        "{}",
        said.stderr
    );
    assert!(
        said.stderr.contains("start 2 goes on where the last one stopped"),
        "{}",
        said.stderr
    );
    assert_eq!(git(&repo, &["show", "runner/t-1:change.txt"]), "change");
    assert_eq!(git(&repo, &["rev-list", "--count", "main..runner/t-1"]), "1");
    let nothing_left = person.says(&["run", "--resume"]);
    assert_eq!(nothing_left.code, Some(2), "{}", nothing_left.stderr);
    let again = person.says(&["run", "--resume", "--task-id", "t-1"]);
    assert_eq!(
        (again.code, again.stdout.as_str()),
        (Some(0), "runner/t-1\n"),
        "{}",
        again.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_journal_is_elsewhere_is_gone_on_with_by_that_journal() {
    let person = Person::new();
    person.repository();
    let journal = person.path("work/elsewhere.db");
    let by_variable = |command: &mut Command| {
        command.env("RUNNER_JOURNAL", &journal);
    };
    for (task, by_flag) in [("t-1", false), ("t-2", true)] {
        let mut command = person.command(&["run", "--repo", "repo", "--task", "Make a change", "--task-id", task]);
        command.args([
            "--agent",
            "command",
            "--agent-command",
            WAITING_AGENT,
            "--on-term",
            "park",
        ]);
        if by_flag {
            fs::remove_file(&journal).unwrap();
            command.arg("--journal").arg(&journal);
        } else {
            by_variable(&mut command);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Serving::spawn(command);
        let agent_home = person.state(task).join("workspace/home");
        until("the agent is at work", &running, || agent_home.join("there").exists()).await;
        running.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(running.wait().await.code(), Some(75), "{}", running.log());
        fs::write(agent_home.join("go"), "").unwrap();
        // As it is told to a person.
        let log = running.whole_log().await;
        let told = log.lines().find_map(|line| line.split_once("go on with: ")).unwrap().1;
        let arguments: Vec<&str> = told.split(' ').skip(1).collect();
        let arguments = if by_flag { arguments } else { vec!["run", "--resume"] };
        let mut command = person.command(&arguments);
        if !by_flag {
            by_variable(&mut command);
        }
        let said = said(&mut command);
        assert_eq!(said.code, Some(0), "{arguments:?}: {}", said.stderr);
        assert_eq!(said.stdout, format!("runner/{task}\n"), "{}", said.stderr);
    }
}

/// Its task API, its repository and its forge were in the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_demo_that_was_killed_is_no_task_to_go_on_with() {
    let person = Person::new();
    let mut command = person.command(&["demo", "--agent", "command", "--agent-command", WAITING_AGENT]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Serving::spawn(command);
    let demo = || Some(fs::read_dir(person.state("")).ok()?.next()?.unwrap().path());
    let there = || demo().is_some_and(|demo| demo.join("workspace/home/there").exists());
    until("the agent is at work", &running, there).await;
    running.kill().await;
    let said = person.says(&["run", "--resume"]);
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("is unfinished"), "{}", said.stderr);
    fs::write(demo().unwrap().join("workspace/home/go"), "").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_seal_key_a_run_goes_on_by_that_key_alone_and_leaves_nothing_sealed() {
    let person = Person::new();
    let repo = person.repository();
    let (key, wrong) = (person.path("key"), person.path("wrong"));
    fs::write(&key, [b'k'; 32]).unwrap();
    fs::write(&wrong, [b'w'; 32]).unwrap();
    let mut command = person.command(&["run", "--repo", "repo", "--task", "Make a change", "--task-id", "t-1"]);
    command.args(["--agent", "command", "--agent-command", WAITING_AGENT]);
    command.arg("--seal-key-file").arg(&key);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Serving::spawn(command);
    let state = person.state("t-1");
    let agent_home = state.join("workspace/home");
    until("the agent is at work", &running, || agent_home.join("there").exists()).await;
    running.kill().await;
    let sealed = state.join("token.sealed");
    assert!(sealed.exists() && !state.join("secrets/token.json").exists());
    fs::write(agent_home.join("go"), "").unwrap();
    for (given, says) in [(Some(&wrong), "wrong key"), (None, "no key is given")] {
        let mut command = person.command(&["run", "--resume"]);
        command.args(given.map(|key| format!("--seal-key-file={}", key.display())));
        let said = said(&mut command);
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        assert!(said.stderr.contains(says), "{}", said.stderr);
    }
    let said = person.says(&["run", "--resume", "--seal-key-file", key.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(git(&repo, &["show", "runner/t-1:change.txt"]), "change");
    assert!(!sealed.exists());
    let demo = person.says(&["demo", "--seal-key-file", key.to_str().unwrap()]);
    assert_eq!(demo.code, Some(0), "{}", demo.stderr);
}

#[test]
fn a_task_that_failed_is_exit_1_and_its_reason_and_a_hint_are_said() {
    let person = Person::new();
    person.repository();
    let arguments = [
        "run",
        "--repo",
        "repo",
        "--task",
        "x",
        "--agent",
        "command",
        "--agent-command",
        "true",
    ];
    let said = person.says(&arguments);
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{}", said.stderr);
    assert!(
        said.stderr.contains("failed: The agent changed nothing."),
        "{}",
        said.stderr
    );
    assert!(
        said.stderr.contains("hint: ") && said.stderr.contains("journal: "),
        "{}",
        said.stderr
    );
}

/// No proxy can reach what runs on this machine: where one is set, it is not asked.
#[test]
fn a_proxy_that_the_machine_has_is_not_asked_for_the_embedded_world() {
    let person = Person::new();
    let mut demo = person.dress(Command::new(RUNNER));
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        // Nobody listens on the discard port.
        demo.env(name, "http://127.0.0.1:9");
    }
    let said_by_demo = said(demo.arg("demo").env("RUNNER_API_PATIENCE", "1s"));
    assert_eq!(said_by_demo.code, Some(0), "{}", said_by_demo.stderr);
}

/// As one who has just arrived: an empty home, an empty directory, no accounts, and no root.
#[test]
fn the_demo_runs_for_a_newcomer_and_says_where_the_journal_is() {
    let person = Person::new();
    let program = person.path("runner");
    copy_of_the_program(&program);
    fs::set_permissions(person.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["home", "work"] {
        fs::set_permissions(person.path(name), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let said_by_demo = said(person.dress(as_somebody(&program)).arg("demo"));
    assert_eq!(said_by_demo.code, Some(0), "{}", said_by_demo.stderr);
    let url = said_by_demo.stdout.strip_suffix('\n').unwrap();
    assert!(
        url.starts_with("http://127.0.0.1:") && url.ends_with("/demo/hello/pull/1"),
        "{url}"
    );
    for step in [
        "cloned at",
        "the agent is done",
        "took over",
        "pushed",
        "opened the pull request",
        "reported",
        "completed: ",
    ] {
        assert!(said_by_demo.stderr.contains(step), "{step}: {}", said_by_demo.stderr);
    }
    let look = said_by_demo
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("look at it with: "));
    let look: Vec<&str> = look.expect("the way to look at it").split(' ').collect();
    assert_eq!(Path::new(look[0]), program, "as it was called");
    let journal = Path::new(look.last().unwrap());
    assert!(journal.starts_with(person.path("home")), "{}", journal.display());
    let dump = said(person.dress(as_somebody(&program)).args(&look[1..]));
    assert_eq!((dump.code, dump.stderr.as_str()), (Some(0), ""));
    assert!(
        dump.stdout.contains("· Reported ·") && dump.stdout.contains("→ PrOpened"),
        "{}",
        dump.stdout
    );
    assert_eq!(
        fs::read_dir(person.path("work")).unwrap().count(),
        0,
        "nothing is left where it was started"
    );
}
