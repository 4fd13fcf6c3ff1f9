//! Cloning, with real git and a real server: what is fetched, and what each refusal is called.

use std::sync::atomic::Ordering;
use std::time::Duration;

use runner::adapters::git::*;
use runner::embedded::git_server::{Cut, Operation};
use runner::ids::{CommitId, RepoUrl};
use runner::secret::Secret;

use super::world::{World, always, git, git_in, once};

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
