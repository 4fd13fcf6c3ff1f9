use std::net::SocketAddr;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use reqwest::header::HeaderValue;
use tokio::net::TcpListener;

use super::*;
use crate::adapters::hostile::{RawServer, Script, answer, client, client_with_timeout, nobody_there};
use crate::embedded::listening::Listening;

/// A self-signed certificate that was made for this test; nobody has its key.
const ROOT: &str = include_str!("root.pem");

fn build_with(pem: &[u8]) -> Result<Client, HttpSetupError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    fs::write(&path, pem).unwrap();
    build_client(&HttpOptions {
        ca_file: Some(path),
        ..HttpOptions::default()
    })
}

#[test]
fn a_ca_file_without_a_usable_root_is_refused_when_the_client_is_built() {
    assert!(build_with(ROOT.as_bytes()).is_ok());
    assert!(build_with(format!("a comment\n{ROOT}{ROOT}").as_bytes()).is_ok());
    for empty in ["", "no certificate at all\n"] {
        let error = build_with(empty.as_bytes()).unwrap_err();
        assert!(matches!(error, HttpSetupError::CaFileEmpty { .. }), "{error}");
    }
    let torn = ROOT.replace("MIIB", "AAAA");
    let error = build_with(torn.as_bytes()).unwrap_err();
    assert!(matches!(error, HttpSetupError::CaFileInvalid { .. }), "{error}");
    // One good root does not excuse a broken one.
    let error = build_with(format!("{ROOT}{torn}").as_bytes()).unwrap_err();
    assert!(matches!(error, HttpSetupError::CaFileInvalid { .. }), "{error}");
}

#[test]
fn a_missing_ca_file_is_named() {
    let error = build_client(&HttpOptions {
        ca_file: Some("/nonexistent/ca.pem".into()),
        ..HttpOptions::default()
    })
    .unwrap_err();
    assert!(matches!(error, HttpSetupError::CaFileUnreadable { .. }));
    assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
}

#[test]
fn loopback_peers_are_reached_without_a_proxy() {
    for loopback in [
        "http://127.0.0.1:1",
        "http://localhost",
        "http://[::1]:2/x",
        "http://127.9.9.9",
    ] {
        assert_eq!(
            Proxies::for_peer(&loopback.parse().unwrap()),
            Proxies::Direct,
            "{loopback}"
        );
    }
    for far in [
        "https://api.github.com",
        "http://10.0.0.1",
        "http://localhost.example.com",
    ] {
        assert_eq!(Proxies::for_peer(&far.parse().unwrap()), Proxies::Environment, "{far}");
    }
}

#[test]
fn retry_after_is_seconds_or_a_date_and_never_more_than_five_minutes() {
    let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let wait = |text: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
        retry_after(&headers, now)
    };
    assert_eq!(wait("0"), Some(Duration::ZERO));
    assert_eq!(wait(" 120 "), Some(Duration::from_mins(2)));
    assert_eq!(wait("301"), Some(RETRY_AFTER_LIMIT));
    assert_eq!(wait("99999999999999999999999"), Some(RETRY_AFTER_LIMIT));
    assert_eq!(wait("Fri, 02 Jan 2026 03:05:35 GMT"), Some(Duration::from_secs(90)));
    assert_eq!(wait("Fri, 02 Jan 2026 03:04:00 GMT"), Some(Duration::ZERO));
    assert_eq!(wait("Sat, 02 Jan 2027 03:04:00 GMT"), Some(RETRY_AFTER_LIMIT));
    for neither in ["", "-1", "soon", "1.5", "+3"] {
        assert_eq!(wait(neither), None, "{neither:?}");
    }
    assert_eq!(retry_after(&HeaderMap::new(), now), None);
}

#[test]
fn an_excerpt_is_short_and_has_no_character_that_could_act() {
    assert_eq!(excerpt(" a \"b\"\n\u{1b}[31m "), r#"a "b"\n\u{1b}[31m"#);
    assert_eq!(excerpt("a\u{202e}b"), r"a\u{202e}b");
    assert_eq!(excerpt(&"x".repeat(1000)).chars().count(), 201);
    assert!(excerpt(&"\u{0}".repeat(1000)).chars().count() <= 201);
}

async fn fail(client: &Client, url: &str) -> ExchangeError {
    exchange(client.get(url), 1000)
        .await
        .err()
        .expect("there is no answer to be had")
}

#[tokio::test]
async fn what_no_peer_has_seen_is_not_sent() {
    let speaks_no_tls = Listening::start(Router::new()).await.unwrap();
    // Longer than any name may be: refused by the resolver itself, without a question to the network.
    let no_such_name = format!("http://{}/", ["a"; 200].join("."));
    for url in [
        nobody_there().await,
        speaks_no_tls.base().replace("http://", "https://"),
        no_such_name,
    ] {
        let error = fail(&client(), &url).await;
        let not_sent = matches!(error, ExchangeError::Transport(TransportError::NotSent(_)));
        assert!(not_sent, "{url}: {error:?}");
    }
}

#[tokio::test]
async fn what_a_peer_may_have_seen_is_lost() {
    let patience = client_with_timeout(Duration::from_secs(1));
    for script in [
        Script::Silence,
        Script::Send(Vec::new()),
        Script::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ntoo short".to_vec()),
        Script::Send(b"HTTP/1.1 409 Conflict\r\nContent-Length: 100\r\n\r\ntoo short".to_vec()),
        Script::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec()),
        Script::Send(b"SSH-2.0-OpenSSH_9.7\r\n".to_vec()),
    ] {
        let server = RawServer::start(script.clone()).await;
        let error = fail(&patience, &server.base).await;
        let lost = matches!(error, ExchangeError::Transport(TransportError::Lost(_)));
        assert!(lost, "{script:?}: {error:?}");
        assert_eq!(server.requests().len(), 1, "{script:?} was asked once");
    }
}

#[tokio::test]
async fn a_body_is_refused_as_soon_as_it_is_known_to_be_too_long() {
    let announced = b"HTTP/1.1 200 OK\r\nContent-Length: 4294967296\r\n\r\n".to_vec();
    let endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunk = [b"1000\r\n".to_vec(), vec![b'x'; 0x1000], b"\r\n".to_vec()].concat();
    for script in [
        Script::Send(announced.clone()),
        Script::Endless(announced, vec![b'x'; 4096]),
        Script::Endless(endless, chunk),
        Script::Send(answer("200 OK", "", &"x".repeat(1001))),
    ] {
        let server = RawServer::start(script).await;
        assert_eq!(fail(&client(), &server.base).await, ExchangeError::TooLarge);
    }
    let server = RawServer::answering("200 OK", "", &"x".repeat(1000)).await;
    let whole = exchange(client().get(&server.base), 1000).await.ok().unwrap();
    assert_eq!(whole.body.len(), 1000);
}

#[tokio::test]
async fn an_endless_error_keeps_its_status() {
    let head = b"HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunk = [b"1000\r\n".to_vec(), vec![b'x'; 0x1000], b"\r\n".to_vec()].concat();
    let server = RawServer::start(Script::Endless(head, chunk)).await;
    let answer = exchange(client().get(&server.base), 1000).await.ok().unwrap();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body.len(), ERROR_BODY_LIMIT);
}

#[tokio::test]
async fn no_redirect_is_followed_and_no_cookie_kept() {
    let trap = RawServer::answering("200 OK", "", "caught").await;
    for target in ["http://169.254.169.254/latest/meta-data/", &trap.base] {
        let headers = format!("Location: {target}\r\nSet-Cookie: a=b\r\n");
        let server = RawServer::answering("307 Temporary Redirect", &headers, "").await;
        let client = client();
        for _ in 0..2 {
            let answer = exchange(client.get(&server.base), 1000).await.ok().unwrap();
            assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
        }
        let requests = server.requests().join("\n").to_ascii_lowercase();
        assert!(!requests.contains("cookie"), "{requests}");
        assert!(requests.contains(&format!("user-agent: {USER_AGENT}")), "{requests}");
    }
    assert_eq!(trap.requests().len(), 0);
}

#[tokio::test]
async fn a_name_is_resolved_to_no_link_local_address() {
    let resolved = async |name: &str| {
        let found = BeyondThisLink.resolve(name.parse().unwrap()).await;
        found
            .map(Iterator::collect::<Vec<_>>)
            .map_err(|error| error.to_string())
    };
    // What the system takes for a name may be an address, which needs no question to the network.
    for metadata in ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254"] {
        let error = resolved(metadata).await.unwrap_err();
        assert!(error.contains("link-local"), "{metadata}: {error}");
        let control = tokio::net::lookup_host((metadata, 0)).await.unwrap();
        assert_eq!(control.count(), 1, "{metadata}");
    }
    assert!(!resolved("localhost").await.unwrap().is_empty());
}

#[tokio::test]
async fn every_request_has_a_connection_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let who = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string();
    let router = Router::new().route("/", get(who));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = tokio::spawn(async { axum::serve(listener, service).await });
    let client = client();
    let first = exchange(client.get(&url), 1000).await.ok().unwrap();
    let second = exchange(client.get(&url), 1000).await.ok().unwrap();
    assert_ne!(first.body, second.body);
    server.abort();
}
