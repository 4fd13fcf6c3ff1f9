//! Attacks on a whole run of the real binary: by the agent, by the task API and by the forge. Each ends in a push of the
//! honest change or in a failure that has a name, and the token is in nothing that the run leaves, says or shows.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::routing::{any, get, post};
use runner::adapters::api::DATA_LIMIT;
use runner::adapters::http::{HttpOptions, Proxies, build_client};
use runner::embedded::faults::{Endpoint, Fault, Times};
use runner::embedded::listening::Listening;
use runner::secret::Secret;
use serde_json::json;

use crate::harness::{Bench, CANARY, Outside, client, files_with};
use crate::processes::{lives, number};
use crate::traces::{self, Canary, Trace, found_in, watch_processes};

/// How an attack may end.
enum Ends {
    /// With the honest change on the remote, and a pull request.
    Arrives,
    /// With this reason, and nothing on the remote.
    Fails(&'static str),
}

/// A whole run in which the agent makes an honest change and does this too.
async fn attack(name: &str, script: &str, ends: Ends) -> Bench {
    let outside = Outside::start().await;
    // Long enough to be seen at it.
    outside.faults.inject(
        Endpoint::GitPush,
        Fault::Delay(Duration::from_millis(200)),
        Times::Next(1),
    );
    let script = format!("cat > /dev/null; echo honest > honest.txt\n{script}\n");
    let bench = Bench::new(&outside)
        .with("RUNNER_AGENT_COMMAND", &script)
        .with("RUNNER_LOG", "trace");
    let mut serving = bench.start();
    let watching = watch_processes(&serving);
    assert_eq!(serving.assign(&outside.assignment()).await, Some(200), "{name}");
    let code = serving.wait().await.code();
    let seen = watching.end().await;
    let verdict = outside.verdict();
    match ends {
        Ends::Arrives => {
            assert_eq!(code, Some(0), "{name}: {verdict}: {}", serving.log());
            assert_eq!(outside.remote(&["show", "runner/t-1:honest.txt"]), "honest", "{name}");
            assert!(seen.pushing, "{name}: git was seen while it pushed");
        }
        Ends::Fails(reason) => {
            assert_eq!(code, Some(1), "{name}: {}", serving.log());
            assert_eq!(verdict["details"]["reason"], reason, "{name}: {verdict}");
            assert_eq!(outside.branch().await, None, "{name}: nothing is on the remote");
            assert!(outside.forge.pulls().is_empty(), "{name}");
        }
    }
    let remote = outside.git.path("o", "r").unwrap();
    let mut traces = [seen.processes, traces::files(bench.dir.path()), traces::files(&remote)].concat();
    traces.push(Trace::new("the log", serving.whole_log().await));
    traces.push(traces::objects(&bench.path("state/git")));
    traces.push(traces::objects(&remote));
    let calls = [outside.api.call_log().all(), outside.forge.call_log().all()].concat();
    traces.extend(
        calls
            .into_iter()
            .map(|call| Trace::new(format!("the body of {:?}", call.endpoint), call.body)),
    );
    let token = Canary::new("the token", CANARY);
    assert_eq!(found_in(&traces, &[token]), BTreeSet::new(), "{name}");
    bench
}

/// A program that tells what it sees, at every place where git would run one.
const PLANTED: &str = r#"
printf '#!/bin/sh\n{ env; cat /proc/[0-9]*/environ; } >> "%s/ran" 2> /dev/null\ncat\n' "$HOME" > "$HOME/evil"; chmod +x "$HOME/evil"
"$HOME/evil" < /dev/null; mv "$HOME/ran" "$HOME/control"
for hook in pre-commit prepare-commit-msg commit-msg post-commit pre-push post-index-change reference-transaction \
    pre-receive update post-receive post-update post-checkout pre-auto-gc fsmonitor-watchman; do cp "$HOME/evil" .git/hooks/$hook; done
printf '[core]\n\tpager = %s\n\tsshCommand = %s\n' "$HOME/evil" "$HOME/evil" > "$HOME/included"
git config core.hooksPath "$PWD/.git/hooks"
git config core.fsmonitor "$HOME/evil"
git config credential.helper "$HOME/evil"
git config http.proxy http://127.0.0.1:1
git config include.path "$HOME/included"
git config url.http://127.0.0.1:1/.insteadOf http://127.0.0.1
git config filter.evil.clean "$HOME/evil"
git config protocol.ext.allow always
git config remote.origin.url "ext::$HOME/evil"
cp .git/config "$HOME/.gitconfig"
echo '* filter=evil' > .gitattributes
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_plants_is_not_run_and_its_honest_change_arrives() {
    let bench = attack("everything planted", PLANTED, Ends::Arrives).await;
    let home = bench.path("workspace/home");
    assert!(home.join("control").exists(), "it runs where it is called");
    assert!(!home.join("ran").exists(), "and nobody called it");
    for (name, script) in [
        (
            "a .git that is a file",
            "mv .git ../aside; echo 'gitdir: ../aside' > .git",
        ),
        ("a .git that is a link", "mv .git ../aside; ln -s ../aside .git"),
        (
            "a detached head and a lock",
            "git checkout -q --detach; : > .git/index.lock; : > .git/HEAD.lock",
        ),
        ("another work tree", "git config core.worktree /"),
        ("an alternate", "echo /var/lib > .git/objects/info/alternates"),
    ] {
        attack(name, script, Ends::Arrives).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_handed_over_is_a_named_failure_and_nothing_is_pushed() {
    for (name, script) in [
        ("the workspace is a link", "cd .. && mv repo aside && ln -s aside repo"),
        (
            "the workspace is a link out of it",
            "cd .. && mv repo aside && ln -s /etc repo",
        ),
        ("a nested repository", "git init -q nested && touch nested/x"),
        (
            "a submodule that runs a program",
            "printf '[submodule \"s\"]\\n\\tpath = s\\n\\turl = ext::sh -c id\\n' > .gitmodules; \
             git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),s; git add .gitmodules; \
             git -c user.name=a -c user.email=a@b.c commit -qm s",
        ),
    ] {
        attack(name, script, Ends::Fails("PolicyViolation")).await;
    }
}

/// It waits for what the runner does after the agent, in a session of its own.
const DAEMON: &str = r#"setsid sh -c 'trap "" TERM HUP INT; echo $$ > "$HOME/daemon"
while :; do cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2> /dev/null | grep -a canary >> "$HOME/leak"; sleep 0.02; done' \
    > /dev/null 2>&1 < /dev/null &
until [ -s "$HOME/daemon" ]; do sleep 0.01; done"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_waits_for_the_push_is_dead_by_then() {
    for sandbox in ["require", "off"] {
        // Without a sandbox too: the supervisor ends it.
        let script = format!("{DAEMON}\n: {sandbox}");
        let bench = attack("a daemon", &script, Ends::Arrives).await;
        let pid = std::fs::read_to_string(bench.path("workspace/home/daemon")).unwrap();
        assert!(!lives(number(&pid)), "{pid} lives");
    }
    // The control: started by a plain shell, it outlives who started it.
    let home = tempfile::tempdir().unwrap();
    let plain = Command::new("sh")
        .args(["-c", DAEMON])
        .env("HOME", home.path())
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(plain.success());
    let pid = std::fs::read_to_string(home.path().join("daemon")).unwrap();
    assert!(lives(number(&pid)), "it is no daemon");
    let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// A task API whose `/data` is somebody's own, and which takes every status.
async fn api_with_data(data: axum::routing::MethodRouter) -> Listening {
    let router = Router::new().route("/api/v1/tasks/t-1/data", data).route(
        "/api/v1/tasks/t-1/status",
        post(|| async { axum::Json(json!({"status": "accepted"})) }),
    );
    Listening::start(router).await.unwrap()
}

fn assignment(api: &Listening) -> String {
    json!({"taskID": "t-1", "apiURL": api.base()}).to_string()
}

fn reason(bench: &Bench) -> String {
    let verdict = bench.rows("verdict", None).pop().expect("a verdict");
    verdict["body"].to_string()
}

const GIGABYTES: u64 = 4 << 30;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_four_gigabytes_is_left_at_the_limit_and_named() {
    let sent = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&sent);
    let endless = get(move || {
        let counts = Arc::clone(&counts);
        counts.store(0, Ordering::SeqCst);
        async move {
            let chunk = Bytes::from(vec![b' '; 64 << 10]);
            Body::from_stream(futures_util::stream::unfold(0, move |already| {
                let (chunk, counts) = (chunk.clone(), Arc::clone(&counts));
                async move {
                    let size = chunk.len() as u64;
                    counts.fetch_add(size, Ordering::SeqCst);
                    (already < GIGABYTES).then(|| (Ok::<_, std::io::Error>(chunk), already + size))
                }
            }))
        }
    });
    let api = api_with_data(endless).await;
    let outside = Outside::start().await;
    let bench = Bench::new(&outside);
    let mut serving = bench.start();
    let pid = serving.pid();
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    assert_eq!(serving.assign(&assignment(&api)).await, Some(200));
    // Looked at while it lives: the most that it ever had.
    let mut most = 0;
    let ended = async {
        loop {
            most = peak().unwrap_or(0).max(most);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        status = serving.wait() => assert_eq!(status.code(), Some(1), "{}", serving.log()),
        () = ended => {}
    }
    let sent_to_us = sent.load(Ordering::SeqCst);
    println!(
        "{} MiB of 4096 were taken; {} MiB resident at most",
        sent_to_us >> 20,
        most >> 10
    );
    assert!(reason(&bench).contains("TaskDataInvalid"), "{}", reason(&bench));
    // What lies in the sockets' buffers by then is not read.
    assert!(sent_to_us < DATA_LIMIT as u64 + (16 << 20), "{sent_to_us}");
    assert!(most > 0 && most < 200 * 1024, "{most} KiB");
    // The control: who does not count takes it as long as it comes.
    let mut plain = client()
        .get(format!("{}/api/v1/tasks/t-1/data", api.base()))
        .send()
        .await
        .unwrap();
    let mut taken = 0;
    while taken < 2 * DATA_LIMIT {
        taken += plain.chunk().await.unwrap().expect("there is more").len();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_redirects_is_refused_and_nobody_is_asked_in_its_stead() {
    let asked = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&asked);
    let trap = any(move || {
        counts.fetch_add(1, Ordering::SeqCst);
        async { "credentials of the machine" }
    });
    let trap = Listening::start(Router::new().fallback_service(trap)).await.unwrap();
    for target in [trap.base(), "http://169.254.169.254/latest/meta-data/".to_owned()] {
        for status in [
            StatusCode::FOUND,
            StatusCode::TEMPORARY_REDIRECT,
            StatusCode::PERMANENT_REDIRECT,
        ] {
            let to = target.clone();
            let api = api_with_data(get(move || async move { (status, [(header::LOCATION, to)]) })).await;
            let outside = Outside::start().await;
            let bench = Bench::new(&outside);
            let mut serving = bench.start();
            assert_eq!(serving.assign(&assignment(&api)).await, Some(200));
            assert_eq!(serving.wait().await.code(), Some(1), "{}", serving.log());
            assert!(reason(&bench).contains(status.as_str()), "{}", reason(&bench));
        }
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    // The control: who follows redirects is there at once.
    let to = trap.base();
    let api = api_with_data(get(
        move || async move { (StatusCode::FOUND, [(header::LOCATION, to)]) },
    ))
    .await;
    let plain = reqwest::Client::builder().no_proxy().build().unwrap();
    let got = plain
        .get(format!("{}/api/v1/tasks/t-1/data", api.base()))
        .send()
        .await
        .unwrap();
    assert_eq!(got.text().await.unwrap(), "credentials of the machine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forge_that_answers_somebody_elses_pull_request_is_no_success() {
    let theirs = || {
        axum::Json(json!({
            "number": 666, "state": "open", "html_url": "http://mallory.example/666", "title": "theirs",
            "body": "<!-- runner:task=t-1 -->", "merged_at": null,
            "head": {"ref": "runner/t-1", "sha": "a", "label": "mallory:runner/t-1",
                     "user": {"login": "mallory"}, "repo": {"full_name": "mallory/r", "name": "r", "owner": {"login": "mallory"}}},
            "base": {"ref": "main", "sha": "b", "user": {"login": "o"}, "repo": {"full_name": "o/r", "name": "r", "owner": {"login": "o"}}},
        }))
    };
    let forge = Router::new()
        .route(
            "/repos/o/r/pulls",
            get(move || async move { axum::Json(json!([theirs().0])) })
                .post(move || async move { (StatusCode::CREATED, theirs()) }),
        )
        .route(
            "/repos/o/r",
            get(|| async { axum::Json(json!({"full_name": "o/r", "default_branch": "main"})) }),
        );
    let forge = Listening::start(forge).await.unwrap();
    let outside = Outside::start().await;
    let bench = Bench::new(&outside).with("RUNNER_GITHUB_API_URL", &forge.base());
    let mut serving = bench.start();
    assert_eq!(serving.assign(&outside.assignment()).await, Some(200));
    assert_eq!(serving.wait().await.code(), Some(1), "{}", serving.log());
    let verdict = outside.verdict();
    assert_eq!(verdict["details"]["reason"], "PrRefused", "{verdict}");
    assert!(!verdict.to_string().contains("mallory"), "{verdict}");
    assert_eq!(files_with(bench.dir.path(), CANARY), Vec::<PathBuf>::new());
}

/// The name of a metadata service, and its address, in a network where it answers.
const METADATA: &str = "metadata.runner.example";

#[test]
fn a_name_that_leads_to_the_metadata_address_is_not_asked() {
    if !nix::unistd::geteuid().is_root() {
        // Only root may make such a network; the resolver alone is tested for everybody, beside the client.
        return;
    }
    let hosts = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        hosts.path(),
        format!("169.254.169.254 {METADATA}\n127.0.0.1 localhost\n"),
    )
    .unwrap();
    let script =
        "ip link set lo up && ip addr add 169.254.169.254/32 dev lo && mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let inside = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", script])
        .arg(hosts.path())
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "attacks::in_the_network_of_the_metadata_address",
            "--ignored",
            "--nocapture",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inside.stdout);
    assert!(
        inside.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&inside.stderr)
    );
}

#[tokio::test]
#[ignore = "runs in the network that a_name_that_leads_to_the_metadata_address_is_not_asked makes"]
async fn in_the_network_of_the_metadata_address() {
    let listener = tokio::net::TcpListener::bind("169.254.169.254:80").await.unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(|| async { "secret" })).await });
    let url = format!("http://{METADATA}/");
    let ours = build_client(&HttpOptions {
        proxies: Proxies::Direct,
        ..HttpOptions::default()
    });
    let plain = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(
        plain.get(&url).send().await.unwrap().text().await.unwrap(),
        "secret",
        "the control"
    );
    let error = ours.unwrap().get(&url).send().await.unwrap_err();
    assert!(
        error.is_connect() && format!("{error:?}").contains("link-local"),
        "{error:?}"
    );
}

/// Says to the task API that the task is done, with the bearer token if it can be read, and pushes to a branch. It knows
/// every address and path.
const IN_THE_RUNNERS_NAME: &str = r#"
cat > /dev/null; echo honest > honest.txt; git commit -q --allow-empty -m stolen
cat > "$TMPDIR/forge.py" <<'END'
import json, sys, urllib.request
api, file = sys.argv[1:]
try:
    token = open(file).read().strip()
except OSError as error:
    token = str(error).replace("\n", " ")
body = json.dumps({"event": "completed", "message": "forged", "details": {}}).encode()
headers = {"Content-Type": "application/json", "Authorization": "Bearer " + token}
try:
    print(urllib.request.urlopen(urllib.request.Request(api, body, headers)).status)
except Exception as error:
    print(error)
END
python3 "$TMPDIR/forge.py" "$API" "$API_TOKEN" > "$HOME/forged" 2>&1
GIT_TERMINAL_PROMPT=0 git push "$REMOTE" HEAD:refs/heads/stolen > "$HOME/pushed" 2>&1
true"#;

/// The verdict as the API has it, after such an agent with a sandbox or without, and what was said to it.
async fn in_the_runners_name(sandbox: &str) -> (serde_json::Value, String) {
    let outside = Outside::start().await;
    outside.api.require_bearer(Secret::new("of-the-task-api"));
    let mut bench = Bench::new(&outside);
    let file = bench.path("api-token");
    std::fs::write(&file, "of-the-task-api\n").unwrap();
    let file = file.to_str().unwrap().to_owned();
    let status = format!("{}/api/v1/tasks/{}/status", outside.api.api_url(), outside.task);
    let script = format!(
        "export API='{status}' API_TOKEN='{file}' REMOTE='{}'\n{IN_THE_RUNNERS_NAME}",
        outside.git.url("o", "r")
    );
    bench = bench
        // The system's own python: one of a home directory would be out of reach.
        .with("PATH", "/usr/local/bin:/usr/bin:/bin")
        .with("RUNNER_API_TOKEN_FILE", &file)
        .with("RUNNER_AGENT_COMMAND", &script)
        .with("RUNNER_SANDBOX", sandbox);
    bench.once(&outside).await;
    let stolen = "stolen".parse().unwrap();
    assert_eq!(outside.git.branch("o", "r", &stolen).await.unwrap(), None);
    let said = |name: &str| std::fs::read_to_string(bench.path("workspace/home").join(name)).unwrap();
    assert!(!said("pushed").is_empty(), "it was refused, and said so");
    (outside.verdict(), said("forged"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_can_neither_report_nor_push_in_the_runners_name() {
    let (verdict, forged) = in_the_runners_name("require").await;
    assert!(forged.contains("401"), "{forged}");
    assert_eq!(verdict["event"], "completed", "{verdict}");
    assert_ne!(verdict["message"], "forged", "{verdict}");
    // Without the sandbox it reads the bearer token, and its word is taken.
    let (verdict, forged) = in_the_runners_name("off").await;
    assert!(forged.contains("200"), "{forged}");
    assert_eq!(verdict["message"], "forged", "{verdict}");
}
