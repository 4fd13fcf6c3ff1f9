//! A canary for every secret of a run at once, an agent that tells all it can get at, and the search for each of them in
//! everything that the run left, said, sent and showed.

mod way_out;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::Router;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use runner::adapters::archive::Opened;
use runner::embedded::faults::{Endpoint, Fault, Times};
use runner::embedded::listening::Listening;
use runner::redact::MARKER;
use runner::secret::Secret;
use runner::task::{TaskData, TaskRepo};
use runner_journal::{Hash, Snapshot};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::harness::{Bench, CANARY, Outside, RUNNER, Serving, client, data};
use crate::messages_api::MessagesApi;
use crate::traces::{self, Canary, OPERATORS, Trace, found_in, watch_processes};
use way_out::{USER, WayOut};

// None has a known shape, each begins in its own way, and all have what encodings treat in theirs.
const REPOSITORY: &str = "repository/canary+~\"1?x";
const DOOR: &str = "door/canary+~\"2?xy";
const API: &str = "task-api/canary+~\"3?xyz";
const MODEL: &str = "model/canary+~\"4?x";
const SEAL: &str = "seal/canary+~\"5?xy-0123456789abcdef";
const PROXY: &str = "proxy/canary+~\"6?xyz";
/// Of no run: an agent that looks at all processes of the machine takes it for nothing of its own.
const PLANTED: &str = "planted/secret+~\"7?x";

/// Arguments can be read by everybody: one room's agent would find what another's tells.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

fn canaries() -> [Canary; 6] {
    [
        Canary::new("repository", REPOSITORY),
        Canary::new("door", DOOR),
        Canary::new("api", API),
        Canary::new("model", MODEL),
        Canary::new("seal", SEAL),
        Canary::new("proxy", PROXY),
    ]
}

/// As it stands in an address.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").unwrap();
        }
        encoded
    })
}

/// How the operator gives what can be given in two ways.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Variable,
    File,
}

/// A run and the world around it, all of which the runner reaches by the way out.
struct Room {
    outside: Outside,
    _model: MessagesApi,
    way_out: WayOut,
    /// The operator's files, which are no part of what the run leaves.
    operator: TempDir,
    bench: Bench,
    _alone: MutexGuard<'static, ()>,
}

impl Room {
    async fn new(agent: &str, by: By) -> Self {
        let alone = ONE_AT_A_TIME.lock().await;
        let outside = Outside::with_token(REPOSITORY).await;
        outside.api.require_bearer(Secret::new(API));
        let repo = TaskRepo {
            url: "http://git.runner.example/o/r".to_owned(),
            git_ref: None,
        };
        let task = TaskData {
            repo,
            ..data(&outside.git)
        };
        outside.add_task(task, Secret::new(REPOSITORY));
        // Long enough to be seen at it.
        for endpoint in [Endpoint::GitFetch, Endpoint::GitPush] {
            let held = Fault::Delay(Duration::from_millis(200));
            outside.faults.inject(endpoint, held, Times::Next(1));
        }
        let model = MessagesApi::start().await;
        let servers = vec![
            ("api.runner.example", outside.api.listening().base()),
            ("git.runner.example", format!("http://{}", outside.git.address())),
            ("forge.runner.example", outside.forge.listening().base()),
            ("model.runner.example", model.url().to_owned()),
        ];
        let way_out = WayOut::start(PROXY, servers).await;
        let operator = tempfile::tempdir().unwrap();
        let mut bench = Bench::new(&outside);
        let bin = bench.path("bin");
        fs::create_dir(&bin).unwrap();
        let places = format!(
            "'{}' '{}' '{}'",
            bench.path("state").display(),
            bench.path("secrets").display(),
            operator.path().display()
        );
        let script = include_str!("canaries/tell_all.sh").replace("@PLACES@", &places);
        fs::write(bin.join("claude"), script).unwrap();
        fs::set_permissions(bin.join("claude"), fs::Permissions::from_mode(0o755)).unwrap();
        let proxy = format!("http://{USER}:{}@{}", percent_encoded(PROXY), way_out.authority());
        let file = |name: &str, text: &str| {
            fs::write(operator.path().join(name), format!("{text}\n")).unwrap();
            operator.path().join(name).to_str().unwrap().to_owned()
        };
        bench = bench
            .with("PATH", &format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()))
            .with("RUNNER_LOG", "trace")
            .with("RUNNER_AGENT", agent)
            .with("RUNNER_AGENT_COMMAND", "claude")
            .with("RUNNER_ALLOW_HTTP", "true")
            .with("RUNNER_GITHUB_API_URL", "http://forge.runner.example")
            .with("ANTHROPIC_BASE_URL", "http://model.runner.example")
            // git reads the one, everybody else the other.
            .with("http_proxy", &proxy)
            .with("HTTP_PROXY", &proxy)
            .with("RUNNER_API_TOKEN_FILE", &file("api", "of-yesterday"))
            .with("RUNNER_SEAL_KEY_FILE", &file("seal", SEAL));
        let archive = bench.path("archive");
        fs::create_dir(&archive).unwrap();
        bench = bench.with("RUNNER_ARCHIVE_URL", &format!("file://{}", archive.display()));
        bench = match by {
            By::Variable => bench.with("RUNNER_TASK_TOKEN", DOOR).with("ANTHROPIC_API_KEY", MODEL),
            By::File => bench
                .with("RUNNER_TASK_TOKEN_FILE", &file("door", DOOR))
                .with("RUNNER_MODEL_KEY_FILE", &file("model", "of-yesterday")),
        };
        Self {
            outside,
            _model: model,
            way_out,
            operator,
            bench,
            _alone: alone,
        }
    }

    /// The whole run: its exit code, and every trace of it.
    async fn run(&self) -> (Option<i32>, Vec<Trace>) {
        let mut serving = self.bench.start();
        let watching = watch_processes(&serving);
        let address = serving.address().await.expect("it listens");
        // What is read anew for each request changes after the start.
        for (name, text) in [("api", API), ("model", MODEL)] {
            let file = self.operator.path().join(name);
            if file.exists() {
                fs::write(file, format!("{text}\n")).unwrap();
            }
        }
        let looking = tokio::spawn(answers(address.clone()));
        let assigned = client()
            .post(format!("{address}/task"))
            .bearer_auth(DOOR)
            .json(&json!({"taskID": self.outside.task, "apiURL": "http://api.runner.example"}))
            .send();
        assert_eq!(assigned.await.unwrap().status(), 200, "{}", serving.log());
        let code = serving.wait().await.code();
        let seen = watching.end().await;
        if code == Some(0) {
            assert!(seen.pushing, "git was seen while it pushed");
        }
        let mut traces = seen.processes;
        traces.retain(|trace| trace.place != OPERATORS);
        traces.extend(looking.await.unwrap());
        traces.push(Trace::new("log", serving.whole_log().await));
        traces.extend(traces::files(self.bench.dir.path()));
        let remote = self.outside.git.path("o", "r").unwrap();
        traces.extend(traces::files(&remote));
        traces.extend(journaled(&self.bench));
        let archived = Opened::unpack(&self.bench.path("archive/t-1.tar.zst")).unwrap();
        traces.extend(traces::files(archived.directory()));
        for repository in [
            remote,
            self.bench.path("state/git"),
            self.bench.path("workspace/repo/.git"),
        ] {
            traces.push(traces::objects(&repository));
        }
        traces.extend(self.way_out.traces());
        (code, traces)
    }

    /// The agent's words came as far as the pull request: it has always something to tell, the proxy's variables.
    fn told_and_was_heard(&self) {
        let pull = self.outside.forge.pulls()[0].body.clone().unwrap();
        assert!(pull.contains("I found ") && pull.contains(MARKER), "{pull}");
    }
}

/// What the open routes say, again and again, until nobody answers any more.
async fn answers(address: String) -> BTreeSet<Trace> {
    let mut said = BTreeSet::new();
    for route in ["/status", "/metrics", "/healthz"].into_iter().cycle() {
        let Ok(answer) = client().get(format!("{address}{route}")).send().await else {
            break;
        };
        let headers = format!("{:?}\n", answer.headers());
        let Ok(body) = answer.text().await else { break };
        said.insert(Trace::new(route, headers + &body));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    said
}

/// The journal as it is shown in each format, and each of its blobs.
fn journaled(bench: &Bench) -> Vec<Trace> {
    let mut traces = Vec::new();
    for format in ["table", "json", "ndjson"] {
        for raw in [None, Some("--raw")] {
            let dump = Command::new(RUNNER)
                .args(["journal", "dump", "--format", format])
                .args(raw)
                // Nothing is cut: how much of a line there is room for hangs on how long its effect took.
                .env("COLUMNS", "1000")
                .arg(bench.journal())
                .output()
                .unwrap();
            assert!(dump.status.success() && !dump.stdout.is_empty());
            traces.push(Trace::new(
                format!("dump {format}"),
                [dump.stdout, dump.stderr].concat(),
            ));
        }
    }
    let snapshot = Snapshot::take(&bench.journal()).unwrap();
    let mut hashes: Vec<Hash> = Vec::new();
    let words = |body: &str| {
        body.split('"')
            .filter_map(|word| word.parse::<Hash>().ok())
            .collect::<Vec<_>>()
    };
    snapshot
        .read(|row| hashes.extend(row.entry.body().map(words).unwrap_or_default()))
        .unwrap();
    let blobs = hashes.iter().filter_map(|hash| snapshot.blob(hash).unwrap());
    let before = traces.len();
    traces.extend(blobs.map(|blob| Trace::new("blob", blob)));
    assert!(traces.len() > before, "the task's data is one");
    traces
}

/// Whom a run asks.
const HOSTS: [&str; 4] = ["api", "git", "forge", "model"];

/// Where each secret has to be, where these were asked: in the one header that it is for.
fn in_their_headers(hosts: &[&str]) -> BTreeSet<(&'static str, String)> {
    let mut expected = BTreeSet::new();
    for (secret, host, header) in [
        ("api", "api", "authorization"),
        ("repository", "git", "authorization"),
        ("repository", "forge", "authorization"),
        ("model", "model", "x-api-key"),
    ] {
        if hosts.contains(&host) {
            expected.insert((secret, format!("{host}.runner.example {header}")));
            expected.insert(("proxy", format!("{host}.runner.example proxy-authorization")));
        }
    }
    expected
}

/// Where the proxy's variables go, with the password in them.
fn has_the_proxys_variables(place: &str) -> bool {
    place.starts_with("environment of ") || place == "workspace/home/loot"
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_run_is_anywhere_but_in_the_header_that_it_is_for() {
    for (agent, by, hosts) in [("claude", By::Variable, &HOSTS[..]), ("command", By::File, &HOSTS[..3])] {
        let room = Room::new(agent, by).await;
        let (code, traces) = room.run().await;
        assert_eq!(code, Some(0), "{}", log_of(&traces));
        assert_eq!(room.outside.remote(&["show", "runner/t-1:honest.txt"]), "honest");
        let mut found = found_in(&traces, &canaries());
        found.retain(|(secret, place)| *secret != "proxy" || !has_the_proxys_variables(place));
        assert_eq!(found, in_their_headers(hosts), "{agent}");
        room.told_and_was_heard();
        // Nobody was asked by another way.
        let by_the_way_out = ["api", "forge"].map(|host| room.way_out.passed_on(&format!("{host}.runner.example")));
        let asked = [room.outside.api.call_log(), room.outside.forge.call_log()].map(|log| log.all().len());
        assert_eq!(by_the_way_out, asked);
    }
}

fn log_of(traces: &[Trace]) -> String {
    let log = traces.iter().find(|trace| trace.place == "log");
    log.expect("a log").to_string()
}

/// By what an agent tells what it found: what the runner hands on of it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum TellsBy {
    Change,
    Words,
    Failure,
}

/// The control: without a sandbox the same agent gets at every secret that is in a file, and tells it. What it does itself is
/// seen, at every place of its own; what the runner makes of it has none of them still. A change with them is refused.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_sandbox_the_same_agent_gets_at_all_of_them_and_the_runner_repeats_none() {
    for tells in [TellsBy::Change, TellsBy::Words, TellsBy::Failure] {
        let mut room = Room::new("claude", By::File).await;
        let mut loot = vec!["door", "api", "model"];
        if tells == TellsBy::Words {
            // What is sealed with a key is none of the loot.
            loot.push("repository");
            fs::remove_file(room.operator.path().join("seal")).unwrap();
            room.bench.env.retain(|(name, _)| name != "RUNNER_SEAL_KEY_FILE");
        } else {
            loot.push("seal");
        }
        let told_to = match tells {
            TellsBy::Change => "",
            TellsBy::Words => "words",
            TellsBy::Failure => "failure",
        };
        room.bench = room
            .bench
            .with("RUNNER_SANDBOX", "off")
            .with("RUNNER_AGENT_ENV", "TELL")
            .with("TELL", told_to);
        let (code, traces) = room.run().await;
        let verdict = room.outside.verdict();
        let reason = &verdict["details"]["reason"];
        let mut own = vec![
            "workspace/home/loot".to_owned(),
            "environment of bash".to_owned(),
            "arguments of bash".to_owned(),
            "model.runner.example body".to_owned(),
        ];
        let mut hosts = vec!["api", "git", "model"];
        match tells {
            TellsBy::Change => {
                assert_eq!((code, reason), (Some(1), &json!("PolicyViolation")), "{verdict}");
                let objects = |of: &str| format!("objects of {}", room.bench.path(of).display());
                // The private repository keeps work that is refused.
                own.extend([objects("workspace/repo/.git"), objects("state/git")]);
                own.push("workspace/repo/stolen.txt".to_owned());
            }
            TellsBy::Words => {
                assert_eq!(code, Some(0), "{verdict} {}", log_of(&traces));
                room.told_and_was_heard();
                hosts.push("forge");
            }
            TellsBy::Failure => {
                assert_eq!((code, reason), (Some(1), &json!("AgentFailed")), "{verdict}");
                let message = verdict["message"].as_str().unwrap();
                assert!(message.contains("I found ") && message.contains(MARKER), "{message}");
                let log = log_of(&traces);
                assert!(log.contains("I found "), "{log}");
                // What it had changed is saved.
                hosts.push("forge");
            }
        }
        let mut found = found_in(&traces, &canaries());
        for place in &own {
            let is_there = |secret: &&str| found.contains(&(*secret, place.clone()));
            let there: Vec<&str> = loot.iter().copied().filter(is_there).collect();
            assert_eq!(there, loot, "{place}");
        }
        let by_itself = ["environment of ", "arguments of ", "workspace/"];
        found.retain(|(_, place)| !own.contains(place) && !by_itself.iter().any(|own| place.starts_with(own)));
        assert_eq!(found, in_their_headers(&hosts), "{tells:?}");
    }
}

/// A secret as it is, and in other forms.
fn forms(secret: &str) -> Vec<String> {
    vec![
        secret.to_owned(),
        serde_json::to_string(secret).unwrap(),
        hex::encode(secret),
        percent_encoded(secret),
        STANDARD.encode(format!("x{secret}")),
        URL_SAFE_NO_PAD.encode(format!("xy{secret}")),
    ]
}

/// The places at which the planted secret is found, and no other one.
fn places_of(traces: &[Trace]) -> BTreeSet<String> {
    let found = found_in(traces, &[Canary::new("planted", PLANTED)]);
    assert_eq!(found_in(traces, &canaries()), BTreeSet::new());
    found.into_iter().map(|(_, place)| place).collect()
}

#[test]
fn a_planted_secret_is_found_in_files_their_names_and_compressed_objects() {
    let dir = tempfile::tempdir().unwrap();
    for (number, form) in forms(PLANTED).iter().enumerate() {
        fs::write(dir.path().join(number.to_string()), format!("before{form}after")).unwrap();
    }
    fs::create_dir(dir.path().join(hex::encode(PLANTED))).unwrap();
    symlink(percent_encoded(PLANTED), dir.path().join("link")).unwrap();
    fs::write(dir.path().join("clean"), &PLANTED[..PLANTED.len() - 1]).unwrap();
    let named = hex::encode(PLANTED);
    let expected = ["0", "1", "2", "3", "4", "5", &named, "link"].map(str::to_owned);
    assert_eq!(places_of(&traces::files(dir.path())), BTreeSet::from(expected));

    let repository = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| {
        let done = Command::new("git")
            .arg("-C")
            .arg(repository.path())
            .args(args)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q", "--bare"]);
    // Compressed, so that it is in no file as it is.
    let plant = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::write(&file, format!("{}{text}", "again and again\n".repeat(100))).unwrap();
        git(&["hash-object", "-w", file.to_str().unwrap()])
    };
    plant("clean", "nothing");
    assert_eq!(places_of(&[traces::objects(repository.path())]), BTreeSet::new());
    let id = plant("secret", PLANTED);
    let expected = BTreeSet::from([format!("objects of {}", repository.path().display())]);
    for packed in [false, true] {
        if packed {
            let mut packing = Command::new("git")
                .arg("-C")
                .arg(repository.path())
                .args(["pack-objects", "-q", "objects/pack/pack"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            writeln!(packing.stdin.take().unwrap(), "{id}").unwrap();
            assert!(packing.wait().unwrap().success());
            git(&["prune-packed"]);
        }
        assert_eq!(
            places_of(&traces::files(repository.path())),
            BTreeSet::new(),
            "compressed"
        );
        assert_eq!(
            places_of(&[traces::objects(repository.path())]),
            expected,
            "packed: {packed}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_secret_is_found_in_output_arguments_environments_requests_and_answers() {
    let script = "echo \"to one $1\"; printf 'to the other %s' \"$2\" >&2; SECRET=$3 sh -c 'sleep 1; true' \"$4\"";
    let all = forms(PLANTED);
    let [plain, _, hex, percent, base64, _] = &all[..] else {
        panic!()
    };
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh", plain, hex, percent, base64])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut serving = Serving::spawn(command);
    let watching = watch_processes(&serving);
    assert!(serving.wait().await.success());
    let log = serving.whole_log().await;
    for line in log.lines() {
        assert_eq!(
            places_of(&[Trace::new("log", line)]),
            BTreeSet::from(["log".to_owned()]),
            "{line}"
        );
    }
    assert_eq!(log.lines().count(), 2);
    let seen = places_of(&watching.end().await.processes);
    assert_eq!(
        seen,
        BTreeSet::from(["arguments of sh", "environment of sh", "environment of sleep"].map(str::to_owned))
    );

    let (heard, mut all_heard) = watch::channel(0);
    let tells = move || {
        heard.send_modify(|heard| *heard += 1);
        async { PLANTED }
    };
    let told = Listening::start(Router::new().fallback(tells)).await.unwrap();
    let looking = tokio::spawn(answers(told.base()));
    let way_out = WayOut::start(PROXY, vec![("told.example", told.base())]).await;
    let proxy = reqwest::Proxy::http(format!("http://{}", way_out.authority())).unwrap();
    // It installs what TLS is made with, where no other test of this process has.
    drop(client());
    let asking = reqwest::Client::builder()
        .proxy(proxy.basic_auth(USER, PROXY))
        .build()
        .unwrap();
    let asked = asking
        .post(format!("http://told.example/{percent}"))
        .header("x-secret", base64)
        .body(hex.clone());
    assert_eq!(asked.send().await.unwrap().text().await.unwrap(), PLANTED);
    let found = found_in(
        &way_out.traces(),
        &[Canary::new("planted", PLANTED), Canary::new("proxy", PROXY)],
    );
    let of = |secret, part| (secret, format!("told.example {part}"));
    let planted = ["body", "line", "x-secret"].map(|part| of("planted", part));
    let expected = planted.into_iter().chain([of("proxy", "proxy-authorization")]);
    assert_eq!(found, expected.collect());
    // The one above, each route once, and one more: the answer before it has been read.
    all_heard.wait_for(|heard| *heard > 4).await.unwrap();
    drop(told);
    let routes = places_of(&looking.await.unwrap().into_iter().collect::<Vec<_>>());
    assert_eq!(
        routes,
        BTreeSet::from(["/healthz", "/metrics", "/status"].map(str::to_owned))
    );
}

/// One that the runner was not told of, in the task's description.
#[tokio::test(flavor = "multi_thread")]
async fn a_planted_secret_is_found_in_the_journals_blobs_and_rows() {
    let outside = Outside::start().await;
    let description = format!("Make a change\n\n{PLANTED}");
    let task = TaskData {
        description,
        ..data(&outside.git)
    };
    outside.add_task(task, Secret::new(CANARY));
    let bench = Bench::new(&outside).with(
        "RUNNER_AGENT_COMMAND",
        &format!("cat > /dev/null; echo '{PLANTED}'; echo x > x"),
    );
    let (code, log) = bench.once(&outside).await;
    assert_eq!(code, Some(0), "{log}");
    let found = places_of(&journaled(&bench));
    assert_eq!(
        found,
        BTreeSet::from(["blob", "dump table", "dump json", "dump ndjson"].map(str::to_owned))
    );
}
