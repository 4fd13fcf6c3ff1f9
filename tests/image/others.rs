//! Images that people make of this one: with parts left out, and one of their own that the binary was copied into.

use crate::container::{Plan, both, hardened, named_by};
use crate::outside::Outside;

/// The whole task, by an agent that is a shell's command line.
async fn does_a_whole_task(image: String) {
    let outside = Outside::start().await;
    let container = Plan::hardened(&outside)
        .of(image)
        .with_command("cat > /dev/null; echo change > change.txt")
        .with("RUNNER_CHECK_COMMAND", "grep change change.txt")
        .create();
    container.start();
    container.healthy().await;
    let doctor = container.exec(&["runner", "doctor", "--json"]);
    assert!(doctor.status.success(), "{}", both(&doctor));
    container.assign(&outside).await;
    assert_eq!(container.wait(), 0, "{}", container.logs());
    assert_eq!(outside.verdict()["event"], "completed", "{}", outside.verdict());
    assert_eq!(outside.forge.pulls().len(), 1);
}

/// `tests/image/own.Containerfile`, which docs/image.md shows.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_ones_own_with_the_binary_copied_in_lacks_nothing_and_does_a_whole_task() {
    let own = named_by("RUNNER_TEST_IMAGE_OWN");
    let tools = "for tool in claude gh go gcc; do ! command -v $tool; done; runner --version | cut -d ' ' -f 1";
    assert_eq!(
        hardened(&own, "1001:1001", tools),
        "runner",
        "it is not the image under test"
    );
    does_a_whole_task(own).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_left_out_are_not_there_and_the_others_do_a_whole_task() {
    let small = named_by("RUNNER_TEST_IMAGE_SMALL");
    let look = "for tool in g++ gcc gh git go gofmt jq make pkg-config rg runner yq; do command -v $tool || true; done";
    let found = hardened(&small, "1001:1001", look);
    assert_eq!(
        found.lines().collect::<Vec<_>>(),
        [
            "/usr/bin/git",
            "/usr/local/bin/jq",
            "/usr/bin/make",
            "/usr/bin/rg",
            "/usr/local/bin/runner",
            "/usr/local/bin/yq"
        ]
    );
    does_a_whole_task(small).await;
}
