//! Tells the binary which commit it is built from: `RUNNER_COMMIT` where that is set (an image build has no `.git`), else git's;
//! and from when that is, by `SOURCE_DATE_EPOCH`, else by git: the same source makes the same binary.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=RUNNER_COMMIT");
    for part in ["HEAD", "refs", "packed-refs"] {
        if std::path::Path::new(".git").join(part).exists() {
            println!("cargo:rerun-if-changed=.git/{part}");
        }
    }
    let named = std::env::var("RUNNER_COMMIT").ok().filter(|c| !c.is_empty());
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let commit = named.or_else(head);
    match &commit {
        Some(commit) => println!("cargo:rustc-env=RUNNER_LONG_VERSION={version} ({commit})"),
        None => println!("cargo:rustc-env=RUNNER_LONG_VERSION={version} (commit unknown)"),
    }
    println!(
        "cargo:rustc-env=RUNNER_COMMIT_ID={}",
        commit.as_deref().unwrap_or("unknown")
    );
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let named = std::env::var("SOURCE_DATE_EPOCH").ok();
    let from = named
        .or_else(|| git(&["show", "-s", "--format=%ct", "HEAD"]))
        .and_then(|seconds| seconds.parse::<u32>().ok());
    // Older than any build: this line was written later.
    println!(
        "cargo:rustc-env=RUNNER_SOURCE_SECONDS={}",
        from.unwrap_or(1_767_225_600)
    );
}

fn head() -> Option<String> {
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
