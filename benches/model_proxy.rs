//! What the model's proxy costs on the way: `cargo bench --bench model_proxy`. It prints and never fails on a figure.
//!
//! The model is a server of this process that says what it has ready; the client asks it directly, through the proxy, and through
//! one that only copies bytes: what a second hop costs whatever it does.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runner::adapters::agent::MicroUsd;
use runner::adapters::model::{ModelKey, Prices, Proxy, Upstream};
use runner::redact::Redactor;
use runner::secret::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep_until;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// As Claude Code's first request is.
const REQUEST: usize = 50 * 1024;
const LARGE: usize = 10 * 1000 * 1000;
const FIRST_BYTES: usize = 500;
const STREAMS: usize = 40;
const PACED_STREAMS: usize = 3;
/// As a model's own pieces come: some kilobytes at a time.
const PIECE: usize = 8 * 1024;
/// Pieces a second, of 10 MB in a second: ten times as fast as the fastest model.
const PACE: f64 = 10e6 / 8192.0;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let model = listener.local_addr()?;
    tokio::spawn(serve(listener, large().into()));
    let room = tempfile::tempdir()?;
    let upstream = Upstream {
        base: format!("http://{model}").parse()?,
        key: ModelKey::Variable {
            name: "ANTHROPIC_API_KEY",
            key: Secret::new("real"),
        },
        prices: Arc::new(Prices::load(None)?),
        ca_file: None,
    };
    let budget = MicroUsd::from_micros(u64::MAX);
    let begun = Instant::now();
    let proxy = Proxy::start(upstream, budget, room.path().join("spent.json"), Redactor::new()).await?;
    println!(
        "start of the proxy                        {:8.2} ms",
        millis(begun.elapsed())
    );
    let access = proxy.access();
    let through: SocketAddr = access.url.trim_start_matches("http://").parse()?;
    let key = access.key.expose();

    let mut direct = Client::to(model, key).await?;
    let mut proxied = Client::to(through, key).await?;
    let (mut straight, mut passed) = (Vec::new(), Vec::new());
    for _ in 0..FIRST_BYTES {
        straight.push(direct.ask("short").await?.0);
        passed.push(proxied.ask("short").await?.0);
    }
    let (straight, passed) = (spread(straight), spread(passed));
    say("first byte of the answer, direct", straight);
    say("first byte of the answer, through the proxy", passed);
    let added = millis(passed.0) - millis(straight.0);
    println!("  added (aim: at most 2 ms)               {added:8.2} ms");

    let hop = TcpListener::bind("127.0.0.1:0").await?;
    let mut copied = Client::to(hop.local_addr()?, key).await?;
    tokio::spawn(async move { drop(copy(hop, model).await) });
    for (what, query, streams) in [
        ("10 MB of events", "large", STREAMS),
        ("10 MB of events in a second", "paced", PACED_STREAMS),
    ] {
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..streams {
            for (times, client) in times.iter_mut().zip([&mut direct, &mut copied, &mut proxied]) {
                times.push(client.ask(query).await?.1);
            }
        }
        let [direct, copied, proxied] = times.map(spread);
        say(&format!("{what}, direct"), direct);
        say("  through one that only copies", copied);
        say("  through the proxy", proxied);
        println!(
            "  ratio of the proxy to direct            {:8.2}",
            millis(proxied.0) / millis(direct.0)
        );
        println!(
            "  ratio of the proxy to copying           {:8.2}",
            millis(proxied.0) / millis(copied.0)
        );
    }
    println!("{:?}", proxy.spent().total());
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Median and p99.
fn spread(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
    (at(50), at(99))
}

fn say(what: &str, (median, p99): (Duration, Duration)) {
    println!("{what:42}{:8.2} ms, p99 {:.2} ms", millis(median), millis(p99));
}

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-opus-4-5\",\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\n";
const END: &str =
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":100}}\n\n";

fn large() -> Vec<u8> {
    let piece = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" and then some\"}}\n\n";
    let mut events = START.to_owned();
    while events.len() < LARGE {
        events.push_str(piece);
    }
    events.push_str(END);
    events.into_bytes()
}

async fn serve(listener: TcpListener, large: Arc<[u8]>) {
    while let Ok((stream, _)) = listener.accept().await {
        let large = Arc::clone(&large);
        tokio::spawn(async move { drop(answer(stream, &large).await) });
    }
}

/// A proxy that only copies.
async fn copy(listener: TcpListener, model: SocketAddr) -> Result<()> {
    loop {
        let (mut client, _) = listener.accept().await?;
        let mut server = TcpStream::connect(model).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        tokio::spawn(async move {
            let size = 64 * 1024;
            copy_bidirectional_with_sizes(&mut client, &mut server, size, size).await
        });
    }
}

async fn answer(mut stream: TcpStream, large: &[u8]) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut read = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        read.extend_from_slice(&chunk[..count]);
        let Some(head) = find(&read, b"\r\n\r\n") else { continue };
        if read.len() < head + 4 + REQUEST {
            continue;
        }
        let (is_large, is_paced) = (find(&read, b"?large").is_some(), find(&read, b"?paced").is_some());
        read.clear();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await?;
        if is_large || is_paced {
            let mut due = tokio::time::Instant::now();
            for piece in large.chunks(PIECE) {
                if is_paced {
                    sleep_until(due).await;
                    due += Duration::from_secs_f64(1.0 / PACE);
                }
                write_chunk(&mut stream, piece).await?;
            }
        } else {
            write_chunk(&mut stream, START.as_bytes()).await?;
            write_chunk(&mut stream, END.as_bytes()).await?;
        }
        stream.write_all(b"0\r\n\r\n").await?;
    }
}

async fn write_chunk(stream: &mut TcpStream, piece: &[u8]) -> Result<()> {
    let mut framed = format!("{:x}\r\n", piece.len()).into_bytes();
    framed.extend_from_slice(piece);
    framed.extend_from_slice(b"\r\n");
    Ok(stream.write_all(&framed).await?)
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

struct Client {
    stream: TcpStream,
    key: String,
}

impl Client {
    async fn to(address: SocketAddr, key: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            key: key.to_owned(),
        })
    }

    /// How long the first byte and the last one of the answer's body took.
    async fn ask(&mut self, what: &str) -> Result<(Duration, Duration)> {
        let mut request = format!(
            "POST /v1/messages?{what} HTTP/1.1\r\nhost: model\r\nx-api-key: {}\r\ncontent-length: {REQUEST}\r\n\r\n",
            self.key
        )
        .into_bytes();
        request.resize(request.len() + REQUEST, b'x');
        let begun = Instant::now();
        self.stream.write_all(&request).await?;
        let mut first = None;
        let (mut head, mut end) = (Vec::new(), Vec::new());
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let count = self.stream.read(&mut chunk).await?;
            if count == 0 {
                return Err("the answer broke off".into());
            }
            if first.is_none() {
                head.extend_from_slice(&chunk[..count]);
                if find(&head, b"\r\n\r\n").is_some_and(|at| head.len() > at + 4) {
                    first = Some(begun.elapsed());
                }
            }
            end.extend_from_slice(&chunk[..count]);
            end.drain(..end.len().saturating_sub(5));
            if let (Some(first), b"0\r\n\r\n") = (first, end.as_slice()) {
                return Ok((first, begun.elapsed()));
            }
        }
    }
}
