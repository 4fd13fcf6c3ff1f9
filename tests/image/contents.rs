//! What is in the image, and what is not.

use crate::container::{Plan, actions_image, both, image, podman_prints};
use crate::outside::Outside;

/// A shell's command line in a container of its own, without any hardening.
fn inside(image: &str, user: &str, command: &str) -> String {
    let user = format!("--user={user}");
    podman_prints(&[
        "run",
        "--rm",
        "--network=none",
        &user,
        "--entrypoint=bash",
        image,
        "-c",
        command,
    ])
}

#[test]
fn nothing_in_the_image_may_become_another_user_and_there_is_no_sudo() {
    for image in [image(), actions_image()] {
        assert_eq!(inside(&image, "0", "find / -xdev -perm /6000 -type f"), "", "{image}");
        assert_eq!(
            inside(&image, "0", "command -v sudo su-exec gosu || true"),
            "",
            "{image}"
        );
    }
}

#[test]
fn the_user_may_write_only_where_the_runner_needs_it() {
    let look = "find / -xdev ! -type l -writable -not -path '/proc/*' 2>/dev/null | sort";
    let expected = ["/home/runner", "/run/runner", "/tmp", "/var/lib/runner", "/workspace"];
    let found = inside(&image(), "1001", look);
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
    // GitHub's own runner writes beside its programs, and may not replace them.
    let found = inside(&actions_image(), "1001", look);
    let (beside, others): (Vec<&str>, Vec<&str>) = found.lines().partition(|path| path.starts_with("/opt"));
    assert_eq!(
        (&beside[..], &others[..]),
        (&["/opt/actions-runner"][..], &expected[..])
    );
    let replace = "touch /opt/actions-runner/own && ! mv /opt/actions-runner/bin /opt/actions-runner/theirs 2>&1";
    assert!(inside(&actions_image(), "1001", replace).contains("Operation not permitted"));
}

#[test]
fn the_image_says_who_it_runs_as_and_what_it_starts() {
    for (image, what) in [(image(), "serve"), (actions_image(), "actions")] {
        let config = |format: &str| podman_prints(&["image", "inspect", "--format", format, &image]);
        assert_eq!(config("{{.Config.User}}"), "1001:1001");
        assert_eq!(
            config("{{json .Config.Entrypoint}}"),
            format!(r#"["runner","init","--","runner","{what}"]"#)
        );
        assert!(config("{{json .Config.ExposedPorts}}").contains("8888/tcp"));
        assert_eq!(
            config("{{json .HealthCheck.Test}}"),
            r#"["CMD","runner","doctor","--live"]"#
        );
        let labels: serde_json::Value = serde_json::from_str(&config("{{json .Labels}}")).unwrap();
        let revision = labels["org.opencontainers.image.revision"].as_str().unwrap();
        assert_eq!(revision.len(), 40, "{labels}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_container_is_healthy_and_lacks_nothing_and_shows_no_secret() {
    let outside = Outside::start().await;
    let container = Plan::hardened(&outside)
        .with("RUNNER_TASK_TOKEN", "a-task-token-of-this-test")
        .create();
    container.start();
    container.healthy().await;
    assert_eq!(container.status().await["boot"], 1);
    podman_prints(&["healthcheck", "run", &container.name]);
    let doctor = container.exec(&["runner", "doctor", "--json"]);
    assert!(doctor.status.success(), "{}", both(&doctor));
    let report: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    assert_eq!(report["ok"], true, "{report}");
    let refused = container.exec(&["cat", "/proc/1/environ"]);
    assert!(!refused.status.success(), "{}", both(&refused));
    // As root of this machine it can be read, and there is nothing in it.
    let environ = std::fs::read(format!("/proc/{}/environ", container.init())).unwrap();
    assert_eq!(String::from_utf8_lossy(&environ), "");
    assert!(!container.logs().contains("a-task-token-of-this-test"));
    container.stop(10);
    assert_eq!(container.wait(), 0, "{}", container.logs());
    // Nobody lives there any more.
    let unhealthy = crate::container::podman(&["healthcheck", "run", &container.name]);
    assert!(!unhealthy.status.success());
}
