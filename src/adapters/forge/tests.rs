use jiff::Timestamp;

use super::*;
use crate::adapters::hostile::{RawServer, client, client_with_timeout, nobody_there};
use crate::embedded::faults::{Ending, Endpoint, Fault, Faults, Times};
use crate::embedded::forge::{Branches, ForgeRepo, ForgeServer, StoredEnd, StoredPull};

fn task() -> TaskId {
    "my-task".parse().unwrap()
}

fn branch() -> BranchName {
    "runner/my-task".parse().unwrap()
}

fn token() -> Secret {
    Secret::new("ghs_canary")
}

fn new_pull() -> NewPullRequest {
    NewPullRequest {
        title: "Make it so".to_owned(),
        body: format!("Done.\n\n{}\n", marker(&task())),
        head: branch(),
        base: "main".parse().unwrap(),
        draft: false,
    }
}

/// A pull request from this task's branch, with its marker.
fn ours(number: u64, state: &str) -> StoredPull {
    StoredPull {
        number,
        html_url: format!("https://forge.example/o/r/pull/{number}"),
        state: state.to_owned(),
        draft: false,
        title: String::new(),
        body: Some(format!("before {} after", marker(&task()))),
        head: StoredEnd::new("o", "r", branch().as_str(), "a"),
        base: StoredEnd::new("o", "r", "main", "b"),
    }
}

struct World {
    faults: Faults,
    server: ForgeServer,
    forge: Forge,
}

fn address(base: &str) -> ForgeAddress {
    let repo = "https://github.com/o/r.git".parse().unwrap();
    ForgeAddress::derive(&repo, Some(&base.parse().unwrap())).unwrap()
}

async fn world() -> World {
    let faults = Faults::new();
    let branches = Branches::with(|branch| match branch {
        "main" | "runner/empty" => Some("1".repeat(40)),
        "runner/my-task" | "release" => Some("2".repeat(40)),
        _ => None,
    });
    let repo = ForgeRepo {
        owner: "o".to_owned(),
        name: "r".to_owned(),
        token: token(),
        branches,
    };
    let server = ForgeServer::start(repo, faults.clone()).await.unwrap();
    let forge = Forge::new(client(), address(&server.listening().base()));
    World { faults, server, forge }
}

impl World {
    async fn find(&self) -> Option<PullRequest> {
        self.forge.find(&token(), &branch(), &task()).await.unwrap()
    }

    async fn refusal(&self, new: &NewPullRequest) -> Unprocessable {
        let error = self.forge.create(&token(), new).await.unwrap_err();
        let ForgeError::Unprocessable { reason, .. } = error else {
            panic!("{error}");
        };
        reason
    }
}

#[test]
fn the_interface_is_where_the_host_has_it_or_where_it_is_said_to_be() {
    let derive = |repo: &str, base: Option<&str>| {
        let base = base.map(|base| Url::parse(base).unwrap());
        ForgeAddress::derive(&repo.parse().unwrap(), base.as_ref()).map(|it| it.pulls().to_string())
    };
    for (repo, base, pulls) in [
        ("https://github.com/o/r", None, "https://api.github.com/repos/o/r/pulls"),
        (
            "https://github.com/o/r.git/",
            None,
            "https://api.github.com/repos/o/r/pulls",
        ),
        (
            "https://ghe.example/o/r.x.git",
            None,
            "https://ghe.example/api/v3/repos/o/r.x/pulls",
        ),
        (
            "http://127.0.0.1:7/o/r.git",
            None,
            "http://127.0.0.1:7/api/v3/repos/o/r/pulls",
        ),
        (
            "https://github.com/o/r",
            Some("http://127.0.0.1:9/"),
            "http://127.0.0.1:9/repos/o/r/pulls",
        ),
        (
            "https://h/o/r",
            Some("https://x/a/v3"),
            "https://x/a/v3/repos/o/r/pulls",
        ),
    ] {
        assert_eq!(derive(repo, base).as_deref(), Ok(pulls), "{repo}");
    }
    for bad in [
        "https://h",
        "https://h/o",
        "https://h/o/r/x",
        "https://h/o//r",
        "https://h/o/.git",
        "https://h/o%2fp/r",
        "https://h/o/r%20s",
        "https://h/o/...git",
    ] {
        assert!(matches!(derive(bad, None), Err(ForgeAddressError::Path(_))), "{bad}");
    }
    assert!(matches!(derive("file:///o/r", None), Err(ForgeAddressError::Scheme(_))));
    for bad in ["https://u:hunter2@x", "https://x?q", "https://x#f", "file:///x"] {
        let error = derive("https://h/o/r", Some(bad)).unwrap_err();
        assert!(matches!(error, ForgeAddressError::Base(_)), "{bad}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_pull_request_that_was_opened_is_found_again() {
    let world = world().await;
    assert_eq!(world.find().await, None);
    let created = world.forge.create(&token(), &new_pull()).await.unwrap();
    assert_eq!((created.number, created.state), (1, PullState::Open));
    assert_eq!(created.url.path(), "/o/r/pull/1");
    assert_eq!(world.find().await, Some(created));
    let stored = &world.server.pulls()[0];
    assert_eq!((stored.title.as_str(), stored.draft), ("Make it so", false));
    assert_eq!(
        (stored.head.name.as_str(), stored.base.name.as_str()),
        ("runner/my-task", "main")
    );

    let create = &world.server.calls(Endpoint::PullCreate)[0];
    assert_eq!(create.header("authorization"), Some("Bearer ghs_canary"));
    assert_eq!(create.header("x-github-api-version"), Some("2022-11-28"));
    assert_eq!(create.header("accept"), Some("application/vnd.github+json"));
    assert_eq!(create.header("content-type"), Some("application/json"));
    assert_eq!(create.header("user-agent"), Some(crate::adapters::http::USER_AGENT));
}

#[tokio::test]
async fn the_interface_is_also_found_under_the_path_of_other_hosts() {
    let world = world().await;
    let repo = format!("{}/o/r.git", world.server.listening().base()).parse().unwrap();
    let forge = Forge::new(client(), ForgeAddress::derive(&repo, None).unwrap());
    let mut draft = new_pull();
    draft.draft = true;
    forge.create(&token(), &draft).await.unwrap();
    assert!(world.server.pulls()[0].draft);
}

#[tokio::test]
async fn a_dropped_answer_is_found_by_looking_again() {
    let world = world().await;
    world
        .faults
        .inject(Endpoint::PullCreate, Fault::DropAfter, Times::Next(1));
    let error = world.forge.create(&token(), &new_pull()).await.unwrap_err();
    assert!(matches!(error, ForgeError::Lost(_)), "{error}");
    assert_eq!(world.find().await.map(|pull| pull.number), Some(1));
    assert_eq!(world.refusal(&new_pull()).await, Unprocessable::AlreadyExists);
    assert_eq!(world.server.pulls().len(), 1);
    assert_eq!(
        world.server.calls(Endpoint::PullCreate).len(),
        2,
        "each call was one request"
    );
}

#[tokio::test]
async fn a_request_that_was_cut_before_it_counted_opens_nothing() {
    let world = world().await;
    world.faults.inject(Endpoint::PullCreate, Fault::Refuse, Times::Next(1));
    let error = world.forge.create(&token(), &new_pull()).await.unwrap_err();
    assert!(matches!(error, ForgeError::Lost(_)), "{error}");
    assert_eq!(world.find().await, None);
    assert_eq!(world.server.calls(Endpoint::PullCreate)[0].ending, Ending::CutBefore);
}

#[tokio::test]
async fn a_forge_that_answers_too_late_has_opened_it_all_the_same() {
    let world = world().await;
    let (delay, patience) = (Duration::from_millis(1200), Duration::from_millis(200));
    world
        .faults
        .inject(Endpoint::PullCreate, Fault::Delay(delay), Times::Next(1));
    let hasty = Forge::new(client_with_timeout(patience), world.forge.address().clone());
    let error = hasty.create(&token(), &new_pull()).await.unwrap_err();
    assert!(matches!(error, ForgeError::Lost(_)), "{error}");
    world.server.call_log().until(|| !world.server.pulls().is_empty()).await;
    assert_eq!(world.find().await.map(|pull| pull.number), Some(1));
}

#[tokio::test]
async fn what_cannot_be_processed_is_told_by_its_reason() {
    let world = world().await;
    let with_head = |head: &str| NewPullRequest {
        head: head.parse().unwrap(),
        ..new_pull()
    };
    assert_eq!(
        world.refusal(&with_head("runner/gone")).await,
        Unprocessable::HeadInvalid
    );
    assert_eq!(
        world.refusal(&with_head("runner/empty")).await,
        Unprocessable::NoCommits
    );
    let base_gone = NewPullRequest {
        base: "gone".parse().unwrap(),
        ..new_pull()
    };
    assert_eq!(world.refusal(&base_gone).await, Unprocessable::BaseInvalid);
    assert_eq!(world.server.pulls().len(), 0);

    for (body, reason) in [
        (
            r#"{"message":"Draft pull requests are not supported in this repository."}"#,
            Unprocessable::DraftUnsupported,
        ),
        (
            r#"{"message":"Validation Failed","errors":["A pull request already exists for o:b."]}"#,
            Unprocessable::AlreadyExists,
        ),
        (
            r#"{"message":"Validation Failed","errors":[{"field":"title"}]}"#,
            Unprocessable::Other,
        ),
        ("<html>", Unprocessable::Other),
    ] {
        let server = RawServer::answering("422 Unprocessable Entity", "", body).await;
        let forge = Forge::new(client(), address(&server.base));
        let error = forge.create(&token(), &new_pull()).await.unwrap_err();
        assert!(
            matches!(error, ForgeError::Unprocessable { reason: got, .. } if got == reason),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_second_pull_request_of_one_branch_needs_the_first_one_closed() {
    let world = world().await;
    world.forge.create(&token(), &new_pull()).await.unwrap();
    assert_eq!(world.refusal(&new_pull()).await, Unprocessable::AlreadyExists);
    world.server.close(1);
    let closed = world.find().await.unwrap();
    assert_eq!((closed.number, closed.state), (1, PullState::Closed));
    let second = world.forge.create(&token(), &new_pull()).await.unwrap();
    assert_eq!(world.find().await, Some(second));
}

#[tokio::test]
async fn only_a_pull_request_with_our_marker_from_our_branch_of_our_repository_is_adopted() {
    let world = world().await;
    let mut without_marker = ours(1, "open");
    without_marker.body = Some("<!-- runner:task=my-task-2 -->".to_owned());
    let mut without_body = ours(2, "open");
    without_body.body = None;
    world.server.plant(without_marker);
    world.server.plant(without_body);
    assert_eq!(world.find().await, None);
    world.server.plant(ours(3, "closed"));
    assert_eq!(world.find().await.unwrap().number, 3);
    world.server.plant(ours(4, "closed"));
    assert_eq!(world.find().await.unwrap().number, 4);
    world.server.plant(ours(5, "open"));
    world.server.plant(ours(6, "closed"));
    assert_eq!(world.find().await.unwrap().number, 5);
}

#[tokio::test]
async fn a_forge_that_answers_somebody_elses_pull_request_is_not_believed() {
    let mut other_branch = ours(1, "open");
    other_branch.head = StoredEnd::new("o", "r", "runner/other", "a");
    let mut fork = ours(2, "open");
    fork.head = StoredEnd::new("mallory", "r", branch().as_str(), "a");
    let mut other_repo = ours(3, "open");
    other_repo.head = StoredEnd::new("o", "r2", branch().as_str(), "a");
    let mut deleted_fork = ours(4, "open");
    deleted_fork.head = StoredEnd::new("mallory", "r", branch().as_str(), "a");
    deleted_fork.head.repo = None;
    for pull in [other_branch, fork, other_repo, deleted_fork] {
        let list = serde_json::to_string(&[&pull]).unwrap();
        let server = RawServer::answering("200 OK", "", &list).await;
        let forge = Forge::new(client(), address(&server.base));
        assert_eq!(forge.find(&token(), &branch(), &task()).await.unwrap(), None, "{list}");

        let one = serde_json::to_string(&pull).unwrap();
        let server = RawServer::answering("201 Created", "", &one).await;
        let forge = Forge::new(client(), address(&server.base));
        let error = forge.create(&token(), &new_pull()).await.unwrap_err();
        assert!(matches!(error, ForgeError::Malformed { .. }), "{error}");
    }
    // GitHub's names have no case, and a repository that is gone has no name.
    let mut spelt = ours(5, "open");
    spelt.head = StoredEnd::new("O", "R", branch().as_str(), "a");
    let mut nameless = ours(6, "open");
    nameless.head.repo = None;
    for pull in [spelt, nameless] {
        let list = serde_json::to_string(&[&pull]).unwrap();
        let server = RawServer::answering("200 OK", "", &list).await;
        let forge = Forge::new(client(), address(&server.base));
        let found = forge.find(&token(), &branch(), &task()).await.unwrap();
        assert_eq!(found.map(|found| found.number), Some(pull.number), "{list}");
    }
}

#[tokio::test]
async fn a_branch_with_signs_of_a_query_in_it_stays_one_value() {
    let server = RawServer::answering("200 OK", "", "[]").await;
    let forge = Forge::new(client(), address(&server.base));
    let odd = "runner/a&state=closed#+b".parse().unwrap();
    forge.find(&token(), &odd, &task()).await.unwrap();
    let line = server.requests()[0].lines().next().unwrap().to_owned();
    assert_eq!(
        line,
        "GET /repos/o/r/pulls?state=all&head=o%3Arunner%2Fa%26state%3Dclosed%23%2Bb&per_page=100 HTTP/1.1"
    );
}

#[tokio::test]
async fn a_token_that_is_wrong_is_told_from_one_that_may_not() {
    let world = world().await;
    let wrong = Secret::new("ghs_wrong");
    let error = world.forge.create(&wrong, &new_pull()).await.unwrap_err();
    assert!(matches!(error, ForgeError::Unauthorized { .. }), "{error}");
    let error = world.forge.find(&wrong, &branch(), &task()).await.unwrap_err();
    assert!(matches!(error, ForgeError::Unauthorized { .. }), "{error}");
    assert_eq!(world.server.pulls().len(), 0);

    let other = "https://github.com/o/other".parse().unwrap();
    let base = world.server.listening().url().unwrap();
    let forge = Forge::new(client(), ForgeAddress::derive(&other, Some(&base)).unwrap());
    let error = forge.find(&token(), &branch(), &task()).await.unwrap_err();
    assert!(matches!(error, ForgeError::NotFound { .. }), "{error}");

    let error = world
        .forge
        .find(&Secret::new("a\nb"), &branch(), &task())
        .await
        .unwrap_err();
    assert!(matches!(error, ForgeError::NotSent(_)), "{error}");
}

#[tokio::test]
async fn a_rate_limit_is_a_wait_and_a_prohibition_is_not() {
    let soon = Timestamp::now().as_second() + 60;
    let reset = format!("X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: {soon}\r\n");
    for (status, headers, body, wait) in [
        ("403 Forbidden", "Retry-After: 30\r\n", "{}", Some(30..=30)),
        ("403 Forbidden", reset.as_str(), "{}", Some(50..=60)),
        (
            "403 Forbidden",
            "",
            r#"{"message":"You have exceeded a secondary rate limit."}"#,
            None,
        ),
        ("429 Too Many Requests", "Retry-After: 3600\r\n", "{}", Some(300..=300)),
        ("429 Too Many Requests", reset.as_str(), "{}", Some(50..=60)),
        ("500 Internal Server Error", "", "{}", None),
    ] {
        let server = RawServer::answering(status, headers, body).await;
        let forge = Forge::new(client(), address(&server.base));
        let error = forge.create(&token(), &new_pull()).await.unwrap_err();
        let ForgeError::Retryable { retry_after, .. } = error else {
            panic!("{status} {headers}: {error}");
        };
        let fits = match (&wait, retry_after) {
            (Some(range), Some(got)) => range.contains(&got.as_secs()),
            (None, None) => true,
            _ => false,
        };
        assert!(fits, "{status} {headers}: {retry_after:?}");
    }
    let headers = "X-RateLimit-Remaining: 4999\r\n";
    let body = r#"{"message":"Resource not accessible by integration"}"#;
    let server = RawServer::answering("403 Forbidden", headers, body).await;
    let forge = Forge::new(client(), address(&server.base));
    let error = forge.create(&token(), &new_pull()).await.unwrap_err();
    assert!(matches!(error, ForgeError::Forbidden { .. }), "{error}");
}

#[tokio::test]
async fn a_forge_that_is_not_there_was_sent_nothing() {
    let forge = Forge::new(client(), address(&nobody_there().await));
    let error = forge.create(&token(), &new_pull()).await.unwrap_err();
    assert!(matches!(error, ForgeError::NotSent(_)), "{error}");
}

#[tokio::test]
async fn a_redirect_takes_the_token_nowhere() {
    let trap = RawServer::answering("200 OK", "", "[]").await;
    let headers = format!("Location: {}\r\n", trap.base);
    let server = RawServer::answering("301 Moved Permanently", &headers, r#"{"message":"Moved Permanently"}"#).await;
    let forge = Forge::new(client(), address(&server.base));
    let error = forge.find(&token(), &branch(), &task()).await.unwrap_err();
    assert!(matches!(error, ForgeError::Refused { status: 301, .. }), "{error}");
    assert_eq!(trap.requests().len(), 0);
}

#[tokio::test]
async fn a_success_that_is_no_pull_request_is_malformed() {
    let good = serde_json::to_value(ours(1, "open")).unwrap();
    let with = |field: &str, value: serde_json::Value| {
        let mut pull = good.clone();
        pull[field] = value;
        pull.to_string()
    };
    for body in [
        String::new(),
        "<html>".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        with("number", 0.into()),
        with("number", (-1).into()),
        with("html_url", "javascript:alert(1)".into()),
        with("html_url", "https://u:p@h/".into()),
        with("html_url", "/o/r/pull/1".into()),
        with("head", serde_json::Value::Null),
    ] {
        let server = RawServer::answering("201 Created", "", &body).await;
        let forge = Forge::new(client(), address(&server.base));
        let error = forge.create(&token(), &new_pull()).await.unwrap_err();
        assert!(matches!(error, ForgeError::Malformed { .. }), "{body}: {error}");
    }
}

#[tokio::test]
async fn an_error_does_not_show_the_token() {
    let body = r#"{"message":"bad token ghs_canary","errors":[{"message":"ghs_canary"}]}"#;
    for status in [
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "422 Unprocessable Entity",
        "500 Oops",
    ] {
        let server = RawServer::answering(status, "", body).await;
        let forge = Forge::new(client(), address(&server.base));
        let error = forge.create(&token(), &new_pull()).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        assert!(server.requests()[0].contains("ghs_canary"), "it was sent");
    }
}
