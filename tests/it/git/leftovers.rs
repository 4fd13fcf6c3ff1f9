//! What a killed runner and its git leave, and still write, is in nobody's way.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::world::{World, git_in};

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
