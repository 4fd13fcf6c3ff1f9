//! The real binary under slow, deaf and flooding peers: it serves all the while, in bounded memory.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::{Bench, NEVER, Outside, Serving, WAITING_AGENT, until};

/// How many peers come at once.
const PEERS: usize = 2000;
/// How soon `/healthz` has to answer, connecting included.
const SOON: Duration = Duration::from_secs(1);
/// How many descriptors a container's process has where nobody has set it.
const DESCRIPTORS: usize = 1024;

async fn address(serving: &Serving) -> SocketAddr {
    let url = serving.address().await.unwrap_or_else(|| panic!("{}", serving.log()));
    url.strip_prefix("http://").unwrap().parse().unwrap()
}

fn limit_descriptors(serving: &Serving, to: usize) {
    let limited = Command::new("prlimit")
        .args([
            "--pid",
            &serving.pid().to_string(),
            &format!("--nofile={to}:{DESCRIPTORS}"),
        ])
        .status();
    assert!(limited.unwrap().success());
}

fn descriptors(serving: &Serving) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", serving.pid()))
        .unwrap()
        .count()
}

/// How many of them are sockets of the internet: the listener, and who stands in the door.
fn sockets(serving: &Serving) -> usize {
    let open = std::fs::read_dir(format!("/proc/{}/fd", serving.pid())).unwrap();
    let links = open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let tables = ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("/proc/net/{table}")).unwrap());
    let known: Vec<&str> = tables
        .iter()
        .flat_map(|t| t.lines())
        .filter_map(|l| l.split_whitespace().nth(9))
        .collect();
    links
        .filter(|link| {
            let inode = link.to_string_lossy();
            let inode = inode.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            inode.is_some_and(|inode| known.contains(&inode))
        })
        .count()
}

/// In KiB: what is resident now, and the most that ever was.
fn memory(serving: &Serving) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", serving.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Of a process, in clock ticks of 10 ms.
fn cpu(serving: &Serving) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", serving.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// `/healthz` by a connection of its own; how long it took.
async fn healthz(address: SocketAddr) -> Result<Duration, String> {
    let begun = Instant::now();
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await.map(|_| said)
    };
    match tokio::time::timeout(SOON, asked).await {
        Ok(Ok(said)) if said.starts_with("HTTP/1.1 200 ") && said.ends_with("ok") => Ok(begun.elapsed()),
        other => Err(format!("{other:?} after {:?}", begun.elapsed())),
    }
}

/// What one peer does, again and again as long as it is let in: it opens a request and goes on for ever, or it asks for
/// more than it reads.
async fn be_a_nuisance(number: usize, address: SocketAddr, connected: Arc<AtomicUsize>) {
    let (begins, goes_on): (Vec<u8>, &[u8]) = match number % 5 {
        0 => (b"GET /healthz HTTP/1.1\r\n".to_vec(), b"x: y\r\n"),
        1 => (
            b"POST /task HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{".to_vec(),
            b" ",
        ),
        2 => (
            b"POST /task HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
            b"1\r\n \r\n",
        ),
        // None of the answers is ever read.
        3 => (b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000), b""),
        _ => (Vec::new(), b""),
    };
    loop {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            connected.fetch_add(1, Ordering::Relaxed);
            let mut open = stream.write_all(&begins).await.is_ok();
            while open {
                tokio::time::sleep(Duration::from_millis(500)).await;
                open = match goes_on {
                    // Who has nothing to say finds out by a look.
                    b"" => {
                        stream.write_all(b"").await.is_ok() && stream.take_error().is_ok_and(|e| e.is_none()) && {
                            let mut byte = [0; 1];
                            number % 5 == 3 || !matches!(stream.try_read(&mut byte), Ok(0))
                        }
                    }
                    more => stream.write_all(more).await.is_ok(),
                };
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn healthz_answers_within_a_second_while_two_thousand_slow_and_deaf_peers_crowd_the_door() {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside).with("RUNNER_AGENT_COMMAND", WAITING_AGENT);
    let mut serving = bench.start();
    let address = address(&serving).await;
    limit_descriptors(&serving, DESCRIPTORS);
    healthz(address).await.expect("before");
    let (before, _) = memory(&serving);

    let connected = Arc::new(AtomicUsize::new(0));
    let mut peers = JoinSet::new();
    for number in 0..PEERS {
        peers.spawn(be_a_nuisance(number, address, Arc::clone(&connected)));
    }
    until("they are there", &serving, || {
        connected.load(Ordering::Relaxed) >= PEERS
    })
    .await;
    // The task goes its way meanwhile.
    assert_eq!(
        serving.assign(&outside.assignment()).await,
        Some(200),
        "{}",
        serving.log()
    );
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut most = 0;
    let mut asked = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        let took = healthz(address).await;
        slowest = slowest.max(took.unwrap_or_else(|error| panic!("{asked} answered, then {error}: {}", serving.log())));
        most = most.max(descriptors(&serving));
        asked += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (_, peak) = memory(&serving);
    println!(
        "{asked} answers, the slowest after {slowest:?}; {} connections were made, at most {most} descriptors open; \
         memory {before} KiB before, {peak} KiB at most",
        connected.load(Ordering::Relaxed)
    );
    assert!(asked > 20 && connected.load(Ordering::Relaxed) > PEERS);
    assert!(most < 256 + 64, "{most} descriptors");
    assert!(peak < before + 64 * 1024, "{before} KiB before, {peak} KiB at most");
    let log = serving.log();
    assert!(log.contains("connections are open"), "it is said: {log}");
    assert!(
        log.lines().filter(|line| line.contains("connections")).count() <= 2,
        "and not for each: {log}"
    );

    bench.agent_is_there(&serving).await;
    bench.let_the_agent_go();
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
    assert_eq!(outside.verdict()["event"], "completed");
    peers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_descriptor_left_the_oldest_makes_room_and_the_listener_neither_ends_nor_spins() {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside);
    let serving = bench.start();
    let address = address(&serving).await;
    let listening = sockets(&serving);
    healthz(address).await.expect("before");
    until("it is gone", &serving, || sockets(&serving) == listening).await;
    let alone = descriptors(&serving);
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        slow.push(stream);
    }
    until("they are let in", &serving, || descriptors(&serving) >= alone + 40).await;
    limit_descriptors(&serving, alone + 40);
    for _ in 0..10 {
        healthz(address).await.expect("with no descriptor left");
    }
    let mut oldest = slow.remove(0);
    let gone = tokio::time::timeout(NEVER, oldest.read(&mut [0; 1])).await;
    assert!(matches!(gone.unwrap(), Ok(0) | Err(_)), "the oldest was closed");

    // None can be had by closing one: it waits, and does not spin.
    drop(slow);
    until("they are gone", &serving, || descriptors(&serving) <= alone).await;
    limit_descriptors(&serving, descriptors(&serving));
    let waiting = TcpStream::connect(address).await.unwrap();
    let before = cpu(&serving);
    assert!(healthz(address).await.is_err(), "there is no way in");
    let spent = cpu(&serving) - before;
    assert!(spent < 30, "{spent} ticks of 10 ms in a second");
    limit_descriptors(&serving, DESCRIPTORS);
    drop(waiting);
    healthz(address).await.expect("there is room again");
    let said = serving
        .log()
        .lines()
        .filter(|line| line.contains("could not be accepted"))
        .count();
    assert_eq!(said, 1, "{}", serving.log());
    serving.signal(Signal::SIGTERM);
}

/// What a peer may say: noise, or something that is nearly a request.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let request = "POST /task HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n\
                   {\"taskID\":\"\",\"apiURL\":\"http:\"}";
    let bent = (0..request.len(), any::<u8>(), 0..request.len()).prop_map(move |(at, byte, end)| {
        let mut bytes = request.as_bytes().to_vec();
        bytes[at] = byte;
        bytes.truncate(end.max(1));
        bytes
    });
    let header = proptest::string::bytes_regex("(GET|POST|HEAD|PUT|[A-Z]{1,9}) (/task|/healthz|[!-~]{1,20}) HTTP/1.[01]\r\n((Content-Length|Transfer-Encoding|Expect|Connection|[!-~]{1,9}): [ -~]{0,20}\r\n){0,5}\r\n(.|\n){0,50}").unwrap();
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..2000), bent, header]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bytes_end_the_listener_or_fill_its_log() {
    let outside = Outside::start().await;
    let bench = Bench::new(&outside);
    let mut serving = bench.start();
    let address = address(&serving).await;
    let tried = tokio::task::spawn_blocking(move || {
        let mut runner = TestRunner::new(Config {
            cases: 300,
            failure_persistence: None,
            ..Config::default()
        });
        runner.run(&noise(), |bytes| {
            let fail = |what: &str, error: std::io::Error| TestCaseError::fail(format!("{what}: {error}"));
            let mut stream = std::net::TcpStream::connect(address).map_err(|e| fail("connect", e))?;
            stream.set_read_timeout(Some(SOON)).unwrap();
            // It may hang up on us at any moment.
            drop(stream.write_all(&bytes));
            drop(stream.shutdown(std::net::Shutdown::Write));
            let mut said = Vec::new();
            let read = stream.read_to_end(&mut said);
            let timed_out = read.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
            prop_assert!(!timed_out, "neither an answer nor an end");
            prop_assert!(
                said.is_empty() || said.starts_with(b"HTTP/1."),
                "{:?}",
                String::from_utf8_lossy(&said)
            );
            prop_assert!(!said.windows(12).any(|w| w == b"HTTP/1.1 500"));
            Ok(())
        })
    });
    tried.await.unwrap().unwrap();
    healthz(address).await.unwrap();
    let log = serving.log();
    assert!(log.lines().count() < 20, "{log}");
    assert_eq!(serving.assign(&outside.assignment()).await, Some(200));
    assert_eq!(serving.wait().await.code(), Some(0), "{}", serving.log());
}
