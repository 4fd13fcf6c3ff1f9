//! `GET /healthz` of a runner on this machine: one blocking exchange without a proxy, because a health check is a process
//! of its own every few seconds. The HTTP client would read all root certificates first.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::adapters::http::USER_AGENT;

/// A status line is shorter, in bytes.
const LINE_LIMIT: usize = 256;

/// Why a runner is not known to be healthy.
#[derive(Debug, Error)]
pub enum Unhealthy {
    /// No connection, or it broke off.
    #[error(transparent)]
    Unreachable(#[from] io::Error),
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// Another answer than 200.
    #[error("it answers {0}")]
    Status(u16),
    /// No HTTP.
    #[error("what answers there does not speak HTTP")]
    NotHttp,
}

/// Where a listener on `listen` is asked: one on every address by the loopback.
pub fn to_ask(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Asks for `/healthz`, and is content with a 200. Blocks for at most `bound`.
pub fn ask(address: SocketAddr, bound: Duration) -> Result<(), Unhealthy> {
    let end = Instant::now() + bound;
    let asked = status(address, end);
    match asked {
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
            Err(Unhealthy::TimedOut(bound))
        }
        Err(error) => Err(error.into()),
        Ok(Some(200)) => Ok(()),
        Ok(Some(other)) => Err(Unhealthy::Status(other)),
        Ok(None) => Err(Unhealthy::NotHttp),
    }
}

/// The status of the answer, if it is one.
fn status(address: SocketAddr, end: Instant) -> io::Result<Option<u16>> {
    let mut stream = TcpStream::connect_timeout(&address, left(end)?)?;
    stream.set_write_timeout(Some(left(end)?))?;
    // In one piece: a peer may answer, and hang up, after the first.
    let request =
        format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nUser-Agent: {USER_AGENT}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut line = Vec::new();
    let mut piece = [0; LINE_LIMIT];
    while !line.contains(&b'\n') && line.len() < LINE_LIMIT {
        stream.set_read_timeout(Some(left(end)?))?;
        match stream.read(&mut piece)? {
            0 => break,
            read => line.extend_from_slice(&piece[..read]),
        }
    }
    let line = String::from_utf8_lossy(&line);
    let number = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    Ok(number.and_then(|number| number.parse().ok()))
}

/// A time-out of nothing would be none at all.
fn left(end: Instant) -> io::Result<Duration> {
    match end.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Asks a peer that says this and hangs up, or, saying nothing, does not.
    fn asks(answer: &'static str, bound: Duration) -> Result<(), Unhealthy> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            if answer.is_empty() {
                // Until the other side has given up.
                assert_eq!(stream.read(&mut request).unwrap_or(0), 0);
            } else {
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let asked = ask(address, bound);
        peer.join().unwrap();
        asked
    }

    #[test]
    fn a_200_alone_is_healthy_and_the_bound_is_kept() {
        let bound = Duration::from_secs(30);
        asks("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", bound).unwrap();
        let refused = asks("HTTP/1.1 503 Service Unavailable\r\n\r\n", bound);
        assert!(matches!(refused, Err(Unhealthy::Status(503))), "{refused:?}");
        let other = asks("SSH-2.0-OpenSSH_9.2\r\n", bound);
        assert!(matches!(other, Err(Unhealthy::NotHttp)), "{other:?}");
        let silent = asks("", Duration::from_millis(100));
        assert!(matches!(silent, Err(Unhealthy::TimedOut(_))), "{silent:?}");
    }

    #[test]
    fn every_address_is_asked_by_the_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:8888", "127.0.0.1:8888"),
            ("[::]:8888", "[::1]:8888"),
            ("10.1.2.3:80", "10.1.2.3:80"),
        ] {
            assert_eq!(to_ask(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
