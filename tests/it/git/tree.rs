//! The tree that is laid from the clone, and files that are read from it.

use std::path::{Path, PathBuf};

use runner::adapters::git::*;
use runner::ids::CommitId;

use super::world::{World, git_in};

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
