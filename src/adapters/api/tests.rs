use std::fs;

use super::*;
use crate::adapters::hostile::{RawServer, Script, client, client_with_timeout, nobody_there};
use crate::embedded::faults::{Ending, Endpoint, Fault, Faults, Times};
use crate::embedded::task_api::{Mint, MintFailed, Minted, RepeatNote, TaskApiServer};
use crate::task::{CONTEXT_LIMIT, TaskDataError, TaskRepo};

const VERDICT: &[u8] = br#"{"event":"completed","message":"done","details":{"prURL":"https://h/o/r/pull/1"}}"#;
const STARTED: &[u8] = br#"{"event":"started","message":"","details":{}}"#;

fn task() -> TaskId {
    "my-task".parse().unwrap()
}

fn some_data() -> TaskData {
    TaskData {
        description: "make it so".to_owned(),
        context: "über \u{0} \"everything\"\n".to_owned(),
        source_url: Some("https://example.com/issues/1".to_owned()),
        repo: TaskRepo {
            url: "https://github.com/o/r".to_owned(),
            git_ref: Some("main".to_owned()),
        },
    }
}

fn mint() -> Mint {
    Mint::fixed(Secret::new("ghs_canary"), Duration::from_hours(1))
}

struct World {
    faults: Faults,
    server: TaskApiServer,
    api: TaskApi,
}

async fn world() -> World {
    let faults = Faults::new();
    let server = TaskApiServer::start(faults.clone()).await.unwrap();
    server.add_task(&task(), some_data(), mint());
    let api = TaskApi::new(client(), server.api_url().clone(), task(), None);
    World { faults, server, api }
}

fn api_at(base: &str) -> TaskApi {
    TaskApi::new(client(), base.parse().unwrap(), task(), None)
}

#[tokio::test]
async fn the_task_data_come_with_the_bytes_that_parse_again_after_a_restart() {
    let world = world().await;
    let fetched = world.api.data().await.unwrap();
    assert_eq!(fetched.data, some_data());
    assert_eq!(TaskData::parse(&fetched.body), Ok(some_data()));
    assert_eq!(world.server.calls(Endpoint::Data).len(), 1);
}

#[test]
fn what_a_task_need_not_say_may_be_absent_null_or_empty() {
    for body in [
        r#"{"description":"d","repo":{"url":"u"}}"#,
        r#"{"description":"d","context":null,"sourceURL":null,"repo":{"url":"u","ref":null}}"#,
        r#"{"description":"d","context":"","sourceURL":"","repo":{"url":"u","ref":""},"future":[1]}"#,
    ] {
        let data = TaskData::parse(body.as_bytes()).unwrap();
        assert_eq!(
            (data.context.as_str(), data.source_url, data.repo.git_ref),
            ("", None, None),
            "{body}"
        );
    }
}

#[test]
fn what_is_not_task_data_is_told_by_what_is_wrong_with_it() {
    for (body, named) in [
        (r"{}", "description"),
        (r#"{"description":"d"}"#, "repo"),
        (r#"{"description":"d","repo":{}}"#, "url"),
        (r#"{"description":1,"repo":{"url":"u"}}"#, "string"),
        (r#"{"description":"d","context":{},"repo":{"url":"u"}}"#, "string"),
        (r"[]", "struct"),
        (r"null", "struct"),
    ] {
        let error = TaskData::parse(body.as_bytes()).unwrap_err();
        assert!(
            matches!(&error, TaskDataError::Shape { why } if why.contains(named)),
            "{body}: {error}"
        );
    }
    for body in ["", "<html>", "{\"description\":\"d\"", "\u{feff}{}"] {
        let error = TaskData::parse(body.as_bytes()).unwrap_err();
        assert!(matches!(error, TaskDataError::NotJson { .. }), "{body:?}: {error}");
    }
    assert!(TaskData::parse(b"{\"description\":\"\xff\",\"repo\":{\"url\":\"u\"}}").is_err());
}

#[tokio::test]
async fn a_context_may_have_ten_mebibytes_and_not_one_byte_more() {
    let world = world().await;
    let with_context = |bytes| TaskData {
        context: "c".repeat(bytes),
        ..some_data()
    };
    world.server.add_task(&task(), with_context(CONTEXT_LIMIT), mint());
    assert_eq!(world.api.data().await.unwrap().data.context.len(), CONTEXT_LIMIT);
    world.server.add_task(&task(), with_context(CONTEXT_LIMIT + 1), mint());
    let error = world.api.data().await.unwrap_err();
    assert!(
        matches!(&error, ApiError::Malformed { why } if why.contains("10485760 are allowed")),
        "{error}"
    );
    world.server.add_task(&task(), with_context(DATA_LIMIT), mint());
    let error = world.api.data().await.unwrap_err();
    assert!(matches!(error, ApiError::TooLarge { limit: DATA_LIMIT }), "{error}");
}

#[tokio::test]
async fn every_request_says_who_sends_it_and_posts_and_the_token_carry_their_key() {
    let world = world().await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let api = world.api.clone().with_trace(Trace::parse(parent, Some("a=b")));
    api.data().await.unwrap();
    api.token("my-task/token/1").await.unwrap();
    api.status(STARTED, "my-task/start/1").await.unwrap();
    api.status(VERDICT, "my-task/report/1").await.unwrap();
    let calls = world.server.call_log().all();
    for call in &calls {
        assert_eq!(call.header("user-agent"), Some(crate::adapters::http::USER_AGENT));
        assert_eq!(call.header("traceparent"), Some(parent));
        assert_eq!(call.header("tracestate"), Some("a=b"));
        assert_eq!(call.header("authorization"), None);
        assert_eq!(call.ending, Ending::Answered(200));
    }
    let keys: Vec<_> = calls
        .iter()
        .map(|call| (call.endpoint, call.idempotency_key()))
        .collect();
    assert_eq!(
        keys,
        [
            (Endpoint::Data, None),
            (Endpoint::Token, Some("my-task/token/1")),
            (Endpoint::Started, Some("my-task/start/1")),
            (Endpoint::Verdict, Some("my-task/report/1")),
        ]
    );
    assert_eq!(calls[3].body, VERDICT, "the bytes go out as they are");
}

#[tokio::test]
async fn the_bearer_token_is_read_anew_for_each_request() {
    let world = world().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let api = TaskApi::new(client(), world.server.api_url().clone(), task(), Some(file.clone()));
    world.server.require_bearer(Secret::new("second"));

    let error = api.data().await.unwrap_err();
    assert!(
        matches!(&error, ApiError::BearerFile { path, .. } if *path == file),
        "{error}"
    );
    for bad in ["", " \n", "two words", "sécret"] {
        fs::write(&file, bad).unwrap();
        assert!(matches!(api.data().await, Err(ApiError::BearerFile { .. })), "{bad:?}");
    }
    assert_eq!(world.server.call_log().all().len(), 0, "nothing was sent");

    fs::write(&file, "first\n").unwrap();
    assert!(matches!(api.token("k").await, Err(ApiError::Unauthorized { .. })));
    fs::write(&file, "second\n").unwrap();
    api.token("k").await.unwrap();
    api.data().await.unwrap();
    api.status(STARTED, "k").await.unwrap();
    assert!(matches!(
        world.api.status(VERDICT, "k").await,
        Err(ApiError::Unauthorized { .. })
    ));
    assert_eq!(world.server.counts(&task()).verdict, None);
}

#[tokio::test]
async fn a_token_is_given_once() {
    let world = world().await;
    let issued = world.api.token("k").await.unwrap();
    assert_eq!(issued.token.expose(), "ghs_canary");
    let left = issued.expires_at.duration_since(Timestamp::now());
    assert!((3590..=3600).contains(&left.as_secs()), "{left:?}");
    let error = world.api.token("k").await.unwrap_err();
    assert!(
        matches!(
            error,
            ApiError::Conflict {
                kind: ConflictKind::Other,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(world.server.counts(&task()).tokens_minted, 1);
}

#[tokio::test]
async fn a_token_whose_answer_was_cut_off_is_lost_and_then_a_conflict() {
    let world = world().await;
    world.faults.inject(Endpoint::Token, Fault::DropAfter, Times::Next(1));
    let error = world.api.token("k").await.unwrap_err();
    assert!(matches!(error, ApiError::Lost(_)), "{error}");
    let counts = world.server.counts(&task());
    assert_eq!((counts.tokens_minted, counts.tokens_answered), (1, 0));
    assert_eq!(world.server.calls(Endpoint::Token)[0].ending, Ending::CutAfter);
    assert!(matches!(world.api.token("k").await, Err(ApiError::Conflict { .. })));
}

#[tokio::test]
async fn a_token_request_that_never_counted_looks_the_same_and_is_given_the_next_time() {
    let world = world().await;
    world.faults.inject(Endpoint::Token, Fault::Refuse, Times::Next(1));
    let error = world.api.token("k").await.unwrap_err();
    assert!(matches!(error, ApiError::Lost(_)), "{error}");
    assert_eq!(world.server.counts(&task()).tokens_minted, 0);
    world.api.token("k").await.unwrap();
    let counts = world.server.counts(&task());
    assert_eq!((counts.tokens_minted, counts.tokens_answered), (1, 1));
    assert_eq!(
        world.server.calls(Endpoint::Token).len(),
        2,
        "each call was one request"
    );
}

#[tokio::test]
async fn a_mint_that_fails_after_the_mark_is_a_502_and_then_a_conflict() {
    let world = world().await;
    world.server.add_task(&task(), some_data(), Mint::failing());
    let error = world.api.token("k").await.unwrap_err();
    assert!(matches!(error, ApiError::Retryable { status: 502, .. }), "{error}");
    assert!(matches!(world.api.token("k").await, Err(ApiError::Conflict { .. })));
}

#[tokio::test]
async fn a_503_comes_before_the_mark_and_says_when_to_come_back() {
    let world = world().await;
    let busy = Fault::Answer {
        status: 503,
        error: "warming up".to_owned(),
        retry_after: Some(7),
    };
    world.faults.inject(Endpoint::Token, busy, Times::Next(1));
    let error = world.api.token("k").await.unwrap_err();
    let wait = Some(Duration::from_secs(7));
    assert!(
        matches!(&error, ApiError::Retryable { status: 503, retry_after, .. } if *retry_after == wait),
        "{error}"
    );
    assert!(error.to_string().ends_with("(503: warming up)"), "{error}");
    world.api.token("k").await.unwrap();
}

#[tokio::test]
async fn a_concurrent_update_is_told_from_a_token_that_was_issued() {
    let world = world().await;
    let conflict = Fault::Answer {
        status: 409,
        error: "Concurrent update conflict, try again".to_owned(),
        retry_after: None,
    };
    world.faults.inject(Endpoint::Token, conflict, Times::Next(1));
    let error = world.api.token("k").await.unwrap_err();
    let kind = ConflictKind::ConcurrentUpdate;
    assert!(
        matches!(error, ApiError::Conflict { kind: got, .. } if got == kind),
        "{error}"
    );
    let in_details = r#"{"error":"conflict","details":"concurrent update conflict"}"#;
    let server = RawServer::answering("409 Conflict", "", in_details).await;
    let error = api_at(&server.base).token("k").await.unwrap_err();
    assert!(
        matches!(error, ApiError::Conflict { kind: got, .. } if got == kind),
        "{error}"
    );
}

#[tokio::test]
async fn minting_may_be_anything_that_takes_its_time() {
    let world = world().await;
    let (open, opened) = tokio::sync::watch::channel(false);
    let mint = Mint::with(move || {
        let mut opened = opened.clone();
        async move {
            opened
                .wait_for(|open| *open)
                .await
                .map_err(|error| MintFailed(error.to_string()))?;
            Ok(Minted {
                token: Secret::new("slow"),
                expires_at: Timestamp::UNIX_EPOCH,
            })
        }
    });
    world.server.add_task(&task(), some_data(), mint);
    let (first, second) = tokio::join!(world.api.token("k"), async {
        world
            .server
            .call_log()
            .until(|| !world.server.calls(Endpoint::Token).is_empty())
            .await;
        let second = world.api.token("k").await;
        open.send_replace(true);
        second
    });
    // Whichever came first has the mark; the other was told so while the mint was still at work.
    assert!(first.is_ok() ^ second.is_ok(), "{first:?} {second:?}");
    assert_eq!(world.server.counts(&task()).tokens_minted, 1);
}

#[tokio::test]
async fn the_first_terminal_status_counts_and_later_ones_are_told_so() {
    let world = world().await;
    assert_eq!(world.api.status(STARTED, "k").await.unwrap().note, None);
    assert_eq!(world.api.status(VERDICT, "k").await.unwrap().note, None);
    let late: &[u8] = br#"{"event":"failed","message":"no","details":{}}"#;
    assert_eq!(
        world.api.status(late, "k").await.unwrap().note,
        Some(Note::AlreadyNotified)
    );
    world.server.answer_repeats_with(&task(), RepeatNote::CallbackPending);
    assert_eq!(
        world.api.status(VERDICT, "k").await.unwrap().note,
        Some(Note::CallbackPending)
    );
    let counts = world.server.counts(&task());
    assert_eq!(counts.verdict.as_deref(), Some(VERDICT));
    assert_eq!(counts.verdicts_received, [VERDICT, late, VERDICT]);
    assert_eq!(counts.acknowledgements, 3);
    assert_eq!(counts.events, ["started", "completed"]);
    assert!(matches!(world.api.data().await, Err(ApiError::Gone { .. })));
}

#[tokio::test]
async fn a_status_that_was_dropped_says_already_claimed_and_acknowledges_nothing() {
    let world = world().await;
    world.server.drop_verdicts(&task(), Times::Next(2));
    for _ in 0..2 {
        let note = world.api.status(VERDICT, "k").await.unwrap().note;
        assert_eq!(note, Some(Note::TaskAlreadyClaimed));
        let counts = world.server.counts(&task());
        assert_eq!((counts.verdict, counts.acknowledgements), (None, 0));
    }
    assert_eq!(world.api.status(VERDICT, "k").await.unwrap().note, None);
    assert_eq!(world.server.counts(&task()).acknowledgements, 1);
}

#[tokio::test]
async fn a_verdict_whose_answer_was_cut_off_is_recorded_but_not_acknowledged() {
    let world = world().await;
    world.faults.inject(Endpoint::Verdict, Fault::DropAfter, Times::Next(1));
    assert!(matches!(world.api.status(VERDICT, "k").await, Err(ApiError::Lost(_))));
    let counts = world.server.counts(&task());
    assert_eq!((counts.verdict.as_deref(), counts.acknowledgements), (Some(VERDICT), 0));
    assert_eq!(
        world.api.status(VERDICT, "k").await.unwrap().note,
        Some(Note::AlreadyNotified)
    );
    assert_eq!(world.server.counts(&task()).acknowledgements, 1);
}

#[tokio::test]
async fn a_late_answer_is_lost_although_the_work_is_done() {
    let world = world().await;
    let (delay, patience) = (Duration::from_millis(1200), Duration::from_millis(200));
    world
        .faults
        .inject(Endpoint::Verdict, Fault::Delay(delay), Times::Next(1));
    let hasty = TaskApi::new(
        client_with_timeout(patience),
        world.server.api_url().clone(),
        task(),
        None,
    );
    let error = hasty.status(VERDICT, "k").await.unwrap_err();
    assert!(matches!(error, ApiError::Lost(_)), "{error}");
    let recorded = || world.server.counts(&task()).verdict.is_some();
    world.server.call_log().until(recorded).await;
    assert_eq!(world.server.counts(&task()).acknowledgements, 0);
    assert_eq!(world.server.calls(Endpoint::Verdict)[0].ending, Ending::Open);
}

#[tokio::test]
async fn a_task_ended_elsewhere_is_gone_for_every_call() {
    let world = world().await;
    world.server.end_elsewhere(&task());
    assert!(matches!(world.api.data().await, Err(ApiError::Gone { .. })));
    assert!(matches!(world.api.token("k").await, Err(ApiError::Gone { .. })));
    assert!(matches!(
        world.api.status(STARTED, "k").await,
        Err(ApiError::Gone { .. })
    ));
    assert!(matches!(
        world.api.status(VERDICT, "k").await,
        Err(ApiError::Gone { .. })
    ));
    assert_eq!(world.server.counts(&task()).verdict, None);
}

#[tokio::test]
async fn a_task_that_nobody_knows_is_not_found() {
    let world = world().await;
    let stranger = "other".parse().unwrap();
    let api = TaskApi::new(client(), world.server.api_url().clone(), stranger, None);
    assert!(matches!(api.data().await, Err(ApiError::NotFound { .. })));
    assert!(matches!(api.token("k").await, Err(ApiError::NotFound { .. })));
    assert!(matches!(api.status(VERDICT, "k").await, Err(ApiError::NotFound { .. })));
}

#[tokio::test]
async fn a_status_that_is_not_to_the_letter_is_refused_and_not_recorded() {
    let world = world().await;
    for bad in [
        "",
        "{}",
        "[]",
        r#"{"event":"done","message":"","details":{}}"#,
        r#"{"event":"completed","details":{}}"#,
        r#"{"event":"completed","message":null,"details":{}}"#,
        r#"{"event":"completed","message":"","details":[]}"#,
        r#"{"event":"completed","message":""}"#,
        r#"{"event":"completed","message":"","details":{},"more":1}"#,
    ] {
        let error = world.api.status(bad.as_bytes(), "k").await.unwrap_err();
        assert!(matches!(error, ApiError::Refused { status: 400, .. }), "{bad}: {error}");
    }
    let counts = world.server.counts(&task());
    assert_eq!((counts.verdict, counts.events.len()), (None, 0));
}

#[tokio::test]
async fn events_are_kept_as_they_came_and_the_same_request_a_second_time_is_no_news() {
    let world = world().await;
    let event = |sequence: u64| {
        serde_json::json!({
            "sequence": sequence, "timestamp": "2026-11-22T00:29:33.747Z", "type": "tool_result", "summary": "red",
            "tool": "Bash", "input": {"command": "make"}, "output": {"success": false, "summary": "2 failed"},
            "metadata": {"dropped": 3},
        })
    };
    let body = |sequences: &[u64]| {
        let events: Vec<Value> = sequences.iter().map(|sequence| event(*sequence)).collect();
        serde_json::json!({"events": events}).to_string()
    };
    for (sequences, key) in [([1, 2], "k/1"), ([1, 2], "k/1"), ([7, 9], "k/7")] {
        world.api.events(body(&sequences).as_bytes(), key).await.unwrap();
    }
    for sequences in [[7, 8], [9, 10], [11, 11], [12, 11]] {
        let error = world.api.events(body(&sequences).as_bytes(), "k").await.unwrap_err();
        assert!(
            matches!(error, ApiError::Refused { status: 400, .. }),
            "{sequences:?}: {error}"
        );
    }
    assert_eq!(world.server.counts(&task()).activities, [1, 2, 7, 9].map(event));
    world.server.end_elsewhere(&task());
    let error = world.api.events(body(&[13]).as_bytes(), "k/13").await.unwrap_err();
    assert!(matches!(error, ApiError::Gone { .. }), "{error}");
}

#[tokio::test]
async fn events_that_are_not_as_the_contract_has_them_are_refused() {
    let world = world().await;
    let time = "2026-11-22T00:29:33Z";
    for bad in [
        "not JSON".to_owned(),
        "{}".to_owned(),
        r#"{"events":[]}"#.to_owned(),
        r#"{"events":[],"more":1}"#.to_owned(),
        format!(r#"{{"events":[{{"sequence":0,"timestamp":"{time}","type":"thinking","summary":"s"}}]}}"#),
        format!(r#"{{"events":[{{"sequence":-1,"timestamp":"{time}","type":"thinking","summary":"s"}}]}}"#),
        format!(r#"{{"events":[{{"sequence":1,"timestamp":"{time}","type":"thinking","summary":" "}}]}}"#),
        format!(r#"{{"events":[{{"sequence":1,"timestamp":"{time}","type":"thought","summary":"s"}}]}}"#),
        format!(r#"{{"events":[{{"sequence":1,"timestamp":"{time}","type":"thinking"}}]}}"#),
        format!(r#"{{"events":[{{"sequence":1,"timestamp":"{time}","type":"thinking","summary":"s","more":1}}]}}"#),
        format!(r#"{{"events":[{{"sequence":1,"timestamp":"{time}","type":"tool_call","summary":"s","input":"i"}}]}}"#),
        format!(
            r#"{{"events":[{{"sequence":1,"timestamp":"{time}","type":"tool_result","summary":"s","output":{{}}}}]}}"#
        ),
        r#"{"events":[{"sequence":1,"timestamp":"1795307373","type":"thinking","summary":"s"}]}"#.to_owned(),
        r#"{"events":[{"sequence":1,"timestamp":"2026-11-22T00:29:33","type":"thinking","summary":"s"}]}"#.to_owned(),
    ] {
        let error = world.api.events(bad.as_bytes(), "k").await.unwrap_err();
        assert!(matches!(error, ApiError::Refused { status: 400, .. }), "{bad}: {error}");
    }
    assert!(world.server.counts(&task()).activities.is_empty());
}

#[tokio::test]
async fn an_api_that_is_not_there_was_sent_nothing() {
    let error = api_at(&nobody_there().await).data().await.unwrap_err();
    assert!(matches!(error, ApiError::NotSent(_)), "{error}");
}

#[tokio::test]
async fn every_status_has_its_meaning() {
    for (status, name) in [
        ("201 Created", "refused"),
        ("204 No Content", "refused"),
        ("302 Found", "refused"),
        ("400 Bad Request", "refused"),
        ("401 Unauthorized", "unauthorized"),
        ("403 Forbidden", "refused"),
        ("404 Not Found", "not_found"),
        ("408 Request Timeout", "retryable"),
        ("409 Conflict", "conflict"),
        ("410 Gone", "gone"),
        ("418 I'm a teapot", "refused"),
        ("429 Too Many Requests", "retryable"),
        ("500 Internal Server Error", "retryable"),
        ("502 Bad Gateway", "retryable"),
        ("503 Service Unavailable", "retryable"),
        ("504 Gateway Timeout", "retryable"),
    ] {
        let server = RawServer::answering(status, "Location: http://169.254.169.254/\r\n", "").await;
        let error = api_at(&server.base).status(VERDICT, "k").await.unwrap_err();
        let got: &'static str = (&error).into();
        assert_eq!(got, name, "{status}: {error}");
        assert_eq!(server.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_one_is_malformed_and_is_shown_to_nobody() {
    for body in [
        r#"{"token":"","expiresAt":"2030-01-01T00:00:00Z"}"#,
        r#"{"token":"ghs_canary\nhost=evil","expiresAt":"2030-01-01T00:00:00Z"}"#,
        r#"{"token":"ghs_canary two","expiresAt":"2030-01-01T00:00:00Z"}"#,
        r#"{"token":"ghs_canary\u00e9","expiresAt":"2030-01-01T00:00:00Z"}"#,
        r#"{"token":"ghs_canary","expiresAt":"soon"}"#,
        r#"{"token":"ghs_canary"}"#,
        r#"{"expiresAt":"2030-01-01T00:00:00Z"}"#,
        r#"{"token":["ghs_canary"],"expiresAt":"2030-01-01T00:00:00Z"}"#,
        r#"{"token":"x","expiresAt":{"a":"ghs_canary"}}"#,
        r#""ghs_canary""#,
        "ghs_canary",
        "",
        "<html>ghs_canary</html>",
    ] {
        let server = RawServer::answering("200 OK", "", body).await;
        let error = api_at(&server.base).token("k").await.unwrap_err();
        assert!(matches!(error, ApiError::Malformed { .. }), "{body}: {error}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("canary"), "{body}: {shown}");
    }
    let long = format!(
        r#"{{"token":"{}","expiresAt":"2030-01-01T00:00:00Z"}}"#,
        "x".repeat(100_000)
    );
    let server = RawServer::answering("200 OK", "", &long).await;
    let error = api_at(&server.base).token("k").await.unwrap_err();
    assert!(matches!(error, ApiError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_not_the_contracts_is_malformed() {
    for body in [
        "",
        "null",
        "<html><body>sign in</body></html>",
        r#"{"ok":true}"#,
        r#"{"status":"rejected"}"#,
        r#"{"status":"accepted","note":7}"#,
    ] {
        let server = RawServer::answering("200 OK", "Content-Type: text/html\r\n", body).await;
        let error = api_at(&server.base).status(VERDICT, "k").await.unwrap_err();
        assert!(matches!(error, ApiError::Malformed { .. }), "{body}: {error}");
        let error = api_at(&server.base).data().await.unwrap_err();
        assert!(matches!(error, ApiError::Malformed { .. }), "{body}: {error}");
    }
}

#[tokio::test]
async fn what_the_body_says_counts_and_not_its_content_type() {
    let body = r#"{"status":"accepted","note":"some\nnew thing"}"#;
    let server = RawServer::answering("200 OK", "Content-Type: text/plain\r\n", body).await;
    let answer = api_at(&server.base).status(VERDICT, "k").await.unwrap();
    assert_eq!(answer.note, Some(Note::Other(r"some\nnew thing".to_owned())));
}

#[test]
fn a_note_is_known_in_any_wording_that_would_cost_a_verdict() {
    assert_eq!(
        Note::of("Task already claimed by another writer"),
        Note::TaskAlreadyClaimed
    );
    assert_eq!(Note::of("already notified"), Note::AlreadyNotified);
    assert_eq!(Note::of("callback pending"), Note::CallbackPending);
}

#[tokio::test]
async fn an_endless_answer_is_refused_at_the_limit() {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
    let server = RawServer::start(Script::Endless(head, chunk)).await;
    let api = api_at(&server.base);
    assert!(matches!(
        api.data().await,
        Err(ApiError::TooLarge { limit: DATA_LIMIT })
    ));
    assert!(matches!(api.status(VERDICT, "k").await, Err(ApiError::TooLarge { .. })));
}

#[tokio::test]
async fn an_error_shows_neither_our_bearer_token_nor_more_than_two_hundred_characters() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    fs::write(&file, "bearer_canary").unwrap();
    let long = format!(
        r#"{{"error":"no: Bearer bearer_canary","details":"{}"}}"#,
        "\\u0007".repeat(5000)
    );
    for status in [
        "401 Unauthorized",
        "403 Forbidden",
        "409 Conflict",
        "503 Service Unavailable",
    ] {
        let server = RawServer::answering(status, "", &long).await;
        let api = TaskApi::new(client(), server.base.parse().unwrap(), task(), Some(file.clone()));
        let error = api.data().await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("canary"), "{shown}");
        assert!(error.to_string().chars().count() < 320, "{error}");
        assert!(error.to_string().contains("no: Bearer [redacted]"), "{error}");
        assert!(server.requests()[0].contains("bearer_canary"), "it was sent");
    }
}
