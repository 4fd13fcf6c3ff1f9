//! What is left of a task, sent away once its verdict is told: to a folder and to a server that takes a PUT, and whatever
//! either of them does, the verdict and the exit are what they would have been.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use nix::sys::signal::Signal;
use runner::adapters::archive::{Opened, is_bundle};
use runner::embedded::faults::{Endpoint, Fault, Times};
use runner::embedded::listening::{Connection, Listening};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::harness::{AGENT, Bench, CANARY, Outside, RUNNER, everything_below, files_with, until};
use crate::small_disk::SmallDisk;

/// Of an address that opens a door: nobody may see it.
const SIGNATURE: &str = "X-Signature=presigned0123456789abcdef";

/// What a server does with a PUT.
#[derive(Debug, Clone, PartialEq)]
enum With {
    Take,
    Answer(StatusCode),
    /// Takes it, and never says so.
    Silence,
    /// Leads elsewhere: to itself, by another path.
    Redirect,
    /// Cuts the connection.
    Reset,
}

/// A request that came, and its body.
#[derive(Debug, Clone)]
struct Put {
    path_and_query: String,
    length: Option<String>,
    kind: Option<String>,
    agent: Option<String>,
    body: Bytes,
    /// What was in the secrets directory then.
    sealed: bool,
}

/// A server that takes archives.
struct Taker {
    listening: Listening,
    shared: Arc<Shared>,
}

struct Shared {
    /// What is done with one after the other; with the rest what the last says.
    with: Mutex<Vec<With>>,
    puts: Mutex<Vec<Put>>,
    /// Where a token would be sealed.
    secrets: Mutex<PathBuf>,
}

impl Taker {
    async fn start(with: &[With]) -> Self {
        let shared = Arc::new(Shared {
            with: Mutex::new(with.to_vec()),
            puts: Mutex::default(),
            secrets: Mutex::default(),
        });
        let routes = Router::new().fallback(take).with_state(Arc::clone(&shared));
        Self {
            listening: Listening::start(routes).await.unwrap(),
            shared,
        }
    }

    fn url(&self) -> String {
        format!("{}/bucket/one?{SIGNATURE}", self.listening.base())
    }

    fn puts(&self) -> Vec<Put> {
        self.shared.puts.lock().unwrap().clone()
    }

    /// The archive that came last, as a file.
    fn last(&self, dir: &Path) -> PathBuf {
        let path = dir.join("taken.tar.zst");
        std::fs::write(&path, &self.puts().last().expect("a PUT").body).unwrap();
        path
    }
}

impl Shared {
    /// What a request says of itself.
    fn head(&self, request: &Request) -> Put {
        assert_eq!(request.method(), "PUT");
        let header = |name: &str| {
            request
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let secrets = self.secrets.lock().unwrap();
        Put {
            path_and_query: request.uri().to_string(),
            length: header("content-length"),
            kind: header("content-type"),
            agent: header("user-agent"),
            body: Bytes::new(),
            sealed: std::fs::read_dir(&*secrets).is_ok_and(|mut entries| entries.next().is_some()),
        }
    }

    fn next(&self) -> With {
        let mut with = self.with.lock().unwrap();
        if with.len() > 1 {
            with.remove(0)
        } else {
            with[0].clone()
        }
    }
}

async fn take(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let head = shared.head(&request);
    // A runner that is killed while it sends has sent half of one.
    let Ok(body) = axum::body::to_bytes(request.into_body(), usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    shared.puts.lock().unwrap().push(Put { body, ..head });
    match shared.next() {
        With::Take => StatusCode::CREATED.into_response(),
        With::Answer(status) => (status, format!("no: {SIGNATURE}")).into_response(),
        With::Silence => std::future::pending().await,
        With::Redirect => (StatusCode::TEMPORARY_REDIRECT, [("location", "/elsewhere")]).into_response(),
        With::Reset => connection.cut(),
    }
}

fn journal(verb: &[&str], path: &Path) -> Output {
    Command::new(RUNNER)
        .arg("journal")
        .args(verb)
        .arg(path)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn rows(path: &Path) -> Vec<Value> {
    let dumped = journal(&["dump", "--format", "ndjson"], path);
    assert!(dumped.status.success(), "{}", stderr(&dumped));
    stdout(&dumped)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A bundle that is whole, and what its journal has: the bench's, up to the archive's own intent.
fn is_of(bundle: &Path, bench: &Bench) -> Opened {
    let opened = Opened::unpack(bundle).unwrap();
    assert!(opened.problems.is_empty(), "{:?}", opened.problems);
    for verb in [&["verify"][..], &["replay"], &["dump"]] {
        let output = journal(verb, bundle);
        assert_eq!(output.status.code(), Some(0), "{verb:?}: {}", stderr(&output));
    }
    // It is known by the archive's name: what it was unpacked into is gone when that is read.
    for verb in [&["verify"][..], &["verify", "--json"], &["dump", "--format", "html"]] {
        let said = stdout(&journal(verb, bundle));
        assert!(said.contains(bundle.to_str().unwrap()), "{verb:?}");
        assert!(!said.contains("/journal.db"), "{verb:?}");
    }
    let (inside, all) = (rows(bundle), bench.dump());
    assert_eq!(inside[..], all[..inside.len()], "the same rows");
    let last = inside.last().unwrap();
    assert_eq!((&last["kind"], &last["effect"]), (&"intent".into(), &"archive".into()));
    let manifest = opened.manifest.as_ref().unwrap();
    assert_eq!(manifest.journal_head, last["hash"]);
    let head = journal(&["verify", "--head", &manifest.journal_head], bundle);
    assert_eq!(head.status.code(), Some(0), "{}", stderr(&head));
    let position = |wanted: &str| inside.iter().position(|row| row["kind"] == wanted);
    assert!(position("verdict") < position("ack") && position("ack").is_some());
    opened
}

/// The one file of a folder is a task's archive, whole, with the verdict that was told.
pub(crate) fn is_there_and_whole(folder: &Path, verdict: &Value, place: &str) {
    let names: Vec<PathBuf> = everything_below(folder).into_iter().map(|(path, _)| path).collect();
    let bundle = folder.join("t-1.tar.zst");
    assert_eq!(names, std::slice::from_ref(&bundle), "{place}: half of one is left");
    let opened = Opened::unpack(&bundle).unwrap();
    assert!(opened.problems.is_empty(), "{place}: {:?}", opened.problems);
    assert_eq!(
        opened.manifest.as_ref().unwrap().verdict.message,
        verdict["message"],
        "{place}"
    );
    let verified = journal(
        &["verify", "--head", &opened.manifest.as_ref().unwrap().journal_head],
        &bundle,
    );
    assert_eq!(verified.status.code(), Some(0), "{place}: {}", stderr(&verified));
}

/// What the archive came to, by its last outcome.
fn outcome(bench: &Bench) -> Value {
    let outcomes = bench.rows("outcome", Some("archive"));
    outcomes.last().map_or(Value::Null, |row| row["body"].clone())
}

fn folder(dir: &Path) -> String {
    format!("file://{}/", dir.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_archived_whole_once_its_verdict_is_told_and_every_journal_command_reads_the_archive() {
    let outside = Outside::start().await;
    let archive = tempfile::tempdir().unwrap();
    let bench = Bench::new(&outside).with("RUNNER_ARCHIVE_URL", &folder(archive.path()));
    let (code, log) = bench.once(&outside).await;
    assert_eq!(code, Some(0), "{log}");
    let names: Vec<_> = everything_below(archive.path())
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    let bundle = archive.path().join("t-1.tar.zst");
    assert_eq!(names, std::slice::from_ref(&bundle), "nothing else is left there");
    assert_eq!(bundle.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(is_bundle(&bundle) && !is_bundle(&bench.journal()));
    let opened = is_of(&bundle, &bench);
    let manifest = opened.manifest.as_ref().unwrap();
    let verdict = outside.verdict();
    assert_eq!(verdict["message"], manifest.verdict.message);
    assert_eq!(
        (manifest.task_id.as_str(), manifest.boots, manifest.state.as_str()),
        ("t-1", 1, "Reported")
    );
    let paths: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    let wanted = [
        "journal.db",
        "journal.db-wal",
        "change.diff",
        "runner.log",
        "agent/transcript-1.jsonl.zst",
    ];
    assert_eq!(paths, wanted);
    assert!(manifest.left_out.is_empty(), "{:?}", manifest.left_out);
    let read = |name: &str| std::fs::read_to_string(opened.directory().join(name)).unwrap();
    let diff = read("change.diff");
    assert!(diff.contains("+++ b/change.txt") && diff.contains("+change"), "{diff}");
    let kept = read("runner.log");
    assert!(kept.contains("entered Reported") && kept.lines().count() > 10, "{kept}");
    assert!(
        kept.lines().all(|line| log.contains(line)),
        "the lines of standard error"
    );
    let done = outcome(&bench);
    let bytes = std::fs::read(&bundle).unwrap();
    assert_eq!(done["fact"]["sha256"], hex::encode(Sha256::digest(&bytes)), "{done}");
    assert_eq!(
        (&done["fact"]["to"], &done["fact"]["bytes"]),
        (&bundle.to_str().unwrap().into(), &bytes.len().into())
    );
    // No secret, no repository, nothing of the agent's home.
    assert!(files_with(opened.directory(), CANARY).is_empty());
    // Nothing more is done by a later start.
    assert_eq!(bench.once(&outside).await.0, Some(0));
    assert_eq!(std::fs::read(&bundle).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gets_one_put_of_a_known_length_after_the_token_is_gone_and_its_address_is_nowhere() {
    let outside = Outside::start().await;
    let taker = Taker::start(&[With::Take]).await;
    let bench = Bench::new(&outside)
        .with("RUNNER_ARCHIVE_URL", &taker.url())
        .with("RUNNER_LOG", "trace");
    *taker.shared.secrets.lock().unwrap() = bench.path("secrets");
    let (code, log) = bench.once(&outside).await;
    assert_eq!(code, Some(0), "{log}");
    let puts = taker.puts();
    let [put] = &puts[..] else {
        panic!("{}: {log}", puts.len())
    };
    assert_eq!(put.path_and_query, format!("/bucket/one?{SIGNATURE}"));
    assert_eq!(put.length, Some(put.body.len().to_string()));
    assert_eq!(put.kind.as_deref(), Some("application/zstd"));
    assert!(
        put.agent.as_deref().unwrap_or_default().starts_with("runner/"),
        "{put:?}"
    );
    assert!(!put.sealed, "the token is gone before anything leaves");
    let bundle = taker.last(bench.dir.path());
    let opened = is_of(&bundle, &bench);
    std::fs::remove_file(&bundle).unwrap();
    let done = outcome(&bench);
    assert_eq!(done["fact"]["to"], taker.listening.address().to_string(), "{done}");
    for secret in ["presigned0123456789abcdef", "bucket/one"] {
        assert!(!log.contains(secret), "{log}");
        for dir in [bench.dir.path(), opened.directory()] {
            let holding = files_with(dir, secret);
            assert!(holding.is_empty(), "{secret}: {holding:?}");
        }
    }
}

/// A task that completes and one that fails, each with whatever the archive meets.
async fn ends_as_without(with: &[With], url: impl Fn(&Taker) -> String) -> (Taker, Value, String) {
    let mut last = None;
    for (agent, code, event) in [(AGENT, 0, "completed"), ("cat > /dev/null; exit 1", 1, "failed")] {
        let outside = Outside::start().await;
        let taker = Taker::start(with).await;
        let bench = Bench::new(&outside)
            .with("RUNNER_AGENT_COMMAND", agent)
            .with("RUNNER_ARCHIVE_URL", &url(&taker));
        let (ended, log) = bench.once(&outside).await;
        assert_eq!(ended, Some(code), "{log}");
        assert_eq!(outside.verdict()["event"], event);
        assert_eq!(outside.counts().verdicts_received.len(), 1);
        let rows = bench.dump();
        let acknowledged = rows.iter().position(|row| row["kind"] == "ack").unwrap();
        let begun = rows
            .iter()
            .position(|row| row["kind"] == "intent" && row["effect"] == "archive")
            .unwrap();
        assert!(acknowledged < begun, "the verdict is told first");
        let state = rows.iter().rev().find(|row| row["kind"] == "enter").unwrap();
        assert_eq!(state["to"], "Reported");
        let out = outcome(&bench);
        assert!(
            !log.contains(SIGNATURE) && !out.to_string().contains(SIGNATURE),
            "{out}: {log}"
        );
        // The next start finds nothing to do, and tries nothing.
        let before = taker.puts().len();
        assert_eq!(bench.once(&outside).await.0, Some(0));
        assert_eq!(taker.puts().len(), before);
        last = Some((taker, out, log));
    }
    last.unwrap()
}

fn is_missed(outcome: &Value, log: &str, why: &str) {
    assert_eq!(outcome["outcome"], "missed", "{outcome}");
    assert!(outcome["cause"].as_str().unwrap().contains(why), "{outcome}");
    assert!(log.contains("archive failed, and is not tried again"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_is_asked_once_and_the_verdict_stands() {
    let (taker, out, log) = ends_as_without(&[With::Answer(StatusCode::FORBIDDEN)], Taker::url).await;
    is_missed(&out, &log, "it answered 403 Forbidden");
    assert_eq!(taker.puts().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed() {
    let (taker, out, log) = ends_as_without(&[With::Redirect], Taker::url).await;
    is_missed(
        &out,
        &log,
        "it answered 307 Temporary Redirect, and redirects are not followed",
    );
    assert_eq!(taker.puts().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_overloaded_is_asked_five_times_and_one_that_is_there_again_gets_it() {
    let busy = With::Answer(StatusCode::SERVICE_UNAVAILABLE);
    let (taker, out, log) = ends_as_without(std::slice::from_ref(&busy), Taker::url).await;
    is_missed(&out, &log, "it answered 503");
    assert_eq!(taker.puts().len(), 5);
    let (taker, out, _) = ends_as_without(&[busy, With::Reset, With::Take], Taker::url).await;
    assert_eq!(out["outcome"], "done", "{out}");
    assert_eq!(taker.puts().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_looked_for_five_times() {
    // Of a port that nobody listens on any more.
    let gone = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let (_, out, log) = ends_as_without(&[With::Take], |_| format!("http://{}/one?{SIGNATURE}", gone())).await;
    is_missed(&out, &log, "the request was not sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_there_or_is_none_is_told_and_nothing_is_made_in_its_place() {
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (name, why) in [("absent", "No such file or directory"), ("file", "Not a directory")] {
        let url = folder(&room.path().join(name));
        let (_, out, log) = ends_as_without(&[With::Take], |_| url.clone()).await;
        is_missed(&out, &log, why);
        let warned = log.find("which is no directory here").expect("it is said at the start");
        assert!(warned < log.find("entered Assigned").unwrap(), "{log}");
    }
    assert_eq!(everything_below(room.path()), [(file, Vec::new())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_full_is_told_and_no_half_of_an_archive_is_left_in_it() {
    if !nix::unistd::geteuid().is_root() {
        println!("not run: to mount a small file system takes root");
        return;
    }
    let full = tempfile::tempdir().unwrap();
    // One page: an archive has some 8,000 bytes.
    let _disk = SmallDisk::at(full.path(), "size=4k");
    let url = folder(full.path());
    let (_, out, log) = ends_as_without(&[With::Take], |_| url.clone()).await;
    is_missed(&out, &log, "No space left on device");
    assert_eq!(everything_below(full.path()), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_a_put_the_next_start_sends_it_again_and_finds_nothing_else_to_do() {
    let outside = Outside::start().await;
    let taker = Taker::start(&[With::Silence, With::Take]).await;
    let bench = Bench::new(&outside)
        .with("RUNNER_AGENT_COMMAND", "cat > /dev/null; exit 1")
        .with("RUNNER_ARCHIVE_URL", &taker.url());
    let mut first = bench.start();
    first.assign(&outside.assignment()).await;
    until("it is being sent", &first, || !taker.puts().is_empty()).await;
    first.kill().await;
    let (code, log) = bench.once(&outside).await;
    assert_eq!(code, Some(0), "the failure was told by the first start: {log}");
    assert_eq!(outside.counts().verdicts_received.len(), 1);
    assert_eq!(taker.puts().len(), 2);
    let opened = is_of(&taker.last(bench.dir.path()), &bench);
    assert_eq!(opened.manifest.as_ref().unwrap().boots, 2);
    assert_eq!(bench.rows("verdict", None).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_while_a_server_is_silent_the_exit_is_the_verdicts_and_the_next_start_archives() {
    for (agent, code) in [(AGENT, 0), ("cat > /dev/null; exit 1", 1)] {
        let outside = Outside::start().await;
        let taker = Taker::start(&[With::Silence, With::Take]).await;
        let bench = Bench::new(&outside)
            .with("RUNNER_AGENT_COMMAND", agent)
            .with("RUNNER_ON_TERM", "park")
            .with("RUNNER_TERM_GRACE", "1s")
            .with("RUNNER_ARCHIVE_URL", &taker.url());
        let mut serving = bench.start();
        serving.assign(&outside.assignment()).await;
        until("it is being sent", &serving, || !taker.puts().is_empty()).await;
        serving.signal(Signal::SIGTERM);
        let begun = std::time::Instant::now();
        let status = serving.wait().await;
        assert_eq!(
            (status.code(), status.signal()),
            (Some(code), None),
            "{}",
            serving.log()
        );
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert_eq!(bench.rows("outcome", Some("archive")).len(), 0);
        assert_eq!(bench.once(&outside).await.0, Some(0));
        assert_eq!(outcome(&bench)["outcome"], "done");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_was_ended_elsewhere_is_archived_and_one_that_is_not_delivered_is_not() {
    let outside = Outside::start().await;
    let archive = tempfile::tempdir().unwrap();
    let bench = Bench::new(&outside).with("RUNNER_ARCHIVE_URL", &folder(archive.path()));
    outside
        .faults
        .inject(Endpoint::Data, Fault::Status(410), Times::Next(1));
    assert_eq!(bench.once(&outside).await.0, Some(0));
    let bundle = archive.path().join("t-1.tar.zst");
    let opened = Opened::unpack(&bundle).unwrap();
    assert_eq!(
        opened.manifest.as_ref().unwrap().verdict.event.to_string(),
        "superseded"
    );

    let outside = Outside::start().await;
    let archive = tempfile::tempdir().unwrap();
    let bench = Bench::new(&outside)
        .with("RUNNER_API_PATIENCE", "200ms")
        .with("RUNNER_ARCHIVE_URL", &folder(archive.path()));
    outside.faults.inject(Endpoint::Verdict, Fault::Refuse, Times::Always);
    assert_eq!(bench.once(&outside).await.0, Some(75));
    assert!(everything_below(archive.path()).is_empty());
    outside.faults.clear(Endpoint::Verdict);
    assert_eq!(bench.once(&outside).await.0, Some(0));
    is_of(&archive.path().join("t-1.tar.zst"), &bench);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_for_a_secret_is_archived_without_it_and_a_long_transcript_is_archived_whole() {
    let outside = Outside::start().await;
    let archive = tempfile::tempdir().unwrap();
    // Half of a token in the agent's hands would do; it has the whole here, as if it had been told it.
    let agent = format!("cat > /dev/null; head -c 6000000 /dev/urandom | base64 -w 100; echo {CANARY} > leak.txt");
    let bench = Bench::new(&outside)
        .with("RUNNER_AGENT_COMMAND", &agent)
        .with("RUNNER_ARCHIVE_URL", &folder(archive.path()));
    let (code, log) = bench.once(&outside).await;
    assert_eq!(code, Some(1), "{log}");
    assert_eq!(outside.verdict()["details"]["reason"], "PolicyViolation");
    let bundle = archive.path().join("t-1.tar.zst");
    let opened = is_of(&bundle, &bench);
    let refused = std::fs::read_to_string(opened.directory().join("refused.diff")).unwrap();
    assert!(
        refused.contains("+++ b/leak.txt") && refused.contains("[redacted]"),
        "{refused}"
    );
    assert!(files_with(opened.directory(), CANARY).is_empty());
    let name = "agent/transcript-1.jsonl.zst";
    let (kept, own) = (opened.directory().join(name), bench.path("state").join(name));
    assert!(own.metadata().unwrap().len() > 4_000_000);
    assert!(std::fs::read(kept).unwrap() == std::fs::read(own).unwrap());

    // Cut in the transcript, the journal in it is still whole, and what is missing is said.
    let bytes = std::fs::read(&bundle).unwrap();
    let cut = archive.path().join("cut.tar.zst");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let verified = journal(&["verify"], &cut);
    assert_eq!(verified.status.code(), Some(1), "{}", stderr(&verified));
    assert!(stdout(&verified).contains("whole, "), "{}", stdout(&verified));
    assert!(
        stderr(&verified).contains("transcript-1.jsonl.zst is cut"),
        "{}",
        stderr(&verified)
    );
    let dumped = journal(&["dump", "--format", "ndjson"], &cut);
    assert_eq!(
        (dumped.status.code(), stdout(&dumped)),
        (Some(1), stdout(&journal(&["dump", "--format", "ndjson"], &bundle)))
    );
    std::fs::write(&cut, &bytes[..8]).unwrap();
    let verified = journal(&["verify"], &cut);
    assert_eq!(verified.status.code(), Some(3), "{}", stderr(&verified));
    assert!(
        stderr(&verified).contains("has no journal.db in it"),
        "{}",
        stderr(&verified)
    );
}

#[test]
fn where_no_archive_can_go_is_exit_2_with_what_is_allowed_and_touches_nothing() {
    for (url, why) in [
        ("s3://bucket/key?sig=secret0123456789", "its scheme is \"s3\""),
        ("/archive", "it is no absolute URL"),
        (
            "http://archive.example.org/one?sig=secret0123456789",
            "plain http:// goes to loopback alone",
        ),
        ("file://host/archive/", "no host"),
        (
            "https://archive.example.org/one#sig=secret0123456789",
            "it has a fragment",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let output = Command::new(RUNNER)
            .arg("serve")
            .env_clear()
            .env("RUNNER_ARCHIVE_URL", url)
            .env("RUNNER_STATE_DIR", dir.path().join("state"))
            .env("RUNNER_SECRETS_DIR", dir.path().join("secrets"))
            .env("RUNNER_WORKSPACE", dir.path().join("workspace"))
            .output()
            .unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{url}: {said}");
        assert!(
            said.contains(why) && said.contains("file:///archive/ and an https:// address"),
            "{url}: {said}"
        );
        assert!(!said.contains("secret0123456789"), "{said}");
        assert!(everything_below(dir.path()).is_empty(), "{url}");
    }
    // Neither has it a flag, which everybody could read.
    let flag = Command::new(RUNNER)
        .args(["serve", "--archive-url", "file:///archive/"])
        .output()
        .unwrap();
    assert_eq!(flag.status.code(), Some(2));
}

#[test]
fn an_archive_that_anybody_made_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hostile.tar.zst");
    let encoder = zstd::stream::write::Encoder::new(std::fs::File::create(&path).unwrap(), 1).unwrap();
    let mut tar = tar::Builder::new(encoder);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "journal.db", "/etc/passwd").unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    let output = journal(&["verify"], &path);
    assert_eq!(output.status.code(), Some(3));
    let said = stderr(&output);
    assert!(
        said.contains("an entry \"journal.db\", which is no plain file"),
        "{said}"
    );
}
