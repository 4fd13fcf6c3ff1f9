//! Pushing, with real git and a real server: once, whatever comes in between.

use std::sync::atomic::Ordering;

use runner::adapters::git::*;
use runner::embedded::git_server::{Auth, Cut, Operation};
use runner::ids::RepoUrl;
use runner::secret::Secret;

use super::world::{CANARY, World, always, git_in, once};

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
