//! Raw servers for tests: they send exactly the bytes they are given, as no honest server would.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::adapters::http::{HttpOptions, Proxies, build_client};

/// A client as production has it, straight to the loopback.
pub(crate) fn client() -> Client {
    client_with_timeout(Duration::from_secs(20))
}

/// [`client`], for those who wait for nothing.
pub(crate) fn client_with_timeout(total_timeout: Duration) -> Client {
    build_client(&HttpOptions {
        total_timeout,
        proxies: Proxies::Direct,
        ..HttpOptions::default()
    })
    .unwrap()
}

/// What a raw server does once it has read a request.
#[derive(Debug, Clone)]
pub(crate) enum Script {
    /// Sends these bytes and closes.
    Send(Vec<u8>),
    /// Sends the first bytes, then the second for ever.
    Endless(Vec<u8>, Vec<u8>),
    /// Says nothing and keeps the connection.
    Silence,
}

/// A server that follows a script.
pub(crate) struct RawServer {
    pub(crate) base: String,
    requests: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl RawServer {
    pub(crate) async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&requests);
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(follow(stream, script.clone(), Arc::clone(&seen)));
            }
        });
        Self {
            base,
            requests,
            accepting,
        }
    }

    /// One that answers every request with this.
    pub(crate) async fn answering(status: &str, headers: &str, body: &str) -> Self {
        Self::start(Script::Send(answer(status, headers, body))).await
    }

    /// The requests so far, each as it came.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A whole answer; `headers` are lines that end in CRLF.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}").into_bytes()
}

/// The base of a server that was there a moment ago: its port refuses.
pub(crate) async fn nobody_there() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

async fn follow(mut stream: TcpStream, script: Script, seen: Arc<Mutex<Vec<String>>>) {
    let request = read_request(&mut stream).await;
    seen.lock().unwrap().push(request);
    match script {
        Script::Send(bytes) => {
            // The client may hang up before it has it all.
            drop(stream.write_all(&bytes).await);
            drop(stream.shutdown().await);
            drain(&mut stream).await;
        }
        Script::Endless(first, rest) => {
            let mut gone = stream.write_all(&first).await.is_err();
            while !gone {
                gone = stream.write_all(&rest).await.is_err();
            }
        }
        Script::Silence => drain(&mut stream).await,
    }
}

async fn drain(stream: &mut TcpStream) {
    let mut sink = [0; 1024];
    while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
}

/// Reads head and body by Content-Length; ends early where the client does.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return text;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return text;
        }
    }
}
