//! What GitHub refuses, by its name; and what passes, waited for.

use runner::embedded::faults::{Endpoint, Fault, Times};
use serde_json::{Value, json};

use super::{Bench, a_job};

fn answers(status: u16, error: &str) -> Fault {
    Fault::Answer {
        status,
        error: error.to_owned(),
        retry_after: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_ends_the_runner_by_its_name_and_leaves_nothing_registered() {
    let cases = [
        (Endpoint::RunnerRegister, 401, "NotAuthorized"),
        (Endpoint::RunnerRegister, 403, "Forbidden"),
        (Endpoint::RunnerRegister, 404, "TargetNotFound"),
        (Endpoint::RunnerRegister, 409, "NameTaken"),
        (Endpoint::RunnerRegister, 422, "RegistrationRefused"),
        (Endpoint::RunnerGroups, 403, "Forbidden"),
    ];
    let mut tests = tokio::task::JoinSet::new();
    for (endpoint, status, reason) in cases {
        tests.spawn(async move {
            let bench = Bench::new(&a_job())
                .await
                .with("RUNNER_ACTIONS_URL", "https://github.com/octo");
            bench
                .github
                .inject(endpoint, answers(status, "so it is"), Times::Always);
            let (code, log) = bench.once().await;
            assert_eq!(code, Some(1), "{status}: {log}");
            let verdict: Value = bench.verdict();
            assert_eq!(verdict["details"]["reason"], reason, "{verdict}");
            assert!(verdict["message"].as_str().unwrap().contains("so it is"), "{verdict}");
            assert_eq!(bench.entered(), ["Assigned", "Deregistered"]);
            assert!(bench.github.names().is_empty());
            // A name that is taken is tried under two more.
            let tries = if status == 409 { 3 } else { 1 };
            let asked = match endpoint {
                Endpoint::RunnerGroups => bench.github.asked_for("GET runner-groups"),
                _ => bench.github.asked_for("POST generate-jitconfig"),
            };
            assert_eq!(asked, tries, "{status}");
        });
    }
    while let Some(test) = tests.join_next().await {
        test.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_does_not_exist_is_named() {
    let bench = Bench::new(&a_job())
        .await
        .with("RUNNER_ACTIONS_URL", "https://github.com/octo")
        .with("RUNNER_ACTIONS_GROUP", "Nobody");
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(1), "{log}");
    let verdict = bench.verdict();
    assert_eq!(verdict["details"]["reason"], "GroupNotFound");
    assert!(verdict["message"].as_str().unwrap().contains("\"Nobody\""), "{verdict}");
    assert_eq!(bench.github.asked_for("POST"), 0, "nothing was registered for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_followed_by_the_next_one() {
    let bench = Bench::new(&a_job()).await;
    bench
        .github
        .inject(Endpoint::RunnerRegister, answers(409, "Already exists"), Times::Next(2));
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(0), "{log}");
    let names = bench.github.names();
    assert!(names.len() == 1 && names[0].ends_with("-3"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_waited_for_as_long_as_github_asks() {
    let bench = Bench::new(&json!([{"job": "true", "keeps": true}])).await;
    bench.github.inject(
        Endpoint::RunnerRegister,
        Fault::Answer {
            status: 403,
            error: "You have exceeded a secondary rate limit".to_owned(),
            retry_after: Some(2),
        },
        Times::Next(1),
    );
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(0), "{log}");
    let rows = bench.rows();
    let at = |row: &Value| row["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let intents: Vec<_> = rows
        .iter()
        .filter(|row| row["kind"] == "intent" && row["effect"] == "register")
        .collect();
    assert_eq!(intents.len(), 2, "{rows:?}");
    let waited = at(intents[1]).duration_since(at(intents[0])).as_millis();
    assert!((2_000..30_000).contains(&waited), "{waited} ms");
    // It was certainly not carried out, so nobody has to look.
    assert_eq!(bench.github.asked_for("GET runners"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_for_a_lost_answer_waits_as_long_as_github_asks_too() {
    let bench = Bench::new(&a_job()).await;
    bench
        .github
        .inject(Endpoint::RunnerRegister, Fault::DropAfter, Times::Next(1));
    bench.github.inject(
        Endpoint::RunnerList,
        Fault::Answer {
            status: 429,
            error: "too many".to_owned(),
            retry_after: Some(3),
        },
        Times::Next(1),
    );
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(0), "{log}");
    let rows = bench.rows();
    let at = |row: &Value| row["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let refused = rows.iter().find(|row| row["body"]["after_ms"] == 3_000).unwrap();
    let probed = rows.iter().find(|row| row["kind"] == "probe").unwrap();
    let waited = at(probed).duration_since(at(refused)).as_millis();
    assert!((3_000..30_000).contains(&waited), "{waited} ms");
    assert!(bench.github.registered().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_beyond_the_patience_is_left_to_the_next_start() {
    let bench = Bench::new(&a_job()).await.with("RUNNER_API_PATIENCE", "1s");
    bench.github.inject(
        Endpoint::RunnerRegister,
        Fault::Answer {
            status: 429,
            error: "too many".to_owned(),
            retry_after: Some(2),
        },
        Times::Next(1),
    );
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(75), "{log}");
    assert!(bench.github.names().is_empty());
    assert_eq!(
        bench.once().await.0,
        Some(0),
        "the next start does not wait for what an earlier one was told"
    );
}

/// GitHub answers 404 also to who may not see a runner: it is removed only where the list can be read, and does not have it.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_finds_nothing_is_one_only_where_the_list_says_so_too() {
    for list in [None, Some(404), Some(403)] {
        let bench = Bench::new(&json!([{"job": "true", "keeps": true}]))
            .await
            .with("RUNNER_API_PATIENCE", "1s");
        let github = &bench.github;
        github.inject(Endpoint::RunnerRemove, answers(404, "Not Found"), Times::Always);
        if let Some(status) = list {
            github.inject(Endpoint::RunnerList, answers(status, "Not Found"), Times::Always);
        }
        let (code, log) = bench.once().await;
        assert_eq!(code, Some(75), "{list:?}: {log}");
        assert_eq!(github.registered().len(), 1);
        assert_eq!(bench.entered(), ["Assigned", "Registered", "JobRan"], "{list:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_no_program_is_named_and_its_registration_removed() {
    let bench = Bench::new(&a_job()).await;
    std::fs::write(
        bench.path("official/bin/Runner.Listener"),
        "#!/nonexistent/interpreter\n",
    )
    .unwrap();
    let (code, log) = bench.once().await;
    assert_eq!(code, Some(1), "{log}");
    assert_eq!(bench.verdict()["details"]["reason"], "ListenerMissing");
    assert_eq!(bench.github.names().len(), 1);
    assert!(bench.github.registered().is_empty());
}
