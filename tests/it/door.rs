//! The listener of the real binary: every row of the contract's first table, and what it shows meanwhile.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Bench, NEVER, Outside, Serving, WAITING_AGENT, answer, client};

/// The address of a runner that listens, as `http://HOST:PORT`.
async fn door(serving: &Serving) -> String {
    let address = serving.address().await;
    address.unwrap_or_else(|| panic!("it does not listen: {}", serving.log()))
}

/// `POST /task` as an operator sends it.
fn post(door: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
    client()
        .post(format!("{door}/task"))
        .header("content-type", "application/json")
        .body(body)
}

fn get(door: &str, route: &str) -> reqwest::RequestBuilder {
    client().get(format!("{door}{route}"))
}

/// An error body is `error` and `details`, both saying something, and nothing else.
fn says(body: &Value, what: &str, case: &str) {
    let fields: Vec<&String> = body
        .as_object()
        .unwrap_or_else(|| panic!("{case}: {body}"))
        .keys()
        .collect();
    assert_eq!(fields, ["details", "error"], "{case}");
    for field in ["error", "details"] {
        assert!(
            body[field].as_str().is_some_and(|text| !text.is_empty()),
            "{case}: {body}"
        );
    }
    let text = format!(
        "{} {}",
        body["error"].as_str().unwrap(),
        body["details"].as_str().unwrap()
    );
    assert!(text.contains(what), "{case}: {what:?} is not in {text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_was_answered_200_is_in_the_journal_whatever_comes_next() {
    let outside = Outside::start().await;
    for _ in 0..5 {
        let bench = Bench::new(&outside);
        let mut serving = bench.start();
        assert_eq!(serving.assign(&outside.assignment()).await, Some(200));
        serving.signal(Signal::SIGKILL);
        assert_eq!(serving.wait().await.signal(), Some(9));
        let rows = bench.dump();
        let assigned = rows.iter().find(|row| row["to"] == "Assigned").expect("the assignment");
        assert_eq!(assigned["body"]["taskID"], outside.task.as_str());
        assert_eq!(assigned["body"]["apiURL"], outside.api.api_url().as_str());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_task_is_taken_once_and_again_and_no_other_while_everything_else_answers() {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside).with("RUNNER_AGENT_COMMAND", WAITING_AGENT);
    let mut first = bench.start();
    let address = door(&first).await;
    assert_eq!(
        answer(get(&address, "/healthz")).await,
        (200, json!("ok")),
        "from the first moment"
    );
    let (_, idle) = answer(get(&address, "/status")).await;
    assert_eq!(
        (&idle["taskID"], &idle["state"], &idle["since"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!((&idle["boot"], &idle["seq"]), (&json!(1), &json!(1)));
    let beats = beat(&address);
    assigned_once_and_no_other(&address, &outside).await;
    bench.agent_is_there(&first).await;
    assert_eq!(answer(get(&address, "/healthz")).await.0, 200, "while the agent runs");
    assigned_once_and_no_other(&address, &outside).await;
    shows_what_is_on_disk(&address, &bench, 1).await;
    measures(&address, 1).await;
    first.kill().await;
    assert!(
        beats.load(Ordering::SeqCst) > 3 && beats.load(Ordering::SeqCst) < BROKEN,
        "/healthz failed"
    );

    let mut second = bench.start();
    let address = door(&second).await;
    assert_eq!(answer(get(&address, "/healthz")).await.0, 200, "after a restart");
    let beats = beat(&address);
    assigned_once_and_no_other(&address, &outside).await;
    until_agent_began(&second).await;
    shows_what_is_on_disk(&address, &bench, 2).await;
    measures(&address, 2).await;
    bench.let_the_agent_go();
    assert_eq!(second.wait().await.code(), Some(0), "{}", second.log());
    assert!(beats.load(Ordering::SeqCst) < BROKEN, "/healthz failed");
    assert_eq!(outside.verdict()["event"], "completed");

    let mut third = bench.start();
    assert_eq!(third.wait().await.code(), Some(0), "nothing is left to do");
}

async fn until_agent_began(serving: &Serving) {
    assert!(
        serving.line_with("\"message\":\"agent\"").await.is_some(),
        "{}",
        serving.log()
    );
}

/// So many beats say that one of them was not a 200.
const BROKEN: u64 = 1 << 32;

/// Asks for `/healthz` without a pause for as long as the runner lives.
fn beat(door: &str) -> Arc<AtomicU64> {
    let beats = Arc::new(AtomicU64::new(0));
    let (seen, door) = (Arc::clone(&beats), door.to_owned());
    tokio::spawn(async move {
        let client = client();
        // A request that fails is the end of the process.
        while let Ok(response) = client.get(format!("{door}/healthz")).send().await {
            let add = if response.status() == 200 { 1 } else { BROKEN };
            seen.fetch_add(add, Ordering::SeqCst);
        }
    });
    beats
}

async fn assigned_once_and_no_other(door: &str, outside: &Outside) {
    let (task, url) = (outside.task.as_str(), outside.api.api_url().as_str());
    for same in [url.to_owned(), format!("{url}/"), format!("{url}//")] {
        let body = json!({"taskID": task, "apiURL": same, "unknown": "is let pass"});
        let answered = answer(post(door, body.to_string())).await;
        assert_eq!(answered, (200, json!({"status": "accepted"})), "{same}");
    }
    let other_task = json!({"taskID": "t-2", "apiURL": url});
    let other_url = json!({"taskID": task, "apiURL": format!("{url}/elsewhere")});
    for (case, other) in [("another task", other_task), ("another apiURL", other_url)] {
        let (status, body) = answer(post(door, other.to_string())).await;
        assert_eq!(status, 409, "{case}");
        says(&body, task, case);
    }
}

/// `/status` has the contract's fields, of a row that is in the journal's file by then.
async fn shows_what_is_on_disk(door: &str, bench: &Bench, boot: u32) {
    let (status, shown) = answer(get(door, "/status")).await;
    assert_eq!(status, 200);
    let fields: Vec<&String> = shown.as_object().unwrap().keys().collect();
    assert_eq!(
        fields,
        [
            "boot",
            "journalHead",
            "seq",
            "since",
            "state",
            "taskID",
            "verdict",
            "version"
        ]
    );
    let rows = bench.dump();
    let row = rows
        .iter()
        .find(|row| row["seq"] == shown["seq"])
        .expect("the row that is shown");
    assert_eq!(shown["journalHead"], row["hash"]);
    assert_eq!(
        (&shown["boot"], &shown["state"], &shown["taskID"]),
        (&json!(boot), &json!("Cloned"), &json!("t-1"))
    );
    assert_eq!(shown["verdict"], Value::Null);
    let entered = rows.iter().find(|row| row["to"] == "Cloned").unwrap();
    assert_eq!(shown["since"], entered["at"]);
    assert_eq!(shown["version"], env!("CARGO_PKG_VERSION"));
}

/// `/metrics` is what Prometheus reads: comments, and `name{labels} number` lines, each of a name that was declared.
async fn measures(door: &str, boot: u32) {
    let response = get(door, "/metrics").send().await.unwrap();
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(
        content_type.starts_with("application/openmetrics-text; version=1.0.0"),
        "{content_type}"
    );
    let text = response.text().await.unwrap();
    let mut declared: Vec<&str> = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.last(), Some(&"# EOF"));
    for line in &lines {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            match words.next() {
                Some("TYPE") => declared.push(words.next().unwrap()),
                Some("HELP" | "UNIT" | "EOF") => {}
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = series.split('{').next().unwrap();
        assert!(declared.iter().any(|d| name.starts_with(d)), "{line} is not declared");
        assert!(series == name || series.ends_with("\"}"), "{line}");
    }
    for line in [
        "runner_state{state=\"Cloned\"} 1".to_owned(),
        "runner_state{state=\"Assigned\"} 0".to_owned(),
        format!("runner_boots {boot}"),
    ] {
        assert!(lines.contains(&line.as_str()), "{line} is not in\n{text}");
    }
    if boot == 1 {
        let attempts = "runner_effect_attempts_total{effect=\"token\",result=\"done\"} 1";
        assert!(lines.contains(&attempts), "{text}");
        let durations = "runner_effect_duration_seconds_count{effect=\"clone\",result=\"done\"} 1";
        assert!(lines.contains(&durations), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_gets_its_code_and_is_told_what_is_wrong_and_moves_nothing() {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside);
    let serving = bench.start();
    let address = door(&serving).await;
    let good = outside.api.api_url().as_str();
    let task = |id: &str| json!({"taskID": id, "apiURL": good}).to_string();
    let api = |url: &str| json!({"taskID": "t-1", "apiURL": url}).to_string();
    let long = "x".repeat(201);
    let cases = [
        (400, String::new(), "EOF"),
        (400, "taskID=t-1".to_owned(), "expected"),
        (400, "{\"taskID\":".to_owned(), "EOF"),
        (400, "[\"t-1\"]".to_owned(), "taskID"),
        (400, "{}".to_owned(), "missing field `taskID`"),
        (400, json!({"taskID": "t-1"}).to_string(), "missing field `apiURL`"),
        (400, json!({"apiURL": good}).to_string(), "missing field `taskID`"),
        (400, json!({"taskID": 7, "apiURL": good}).to_string(), "integer `7`"),
        (400, json!({"taskID": null, "apiURL": good}).to_string(), "null"),
        (400, json!({"taskID": "t-1", "apiURL": null}).to_string(), "null"),
        (400, task(""), "taskID"),
        (400, task("../../etc"), "taskID"),
        (400, task("a/b"), "taskID"),
        (400, task("-x"), "taskID"),
        (400, task("x."), "taskID"),
        (400, task("a..b"), "taskID"),
        (400, task("x.lock"), "taskID"),
        (400, task("a b"), "taskID"),
        (400, task("a\nb"), "taskID"),
        (400, task("ä"), "taskID"),
        (400, task(&long), "taskID"),
        (400, api(""), "apiURL"),
        (400, api("api"), "absolute"),
        (400, api("/api"), "absolute"),
        (400, api("api:8081"), "scheme"),
        (400, api("ftp://api"), "scheme"),
        (400, api("file:///etc/passwd"), "scheme"),
        (400, api("http://"), "apiURL"),
        (400, api("http://somebody@api"), "user info"),
        (400, api("http://somebody:hunter2@api"), "user info"),
        (400, api("http://api?x=1"), "query"),
        (400, api("http://api?"), "query"),
        (400, api("http://api#x"), "fragment"),
        (403, api("http://169.254.169.254"), "link-local"),
        (403, api("http://169.254.169.254/latest/"), "link-local"),
        (403, api("http://2852039166"), "link-local"),
        (403, api("http://0xa9fea9fe"), "link-local"),
        (403, api("http://[fe80::1]"), "link-local"),
        (403, api("http://[febf::1]:8081"), "link-local"),
        (403, api("http://[::ffff:169.254.169.254]"), "link-local"),
    ];
    for (code, sent, what) in cases {
        let (status, body) = answer(post(&address, sent.clone())).await;
        assert_eq!(status, code, "{sent}: {body}");
        says(&body, what, &sent);
        assert!(!body.to_string().contains("hunter2"), "{body}");
    }
    for media_type in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("application/jsonp"),
    ] {
        let mut request = client().post(format!("{address}/task")).body(outside.assignment());
        if let Some(media_type) = media_type {
            request = request.header("content-type", media_type);
        }
        let (status, body) = answer(request).await;
        assert_eq!(status, 415, "{media_type:?}");
        says(&body, "application/json", "415");
    }
    // One that a reader before us may not have seen is no media type.
    let twice = post(&address, outside.assignment()).header("content-type", "text/plain");
    assert_eq!(answer(twice).await.0, 415, "two media types");
    for (request, code) in [
        (client().get(format!("{address}/")), 404),
        (client().get(format!("{address}/task/t-1")), 404),
        (client().delete(format!("{address}/nothing")), 404),
        (client().get(format!("{address}/task")), 405),
        (client().put(format!("{address}/task")), 405),
        (client().post(format!("{address}/healthz")), 405),
        (client().delete(format!("{address}/status")), 405),
    ] {
        let (status, body) = answer(request).await;
        assert_eq!(status, code, "{body}");
        says(&body, "POST /task", "a route");
    }
    let (_, shown) = answer(get(&address, "/status")).await;
    assert_eq!(
        (&shown["taskID"], &shown["seq"]),
        (&Value::Null, &json!(1)),
        "nothing was moved"
    );
    let with_charset = client()
        .post(format!("{address}/task"))
        .header("content-type", "Application/JSON; charset=utf-8")
        .body(outside.assignment());
    assert_eq!(answer(with_charset).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_unread_where_it_is_announced_and_cut_off_where_it_is_not() {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside);
    let serving = bench.start();
    let address = door(&serving).await;
    let host = address.strip_prefix("http://").unwrap();

    // Not one byte of the body is ever sent: an answer that waited for it would not come.
    let announced = format!("Content-Length: {}\r\n\r\n", 64 * 1024 + 1);
    // Nor does this one ever end.
    let chunk = format!("400\r\n{}\r\n", " ".repeat(1024));
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(65));
    for (case, rest) in [("announced", announced), ("chunked", chunked)] {
        let mut line = TcpStream::connect(host).await.unwrap();
        let head = format!("POST /task HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{rest}");
        line.write_all(head.as_bytes()).await.unwrap();
        let mut answered = String::new();
        let read = tokio::time::timeout(NEVER, line.read_to_string(&mut answered));
        read.await.expect("an answer, and the end of the connection").unwrap();
        assert!(answered.starts_with("HTTP/1.1 413 "), "{case}: {answered}");
        let body = answered.split("\r\n\r\n").nth(1).unwrap();
        says(&serde_json::from_str(body).unwrap(), "65536", case);
    }

    // Who sends all of it is answered too, and not cut off while it does.
    for _ in 0..5 {
        let (status, _) = answer(post(&address, " ".repeat(1 << 20))).await;
        assert_eq!(status, 413);
    }
    let mut padded = outside.assignment();
    padded.push_str(&" ".repeat(64 * 1024 - padded.len()));
    assert_eq!(answer(post(&address, padded)).await.0, 200, "64 KiB are taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_token_is_asked_for_and_no_other_credential_opens() {
    let outside = Outside::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret-token\n").unwrap();
    for (name, value) in [
        ("RUNNER_TASK_TOKEN", "s3cret-token"),
        ("RUNNER_TASK_TOKEN_FILE", file.path().to_str().unwrap()),
    ] {
        let bench = Bench::new(&outside).with(name, value);
        let serving = bench.start();
        let address = door(&serving).await;
        for wrong in [
            None,
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer s3cret-toke"),
            Some("Bearer s3cret-token-and-more"),
            Some("Bearer S3CRET-TOKEN"),
            Some("Basic s3cret-token"),
            Some("s3cret-token"),
        ] {
            // The body is bad too: who is not let in is not told about that.
            let mut request = post(&address, "{");
            if let Some(wrong) = wrong {
                request = request.header("authorization", wrong);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 401, "{name} {wrong:?}");
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            says(&response.json().await.unwrap(), "bearer token", "401");
        }
        for twice in [
            ["Bearer s3cret-token", "Bearer wrong"],
            ["Bearer wrong", "Bearer s3cret-token"],
            ["Bearer s3cret-token"; 2],
        ] {
            let mut request = post(&address, outside.assignment());
            for value in twice {
                request = request.header("authorization", value);
            }
            assert_eq!(answer(request).await.0, 401, "{twice:?}");
        }
        for route in ["/healthz", "/status", "/metrics"] {
            assert_eq!(answer(get(&address, route)).await.0, 200, "{route} is open");
        }
        let right = post(&address, outside.assignment()).header("authorization", "bearer s3cret-token");
        assert_eq!(answer(right).await.0, 200, "{name}");
        assert!(!serving.log().contains("s3cret"), "{}", serving.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_hosts_of_the_allow_list_may_be_named() {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside).with("RUNNER_API_ALLOW", "api.example, 127.0.0.1");
    let serving = bench.start();
    let address = door(&serving).await;
    for refused in [
        "http://localhost:1",
        "http://example",
        "http://xapi.example",
        "http://api.example.org",
        "http://[::1]",
        "http://127.0.0.1.api.example",
        "https://[::ffff:127.0.0.1]:8081",
    ] {
        let body = json!({"taskID": "t-1", "apiURL": refused}).to_string();
        let (status, body) = answer(post(&address, body)).await;
        assert_eq!(status, 403, "{refused}");
        says(&body, "RUNNER_API_ALLOW", refused);
    }
    assert_eq!(answer(post(&address, outside.assignment())).await.0, 200);
}

/// A file that may not grow any further is a full disk, as far as a write can tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_cannot_be_written_is_a_503_and_the_process_ends_to_be_started_again() {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside);
    for _ in 0..5 {
        let direct = bench.command();
        let mut command = Command::new("sh");
        // Without this the kernel would kill the process instead of refusing the write.
        command
            .args(["-c", "trap '' XFSZ; exec \"$0\" serve"])
            .arg(direct.get_program());
        command.env_clear();
        command.envs(direct.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(std::process::Stdio::null());
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut serving = Serving::spawn(command);
        let address = door(&serving).await;
        // It answers once its own start is in the journal.
        assert_eq!(answer(get(&address, "/healthz")).await.0, 200);
        let before = bench.dump().len();
        let log = std::fs::metadata(bench.path("state/journal.db-wal")).unwrap().len();
        let limited = Command::new("prlimit")
            .args(["--pid", &serving.pid().to_string(), &format!("--fsize={log}")])
            .status()
            .unwrap();
        assert!(limited.success());
        let (status, body) = answer(post(&address, outside.assignment())).await;
        assert_eq!(status, 503, "{body}");
        says(&body, "the journal cannot be written", "503");
        assert_eq!(serving.wait().await.code(), Some(75), "{}", serving.log());
        let said = serving.line_with("failed to write the journal").await;
        assert!(said.is_some(), "{}", serving.log());
        assert_eq!(bench.dump().len(), before, "nothing was half written");
    }
    let mut serving = bench.start();
    assert_eq!(
        serving.assign(&outside.assignment()).await,
        Some(200),
        "there is room again"
    );
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
}
