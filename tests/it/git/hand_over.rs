//! Taking the work over from the agent's tree.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use runner::adapters::git::handover::{self, Flattening, HandoverError, Limits, Shape, ViolationKind};
use runner::adapters::git::*;
use runner::policy::{Bounds, Rules};

use super::world::World;

#[tokio::test]
async fn commits_and_leftovers_are_handed_over() {
    let world = World::laid().await;
    world.write("one.txt", "one\n");
    world.agent_git(&["add", "-A"]);
    world.agent_git(&["commit", "-qm", "by the agent"]);
    world.write("two.txt", "two\n");
    world.write("ignored/x", "no\n");
    std::fs::remove_file(world.repo().join("src/a.txt")).unwrap();
    let taken = world.hands_over_and_pushes().await;
    assert_eq!((taken.commits, taken.shape), (2, Shape::Descends));
    let files: Vec<(String, ChangeKind, Option<u64>, Option<u64>)> = taken
        .files
        .iter()
        .map(|f| (f.path.display().to_string(), f.kind, f.added, f.removed))
        .collect();
    assert_eq!(
        files,
        [
            ("one.txt".to_owned(), ChangeKind::Added, Some(1), Some(0)),
            ("src/a.txt".to_owned(), ChangeKind::Deleted, Some(0), Some(2)),
            ("two.txt".to_owned(), ChangeKind::Added, Some(1), Some(0)),
        ]
    );
    assert_eq!(taken.files_total, 3);
    assert_eq!(world.pushed("two.txt"), "two");
}

#[tokio::test]
async fn a_handover_again_is_the_same_and_found_by_the_probe() {
    let world = World::laid().await;
    assert_eq!(handover::probe(&world.private, Limits::default()).await.unwrap(), None);
    world.write("one.txt", "one\n");
    let taken = world.take().await.unwrap();
    assert_eq!(world.take().await.unwrap(), taken);
    let found = handover::probe(&world.private, Limits::default()).await.unwrap();
    assert_eq!(found, Some(taken));
}

#[tokio::test]
async fn nothing_changed_is_nothing_to_push() {
    let world = World::laid().await;
    world.write("ignored/x", "no\n");
    world.agent_git(&["commit", "-q", "--allow-empty", "-m", "empty"]);
    let taken = world.take().await.unwrap();
    assert_eq!((taken.head.clone(), taken.commits), (None, 0));
    let found = handover::probe(&world.private, Limits::default()).await.unwrap();
    assert_eq!(found, Some(taken));
}

#[tokio::test]
async fn odd_names_links_and_modes_survive() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::laid().await;
    let repo = world.repo();
    let names: [&[u8]; 6] = [b"-rf", b"a\nb", b"\xff\xfe", b"\"quoted\"", b" space ", b":(glob)**"];
    for name in names {
        std::fs::write(repo.join(OsStr::from_bytes(name)), name).unwrap();
    }
    std::os::unix::fs::symlink("src/a.txt", repo.join("link")).unwrap();
    std::fs::write(repo.join("run"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(repo.join("run"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(repo.join("bin"), [0_u8, 159, 146, 150]).unwrap();
    let taken = world.hands_over_and_pushes().await;
    for name in names {
        let file = taken.files.iter().find(|f| f.path.as_os_str().as_bytes() == name);
        assert_eq!(
            file.expect("it is there").added,
            Some(if name == b"a\nb" { 2 } else { 1 })
        );
    }
    let mode = |path: &str| taken.files.iter().find(|f| f.path == Path::new(path)).unwrap().mode;
    assert_eq!((mode("link"), mode("run")), (FileMode::Symlink, FileMode::Executable));
    assert_eq!(world.pushed("link"), "src/a.txt", "the link, not what it points to");
}

#[tokio::test]
async fn a_long_list_of_files_is_cut_and_counted() {
    let world = World::laid().await;
    for number in 0..20 {
        world.write(&format!("f{number}"), "x");
    }
    let limits = Limits {
        files: 5,
        ..Limits::default()
    };
    let taken = world.take_within(limits).await.unwrap();
    assert_eq!((taken.files.len(), taken.files_total), (5, 20));
}

#[tokio::test]
async fn lfs_pointers_are_refused_by_name_and_kept() {
    let world = World::laid().await;
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n",
        "a".repeat(64)
    );
    world.write("big.psd", &pointer);
    world.agent_git(&["add", "-A"]);
    world.agent_git(&["commit", "-qm", "pointer"]);
    std::fs::remove_file(world.repo().join("big.psd")).unwrap();
    world.write("fine.txt", "version\n");
    let error = world.take().await.unwrap_err();
    let HandoverError::Policy { violations, refused } = error else {
        panic!("{error}")
    };
    assert_eq!(violations.len(), 1, "{violations:?}");
    assert_eq!(
        (violations[0].path.as_path(), violations[0].what),
        (Path::new("big.psd"), ViolationKind::LfsPointer)
    );
    assert!(refused.is_some());
    assert_eq!(handover::probe(&world.private, Limits::default()).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_too_large_to_push_or_to_search_is_refused_by_name() {
    let world = World::laid().await;
    world.write("large.txt", "x\n".repeat(500));
    world.write("small.txt", "y\n".repeat(100));
    let within = Bounds {
        file: 1000,
        change: 1300,
        searched_file: 1000,
        searched: 1300,
    };
    for (bounds, expected) in [
        (
            Bounds { file: 999, ..within },
            vec![("large.txt", ViolationKind::FileTooLarge)],
        ),
        (
            Bounds { change: 1199, ..within },
            vec![("", ViolationKind::ChangeTooLarge)],
        ),
        (
            Bounds {
                searched_file: 999,
                ..within
            },
            vec![("large.txt", ViolationKind::NotSearched)],
        ),
        (
            Bounds {
                searched_file: 150,
                ..within
            },
            vec![
                ("large.txt", ViolationKind::NotSearched),
                ("small.txt", ViolationKind::NotSearched),
            ],
        ),
        (within, vec![]),
    ] {
        let rules = Rules {
            bounds,
            ..Rules::default()
        };
        let found = match world.take_by(Limits::default(), &rules).await {
            Err(HandoverError::Policy { violations, .. }) => violations,
            Err(error) => panic!("{error}"),
            Ok(_) => Vec::new(),
        };
        let found: Vec<_> = found.iter().map(|one| (one.path.to_str().unwrap(), one.what)).collect();
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn a_pack_over_the_limit_is_not_taken() {
    let world = World::laid().await;
    world.write("new.txt", "new\n");
    let limits = Limits {
        pack: 16,
        ..Limits::default()
    };
    let error = world.take_within(limits).await.unwrap_err();
    assert!(
        matches!(error, HandoverError::Private(GitError::TooLarge { limit: 16, .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_flattened_shape_is_remembered() {
    let world = World::laid().await;
    world.write("new.txt", "new\n");
    std::fs::remove_dir_all(world.repo().join(".git")).unwrap();
    let taken = world.hands_over_and_pushes().await;
    let why = Flattening::GitDirReplaced;
    assert_eq!(taken.shape, Shape::Flattened { why });
    let found = handover::probe(&world.private, Limits::default()).await.unwrap();
    assert_eq!(found, Some(taken));
}

#[test]
fn an_author_is_a_name_and_an_address() {
    let author: Author = "runner <r@x>".parse().unwrap();
    assert_eq!(author.to_string(), "runner <r@x>");
    for bad in [
        "",
        "x",
        "<r@x>",
        "a <>",
        "a\n <r@x>",
        "a <r@x> b",
        "a <b <c>",
        ". <r@x>",
    ] {
        assert!(bad.parse::<Author>().is_err(), "{bad:?}");
    }
}
