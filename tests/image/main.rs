//! The image as it is deployed, in real containers: `.ci/image` builds it and runs this.
//!
//! `cargo test` alone leaves it out, since it needs root, podman and the image, which `RUNNER_TEST_IMAGE` names.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod actions;
mod container;
mod contents;
mod figures;
#[path = "../it/actions/github.rs"]
#[expect(dead_code, reason = "the tests of the binary use more of it")]
mod github;
mod go_task;
mod hardened;
mod layers;
#[path = "../it/messages_api.rs"]
#[expect(dead_code, reason = "the tests of the binary use more of it")]
mod messages_api;
mod others;
#[path = "../it/outside.rs"]
#[expect(dead_code, reason = "the tests of the binary use more of it")]
mod outside;
mod restarts;
#[path = "../it/small_disk.rs"]
mod small_disk;
mod stopping;
mod tools;
mod volumes;
