//! Every trap twice: a plain git in the agent's tree, with the token as a naive runner would give it, falls into it; the
//! hand-over does not, and the honest change arrives. A trap that catches nobody would prove nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use runner::adapters::git::handover::{Flattening, HandoverError, Shape, ViolationKind};
use runner::ids::{BranchName, GitRef, TaskId};

use super::world::{CANARY, HOOKS, World, git, git_in};

/// What becomes of a plain git.
enum Catch {
    /// A planted program runs with the token in its environment.
    Runs,
    /// The token goes to somebody else's server.
    Sends,
    /// What the command printed.
    Prints(&'static str),
}

/// A server that asks everybody for a password and keeps what it is told.
struct Thief {
    base: String,
    told: Arc<Mutex<Vec<String>>>,
}

impl Thief {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let keeps = Arc::clone(&told);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                rob(stream.unwrap(), &keeps);
            }
        });
        Self { base, told }
    }

    fn was_told(&self) -> bool {
        !self.told.lock().unwrap().is_empty()
    }
}

fn rob(mut stream: TcpStream, keeps: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let password = head
        .lines()
        .find(|line| line.to_ascii_lowercase().contains("authorization:"));
    if let Some(password) = password {
        keeps.lock().unwrap().push(password.to_owned());
    }
    let asks = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    drop(stream.write_all(asks.as_bytes()));
}

/// git as a naive runner calls it in the agent's tree: its configuration trusted, the token by askpass.
fn plain(world: &World, dir: &Path, args: &[&str]) -> Output {
    let askpass = world.root().join("askpass.sh");
    if !askpass.exists() {
        let script = "#!/bin/sh\ncase $1 in User*) echo x-access-token ;; *) echo \"$TOKEN\" ;; esac\n";
        std::fs::write(&askpass, script).unwrap();
        std::fs::set_permissions(&askpass, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    Command::new(git())
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", &askpass)
        .env("TOKEN", CANARY)
        .env_remove("http_proxy")
        .output()
        .unwrap()
}

/// Add, commit, push: what a naive runner does at the end. Any of it may fail; the trap is what counts.
fn plain_run(world: &World) -> String {
    let repo = world.repo();
    let push = [world.server.url("o", "r"), "HEAD:refs/heads/plain".to_owned()];
    let identity = ["-c", "user.name=n", "-c", "user.email=n@runner.example"];
    let calls = [
        vec!["add", "-A"],
        [&identity[..], &["commit", "-qm", "x"]].concat(),
        vec!["push", "-q", &push[0], &push[1]],
        vec!["push", "-q", "origin", "HEAD:refs/heads/plain"],
        vec!["ls-files", "-s"],
    ];
    let mut said = String::new();
    for args in calls {
        let output = plain(world, &repo, &args);
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        said.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    said
}

/// Hands over and pushes with the trap laid, then lets plain git walk into the same one.
async fn trap(name: &str, catch: Catch, lay: impl Fn(&World, &Thief)) {
    let world = World::laid().await;
    let thief = Thief::start();
    world.write("honest.txt", "honest\n");
    lay(&world, &thief);
    world.hands_over_and_pushes().await;
    assert_eq!(world.pushed("honest.txt"), "honest", "{name}");
    assert!(!thief.was_told(), "{name}");

    world.write("more.txt", "more\n");
    let said = plain_run(&world);
    match catch {
        Catch::Runs => {
            let ran = std::fs::read_to_string(world.marker()).unwrap_or_default();
            assert!(ran.contains(CANARY), "{name} is no trap: {said}");
        }
        Catch::Sends => assert!(thief.was_told(), "{name} is no trap: {said}"),
        Catch::Prints(text) => assert!(said.contains(text), "{name} is no trap: {said}"),
    }
}

/// Into the agent's `.git/config`, by git's own hand.
fn configure(world: &World, name: &str, value: &str) {
    let file = world.repo().join(".git/config");
    git_in(
        &world.root(),
        &["config", "--file", file.to_str().unwrap(), name, value],
    );
}

fn planted(world: &World) -> String {
    world.planted().to_str().unwrap().to_owned()
}

/// The same for where a protocol is expected of it: it tells and hangs up.
fn telltale(world: &World) -> String {
    let path = world.root().join("workspace/telltale.sh");
    std::fs::write(&path, format!("#!/bin/sh\nenv >> '{}'\n", world.marker().display())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_setting_that_runs_a_program_catches_plain_git_alone() {
    for name in ["core.fsmonitor", "credential.helper"] {
        trap(name, Catch::Runs, |world, _| configure(world, name, &planted(world))).await;
    }
    trap("core.hooksPath", Catch::Runs, |world, _| {
        let hooks = world.root().join("workspace/hooks");
        std::fs::create_dir(&hooks).unwrap();
        std::fs::copy(world.planted(), hooks.join("pre-push")).unwrap();
        configure(world, "core.hooksPath", hooks.to_str().unwrap());
    })
    .await;
    trap("gpg.program", Catch::Runs, |world, _| {
        configure(world, "gpg.program", &planted(world));
        configure(world, "commit.gpgSign", "true");
    })
    .await;
    trap("include.path", Catch::Runs, |world, _| {
        let included = world.root().join("workspace/included");
        std::fs::write(&included, format!("[core]\n\tfsmonitor = {}\n", planted(world))).unwrap();
        configure(world, "include.path", included.to_str().unwrap());
    })
    .await;
    trap("core.sshCommand", Catch::Runs, |world, _| {
        configure(world, "core.sshCommand", &telltale(world));
        configure(world, "remote.origin.url", "ssh://h.example/o/r");
    })
    .await;
    trap("a remote that is a program", Catch::Runs, |world, _| {
        configure(world, "protocol.ext.allow", "always");
        configure(world, "remote.origin.url", &format!("ext::{}", telltale(world)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_by_attributes_catches_plain_git_alone() {
    for (name, attributes) in [
        ("filter.evil.clean", ".gitattributes"),
        ("filter.evil.process", ".git/info/attributes"),
    ] {
        trap(name, Catch::Runs, |world, _| {
            world.write(attributes, "* filter=evil\n");
            configure(world, name, &planted(world));
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_setting_that_leads_elsewhere_catches_plain_git_alone() {
    trap("http.proxy", Catch::Sends, |world, thief| {
        configure(world, "http.proxy", &thief.base);
    })
    .await;
    for name in ["insteadOf", "pushInsteadOf"] {
        trap(name, Catch::Sends, |world, thief| {
            configure(
                world,
                &format!("url.{}/.{name}", thief.base),
                &world.server.url("o", "r"),
            );
        })
        .await;
    }
    trap("remote.origin.url", Catch::Sends, |world, thief| {
        configure(world, "remote.origin.url", &thief.base);
    })
    .await;
    trap("core.worktree", Catch::Prints("not-of-the-repository"), |world, _| {
        let elsewhere = world.root().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("not-of-the-repository"), "").unwrap();
        configure(world, "core.worktree", elsewhere.to_str().unwrap());
    })
    .await;
}

/// Every hook of `githooks(5)`. Those that a plain add, commit, push, checkout and rebase run all tell.
#[tokio::test(flavor = "multi_thread")]
async fn every_hook_that_plain_git_runs_is_not_run_by_the_hand_over() {
    let world = World::laid().await;
    world.write("honest.txt", "honest\n");
    let hooks = world.repo().join(".git/hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    let script = format!(
        "#!/bin/sh\n{{ basename \"$0\"; env; }} >> '{}'\n",
        world.marker().display()
    );
    for name in HOOKS {
        std::fs::write(hooks.join(name), &script).unwrap();
        std::fs::set_permissions(hooks.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    world.hands_over_and_pushes().await;

    plain_run(&world);
    for args in [
        &["checkout", "-q", "-b", "side", "HEAD~1"][..],
        &[
            "-c",
            "user.name=n",
            "-c",
            "user.email=n@r.example",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "side",
        ],
        &[
            "-c",
            "user.name=n",
            "-c",
            "user.email=n@r.example",
            "rebase",
            "-q",
            "runner/task",
        ],
        &[
            "-c",
            "user.name=n",
            "-c",
            "user.email=n@r.example",
            "merge",
            "-q",
            "--no-ff",
            "--no-edit",
            "HEAD~1",
        ],
    ] {
        plain(&world, &world.repo(), args);
    }
    let ran = std::fs::read_to_string(world.marker()).unwrap();
    assert!(ran.contains(CANARY));
    for name in [
        "pre-commit",
        "prepare-commit-msg",
        "commit-msg",
        "post-commit",
        "pre-push",
        "post-checkout",
        "pre-rebase",
        "post-rewrite",
        "reference-transaction",
        "post-index-change",
    ] {
        assert!(ran.lines().any(|line| line == name), "{name} is no trap");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_git_directory_of_somebody_elses_making_catches_plain_git_alone() {
    for kind in ["a link", "a file"] {
        let world = World::laid().await;
        world.write("honest.txt", "honest\n");
        let (dot_git, aside) = (world.repo().join(".git"), world.root().join("workspace/aside"));
        configure(&world, "core.fsmonitor", &planted(&world));
        std::fs::rename(&dot_git, &aside).unwrap();
        if kind == "a link" {
            symlink(&aside, &dot_git).unwrap();
        } else {
            std::fs::write(&dot_git, format!("gitdir: {}\n", aside.display())).unwrap();
        }
        let taken = world.hands_over_and_pushes().await;
        let why = Flattening::GitDirReplaced;
        assert_eq!(taken.shape, Shape::Flattened { why }, "{kind}");
        assert_eq!(world.pushed("honest.txt"), "honest");
        plain_run(&world);
        assert!(
            std::fs::read_to_string(world.marker())
                .unwrap_or_default()
                .contains(CANARY),
            "{kind} is no trap"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_is_a_link_is_followed_by_plain_git_alone() {
    let world = World::laid().await;
    let secret = world.root().join("state/elsewhere");
    std::fs::create_dir(&secret).unwrap();
    git_in(&secret, &["init", "-q"]);
    std::fs::write(secret.join("not-of-the-repository"), "").unwrap();
    std::fs::rename(world.repo(), world.root().join("workspace/aside")).unwrap();
    symlink(&secret, world.repo()).unwrap();
    let error = world.take().await.unwrap_err();
    let HandoverError::Policy { violations, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        violations.iter().any(|v| v.what == ViolationKind::WorkspaceReplaced),
        "{violations:?}"
    );
    world.no_canary();
    assert!(
        plain_run(&world).contains("not-of-the-repository"),
        "the link is no trap"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_elsewhere_and_a_leftover_lock_lose_the_change_for_plain_git_alone() {
    for args in [&["checkout", "-q", "--detach"][..], &["checkout", "-qb", "elsewhere"]] {
        let world = World::laid().await;
        world.agent_git(args);
        world.write("honest.txt", "honest\n");
        world.agent_git(&["add", "-A"]);
        world.agent_git(&["commit", "-qm", "there"]);
        world.hands_over_and_pushes().await;
        assert_eq!(world.pushed("honest.txt"), "honest");
        // Who pushes the branch that was laid pushes nothing of it.
        let laid = plain(&world, &world.repo(), &["ls-tree", "--name-only", "runner/task"]);
        assert!(
            laid.status.success() && !String::from_utf8_lossy(&laid.stdout).contains("honest.txt"),
            "{args:?}"
        );
    }
    trap("index.lock", Catch::Prints("index.lock': File exists"), |world, _| {
        std::fs::write(world.repo().join(".git/index.lock"), "").unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nested_repository_and_a_submodule_catch_plain_git_alone() {
    let world = World::laid().await;
    world.write("honest.txt", "honest\n");
    world.write("nested/lost.txt", "lost\n");
    let nested = world.repo().join("nested");
    git_in(&nested, &["init", "-q"]);
    git_in(&nested, &["add", "-A"]);
    git_in(&nested, &["commit", "-qm", "n"]);
    let error = world.take().await.unwrap_err();
    assert!(matches!(error, HandoverError::Policy { .. }), "{error:?}");
    world.no_canary();
    let said = plain_run(&world);
    assert!(
        said.contains("160000 ") && !said.contains("lost.txt"),
        "its files are lost: {said}"
    );

    let world = World::laid().await;
    let url = format!("ext::{}", telltale(&world));
    world.write(
        ".gitmodules",
        format!("[submodule \"s\"]\n\tpath = s\n\turl = \"{url}\"\n"),
    );
    let entry = format!("160000,{},s", world.main);
    world.agent_git(&["update-index", "--add", "--cacheinfo", &entry]);
    world.agent_git(&["add", ".gitmodules"]);
    world.agent_git(&["commit", "-qm", "submodule"]);
    world.agent_git(&["config", "submodule.s.url", &url]);
    let error = world.take().await.unwrap_err();
    assert!(
        matches!(error, HandoverError::Policy { .. } | HandoverError::Refused { .. }),
        "{error:?}"
    );
    assert!(!world.marker().exists());
    world.no_canary();
    // git itself refuses the transport by now, where nobody allows it.
    let allowed = ["-c", "protocol.ext.allow=always", "submodule", "update", "--init"];
    let output = plain(&world, &world.repo(), &allowed);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        std::fs::read_to_string(world.marker())
            .unwrap_or_default()
            .contains(CANARY),
        "no trap: {said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_another_repository_are_seen_by_plain_git_alone() {
    let world = World::laid().await;
    world.write("honest.txt", "honest\n");
    let other = world.root().join("state/other");
    std::fs::create_dir(&other).unwrap();
    git_in(&other, &["init", "-q"]);
    std::fs::write(other.join("not-of-the-repository"), "").unwrap();
    git_in(&other, &["add", "-A"]);
    git_in(&other, &["commit", "-qm", "elsewhere"]);
    let commit = git_in(&other, &["rev-parse", "HEAD"]);
    let alternates = world.repo().join(".git/objects/info/alternates");
    std::fs::create_dir_all(alternates.parent().unwrap()).unwrap();
    std::fs::write(&alternates, format!("{}\n", other.join(".git/objects").display())).unwrap();
    // The agent names what it could not read itself; git, run for it, could.
    std::fs::write(world.repo().join(".git/HEAD"), format!("{commit}\n")).unwrap();
    let taken = world.hands_over_and_pushes().await;
    assert_eq!(
        taken.shape,
        Shape::Flattened {
            why: Flattening::HeadUnreadable
        }
    );
    let seen = plain(&world, &world.repo(), &["ls-tree", "--name-only", "HEAD"]);
    assert!(
        String::from_utf8_lossy(&seen.stdout).contains("not-of-the-repository"),
        "no trap"
    );
    let private = plain(&world, world.private.dir(), &["cat-file", "-e", &commit]);
    assert!(!private.status.success(), "it got in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_an_option_is_refused_and_is_one_to_plain_git() {
    let world = World::laid().await;
    let option = format!("--upload-pack={}", telltale(&world));
    assert!(option.parse::<GitRef>().is_err() && option.parse::<BranchName>().is_err());
    assert!(option.parse::<TaskId>().is_err());
    let remote: PathBuf = world.server.path("o", "r").unwrap();
    // A reference after the repository, as a naive runner appends it.
    plain(&world, &world.repo(), &["fetch", remote.to_str().unwrap(), &option]);
    assert!(
        std::fs::read_to_string(world.marker())
            .unwrap_or_default()
            .contains(CANARY),
        "no trap"
    );
}
