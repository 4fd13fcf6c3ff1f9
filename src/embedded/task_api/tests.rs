use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use super::*;
use crate::embedded::faults::Fault;
use crate::task::TaskRepo;

fn task() -> TaskId {
    "t".parse().unwrap()
}

async fn server(faults: Faults) -> TaskApiServer {
    let server = TaskApiServer::start(faults).await.unwrap();
    let data = TaskData {
        description: String::new(),
        context: String::new(),
        source_url: None,
        repo: TaskRepo {
            url: String::new(),
            git_ref: None,
        },
    };
    server.add_task(&task(), data, Mint::failing());
    server
}

/// Everything that comes back on the socket, and how it ended.
fn raw_exchange(server: &TaskApiServer, request: &str) -> (String, Option<ErrorKind>) {
    let mut stream = TcpStream::connect(server.listening().address()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut received = Vec::new();
    let ended = stream.read_to_end(&mut received).err().map(|error| error.kind());
    (String::from_utf8(received).unwrap(), ended)
}

const GET_DATA: &str = "GET /api/v1/tasks/t/data HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_is_reset_without_one_byte_of_an_answer() {
    for (fault, ending) in [(Fault::Refuse, Ending::CutBefore), (Fault::DropAfter, Ending::CutAfter)] {
        let faults = Faults::new();
        let server = server(faults.clone()).await;
        faults.inject(Endpoint::Data, fault, Times::Next(1));
        let cut = raw_exchange(&server, GET_DATA);
        assert_eq!(cut, (String::new(), Some(ErrorKind::ConnectionReset)));
        assert_eq!(server.calls(Endpoint::Data)[0].ending, ending);

        let (answer, ended) = raw_exchange(&server, GET_DATA);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert_eq!(ended, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_does_not_say_it_is_json_is_not_looked_at() {
    let server = server(Faults::new()).await;
    let body = r#"{"event":"completed","message":"","details":{}}"#;
    for (media_type, status) in [("text/plain", "415"), ("application/json; charset=utf-8", "200")] {
        let request = format!(
            "POST /api/v1/tasks/t/status HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (answer, _) = raw_exchange(&server, &request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{media_type}: {answer}"
        );
    }
    assert_eq!(server.counts(&task()).verdicts_received.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_dropped_takes_no_connection() {
    let server = server(Faults::new()).await;
    let address = server.listening().address();
    drop(server);
    // The listening task ends at its next chance to run.
    while TcpStream::connect(address).is_ok() {
        tokio::task::yield_now().await;
    }
}
