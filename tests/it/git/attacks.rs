//! Each test plants something in the agent's tree, and then either the honest change is pushed or the refusal has a name.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::world::{HOOKS, World, git, git_in};
use runner::adapters::git::handover::{Flattening, HandoverError, Limits, Shape, ViolationKind};

/// An honest change, which has to arrive.
fn change(world: &World) {
    world.write("honest.txt", "honest\n");
}

async fn arrives(world: &World, shape: Shape) {
    let taken = world.hands_over_and_pushes().await;
    assert_eq!(taken.shape, shape);
    assert_eq!(world.pushed("honest.txt"), "honest");
    let names: Vec<&Path> = taken.files.iter().map(|file| file.path.as_path()).collect();
    assert!(names.contains(&Path::new("honest.txt")), "{names:?}");
}

fn flattened(why: Flattening) -> Shape {
    Shape::Flattened { why }
}

async fn violation(world: &World, path: &str, what: ViolationKind) {
    let error = world.take().await.unwrap_err();
    let HandoverError::Policy { violations, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        violations.iter().any(|v| v.path == Path::new(path) && v.what == what),
        "{violations:?}"
    );
    assert!(!world.marker().exists(), "a planted program ran");
    world.no_canary();
}

#[tokio::test]
async fn planted_hooks_do_not_run() {
    let world = World::laid().await;
    change(&world);
    let planted = world.planted();
    let hooks = world.repo().join(".git/hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    for name in HOOKS {
        std::fs::copy(&planted, hooks.join(name)).unwrap();
    }
    world.agent_git(&["config", "core.hooksPath", hooks.to_str().unwrap()]);
    arrives(&world, Shape::Descends).await;
    world.agent_git(&["commit", "-q", "--allow-empty", "-m", "control"]);
    assert!(world.marker().exists(), "the trap was no trap");
}

#[tokio::test]
async fn planted_configuration_has_no_effect() {
    let world = World::laid().await;
    change(&world);
    let planted = world.planted();
    let planted = planted.to_str().unwrap();
    let included = world.root().join("workspace/included");
    std::fs::write(
        &included,
        format!("[core]\n\tfsmonitor = {planted}\n\tsshCommand = {planted}\n"),
    )
    .unwrap();
    world.write(".gitattributes", "* filter=evil diff=evil merge=evil\n");
    for (name, value) in [
        ("include.path", included.to_str().unwrap()),
        ("core.fsmonitor", planted),
        ("core.sshCommand", planted),
        ("core.gitProxy", planted),
        ("core.askPass", planted),
        ("core.editor", planted),
        ("core.pager", planted),
        ("core.alternateRefsCommand", planted),
        ("filter.evil.clean", planted),
        ("filter.evil.smudge", planted),
        ("filter.evil.process", planted),
        ("diff.evil.textconv", planted),
        ("diff.evil.command", planted),
        ("diff.external", planted),
        ("merge.evil.driver", planted),
        ("gpg.program", planted),
        ("commit.gpgSign", "true"),
        ("push.gpgSign", "true"),
        ("uploadpack.packObjectsHook", planted),
        ("url.http://127.0.0.1:1/.insteadOf", "http://127.0.0.1"),
        ("url.http://127.0.0.1:1/.pushInsteadOf", "http://127.0.0.1"),
        ("credential.helper", planted),
        ("http.proxy", "http://127.0.0.1:1"),
        ("remote.origin.url", "ext::sh -c planted"),
        ("remote.origin.promisor", "true"),
        ("extensions.partialClone", "origin"),
        ("core.worktree", "/"),
        ("core.attributesFile", included.to_str().unwrap()),
        ("core.excludesFile", "/dev/stdin"),
    ] {
        git_in(
            &world.root(),
            &[
                "config",
                "--file",
                world.repo().join(".git/config").to_str().unwrap(),
                name,
                value,
            ],
        );
    }
    std::fs::create_dir_all(world.repo().join(".git/info")).unwrap();
    std::fs::write(world.repo().join(".git/info/exclude"), "honest.txt\n").unwrap();
    std::fs::write(world.repo().join(".git/info/attributes"), "* filter=evil\n").unwrap();
    arrives(&world, Shape::Descends).await;
    let tree = world.repo().display().to_string();
    world.agent_git(&["--git-dir=.git", "--work-tree", &tree, "add", "honest.txt", "-f"]);
    assert!(world.marker().exists(), "the trap was no trap");
}

#[tokio::test]
async fn a_poisoned_git_directory_costs_the_history_alone() {
    let world = World::laid().await;
    change(&world);
    std::fs::write(world.repo().join(".git/config"), "[core\n\tbroken").unwrap();
    arrives(&world, flattened(Flattening::HeadUnreadable)).await;
}

#[tokio::test]
async fn a_git_directory_that_never_answers_is_left_at_the_time_out() {
    let world = World::laid().await;
    change(&world);
    let config = world.repo().join(".git/config");
    std::fs::remove_file(&config).unwrap();
    mkfifo(&config, Mode::S_IRWXU).unwrap();
    let limits = Limits {
        step: Duration::from_millis(1500),
        ..Limits::default()
    };
    let taken = world.take_within(limits).await.unwrap();
    assert_eq!(taken.shape, flattened(Flattening::HeadUnreadable));
    assert!(taken.head.is_some());
}

#[tokio::test]
async fn a_tree_that_never_answers_has_a_name() {
    let world = World::laid().await;
    std::fs::remove_file(world.repo().join(".gitignore")).unwrap();
    mkfifo(&world.repo().join(".gitignore"), Mode::S_IRWXU).unwrap();
    let limits = Limits {
        step: Duration::from_millis(1500),
        ..Limits::default()
    };
    let error = world.take_within(limits).await.unwrap_err();
    assert!(matches!(error, HandoverError::TimedOut { step: "add", .. }), "{error}");
}

#[tokio::test]
async fn a_git_directory_replaced_costs_the_history_alone() {
    for kind in ["link", "file", "gone", "objects"] {
        let world = World::laid().await;
        change(&world);
        let (dot_git, aside) = (world.repo().join(".git"), world.root().join("workspace/aside"));
        if kind == "objects" {
            std::fs::rename(dot_git.join("objects"), &aside).unwrap();
            symlink(&aside, dot_git.join("objects")).unwrap();
        } else {
            std::fs::rename(&dot_git, &aside).unwrap();
        }
        match kind {
            "link" => symlink(&aside, &dot_git).unwrap(),
            "file" => std::fs::write(&dot_git, format!("gitdir: {}\n", aside.display())).unwrap(),
            _ => {}
        }
        arrives(&world, flattened(Flattening::GitDirReplaced)).await;
    }
}

#[tokio::test]
async fn a_workspace_replaced_is_refused_by_name() {
    let world = World::laid().await;
    let aside = world.root().join("workspace/aside");
    std::fs::rename(world.repo(), &aside).unwrap();
    violation(&world, "", ViolationKind::WorkspaceReplaced).await;
    symlink(&aside, world.repo()).unwrap();
    violation(&world, "", ViolationKind::WorkspaceReplaced).await;
    std::fs::remove_file(world.repo()).unwrap();
    std::fs::write(world.repo(), "").unwrap();
    violation(&world, "", ViolationKind::WorkspaceReplaced).await;
}

#[tokio::test]
async fn a_scratch_directory_planted_as_a_link_is_not_followed() {
    let world = World::laid().await;
    change(&world);
    let outside = world.root().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("keep"), "").unwrap();
    symlink(&outside, world.root().join("workspace/handover")).unwrap();
    arrives(&world, Shape::Descends).await;
    assert!(outside.join("keep").exists());
}

#[tokio::test]
async fn a_detached_or_switched_head_is_followed() {
    for args in [&["checkout", "-q", "--detach"][..], &["checkout", "-qb", "elsewhere"]] {
        let world = World::laid().await;
        world.agent_git(args);
        world.write("committed.txt", "c\n");
        world.agent_git(&["add", "-A"]);
        world.agent_git(&["commit", "-qm", "there"]);
        change(&world);
        arrives(&world, Shape::Descends).await;
        assert_eq!(world.pushed("committed.txt"), "c");
    }
}

#[tokio::test]
async fn a_leftover_lock_and_flags_of_the_index_hide_nothing() {
    let world = World::laid().await;
    world.agent_git(&["update-index", "--assume-unchanged", "README.md"]);
    world.agent_git(&["update-index", "--skip-worktree", "src/a.txt"]);
    world.write("README.md", "changed\n");
    world.write("src/a.txt", "changed\n");
    std::fs::write(world.repo().join(".git/index.lock"), "").unwrap();
    std::fs::write(world.repo().join(".git/HEAD.lock"), "").unwrap();
    change(&world);
    arrives(&world, Shape::Descends).await;
    assert_eq!(
        (world.pushed("README.md"), world.pushed("src/a.txt")),
        ("changed".into(), "changed".into())
    );
}

#[tokio::test]
async fn nested_repositories_and_submodules_are_refused_by_name() {
    for commits in [true, false] {
        let world = World::laid().await;
        change(&world);
        world.write("nested/x", "x\n");
        let nested = world.repo().join("nested");
        git_in(&nested, &["init", "-q"]);
        git_in(
            &nested,
            &["config", "core.fsmonitor", world.planted().to_str().unwrap()],
        );
        if commits {
            git_in(&nested, &["-c", "core.fsmonitor=false", "add", "-A"]);
            git_in(&nested, &["-c", "core.fsmonitor=false", "commit", "-qm", "n"]);
        }
        violation(&world, "nested", ViolationKind::Gitlink).await;
    }
    let world = World::laid().await;
    change(&world);
    let gitmodules = "[submodule \"s\"]\n\tpath = s\n\turl = https://h.example/x\n";
    world.write(".gitmodules", gitmodules);
    let entry = format!("160000,{},s", world.main);
    world.agent_git(&["update-index", "--add", "--cacheinfo", &entry]);
    world.agent_git(&["add", ".gitmodules"]);
    world.agent_git(&["commit", "-qm", "submodule"]);
    violation(&world, "s", ViolationKind::Gitlink).await;
}

#[tokio::test]
async fn a_submodule_that_runs_a_program_is_not_taken() {
    let world = World::laid().await;
    change(&world);
    let url = format!("ext::sh -c '{}'", world.planted().display());
    world.write(
        ".gitmodules",
        format!("[submodule \"s\"]\n\tpath = s\n\turl = \"{url}\"\n\tupdate = \"!planted\"\n"),
    );
    world.agent_git(&["add", "-A"]);
    world.agent_git(&["commit", "-qm", "ext"]);
    // index-pack refuses the file, with the agent's history and without it.
    let error = world.take().await.unwrap_err();
    assert!(matches!(error, HandoverError::Refused { .. }), "{error:?}");
    assert!(!world.marker().exists());
    world.no_canary();
}

#[tokio::test]
async fn rewritten_and_unrelated_history_becomes_one_commit() {
    let world = World::laid().await;
    world.agent_git(&["commit", "-q", "--amend", "-m", "rewritten"]);
    change(&world);
    arrives(&world, flattened(Flattening::NotDescending)).await;

    let world = World::laid().await;
    world.agent_git(&["checkout", "-q", "--orphan", "unrelated"]);
    world.agent_git(&["commit", "-qm", "unrelated"]);
    change(&world);
    let again = world.take().await.unwrap();
    arrives(&world, flattened(Flattening::NotDescending)).await;
    assert_eq!(again.commits, 1);

    let world = World::laid().await;
    world.agent_git(&["reset", "-q", "--soft", world.first.as_str()]);
    change(&world);
    arrives(&world, flattened(Flattening::NotDescending)).await;
}

#[tokio::test]
async fn a_git_entry_in_a_tree_does_not_get_in() {
    let world = World::laid().await;
    change(&world);
    let blob = world.agent_git(&["hash-object", "-w", "honest.txt"]);
    let id: Vec<u8> = (0..blob.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&blob[at..at + 2], 16).unwrap())
        .collect();
    let crafted = world.root().join("workspace/crafted");
    for name in [&b".git"[..], b".GIT", b"..", b"git~1"] {
        let bytes = [b"100644 ", name, b"\0", &id].concat();
        std::fs::write(&crafted, bytes).unwrap();
        let crafted = crafted.to_str().unwrap();
        let tree = world.agent_git(&["hash-object", "-w", "-t", "tree", "--literally", crafted]);
        let commit = world.agent_git(&["commit-tree", "-p", world.main.as_str(), "-m", "crafted", &tree]);
        // Hidden below an honest tip: reading the tip alone does not meet it, the pack has it.
        let honest = world.agent_git(&[
            "commit-tree",
            "-p",
            &commit,
            "-m",
            "honest",
            &format!("{}^{{tree}}", world.main),
        ]);
        for head in [&commit, &honest] {
            world.agent_git(&["update-ref", "HEAD", head]);
            let taken = world.take().await.unwrap();
            assert_eq!(taken.shape, flattened(Flattening::ObjectsRefused), "{name:?}");
            let found = Command::new(git())
                .args(["cat-file", "-e", &tree])
                .current_dir(world.private.dir())
                .status();
            assert!(!found.unwrap().success(), "the tree got in");
        }
    }
    arrives(&world, flattened(Flattening::ObjectsRefused)).await;
}

#[tokio::test]
async fn a_forged_object_does_not_stand_for_the_true_one() {
    let world = World::laid().await;
    // The base's own tree with other content, under the true one's name: the difference would be empty.
    let tree = world.agent_git(&["rev-parse", "HEAD^{tree}"]);
    let pack = world.repo().join(".git/objects/pack");
    world.write("README.md", "other\n");
    change(&world);
    world.agent_git(&["add", "-A"]);
    let forged = world.agent_git(&["write-tree"]);
    let loose = |id: &str| world.repo().join(".git/objects").join(&id[..2]).join(&id[2..]);
    std::fs::create_dir_all(loose(&tree).parent().unwrap()).unwrap();
    std::fs::copy(loose(&forged), loose(&tree)).unwrap();
    world.agent_git(&["reset", "-q"]);
    for entry in std::fs::read_dir(&pack).unwrap() {
        let path = entry.unwrap().path();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::remove_file(path).unwrap();
    }
    let taken = world.hands_over_and_pushes().await;
    assert_eq!(world.pushed("README.md"), "other");
    assert_eq!(world.pushed("honest.txt"), "honest");
    assert_eq!(taken.files_total, 2);
}

#[tokio::test]
async fn alternates_and_grafts_bring_nothing_in() {
    let world = World::laid().await;
    // Objects that only another repository of this machine has.
    let other = world.root().join("other");
    std::fs::create_dir(&other).unwrap();
    git_in(&other, &["init", "-q"]);
    git_in(&other, &["commit", "-q", "--allow-empty", "-m", "elsewhere"]);
    let commit = git_in(&other, &["rev-parse", "HEAD"]);
    let info = world.repo().join(".git/objects/info");
    std::fs::create_dir_all(&info).unwrap();
    std::fs::write(
        info.join("alternates"),
        format!("{}\n", other.join(".git/objects").display()),
    )
    .unwrap();
    world.agent_git(&["update-ref", "HEAD", &commit]);
    std::fs::create_dir_all(world.repo().join(".git/info")).unwrap();
    std::fs::write(
        world.repo().join(".git/info/grafts"),
        format!("{commit} {}\n", world.main),
    )
    .unwrap();
    std::fs::write(world.repo().join(".git/shallow"), format!("{commit}\n")).unwrap();
    change(&world);
    // The sandbox does not let git look there at all.
    arrives(&world, flattened(Flattening::HeadUnreadable)).await;
}

#[tokio::test]
async fn replaced_objects_are_taken_as_they_are() {
    let world = World::laid().await;
    world.write("a.txt", "a\n");
    world.agent_git(&["add", "-A"]);
    world.agent_git(&["commit", "-qm", "a"]);
    world.agent_git(&["replace", "HEAD", world.first.as_str()]);
    change(&world);
    arrives(&world, Shape::Descends).await;
    assert_eq!(world.pushed("a.txt"), "a");
}

#[tokio::test]
async fn a_name_that_git_refuses_has_a_name() {
    let world = World::laid().await;
    change(&world);
    world.write(".GIT/config", "[core]\n");
    violation(&world, ".GIT/config", ViolationKind::InvalidPath).await;
}

#[tokio::test]
async fn planted_home_and_attributes_do_nothing() {
    let world = World::laid().await;
    change(&world);
    world.write(
        ".gitattributes",
        "*.txt filter=lfs diff=lfs text\n[attr]evil filter=evil\n",
    );
    world.write("sub/.gitattributes", "* working-tree-encoding=utf-8 ident\n");
    arrives(&world, Shape::Descends).await;
}
