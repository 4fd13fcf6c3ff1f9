//! Where the agent can connect to: by every way to open a connection that the kernel has.

use std::net::TcpListener;

use runner::sandbox::Ports;

use super::attacker::{Attacker, DONE, EACCES, EPERM, answers, build};
use crate::harness::{Bench, Outside};

/// Something that listens, and its port.
fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn only(port: u16) -> Ports {
    Ports::Only([port].into())
}

const WAYS: [&str; 6] = [
    "tcp",
    "mptcp",
    "fast-open-sendto",
    "fast-open-sendmsg",
    "fast-open-sendmmsg",
    "fast-open-connect",
];

#[tokio::test]
async fn a_port_that_is_not_allowed_is_not_reached_in_any_way() {
    let (_listening, port) = listener();
    let acts: Vec<String> = WAYS.iter().map(|way| format!("{way}={port}")).collect();
    let acts: Vec<&str> = acts.iter().map(String::as_str).collect();
    let attacker = Attacker::new();
    let inside = attacker.tries_in_the_sandbox(&acts, only(1)).await;
    for way in WAYS {
        // Landlock's answer, and the filter's where Landlock does not look.
        let refused = if way == "tcp" || way == "fast-open-connect" {
            EACCES
        } else {
            EPERM
        };
        assert_eq!(inside[way], refused, "{way}");
    }
    let outside = attacker.tries_without(&acts).await;
    for way in WAYS.into_iter().filter(|way| *way != "mptcp") {
        assert_eq!(outside[way], DONE, "{way}");
    }
    // Not every kernel has it.
    assert_ne!(outside["mptcp"], EPERM);
}

#[tokio::test]
async fn a_port_that_is_allowed_is_reached_and_listening_and_datagrams_are_free() {
    let (_listening, port) = listener();
    let (_other, not_named) = listener();
    let reached = format!("tcp={port}");
    let attacker = Attacker::new();
    let acts = [reached.as_str(), "listen", "datagram=9"];
    let limited = attacker.tries_in_the_sandbox(&acts, only(port)).await;
    assert!(limited.values().all(|answer| answer == DONE), "{limited:?}");

    let mut more = only(1);
    more.allow(port);
    assert_eq!(attacker.tries_in_the_sandbox(&[&reached], more).await["tcp"], DONE);
    let any = format!("tcp={not_named}");
    assert_eq!(attacker.tries_in_the_sandbox(&[&any], Ports::Any).await["tcp"], DONE);
    let none = Ports::Only([].into());
    assert_eq!(attacker.tries_in_the_sandbox(&[&any], none).await["tcp"], EACCES);
}

/// A whole run, whose agent tries two ports. What it got of each, and the rights in the journal.
async fn run(ports: impl Fn(u16) -> String) -> ([String; 2], serde_json::Value) {
    let ((_first, first), (_second, second)) = (listener(), listener());
    let outside = Outside::start().await;
    let bench = Bench::new(&outside);
    let bin = bench.path("bin");
    std::fs::create_dir(&bin).unwrap();
    build(&bin.join("attacker"));
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let script = format!(
        "cat > /dev/null; echo change >> change.txt
         attacker tcp={first} > \"$HOME/first\"; attacker tcp={second} > \"$HOME/second\""
    );
    let bench = bench
        .with("PATH", &path)
        .with("RUNNER_AGENT_COMMAND", &script)
        .with("RUNNER_AGENT_PORTS", &ports(first));
    let (code, log) = bench.once(&outside).await;
    assert_eq!(code, Some(0), "{log}");
    let got = ["first", "second"].map(|name| {
        let said = std::fs::read_to_string(bench.path("workspace/home").join(name)).unwrap();
        answers(&said)["tcp"].clone()
    });
    let notes = bench.rows("note", None);
    (got, notes[0]["body"]["rights"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_ports_are_those_of_the_setting_and_the_journal_says_that_they_are_limited() {
    let (got, rights) = run(|first| format!("{first}, 443")).await;
    assert_eq!(got, [DONE, EACCES]);
    let whole = [
        "files",
        "refer",
        "truncate",
        "tcp",
        "ioctl",
        "abstract_sockets",
        "signals",
        "syscalls",
    ];
    assert_eq!(rights, serde_json::json!(whole));

    let (got, rights) = run(|_| String::new()).await;
    assert_eq!(got, [DONE, DONE]);
    let whole: Vec<&str> = whole.into_iter().filter(|right| *right != "tcp").collect();
    assert_eq!(rights, serde_json::json!(whole));
}
