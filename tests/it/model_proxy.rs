//! The model's proxy against a model that answers as it is told: who may ask, what passes how, and what it costs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use reqwest::{RequestBuilder, Response};
use runner::adapters::agent::MicroUsd;
use runner::adapters::model::{ModelKey, Prices, Proxy, Spent, Upstream};
use runner::redact::Redactor;
use runner::secret::Secret;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::harness::{Bench, NEVER, Outside, client, files_with, until};
use crate::messages_api::{Answer, RawApi, stream_of};

const KEY: &str = "sk-ant-canary-of-the-operator";
const MODEL: &str = "claude-opus-4-5-20251101";
const PATH: &str = "/v1/messages?beta=true";

struct Room {
    dir: TempDir,
    model: RawApi,
    proxy: Proxy,
}

impl Room {
    async fn new() -> Self {
        let key = ModelKey::Variable {
            name: "ANTHROPIC_API_KEY",
            key: Secret::new(KEY),
        };
        Self::with(key, "", 10_000_000).await
    }

    async fn with(key: ModelKey, prefix: &str, micro_usd: u64) -> Self {
        let model = RawApi::start().await;
        let upstream = Upstream {
            base: format!("http://{}{prefix}", model.address).parse().unwrap(),
            key,
            prices: Arc::new(Prices::load(None).unwrap()),
            ca_file: None,
        };
        let dir = tempfile::tempdir().unwrap();
        let account = dir.path().join("spent.json");
        let proxy = Proxy::start(upstream, MicroUsd::from_micros(micro_usd), account, Redactor::new()).await;
        Self {
            dir,
            model,
            proxy: proxy.unwrap(),
        }
    }

    fn account(&self) -> PathBuf {
        self.dir.path().join("spent.json")
    }

    /// A request as Claude Code makes it.
    fn ask(&self, path: &str) -> RequestBuilder {
        let access = self.proxy.access();
        client()
            .post(format!("{}{path}", access.url))
            .header("x-api-key", access.key.expose())
            .header("anthropic-version", "2023-06-01")
            .header("accept-encoding", "gzip, deflate, br, zstd")
            .body(r#"{"stream":true}"#)
    }

    async fn asked(&self) -> Response {
        self.ask(PATH).send().await.unwrap()
    }

    /// Waits until something is so of what was spent.
    async fn spent(&self, holds: impl Fn(&Spent) -> bool) -> Spent {
        let begun = Instant::now();
        loop {
            let spent = self.proxy.spent();
            if holds(&spent) {
                return spent;
            }
            assert!(begun.elapsed() < NEVER, "never: {spent:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn plain(status: u16) -> Answer {
    let body = json!({"model": MODEL, "usage": {"input_tokens": 10, "output_tokens": 2}});
    Answer::Whole(
        status,
        vec![("content-type", "application/json")],
        body.to_string().into_bytes(),
    )
}

async fn error(response: Response) -> (u16, String, String) {
    let status = response.status().as_u16();
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(body["type"], "error");
    let text = |name: &str| body["error"][name].as_str().unwrap().to_owned();
    (status, text("type"), text("message"))
}

async fn in_time<T>(what: &str, of: impl Future<Output = T>) -> T {
    timeout(NEVER, of).await.unwrap_or_else(|_| panic!("never: {what}"))
}

#[tokio::test]
async fn a_wrong_key_and_any_other_path_or_method_are_refused_without_a_word_to_the_model() {
    let room = Room::new().await;
    let access = room.proxy.access();
    let (url, key) = (&access.url, access.key.expose());
    assert!(key.starts_with("sk-ant-runner-") && key.len() > 70);
    for wrong in [None, Some(KEY), Some(""), Some(&key[..key.len() - 1])] {
        let mut request = client().post(format!("{url}{PATH}"));
        if let Some(wrong) = wrong {
            request = request.header("x-api-key", wrong);
        }
        let (status, kind, _) = error(request.send().await.unwrap()).await;
        assert_eq!((status, kind.as_str()), (401, "authentication_error"), "{wrong:?}");
    }
    for path in [
        "/",
        "/v1/models",
        "/v1/messages/",
        "/v1/messages/batches",
        "/v1/messages/../files",
        "/v1/files",
        "/v1//messages",
        "/v1/messages%2fbatches",
    ] {
        let (status, kind, _) = error(room.ask(path).send().await.unwrap()).await;
        assert_eq!((status, kind.as_str()), (404, "not_found_error"), "{path}");
    }
    for method in [reqwest::Method::GET, reqwest::Method::PUT, reqwest::Method::DELETE] {
        let request = client()
            .request(method, format!("{url}{PATH}"))
            .header("x-api-key", key);
        assert_eq!(error(request.send().await.unwrap()).await.0, 404);
    }
    // A proxy's own request line is no way out either.
    let mut raw = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    let line = format!("POST http://169.254.169.254/latest HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n\r\n");
    raw.write_all(line.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    raw.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
    assert_eq!(room.model.heard().len(), 0);
    assert_eq!(room.proxy.spent(), Spent::default());

    // The control: the right key and the two paths, by either header.
    for (path, by_bearer) in [
        (PATH, false),
        (PATH, true),
        ("/v1/messages/count_tokens?beta=true", false),
    ] {
        room.model.will(plain(200));
        let mut request = client().post(format!("{url}{path}"));
        request = if by_bearer {
            request.bearer_auth(key)
        } else {
            request.header("x-api-key", key)
        };
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let lines: Vec<String> = room.model.heard().into_iter().map(|request| request.line).collect();
    let (messages, count) = (
        format!("POST {PATH}"),
        "POST /v1/messages/count_tokens?beta=true".to_owned(),
    );
    assert_eq!(lines, [messages.clone(), messages, count]);
    assert_eq!(room.proxy.spent().requests, 2, "counting tokens costs nothing");
}

#[tokio::test]
async fn the_model_hears_the_real_key_and_the_agents_own_headers_but_neither_its_key_nor_its_hops() {
    let room = Room::new().await;
    room.model.will(plain(200));
    let request = room
        .ask(PATH)
        .header("anthropic-beta", "one,two")
        .header("authorization", "Bearer other")
        .header("te", "trailers")
        .header("proxy-authorization", "Basic x")
        .header("connection", "close, x-hop")
        .header("x-hop", "1")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .header("tracestate", "operator=7")
        .header("baggage", "tenant=1")
        .header("x-app", "cli");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let heard = room.model.request(1).await.headers;
    let values = |name: &str| -> Vec<&str> { heard.get_all(name).iter().map(|v| v.to_str().unwrap()).collect() };
    assert_eq!(values("x-api-key"), [KEY]);
    assert_eq!(values("host"), [room.model.address.to_string()]);
    assert_eq!(values("anthropic-version"), ["2023-06-01"]);
    assert_eq!(values("anthropic-beta"), ["one,two"]);
    assert_eq!(values("x-app"), ["cli"]);
    assert_eq!(values("accept-encoding"), ["identity"]);
    let gone = ["authorization", "te", "proxy-authorization", "x-hop"];
    for gone in gone.into_iter().chain(["traceparent", "tracestate", "baggage"]) {
        assert_eq!(values(gone), [] as [&str; 0], "{gone}");
    }
    assert!(!format!("{heard:?}").contains("sk-ant-runner-"));
}

#[tokio::test]
async fn each_kind_of_key_is_sent_as_its_own_and_a_file_is_read_anew() {
    for (name, beta) in [
        ("ANTHROPIC_AUTH_TOKEN", "one"),
        ("CLAUDE_CODE_OAUTH_TOKEN", "one,oauth-2025-04-20"),
    ] {
        let key = Secret::new(KEY);
        let room = Room::with(ModelKey::Variable { name, key }, "/gateway/", 1_000_000).await;
        room.model.will(plain(200));
        room.ask(PATH).header("anthropic-beta", "one").send().await.unwrap();
        let heard = room.model.request(1).await;
        assert_eq!(heard.line, format!("POST /gateway{PATH}"));
        assert_eq!(heard.headers["authorization"], format!("Bearer {KEY}"));
        assert_eq!(heard.headers["anthropic-beta"], beta);
        assert!(!heard.headers.contains_key("x-api-key"));
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "first\n").unwrap();
    let room = Room::with(ModelKey::File(file.clone()), "", 1_000_000).await;
    for (n, key) in ["first", "second"].into_iter().enumerate() {
        std::fs::write(&file, format!("{key}\n")).unwrap();
        room.model.will(plain(200));
        assert_eq!(room.asked().await.status(), 200);
        assert_eq!(room.model.request(n + 1).await.headers["x-api-key"], key);
    }
    std::fs::remove_file(&file).unwrap();
    let (status, _, message) = error(room.asked().await).await;
    assert_eq!(status, 503);
    assert!(message.contains("RUNNER_MODEL_KEY_FILE"), "{message}");
}

#[tokio::test]
async fn a_stream_comes_through_byte_by_byte_as_it_is_said_and_is_counted_as_it_passes() {
    let room = Room::new().await;
    let said = stream_of(MODEL, 1000, 100, "hello");
    let pieces = room.model.will_stream();
    let mut response = room.asked().await;
    let mut got = Vec::new();
    for byte in said.bytes() {
        pieces.send(Ok(Bytes::copy_from_slice(&[byte]))).await.unwrap();
        // The next one is not said before this one is here.
        let piece = in_time("a byte", response.chunk()).await.unwrap().unwrap();
        got.extend_from_slice(&piece);
        assert_eq!(piece.len(), 1);
        if got.ends_with(b"event: content_block_start") {
            assert_eq!(
                room.proxy.spent().cost_micro_usd.micros(),
                5000 + 2500,
                "the beginning is charged"
            );
        }
    }
    drop(pieces);
    assert_eq!(response.chunk().await.unwrap(), None);
    assert_eq!(String::from_utf8(got).unwrap(), said);
    let spent = room.spent(|spent| spent.requests == 1).await;
    assert_eq!(
        (spent.total().input, spent.total().output, spent.unknown_requests),
        (1000, 100, 0)
    );
    assert_eq!(spent.cost_micro_usd.micros(), 1000 * 5 + 100 * 25);
}

#[tokio::test]
async fn two_streams_pass_each_other_and_connections_to_the_model_are_used_again() {
    let room = Room::new().await;
    let one = room.model.will_stream();
    let first = room.asked().await;
    let other = room.model.will_stream();
    let mut second = room.asked().await;
    other.send(Ok(Bytes::from(stream_of(MODEL, 1, 1, "b")))).await.unwrap();
    drop(other);
    while let Some(piece) = in_time("the second", second.chunk()).await.unwrap() {
        assert!(!piece.is_empty());
    }
    one.send(Ok(Bytes::from(stream_of("claude-haiku-4-5", 1, 1, "a"))))
        .await
        .unwrap();
    drop(one);
    assert!(first.text().await.unwrap().contains("message_stop"));
    assert_eq!(room.proxy.spent().models.len(), 2);
    room.model.will(plain(200));
    room.asked().await;
    let from: Vec<_> = room.model.heard().into_iter().map(|request| request.from).collect();
    assert_ne!(from[0], from[1]);
    assert!(from[2] == from[0] || from[2] == from[1], "{from:?}");
}

#[tokio::test]
async fn a_large_request_goes_on_while_it_still_comes_in() {
    const HALF: usize = 17 * 1024 * 1024;
    let room = Room::new().await;
    let access = room.proxy.access();
    let mut raw = TcpStream::connect(access.url.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let beginning = format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        access.key.expose(),
        2 * HALF
    );
    raw.write_all(beginning.as_bytes()).await.unwrap();
    let half = vec![b'x'; HALF];
    raw.write_all(&half).await.unwrap();
    let mut request = room.model.request(1).await;
    let heard = request.body.wait_for(|length| *length == HALF);
    in_time("the first half is there", heard).await.unwrap();
    assert_eq!(request.headers["content-length"], (2 * HALF).to_string());
    room.model.will(plain(200));
    raw.write_all(&half).await.unwrap();
    let mut answer = String::new();
    raw.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(*request.body.borrow(), 2 * HALF);
}

#[tokio::test]
async fn an_agent_that_reads_nothing_holds_the_model_up_and_nothing_piles_up() {
    const PIECE: usize = 64 * 1024;
    const ALL: usize = 4096;
    let room = Room::new().await;
    let pieces = room.model.will_stream();
    let mut response = room.asked().await;
    let mut sent = 0;
    let piece = Bytes::from(vec![b'x'; PIECE]);
    // Until it is taken no more. What the sockets hold is some megabytes.
    while sent < ALL
        && timeout(Duration::from_millis(500), pieces.send(Ok(piece.clone())))
            .await
            .is_ok()
    {
        sent += 1;
    }
    assert!(sent < ALL / 4, "{} KiB were taken in", sent * PIECE / 1024);
    let feeding = tokio::spawn(async move {
        for _ in sent..ALL {
            pieces.send(Ok(piece.clone())).await.unwrap();
        }
    });
    let mut got = 0;
    while let Some(piece) = response.chunk().await.unwrap() {
        got += piece.len();
    }
    feeding.await.unwrap();
    // The piece whose sending was given up was never sent.
    assert_eq!(got, ALL * PIECE);
}

#[tokio::test]
async fn an_agent_that_goes_away_ends_the_request_to_the_model() {
    let room = Room::new().await;
    // Before the answer begins.
    let (held, never) = mpsc::channel(1);
    room.model.will(Answer::Never(never));
    let asking = tokio::spawn(room.ask(PATH).send());
    room.model.request(1).await;
    asking.abort();
    in_time("the model is left", held.closed()).await;
    // In the middle of it.
    let pieces = room.model.will_stream();
    let mut response = room.asked().await;
    let said = stream_of(MODEL, 1000, 100, "hello");
    let (begun, _) = said.split_at(said.find("event: message_delta").unwrap());
    pieces.send(Ok(Bytes::from(begun.to_owned()))).await.unwrap();
    response.chunk().await.unwrap();
    drop(response);
    in_time("the model is left", pieces.closed()).await;
    let spent = room.spent(|spent| spent.unknown_requests == 1).await;
    assert!(
        spent.cost_micro_usd.micros() > 5000,
        "what passed is charged: {spent:?}"
    );
}

#[tokio::test]
async fn a_model_that_breaks_off_breaks_off_for_the_agent_and_one_that_is_not_there_is_a_502() {
    let room = Room::new().await;
    let pieces = room.model.will_stream();
    let mut response = room.asked().await;
    pieces.send(Ok(Bytes::from("event: ping\n"))).await.unwrap();
    response.chunk().await.unwrap().unwrap();
    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    pieces.send(Err(reset)).await.unwrap();
    assert!(in_time("the end", response.chunk()).await.is_err());
    room.spent(|spent| spent.unknown_requests == 1).await;

    let Room { model, proxy, dir } = room;
    let gone = model.address;
    drop(model);
    let room = Room {
        model: RawApi::start().await,
        proxy,
        dir,
    };
    let begun = Instant::now();
    let (status, kind, message) = loop {
        // The listener's task ends a moment later.
        match room.ask(PATH).timeout(Duration::from_secs(1)).send().await {
            Ok(response) => break error(response).await,
            Err(error) => assert!(begun.elapsed() < NEVER, "{gone}: {error}"),
        }
    };
    assert_eq!((status, kind.as_str()), (502, "api_error"));
    assert!(message.contains("127.0.0.1") && !message.contains(KEY), "{message}");
}

#[tokio::test]
async fn errors_and_redirects_are_the_agents_to_read_and_a_key_that_is_repeated_in_them_is_not() {
    let room = Room::new().await;
    for status in [401, 429, 529] {
        let body = format!(r#"{{"type":"error","error":{{"type":"x","message":"the key {KEY} it is"}}}}"#);
        let headers = vec![("content-type", "application/json"), ("retry-after", "7")];
        room.model.will(Answer::Whole(status, headers, body.into_bytes()));
        let response = room.asked().await;
        assert_eq!(response.headers()["retry-after"], "7");
        let said = error(response).await;
        assert_eq!(said, (status, "x".to_owned(), "the key [redacted] it is".to_owned()));
    }
    room.model
        .will(Answer::Whole(307, vec![("location", "/v1/elsewhere")], Vec::new()));
    let response = room.asked().await;
    assert_eq!(response.status(), 307);
    assert_eq!(room.model.heard().len(), 4, "nobody went elsewhere");
    assert_eq!(room.proxy.spent(), Spent::default());
}

#[tokio::test]
async fn a_budget_that_is_spent_refuses_what_comes_next_and_is_told() {
    let room = Room::with(
        ModelKey::Variable {
            name: "ANTHROPIC_API_KEY",
            key: Secret::new(KEY),
        },
        "",
        100,
    )
    .await;
    // 10 * 5 + 2 * 25: all of it.
    room.model.will(plain(200));
    assert_eq!(room.asked().await.status(), 200);
    room.spent(|spent| spent.cost_micro_usd.micros() == 100).await;
    assert!(!room.proxy.refused_for_budget(), "it may be the agent's last");
    let response = room.asked().await;
    assert_eq!(response.headers()["x-should-retry"], "false");
    let (status, kind, message) = error(response).await;
    assert_eq!((status, kind.as_str()), (402, "billing_error"));
    assert!(message.contains("$0.0001"), "{message}");
    in_time("it is told", room.proxy.out_of_budget()).await;
    assert!(room.proxy.refused_for_budget());
    assert_eq!(room.model.heard().len(), 1);
    let begun = Instant::now();
    while Spent::kept(&room.account()).as_ref() != Some(&room.proxy.spent()) {
        assert!(begun.elapsed() < NEVER, "the account is not kept");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn nothing_of_a_proxy_outlives_it() {
    let room = Room::new().await;
    let pieces = room.model.will_stream();
    let mut response = room.asked().await;
    pieces.send(Ok(Bytes::from("event: ping\n"))).await.unwrap();
    response.chunk().await.unwrap();
    let access = room.proxy.access();
    assert_eq!(access.url, format!("http://127.0.0.1:{}", room.proxy.port()));
    drop(room.proxy);
    assert!(in_time("the stream is cut", response.chunk()).await.is_err());
    in_time("the model is left", pieces.closed()).await;
    let begun = Instant::now();
    while TcpStream::connect(access.url.strip_prefix("http://").unwrap())
        .await
        .is_ok()
    {
        assert!(begun.elapsed() < NEVER, "it still listens");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Plays Claude Code: asks the model once for each line of `$HOME/asks` by bash alone, and does not end.
const ASKING: &str = r#"#!/bin/bash
cat > /dev/null
env > "$HOME/env-$(date +%s%N)"; printf '%s\n' "$@" >> "$HOME/arguments"
cat /proc/[0-9]*/environ > "$HOME/environs" 2> /dev/null
ask() {
  authority=${ANTHROPIC_BASE_URL#http://}
  exec 3<> "/dev/tcp/${authority%:*}/${authority#*:}"
  printf 'POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: %s\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}' "$ANTHROPIC_API_KEY" >&3
  cat <&3 >> "$HOME/answers"
}
ask; ask; : > "$HOME/there"
while [ ! -e "$HOME/go" ]; do sleep 0.02; done
while :; do ask; sleep 0.05; done
"#;

/// A runner whose claude is a script, and a model that answers it for ever.
async fn with_script(budget: &str) -> (Outside, RawApi, Bench) {
    use std::os::unix::fs::PermissionsExt;
    let outside = Outside::start().await;
    let model = RawApi::start().await;
    let bench = Bench::new(&outside);
    let bin = bench.path("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("claude"), ASKING).unwrap();
    std::fs::set_permissions(bin.join("claude"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let bench = bench
        .with("PATH", &path)
        .with("RUNNER_AGENT", "claude")
        .with("RUNNER_AGENT_MAX_BUDGET_USD", budget)
        .with("ANTHROPIC_BASE_URL", &format!("http://{}", model.address))
        .with("ANTHROPIC_API_KEY", KEY)
        // A proxy that is not there: the agent's own way does not lead past it.
        .with("HTTP_PROXY", "http://127.0.0.1:9");
    for _ in 0..50 {
        // $0.0055 each.
        let said = stream_of(MODEL, 1000, 20, "hello").into_bytes();
        model.will(Answer::Whole(200, vec![("content-type", "text/event-stream")], said));
    }
    (outside, model, bench)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_asks_for_more_than_its_budget_is_stopped_by_name() {
    let (outside, model, bench) = with_script("0.02").await;
    let_it_go_on(&bench);
    let mut serving = bench.start();
    serving.assign(&outside.assignment()).await;
    assert_eq!(serving.wait().await.code(), Some(1), "{}", serving.log());
    let verdict = outside.verdict();
    assert_eq!(verdict["details"]["reason"], "AgentBudgetExceeded", "{verdict}");
    let message = verdict["message"].as_str().unwrap();
    assert!(message.contains("spent $0.022 of $0.02,"), "{message}");
    assert_eq!(verdict["details"]["costUSD"], 0.022);
    assert_eq!(verdict["details"]["inputTokens"], 4000);
    assert_eq!(model.heard().len(), 4, "the fifth was refused");
    for request in model.heard() {
        assert_eq!(request.headers["x-api-key"], KEY);
    }
    // It saw its own key everywhere, and the other one nowhere.
    let home = bench.path("workspace/home");
    assert!(!files_with(&home, "sk-ant-runner-").is_empty());
    assert_eq!(files_with(bench.dir.path(), KEY), [] as [PathBuf; 0]);
    assert!(!serving.log().contains(KEY));
}

/// It is no protection then: who reads the runner's memory needs no proxy. But it does its work.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_sandbox_the_proxy_counts_and_stops_alike() {
    let (outside, model, bench) = with_script("0.02").await;
    let bench = bench.with("RUNNER_SANDBOX", "off");
    let_it_go_on(&bench);
    let (code, log) = bench.once(&outside).await;
    assert_eq!(code, Some(1), "{log}");
    assert_eq!(outside.verdict()["details"]["reason"], "AgentBudgetExceeded");
    assert_eq!(model.heard().len(), 4);
}

fn let_it_go_on(bench: &Bench) {
    let home = bench.path("workspace/home");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join("go"), "").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_attempt_spent_counts_for_the_next_one() {
    let (outside, model, bench) = with_script("0.03").await;
    let mut serving = bench.start();
    serving.assign(&outside.assignment()).await;
    let home = bench.path("workspace/home");
    until("it has asked twice", &serving, || home.join("there").exists()).await;
    let account = bench.path("state/agent/spent-1.json");
    let kept = || Spent::kept(&account).is_some_and(|spent| spent.cost_micro_usd.micros() == 11_000);
    until("its account is kept", &serving, kept).await;
    serving.kill().await;
    let_it_go_on(&bench);
    let mut serving = bench.start();
    assert_eq!(serving.wait().await.code(), Some(1), "{}", serving.log());
    let verdict = outside.verdict();
    assert_eq!(verdict["details"]["reason"], "AgentBudgetExceeded", "{verdict}");
    assert_eq!(verdict["details"]["costUSD"], 0.033, "of both");
    assert_eq!(model.heard().len(), 6);
    let arguments = std::fs::read_to_string(home.join("arguments")).unwrap();
    let told: Vec<&str> = arguments
        .lines()
        .skip_while(|line| *line != "--max-budget-usd")
        .filter(|line| line.starts_with("0.0"))
        .collect();
    assert_eq!(told, ["0.03", "0.019"], "each is told what is left");
    let probes = bench.rows("probe", Some("agent"));
    assert_eq!(probes[0]["body"]["cost_micro_usd"], 11_000, "{probes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_sees_the_key_only_where_it_is_handed_over() {
    for handed_over in [false, true] {
        let outside = Outside::start().await;
        let look = "cat > /dev/null; env > \"$HOME/seen\"; cat /proc/[0-9]*/environ >> \"$HOME/seen\" 2> /dev/null; \
                    echo change >> change.txt";
        let mut bench = Bench::new(&outside)
            .with("RUNNER_AGENT_COMMAND", look)
            .with("ANTHROPIC_API_KEY", KEY);
        if handed_over {
            bench = bench.with("RUNNER_AGENT_ENV", "ANTHROPIC_API_KEY");
        }
        let (code, log) = bench.once(&outside).await;
        assert_eq!(code, Some(0), "{log}");
        let found = files_with(bench.dir.path(), KEY);
        let seen = bench.path("workspace/home/seen");
        assert!(std::fs::read_to_string(&seen).is_ok_and(|text| text.contains("RUNNER") || text.contains("HOME=")));
        assert_eq!(found, if handed_over { vec![seen] } else { Vec::new() });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_would_undo_the_proxy_or_cannot_be_used_is_exit_2() {
    let outside = Outside::start().await;
    let outer = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(outer.path().join(name), text).unwrap();
        outer.path().join(name).display().to_string()
    };
    let bad_prices = file("prices.json", "{}");
    let empty = file("empty", " \n");
    for (name, value, said) in [
        (
            "RUNNER_AGENT_ENV",
            "A,ANTHROPIC_API_KEY",
            "RUNNER_AGENT_ENV names ANTHROPIC_API_KEY",
        ),
        (
            "RUNNER_AGENT_ENV",
            "ANTHROPIC_BASE_URL",
            "RUNNER_AGENT_ENV names ANTHROPIC_BASE_URL",
        ),
        ("ANTHROPIC_BASE_URL", "ftp://x", "ANTHROPIC_BASE_URL is no absolute"),
        (
            "ANTHROPIC_BASE_URL",
            "http://u:p@x",
            "ANTHROPIC_BASE_URL is no absolute",
        ),
        ("ANTHROPIC_API_KEY", "a\nb", "ANTHROPIC_API_KEY has a character"),
        (
            "RUNNER_MODEL_KEY_FILE",
            "/no/such/file",
            "RUNNER_MODEL_KEY_FILE names /no/such/file",
        ),
        ("RUNNER_MODEL_KEY_FILE", &empty, "RUNNER_MODEL_KEY_FILE"),
        ("RUNNER_MODEL_KEY_FILE", "/etc/hostname", "RUNNER_MODEL_KEY_FILE"),
        ("RUNNER_MODEL_PRICES", &bad_prices, "RUNNER_MODEL_PRICES"),
        ("RUNNER_MODEL_PRICES", "/no/such/file", "RUNNER_MODEL_PRICES"),
    ] {
        let bench = Bench::new(&outside)
            .with("RUNNER_AGENT", "claude")
            .with("ANTHROPIC_API_KEY", KEY)
            .with(name, value);
        let mut serving = bench.start();
        let status = serving.wait().await;
        assert_eq!(status.code(), Some(2), "{name}={value}: {}", serving.log());
        let log = serving.line_with(said).await;
        assert!(
            log.is_some_and(|line| !line.contains(KEY)),
            "{name}={value}: {}",
            serving.log()
        );
        assert!(!bench.path("state").exists());
    }
}
