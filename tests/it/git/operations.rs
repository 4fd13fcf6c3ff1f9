//! Cloning, laying the tree, taking the work over and pushing it, with real git and a real server.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::world::{CANARY, World, git, git_in};
use runner::adapters::git::handover::{self, Flattening, HandoverError, Limits, Shape, ViolationKind};
use runner::adapters::git::*;
use runner::embedded::git_server::{Auth, Cut, Faults, Operation};
use runner::ids::{CommitId, RepoUrl};
use runner::policy::{Bounds, Rules};
use runner::secret::Secret;
use std::path::{Path, PathBuf};

fn once(operation: Operation, cut: Cut) -> (Faults, Arc<AtomicUsize>) {
    let left = Arc::new(AtomicUsize::new(1));
    let counter = Arc::clone(&left);
    let faults: Faults = Arc::new(move |now| {
        let spoil = now == operation
            && counter
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok();
        spoil.then_some(cut)
    });
    (faults, left)
}

fn always(operation: Operation, cut: Cut) -> Faults {
    Arc::new(move |now| (now == operation).then_some(cut))
}

#[tokio::test]
async fn the_refs_of_a_remote_are_listed_with_its_default_branch() {
    let world = World::new().await;
    let refs = world.private.ls_remote(&world.url, Some(&world.token)).await.unwrap();
    assert_eq!(refs.head, Some(("main".parse().unwrap(), world.main.clone())));
    assert_eq!(refs.refs.len(), 1);
    world.no_canary();
}

#[tokio::test]
async fn a_clone_has_the_base_and_is_found_by_the_probe() {
    let world = World::new().await;
    assert_eq!(world.private.probe_clone().await.unwrap(), None);
    let cloned = world.cloned().await;
    assert_eq!(cloned.base, world.main);
    assert_eq!(cloned.base_branch.as_str(), "main");
    assert_eq!(cloned.remote_branch, None);
    assert_eq!(world.private.probe_clone().await.unwrap(), Some(cloned.clone()));
    assert_eq!(world.cloned().await, cloned, "again is the same");
    assert_eq!(std::fs::read_dir(world.root().join("secrets")).unwrap().count(), 0);
    world.no_canary();
}

#[tokio::test]
async fn a_branch_a_tag_and_a_commit_name_a_base() {
    let world = World::new().await;
    let server = world.server.path("o", "r").unwrap();
    let first = world.first.as_str();
    git_in(&server, &["branch", "feature/x", first]);
    git_in(&server, &["tag", "-a", "-m", "t", "v1", first]);
    git_in(&server, &["branch", "runner/task", first]);
    // A commit that no branch has.
    let tree = git_in(&server, &["rev-parse", "main^{tree}"]);
    let lone = git_in(&server, &["commit-tree", "-m", "lone", &tree]);
    git_in(&server, &["tag", "lone", &lone]);
    for (base, id, target) in [
        ("feature/x", first, "feature/x"),
        ("refs/heads/feature/x", first, "feature/x"),
        ("v1", first, "main"),
        (first, first, "main"),
        ("lone", &lone, "main"),
        (&lone, &lone, "main"),
    ] {
        let base = base.parse().unwrap();
        let cloned = world
            .private
            .clone(&world.url, Some(&world.token), Some(&base), &world.branch)
            .await
            .unwrap();
        assert_eq!(
            (cloned.base.as_str(), cloned.base_branch.as_str()),
            (id, target),
            "{base}"
        );
        assert_eq!(cloned.remote_branch.as_ref().map(CommitId::as_str), Some(first));
    }
}

#[tokio::test]
async fn a_base_that_is_nowhere_is_named() {
    let world = World::new().await;
    for base in ["nowhere", "HEAD", &"1".repeat(40)] {
        let base = base.parse().unwrap();
        let error = world
            .private
            .clone(&world.url, Some(&world.token), Some(&base), &world.branch)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, GitError::RefNotFound(name) if name == &base),
            "{error}"
        );
        assert_eq!(world.private.probe_clone().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_branch_in_the_way_of_the_working_branch_is_named_before_anything_is_fetched() {
    for in_the_way in ["runner", "runner/task/more"] {
        let world = World::new().await;
        let server = world.server.path("o", "r").unwrap();
        git_in(&server, &["branch", "runner/tasks"]);
        let clone = || world.private.clone(&world.url, Some(&world.token), None, &world.branch);
        assert!(clone().await.is_ok(), "a name that begins alike is in nobody's way");
        git_in(&server, &["branch", "-D", "runner/tasks"]);
        git_in(&server, &["branch", in_the_way]);
        let error = clone().await.unwrap_err();
        assert!(
            matches!(&error, GitError::BranchInTheWay { there, .. } if there == in_the_way),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_empty_repository_is_named() {
    let world = World::new().await;
    world.server.create("o", "empty").await.unwrap();
    let url = RepoUrl::Http(format!("{}/../empty", world.server.url("o", "r")).parse().unwrap());
    let error = world
        .private
        .clone(&url, Some(&world.token), None, &world.branch)
        .await
        .unwrap_err();
    assert!(matches!(error, GitError::EmptyRepository), "{error}");
}

#[tokio::test]
async fn what_the_host_says_has_a_name() {
    let world = World::new().await;
    let list =
        async |url: RepoUrl, token: Option<Secret>| world.private.ls_remote(&url, token.as_ref()).await.unwrap_err();
    let wrong = Secret::new("ghs_wrong");
    let error = list(world.url.clone(), Some(wrong)).await;
    assert!(matches!(error, GitError::AuthenticationFailed { .. }), "{error}");
    let error = list(world.url.clone(), None).await;
    assert!(matches!(error, GitError::AuthenticationFailed { .. }), "{error}");
    let missing = RepoUrl::Http(world.server.url("o", "missing").parse().unwrap());
    let error = list(missing, Some(world.token.clone())).await;
    assert!(matches!(error, GitError::NotFound { .. }), "{error}");
    let nobody = RepoUrl::Http("http://127.0.0.1:1/o/r".parse().unwrap());
    let error = list(nobody, Some(world.token.clone())).await;
    assert!(matches!(error, GitError::Unreachable { .. }), "{error}");
    let error = list(world.url.clone(), Some(Secret::new("two\nlines"))).await;
    assert!(matches!(error, GitError::TokenUnusable), "{error}");
}

#[tokio::test]
async fn statuses_of_the_host_have_names() {
    for (status, expected) in [
        (403, "Forbidden"),
        (301, "Redirected"),
        (503, "Server"),
        (429, "Server"),
    ] {
        let world = World::with_faults(Some(always(Operation::List, Cut::Status(status)))).await;
        let error = world
            .private
            .ls_remote(&world.url, Some(&world.token))
            .await
            .unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{status}: {error:?}");
    }
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_left_at_the_time_out() {
    let mut world = World::with_faults(Some(always(Operation::List, Cut::Delay(Duration::from_hours(1))))).await;
    let time_outs = TimeOuts {
        list: Duration::from_millis(300),
        ..TimeOuts::default()
    };
    world.private = world.private.with_time_outs(time_outs);
    let error = world
        .private
        .ls_remote(&world.url, Some(&world.token))
        .await
        .unwrap_err();
    assert!(matches!(error, GitError::TimedOut { what: "ls-remote", .. }), "{error}");
}

#[tokio::test]
async fn a_clone_cut_off_is_done_again() {
    let (faults, left) = once(Operation::Fetch, Cut::Before);
    let world = World::with_faults(Some(faults)).await;
    let first = world
        .private
        .clone(&world.url, Some(&world.token), None, &world.branch)
        .await;
    // What curl sends again by itself may have come through.
    if let Err(error) = first {
        assert!(matches!(error, GitError::Lost { .. }), "{error}");
    }
    assert_eq!(left.load(Ordering::SeqCst), 0);
    assert_eq!(world.cloned().await.base, world.main);
}

#[tokio::test]
async fn what_a_killed_clone_leaves_is_thrown_away() {
    let world = World::new().await;
    let state = world.root().join("state");
    std::fs::create_dir_all(state.join("git.partial-dead/objects")).unwrap();
    std::fs::create_dir_all(state.join("git/refs/runner")).unwrap();
    assert_eq!(world.private.probe_clone().await.unwrap(), None);
    let cloned = world.cloned().await;
    assert_eq!(cloned.base, world.main);
    assert!(!state.join("git.partial-dead").exists());
}

#[tokio::test]
async fn a_clone_does_not_wait_for_what_a_killed_git_still_writes() {
    let world = World::new().await;
    let writing = Writing::into(&world.root().join("state"), &["git.partial-dead"]);
    for _ in 0..5 {
        assert_eq!(world.cloned().await.base, world.main);
    }
    writing.ends();
}

#[tokio::test]
async fn a_tree_is_laid_while_a_killed_git_still_writes_into_an_unfinished_one() {
    let world = World::laid().await;
    let writing = Writing::into(&world.root().join("workspace"), &["repo.partial", "repo.partial-dead"]);
    for _ in 0..5 {
        world.lay().await;
        assert!(git_in(&world.repo(), &["status", "--porcelain"]).is_empty());
    }
    writing.ends();
}

/// What a killed runner's git writes into directories that nobody wants any more.
struct Writing {
    over: Arc<AtomicBool>,
    writer: std::thread::JoinHandle<()>,
}

impl Writing {
    fn into(parent: &Path, names: &'static [&str]) -> Self {
        let (parent, over) = (parent.to_owned(), Arc::new(AtomicBool::new(false)));
        let writer = std::thread::spawn({
            let over = Arc::clone(&over);
            move || {
                for number in 0_u32.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    for name in names {
                        // They fail while the directory is away: what counts is that it is never empty for long.
                        let _ = std::fs::create_dir(parent.join(name));
                        let _ = std::fs::write(parent.join(name).join(format!("{}", number % 64)), "");
                    }
                }
            }
        });
        Self { over, writer }
    }

    fn ends(self) {
        self.over.store(true, Ordering::Relaxed);
        self.writer.join().unwrap();
    }
}

#[tokio::test]
async fn stale_locks_are_cleared() {
    let world = World::laid().await;
    world.write("new.txt", "new\n");
    let dir = world.private.dir();
    for name in ["packed-refs.lock", "refs/runner/head.lock", "config.lock"] {
        std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        std::fs::write(dir.join(name), "").unwrap();
    }
    std::fs::create_dir(world.root().join("secrets/askpass-dead")).unwrap();
    assert!(world.take().await.is_err(), "a lock is in the way");
    assert_eq!(world.private.clear_stale_locks().unwrap(), 4);
    world.hands_over_and_pushes().await;
}

#[tokio::test]
async fn further_roots_are_added_to_the_systems() {
    let world = World::new().await;
    let extra = world.root().join("extra.pem");
    std::fs::write(&extra, "EXTRA\n").unwrap();
    let private = PrivateRepository::new(
        git(),
        world.root().join("state/git"),
        world.root().join("secrets"),
        Some(extra),
        env!("CARGO_BIN_EXE_runner").into(),
    );
    private.ls_remote(&world.url, Some(&world.token)).await.unwrap();
    let together = std::fs::read_to_string(world.root().join("state/git.roots.pem")).unwrap();
    assert!(together.starts_with("EXTRA\n"));
}

#[tokio::test]
async fn the_tree_is_on_the_branch_and_shares_nothing() {
    let world = World::laid().await;
    assert_eq!(world.agent_git(&["symbolic-ref", "HEAD"]), "refs/heads/runner/task");
    assert_eq!(world.agent_git(&["rev-parse", "HEAD"]), world.main.as_str());
    assert_eq!(world.agent_git(&["rev-parse", "origin/main"]), world.main.as_str());
    assert_eq!(world.agent_git(&["rev-list", "--count", "HEAD"]), "2");
    assert_eq!(world.agent_git(&["status", "--porcelain"]), "");
    assert_eq!(world.agent_git(&["remote"]), "");
    assert_eq!(world.agent_git(&["config", "user.email"]), "runner@runner.example");
    assert!(!world.repo().join(".git/objects/info/alternates").exists());
    let private = world.private.objects();
    for file in files(&world.repo().join(".git/objects")) {
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(file.metadata().unwrap().nlink(), 1, "{}", file.display());
    }
    assert!(private.is_dir());
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn a_tree_is_laid_over_whatever_is_there() {
    let world = World::new().await;
    world.cloned().await;
    let outside = world.root().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("keep"), "").unwrap();
    std::os::unix::fs::symlink(&outside, world.repo()).unwrap();
    std::os::unix::fs::symlink(&outside, world.root().join("workspace/repo.partial-dead")).unwrap();
    world.lay().await;
    assert!(!world.repo().is_symlink());
    assert!(outside.join("keep").exists());
    world.write("left", "over");
    world.lay().await;
    assert!(!world.repo().join("left").exists());
}

#[tokio::test]
async fn the_same_push_twice_is_the_same() {
    let world = World::laid().await;
    world.write("new.txt", "new\n");
    let head = world.hands_over_and_pushes().await.head.unwrap();
    world.push(&head).await.unwrap();
    assert_eq!(world.remote().await, Some(head));
    assert_eq!(world.pushed("new.txt"), "new");
}

#[tokio::test]
async fn a_push_whose_answer_was_lost_is_found_by_ls_remote() {
    let (faults, left) = once(Operation::Push, Cut::AfterWork);
    let world = World::with_faults(Some(faults)).await;
    world.cloned().await;
    world.lay().await;
    world.write("new.txt", "new\n");
    let head = world.take().await.unwrap().head.unwrap();
    world.push(&head).await.unwrap_err();
    assert_eq!(left.load(Ordering::SeqCst), 0);
    let refs = world.private.ls_remote(&world.url, Some(&world.token)).await.unwrap();
    assert_eq!(refs.branch(&world.branch), Some(&head));
    world.push(&head).await.unwrap();
}

#[tokio::test]
async fn a_push_that_never_arrived_changes_nothing() {
    for cut in [Cut::Before, Cut::Status(502)] {
        let world = World::with_faults(Some(always(Operation::Push, cut))).await;
        world.cloned().await;
        world.lay().await;
        world.write("new.txt", "new\n");
        let head = world.take().await.unwrap().head.unwrap();
        let error = world.push(&head).await.unwrap_err();
        assert!(
            matches!(error, GitError::Lost { .. } | GitError::Server { status: 502, .. }),
            "{error}"
        );
        assert_eq!(world.remote().await, None);
    }
}

#[tokio::test]
async fn a_branch_that_moved_is_a_broken_lease() {
    let world = World::laid().await;
    world.write("new.txt", "new\n");
    let head = world.take().await.unwrap().head.unwrap();
    git_in(
        &world.server.path("o", "r").unwrap(),
        &["branch", world.branch.as_str(), world.first.as_str()],
    );
    let error = world.push(&head).await.unwrap_err();
    assert!(matches!(error, GitError::Stale { .. }), "{error}");
    assert_eq!(world.remote().await.as_ref(), Some(&world.first));
    world
        .private
        .push(&world.url, Some(&world.token), &world.branch, &head, Some(&world.first))
        .await
        .unwrap();
    assert_eq!(world.remote().await, Some(head));
}

#[tokio::test]
async fn a_hook_of_the_remote_refuses_by_its_own_words() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::laid().await;
    let hooks = world.server.path("o", "r").unwrap().join("hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    let hook = hooks.join("pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho 'branch is protected' >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.write("new.txt", "new\n");
    let head = world.take().await.unwrap().head.unwrap();
    let error = world.push(&head).await.unwrap_err();
    assert!(
        matches!(&error, GitError::RemoteRejected { reason } if reason.contains("branch is protected")),
        "{error}"
    );
}

#[tokio::test]
async fn a_token_that_expired_is_an_authentication_failure() {
    let world = World::laid().await;
    world.write("new.txt", "new\n");
    let head = world.take().await.unwrap().head.unwrap();
    world.server.set_auth(Auth::Token(Secret::new("ghs_next")));
    let error = world.push(&head).await.unwrap_err();
    assert!(matches!(error, GitError::AuthenticationFailed { .. }), "{error}");
    assert!(!error.to_string().contains(CANARY));
}

#[tokio::test]
async fn a_large_push_streams() {
    let world = World::laid().await;
    // Does not compress, and is larger than git's buffer for one request.
    let mut state = 1_u64;
    let noise: Vec<u8> = (0..3_000_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .collect();
    world.write("big.bin", &noise);
    let taken = world.hands_over_and_pushes().await;
    assert_eq!(taken.files[0].added, None, "binary");
    assert_eq!(world.server.counts().pushes, 1);
}

#[tokio::test]
async fn a_clone_and_a_push_by_path_need_no_token() {
    let world = World::new().await;
    let url = RepoUrl::Local(world.server.path("o", "r").unwrap());
    let cloned = world.private.clone(&url, None, None, &world.branch).await.unwrap();
    assert_eq!(cloned.base, world.main);
    world
        .private
        .push(&url, None, &world.branch, &world.first, None)
        .await
        .unwrap();
    assert_eq!(world.remote().await.as_ref(), Some(&world.first));
}

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

#[tokio::test]
async fn plain_files_of_a_commit_are_read_and_nothing_that_leads_elsewhere() {
    let world = World::new().await;
    let remote = world.server.path("o", "r").unwrap();
    let work = world.root().join("work");
    git_in(&world.root(), &["clone", "--quiet", remote.to_str().unwrap(), "work"]);
    let write = |name: &str, text: &[u8]| {
        let path = work.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("AGENTS.md", b"as it was\xff\n");
    write("docs/deep/far.md", b"");
    write("docs/a file\twith \"all\".md", b"odd");
    write("big.md", &vec![b'x'; usize::try_from(FILE_LIMIT).unwrap() + 1]);
    std::os::unix::fs::symlink("/etc/passwd", work.join("CLAUDE.md")).unwrap();
    std::os::unix::fs::symlink("docs", work.join("linked")).unwrap();
    let sub = format!("160000,{},docs/sub", world.main);
    git_in(&work, &["add", "-A"]);
    git_in(&work, &["update-index", "--add", "--cacheinfo", &sub]);
    git_in(&work, &["commit", "--quiet", "-m", "files"]);
    let base: CommitId = git_in(&work, &["rev-parse", "HEAD"]).parse().unwrap();
    write("AGENTS.md", b"as it is later\n");
    git_in(&work, &["commit", "--quiet", "-a", "-m", "later"]);
    git_in(&work, &["push", "--quiet", "origin", "HEAD:main"]);
    world.cloned().await;

    let private = &world.private;
    let named = |files: &[CommittedFile]| -> Vec<String> {
        files
            .iter()
            .map(|file| file.path.to_string_lossy().into_owned())
            .collect()
    };
    let root = private.files_in(&base, &[""]).await.unwrap();
    assert_eq!(named(&root), [".gitignore", "AGENTS.md", "README.md", "big.md"]);
    let below = private.files_in(&base, &["docs", "linked", "missing"]).await.unwrap();
    assert_eq!(named(&below), ["docs/a file\twith \"all\".md"]);
    let text = |place: usize| private.text_of(&root[place]);
    assert_eq!(text(1).await.unwrap().as_deref(), Some("as it was\u{fffd}\n"));
    assert_eq!(text(3).await.unwrap(), None, "more than is read");
    assert_eq!(private.text_of(&below[0]).await.unwrap().as_deref(), Some("odd"));
}
