//! Tells the binary which commit it is built from: `RUNNER_COMMIT` where that is set (an image build has no `.git`), else git's.

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
    match named.or_else(head) {
        Some(commit) => println!("cargo:rustc-env=RUNNER_LONG_VERSION={version} ({commit})"),
        None => println!("cargo:rustc-env=RUNNER_LONG_VERSION={version} (commit unknown)"),
    }
}

fn head() -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
