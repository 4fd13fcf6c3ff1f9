//! The bounds, with a clock that the tests move, over real sockets. The control is what `axum::serve` does.

use axum::body::Bytes;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;

/// A door with routes that answer at once, never, or what they were sent.
struct Door {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

fn routes() -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/echo", post(|body: Bytes| async move { body }))
        .route(
            "/owed",
            get(|axum::Extension(owed): axum::Extension<Owed>| async move {
                owed.begin();
                std::future::pending::<()>().await;
            }),
        )
        .route("/large", get(|| async { vec![b'x'; LARGE] }))
}

impl Door {
    fn open() -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        Self {
            address,
            stop: Some(stop),
            serving: tokio::spawn(serve(listener, routes(), stopped)),
        }
    }

    async fn knock(&self, says: &[u8]) -> TcpStream {
        knock(self.address, says).await
    }

    async fn is_healthy(&self) -> bool {
        let mut stream = self.knock(HEALTHZ).await;
        begins_with(&mut stream, "HTTP/1.1 200 OK").await
    }
}

/// More than the kernel keeps of an answer that is not read.
const LARGE: usize = 16 << 20;
const HEALTHZ: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

async fn knock(address: SocketAddr, says: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(says).await.unwrap();
    stream
}

async fn begins_with(stream: &mut TcpStream, text: &str) -> bool {
    let mut begin = vec![0; text.len()];
    stream.read_exact(&mut begin).await.is_ok() && begin == text.as_bytes()
}

/// Everything until the connection ends, however it does.
async fn to_the_end(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    drop(stream.read_to_end(&mut all).await);
    String::from_utf8_lossy(&all).into_owned()
}

/// How long until a peer that says this, and then a further byte every few seconds, is rid of its connection.
async fn holds(address: SocketAddr, says: &[u8], drip: &[u8], bound: Duration) -> (Duration, String) {
    let begun = Instant::now();
    let (mut from, mut to) = knock(address, says).await.into_split();
    let drip = drip.to_vec();
    let dripping = tokio::spawn(async move {
        loop {
            sleep(Duration::from_secs(3)).await;
            if to.write_all(&drip).await.is_err() {
                return;
            }
        }
    });
    let mut all = Vec::new();
    let _ = timeout(bound, from.read_to_end(&mut all)).await;
    dripping.abort();
    (begun.elapsed(), String::from_utf8_lossy(&all).into_owned())
}

const SLOW_BODY: &[u8] = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_head_has_ten_seconds_and_what_drips_in_does_not_lengthen_them() {
    let door = Door::open();
    for (case, says, drip) in [
        ("silence", &b""[..], &b""[..]),
        ("a head without an end", b"GET /healthz HTTP/1.1\r\n", b"x: y\r\n"),
        ("one byte at a time", b"G", b"E"),
    ] {
        let (held, _) = holds(door.address, says, drip, HEAD_TIME * 3).await;
        assert!(
            held >= HEAD_TIME && held < HEAD_TIME + Duration::from_secs(1),
            "{case}: {held:?}"
        );
    }
}

/// The control: what has no bounds is held by the same peers for as long as they like.
#[tokio::test(start_paused = true)]
async fn without_the_door_the_same_peers_hold_their_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, routes()).await });
    let bound = Duration::from_mins(10);
    for (says, drip) in [
        (&b"GET /healthz HTTP/1.1\r\n"[..], &b"x: y\r\n"[..1]),
        (SLOW_BODY, b"x"),
    ] {
        let (held, said) = holds(address, says, drip, bound).await;
        assert!(held >= bound, "{held:?} {said}");
    }
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn an_answer_has_thirty_seconds_and_then_it_is_a_503() {
    let door = Door::open();
    let (held, said) = holds(
        door.address,
        b"GET /owed HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"",
        REQUEST_TIME * 2,
    )
    .await;
    assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
    assert!(
        held >= REQUEST_TIME && held < REQUEST_TIME + Duration::from_secs(1),
        "{held:?}"
    );
    // The routes that read a body have a bound of their own; this is the one that is there whatever a route does.
    let (held, said) = holds(door.address, SLOW_BODY, b"x", REQUEST_TIME * 2).await;
    assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
    assert!(held < REQUEST_TIME + HEAD_TIME, "{held:?}");
}

#[tokio::test]
async fn a_connection_is_for_one_request() {
    let door = Door::open();
    let said = to_the_end(door.knock(&HEALTHZ.repeat(3)).await).await;
    assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{said}");
    assert!(said.contains("connection: close\r\n") && said.ends_with("ok"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_read_its_answer_has_a_minute() {
    let door = Door::open();
    let deaf = door.knock(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
    sleep(CONNECTION_TIME / 2).await;
    let mut begin = [0; 8];
    deaf.peek(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1");
    sleep(CONNECTION_TIME).await;
    let got = to_the_end(deaf).await;
    assert!(got.len() < LARGE, "it was cut off, {} bytes on the way", got.len());
}

/// Without this, what the peer still sends would reset the connection, and the answer on its way with it.
#[tokio::test]
async fn who_sends_more_than_is_read_gets_the_answer_all_the_same() {
    let door = Door::open();
    for length in [200_000, 2_000_000] {
        let head = format!("POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        let mut stream = door.knock(head.as_bytes()).await;
        stream.write_all(&vec![b'x'; length]).await.unwrap();
        let said = to_the_end(stream).await;
        assert!(said.starts_with("HTTP/1.1 405 "), "{length}: {said}");
    }
}

#[tokio::test]
async fn the_oldest_makes_room_for_the_newest_and_who_is_owed_an_answer_is_spared() {
    let door = Door::open();
    let mut owed = door.knock(b"GET /owed HTTP/1.1\r\nHost: x\r\n\r\n").await;
    // It is answered behind the first one, so the first one is owed its answer by now.
    assert!(door.is_healthy().await);
    let mut slow = VecDeque::new();
    for _ in 0..CONNECTIONS * 2 {
        slow.push_back(door.knock(b"GET /healthz HTTP/1.1\r\n").await);
    }
    assert!(door.is_healthy().await, "behind twice as many as there may be");
    // The older half is gone.
    for _ in 0..CONNECTIONS {
        let mut stream = slow.pop_front().unwrap();
        assert!(stream.read(&mut [0; 1]).await.map_or(true, |read| read == 0));
    }
    // The newest is there, and goes on.
    let mut newest = slow.pop_back().unwrap();
    newest.write_all(b"Host: x\r\n\r\n").await.unwrap();
    assert!(begins_with(&mut newest, "HTTP/1.1 200 OK").await);
    // And so is the one that was first of all.
    let spared = timeout(Duration::from_millis(50), owed.read(&mut [0; 1])).await;
    assert!(spared.is_err(), "{spared:?}");
}

#[tokio::test(start_paused = true)]
async fn where_all_are_owed_an_answer_the_next_one_comes_in_when_the_first_has_it() {
    let door = Door::open();
    let mut owed = Vec::new();
    for _ in 0..CONNECTIONS {
        owed.push(
            door.knock(b"GET /owed HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                .await,
        );
    }
    let begun = Instant::now();
    assert!(door.is_healthy().await);
    let bound = REQUEST_TIME + LINGER_TIME + Duration::from_secs(1);
    assert!(begun.elapsed() <= bound, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn when_the_listener_ends_answers_under_way_are_given_and_nobody_else_comes_in() {
    let mut door = Door::open();
    let silent = door.knock(b"").await;
    let mut asking = door
        .knock(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nh")
        .await;
    assert!(door.is_healthy().await);
    drop(door.stop.take());
    assert_eq!(to_the_end(silent).await, "");
    assert!(TcpStream::connect(door.address).await.is_err(), "nobody listens");
    asking.write_all(b"i").await.unwrap();
    let said = to_the_end(asking).await;
    assert!(said.starts_with("HTTP/1.1 200 OK") && said.ends_with("hi"), "{said}");
    door.serving.await.unwrap();
}

/// What is no proper request, or two things at once, and the status that it gets; none where there is no answer.
fn odd_requests() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let long = "x".repeat(HEAD_LIMIT);
    let many = "x: y\r\n".repeat(101);
    let with =
        |headers: &str, body: &str| format!("POST /echo HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}").into_bytes();
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    vec![
        (
            "two lengths that agree",
            with("Content-Length: 2\r\nContent-Length: 2\r\n", "hi"),
            "200",
        ),
        (
            "two lengths",
            with("Content-Length: 2\r\nContent-Length: 3\r\n", "hi!"),
            "400",
        ),
        ("two lengths in one", with("Content-Length: 2, 3\r\n", "hi!"), "400"),
        ("a length below nothing", with("Content-Length: -2\r\n", "hi"), "400"),
        ("a length with a sign", with("Content-Length: +2\r\n", "hi"), "400"),
        (
            "a length beyond all",
            with("Content-Length: 99999999999999999999\r\n", "hi"),
            "400",
        ),
        (
            "a length and chunks: the chunks count, and what follows them is not read",
            with(
                "Content-Length: 100\r\nTransfer-Encoding: chunked\r\n",
                &format!("2\r\nhi\r\n0\r\n\r\n{smuggled}"),
            ),
            "200",
        ),
        (
            "chunks twice",
            with("Transfer-Encoding: chunked, chunked\r\n", "2\r\nhi\r\n0\r\n\r\n"),
            "200",
        ),
        (
            "a coding that ends nowhere",
            with("Transfer-Encoding: gzip\r\n", "hi"),
            "400",
        ),
        (
            "chunks in disguise",
            with("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
            "400",
        ),
        (
            "a folded header",
            with("A: b\r\n c\r\nContent-Length: 0\r\n", ""),
            "400",
        ),
        ("a bare NUL", with("A: b\0c\r\n", ""), "400"),
        (
            "a chunk of no size",
            with("Transfer-Encoding: chunked\r\n", "zz\r\nhi\r\n0\r\n\r\n"),
            "400",
        ),
        (
            "a head that is too long",
            format!("GET / HTTP/1.1\r\nA: {long}\r\n\r\n").into_bytes(),
            "431",
        ),
        (
            "an address that is too long",
            format!("GET /{long} HTTP/1.1\r\n\r\n").into_bytes(),
            "431",
        ),
        (
            "too many headers",
            format!("GET /healthz HTTP/1.1\r\n{many}\r\n").into_bytes(),
            "431",
        ),
        ("HTTP/1.0", b"GET /healthz HTTP/1.0\r\n\r\n".to_vec(), "200"),
        ("HTTP/0.9", b"GET /healthz\r\n\r\n".to_vec(), "400"),
        (
            "HTTP/2",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
            "",
        ),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "400"),
        ("SSH", b"SSH-2.0-OpenSSH_9.7\r\n".to_vec(), "400"),
        (
            "a tunnel",
            b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            "404",
        ),
        (
            "a proxy's request",
            b"GET http://169.254.169.254/ HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            "404",
        ),
        (
            "an upgrade",
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n".to_vec(),
            "200",
        ),
    ]
}

/// The next peer is served.
#[tokio::test]
async fn what_is_no_proper_request_is_answered_or_shown_out() {
    let door = Door::open();
    for (case, says, status) in odd_requests() {
        let answers = usize::from(!status.is_empty());
        let mut stream = door.knock(&says).await;
        stream.shutdown().await.unwrap();
        let said = timeout(Duration::from_secs(5), to_the_end(stream)).await.expect(case);
        assert_eq!(said.get(9..12).unwrap_or_default(), status, "{case}: {said}");
        assert_eq!(said.matches("HTTP/1.").count(), answers, "{case}: {said}");
        assert!(door.is_healthy().await, "{case}");
    }
}
