//! Collectors as no operator wants them: they say nothing, refuse, never end, or point elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What it does with every request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Manner {
    /// Keeps the line open.
    Silent,
    /// Answers with this status and these headers.
    Answer(&'static str, &'static str),
    /// Refuses, and says all that it was told.
    Echo,
    /// Takes it, and answers for ever.
    Endless,
}

pub(super) struct Collector {
    pub(super) base: String,
    requests: Arc<AtomicUsize>,
}

impl Collector {
    pub(super) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                seen.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(behave(stream, manner));
            }
        });
        Self { base, requests }
    }

    /// How often it was asked: the runner has a connection a request.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn behave(mut stream: TcpStream, manner: Manner) {
    let mut some = [0; 16 * 1024];
    let read = stream.read(&mut some).await.unwrap_or_default();
    match manner {
        Manner::Silent => while stream.read(&mut some).await.is_ok_and(|count| count > 0) {},
        Manner::Answer(status, headers) => {
            let answer = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n");
            drop(stream.write_all(answer.as_bytes()).await);
            drop(stream.shutdown().await);
            while stream.read(&mut some).await.is_ok_and(|count| count > 0) {}
        }
        Manner::Echo => {
            let head = format!("HTTP/1.1 401 Unauthorized\r\nContent-Length: {read}\r\nConnection: close\r\n\r\n");
            drop(stream.write_all(head.as_bytes()).await);
            drop(stream.write_all(&some[..read]).await);
            drop(stream.shutdown().await);
        }
        Manner::Endless => {
            let mut open = stream
                .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
                .await
                .is_ok();
            while open {
                open = stream.write_all(&some).await.is_ok();
            }
        }
    }
}
